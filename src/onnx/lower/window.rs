//! Where windows lie: padding, strides and dilations as ONNX states them, for convolution and pooling alike.

use lrpc_ir::Dim;

use super::finding::{Lowered, invalid, unsupported};
use super::site::Site;

/// The windows of a node, per spatial axis.
#[derive(Debug, Clone)]
pub(super) struct Windows {
    pub kernel: Vec<Dim>,
    pub strides: Vec<i64>,
    pub dilations: Vec<i64>,
    pub before: Vec<Dim>,
    pub after: Vec<Dim>,
}

/// Who states the padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AutoPad {
    /// The attribute `pads`.
    Explicit,
    /// None.
    Valid,
    /// As much as keeps `⌈size / stride⌉`, the odd one after.
    SameUpper,
    /// As much as keeps `⌈size / stride⌉`, the odd one before.
    SameLower,
}

/// The attribute `auto_pad`.
pub(super) fn auto_pad(site: &mut Site) -> Lowered<AutoPad> {
    match site.word_or("auto_pad", "NOTSET")?.as_str() {
        "NOTSET" | "" => Ok(AutoPad::Explicit),
        "VALID" => Ok(AutoPad::Valid),
        "SAME_UPPER" => Ok(AutoPad::SameUpper),
        "SAME_LOWER" => Ok(AutoPad::SameLower),
        other => invalid(format!("auto_pad is {other:?}")),
    }
}

/// An attribute with one positive integer per spatial axis.
pub(super) fn positive(site: &mut Site, name: &'static str, axes: usize) -> Lowered<Vec<i64>> {
    let values = site.ints(name)?.unwrap_or(vec![1; axes]);
    if values.len() != axes || values.iter().any(|value| *value < 1) {
        return invalid(format!("{name} is {values:?}, which should be {axes} positive numbers"));
    }
    Ok(values)
}

/// The attribute `pads`: before and after each spatial axis.
pub(super) fn pads(site: &mut Site, axes: usize) -> Lowered<(Vec<Dim>, Vec<Dim>)> {
    let Some(values) = site.ints("pads")? else { return Ok((vec![Dim::Known(0); axes], vec![Dim::Known(0); axes])) };
    if values.len() != axes.saturating_mul(2) || values.iter().any(|value| *value < 0) {
        return invalid(format!("pads is {values:?}, which should be twice {axes} numbers that are not negative"));
    }
    let (before, after) = values.split_at(axes);
    let dims = |values: &[i64]| values.iter().map(|value| Dim::Known(*value)).collect();
    Ok((dims(before), dims(after)))
}

impl Windows {
    /// Reads `strides`, `dilations`, `auto_pad` and `pads` for windows of the size `kernel` over axes of the sizes
    /// `sizes`.
    pub(super) fn read(site: &mut Site, sizes: &[Dim], kernel: Vec<Dim>) -> Lowered<Windows> {
        if sizes.is_empty() || kernel.len() != sizes.len() {
            return invalid(format!("a window of {} axes on an input with {} spatial axes", kernel.len(), sizes.len()));
        }
        let axes = sizes.len();
        let strides = positive(site, "strides", axes)?;
        let dilations = positive(site, "dilations", axes)?;
        let auto = auto_pad(site)?;
        let (before, after) = pads(site, axes)?;
        let mut windows = Windows { kernel, strides, dilations, before, after };
        match auto {
            AutoPad::Explicit => {}
            AutoPad::Valid => {
                windows.before = vec![Dim::Known(0); axes];
                windows.after = windows.before.clone();
            }
            AutoPad::SameUpper | AutoPad::SameLower => windows.pad_to_same(sizes, auto == AutoPad::SameUpper)?,
        }
        Ok(windows)
    }

    /// Sets the padding that keeps `⌈size / stride⌉` windows; an odd place is after if `upper`.
    fn pad_to_same(&mut self, sizes: &[Dim], upper: bool) -> Lowered {
        let zero = Dim::Known(0);
        let spans = self.spans()?;
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for ((size, stride), span) in sizes.iter().zip(&self.strides).zip(&spans) {
            let stride = Dim::Known(*stride);
            let steps = size.ceil_div(&stride)?.sub(&Dim::Known(1))?;
            let total = steps.mul(&stride)?.add(span)?.sub(size)?.maximum(&zero)?;
            let half = total.floor_div(&Dim::Known(2))?;
            let rest = total.sub(&half)?;
            before.push(if upper { half.clone() } else { rest.clone() });
            after.push(if upper { rest } else { half });
        }
        (self.before, self.after) = (before, after);
        Ok(())
    }

    /// The places from the first to the last tap of a window, both included.
    pub(super) fn spans(&self) -> Lowered<Vec<Dim>> {
        let span = |(taps, dilation): (&Dim, &i64)| -> Lowered<Dim> {
            let one = Dim::Known(1);
            Ok(taps.sub(&one)?.mul(&Dim::Known(*dilation))?.add(&one)?)
        };
        self.kernel.iter().zip(&self.dilations).map(span).collect()
    }

    /// How many windows there are along each axis. With `ceil`, a last window may extend beyond the padding, but must
    /// begin before its end (in the padding after the input it would see nothing).
    pub(super) fn counts(&self, sizes: &[Dim], ceil: bool) -> Lowered<Vec<Dim>> {
        let spans = self.spans()?;
        let mut counts = Vec::with_capacity(sizes.len());
        for (axis, (size, span)) in sizes.iter().zip(&spans).enumerate() {
            let (Some(before), Some(after), Some(stride)) =
                (self.before.get(axis), self.after.get(axis), self.strides.get(axis))
            else {
                return invalid("the padding does not fit the spatial axes");
            };
            let (stride, one) = (Dim::Known(*stride), Dim::Known(1));
            let room = size.add(before)?.add(after)?.sub(span)?;
            if room.known().is_some_and(|room| room < 0) && !(ceil && size.known() > Some(0)) {
                return invalid(format!("a window of {span} places does not fit into {size} with its padding"));
            }
            let count = if ceil {
                let begun = size.add(before)?.sub(&one)?.floor_div(&stride)?.add(&one)?;
                room.ceil_div(&stride)?.add(&one)?.minimum(&begun)?
            } else {
                room.floor_div(&stride)?.add(&one)?
            };
            if count.known().is_some_and(|count| count < 1) {
                return unsupported(format!("there is no window along an axis of {size}"));
            }
            counts.push(count);
        }
        Ok(counts)
    }
}
