//! Random weights in the place of initializers, for files that hold a model's structure alone.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use lrpc_ir::DType;

/// Which values the initializers of a model have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Weights {
    /// Those of the file.
    #[default]
    Stored,
    /// Floating-point initializers are random numbers, the same for the same seed, name and shape on every machine.
    Random(u64),
}

impl Weights {
    /// The most elements of an initializer that stays as it is stored: so few may be sizes, or constants of a formula.
    pub const MAX_KEPT: u64 = 64;
}

impl FromStr for Weights {
    type Err = String;

    /// `stored` or `random:SEED`.
    fn from_str(text: &str) -> Result<Weights, String> {
        match text.split_once(':') {
            None if text == "stored" => Ok(Weights::Stored),
            Some(("random", seed)) => match seed.parse() {
                Ok(seed) => Ok(Weights::Random(seed)),
                Err(_) => Err(format!("`{seed}` is no whole number from 0 on")),
            },
            _ => Err(format!("weights are `stored` or `random:SEED`, not `{text}`")),
        }
    }
}

impl fmt::Display for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Weights::Stored => f.write_str("stored"),
            Weights::Random(seed) => write!(f, "random:{seed}"),
        }
    }
}

/// Numbers in the place of one initializer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Generator {
    state: u64,
    /// The numbers lie between these.
    range: [f64; 2],
}

impl Generator {
    /// The generator for the initializer of that name and shape. A vector is taken for gains, variances or biases, which
    /// lie between ½ and 1½; what has more axes is a weight, with the variance 1/fan (Glorot and Bengio 2010, with the
    /// larger of both fans), so that deep models stay finite.
    pub(super) fn new(seed: u64, name: &str, dims: &[u64]) -> Generator {
        let range = match dims {
            [] | [_] => [0.5, 1.5],
            [rows, columns] => centred(*rows.max(columns)),
            [_, rest @ ..] => centred(rest.iter().fold(1_u64, |product, size| product.saturating_mul(*size))),
        };
        // FNV-1a.
        let hash = |state: u64, byte: u8| (state ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        let state = name.bytes().fold(0xcbf2_9ce4_8422_2325, hash) ^ mix(seed);
        Generator { state, range }
    }

    /// `count` numbers of the floating-point type, little-endian.
    pub(super) fn bytes(self, dtype: DType, count: u64) -> Bytes {
        let capacity = usize::try_from(count).unwrap_or(0).saturating_mul(dtype.size());
        let mut bytes = Vec::with_capacity(capacity);
        for place in 0..count {
            let number = self.number(place);
            match dtype {
                DType::F16 => bytes.extend(half::f16::from_f64(number).to_le_bytes()),
                DType::Bf16 => bytes.extend(half::bf16::from_f64(number).to_le_bytes()),
                DType::F64 => bytes.extend(number.to_le_bytes()),
                _ => bytes.extend((number as f32).to_le_bytes()),
            }
        }
        bytes.into()
    }

    fn number(self, place: u64) -> f64 {
        let [low, high] = self.range;
        // The upper 53 bits as a number from 0 to 1.
        let unit = (mix(self.state.wrapping_add(place)) >> 11) as f64 / (1_u64 << 53) as f64;
        low + (high - low) * unit
    }
}

/// The interval around 0 of the variance `1/fan`.
fn centred(fan: u64) -> [f64; 2] {
    let bound = (3.0 / fan.max(1) as f64).sqrt();
    [-bound, bound]
}

/// One step of SplitMix64 (Steele, Lea and Flood 2014).
fn mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(seed: u64, name: &str, dims: &[u64]) -> Vec<f64> {
        let count = dims.iter().product();
        let bytes = Generator::new(seed, name, dims).bytes(DType::F64, count);
        bytes.chunks_exact(8).map(|chunk| f64::from_le_bytes(chunk.try_into().unwrap())).collect()
    }

    #[test]
    fn the_variance_of_a_weight_is_one_over_its_fan() {
        let weight = numbers(7, "w", &[64, 16, 3, 3]);
        let count = weight.len() as f64;
        let mean = weight.iter().sum::<f64>() / count;
        let variance = weight.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
        assert!(mean.abs() < 0.002 && (variance * 144.0 - 1.0).abs() < 0.05, "{mean} {variance}");
        assert!(numbers(7, "b", &[1000]).iter().all(|x| (0.5..1.5).contains(x)));
    }

    #[test]
    fn seeds_and_names_tell_the_numbers() {
        let first = numbers(7, "w", &[8, 8]);
        assert_eq!(first, numbers(7, "w", &[8, 8]));
        assert_ne!(first, numbers(8, "w", &[8, 8]));
        assert_ne!(first, numbers(7, "v", &[8, 8]));
        assert_eq!(first[0], 0.4875325227407734, "the same on every machine and in every version");
    }

    #[test]
    fn words() {
        for text in ["stored", "random:7"] {
            assert_eq!(text.parse::<Weights>().map(|weights| weights.to_string()), Ok(text.to_string()));
        }
        assert!("random".parse::<Weights>().is_err() && "random:-1".parse::<Weights>().is_err());
    }
}
