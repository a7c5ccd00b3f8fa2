//! Blocks that are columns, laid over each other to an image.

use lrpc_ir::ops::{Geometry, Linear, Select, Source};
use lrpc_ir::types::{DType, TensorType, product};
use lrpc_ir::{Dim, Op};

use super::finding::{Lowered, invalid};
use super::site::Site;
use super::table::OpDef;
use super::window::{self, Windows};

pub(super) const OPERATORS: &[OpDef] = &[OpDef::new("Col2Im", 18, to_image)];

/// `[N, C·block, blocks]` becomes `[N, C, image…]`: each element of a block is added at its place. That is a transposed
/// convolution of each channel whose weight is 1 where the input channel is the tap, and 0 elsewhere.
fn to_image(site: &mut Site) -> Lowered {
    let x = site.input(0)?;
    let ty = site.ty(x);
    let (Some(image), Some(block)) = (site.integers(1)?, site.sizes(2)?) else {
        return invalid("the image's or the block's shape is missing");
    };
    let image = site.measure_all(&image)?;
    let axes = image.len();
    let strides = window::positive(site, "strides", axes)?;
    let dilations = window::positive(site, "dilations", axes)?;
    let (before, after) = window::pads(site, axes)?;
    let windows = Windows { kernel: block.clone(), strides, dilations, before, after };
    let [batch, columns, _] = ty.shape.as_slice() else {
        return invalid(format!("the input {ty} should be [batch, channels·block, blocks]"));
    };
    if axes == 0 || block.len() != axes {
        return invalid(format!("an image of {axes} axes from blocks of {}", block.len()));
    }
    let counts = windows.counts(&image, false)?;
    let taps = product(&block)?;
    let Some(channels) = columns.floor_div(&taps)?.known() else {
        return super::finding::unsupported(format!(
            "{columns} rows, of which it is not known how many channels they are"
        ));
    };
    let rows = TensorType::new(DType::I64, vec![taps.clone()]);
    let rows = site.emit(Op::Source(Source::Iota { axis: 0, ty: rows }), &[])?;
    let hot = Select::OneHot { depth: taps.clone(), dtype: DType::Bool };
    let hot = site.emit(Op::Select(hot), &[rows])?;
    let hot = site.cast(hot, ty.dtype)?;
    let all = site.broadcast(hot, &[Dim::Known(channels), taps.clone(), taps])?;
    let weight = site.reshape(all, [vec![columns.clone(), Dim::Known(1)], block].concat())?;
    let blocks = site.reshape(x, [vec![batch.clone(), columns.clone()], counts].concat())?;
    let geometry = Geometry {
        strides: windows.strides,
        pads: windows.before,
        dilations: windows.dilations,
        groups: channels,
        spatial: image,
    };
    let result = site.emit(Op::Linear(Linear::ConvTranspose(geometry)), &[blocks, weight])?;
    site.output(0, result)
}
