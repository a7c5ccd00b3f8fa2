//! Which part of each operand one row of a result needs: the table by which slices pass operations on their way up.

use lrpc_ir::ops::{Linear, Literal, Movement, Normalize, Op, Pool, Reduce, Select, Source};
use lrpc_ir::types::product;
use lrpc_ir::{Dim, DimError, TensorType};

/// One row of a tensor. The length of `axis` is `outer·size·inner`; of the middle factor the element `start` stays.
///
/// `outer` and `inner` are 1 except where a reshape has merged axes: of `[N·S, D]`, which was `[N, S, D]`, the row of
/// one token has `outer = N`, `size = S`, `inner = 1`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Row {
    /// The axis that is cut.
    pub axis: usize,
    /// The factor before the one that is cut.
    pub outer: Dim,
    /// The factor that is cut.
    pub size: Dim,
    /// The factor behind the one that is cut.
    pub inner: Dim,
    /// The element that stays.
    pub start: Dim,
}

/// What is needed of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Need {
    /// All of it.
    Full,
    /// One row.
    Row(Row),
}

impl Row {
    /// The element `start` of `axis`, whose length is `size`.
    pub fn of_axis(axis: usize, size: Dim, start: Dim) -> Row {
        Row { axis, outer: Dim::Known(1), size, inner: Dim::Known(1), start }
    }

    /// The row that a slice takes, if it takes one element of one axis and all of the others.
    pub fn of_slice(op: &Op, operand: &TensorType) -> Option<Row> {
        let Op::Movement(Movement::Slice { starts, steps, shape }) = op else { return None };
        let untouched = |axis: &usize| {
            shape.get(*axis) == operand.shape.get(*axis)
                && starts.get(*axis) == Some(&Dim::Known(0))
                && steps.get(*axis) == Some(&1)
        };
        let mut cut = (0..operand.rank()).filter(|axis| !untouched(axis));
        match (cut.next(), cut.next()) {
            (Some(axis), None) if shape.get(axis) == Some(&Dim::Known(1)) => {
                Some(Row::of_axis(axis, operand.shape.get(axis)?.clone(), starts.get(axis)?.clone()))
            }
            _ => None,
        }
    }

    /// The same row along another axis of the same length.
    fn along(&self, axis: usize) -> Row {
        Row { axis, ..self.clone() }
    }

    /// Whether the axis is the cut factor alone.
    pub fn is_whole_axis(&self) -> bool {
        self.outer == Dim::Known(1) && self.inner == Dim::Known(1)
    }

    /// The shape of the row of a tensor of shape `shape`.
    ///
    /// # Errors
    /// Sizes that overflow.
    pub fn cut(&self, shape: &[Dim]) -> Result<Vec<Dim>, DimError> {
        let mut shape = shape.to_vec();
        if let Some(length) = shape.get_mut(self.axis) {
            *length = self.outer.mul(&self.inner)?;
        }
        Ok(shape)
    }
}

/// The operation that computes `row` of the result, and what it needs of each operand; `None` where rows of the result
/// depend on more than rows of the operands.
///
/// # Errors
/// Sizes that overflow.
pub fn row_of(
    op: &Op,
    operands: &[&TensorType],
    result: &TensorType,
    row: &Row,
) -> Result<Option<(Op, Vec<Need>)>, DimError> {
    let all_at = |axis: usize| Some((op.clone(), vec![Need::Row(row.along(axis)); operands.len()]));
    let first_at = |axis: usize| Some((op.clone(), first_of(operands.len(), Need::Row(row.along(axis)))));
    let passes_beside = |axis: usize| if row.axis == axis { None } else { first_at(row.axis) };
    Ok(match op {
        Op::Elementwise(_) => all_at(row.axis),
        Op::Linear(linear) => linear_needs(linear, operands, row).map(|needs| (op.clone(), needs)),
        Op::Reduce(reduce) => kept_axis(reduce, operands, row.axis).and_then(first_at),
        Op::Movement(movement) => movement_row(movement, operands, result, row)?,
        Op::Select(select) => select_needs(select, operands, row).map(|needs| (op.clone(), needs)),
        Op::Normalize(Normalize::Softmax { axis, .. } | Normalize::LogSoftmax { axis }) => passes_beside(*axis),
        Op::Normalize(Normalize::LayerNorm { axis, .. } | Normalize::RmsNorm { axis, .. }) => {
            if row.axis < *axis {
                first_at(row.axis)
            } else {
                None
            }
        }
        Op::Normalize(Normalize::BatchNorm { .. }) => passes_beside(1),
        Op::Normalize(Normalize::GroupNorm { .. }) if row.axis == 0 => first_at(0),
        // Windows slide over the axes from the third on.
        Op::Pool(Pool::Window(..) | Pool::WindowArgMax(_) | Pool::Resize(_)) if row.axis < 2 => first_at(row.axis),
        Op::Scan(scan) => passes_beside(scan.axis()),
        Op::Source(Source::Constant(literal)) if literal.len() == 1 => {
            let ty = literal.ty.with_shape(row.cut(&literal.ty.shape)?);
            Some((Op::Source(Source::Constant(Literal { ty, values: literal.values.clone() })), Vec::new()))
        }
        Op::Source(Source::Iota { axis, ty }) if *axis != row.axis => {
            Some((Op::Source(Source::Iota { axis: *axis, ty: ty.with_shape(row.cut(&ty.shape)?) }), Vec::new()))
        }
        Op::Normalize(_) | Op::Pool(_) | Op::Source(_) | Op::Promise | Op::Control(_) => None,
    })
}

/// The first operand is needed so, the others in full.
fn first_of(count: usize, need: Need) -> Vec<Need> {
    let mut needs = vec![Need::Full; count];
    if let Some(first) = needs.first_mut() {
        *first = need;
    }
    needs
}

fn linear_needs(linear: &Linear, operands: &[&TensorType], row: &Row) -> Option<Vec<Need>> {
    let Linear::Dot(dot) = linear else {
        // A convolution walks the samples of a batch one by one.
        return (row.axis == 0).then(|| first_of(operands.len(), Need::Row(row.clone())));
    };
    let (left, right) = (operands.first()?, operands.get(1)?);
    let (left_free, right_free) = (dot.left_free(left.rank()), dot.right_free(right.rank()));
    let mut needs = vec![Need::Full; operands.len()];
    let at = |axis: usize| Need::Row(row.along(axis));
    if let Some(&(left, right)) = dot.batch.get(row.axis) {
        *needs.first_mut()? = at(left);
        *needs.get_mut(1)? = at(right);
        return Some(needs);
    }
    let free = row.axis.checked_sub(dot.batch.len())?;
    match free.checked_sub(left_free.len()) {
        None => *needs.first_mut()? = at(*left_free.get(free)?),
        Some(place) => {
            *needs.get_mut(1)? = at(*right_free.get(place)?);
            if let Some(bias) = needs.get_mut(2) {
                *bias = at(place);
            }
        }
    }
    Some(needs)
}

/// The operand's axis that is the result's `axis`; `None` for one that is reduced.
fn kept_axis(reduce: &Reduce, operands: &[&TensorType], axis: usize) -> Option<usize> {
    if reduce.keep {
        return (!reduce.axes.contains(&axis)).then_some(axis);
    }
    (0..operands.first()?.rank()).filter(|candidate| !reduce.axes.contains(candidate)).nth(axis)
}

fn select_needs(select: &Select, operands: &[&TensorType], row: &Row) -> Option<Vec<Need>> {
    let index_rank = operands.get(1).map_or(0, |index| index.rank());
    let first = |axis: usize| Some(first_of(operands.len(), Need::Row(row.along(axis))));
    match select {
        // Operand and index walk the batch axes together; the index's other axes stand in the place of the axis.
        Select::Gather { batch, .. } | Select::ScatterAdd { batch, .. } if row.axis < *batch => {
            Some(vec![Need::Row(row.clone()); operands.len()])
        }
        Select::Gather { axis, .. } | Select::ScatterAdd { axis, .. } if row.axis < *axis => first(row.axis),
        Select::Gather { axis, batch } => {
            let chosen = index_rank.checked_sub(*batch)?;
            match row.axis - axis {
                place if place < chosen => Some(vec![Need::Full, Need::Row(row.along(batch + place))]),
                _ => first((row.axis + 1).checked_sub(chosen)?),
            }
        }
        Select::ScatterAdd { axis, batch, .. } if row.axis > *axis => {
            first((row.axis + index_rank.checked_sub(*batch)?).checked_sub(1)?)
        }
        Select::ScatterAdd { .. } => None,
        Select::ArgMax { axis } | Select::ArgMin { axis } => first(row.axis + usize::from(row.axis >= *axis)),
        Select::TopK { axis, .. } if row.axis != *axis => first(row.axis),
        Select::OneHot { .. } if row.axis < operands.first()?.rank() => first(row.axis),
        Select::TopK { .. }
        | Select::OneHot { .. }
        | Select::NonZero { .. }
        | Select::LexSort
        | Select::NonMaxSuppression => None,
    }
}

fn movement_row(
    movement: &Movement,
    operands: &[&TensorType],
    result: &TensorType,
    row: &Row,
) -> Result<Option<(Op, Vec<Need>)>, DimError> {
    let Some(operand) = operands.first() else { return Ok(None) };
    let shape = row.cut(&result.shape)?;
    let axis = row.axis;
    let untouched = |places: &[Dim], steps: &[i64]| {
        places.get(axis) == Some(&Dim::Known(0))
            && steps.get(axis) == Some(&1)
            && result.shape.get(axis) == operand.shape.get(axis)
    };
    let made = |movement: Movement, need: Need| Some((Op::Movement(movement), vec![need]));
    Ok(match movement {
        Movement::Reshape { .. } => {
            let below = through_reshape(&operand.shape, &result.shape, row)?;
            below.and_then(|below| made(Movement::Reshape { shape }, Need::Row(below)))
        }
        Movement::Transpose { perm } => {
            let below = perm.get(axis).map(|&source| Need::Row(row.along(source)));
            below.and_then(|below| made(movement.clone(), below))
        }
        Movement::Broadcast { .. } => made(Movement::Broadcast { shape }, below_broadcast(operand, result, row)),
        Movement::Concat { axis: joined } if *joined != axis => {
            Some((Op::Movement(movement.clone()), vec![Need::Row(row.clone()); operands.len()]))
        }
        Movement::Slice { starts, steps, .. } if untouched(starts, steps) => {
            made(Movement::Slice { starts: starts.clone(), steps: steps.clone(), shape }, Need::Row(row.clone()))
        }
        Movement::Pad { before, steps, value, .. } if untouched(before, steps) => {
            let pad = Movement::Pad { before: before.clone(), steps: steps.clone(), value: *value, shape };
            made(pad, Need::Row(row.clone()))
        }
        Movement::Concat { .. } | Movement::Slice { .. } | Movement::Pad { .. } => None,
    })
}

/// A broadcast's operand is cut where it has the axis, and taken whole where the axis is made by copying.
fn below_broadcast(operand: &TensorType, result: &TensorType, row: &Row) -> Need {
    let new = result.rank().saturating_sub(operand.rank());
    let source = row.axis.checked_sub(new);
    match source.filter(|&axis| operand.shape.get(axis) == result.shape.get(row.axis)) {
        Some(axis) => Need::Row(row.along(axis)),
        None => Need::Full,
    }
}

/// The row of a reshape's operand, of shape `from`, that becomes `row` of its result, of shape `to`: the cut factor
/// must lie within one axis on both sides.
fn through_reshape(from: &[Dim], to: &[Dim], row: &Row) -> Result<Option<Row>, DimError> {
    let (Some(before), Some(after)) = (to.get(..row.axis), to.get(row.axis + 1..)) else { return Ok(None) };
    let before = product(before)?.mul(&row.outer)?;
    let after = product(after)?.mul(&row.inner)?;
    let mut leading = Dim::Known(1);
    for (axis, length) in from.iter().enumerate() {
        let trailing = product(from.get(axis + 1..).unwrap_or_default())?;
        if let (Some(outer), Some(inner)) = (exact_quotient(&before, &leading)?, exact_quotient(&after, &trailing)?)
            && outer.mul(&row.size)?.mul(&inner)? == *length
        {
            return Ok(Some(Row { axis, outer, size: row.size.clone(), inner, start: row.start.clone() }));
        }
        leading = leading.mul(length)?;
    }
    Ok(None)
}

/// `dividend / divisor`, if that is exact for every size of the symbols.
fn exact_quotient(dividend: &Dim, divisor: &Dim) -> Result<Option<Dim>, DimError> {
    if *divisor == Dim::Known(0) {
        return Ok(None);
    }
    let quotient = dividend.floor_div(divisor)?;
    Ok((quotient.mul(divisor)? == *dividend).then_some(quotient))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dims(text: &str) -> Vec<Dim> {
        let dim = |word: &str| {
            let factors = word.split('*').map(|factor| factor.parse().map_or_else(|_| Dim::symbol(factor), Dim::Known));
            product(&factors.collect::<Vec<_>>()).unwrap()
        };
        text.split_whitespace().map(dim).collect()
    }

    /// The operand's row as `axis outer size inner`.
    fn below(from: &str, to: &str, row: &Row) -> Option<String> {
        let row = through_reshape(&dims(from), &dims(to), row).unwrap()?;
        Some(format!("{} {} {} {}", row.axis, row.outer, row.size, row.inner))
    }

    #[test]
    fn rows_pass_reshapes_that_keep_their_factor_in_one_axis() {
        let token = Row::of_axis(1, Dim::symbol("S"), Dim::Known(0));
        assert_eq!(below("N S 12", "N S 3 4", &token).unwrap(), "1 1 S 1");
        assert_eq!(below("N*S 12", "N S 12", &token).unwrap(), "0 N S 1");
        assert_eq!(below("N S*3 4", "N S 3 4", &token).unwrap(), "1 1 S 3");
        assert_eq!(below("12*N*S", "N S 12", &token).unwrap(), "0 N S 12");
        let merged = Row { axis: 0, outer: Dim::symbol("N"), ..Row::of_axis(0, Dim::symbol("S"), Dim::Known(0)) };
        assert_eq!(below("N S 12", "N*S 12", &merged).unwrap(), "1 1 S 1");
        assert_eq!(below("N S 12", "N*S 3 4", &merged).unwrap(), "1 1 S 1");
        let half = Row::of_axis(1, Dim::Known(6), Dim::Known(2));
        assert_eq!(below("N 2 3", "N 6", &half), None);
        assert_eq!(below("N 2 3 4", "N 6 4", &half), None);
    }
}
