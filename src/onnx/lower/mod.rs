//! Lowering: an ONNX graph becomes the forward region of an [`lrpc_ir::Graph`].
//!
//! Every ONNX operator is one line of a table (see [`operators`]) with a plain function that builds primitives in the
//! node's place. Integer arithmetic on shapes is evaluated on the way and leaves no nodes. Values keep their ONNX
//! names. Types come from the primitives' own inference, not from what the model declares.

mod attention;
mod batch_norm;
mod bits;
mod columns;
mod control;
mod determinant;
mod einsum;
mod elementwise;
mod evaluate;
mod features;
mod finding;
mod flex_attention;
mod gather;
mod given;
mod known;
mod linear;
mod linear_attention;
mod loops;
mod loss;
mod lowering;
mod microsoft;
mod movement;
mod nested;
mod normalize;
mod number;
mod optional;
mod pad;
mod pool;
mod qlinear;
mod quantize;
mod recurrent;
mod reduce;
mod refused;
mod resize;
mod roi;
mod rotary;
mod sample;
mod scan;
mod scatter;
mod select;
mod signal;
mod site;
mod sizes;
mod slice;
mod source;
mod structure;
mod table;
mod terms;
#[cfg(test)]
mod tests;
mod unique;
mod window;

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use lrpc_ir::graph::{GraphResult, ModelReference};
use lrpc_ir::ops::Source;
use lrpc_ir::types::TensorType;
use lrpc_ir::{Dim, Graph, Op, Origin, Region, Value};

pub use finding::{Finding, FindingKind, Findings, ImportError, Operator};
pub use table::{OpDef, operators};

use super::file::{ModelFile, canonical_domain};
use super::operators::versions;
use super::proto::tensor_shape_proto::dimension;
use super::proto::{NodeProto, ValueInfoProto, type_proto};
use super::random::Weights;
use super::tensor::element_type;
use super::wire::Limits;
use crate::data::Tensor;
use finding::{Lowered, Refusal, invalid, unsupported};
use lowering::{Keep, Lowering, Slot};
use site::Site;

/// How to import.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportOptions {
    /// The largest model that is read.
    pub limits: Limits,
    /// Graph inputs that are constants of the program instead, by name: at most 64 elements each.
    pub given: BTreeMap<String, Tensor>,
    /// Which values the initializers have.
    pub weights: Weights,
}

/// A model as a graph.
#[derive(Debug)]
pub struct Imported {
    /// The forward region, the inputs and the weights that it uses, and a result `output/NAME` for each output. Its
    /// model reference holds the path as it was given.
    pub graph: Graph,
    /// The model file, which holds the weights.
    pub file: ModelFile,
    /// What each ONNX name stands for, where it is computed and an output depends on it. A name that is no value's own
    /// is that of a node that moves nothing (`Identity`, `Dropout`).
    pub values: BTreeMap<String, Value>,
}

/// Reads the model at `path` and lowers its graph.
///
/// # Errors
/// When the file is refused, or with everything in the graph that is invalid or not supported.
pub fn import(path: &Path, options: &ImportOptions) -> Result<Imported, ImportError> {
    let file = ModelFile::open_with(path, &options.limits, options.weights)?;
    let (graph, values) = lower(&file, &options.given)
        .map_err(|findings| ImportError::Graph { file: path.to_path_buf(), findings: Findings(findings) })?;
    Ok(Imported { graph, file, values })
}

fn lower(file: &ModelFile, given: &BTreeMap<String, Tensor>) -> Result<(Graph, BTreeMap<String, Value>), Vec<Finding>> {
    let findings = structure::check(file);
    if !findings.is_empty() {
        return Err(findings);
    }
    let mut import = Import { lowering: Lowering::new(file), findings: Vec::new() };
    import.given(given);
    import.sources();
    import.nodes();
    import.results();
    if !import.findings.is_empty() {
        return Err(import.findings);
    }
    let mut values = import.lowering.values();
    let mut graph = import.lowering.graph;
    graph.remove_dead();
    values.retain(|_, value| graph.contains(value.node));
    graph.model = Some(ModelReference {
        path: file.path().to_string_lossy().into_owned(),
        bytes: file.size(),
        structure: file.structure_hash(),
    });
    Ok((graph, values))
}

struct Import<'m> {
    lowering: Lowering<'m>,
    findings: Vec<Finding>,
}

impl<'m> Import<'m> {
    /// Inputs that are constants of the program.
    fn given(&mut self, given: &BTreeMap<String, Tensor>) {
        let inputs = &self.lowering.file.graph().input;
        for (name, tensor) in given {
            match inputs.iter().find(|input| input.name() == name) {
                Some(input) => {
                    let outcome = given::define(&mut self.lowering, input, tensor);
                    self.refuse_value(input.name(), outcome);
                }
                None => {
                    let names: Vec<&str> = inputs.iter().map(|input| input.name()).collect();
                    let reason = format!("--given {name}: the model has no such input; it has {}", names.join(", "));
                    self.report(Refusal::Invalid(reason), name.clone(), None);
                }
            }
        }
    }

    /// Initializers and graph inputs. An input with an initializer of its name is a parameter with a default, as files
    /// up to IR version 3 write all their weights.
    fn sources(&mut self) {
        let graph = self.lowering.file.graph();
        for tensor in &graph.initializer {
            if self.lowering.slot(tensor.name()).is_some() {
                continue;
            }
            match self.lowering.file.initializer(tensor) {
                Some(data) => self.lowering.define_tensor(tensor.name(), data, Keep::Reference),
                None => self.refuse_value(tensor.name(), unsupported("its element type is not supported")),
            }
        }
        for name in graph.sparse_initializer.iter().filter_map(|tensor| Some(tensor.values.as_ref()?.name())) {
            self.refuse_value(name, unsupported("sparse initializers are not supported"));
        }
        for input in &graph.input {
            if self.lowering.slot(input.name()).is_none() {
                let added = self.input(input);
                self.refuse_value(input.name(), added);
            }
        }
    }

    fn input(&mut self, input: &'m ValueInfoProto) -> Lowered {
        let ty = declared_type(input)?;
        let origin = Origin::default();
        let op = Op::Source(Source::Input(ty));
        let value = self.lowering.graph.add(Region::Header, op, &[], input.name(), origin)?;
        self.lowering.define(input.name(), Slot::Value(value, None));
        Ok(())
    }

    fn refuse_value(&mut self, name: &'m str, outcome: Lowered) {
        let Err(refusal) = outcome else { return };
        self.lowering.define(name, Slot::Refused);
        self.report(refusal, name.to_string(), None);
    }

    fn report(&mut self, refusal: Refusal, node: String, operator: Option<Operator>) {
        let (kind, reason) = match refusal {
            Refusal::Unsupported(reason) => (FindingKind::Unsupported, reason),
            Refusal::Invalid(reason) => (FindingKind::Invalid, reason),
            Refusal::Follows => return,
        };
        self.findings.push(Finding { kind, node, operator, reason });
    }

    fn nodes(&mut self) {
        let file = self.lowering.file;
        let used = structure::used_names(file.graph());
        for node in &file.graph().node {
            if let Err(refusal) = lower_node(&mut self.lowering, node, &used) {
                for output in &node.output {
                    self.lowering.define(output, Slot::Refused);
                }
                self.report(refusal, structure::node_name(node), Some(structure::operator(file, node)));
            }
        }
    }

    fn results(&mut self) {
        for output in &self.lowering.file.graph().output {
            match self.result(output) {
                Ok(value) => {
                    let name = format!("output/{}", output.name());
                    self.lowering.graph.results.push(GraphResult { name, value });
                }
                Err(refusal) => self.report(refusal, output.name().to_string(), None),
            }
        }
    }

    /// The value of a graph output, which has to be what the model declares as far as that is in numbers.
    fn result(&mut self, output: &'m ValueInfoProto) -> Lowered<Value> {
        let value = self.lowering.value(output.name())?;
        let found = self.lowering.graph.ty(value);
        let Ok(declared) = declared_type(output) else { return Ok(value) };
        let clash = |(a, b): (&Dim, &Dim)| a.known().is_some() && b.known().is_some() && a != b;
        let differs = found.rank() != declared.rank() || found.shape.iter().zip(&declared.shape).any(clash);
        if found.dtype != declared.dtype || differs {
            return invalid(format!("the output is declared as {declared} and computed as {found}"));
        }
        Ok(value)
    }
}

/// The oldest opset that the lowerings are written for: operands broadcast as they do today from there on.
const FIRST_LOWERED: i64 = 7;

/// The opset by which a node of `opset` is read. Of older opsets, operators can be read that have not changed since.
fn read_as(operator: &str, opset: i64) -> Lowered<i64> {
    let changed = |version: &i64| opset < *version && *version <= FIRST_LOWERED;
    if opset < FIRST_LOWERED && versions(operator).iter().any(changed) {
        return unsupported(format!(
            "its definition changed between opsets {opset} and {FIRST_LOWERED}: convert the model with \
             onnx.version_converter"
        ));
    }
    Ok(opset.max(FIRST_LOWERED))
}

/// Lowers one node, into the value slots of its outputs.
fn lower_node<'m>(lowering: &mut Lowering<'m>, node: &'m NodeProto, used: &HashSet<&str>) -> Lowered {
    let domain = canonical_domain(node.domain());
    let Some(opset) = lowering.file.opset_of(node) else {
        return invalid("the model does not import the operator's domain");
    };
    let opset = if domain.is_empty() { read_as(node.op_type(), opset)? } else { opset };
    let def = table::find(domain, node.op_type(), opset)?;
    let mut site = Site::new(lowering, node, opset);
    match (def.fold)(&mut site)? {
        Some(known) => site.output_known(0, known),
        None => (def.lower)(&mut site)?,
    }
    site.check_attributes()?;
    let missing = |name: &&String| used.contains(name.as_str()) && lowering.slot(name).is_none();
    match node.output.iter().find(missing) {
        Some(name) => unsupported(format!("its output {name:?} is used, which is not computed")),
        None => Ok(()),
    }
}

/// The type that the model declares for an input or output. A dimension without name gets a symbol from the value's
/// name and the axis.
fn declared_type(info: &ValueInfoProto) -> Lowered<TensorType> {
    let Some(type_proto::Value::TensorType(tensor)) = info.r#type.as_ref().and_then(|ty| ty.value.as_ref()) else {
        return unsupported("it is no tensor");
    };
    let Some(dtype) = element_type(tensor.elem_type()) else {
        return unsupported("its element type is not supported");
    };
    let Some(shape) = &tensor.shape else { return unsupported("the model declares no shape for it") };
    let dim = |(axis, dim): (usize, &super::proto::tensor_shape_proto::Dimension)| match &dim.value {
        Some(dimension::Value::DimValue(size)) if *size >= 0 => Ok(Dim::Known(*size)),
        Some(dimension::Value::DimValue(size)) if *size < -1 => invalid(format!("axis {axis} has the size {size}")),
        Some(dimension::Value::DimParam(name)) if !name.is_empty() => Ok(Dim::symbol(name)),
        _ => Ok(Dim::symbol(&format!("{}_{axis}", info.name()))),
    };
    let dims = shape.dim.iter().enumerate().map(dim).collect::<Lowered<Vec<Dim>>>()?;
    let ty = TensorType::new(dtype, dims);
    let known = ty.shape.iter().filter_map(Dim::known);
    if known.filter(|size| *size > 0).try_fold(1_i64, |product, size| product.checked_mul(size)).is_none() {
        return invalid(format!("its shape {ty} has more elements than can be counted"));
    }
    Ok(ty)
}
