//! Numbers drawn from the standard normal distribution, without state.
//!
//! Each number is a function of seed, stream, step and place alone: a hash of these four gives two uniform numbers, and
//! the transform of Box and Muller (1958) makes one normal number of them. The hash is exact. The transform is worked
//! out in `f64` by sums, products, quotients and square roots alone, which IEEE 754 defines to the last bit, so that
//! the numbers are the same on every machine.

use lrpc_ir::DType;
use rayon::prelude::*;

use super::view::{ViewMut, ensure, for_real};
use crate::error::RunErrorKind;

/// How many numbers one task draws.
const BLOCK: usize = 1 << 12;

/// Noise of unit variance: one row for each step.
pub(super) fn run(seed: i64, stream: i64, steps: &[i64], output: &mut ViewMut<'_>) -> Result<(), RunErrorKind> {
    let row = match steps.len() {
        0 => return ensure(output.bytes.is_empty(), "a step for each row of noise"),
        count => output.bytes.len() / output.dtype.size() / count,
    };
    ensure(row * steps.len() * output.dtype.size() == output.bytes.len(), "rows of noise of one length")?;
    if row == 0 {
        return Ok(());
    }
    let dtype: DType = output.dtype;
    for_real!(dtype, "noise", T => {
        let values: &mut [T] = output.values()?;
        for (values, &step) in values.chunks_mut(row).zip(steps) {
            let key = key(seed, stream, step);
            values.par_chunks_mut(BLOCK).enumerate().for_each(|(block, values)| {
                for (place, value) in values.iter_mut().enumerate() {
                    *value = normal(key, (block * BLOCK + place) as u64) as T;
                }
            });
        }
        Ok(())
    })
}

/// What seed, stream and step come to.
fn key(seed: i64, stream: i64, step: i64) -> u64 {
    [seed, stream, step].iter().fold(0, |key, &part| mix(key ^ mix(part as u64)))
}

/// The finaliser of SplitMix64 behind one step of its counter (Steele, Lea and Flood 2014).
fn mix(value: u64) -> u64 {
    let z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The normal number at `place`.
fn normal(key: u64, place: u64) -> f64 {
    let first = mix(key ^ mix(place));
    let second = mix(first ^ key.rotate_left(32));
    let scale = 1.0 / (1u64 << 53) as f64;
    // In (0, 1], so that the logarithm is finite, and in [0, 1).
    let (radius, angle) = (((first >> 11) + 1) as f64 * scale, (second >> 11) as f64 * scale);
    (-2.0 * logarithm(radius)).sqrt() * cosine_of_turn(angle)
}

/// `ln x` for `0 < x ≤ 1`, by `ln m = 2·artanh((m − 1)/(m + 1))` with `m` between ¾ and 1½.
fn logarithm(x: f64) -> f64 {
    let bits = x.to_bits();
    let mut exponent = ((bits >> 52) as i64 - 1023) as f64;
    let mut m = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52));
    if m > 1.5 {
        m *= 0.5;
        exponent += 1.0;
    }
    let s = (m - 1.0) / (m + 1.0);
    let series = (0..16).rev().fold(0.0, |sum, k| sum * (s * s) + 1.0 / f64::from(2 * k + 1));
    2.0 * s * series + exponent * std::f64::consts::LN_2
}

/// `cos 2πt` for `0 ≤ t < 1`, by Taylor's series within a quarter turn.
fn cosine_of_turn(t: f64) -> f64 {
    let quarters = 4.0 * t;
    let quarter = quarters.floor();
    let angle = (quarters - quarter) * std::f64::consts::FRAC_PI_2;
    // Σ (−1)ᵏ x²ᵏ/(2k)! and Σ (−1)ᵏ x²ᵏ⁺¹/(2k+1)!, from the smallest term.
    let series = |first: u32| {
        (1..13).rev().fold(1.0, |sum, k| {
            let k = f64::from(2 * k + first);
            1.0 - sum * angle * angle / (k * (k - 1.0))
        })
    };
    match quarter as i64 {
        0 => series(0),
        1 => -angle * series(1),
        2 => -series(0),
        _ => angle * series(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(seed: i64, stream: i64, steps: &[i64], row: usize) -> Vec<f64> {
        let mut bytes = vec![0f64; row * steps.len()];
        let shape = [steps.len(), row];
        let raw: Vec<u8> = bytes.iter().flat_map(|value| value.to_ne_bytes()).collect();
        let mut memory = crate::memory::AlignedBytes::copy_of(&raw).unwrap();
        let mut view = ViewMut { dtype: DType::F64, shape: &shape, bytes: memory.as_mut_slice() };
        run(seed, stream, steps, &mut view).unwrap();
        for (value, raw) in bytes.iter_mut().zip(memory.as_slice().chunks(8)) {
            *value = f64::from_ne_bytes(raw.try_into().unwrap());
        }
        bytes
    }

    #[test]
    fn the_functions_are_those_of_the_library() {
        for at in 1..=20_000u32 {
            let x = f64::from(at) / 20_000.0;
            assert!((logarithm(x) - x.ln()).abs() <= 4e-16 * x.ln().abs().max(1.0), "ln {x}");
            let turn = f64::from(at - 1) / 20_000.0;
            assert!((cosine_of_turn(turn) - (turn * std::f64::consts::TAU).cos()).abs() < 1e-15, "cos of {turn} turns");
        }
        let least = 1.0 / (1u64 << 53) as f64;
        assert!((logarithm(least) + 53.0 * std::f64::consts::LN_2).abs() < 1e-14);
    }

    #[test]
    fn known_answers() {
        // SplitMix64 with seed 1234567, as published with its reference implementation.
        assert_eq!(mix(1_234_567), 6_457_827_717_110_365_317);
        let drawn = draw(7, 0, &[3], 3).into_iter().map(f64::to_bits).collect::<Vec<_>>();
        assert_eq!(drawn, KNOWN, "{drawn:?}");
    }

    /// The first numbers of seed 7 at step 3, worked out by another program.
    const KNOWN: [u64; 3] = [13_834_389_743_367_559_616, 13_824_544_305_978_555_117, 4_606_343_950_247_705_704];

    #[test]
    fn moments_are_those_of_the_normal_distribution() {
        let count = 400_000;
        let drawn = draw(1, 0, &[0], count);
        let moment = |power: i32| drawn.iter().map(|value| value.powi(power)).sum::<f64>() / count as f64;
        // Six standard errors of each moment.
        let bound = |variance: f64| 6.0 * (variance / count as f64).sqrt();
        for (power, expected, variance) in [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)] {
            let found = moment(power);
            assert!((found - expected).abs() < bound(variance), "moment {power}: {found}");
        }
        let neighbours = drawn.windows(2).map(|pair| pair[0] * pair[1]).sum::<f64>() / count as f64;
        assert!(neighbours.abs() < bound(1.0), "correlation of neighbours: {neighbours}");
    }

    #[test]
    fn numbers_depend_on_seed_stream_step_and_place_alone() {
        let rows = draw(5, 0, &[2, 9, 2], 10_000);
        let (first, others) = rows.split_at(10_000);
        assert_eq!(first, &others[10_000..]);
        assert_eq!(first, draw(5, 0, &[2], 10_000));
        assert_eq!(&first[..17], draw(5, 0, &[2], 17));
        for other in [&others[..10_000], &draw(6, 0, &[2], 10_000), &draw(5, 1, &[2], 10_000)] {
            let correlation = first.iter().zip(other).map(|(a, b)| a * b).sum::<f64>() / 10_000.0;
            assert!(correlation.abs() < 0.06, "{correlation}");
        }
    }

    #[test]
    fn rows_without_elements_are_left() {
        assert!(draw(0, 0, &[], 4).is_empty() && draw(0, 0, &[1, 2], 0).is_empty());
    }
}
