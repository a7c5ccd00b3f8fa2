//! Softmax and normalisations, which LRP treats as one thing each.

use super::{Class, arity, expect_axis, expect_floats, expect_shape};
use crate::attribute::{AttributeReader, Attributes};
use crate::dim::{Dim, DimError};
use crate::types::{Float, TensorType};

/// A softmax or a normalisation by a statistic of its own input.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Normalize {
    /// `e^(x−max) / Σ e^(x−max)` along `axis`.
    Softmax {
        /// The axis.
        axis: usize,
        /// Whether the result is 0 where the quotient is not a number, as in a row that is −inf throughout because
        /// everything is masked.
        safe: bool,
    },
    /// `x − ln Σ eˣ` along `axis`.
    LogSoftmax {
        /// The axis.
        axis: usize,
    },
    /// `(x − mean)/√(var + eps)·scale + bias` over the axes from `axis` on; operands `x`, `scale`, `bias` (each of the
    /// shape of those axes).
    LayerNorm {
        /// First normalised axis.
        axis: usize,
        /// Added to the variance.
        eps: Float,
    },
    /// `x/√(mean(x²) + eps)·scale` over the axes from `axis` on; operands `x`, `scale`.
    RmsNorm {
        /// First normalised axis.
        axis: usize,
        /// Added to the mean of squares.
        eps: Float,
    },
    /// Layer norm over each of `groups` channel groups of `[N, C, …]`; operands `x`, `scale[C]`, `bias[C]`. Instance
    /// norm is the case of one channel in each group.
    GroupNorm {
        /// Number of groups.
        groups: Dim,
        /// Added to the variance.
        eps: Float,
    },
    /// `(x − mean)/√(var + eps)·scale + bias` with stored statistics; operands `x`, `scale[C]`, `bias[C]`, `mean[C]`,
    /// `variance[C]`. Canonicalisation folds it away.
    BatchNorm {
        /// Added to the variance.
        eps: Float,
    },
}

impl Normalize {
    /// The word in the text format.
    pub fn mnemonic(&self) -> &'static str {
        match self {
            Normalize::Softmax { .. } => "softmax",
            Normalize::LogSoftmax { .. } => "log_softmax",
            Normalize::LayerNorm { .. } => "layer_norm",
            Normalize::RmsNorm { .. } => "rms_norm",
            Normalize::GroupNorm { .. } => "group_norm",
            Normalize::BatchNorm { .. } => "batch_norm",
        }
    }

    pub(super) fn write_attributes(&self, attributes: &mut Attributes) {
        match self {
            Normalize::Softmax { axis, safe } => {
                attributes.integer("axis", *axis as i64);
                attributes.flag("safe", *safe);
            }
            Normalize::LogSoftmax { axis } => attributes.integer("axis", *axis as i64),
            Normalize::LayerNorm { axis, eps } | Normalize::RmsNorm { axis, eps } => {
                attributes.integer("axis", *axis as i64);
                attributes.float("eps", *eps);
            }
            Normalize::GroupNorm { groups, eps } => {
                attributes.0.push(("groups".into(), crate::attribute::Attribute::Dim(groups.clone())));
                attributes.float("eps", *eps);
            }
            Normalize::BatchNorm { eps } => attributes.float("eps", *eps),
        }
    }

    pub(super) fn read(word: &str, reader: &mut AttributeReader) -> Result<Option<Normalize>, String> {
        Ok(Some(match word {
            "softmax" => Normalize::Softmax { axis: reader.axis("axis")?, safe: reader.flag("safe")? },
            "log_softmax" => Normalize::LogSoftmax { axis: reader.axis("axis")? },
            "layer_norm" => Normalize::LayerNorm { axis: reader.axis("axis")?, eps: reader.float_or("eps", None)? },
            "rms_norm" => Normalize::RmsNorm { axis: reader.axis("axis")?, eps: reader.float_or("eps", None)? },
            "group_norm" => Normalize::GroupNorm {
                groups: Dim::Known(reader.integer_or("groups", None)?),
                eps: reader.float_or("eps", None)?,
            },
            "batch_norm" => Normalize::BatchNorm { eps: reader.float_or("eps", None)? },
            _ => return Ok(None),
        }))
    }

    pub(super) fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, String> {
        let (x, parameters) = operands.split_first().ok_or("takes at least one operand")?;
        expect_floats(x)?;
        let expected = match self {
            Normalize::Softmax { axis, .. } | Normalize::LogSoftmax { axis } => {
                let [x] = arity(operands)?;
                return expect_axis(*axis, x.rank()).map(|()| x.clone());
            }
            Normalize::LayerNorm { .. } => 2,
            Normalize::RmsNorm { .. } => 1,
            Normalize::GroupNorm { .. } => 2,
            Normalize::BatchNorm { .. } => 4,
        };
        if parameters.len() != expected {
            return Err(format!("takes {} operands, not {}", expected + 1, operands.len()));
        }
        let shape = match self {
            Normalize::LayerNorm { axis, .. } | Normalize::RmsNorm { axis, .. } => {
                expect_axis(*axis, x.rank())?;
                &x.shape[*axis..]
            }
            _ => x.shape.get(1..2).ok_or_else(|| format!("{x} has no channel axis"))?,
        };
        for parameter in parameters {
            expect_shape("a parameter", &parameter.shape, shape)?;
            if parameter.dtype != x.dtype {
                return Err(format!("a parameter is {}, not {}", parameter.dtype, x.dtype));
            }
        }
        if let (Normalize::GroupNorm { groups: Dim::Known(groups), .. }, Some(Dim::Known(channels))) =
            (self, x.shape.get(1))
            && (*groups < 1 || channels % groups != 0)
        {
            return Err(format!("{channels} channels do not split into {groups} groups"));
        }
        Ok((*x).clone())
    }

    pub(super) fn map_dims(&self, map: &mut dyn FnMut(&Dim) -> Result<Dim, DimError>) -> Result<Normalize, DimError> {
        Ok(match self {
            Normalize::GroupNorm { groups, eps } => Normalize::GroupNorm { groups: map(groups)?, eps: *eps },
            _ => self.clone(),
        })
    }

    pub(super) fn class(&self) -> Class {
        match self {
            Normalize::Softmax { .. } => Class::Named("softmax"),
            Normalize::LogSoftmax { .. } => Class::Named("log_softmax"),
            Normalize::BatchNorm { .. } => Class::Named("batch_norm"),
            Normalize::LayerNorm { .. } | Normalize::RmsNorm { .. } | Normalize::GroupNorm { .. } => Class::Normalize,
        }
    }
}
