//! Operators that ONNX Runtime's optimiser writes (domain `com.microsoft`): what it fused is taken apart.

use lrpc_ir::ops::{Binary, Function, Movement, Normalize, Select};
use lrpc_ir::types::{DType, TensorType};
use lrpc_ir::{Dim, Op, Value};

use super::finding::{Lowered, invalid, unsupported};
use super::linear::{convolve, gemm_value, multiply};
use super::normalize::{layer_norm, normalised_last, rms_norm};
use super::rotary::{embed, positions_of};
use super::site::{Site, axis};
use super::table::OpDef;

pub(super) const OPERATORS: &[OpDef] = &[
    OpDef::microsoft("Gelu", |site| biased(site, Function::Gelu)),
    OpDef::microsoft("BiasGelu", |site| biased(site, Function::Gelu)),
    OpDef::microsoft("FastGelu", |site| biased(site, Function::GeluTanh)),
    OpDef::microsoft("QuickGelu", quick_gelu),
    OpDef::microsoft("FusedMatMul", fused_mat_mul),
    OpDef::microsoft("FusedGemm", fused_gemm),
    OpDef::microsoft("FusedConv", fused_conv),
    OpDef::microsoft("BiasSoftmax", bias_softmax),
    OpDef::microsoft("LayerNormalization", layer_norm),
    OpDef::microsoft("SimplifiedLayerNormalization", rms_norm),
    // The optimiser writes this one into the domain of ONNX, where it is no operator of the standard.
    OpDef::new("SimplifiedLayerNormalization", 1, rms_norm),
    OpDef::microsoft("SkipLayerNormalization", skip_layer_norm),
    OpDef::microsoft("SkipSimplifiedLayerNormalization", skip_rms_norm),
    OpDef::microsoft("EmbedLayerNormalization", embed_layer_norm),
    OpDef::microsoft("RotaryEmbedding", rotary_embedding),
];

/// A function of the input, with a bias if there is one.
fn biased(site: &mut Site, function: Function) -> Lowered {
    let mut x = site.input(0)?;
    if let Some(bias) = site.optional_input(1)? {
        x = site.binary(Binary::Add, x, bias)?;
    }
    let result = site.unary(function, [0.0; 2], x)?;
    site.output(0, result)
}

fn quick_gelu(site: &mut Site) -> Lowered {
    let x = site.input(0)?;
    let parameter = site.float_or("alpha", 1.702)?;
    let result = site.unary(Function::Swish, [parameter, 0.0], x)?;
    site.output(0, result)
}

/// A matrix product whose operands may have their last two axes exchanged, or the row axis in front.
fn fused_mat_mul(site: &mut Site) -> Lowered {
    let operand = |site: &mut Site, index, batch, matrix| -> Lowered<Value> {
        let mut x = site.input(index)?;
        let rank = site.ty(x).rank();
        if site.flag(batch, false)? && rank > 2 {
            let last = rank.saturating_sub(1);
            x = site.transpose(x, (1..last).chain([0, last]).collect())?;
        }
        if site.flag(matrix, false)? && rank > 1 {
            let (row, column) = (rank.saturating_sub(2), rank.saturating_sub(1));
            x = site.transpose(x, (0..row).chain([column, row]).collect())?;
        }
        Ok(x)
    };
    let a = operand(site, 0, "transBatchA", "transA")?;
    let b = operand(site, 1, "transBatchB", "transB")?;
    let product = multiply(site, a, b)?;
    let scale = site.float_or("alpha", 1.0)?;
    let result = if scale == 1.0 { product } else { site.unary(Function::Scale, [scale, 0.0], product)? };
    site.output(0, result)
}

/// The named activation; `parameters` are in its order.
fn activate(site: &mut Site, x: Value, parameters: [Option<f64>; 2]) -> Lowered<Value> {
    let or = |place: usize, default: f64| parameters.get(place).copied().flatten().unwrap_or(default);
    let (function, parameters) = match site.word_or("activation", "")?.as_str() {
        "" => return Ok(x),
        "Relu" => (Function::Relu, [0.0; 2]),
        "Sigmoid" => (Function::Sigmoid, [0.0; 2]),
        "Tanh" => (Function::Tanh, [0.0; 2]),
        "HardSwish" => (Function::HardSwish, [0.0; 2]),
        "LeakyRelu" => (Function::LeakyRelu, [or(0, 0.01_f32.into()), 0.0]),
        "HardSigmoid" => (Function::HardSigmoid, [or(0, 0.2_f32.into()), or(1, 0.5)]),
        "Clip" => (Function::Clip, [or(0, f64::NEG_INFINITY), or(1, f64::INFINITY)]),
        other => return unsupported(format!("the activation {other:?}")),
    };
    site.unary(function, parameters, x)
}

fn fused_gemm(site: &mut Site) -> Lowered {
    let product = gemm_value(site)?;
    // A third parameter belongs to activations that are refused.
    site.ignore("activation_gamma");
    let parameters = [site.float("activation_alpha")?, site.float("activation_beta")?];
    let result = activate(site, product, parameters)?;
    site.output(0, result)
}

/// A convolution, then the sum with another tensor if there is one, then an activation.
fn fused_conv(site: &mut Site) -> Lowered {
    let mut operands = vec![site.input(0)?, site.input(1)?];
    operands.extend(site.optional_input(2)?);
    let mut result = convolve(site, &operands)?;
    if let Some(summand) = site.optional_input(3)? {
        result = site.binary(Binary::Add, result, summand)?;
    }
    let parameters = site.floats("activation_params")?.unwrap_or_default();
    let result = activate(site, result, [parameters.first().copied(), parameters.get(1).copied()])?;
    site.output(0, result)
}

/// The softmax of a sum, over all axes from `axis` on as one.
fn bias_softmax(site: &mut Site) -> Lowered {
    // It tells how a bias of fewer axes is copied; of as many axes it is broadcast.
    site.ignore("is_inner_broadcast");
    let (x, bias) = (site.input(0)?, site.input(1)?);
    let rank = site.ty(x).rank();
    if site.ty(bias).rank() != rank {
        return unsupported("a bias that has not as many axes as the input");
    }
    let along = axis(site.int_or("axis", 1)?, rank)?;
    if along.checked_add(1) != Some(rank) {
        return unsupported("a softmax over several axes");
    }
    let sum = site.binary(Binary::Add, x, bias)?;
    let result = site.emit(Op::Normalize(Normalize::Softmax { axis: along, safe: false }), &[sum])?;
    site.output(0, result)
}

/// The input plus the residual plus a bias, which is also the fourth output.
fn skip_sum(site: &mut Site, bias: usize) -> Lowered<Value> {
    let (x, skip) = (site.input(0)?, site.input(1)?);
    let mut sum = site.binary(Binary::Add, x, skip)?;
    if let Some(bias) = site.optional_input(bias)? {
        sum = site.binary(Binary::Add, sum, bias)?;
    }
    site.output(3, sum)?;
    Ok(sum)
}

fn skip_layer_norm(site: &mut Site) -> Lowered {
    let sum = skip_sum(site, 4)?;
    let result = normalised_last(site, sum, [2, 3])?;
    site.output(0, result)
}

fn skip_rms_norm(site: &mut Site) -> Lowered {
    let sum = skip_sum(site, 3)?;
    let (scale, last) = (site.input(2)?, axis(-1, site.ty(sum).rank())?);
    let eps = site.float_or("epsilon", 1e-12)?.into();
    let result = site.emit(Op::Normalize(Normalize::RmsNorm { axis: last, eps }), &[sum, scale])?;
    site.output(0, result)
}

/// The normalised sum of word, position and segment embeddings.
fn embed_layer_norm(site: &mut Site) -> Lowered {
    if site.has_output(1) && site.has_input(7) {
        return unsupported("the mask as an output");
    }
    site.ignore("mask_index_type");
    let row = |site: &mut Site, table: usize, index: Value| -> Lowered<Value> {
        let table = site.input(table)?;
        site.emit(Op::Select(Select::Gather { axis: 0, batch: 0 }), &[table, index])
    };
    let tokens = site.input(0)?;
    let mut sum = row(site, 2, tokens)?;
    let positions = match site.optional_input(8)? {
        Some(positions) => row(site, 3, positions)?,
        None => {
            let table = site.input(3)?;
            let length = site.ty(tokens).shape.get(1).cloned().unwrap_or(Dim::Known(1));
            let part = Movement::slice_axis(&site.ty(table), 0, Dim::Known(0), length);
            site.emit(Op::Movement(part), &[table])?
        }
    };
    sum = site.binary(Binary::Add, sum, positions)?;
    if let (Some(segments), true) = (site.optional_input(1)?, site.has_input(4)) {
        let segments = row(site, 4, segments)?;
        sum = site.binary(Binary::Add, sum, segments)?;
    }
    site.output(2, sum)?;
    let result = normalised_last(site, sum, [5, 6])?;
    site.output(0, result)?;
    if site.has_output(1) {
        let batch = site.ty(tokens).shape.into_iter().take(1).collect();
        let mask = site.filled(TensorType::new(DType::I32, batch), 0.0)?;
        site.output(1, mask)?;
    }
    Ok(())
}

/// As the operator of ONNX, with the positions before the caches. One position is that of the first place.
fn rotary_embedding(site: &mut Site) -> Lowered {
    if site.flag("is_packed_batching", false)? {
        return unsupported("packed batches");
    }
    if site.float_or("scale", 1.0)? != 1.0 {
        return invalid("scale is not 1");
    }
    let x = site.input(0)?;
    let positions = positions_of(site, x, 1)?;
    embed(site, x, [2, 3], Some(positions))
}
