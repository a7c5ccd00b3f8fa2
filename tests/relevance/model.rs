//! From a case's graph in JSON to an ONNX model and to tensors.

use std::collections::BTreeMap;

use half::f16;
use lrpc::data::{DType, Tensor};
use lrpc::onnx::proto::attribute_proto::AttributeType;
use lrpc::onnx::proto::tensor_shape_proto::{Dimension, dimension};
use lrpc::onnx::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto, type_proto,
};
use prost::Message as _;
use serde_json::Value;

/// The bytes of the ONNX model.
pub fn onnx_bytes(graph: &Value, opset: i64) -> Vec<u8> {
    let import = |domain: &str, version| OperatorSetIdProto { domain: Some(domain.into()), version: Some(version) };
    let model = ModelProto {
        ir_version: Some(13),
        opset_import: vec![import("", opset), import("com.microsoft", 1)],
        graph: Some(graph_proto(graph, "case")),
        ..Default::default()
    };
    model.encode_to_vec()
}

fn graph_proto(graph: &Value, name: &str) -> GraphProto {
    let input = |(name, tensor): (&String, &Value)| ValueInfoProto {
        name: Some(name.clone()),
        r#type: Some(tensor_type(tensor)),
        ..Default::default()
    };
    let output = |name: &Value| ValueInfoProto { name: Some(text(name).into()), ..Default::default() };
    let initializer = |(name, tensor): (&String, &Value)| tensor_proto(tensor, Some(name));
    GraphProto {
        name: Some(name.into()),
        node: list(&graph["nodes"]).iter().map(node_proto).collect(),
        input: entries(&graph["inputs"]).map(input).collect(),
        output: list(&graph["outputs"]).iter().map(output).collect(),
        initializer: entries(&graph["initializers"]).map(initializer).collect(),
        ..Default::default()
    }
}

fn node_proto(node: &Value) -> NodeProto {
    let names = |value: &Value| list(value).iter().map(|name| text(name).to_string()).collect();
    NodeProto {
        op_type: Some(text(&node["op"]).into()),
        name: Some(text(&node["name"]).into()),
        domain: node["domain"].as_str().map(Into::into),
        input: names(&node["inputs"]),
        output: names(&node["outputs"]),
        attribute: entries(&node["attributes"]).map(|(name, value)| attribute_proto(name, value)).collect(),
        ..Default::default()
    }
}

fn attribute_proto(name: &str, value: &Value) -> AttributeProto {
    let (kind, value) = entries(value).next().unwrap();
    let mut made = AttributeProto { name: Some(name.into()), ..Default::default() };
    let number = |value: &Value| value.as_f64().unwrap() as f32;
    let ty = match kind.as_str() {
        "int" => {
            made.i = value.as_i64();
            AttributeType::Int
        }
        "float" => {
            made.f = Some(number(value));
            AttributeType::Float
        }
        "string" => {
            made.s = Some(text(value).to_string().into());
            AttributeType::String
        }
        "ints" => {
            made.ints = list(value).iter().map(|item| item.as_i64().unwrap()).collect();
            AttributeType::Ints
        }
        "floats" => {
            made.floats = list(value).iter().map(number).collect();
            AttributeType::Floats
        }
        "strings" => {
            made.strings = list(value).iter().map(|item| text(item).to_string().into()).collect();
            AttributeType::Strings
        }
        "tensor" => {
            made.t = Some(Box::new(tensor_proto(value, None)));
            AttributeType::Tensor
        }
        "graph" => {
            made.g = Some(Box::new(graph_proto(value, name)));
            AttributeType::Graph
        }
        other => panic!("an attribute of kind {other}"),
    };
    made.r#type = Some(ty as i32);
    made
}

fn tensor_type(tensor: &Value) -> TypeProto {
    let dim = |size: &i64| Dimension { value: Some(dimension::Value::DimValue(*size)), ..Default::default() };
    let shape = TensorShapeProto { dim: shape_of(tensor).iter().map(dim).collect() };
    let tensor = type_proto::Tensor { elem_type: Some(onnx_type(text(&tensor["dtype"]))), shape: Some(shape) };
    TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() }
}

fn tensor_proto(tensor: &Value, name: Option<&str>) -> TensorProto {
    TensorProto {
        name: name.map(Into::into),
        data_type: Some(onnx_type(text(&tensor["dtype"]))),
        dims: shape_of(tensor),
        raw_data: Some(bytes_of(tensor).into()),
        ..Default::default()
    }
}

fn shape_of(tensor: &Value) -> Vec<i64> {
    list(&tensor["shape"]).iter().map(|size| size.as_i64().unwrap()).collect()
}

/// The element type's number in ONNX.
fn onnx_type(dtype: &str) -> i32 {
    match dtype {
        "float32" => 1,
        "uint8" => 2,
        "int8" => 3,
        "int32" => 6,
        "int64" => 7,
        "bool" => 9,
        "float16" => 10,
        "float64" => 11,
        other => panic!("elements of type {other}"),
    }
}

/// A number of the corpus; infinities are text.
pub fn number(value: &Value) -> f64 {
    match value {
        Value::String(text) if text == "inf" => f64::INFINITY,
        Value::String(text) if text == "-inf" => f64::NEG_INFINITY,
        Value::Bool(value) => f64::from(u8::from(*value)),
        other => other.as_f64().unwrap(),
    }
}

fn bytes_of(tensor: &Value) -> Vec<u8> {
    let data = list(&tensor["data"]);
    let integers = || data.iter().map(|value| value.as_i64().unwrap());
    match text(&tensor["dtype"]) {
        "float32" => data.iter().flat_map(|value| (number(value) as f32).to_le_bytes()).collect(),
        "float64" => data.iter().flat_map(|value| number(value).to_le_bytes()).collect(),
        "float16" => data.iter().flat_map(|value| f16::from_f64(number(value)).to_le_bytes()).collect(),
        "int64" => integers().flat_map(i64::to_le_bytes).collect(),
        "int32" => integers().flat_map(|value| (value as i32).to_le_bytes()).collect(),
        "bool" | "int8" | "uint8" => data.iter().map(|value| number(value) as i64 as u8).collect(),
        other => panic!("elements of type {other}"),
    }
}

/// A tensor that the model reads.
pub fn tensor(value: &Value) -> Tensor {
    let dtype = match text(&value["dtype"]) {
        "float32" => DType::F32,
        "float64" => DType::F64,
        "float16" => DType::F16,
        "int64" => DType::I64,
        "int32" => DType::I32,
        "int8" => DType::I8,
        "uint8" => DType::U8,
        "bool" => DType::Bool,
        other => panic!("elements of type {other}"),
    };
    let shape = shape_of(value).iter().map(|&size| size as usize).collect();
    Tensor::new(dtype, shape, bytes_of(value)).unwrap()
}

/// The tensors of an object, by name.
pub fn tensors(value: &Value) -> BTreeMap<String, Tensor> {
    entries(value).map(|(name, value)| (name.clone(), tensor(value))).collect()
}

/// The text of a string.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// The items of a list.
pub fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

/// The entries of an object; none of what is not there.
pub fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}
