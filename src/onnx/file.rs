//! A model file, opened: mapped, bounded, decoded, its tensors located.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message as _;

use super::error::{ModelError, ModelErrorReason as Reason, TensorError};
use super::external::ExternalData;
use super::proto::tensor_proto::DataLocation;
use super::proto::{GraphProto, ModelProto, NodeProto, TensorProto};
use super::random::Weights;
use super::tensor::TensorRef;
use super::wire::{self, Limits};
use super::{functions, hash, map};

/// The oldest version of the file format that is read: the first that names its operator sets.
pub const OLDEST_IR: i64 = 3;
/// The newest version of the file format that is read (that of onnx 1.23).
pub const NEWEST_IR: i64 = 14;
/// The oldest version of the operator set `ai.onnx` that is read.
pub const OLDEST_OPSET: i64 = 1;
/// The newest version of the operator set `ai.onnx` that is read (that of onnx 1.23).
pub const NEWEST_OPSET: i64 = 28;

/// The first bytes of formats that are often taken for ONNX.
const OTHER_FORMATS: [(usize, &[u8], &str); 4] = [
    (0, b"PK\x03\x04", "a zip archive (as PyTorch and numpy write them)"),
    (0, b"\x89HDF\r\n", "an HDF5 file (as Keras writes them)"),
    (0, b"GGUF", "a GGUF file"),
    (4, b"TFL3", "a TensorFlow Lite model"),
];

/// An ONNX model file. Its weights stay in the file, and in the files of external data, until they are asked for.
#[derive(Debug)]
pub struct ModelFile {
    path: PathBuf,
    bytes: Bytes,
    /// Without its graph.
    model: ModelProto,
    /// Without calls of the model's functions.
    graph: GraphProto,
    versions: functions::Versions,
    external: ExternalData,
    weights: BTreeMap<String, Location>,
    values: Weights,
}

/// Where a weight stands.
#[derive(Clone, Debug)]
struct Location {
    /// From the main graph inwards: a node, and its attribute that holds the next graph.
    path: Vec<(usize, usize)>,
    site: Site,
}

/// Where a weight stands in its graph.
#[derive(Clone, Copy, Debug)]
enum Site {
    Initializer(usize),
    Constant(usize),
}

impl ModelFile {
    /// Opens the model at `path`, and the files with its external data, which must lie in the same folder or below.
    /// What is read is bounded by `limits` before anything is allocated for it.
    ///
    /// # Errors
    /// When a file cannot be read, is not an ONNX model of a version that we know, exceeds the limits, or has a
    /// tensor whose type, shape and data do not fit together.
    pub fn open(path: &Path, limits: &Limits) -> Result<Self, ModelError> {
        Self::open_with(path, limits, Weights::Stored)
    }

    /// As [`ModelFile::open`], with these values of the initializers; of random ones the external data need not be
    /// there.
    ///
    /// # Errors
    /// As [`ModelFile::open`].
    pub fn open_with(path: &Path, limits: &Limits, values: Weights) -> Result<Self, ModelError> {
        Self::open_reason(path, limits, values).map_err(|reason| ModelError { file: path.to_path_buf(), reason })
    }

    fn open_reason(path: &Path, limits: &Limits, values: Weights) -> Result<Self, Reason> {
        let bytes = map::map_file(path)?;
        check_format(&bytes)?;
        wire::check(&bytes, limits)?;
        let mut model = ModelProto::decode(bytes.clone())?;
        let graph = model.graph.take().ok_or(Reason::NoGraph)?;
        check_versions(&model)?;
        let mut external = ExternalData::default();
        let folder = folder_of(path);
        let mut check = |name: &dyn Fn() -> String, tensor: &TensorProto| {
            check_tensor(tensor, &mut external, folder).map_err(|reason| Reason::Tensor { name: name(), reason })
        };
        visit_nodes(&graph.node, &mut check)?;
        for function in &model.functions {
            visit_nodes(&function.node, &mut check)?;
        }
        for tensor in &graph.initializer {
            check_initializer(tensor, &mut external, folder, values)
                .map_err(|reason| Reason::Tensor { name: tensor.name().to_string(), reason })?;
        }
        let (graph, versions) = functions::inline(&model, graph)?;
        let mut weights = BTreeMap::new();
        index_weights(&graph, &mut Vec::new(), "", &mut weights)?;
        Ok(Self { path: path.to_path_buf(), bytes, model, graph, versions, external, weights, values })
    }

    /// The path by which the file was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The size of the model file in bytes, without external data.
    pub fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// The decoded model, without its graph.
    pub fn model(&self) -> &ModelProto {
        &self.model
    }

    /// The main graph, with the bodies of the model's functions in the place of their calls.
    pub fn graph(&self) -> &GraphProto {
        &self.graph
    }

    /// The version of the operator set `domain` that the model imports; `""` and `"ai.onnx"` are one domain.
    pub fn opset(&self, domain: &str) -> Option<i64> {
        let domain = canonical_domain(domain);
        let import = self.model.opset_import.iter().find(|import| canonical_domain(import.domain()) == domain);
        import.map(|import| import.version())
    }

    /// The version of a node's operator: that of the function that it comes from, or that which the model imports.
    pub fn opset_of(&self, node: &NodeProto) -> Option<i64> {
        self.versions.get(node.name()).copied().or_else(|| self.opset(node.domain()))
    }

    /// The names of all weights in order: initializers and outputs of `Constant` nodes. Those of a graph inside a node are
    /// called `OUTPUT/ATTRIBUTE/NAME`, after the node's first output and the attribute that holds the graph.
    pub fn weight_names(&self) -> impl Iterator<Item = &str> {
        self.weights.keys().map(String::as_str)
    }

    /// The weight with this name, as [`ModelFile::weight_names`] lists it. `None` if there is none, or its element type is
    /// one that we cannot read.
    pub fn weight(&self, name: &str) -> Option<TensorRef<'_>> {
        let Location { path, site } = self.weights.get(name)?;
        let mut graph = &self.graph;
        for (node, attribute) in path {
            graph = graph.node.get(*node)?.attribute.get(*attribute)?.g.as_deref()?;
        }
        match *site {
            Site::Initializer(index) if path.is_empty() => self.initializer(graph.initializer.get(index)?),
            Site::Initializer(index) => self.tensor(graph.initializer.get(index)?),
            Site::Constant(index) => self.constant(graph.node.get(index)?),
        }
    }

    /// The tensor that a `Constant` node of this file holds, in any of the attributes that the operator has for it;
    /// `None` if it holds text, a sparse tensor, or an element type that we cannot read.
    pub fn constant<'a>(&'a self, node: &'a NodeProto) -> Option<TensorRef<'a>> {
        node.attribute.iter().find_map(|attribute| match attribute.name() {
            "value" => self.tensor(attribute.t.as_deref()?),
            "value_float" => attribute.f.as_ref().map(TensorRef::scalar_f32),
            "value_floats" => Some(TensorRef::vector_f32(&attribute.floats)),
            "value_int" => attribute.i.as_ref().map(TensorRef::scalar_i64),
            "value_ints" => Some(TensorRef::vector_i64(&attribute.ints)),
            _ => None,
        })
    }

    /// The data of an initializer of the main graph; `None` if its element type is one that we cannot read.
    pub fn initializer<'a>(&'a self, tensor: &'a TensorProto) -> Option<TensorRef<'a>> {
        TensorRef::locate_initializer(tensor, &self.external, self.values).ok().flatten()
    }

    /// Which values the initializers have.
    pub fn values(&self) -> Weights {
        self.values
    }

    /// The data of `tensor`, which is part of this file; `None` if its element type is one that we cannot read.
    pub fn tensor<'a>(&'a self, tensor: &'a TensorProto) -> Option<TensorRef<'a>> {
        TensorRef::locate(tensor, &self.external).ok().flatten()
    }

    /// A hash of everything that decides about the compiled graph: the whole file without the data of floating-point
    /// initializers. Integer initializers are part of it, because shapes are made of them.
    /// SHA-256 in 64 hexadecimal digits.
    pub fn structure_hash(&self) -> String {
        hash::structure(&self.bytes)
    }

    /// A hash of all weights: names, types, shapes and elements, wherever they are stored.
    /// SHA-256 in 64 hexadecimal digits.
    pub fn weights_hash(&self) -> String {
        hash::weights(self.weight_names().filter_map(|name| Some((name, self.weight(name)?))))
    }
}

/// `""` for the default domain under any of its names.
pub(super) fn canonical_domain(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}

fn check_format(bytes: &[u8]) -> Result<(), Reason> {
    if bytes.is_empty() {
        return Err(Reason::Empty);
    }
    for (at, magic, format) in OTHER_FORMATS {
        if bytes.get(at..).is_some_and(|rest| rest.starts_with(magic)) {
            return Err(Reason::OtherFormat { format });
        }
    }
    Ok(())
}

fn check_versions(model: &ModelProto) -> Result<(), Reason> {
    let found = model.ir_version();
    if !(OLDEST_IR..=NEWEST_IR).contains(&found) {
        return Err(Reason::IrVersion { found });
    }
    let mut versions = BTreeMap::new();
    for import in &model.opset_import {
        let domain = canonical_domain(import.domain());
        if let Some(first) = versions.insert(domain, import.version())
            && first != import.version()
        {
            return Err(Reason::AmbiguousOpset { domain: domain.to_string(), first, second: import.version() });
        }
    }
    match versions.get("") {
        None if versions.is_empty() => Err(Reason::NoOpset),
        // A model of other domains alone.
        None => Ok(()),
        Some(found) if (OLDEST_OPSET..=NEWEST_OPSET).contains(found) => Ok(()),
        Some(found) => Err(Reason::Opset { found: *found }),
    }
}

/// The folder in which external data of the model at `path` must lie.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// What is called for each tensor, with a function that makes its name.
type TensorVisitor<'v> = dyn FnMut(&dyn Fn() -> String, &TensorProto) -> Result<(), Reason> + 'v;

/// Visits the tensors of a graph and of all graphs inside it; the scan has bounded how deep they are.
fn visit_graph(graph: &GraphProto, visit: &mut TensorVisitor) -> Result<(), Reason> {
    for tensor in &graph.initializer {
        visit(&|| tensor.name().to_string(), tensor)?;
    }
    visit_nodes(&graph.node, visit)
}

fn visit_nodes(nodes: &[NodeProto], visit: &mut TensorVisitor) -> Result<(), Reason> {
    for node in nodes {
        for attribute in &node.attribute {
            for tensor in attribute.t.as_deref().into_iter().chain(&attribute.tensors) {
                visit(&|| format!("{}.{}", node.name(), attribute.name()), tensor)?;
            }
            for graph in attribute.g.as_deref().into_iter().chain(&attribute.graphs) {
                visit_graph(graph, visit)?;
            }
        }
    }
    Ok(())
}

/// Weights whose names begin with more bytes than this are not listed: the names of a file must not take more memory than
/// the file.
const LONGEST_PATH: usize = 256;

/// What the names of the weights of a graph inside a node begin with, after that of the node's own graph.
pub(super) fn weight_path(node: &NodeProto, attribute: &str) -> String {
    let output = node.output.iter().find(|name| !name.is_empty()).map_or("", String::as_str);
    format!("{output}/{attribute}/")
}

/// Adds the weights of a graph and of those inside its nodes; the scan has bounded how deep they are.
fn index_weights(
    graph: &GraphProto,
    path: &mut Vec<(usize, usize)>,
    prefix: &str,
    weights: &mut BTreeMap<String, Location>,
) -> Result<(), Reason> {
    let initializers = graph.initializer.iter().enumerate().map(|(at, tensor)| (tensor.name(), Site::Initializer(at)));
    let nodes = graph.node.iter().enumerate().filter(|(_, node)| node.op_type() == "Constant");
    let constants = nodes.filter_map(|(at, node)| Some((node.output.first()?.as_str(), Site::Constant(at))));
    for (name, site) in initializers.chain(constants) {
        let name = format!("{prefix}{name}");
        if weights.contains_key(&name) {
            return Err(Reason::DuplicateTensor { name });
        }
        weights.insert(name, Location { path: path.clone(), site });
    }
    for (at, node) in graph.node.iter().enumerate() {
        for (place, attribute) in node.attribute.iter().enumerate() {
            let inside = format!("{prefix}{}", weight_path(node, attribute.name()));
            if let Some(inner) = attribute.g.as_deref().filter(|_| inside.len() <= LONGEST_PATH) {
                path.push((at, place));
                index_weights(inner, path, &inside, weights)?;
                path.pop();
            }
        }
    }
    Ok(())
}

fn check_tensor(tensor: &TensorProto, external: &mut ExternalData, folder: &Path) -> Result<(), TensorError> {
    if tensor.data_location == Some(DataLocation::External.into()) {
        external.open(tensor, folder)?;
    }
    TensorRef::locate(tensor, external).map(|_| ())
}

/// As [`check_tensor`]; where values are random, external data of floating-point numbers may be missing.
fn check_initializer(
    tensor: &TensorProto,
    external: &mut ExternalData,
    folder: &Path,
    values: Weights,
) -> Result<(), TensorError> {
    let checked = check_tensor(tensor, external, folder);
    let missing = matches!(checked, Err(TensorError::ExternalIo { .. } | TensorError::ExternalRange { .. }));
    if missing && values != Weights::Stored {
        return TensorRef::locate_initializer(tensor, external, values).map(|_| ());
    }
    checked
}
