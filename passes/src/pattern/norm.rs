//! A tensor divided by the root of the mean of its squares, in whatever way that is written down.

use lrpc_ir::graph::{Graph, NodeId, Value};
use lrpc_ir::ops::{Binary, Elementwise, Function, Movement, Normalize, Op, ReduceKind};
use lrpc_ir::types::Float;
use lrpc_ir::{Diagnostic, Dim, TensorType};

use super::{
    Found, Rows, asked_for, binary, either_order, filled, mean_of, number, power, reduced, same, shifted, square_of,
    unary, uncast,
};
use crate::manager::Context;

/// `x/√(mean(x²) + eps)`, or with `x − mean(x)` in place of `x`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Standardised {
    /// What is normalised.
    pub x: Value,
    /// Whether its mean is taken off.
    pub centred: bool,
    /// The axes that are normalised together, ascending.
    pub axes: Vec<usize>,
    /// Added to the mean of squares.
    pub eps: f64,
    /// A constant factor of the result's shape that stood between.
    pub scale: Option<Value>,
    /// A constant summand of the result's shape that stood between.
    pub bias: Option<Value>,
}

/// The pattern that ends at `node`: a quotient, a product, or a sum of what is scaled and what is moved.
pub(crate) fn standardised(graph: &Graph, node: NodeId) -> Found<Standardised> {
    let value = Value::from(node);
    if let Some(found) = scaled_and_moved(graph, value) {
        return Found::Pattern(found);
    }
    let mut near = Found::Nothing;
    if let Some([numerator, divisor]) = binary(graph, value, Binary::Div) {
        let mut rows = Rows::new(graph);
        let divisor = rows.peel(divisor);
        match root(graph, divisor) {
            Some(radicand) => return numerated(graph, numerator, radicand, rows, None),
            None => near = root_outside(graph, numerator, divisor),
        }
    }
    for [numerator, factor] in either_order(graph, value, Binary::Mul) {
        let Some(inverse) = inverse_root(graph, factor) else { continue };
        match numerated(graph, numerator, inverse.radicand, inverse.rows, inverse.scale) {
            Found::Nothing => {}
            found => return found,
        }
    }
    near
}

/// `√v`: the value `v`.
fn root(graph: &Graph, value: Value) -> Option<Value> {
    match power(graph, value) {
        Some((radicand, 0.5)) => Some(radicand),
        _ => unary(graph, value, Function::Sqrt).map(|(radicand, _)| radicand),
    }
}

/// `scale/√v`.
struct InverseRoot<'g> {
    radicand: Value,
    rows: Rows<'g>,
    scale: Option<Value>,
}

fn inverse_root(graph: &Graph, value: Value) -> Option<InverseRoot<'_>> {
    // A constant factor that is multiplied in first must have the shape of the result, which it is moved to.
    for [factor, scale] in either_order(graph, value, Binary::Mul) {
        if graph.constant_source(scale).is_some()
            && let Some(inverse) = inverse_root(graph, factor).filter(|inverse| inverse.scale.is_none())
        {
            return Some(InverseRoot { scale: Some(scale), ..inverse });
        }
    }
    let mut rows = Rows::new(graph);
    let value = rows.peel(value);
    let root_of = |divisor: Value, mut rows: Rows<'_>| {
        let divisor = rows.peel(divisor);
        root(graph, divisor).map(|radicand| (radicand, rows.copied))
    };
    let found = if let Some((divisor, _)) = unary(graph, value, Function::Reciprocal) {
        root_of(divisor, rows)
    } else if let Some([one, divisor]) = binary(graph, value, Binary::Div) {
        root_of(divisor, rows).filter(|_| number(graph, one) == Some(1.0))
    } else {
        match power(graph, value)? {
            (radicand, -0.5) => Some((radicand, rows.copied)),
            (divisor, -1.0) => root_of(divisor, rows),
            _ => None,
        }
    };
    let (radicand, copied) = found?;
    Some(InverseRoot { radicand, rows: Rows { graph, copied }, scale: None })
}

/// `√v + ε` as a divisor: a normalisation, but none of the primitives.
fn root_outside(graph: &Graph, numerator: Value, divisor: Value) -> Found<Standardised> {
    let near = || -> Option<()> {
        let (deviation, _) = shifted(graph, divisor)?;
        let radicand = root(graph, Rows::new(graph).peel(deviation))?;
        match numerated(graph, numerator, radicand, Rows::new(graph), None) {
            Found::Nothing => None,
            _ => Some(()),
        }
    };
    match near() {
        Some(()) => Found::NearMiss("ε is added to the deviation, not to the variance"),
        None => Found::Nothing,
    }
}

/// `numerator·scale/√radicand`, if the radicand is the mean of the numerator's squares.
fn numerated(
    graph: &Graph,
    numerator: Value,
    radicand: Value,
    mut rows: Rows<'_>,
    scale: Option<Value>,
) -> Found<Standardised> {
    let (found, eps) = match squares(graph, radicand, &mut rows) {
        Found::Pattern(found) => found,
        Found::NearMiss(reason) => {
            let of_numerator =
                scaled_squares(graph, &mut rows, radicand).is_some_and(|base| same(graph, base, numerator));
            return if of_numerator { Found::NearMiss(reason) } else { Found::Nothing };
        }
        Found::Nothing => return Found::Nothing,
    };
    match place(graph, numerator, &found, scale) {
        Some((x, centred, scale)) if rows.meet(x, &found.axes) => {
            Found::Pattern(Standardised { x, centred, axes: found.axes, eps, scale, bias: None })
        }
        Some(_) => Found::NearMiss("its deviation meets other rows than those it is taken over"),
        None => Found::Nothing,
    }
}

/// The mean of squares in `mean + ε`, and ε.
fn squares(graph: &Graph, radicand: Value, rows: &mut Rows<'_>) -> Found<(Squares, f64)> {
    let radicand = rows.peel(radicand);
    let (mean, eps) = shifted(graph, radicand).unwrap_or((radicand, 0.0));
    let mean = rows.peel(mean);
    match mean_of(graph, mean, rows) {
        Found::Pattern((square, axes)) => match square_of(graph, square) {
            Some(base) => Found::Pattern((Squares { base, axes, centred: false }, eps)),
            None => Found::Nothing,
        },
        Found::NearMiss(reason) => Found::NearMiss(reason),
        Found::Nothing => match difference_of_moments(graph, mean, rows) {
            Some(squares) => Found::Pattern((squares, eps)),
            None => Found::Nothing,
        },
    }
}

/// What is squared under `Σ x²` times a number.
fn scaled_squares(graph: &Graph, rows: &mut Rows<'_>, radicand: Value) -> Option<Value> {
    let radicand = rows.peel(radicand);
    let (value, _) = shifted(graph, radicand).unwrap_or((radicand, 0.0));
    let (sum, _) = super::scaled(graph, rows.peel(value))?;
    let (square, _) = reduced(graph, rows.peel(sum), ReduceKind::Sum)?;
    square_of(graph, square)
}

/// `x·f + (bias − mean(x)·f)` with `f = scale/√(variance + ε)`: what is scaled, and what is moved.
fn scaled_and_moved(graph: &Graph, value: Value) -> Option<Standardised> {
    let sums = either_order(graph, value, Binary::Add).into_iter();
    let sums = sums.filter_map(|[scaled, offset]| Some((scaled, binary(graph, offset, Binary::Sub)?)));
    let sums = sums.filter(|(_, [bias, _])| graph.constant_source(*bias).is_some());
    for (scaled, [bias, moved]) in sums {
        for [x, factor] in either_order(graph, scaled, Binary::Mul) {
            let Some(InverseRoot { radicand, mut rows, scale }) = inverse_root(graph, factor) else { continue };
            let means = either_order(graph, moved, Binary::Mul).into_iter();
            let Some([mean, _]) = means.into_iter().find(|[_, again]| same(graph, *again, factor)) else { continue };
            let mean = rows.peel(mean);
            let (Found::Pattern((of, axes)), Found::Pattern((found, eps))) =
                (mean_of(graph, mean, &mut rows), squares(graph, radicand, &mut rows))
            else {
                continue;
            };
            let centred = if found.centred { Some(found.base) } else { centred_of(graph, found.base, &axes) };
            let fits = same(graph, of, x) && centred.is_some_and(|base| same(graph, base, x));
            if fits && axes == found.axes && rows.meet(x, &axes) {
                return Some(Standardised { x, centred: true, axes, eps, scale, bias: Some(bias) });
            }
        }
    }
    None
}

/// A mean of squares of `base`, or of `base` less its mean.
struct Squares {
    base: Value,
    axes: Vec<usize>,
    centred: bool,
}

/// `mean(x²) − mean(x)²`, which is the variance; some exporters keep it from falling below 0.
fn difference_of_moments(graph: &Graph, value: Value, rows: &mut Rows<'_>) -> Option<Squares> {
    let difference = rows.peel(not_below_zero(graph, value).unwrap_or(value));
    let [squares, square] = binary(graph, difference, Binary::Sub)?;
    let squares = rows.peel(squares);
    let Found::Pattern((of_square, axes)) = mean_of(graph, squares, rows) else { return None };
    let base = square_of(graph, of_square)?;
    let mean = square_of(graph, rows.peel(square))?;
    let mean = rows.peel(mean);
    let Found::Pattern((x, same_axes)) = mean_of(graph, mean, rows) else { return None };
    (same(graph, x, base) && axes == same_axes).then_some(Squares { base, axes, centred: true })
}

fn not_below_zero(graph: &Graph, value: Value) -> Option<Value> {
    if let Some((x, [low, high])) = unary(graph, value, Function::Clip) {
        return (low == 0.0 && high >= f64::from(f32::MAX)).then_some(x);
    }
    if let Some((x, _)) = unary(graph, value, Function::Relu) {
        return Some(x);
    }
    let orders = either_order(graph, value, Binary::Max);
    orders.into_iter().find(|&[_, low]| number(graph, low) == Some(0.0)).map(|[x, _]| x)
}

/// What is normalised, whether its mean is taken off, and the constant factor, where `numerator` fits `squares`.
fn place(
    graph: &Graph,
    numerator: Value,
    squares: &Squares,
    scale: Option<Value>,
) -> Option<(Value, bool, Option<Value>)> {
    let centred = centred_of(graph, numerator, &squares.axes);
    let fits = match (squares.centred, centred) {
        (true, Some(x)) => same(graph, x, squares.base),
        (true, None) => false,
        (false, _) => same(graph, numerator, squares.base),
    };
    if fits {
        return Some((centred.unwrap_or(numerator), centred.is_some(), scale));
    }
    let factors = either_order(graph, uncast(graph, numerator), Binary::Mul);
    let (numerator, scale) = factors.into_iter().find_map(|[numerator, factor]| {
        let takes = scale.is_none() && graph.constant_source(factor).is_some();
        takes.then_some((numerator, Some(factor)))
    })?;
    place(graph, numerator, squares, scale)
}

/// `x − mean(x)` over `axes`: the value `x`.
fn centred_of(graph: &Graph, value: Value, axes: &[usize]) -> Option<Value> {
    let [x, mean] = binary(graph, uncast(graph, value), Binary::Sub)?;
    let mut rows = Rows::new(graph);
    let mean = rows.peel(mean);
    let Found::Pattern((base, found)) = mean_of(graph, mean, &mut rows) else { return None };
    (same(graph, x, base) && found == axes && rows.meet(x, axes)).then_some(x)
}

/// Replaces `node` by the normalisation that `found` describes. Axes that are not the last ones are moved there and
/// back.
///
/// # Errors
/// Shapes that cannot be computed.
pub(crate) fn replace(
    graph: &mut Graph,
    context: &mut Context,
    pass: &'static str,
    node: NodeId,
    found: Standardised,
) -> Result<(), Diagnostic> {
    let result = Value::from(node);
    if let Some(inside) = asked_for(graph, context, result, found.x) {
        let reason = format!("%{} inside of it is asked for", graph.name(inside));
        context.refused(pass, graph, result, &reason);
        return Ok(());
    }
    let (region, origin) = (graph.node(node).region, graph.node(node).origin.made_by(pass));
    let base = graph.name(result).to_string();
    let ty = graph.ty(result).clone();
    let outer: Vec<usize> = (0..ty.rank()).filter(|axis| !found.axes.contains(axis)).collect();
    let perm: Vec<usize> = outer.iter().chain(&found.axes).copied().collect();
    let moves = perm.iter().enumerate().any(|(at, &axis)| at != axis);
    let shape: Vec<Dim> = found.axes.iter().filter_map(|&axis| ty.shape.get(axis).cloned()).collect();
    let (axis, eps) = (outer.len(), Float(found.eps));
    let dtype = graph.ty(found.x).dtype;
    let parameters = TensorType::new(dtype, shape);
    let ones = filled(graph, &format!("{base}.ones"), parameters.clone(), 1.0)?;
    let mut operands = vec![found.x, ones];
    let op = if found.centred {
        operands.push(filled(graph, &format!("{base}.zeros"), parameters, 0.0)?);
        Op::Normalize(Normalize::LayerNorm { axis, eps })
    } else {
        Op::Normalize(Normalize::RmsNorm { axis, eps })
    };
    let mut steps: Vec<(Op, Vec<Value>, &str)> = Vec::new();
    if moves {
        steps.push((Op::Movement(Movement::Transpose { perm: perm.clone() }), vec![], "rows"));
    }
    steps.push((op, operands[1..].to_vec(), "normalised"));
    if moves {
        let back = (0..perm.len()).filter_map(|axis| perm.iter().position(|&from| from == axis)).collect();
        steps.push((Op::Movement(Movement::Transpose { perm: back }), vec![], "back"));
    }
    let multiply = Op::Elementwise(Elementwise::Binary(Binary::Mul));
    let (before, after): (Vec<Value>, Vec<Value>) =
        found.scale.into_iter().partition(|&scale| graph.ty(scale).dtype == dtype);
    steps.extend(before.into_iter().map(|scale| (multiply.clone(), vec![scale], "scaled")));
    if dtype != ty.dtype {
        steps.push((Op::Elementwise(Elementwise::Cast(ty.dtype)), vec![], "cast"));
    }
    steps.extend(after.into_iter().map(|scale| (multiply.clone(), vec![scale], "scaled")));
    let add = Op::Elementwise(Elementwise::Binary(Binary::Add));
    steps.extend(found.bias.into_iter().map(|bias| (add.clone(), vec![bias], "moved")));
    let mut current = found.x;
    let last = steps.len() - 1;
    for (place, (op, more, what)) in steps.into_iter().enumerate() {
        let operands = [vec![current], more].concat();
        if place == last {
            graph.set_op(node, op, &operands)?;
            graph.set_place(node, region, origin.clone());
        } else {
            let name = graph.fresh_name(&format!("{base}.{what}"));
            current = graph.add(region, op, &operands, &name, origin.clone())?;
        }
    }
    context.patched(pass, graph, result);
    Ok(())
}
