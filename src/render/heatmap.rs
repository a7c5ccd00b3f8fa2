//! Relevance of an image as a picture: the input, the heatmap beside it, the heatmap over the grey input, a colour bar.
//!
//! Relevance is summed over channels. The scale is symmetric, so that zero is always white; a pixel of the input is a
//! square of whole pixels in the picture, never smoothed, since relevance is a number for each pixel of the input.

use std::io::{self, Cursor};
use std::path::Path;

use ::image::{ImageFormat, Rgb, RgbImage};

use super::colour::{blend, diverging};
use super::font::{draw_text, fill, text_height, text_width, wrap_text};
use crate::data::image::Layout;
use crate::data::{DataError, Tensor, write_atomically};

const BACKGROUND: Rgb<u8> = Rgb([255, 255, 255]);
const TEXT: Rgb<u8> = Rgb([34, 34, 34]);
const FAINT_TEXT: Rgb<u8> = Rgb([110, 110, 110]);
const BORDER: Rgb<u8> = Rgb([200, 200, 200]);
const TEXT_SCALE: u32 = 2;
const MARGIN: u32 = 24;
const GAP: u32 = 10;
const BAR_WIDTH: u32 = 18;
const TITLES: [&str; 3] = ["input", "relevance", "overlay"];
const MAX_PICTURE_PIXELS: u64 = 1 << 27;
const MAX_ENLARGED_WIDTH: u32 = 2048;

/// Which |R| has the full colour.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Scale {
    /// The largest of the picture.
    #[default]
    Maximum,
    /// This percentile of |R| over all pixels, above 0 and at most 100: shows the rest when few pixels dominate.
    /// The largest |R| if the percentile is zero.
    Percentile(f64),
}

/// How a heatmap is drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct HeatmapOptions {
    /// The scale of the colours.
    pub scale: Scale,
    /// Axes of the relevance, where it has channels.
    pub layout: Layout,
    /// Panels are enlarged by a whole factor to at least this height in pixels.
    pub min_panel_height: u32,
    /// Text below the panels, wrapped to their width.
    pub caption: String,
}

impl Default for HeatmapOptions {
    fn default() -> HeatmapOptions {
        HeatmapOptions { scale: Scale::Maximum, layout: Layout::Nchw, min_panel_height: 280, caption: String::new() }
    }
}

/// Why a heatmap cannot be drawn.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum HeatmapError {
    /// The relevance is not that of the picture.
    #[error(
        "relevance of shape {shape:?} does not belong to a picture of {height}×{width} pixels; needed is \
         [C, H, W] or [H, W], or [H, W, C] with the layout nhwc, of one sample"
    )]
    Shape {
        /// Shape of the relevance.
        shape: Vec<usize>,
        /// Width of the picture.
        width: u32,
        /// Height of the picture.
        height: u32,
    },
    /// A relevance is NaN or infinite.
    #[error("relevance {index:?} is {}; there is no colour for it", if value.is_nan() { "NaN" } else { "infinite" })]
    NonFinite {
        /// Position along each axis.
        index: Vec<usize>,
        /// NaN or an infinity.
        value: f64,
    },
    /// The sum over the channels of a pixel exceeds the range of numbers.
    #[error("the relevance of a pixel, summed over channels, is too large a number")]
    Overflow,
    /// A percentile outside of its range.
    #[error("a percentile of {0} is impossible; give one above 0 and at most 100")]
    Percentile(f64),
    /// The result would be too large.
    #[error("the heatmap of a picture of {height}×{width} pixels would be too large")]
    TooLarge {
        /// Width of the picture.
        width: u32,
        /// Height of the picture.
        height: u32,
    },
}

/// Draws `picture` (the network's input as a person sees it) and `relevance` ([C, H, W], [H, W] or, by
/// [`HeatmapOptions::layout`], [H, W, C], with or without a leading axis of size 1) side by side.
///
/// # Errors
/// The shape of the relevance does not fit the picture, a value is not finite, or the result would be too large.
pub fn render_heatmap(
    picture: &RgbImage,
    relevance: &Tensor,
    options: &HeatmapOptions,
) -> Result<RgbImage, HeatmapError> {
    let map = sum_channels(relevance, picture.dimensions(), options.layout)?;
    let (limit, note) = colour_limit(&map, options.scale)?;
    let colours = |draw: &dyn Fn(Rgb<u8>, f64) -> Rgb<u8>| {
        let mut panel = picture.clone();
        for (pixel, value) in panel.pixels_mut().zip(&map) {
            *pixel = draw(*pixel, if limit > 0.0 { value / limit } else { 0.0 });
        }
        panel
    };
    let panels = [picture.clone(), colours(&|_, value| diverging(value)), colours(&overlay)];
    compose(&panels, limit, &[(options.caption.as_str(), TEXT), (note.as_str(), FAINT_TEXT)], options.min_panel_height)
        .ok_or(HeatmapError::TooLarge { width: picture.width(), height: picture.height() })
}

/// Writes `picture` as PNG, whole or not at all.
///
/// # Errors
/// The file cannot be written.
pub fn write_png(path: &Path, picture: &RgbImage) -> Result<(), DataError> {
    let bytes = png_bytes(picture).map_err(|source| DataError::Write { path: path.to_path_buf(), source })?;
    write_atomically(path, |writer| writer.write_all(&bytes))
}

/// `picture` as a PNG file.
///
/// # Errors
/// The picture has no pixels.
pub fn png_bytes(picture: &RgbImage) -> io::Result<Vec<u8>> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, ImageFormat::Png).map_err(io::Error::other)?;
    Ok(bytes.into_inner())
}

/// One relevance for each pixel, row by row.
fn sum_channels(relevance: &Tensor, (width, height): (u32, u32), layout: Layout) -> Result<Vec<f64>, HeatmapError> {
    let (w, h) = (width as usize, height as usize);
    let misfit = || HeatmapError::Shape { shape: relevance.shape().to_vec(), width, height };
    let shape = match relevance.shape() {
        [1, sample @ ..] if sample.len() == 3 => sample,
        shape => shape,
    };
    // A value belongs to the pixel (position / inner) % pixels.
    let (pixels, inner) = match (shape, layout) {
        (&[rows, columns], _) if (rows, columns) == (h, w) => (h * w, 1),
        (&[_, rows, columns], Layout::Nchw) if (rows, columns) == (h, w) => (h * w, 1),
        (&[rows, columns, channels], Layout::Nhwc) if (rows, columns) == (h, w) => (h * w, channels.max(1)),
        _ => return Err(misfit()),
    };
    if pixels == 0 {
        return Err(misfit());
    }
    if let Some((flat, value)) = relevance.first_non_finite() {
        return Err(HeatmapError::NonFinite { index: relevance.index_of(flat), value });
    }
    let mut map = vec![0.0; pixels];
    for (position, value) in relevance.to_f64().into_iter().enumerate() {
        if let Some(sum) = map.get_mut(position / inner % pixels) {
            *sum += value;
        }
    }
    if map.iter().any(|sum| !sum.is_finite()) {
        return Err(HeatmapError::Overflow);
    }
    Ok(map)
}

/// The |R| that has the full colour, and what is to be said about it.
fn colour_limit(map: &[f64], scale: Scale) -> Result<(f64, String), HeatmapError> {
    let largest = map.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
    let percentile = match scale {
        Scale::Maximum => 100.0,
        Scale::Percentile(percentile) => percentile,
    };
    if !(percentile > 0.0 && percentile <= 100.0) {
        return Err(HeatmapError::Percentile(percentile));
    }
    if largest == 0.0 {
        return Ok((0.0, "All relevance is zero.".into()));
    }
    let mut sizes: Vec<f64> = map.iter().map(|value| value.abs()).collect();
    sizes.sort_unstable_by(f64::total_cmp);
    let rank = (percentile / 100.0 * sizes.len() as f64).ceil() as usize;
    let limit = sizes.get(rank.saturating_sub(1)).copied().unwrap_or(largest);
    if limit == 0.0 || limit == largest {
        return Ok((largest, String::new()));
    }
    Ok((
        limit,
        format!("Full colour from percentile {percentile} of |R| on; the largest is {}.", three_digits(largest)),
    ))
}

/// The grey input, covered the more the larger |value| is.
fn overlay(pixel: Rgb<u8>, value: f64) -> Rgb<u8> {
    let [red, green, blue] = pixel.0.map(f64::from);
    // Grey is compressed to the middle, so that both ends of the colour map stand out from it.
    let grey = (50.0 + 0.7 * (0.299 * red + 0.587 * green + 0.114 * blue)).round() as u8;
    let strength = value.abs().min(1.0);
    let colour = diverging(value.signum() * (0.45 + 0.55 * strength));
    blend(Rgb([grey; 3]), colour, strength.sqrt())
}

/// Panels with titles, the colour bar at their right and lines of text below. `None` if that gets too large.
fn compose(panels: &[RgbImage; 3], limit: f64, lines: &[(&str, Rgb<u8>)], min_panel_height: u32) -> Option<RgbImage> {
    let (width, height) = panels[0].dimensions();
    let factor = min_panel_height.div_ceil(height).min(MAX_ENLARGED_WIDTH / width).max(1);
    let (panel_width, panel_height) = (width.checked_mul(factor)?, height.checked_mul(factor)?);
    let widest_title = TITLES.iter().map(|title| text_width(title, TEXT_SCALE)).max()?;
    let slot = panel_width.max(widest_title).checked_add(MARGIN)?;
    let line_height = text_height(TEXT_SCALE) + GAP;
    let panel_top = MARGIN + line_height;
    let labels = [format!("+{}", three_digits(limit)), "0".into(), format!("-{}", three_digits(limit))];
    let labels = if limit > 0.0 { labels } else { ["".into(), "0".into(), "".into()] };
    let label_width = labels.iter().map(|label| text_width(label, TEXT_SCALE)).max()?;
    let bar_left = MARGIN.checked_add(slot.checked_mul(3)?)?;
    let total_width = bar_left.checked_add(BAR_WIDTH + GAP + label_width + MARGIN)?;
    let wrapped: Vec<(String, Rgb<u8>)> = lines
        .iter()
        .flat_map(|(text, colour)| {
            wrap_text(text, total_width - 2 * MARGIN, TEXT_SCALE).into_iter().map(|line| (line, *colour))
        })
        .collect();
    let text_top = panel_top.checked_add(panel_height)?.checked_add(MARGIN - GAP / 2)?;
    let text_lines = u32::try_from(wrapped.len()).ok()?;
    let total_height = text_top.checked_add(line_height.checked_mul(text_lines)?)?.checked_add(MARGIN - GAP)?;
    if u64::from(total_width) * u64::from(total_height) > MAX_PICTURE_PIXELS {
        return None;
    }

    let mut canvas = RgbImage::from_pixel(total_width, total_height, BACKGROUND);
    for ((left, panel), title) in (MARGIN..).step_by(slot as usize).zip(panels).zip(TITLES) {
        draw_text(&mut canvas, left, MARGIN, title, TEXT_SCALE, TEXT);
        draw_panel(&mut canvas, (left, panel_top), panel, factor);
    }
    draw_colour_bar(&mut canvas, (bar_left, panel_top), panel_height, &labels);
    for (top, (line, colour)) in (text_top..).step_by(line_height as usize).zip(&wrapped) {
        draw_text(&mut canvas, MARGIN, top, line, TEXT_SCALE, *colour);
    }
    Some(canvas)
}

/// Every pixel of `panel` as a square of `factor` pixels, in a thin frame.
fn draw_panel(canvas: &mut RgbImage, (left, top): (u32, u32), panel: &RgbImage, factor: u32) {
    let (width, height) = (panel.width() * factor, panel.height() * factor);
    fill(canvas, (left - 1, top - 1), (width + 2, height + 2), BORDER);
    for (x, y, pixel) in panel.enumerate_pixels() {
        fill(canvas, (left + x * factor, top + y * factor), (factor, factor), *pixel);
    }
}

/// The largest value on top, zero in the middle, the smallest at the bottom.
fn draw_colour_bar(canvas: &mut RgbImage, (left, top): (u32, u32), height: u32, labels: &[String; 3]) {
    fill(canvas, (left - 1, top - 1), (BAR_WIDTH + 2, height + 2), BORDER);
    let steps = f64::from(height.saturating_sub(1).max(1));
    for y in 0..height {
        fill(canvas, (left, top + y), (BAR_WIDTH, 1), diverging(1.0 - 2.0 * f64::from(y) / steps));
    }
    // Capitals and digits are seven of the nine font pixels high.
    let digit_height = 7 * TEXT_SCALE;
    let last = height.saturating_sub(digit_height);
    for (label, offset) in labels.iter().zip([0, last / 2, last]) {
        draw_text(canvas, left + BAR_WIDTH + GAP, top + offset, label, TEXT_SCALE, TEXT);
    }
}

/// A number that is not negative, with three significant digits: `0.0123`, `4.57`, `8130`, `1.20e-5`.
fn three_digits(value: f64) -> String {
    let scientific = format!("{value:.2e}");
    let exponent: i32 = scientific.split_once('e').and_then(|(_, exponent)| exponent.parse().ok()).unwrap_or(0);
    match exponent {
        -2..=2 => format!("{value:.*}", (2 - exponent).unsigned_abs() as usize),
        3 => format!("{value:.0}"),
        _ => scientific,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACTOR: u32 = 4;

    fn options() -> HeatmapOptions {
        HeatmapOptions { min_panel_height: 2 * FACTOR, ..HeatmapOptions::default() }
    }

    fn picture() -> RgbImage {
        RgbImage::from_fn(3, 2, |x, y| Rgb([(x * 100) as u8, (y * 200) as u8, 0]))
    }

    fn tensor(shape: &[usize], values: &[f32]) -> Tensor {
        Tensor::from_slice(shape, values).unwrap()
    }

    /// The colour of the pixel (x, y) of a panel, which must fill its square.
    fn panel_pixel(rendered: &RgbImage, panel: u32, x: u32, y: u32) -> [u8; 3] {
        let slot = text_width("relevance", TEXT_SCALE) + MARGIN;
        let left = MARGIN + panel * slot + x * FACTOR;
        let top = MARGIN + text_height(TEXT_SCALE) + GAP + y * FACTOR;
        let colour = rendered.get_pixel(left, top).0;
        for (dx, dy) in [(FACTOR - 1, 0), (0, FACTOR - 1), (FACTOR - 1, FACTOR - 1)] {
            assert_eq!(rendered.get_pixel(left + dx, top + dy).0, colour);
        }
        colour
    }

    #[test]
    fn panels_hold_input_heatmap_and_overlay() {
        let relevance = tensor(&[2, 2, 3], &[1.0, -1.0, 0.0, 0.5, 0.25, 0.0, 1.0, -1.0, 0.0, 0.5, -0.25, -1.0]);
        let rendered = render_heatmap(&picture(), &relevance, &options()).unwrap();
        let map = [[1.0, -1.0, 0.0], [0.5, 0.0, -0.5]];
        for (y, row) in map.iter().enumerate() {
            for (x, value) in row.iter().enumerate() {
                let (x, y) = (x as u32, y as u32);
                assert_eq!(panel_pixel(&rendered, 0, x, y), picture().get_pixel(x, y).0);
                assert_eq!(panel_pixel(&rendered, 1, x, y), diverging(*value).0);
                assert_eq!(panel_pixel(&rendered, 2, x, y), overlay(*picture().get_pixel(x, y), *value).0);
            }
        }
        assert_eq!(panel_pixel(&rendered, 1, 2, 0), [255; 3]);
        let [red, green, blue] = panel_pixel(&rendered, 2, 1, 1);
        assert!(red == green && green == blue, "no relevance leaves the overlay grey");
    }

    #[test]
    fn every_form_of_relevance_gives_the_same_picture() {
        let values = [1.0, -1.0, 0.0, 0.5, 0.25, 0.0];
        let plain = render_heatmap(&picture(), &tensor(&[2, 3], &values), &options()).unwrap();
        let nhwc = HeatmapOptions { layout: Layout::Nhwc, ..options() };
        let twice: Vec<f32> = values.iter().flat_map(|value| [*value, *value]).collect();
        for (shape, values, options) in [
            (&[1, 2, 3][..], &values[..], options()),
            (&[1, 1, 2, 3], &values, options()),
            (&[2, 3, 1], &values, nhwc.clone()),
            (&[1, 2, 3, 1], &values, nhwc.clone()),
            (&[1, 2, 3, 2], &twice.iter().map(|value| value / 2.0).collect::<Vec<_>>(), nhwc),
        ] {
            assert_eq!(render_heatmap(&picture(), &tensor(shape, values), &options).unwrap(), plain, "{shape:?}");
        }
    }

    #[test]
    fn the_bar_runs_from_the_largest_to_the_smallest() {
        let rendered = render_heatmap(&picture(), &tensor(&[2, 3], &[2.0; 6]), &options()).unwrap();
        let left = MARGIN + 3 * (text_width("relevance", TEXT_SCALE) + MARGIN);
        let top = MARGIN + text_height(TEXT_SCALE) + GAP;
        assert_eq!(rendered.get_pixel(left, top), &diverging(1.0));
        assert_eq!(rendered.get_pixel(left, top + 2 * FACTOR - 1), &diverging(-1.0));
        let labels = text_width("+2.00", TEXT_SCALE);
        assert_eq!(rendered.width(), left + BAR_WIDTH + GAP + labels + MARGIN);
    }

    #[test]
    fn percentiles_clip_and_say_so() {
        let map = [0.0, -1.0, 2.0, -3.0, 100.0];
        assert_eq!(colour_limit(&map, Scale::Maximum), Ok((100.0, String::new())));
        let (limit, note) = colour_limit(&map, Scale::Percentile(80.0)).unwrap();
        assert_eq!(limit, 3.0);
        assert_eq!(note, "Full colour from percentile 80 of |R| on; the largest is 100.");
        assert_eq!(colour_limit(&map, Scale::Percentile(1.0)).unwrap().0, 100.0, "a limit of zero shows nothing");
        for percentile in [0.0, 100.5, f64::NAN] {
            assert!(matches!(colour_limit(&map, Scale::Percentile(percentile)), Err(HeatmapError::Percentile(_))));
        }
    }

    #[test]
    fn relevance_that_is_all_zero_is_white_and_said() {
        assert_eq!(colour_limit(&[0.0, -0.0], Scale::Maximum), Ok((0.0, "All relevance is zero.".into())));
        let zero = render_heatmap(&picture(), &tensor(&[2, 3], &[0.0; 6]), &options()).unwrap();
        assert_eq!(panel_pixel(&zero, 1, 1, 1), [255; 3]);
        let some = render_heatmap(&picture(), &tensor(&[2, 3], &[1.0; 6]), &options()).unwrap();
        assert!(zero.height() > some.height(), "one line of text more");
    }

    #[test]
    fn bad_relevance_is_refused() {
        let refused = |relevance: Tensor| render_heatmap(&picture(), &relevance, &options()).unwrap_err();
        for shape in [&[3, 2][..], &[6], &[2, 1, 2, 3], &[1, 1, 3, 2], &[2, 3, 1]] {
            let count = shape.iter().product();
            assert!(matches!(refused(tensor(shape, &vec![0.0; count])), HeatmapError::Shape { .. }), "{shape:?}");
        }
        let mut values = [0.0; 6];
        values[4] = f32::NAN;
        assert_eq!(refused(tensor(&[2, 3], &values)).to_string(), "relevance [1, 1] is NaN; there is no colour for it");
        values[4] = f32::INFINITY;
        assert!(refused(tensor(&[2, 3], &values)).to_string().starts_with("relevance [1, 1] is infinite"));
        let huge = Tensor::from_slice(&[2, 2, 3], &[f64::MAX; 12]).unwrap();
        assert_eq!(refused(huge), HeatmapError::Overflow);
        assert!(matches!(
            render_heatmap(&RgbImage::new(0, 0), &tensor(&[0, 0], &[]), &options()),
            Err(HeatmapError::Shape { .. })
        ));
    }

    #[test]
    fn panels_are_enlarged_by_whole_factors_within_limits() {
        let size = |width: u32, height: u32| {
            let count = (width * height) as usize;
            let relevance = tensor(&[height as usize, width as usize], &vec![1.0; count]);
            render_heatmap(&RgbImage::new(width, height), &relevance, &HeatmapOptions::default()).unwrap().dimensions()
        };
        let frame = MARGIN + text_height(TEXT_SCALE) + GAP + MARGIN - GAP / 2 + MARGIN - GAP;
        assert_eq!(size(28, 28).1, 280 + frame);
        assert_eq!(size(224, 224).1, 448 + frame);
        assert_eq!(size(1500, 10).1, 10 + frame);
    }

    #[test]
    fn numbers_have_three_digits() {
        let cases = [(0.0123, "0.0123"), (4.567, "4.57"), (99.95, "100"), (812.6, "813"), (8126.0, "8126")];
        for (value, text) in cases.into_iter().chain([(1.2e-5, "1.20e-5"), (3e12, "3.00e12")]) {
            assert_eq!(three_digits(value), text);
        }
    }

    #[test]
    fn the_file_is_a_png_of_the_picture() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("heat.png");
        write_png(&path, &picture()).unwrap();
        assert_eq!(::image::open(&path).unwrap().into_rgb8(), picture());
    }
}
