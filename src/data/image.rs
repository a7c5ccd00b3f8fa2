//! Images as network inputs: decoding, resizing and normalising.
//!
//! Channel `c` of a pixel becomes `(value · scale − mean[c]) / std[c]`, with `value` in 0..=255. Resizing filters like
//! Pillow and torchvision do (with antialiasing, on 8-bit values), and grey is Rec. 601 luma as in Pillow, since that is
//! what models were trained on.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use ::image::imageops::{self, FilterType};
use ::image::{DynamicImage, ImageDecoder, ImageReader, Limits, RgbImage};

use super::error::DataError;
use super::tensor::{DType, Tensor};

/// Most pixels that an image may have, before and after resizing.
pub const MAX_PIXELS: u64 = 1 << 26;
/// Most pixels that a side of an image may have.
pub const MAX_SIDE: u32 = 1 << 15;
const MAX_DECODER_BYTES: u64 = 1 << 30;

/// Order of the axes of an image tensor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// Channels before height and width.
    #[default]
    Nchw,
    /// Channels last.
    Nhwc,
}

/// Order of the colour channels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChannelOrder {
    /// Red, green, blue.
    #[default]
    Rgb,
    /// Blue, green, red, as OpenCV has it.
    Bgr,
}

/// Number of channels that a network reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channels {
    /// One channel of luma.
    Grey,
    /// Three channels.
    Colour,
}

impl Channels {
    /// The channels of an input with `count` channels; `None` unless that is 1 or 3.
    pub fn of_count(count: usize) -> Option<Channels> {
        match count {
            1 => Some(Channels::Grey),
            3 => Some(Channels::Colour),
            _ => None,
        }
    }

    /// 1 or 3.
    pub fn count(self) -> usize {
        match self {
            Channels::Grey => 1,
            Channels::Colour => 3,
        }
    }
}

/// Interpolation when an image is resized.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Filter {
    /// Cubic with a = −½.
    #[default]
    Bicubic,
    /// Linear.
    Bilinear,
}

/// How an image comes to the size that a network reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resize {
    /// To exactly this size, whatever the proportions; an image that has it is not touched.
    Exact,
    /// The shorter side to this many pixels, proportions kept; then the middle is cut out, where a size is given.
    ShortSide(u32),
}

/// How a picture becomes a tensor. The default is values in 0..1, nothing resized but to fit.
#[derive(Clone, Debug, PartialEq)]
pub struct Preprocess {
    /// Channels of the network's input.
    pub channels: Channels,
    /// Height and width of the network's input in pixels; `None` keeps the image's.
    pub size: Option<(u32, u32)>,
    /// How the size is reached.
    pub resize: Resize,
    /// Interpolation.
    pub filter: Filter,
    /// Factor on values 0..=255.
    pub scale: f64,
    /// Subtracted after scaling: one number for all channels or one for each, in the order of the tensor's channels.
    pub mean: Vec<f64>,
    /// Divisor after that; as `mean`.
    pub std: Vec<f64>,
    /// Axes of the tensor.
    pub layout: Layout,
    /// Colours of the tensor.
    pub order: ChannelOrder,
}

impl Preprocess {
    /// Values in 0..1, resized to `size` (height, width) if given.
    pub fn new(channels: Channels, size: Option<(u32, u32)>) -> Preprocess {
        Preprocess {
            channels,
            size,
            resize: Resize::Exact,
            filter: Filter::default(),
            scale: 1.0 / 255.0,
            mean: vec![0.0],
            std: vec![1.0],
            layout: Layout::default(),
            order: ChannelOrder::default(),
        }
    }
}

/// An image as the network sees it, and as a person sees it.
#[derive(Clone, Debug)]
pub struct LoadedImage {
    /// f32 [1, C, H, W] or [1, H, W, C].
    pub tensor: Tensor,
    /// The same pixels, resized and cut, before scaling: always red, green, blue.
    pub picture: RgbImage,
}

/// Reads a PNG or JPEG file. The orientation that a camera stored is applied; an alpha channel is dropped.
///
/// # Errors
/// The file cannot be read or decoded, it has more than [`MAX_PIXELS`], or the preprocessing is impossible (several
/// means for one channel, a divisor of 0, a cut larger than the image). Sizes are checked before pixels are decoded.
pub fn read_image(path: &Path, preprocess: &Preprocess) -> Result<LoadedImage, DataError> {
    let impossible = |reason| DataError::Preprocess { path: path.to_path_buf(), reason };
    check(preprocess).map_err(impossible)?;
    let decoded = decode(path)?;
    let picture = match preprocess.channels {
        Channels::Colour => decoded.into_rgb8(),
        Channels::Grey => grey(decoded.into_rgb8()),
    };
    let picture = fit(picture, preprocess).map_err(impossible)?;
    let tensor = to_tensor(&picture, preprocess).map_err(|error| malformed(path, error.to_string()))?;
    if tensor.first_non_finite().is_some() {
        return Err(impossible("scale, mean and std make its pixels infinite in single precision".into()));
    }
    Ok(LoadedImage { tensor, picture })
}

fn malformed(path: &Path, reason: impl Into<String>) -> DataError {
    DataError::Malformed { path: path.to_path_buf(), reason: reason.into() }
}

fn check(preprocess: &Preprocess) -> Result<(), String> {
    let channels = preprocess.channels.count();
    for (name, values) in [("mean", &preprocess.mean), ("std", &preprocess.std)] {
        if values.len() != 1 && values.len() != channels {
            let (given, one) = (values.len(), if channels == 1 { "" } else { "s" });
            let either = if channels == 1 { "1".into() } else { format!("1 or {channels}") };
            return Err(format!("{given} values of {name} for {channels} channel{one}; give {either}"));
        }
        if values.iter().any(|value| !value.is_finite()) {
            return Err(format!("the {name} must be finite"));
        }
    }
    if preprocess.std.contains(&0.0) || !preprocess.scale.is_finite() {
        return Err("std must not be 0, and the scale must be finite".into());
    }
    Ok(())
}

fn decode(path: &Path) -> Result<DynamicImage, DataError> {
    let unreadable = |source| DataError::Read { path: path.to_path_buf(), source };
    let undecodable = |error: ::image::ImageError| malformed(path, format!("no readable PNG or JPEG: {error}"));
    let file = File::open(path).map_err(unreadable)?;
    let mut reader = ImageReader::new(BufReader::new(file)).with_guessed_format().map_err(unreadable)?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_DECODER_BYTES);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(undecodable)?;
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if pixels > MAX_PIXELS {
        let path = path.to_path_buf();
        return Err(DataError::Limit { path, needed: pixels, limit: MAX_PIXELS, unit: "pixels" });
    }
    let orientation = decoder.orientation().map_err(undecodable)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(undecodable)?;
    image.apply_orientation(orientation);
    Ok(image)
}

/// Luma of Rec. 601 in 16-bit fixed point; the weights add up to 65,536, so that grey stays as it is.
fn grey(mut picture: RgbImage) -> RgbImage {
    for pixel in picture.pixels_mut() {
        let [red, green, blue] = pixel.0.map(u32::from);
        let luma = (19_595 * red + 38_470 * green + 7_471 * blue + 0x8000) >> 16;
        pixel.0 = [luma.min(255) as u8; 3];
    }
    picture
}

/// Resizes and cuts, never holding more than [`MAX_PIXELS`] in between.
fn fit(picture: RgbImage, preprocess: &Preprocess) -> Result<RgbImage, String> {
    let (width, height) = picture.dimensions();
    let (new_width, new_height) = match preprocess.resize {
        Resize::Exact => preprocess.size.map_or((width, height), |(height, width)| (width, height)),
        Resize::ShortSide(short) => {
            let long = u64::from(short) * u64::from(width.max(height)) / u64::from(width.min(height).max(1));
            let long = u32::try_from(long).unwrap_or(u32::MAX);
            if width <= height { (short, long) } else { (long, short) }
        }
    };
    // Resizing goes over the heights first: in between, the picture has the old width and the new height.
    let most = u64::from(new_width.max(width)) * u64::from(new_height.max(height));
    if new_width == 0 || new_height == 0 || most > MAX_PIXELS {
        return Err(format!("cannot be resized from {width}×{height} to {new_width}×{new_height}"));
    }
    let (target_height, target_width) = preprocess.size.unwrap_or((new_height, new_width));
    if new_width < target_width || new_height < target_height {
        return Err(format!(
            "after resizing it has {new_width}×{new_height} pixels, less than the {target_width}×{target_height} to cut"
        ));
    }
    let filter = match preprocess.filter {
        Filter::Bicubic => FilterType::CatmullRom,
        Filter::Bilinear => FilterType::Triangle,
    };
    let resized = match (new_width, new_height) == (width, height) {
        true => picture,
        false => imageops::resize(&picture, new_width, new_height, filter),
    };
    if resized.dimensions() == (target_width, target_height) {
        return Ok(resized);
    }
    let left = (new_width - target_width).div_ceil(2);
    let top = (new_height - target_height).div_ceil(2);
    Ok(imageops::crop_imm(&resized, left, top, target_width, target_height).to_image())
}

fn to_tensor(picture: &RgbImage, preprocess: &Preprocess) -> Result<Tensor, super::TensorError> {
    let (width, height) = picture.dimensions();
    let (width, height, channels) = (width as usize, height as usize, preprocess.channels.count());
    let value = |pixel: &::image::Rgb<u8>, channel: usize| {
        let source = match preprocess.order {
            ChannelOrder::Rgb => channel,
            ChannelOrder::Bgr => channels - 1 - channel,
        };
        let of = |values: &[f64]| values.get(channel).or(values.first()).copied().unwrap_or_default();
        let raw = pixel.0.get(source).copied().unwrap_or_default();
        ((f64::from(raw) * preprocess.scale - of(&preprocess.mean)) / of(&preprocess.std)) as f32
    };
    let mut bytes = Vec::with_capacity(width * height * channels * DType::F32.size());
    let mut push = |value: f32| bytes.extend_from_slice(&value.to_le_bytes());
    let shape = match preprocess.layout {
        Layout::Nchw => {
            for channel in 0..channels {
                picture.pixels().for_each(|pixel| push(value(pixel, channel)));
            }
            vec![1, channels, height, width]
        }
        Layout::Nhwc => {
            for pixel in picture.pixels() {
                (0..channels).for_each(|channel| push(value(pixel, channel)));
            }
            vec![1, height, width, channels]
        }
    };
    Tensor::new(DType::F32, shape, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::image::Rgb;

    fn load(picture: &RgbImage, preprocess: &Preprocess) -> Result<LoadedImage, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("picture.png");
        picture.save(&path).unwrap();
        read_image(&path, preprocess)
    }

    fn two_pixels() -> RgbImage {
        RgbImage::from_fn(2, 1, |x, _| if x == 0 { Rgb([255, 0, 51]) } else { Rgb([0, 102, 255]) })
    }

    #[test]
    fn layouts_and_channel_orders() {
        let mut preprocess = Preprocess::new(Channels::Colour, None);
        let values = |preprocess: &Preprocess| {
            let tensor = load(&two_pixels(), preprocess).unwrap().tensor;
            (tensor.shape().to_vec(), tensor.to_f32())
        };
        assert_eq!(values(&preprocess), (vec![1, 3, 1, 2], vec![1.0, 0.0, 0.0, 0.4, 0.2, 1.0]));
        preprocess.layout = Layout::Nhwc;
        assert_eq!(values(&preprocess), (vec![1, 1, 2, 3], vec![1.0, 0.0, 0.2, 0.0, 0.4, 1.0]));
        preprocess.order = ChannelOrder::Bgr;
        assert_eq!(values(&preprocess), (vec![1, 1, 2, 3], vec![0.2, 0.0, 1.0, 1.0, 0.4, 0.0]));
    }

    #[test]
    fn default_values_are_the_quotients_by_255() {
        let ramp = RgbImage::from_fn(256, 1, |x, _| Rgb([x as u8; 3]));
        let values = load(&ramp, &Preprocess::new(Channels::Grey, None)).unwrap().tensor.to_f32();
        assert!((0u8..=255).map(|value| f32::from(value) / 255.0).eq(values));
    }

    #[test]
    fn mean_and_std_belong_to_the_channels_of_the_tensor() {
        let mut preprocess = Preprocess::new(Channels::Colour, None);
        preprocess.scale = 1.0;
        preprocess.mean = vec![1.0, 2.0, 3.0];
        preprocess.std = vec![2.0];
        preprocess.order = ChannelOrder::Bgr;
        let tensor = load(&two_pixels(), &preprocess).unwrap().tensor;
        assert_eq!(tensor.to_f32(), [25.0, 127.0, -1.0, 50.0, 126.0, -1.5]);
    }

    #[test]
    fn grey_is_luma_and_keeps_grey() {
        let preprocess = Preprocess { scale: 1.0, ..Preprocess::new(Channels::Grey, None) };
        let loaded = load(&two_pixels(), &preprocess).unwrap();
        assert_eq!(loaded.tensor.shape(), [1, 1, 1, 2]);
        assert_eq!(loaded.tensor.to_f32(), [82.0, 89.0]);
        assert_eq!(loaded.picture.get_pixel(0, 0).0, [82; 3]);
        for value in 0..=255 {
            let picture = grey(RgbImage::from_pixel(1, 1, Rgb([value; 3])));
            assert_eq!(picture.get_pixel(0, 0).0, [value; 3]);
        }
    }

    #[test]
    fn an_image_of_the_right_size_is_touched_only_when_asked() {
        let preprocess = Preprocess { resize: Resize::ShortSide(1), ..Preprocess::new(Channels::Colour, Some((1, 2))) };
        assert_eq!(load(&two_pixels(), &preprocess).unwrap().picture, two_pixels());
        let exact = Preprocess::new(Channels::Colour, Some((1, 2)));
        assert_eq!(load(&two_pixels(), &exact).unwrap().picture, two_pixels());
        let larger = Preprocess { resize: Resize::ShortSide(99), ..exact };
        assert_ne!(load(&two_pixels(), &larger).unwrap().picture, two_pixels());
    }

    #[test]
    fn the_short_side_is_resized_and_the_middle_cut() {
        let stripes = RgbImage::from_fn(60, 20, |x, _| Rgb([(x / 20 * 100) as u8; 3]));
        let mut preprocess = Preprocess::new(Channels::Colour, Some((8, 8)));
        preprocess.resize = Resize::ShortSide(10);
        preprocess.filter = Filter::Bilinear;
        let picture = load(&stripes, &preprocess).unwrap().picture;
        assert_eq!(picture.dimensions(), (8, 8));
        assert!(picture.pixels().all(|pixel| pixel.0 == [100; 3]), "the middle stripe alone remains");
        preprocess.resize = Resize::Exact;
        let picture = load(&stripes, &preprocess).unwrap().picture;
        assert_eq!((picture.get_pixel(0, 4).0, picture.get_pixel(7, 4).0), ([0; 3], [200; 3]));
    }

    #[test]
    fn impossible_requests_are_refused() {
        let refused = |preprocess: Preprocess| load(&two_pixels(), &preprocess).unwrap_err().to_string();
        let colour = |size| Preprocess::new(Channels::Colour, Some(size));
        assert!(
            refused(Preprocess { mean: vec![0.0; 2], ..colour((1, 2)) }).contains("2 values of mean for 3 channels")
        );
        assert!(refused(Preprocess { std: vec![0.0], ..colour((1, 2)) }).contains("std must not be 0"));
        assert!(refused(Preprocess { resize: Resize::ShortSide(4), ..colour((5, 5)) }).contains("less than the 5×5"));
        assert!(refused(colour((u32::MAX, u32::MAX))).contains("cannot be resized"));
        assert!(refused(colour((0, 4))).contains("cannot be resized"));
    }

    #[test]
    fn hostile_files_are_refused_before_decoding() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("picture.png");
        two_pixels().save(&path).unwrap();
        let good = std::fs::read(&path).unwrap();
        let refused = |content: &[u8]| {
            std::fs::write(&path, content).unwrap();
            read_image(&path, &Preprocess::new(Channels::Colour, None)).unwrap_err().to_string()
        };
        assert!(refused(b"").contains("no readable PNG or JPEG"));
        assert!(refused(b"GIF89a").contains("no readable PNG or JPEG"));
        assert!(refused(&good[..good.len() - 20]).contains("no readable PNG or JPEG"));
        let huge = |side: u32| {
            let mut header = b"IHDR".to_vec();
            header.extend([side.to_be_bytes(), side.to_be_bytes()].concat());
            header.extend([8, 2, 0, 0, 0]);
            let sum = crc(&header);
            [&good[..12], &header, &sum.to_be_bytes(), &good[33..]].concat()
        };
        assert!(refused(&huge(20_000)).contains("holds 400000000 pixels, the limit is 67108864"));
        assert!(refused(&huge(1_000_000)).contains("no readable PNG or JPEG"));
        assert!(matches!(
            read_image(&folder.path().join("none.png"), &Preprocess::new(Channels::Grey, None)),
            Err(DataError::Read { .. })
        ));
    }

    /// The sum that ends a PNG chunk.
    fn crc(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(u32::MAX, |sum, byte| {
            (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg()))
        })
    }
}
