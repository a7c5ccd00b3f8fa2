//! Contraction and convolution.

use super::{Class, expect_numbers, expect_shape, map_all, spatial_of};
use crate::attribute::{AttributeReader, Attributes};
use crate::dim::{Dim, DimError};
use crate::types::TensorType;

/// A linear operation: `(x, weight)` or `(x, weight, bias)`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Linear {
    /// Batched contraction.
    Dot(Dot),
    /// Convolution: input `[N, C, …]`, weight `[O, C/groups, …]`, bias `[O]`.
    Conv(Geometry),
    /// Adjoint of [`Linear::Conv`]: input `[N, C, …]`, weight `[C, O/groups, …]`, bias `[O]`.
    ConvTranspose(Geometry),
}

/// Which axes of two operands meet. The result's axes are the batch axes, then the left operand's free axes, then the
/// right operand's, each in the operand's order. A bias has the shape of the right operand's free axes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Dot {
    /// Axes (left, right) that are walked together and kept.
    pub batch: Vec<(usize, usize)>,
    /// Axes (left, right) that are summed over.
    pub contract: Vec<(usize, usize)>,
}

/// Where the windows of a convolution lie.
///
/// Output place `o` of tap `k` reads input place `o·stride + k·dilation − pad`, and zero outside the input; the adjoint
/// writes where the convolution reads. The spatial result sizes are stated, so that a convolution and its adjoint carry
/// the same attributes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Geometry {
    /// Step of the window per spatial axis.
    pub strides: Vec<i64>,
    /// Zeros before the first element per spatial axis.
    pub pads: Vec<Dim>,
    /// Distance between taps per spatial axis.
    pub dilations: Vec<i64>,
    /// Number of independent channel groups.
    pub groups: i64,
    /// Spatial sizes of the result.
    pub spatial: Vec<Dim>,
}

impl Dot {
    /// The axes of an operand of rank `rank` that are neither batch nor contracted; `side` picks from the pairs.
    fn free(&self, rank: usize, side: fn(&(usize, usize)) -> usize) -> Vec<usize> {
        (0..rank).filter(|axis| !self.batch.iter().chain(&self.contract).any(|pair| side(pair) == *axis)).collect()
    }

    /// The left operand's free axes.
    pub fn left_free(&self, rank: usize) -> Vec<usize> {
        self.free(rank, |pair| pair.0)
    }

    /// The right operand's free axes.
    pub fn right_free(&self, rank: usize) -> Vec<usize> {
        self.free(rank, |pair| pair.1)
    }

    fn infer(&self, a: &TensorType, b: &TensorType) -> Result<TensorType, String> {
        let pairs = || self.batch.iter().chain(&self.contract);
        super::expect_axes(&pairs().map(|pair| pair.0).collect::<Vec<_>>(), a.rank())?;
        super::expect_axes(&pairs().map(|pair| pair.1).collect::<Vec<_>>(), b.rank())?;
        if a.dtype != b.dtype {
            return Err(format!("operands differ: {a} and {b}"));
        }
        for &(left, right) in pairs() {
            if a.shape[left] != b.shape[right] {
                return Err(format!("axis {left} of {a} does not meet axis {right} of {b}"));
            }
        }
        let batch = self.batch.iter().map(|&(left, _)| a.shape[left].clone());
        let left = self.left_free(a.rank()).into_iter().map(|axis| a.shape[axis].clone());
        let right = self.right_free(b.rank()).into_iter().map(|axis| b.shape[axis].clone());
        Ok(a.with_shape(batch.chain(left).chain(right).collect()))
    }
}

impl Geometry {
    fn write(&self, attributes: &mut Attributes) {
        attributes.per_axis("stride", &known(&self.strides), 1);
        attributes.per_axis("pad", &self.pads, 0);
        attributes.per_axis("dilation", &known(&self.dilations), 1);
        attributes.integer_unless("groups", self.groups, 1);
    }

    fn read(reader: &mut AttributeReader, result: &TensorType) -> Result<Geometry, String> {
        let spatial = spatial_of(result);
        Ok(Geometry {
            strides: reader.integer_per_axis("stride", spatial.len(), 1)?,
            pads: reader.per_axis("pad", spatial.len(), 0)?,
            dilations: reader.integer_per_axis("dilation", spatial.len(), 1)?,
            groups: reader.integer_or("groups", Some(1))?,
            spatial,
        })
    }

    fn check(&self, x: &TensorType, weight: &TensorType) -> Result<(), String> {
        let axes = self.spatial.len();
        if x.rank() != axes + 2 || weight.rank() != axes + 2 || x.rank() < 3 {
            return Err(format!("input {x} and weight {weight} do not have {axes} spatial axes and two more"));
        }
        if [self.strides.len(), self.pads.len(), self.dilations.len()].iter().any(|&count| count != axes) {
            return Err(format!("stride, pad and dilation need one value for each of {axes} spatial axes"));
        }
        super::expect_steps(&self.strides, &self.dilations, &self.pads)?;
        if self.groups < 1 {
            return Err("groups must be positive".into());
        }
        if x.dtype != weight.dtype {
            return Err(format!("operands differ: {x} and {weight}"));
        }
        Ok(())
    }

    fn result(&self, x: &TensorType, channels: Dim) -> TensorType {
        let mut shape = vec![x.shape[0].clone(), channels];
        shape.extend(self.spatial.iter().cloned());
        x.with_shape(shape)
    }

    fn infer_conv(&self, x: &TensorType, weight: &TensorType) -> Result<TensorType, String> {
        self.check(x, weight)?;
        let channels = weight.shape[1].mul(&self.groups.into()).map_err(|error| error.to_string())?;
        expect_shape("the input's channel axis", &x.shape[1..2], &[channels])?;
        divides(self.groups, &weight.shape[0])?;
        Ok(self.result(x, weight.shape[0].clone()))
    }

    fn infer_transpose(&self, x: &TensorType, weight: &TensorType) -> Result<TensorType, String> {
        self.check(x, weight)?;
        expect_shape("the weight's first axis", &weight.shape[..1], &x.shape[1..2])?;
        divides(self.groups, &weight.shape[0])?;
        Ok(self.result(x, weight.shape[1].mul(&self.groups.into()).map_err(|error| error.to_string())?))
    }

    fn map_dims(&self, map: &mut dyn FnMut(&Dim) -> Result<Dim, DimError>) -> Result<Geometry, DimError> {
        Ok(Geometry { pads: map_all(&self.pads, map)?, spatial: map_all(&self.spatial, map)?, ..self.clone() })
    }
}

fn divides(groups: i64, channels: &Dim) -> Result<(), String> {
    match channels {
        Dim::Known(count) if count % groups != 0 => Err(format!("{count} channels do not split into {groups} groups")),
        _ => Ok(()),
    }
}

fn known(values: &[i64]) -> Vec<Dim> {
    values.iter().map(|&value| Dim::Known(value)).collect()
}

impl Linear {
    /// The word in the text format.
    pub fn mnemonic(&self) -> &'static str {
        match self {
            Linear::Dot(_) => "dot",
            Linear::Conv(_) => "conv",
            Linear::ConvTranspose(_) => "conv_transpose",
        }
    }

    pub(super) fn write_attributes(&self, attributes: &mut Attributes) {
        match self {
            Linear::Dot(dot) => {
                attributes.pairs("batch", &dot.batch);
                attributes.pairs("contract", &dot.contract);
            }
            Linear::Conv(geometry) | Linear::ConvTranspose(geometry) => geometry.write(attributes),
        }
    }

    pub(super) fn read(
        word: &str,
        reader: &mut AttributeReader,
        result: &TensorType,
    ) -> Result<Option<Linear>, String> {
        Ok(match word {
            "dot" => Some(Linear::Dot(Dot { batch: reader.pairs("batch")?, contract: reader.pairs("contract")? })),
            "conv" => Some(Linear::Conv(Geometry::read(reader, result)?)),
            "conv_transpose" => Some(Linear::ConvTranspose(Geometry::read(reader, result)?)),
            _ => None,
        })
    }

    pub(super) fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, String> {
        let (x, weight, bias) = match operands {
            [x, weight] => (x, weight, None),
            [x, weight, bias] => (x, weight, Some(bias)),
            _ => return Err(format!("takes 2 or 3 operands, not {}", operands.len())),
        };
        expect_numbers(x)?;
        let result = match self {
            Linear::Dot(dot) => dot.infer(x, weight)?,
            Linear::Conv(geometry) => geometry.infer_conv(x, weight)?,
            Linear::ConvTranspose(geometry) => geometry.infer_transpose(x, weight)?,
        };
        if let Some(bias) = bias {
            expect_shape("the bias", &bias.shape, &self.bias_shape(&result, weight))?;
            if bias.dtype != x.dtype {
                return Err(format!("the bias is {}, not {}", bias.dtype, x.dtype));
            }
        }
        Ok(result)
    }

    /// The shape that a bias of this operation has.
    pub fn bias_shape(&self, result: &TensorType, weight: &TensorType) -> Vec<Dim> {
        match self {
            Linear::Dot(dot) => {
                dot.right_free(weight.rank()).into_iter().map(|axis| weight.shape[axis].clone()).collect()
            }
            Linear::Conv(_) | Linear::ConvTranspose(_) => result.shape[1..2].to_vec(),
        }
    }

    pub(super) fn class(&self, active: &[bool]) -> Class {
        let is = |operand: usize| active.get(operand) == Some(&true);
        match (is(0), is(1), is(2)) {
            (true, false, false) => Class::Linear { input: 0, weight: 1, bias: (active.len() > 2).then_some(2) },
            (false, true, false) => Class::Linear { input: 1, weight: 0, bias: (active.len() > 2).then_some(2) },
            (true, true, false) => Class::Bilinear,
            _ => Class::Named("active_bias"),
        }
    }

    pub(super) fn map_dims(&self, map: &mut dyn FnMut(&Dim) -> Result<Dim, DimError>) -> Result<Linear, DimError> {
        Ok(match self {
            Linear::Dot(dot) => Linear::Dot(dot.clone()),
            Linear::Conv(geometry) => Linear::Conv(geometry.map_dims(map)?),
            Linear::ConvTranspose(geometry) => Linear::ConvTranspose(geometry.map_dims(map)?),
        })
    }
}
