//! Activation functions of recurrent cells, by name.

use lrpc_ir::Value;
use lrpc_ir::ops::Function;

use super::super::finding::{Lowered, invalid, unsupported};
use super::super::site::Site;
use super::cell::Cell;

/// A function with its parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Activation {
    /// One function of the graph.
    Plain(Function, [f64; 2]),
    /// `alpha·x + beta`.
    Affine(f64, f64),
    /// `alpha·tanh(beta·x)`.
    ScaledTanh(f64, f64),
}

/// The activations of all directions. Parameters are given to those that have any, in their order; what is left out has
/// the default of the operator of that name.
pub(super) fn read(site: &mut Site, cell: Cell, directions: usize) -> Lowered<Vec<Activation>> {
    let count = cell.activations().len().saturating_mul(directions);
    let defaults = || cell.activations().iter().map(ToString::to_string).cycle().take(count).collect();
    let names = site.words("activations")?.filter(|names| !names.is_empty()).unwrap_or_else(defaults);
    if names.len() != count {
        return invalid(format!("it has {} activations where {count} belong", names.len()));
    }
    let mut alphas = site.floats("activation_alpha")?.unwrap_or_default().into_iter();
    let mut betas = site.floats("activation_beta")?.unwrap_or_default().into_iter();
    let activation = |name: String| {
        let mut alpha = |default: f32| alphas.next().unwrap_or(default.into());
        let mut beta = |default: f32| betas.next().unwrap_or(default.into());
        Ok(match name.to_ascii_lowercase().as_str() {
            "relu" => Activation::Plain(Function::Relu, [0.0; 2]),
            "tanh" => Activation::Plain(Function::Tanh, [0.0; 2]),
            "sigmoid" => Activation::Plain(Function::Sigmoid, [0.0; 2]),
            "softsign" => Activation::Plain(Function::Softsign, [0.0; 2]),
            "softplus" => Activation::Plain(Function::Softplus, [0.0; 2]),
            "leakyrelu" => Activation::Plain(Function::LeakyRelu, [alpha(0.01), 0.0]),
            "thresholdedrelu" => Activation::Plain(Function::ThresholdedRelu, [alpha(1.0), 0.0]),
            "elu" => Activation::Plain(Function::Elu, [alpha(1.0), 0.0]),
            "hardsigmoid" => Activation::Plain(Function::HardSigmoid, [alpha(0.2), beta(0.5)]),
            // No operator of these names gives defaults.
            "affine" | "scaledtanh" => {
                let (Some(alpha), Some(beta)) = (alphas.next(), betas.next()) else {
                    return unsupported(format!("the activation {name:?} without alpha and beta"));
                };
                if name.eq_ignore_ascii_case("affine") {
                    Activation::Affine(alpha, beta)
                } else {
                    Activation::ScaledTanh(alpha, beta)
                }
            }
            _ => return unsupported(format!("the activation {name:?}")),
        })
    };
    names.into_iter().map(activation).collect()
}

impl Activation {
    pub(super) fn apply(self, site: &mut Site, x: Value) -> Lowered<Value> {
        match self {
            Activation::Plain(function, parameters) => site.unary(function, parameters, x),
            Activation::Affine(alpha, beta) => {
                let scaled = site.unary(Function::Scale, [alpha, 0.0], x)?;
                site.unary(Function::Shift, [beta, 0.0], scaled)
            }
            Activation::ScaledTanh(alpha, beta) => {
                let inner = site.unary(Function::Scale, [beta, 0.0], x)?;
                let inner = site.unary(Function::Tanh, [0.0; 2], inner)?;
                site.unary(Function::Scale, [alpha, 0.0], inner)
            }
        }
    }

    /// `1 − f(x)`; of a gate `f` it is a gate again: `1 − σ(x) = σ(−x)`.
    pub(super) fn complement(self, site: &mut Site, x: Value, value: Value) -> Lowered<Value> {
        match self {
            Activation::Plain(Function::Sigmoid, parameters) => {
                let negated = site.unary(Function::Neg, [0.0; 2], x)?;
                site.unary(Function::Sigmoid, parameters, negated)
            }
            Activation::Plain(Function::HardSigmoid, [alpha, beta]) => {
                site.unary(Function::HardSigmoid, [-alpha, 1.0 - beta], x)
            }
            _ => {
                let negated = site.unary(Function::Neg, [0.0; 2], value)?;
                site.unary(Function::Shift, [1.0, 0.0], negated)
            }
        }
    }
}
