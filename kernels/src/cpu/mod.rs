//! The backend that runs everywhere.
//!
//! [`Executor`] holds the memory of a plan and runs its steps one after the other; each family of kernels has a file of
//! its own, and cuts its work into tasks by the shapes alone.

mod arena;
mod audit;
mod blame;
mod boxes;
mod control;
mod elementwise;
mod executor;
mod finite;
mod functions;
mod fused;
mod gemm;
mod linear;
mod movement;
mod noise;
mod normalize;
mod pool;
mod real;
mod reduce;
mod scan;
mod select;
mod source;
mod spatial;
mod view;

pub(crate) use elementwise::to_f64;
pub use executor::{CheckFinite, Executor, LedgerSums, LedgerTotal, Options, Outcome, Progress};

use lrpc_ir::Op;
use lrpc_ir::ops::Movement;
use lrpc_ir::plan::{KernelCall, Step};

use self::arena::Operand;
use self::view::{View, ViewMut};
use crate::error::RunErrorKind;

/// Runs one step that needs nothing but its operands.
fn call(step: &Step, operands: &[Operand<'_>], outputs: &mut [ViewMut<'_>]) -> Result<(), RunErrorKind> {
    let mut views: Vec<View<'_>> = Vec::with_capacity(operands.len());
    for operand in operands {
        match operand {
            Operand::Separate(view) => views.push(*view),
            Operand::InPlace(_) => return Err(RunErrorKind::plan("only fused regions work in place")),
        }
    }
    let [output] = outputs else { return Err(RunErrorKind::plan("a kernel has one result")) };
    match &step.call {
        KernelCall::Op(op) => primitive(op, &views, output),
        KernelCall::Sum => audit::sum(false, &views, output),
        KernelCall::SumOfAbsolutes => audit::sum(true, &views, output),
        KernelCall::Fused(_) | KernelCall::Loop { .. } | KernelCall::While { .. } => {
            Err(RunErrorKind::plan("a call that was not compiled"))
        }
    }
}

fn primitive(op: &Op, inputs: &[View<'_>], output: &mut ViewMut<'_>) -> Result<(), RunErrorKind> {
    match op {
        Op::Source(op) => source::run(op, inputs, output),
        Op::Promise => {
            let [x] = view::operands(inputs)?;
            source::copy(x, output)
        }
        Op::Elementwise(op) => elementwise::run(op, inputs, output),
        Op::Linear(op) => linear::run(op, inputs, output),
        Op::Reduce(op) => reduce::run(op, inputs, output),
        Op::Movement(op) => movement::run(op, inputs, output),
        Op::Select(op) => select::run(op, inputs, output),
        Op::Pool(op) => pool::run(op, inputs, output),
        Op::Normalize(op) => normalize::run(op, inputs, output),
        Op::Scan(op) => scan::run(op, inputs, output),
        Op::Control(op) => Err(RunErrorKind::Unsupported { call: op.mnemonic().into() }),
    }
}

/// Whether the step only gives its operand's bytes another name, so that nothing is to be done where both lie at the
/// same place.
fn only_renames(step: &Step) -> bool {
    matches!(step.call, KernelCall::Op(Op::Promise | Op::Movement(Movement::Reshape { .. })))
}
