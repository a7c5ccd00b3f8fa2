//! Graph inputs whose value is fixed when compiling: they are constants of the program.

use lrpc_ir::ops::source::LiteralValues;
use lrpc_ir::ops::{Literal, Source};
use lrpc_ir::types::{Float, TensorType};
use lrpc_ir::{DType, Dim, Op, Origin};

use super::finding::{Lowered, invalid, unsupported};
use super::known::Known;
use super::lowering::{Lowering, Slot};
use crate::data::Tensor;
use crate::onnx::proto::ValueInfoProto;

/// Lets the input be the elements of `tensor`.
///
/// # Errors
/// An element type or a shape that is not the declared one, integers beyond 53 bits, and more elements than are written
/// in a graph.
pub(super) fn define<'m>(lowering: &mut Lowering<'m>, input: &'m ValueInfoProto, tensor: &Tensor) -> Lowered {
    let name = input.name();
    let declared = super::declared_type(input)?;
    let shape: Vec<Dim> = tensor.shape().iter().map(|size| super::known::dim(*size)).collect();
    let fits = declared.rank() == shape.len() && declared.shape.iter().zip(&shape).all(|(a, b)| a.may_equal(b));
    let is_float = DType::from_name(tensor.dtype().name()).is_some_and(DType::is_float);
    if !fits || is_float != declared.dtype.is_float() {
        return invalid(format!(
            "--given {name}: the model declares {declared}; given is {} {:?}",
            tensor.dtype().name(),
            tensor.shape()
        ));
    }
    if tensor.len() > Literal::MAX_ELEMENTS {
        let (count, most) = (tensor.len(), Literal::MAX_ELEMENTS);
        return unsupported(format!("--given {name}: it has {count} elements, at most {most} are written in a graph"));
    }
    let numbers = tensor.to_f64();
    let ty = TensorType::new(declared.dtype, shape);
    let values = if is_float {
        LiteralValues::Floats(numbers.into_iter().map(Float).collect())
    } else {
        let exact = numbers.iter().all(|number| number.abs() < 2f64.powi(53));
        if !exact {
            return unsupported(format!("--given {name}: an integer is beyond 53 bits"));
        }
        LiteralValues::Integers(numbers.into_iter().map(|number| number as i64).collect())
    };
    let known = match &values {
        LiteralValues::Integers(values) => Some(Known {
            dtype: declared.dtype,
            shape: tensor.shape().to_vec(),
            elements: values.iter().map(|value| Dim::Known(*value)).collect(),
        }),
        LiteralValues::Floats(_) => None,
    };
    let value = lowering.add(Op::Source(Source::Constant(Literal { ty, values })), &[], name, &Origin::default())?;
    lowering.define(name, Slot::Value(value, known));
    Ok(())
}
