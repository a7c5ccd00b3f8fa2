//! The diverging colour map: blue for negative, white for zero, red for positive relevance.
//!
//! Both arms fall from white through the same lightness and chroma in OKLab and differ in hue alone, so that equal
//! amounts of both signs look equally strong, and steps of equal size look equal. Source of the conversion: Ottosson
//! 2020, "A perceptual color space for image processing".

use ::image::Rgb;

/// Lightness lost on the way from zero to the largest value.
const LIGHTNESS_RANGE: f64 = 0.58;
/// Gain of chroma at zero, and how much of it is lost towards the end, where sRGB has no saturated colours.
const CHROMA_GAIN: f64 = 0.25;
const CHROMA_LOSS: f64 = 0.36;
const RED_HUE_DEGREES: f64 = 27.0;
const BLUE_HUE_DEGREES: f64 = 260.0;

/// The colour of `value` in −1..=1; beyond, that of the nearer end. NaN is drawn as zero.
pub fn diverging(value: f64) -> Rgb<u8> {
    let strength = value.abs().min(1.0);
    if strength.is_nan() || strength == 0.0 {
        return Rgb([255; 3]);
    }
    let lightness = 1.0 - LIGHTNESS_RANGE * strength;
    let chroma = CHROMA_GAIN * strength * (1.0 - CHROMA_LOSS * strength * strength);
    let hue = if value > 0.0 { RED_HUE_DEGREES } else { BLUE_HUE_DEGREES }.to_radians();
    oklab_to_srgb(lightness, chroma * hue.cos(), chroma * hue.sin())
}

/// `over` on `under`, with opacity 0..=1.
pub fn blend(under: Rgb<u8>, over: Rgb<u8>, opacity: f64) -> Rgb<u8> {
    let [red, green, blue] = under.0;
    let [over_red, over_green, over_blue] = over.0;
    let mix = |a: u8, b: u8| (f64::from(a) * (1.0 - opacity) + f64::from(b) * opacity).round() as u8;
    Rgb([mix(red, over_red), mix(green, over_green), mix(blue, over_blue)])
}

fn oklab_to_srgb(lightness: f64, a: f64, b: f64) -> Rgb<u8> {
    let long = (lightness + 0.3963377774 * a + 0.2158037573 * b).powi(3);
    let medium = (lightness - 0.1055613458 * a - 0.0638541728 * b).powi(3);
    let short = (lightness - 0.0894841775 * a - 1.2914855480 * b).powi(3);
    Rgb([
        encode(4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short),
        encode(-1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short),
        encode(-0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short),
    ])
}

/// A linear intensity as sRGB byte.
fn encode(linear: f64) -> u8 {
    let linear = linear.clamp(0.0, 1.0);
    let encoded = if linear <= 0.0031308 { 12.92 * linear } else { 1.055 * linear.powf(1.0 / 2.4) - 0.055 };
    (encoded * 255.0).round() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn luminance(colour: Rgb<u8>) -> f64 {
        let [red, green, blue] = colour.0.map(|byte| (f64::from(byte) / 255.0).powf(2.2));
        0.2126 * red + 0.7152 * green + 0.0722 * blue
    }

    #[test]
    fn zero_is_white_and_the_ends_are_blue_and_red() {
        assert_eq!(diverging(0.0).0, [255; 3]);
        assert_eq!(diverging(-0.0).0, [255; 3]);
        let ([red, _, other], [blue_red, _, blue]) = (diverging(1.0).0, diverging(-1.0).0);
        assert!(red > 3 * other && blue > 3 * blue_red, "{:?} {:?}", diverging(1.0), diverging(-1.0));
        assert_eq!(diverging(7.0), diverging(1.0));
    }

    #[test]
    fn both_signs_darken_alike_and_steadily() {
        let mut last = 1.1;
        for step in 0..=100 {
            let value = f64::from(step) / 100.0;
            let (positive, negative) = (luminance(diverging(value)), luminance(diverging(-value)));
            assert!((positive - negative).abs() < 0.06, "{value}: {positive} {negative}");
            assert!(positive < last, "{value}: {positive} after {last}");
            last = positive;
        }
    }

    #[test]
    fn blending() {
        let (black, white) = (Rgb([0; 3]), Rgb([255; 3]));
        assert_eq!(blend(black, white, 0.0), black);
        assert_eq!(blend(black, white, 1.0), white);
        assert_eq!(blend(black, white, 0.5).0, [128; 3]);
    }
}
