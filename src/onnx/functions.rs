//! Functions of the model, put in the place of their calls.
//!
//! | before | after |
//! |---|---|
//! | `y = local.Twice(x) {by: 3}`, and the function `Twice(a) = b {by: 2}`: `t = Mul(a, a)`, `b = Op(t) {k: @by}` | `call/t = Mul(x, x)`, `y = Op(call/t) {k: 3}` |
//!
//! Whatever a body names gets a name of its own, behind that of the call; a call inside of a body or of a nested graph is
//! replaced likewise. A node of a body keeps the operator version that the function imports.

use std::collections::{HashMap, HashSet};

use prost::Message as _;

use super::error::ModelErrorReason as Reason;
use super::file::{NEWEST_OPSET, OLDEST_OPSET, canonical_domain};
use super::proto::{AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto};

/// The most bytes that the nodes of function bodies may take when every call has its own copy.
const MAX_BYTES: u64 = 32 << 20;
/// The most functions that may call each other in a row.
const MAX_DEPTH: usize = 64;

/// Versions of operators by the name of the node, where they are not those that the model imports.
pub(super) type Versions = HashMap<String, i64>;

/// Domain, name and overload.
type Key = (String, String, String);

/// The graph without calls of functions.
///
/// # Errors
/// Functions that call themselves, bodies that grow beyond a limit, and versions that are not read.
pub(super) fn inline(model: &ModelProto, graph: GraphProto) -> Result<(GraphProto, Versions), Reason> {
    if model.functions.is_empty() {
        return Ok((graph, Versions::new()));
    }
    let key = |function: &FunctionProto| {
        let [domain, name, overload] = [canonical_domain(function.domain()), function.name(), function.overload()];
        (domain.to_string(), name.to_string(), overload.to_string())
    };
    let functions: HashMap<Key, &FunctionProto> =
        model.functions.iter().map(|function| (key(function), function)).collect();
    let model_versions = versions(model.opset_import.iter().map(|import| (import.domain(), import.version())));
    let mut names = Names::default();
    names.take_all(&graph);
    let mut inliner =
        Inliner { functions, model_versions, names, versions: Versions::new(), bytes: 0, callers: Vec::new() };
    let graph = inliner.graph(graph, None)?;
    Ok((graph, inliner.versions))
}

fn versions<'a>(imports: impl Iterator<Item = (&'a str, i64)>) -> HashMap<String, i64> {
    imports.map(|(domain, version)| (canonical_domain(domain).to_string(), version)).collect()
}

/// The names of values and nodes that are there.
#[derive(Default)]
struct Names {
    values: HashSet<String>,
    nodes: HashSet<String>,
}

impl Names {
    fn take_all(&mut self, graph: &GraphProto) {
        let inputs = graph.input.iter().map(|input| input.name());
        let tensors = graph.initializer.iter().map(|tensor| tensor.name());
        self.values.extend(inputs.chain(tensors).map(str::to_string));
        for node in &graph.node {
            self.values.extend(node.output.iter().cloned());
            self.nodes.insert(node.name().to_string());
            for attribute in &node.attribute {
                attribute.g.as_deref().into_iter().chain(&attribute.graphs).for_each(|graph| self.take_all(graph));
            }
        }
    }
}

/// The name, with a number behind it if it is taken.
fn fresh(taken: &mut HashSet<String>, name: String) -> String {
    let mut candidate = name.clone();
    let mut number = 1_u64;
    while !taken.insert(candidate.clone()) {
        number = number.saturating_add(1);
        candidate = format!("{name}_{number}");
    }
    candidate
}

/// One call: what the names of a body stand for.
struct Call<'m> {
    /// The name of the calling node, which stands before every name of the body.
    name: String,
    names: HashMap<String, String>,
    attributes: HashMap<&'m str, AttributeProto>,
    versions: HashMap<String, i64>,
}

struct Inliner<'m> {
    functions: HashMap<Key, &'m FunctionProto>,
    model_versions: HashMap<String, i64>,
    names: Names,
    versions: Versions,
    bytes: u64,
    /// The functions whose bodies are being written.
    callers: Vec<Key>,
}

impl Inliner<'_> {
    /// The graph without calls; `versions` are those of the function that it comes from.
    fn graph(&mut self, mut graph: GraphProto, versions: Option<&HashMap<String, i64>>) -> Result<GraphProto, Reason> {
        for node in std::mem::take(&mut graph.node) {
            self.node(node, versions, &mut graph.node)?;
        }
        Ok(graph)
    }

    /// Writes a node whose names are final: itself, or the body of the function that it calls. `versions` are those of
    /// the function that it comes from.
    fn node(
        &mut self,
        mut node: NodeProto,
        versions: Option<&HashMap<String, i64>>,
        into: &mut Vec<NodeProto>,
    ) -> Result<(), Reason> {
        let domain = canonical_domain(node.domain());
        let key = (domain.to_string(), node.op_type().to_string(), node.overload().to_string());
        if let Some(function) = self.functions.get(&key).copied() {
            return self.call(&node, key, function, into);
        }
        if let Some(version) = versions.and_then(|versions| versions.get(domain))
            && self.model_versions.get(domain) != Some(version)
        {
            self.versions.insert(node.name().to_string(), *version);
        }
        for attribute in &mut node.attribute {
            if let Some(graph) = attribute.g.take() {
                attribute.g = Some(Box::new(self.graph(*graph, versions)?));
            }
            let graphs = std::mem::take(&mut attribute.graphs);
            attribute.graphs = graphs.into_iter().map(|graph| self.graph(graph, versions)).collect::<Result<_, _>>()?;
        }
        into.push(node);
        Ok(())
    }

    fn call(
        &mut self,
        node: &NodeProto,
        key: Key,
        function: &FunctionProto,
        into: &mut Vec<NodeProto>,
    ) -> Result<(), Reason> {
        let name = match (node.name(), node.output.iter().find(|name| !name.is_empty())) {
            ("", Some(output)) => output.clone(),
            ("", None) => node.op_type().to_string(),
            (name, _) => name.to_string(),
        };
        let refused = |why: &str| Reason::Function { call: name.clone(), name: key.1.clone(), why: why.to_string() };
        if self.callers.contains(&key) {
            return Err(refused("it calls itself"));
        }
        if self.callers.len() >= MAX_DEPTH {
            return Err(refused("too many functions call each other in a row"));
        }
        if node.input.len() > function.input.len() || node.output.len() > function.output.len() {
            return Err(refused("the call has more inputs or outputs than the function"));
        }
        let imports = versions(function.opset_import.iter().map(|import| (import.domain(), import.version())));
        if let Some(version) = imports.get("").filter(|version| !(OLDEST_OPSET..=NEWEST_OPSET).contains(version)) {
            return Err(refused(&format!("it uses opset {version} of ai.onnx")));
        }
        let mut call = Call {
            name: name.clone(),
            names: HashMap::new(),
            attributes: arguments(node, function),
            versions: imports,
        };
        self.bind(&mut call, node, function, into);
        self.callers.push(key.clone());
        for inner in &function.node {
            let inner = self
                .renamed_node(&mut call, inner)
                .ok_or_else(|| refused("with its body in the place of every call, the model is larger than 32 MiB"))?;
            self.node(inner, Some(&call.versions), into)?;
        }
        self.callers.pop();
        Ok(())
    }

    /// Lets the function's inputs and outputs have the names that the call gives them. An output that is an input as well,
    /// or an output twice, is handed on by an `Identity`.
    fn bind(&mut self, call: &mut Call, node: &NodeProto, function: &FunctionProto, into: &mut Vec<NodeProto>) {
        for (place, inner) in function.input.iter().enumerate() {
            call.names.insert(inner.clone(), node.input.get(place).cloned().unwrap_or_default());
        }
        for (place, inner) in function.output.iter().enumerate() {
            let Some(outer) = node.output.get(place).filter(|name| !name.is_empty()) else { continue };
            match call.names.get(inner) {
                None => {
                    call.names.insert(inner.clone(), outer.clone());
                }
                Some(first) => into.push(NodeProto {
                    name: Some(fresh(&mut self.names.nodes, format!("{}/{inner}", call.name))),
                    op_type: Some("Identity".into()),
                    input: vec![first.clone()],
                    output: vec![outer.clone()],
                    ..NodeProto::default()
                }),
            }
        }
    }

    /// The node of a body with the names, attributes and versions of the call. `None` beyond the limit.
    fn renamed_node(&mut self, call: &mut Call, node: &NodeProto) -> Option<NodeProto> {
        let names = node.input.len().saturating_add(node.output.len()).saturating_add(1);
        self.count(node.encoded_len().saturating_add(call.name.len().saturating_mul(names)))?;
        let part = if node.name().is_empty() { node.op_type() } else { node.name() };
        let name = fresh(&mut self.names.nodes, format!("{}/{part}", call.name));
        let mut attributes = Vec::with_capacity(node.attribute.len());
        for attribute in &node.attribute {
            let mut found = match attribute.ref_attr_name() {
                "" => attribute.clone(),
                outer => match call.attributes.get(outer) {
                    Some(given) => {
                        self.count(given.encoded_len())?;
                        AttributeProto { name: attribute.name.clone(), ..given.clone() }
                    }
                    None => continue,
                },
            };
            // What the caller gave has the caller's names.
            if attribute.ref_attr_name().is_empty() {
                if let Some(graph) = found.g.take() {
                    found.g = Some(Box::new(self.renamed_graph(call, &graph)?));
                }
                let graphs = found.graphs.iter().map(|graph| self.renamed_graph(call, graph));
                found.graphs = graphs.collect::<Option<_>>()?;
            }
            attributes.push(found);
        }
        let input = node.input.iter().map(|name| self.renamed(call, name)).collect();
        let output = node.output.iter().map(|name| self.renamed(call, name)).collect();
        Some(NodeProto { name: Some(name), input, output, attribute: attributes, ..node.clone_shallow() })
    }

    /// Counts bytes that bodies take. `None` beyond the limit.
    fn count(&mut self, bytes: usize) -> Option<()> {
        self.bytes = self.bytes.saturating_add(u64::try_from(bytes).ok()?);
        (self.bytes <= MAX_BYTES).then_some(())
    }

    fn renamed(&mut self, call: &mut Call, name: &str) -> String {
        if name.is_empty() {
            return String::new();
        }
        if let Some(outer) = call.names.get(name) {
            return outer.clone();
        }
        let outer = fresh(&mut self.names.values, format!("{}/{name}", call.name));
        call.names.insert(name.to_string(), outer.clone());
        outer
    }

    /// A graph inside of a body. What it defines hides names of the body only inside of it.
    fn renamed_graph(&mut self, call: &mut Call, graph: &GraphProto) -> Option<GraphProto> {
        let mut graph = GraphProto { value_info: Vec::new(), ..graph.clone() };
        let defined: Vec<String> = (graph.input.iter().map(|input| input.name()))
            .chain(graph.initializer.iter().map(|tensor| tensor.name()))
            .chain(graph.node.iter().flat_map(|node| node.output.iter().map(String::as_str)))
            .map(str::to_string)
            .collect();
        let hidden: Vec<(String, Option<String>)> =
            defined.into_iter().map(|name| (name.clone(), call.names.remove(&name))).collect();
        let nodes: Option<Vec<NodeProto>> = graph.node.iter().map(|node| self.renamed_node(call, node)).collect();
        graph.node = nodes?;
        for value in graph.input.iter_mut().chain(&mut graph.output) {
            value.name = Some(self.renamed(call, value.name.as_deref().unwrap_or_default()));
        }
        for tensor in &mut graph.initializer {
            tensor.name = Some(self.renamed(call, tensor.name.as_deref().unwrap_or_default()));
        }
        for (name, outer) in hidden {
            match outer {
                Some(outer) => call.names.insert(name, outer),
                None => call.names.remove(&name),
            };
        }
        Some(graph)
    }
}

/// The attributes that the call gives, and the function's defaults of others.
fn arguments<'m>(node: &'m NodeProto, function: &'m FunctionProto) -> HashMap<&'m str, AttributeProto> {
    let defaults = function.attribute_proto.iter();
    defaults.chain(&node.attribute).map(|attribute| (attribute.name(), attribute.clone())).collect()
}

impl NodeProto {
    /// What a copy keeps besides names and attributes.
    fn clone_shallow(&self) -> NodeProto {
        NodeProto {
            op_type: self.op_type.clone(),
            domain: self.domain.clone(),
            overload: self.overload.clone(),
            metadata_props: self.metadata_props.clone(),
            ..NodeProto::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::proto::attribute_proto::AttributeType;
    use super::super::proto::{OperatorSetIdProto, TensorProto, ValueInfoProto};
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(|word| word.replace('-', "")).collect()
    }

    /// `y z = Name a b`.
    fn node(text: &str, attribute: Vec<AttributeProto>) -> NodeProto {
        let (output, call) = text.split_once(" = ").unwrap();
        let mut input = words(call);
        let operator = input.remove(0);
        let (domain, name) = operator.rsplit_once('.').unwrap_or(("", &operator));
        let (domain, op_type) = (Some(domain.to_string()), Some(name.to_string()));
        NodeProto { input, output: words(output), op_type, domain, attribute, ..NodeProto::default() }
    }

    /// `Name a b = c d`.
    fn function(head: &str, version: i64, node: Vec<NodeProto>) -> FunctionProto {
        let (call, output) = head.split_once(" = ").unwrap();
        let mut input = words(call);
        let opset_import = vec![OperatorSetIdProto { domain: None, version: Some(version) }];
        FunctionProto {
            name: Some(input.remove(0)),
            domain: Some("local".into()),
            input,
            output: words(output),
            node,
            opset_import,
            ..FunctionProto::default()
        }
    }

    fn float(name: &str, value: f32) -> AttributeProto {
        let ty = Some(AttributeType::Float.into());
        AttributeProto { name: Some(name.into()), f: Some(value), r#type: ty, ..AttributeProto::default() }
    }

    fn reference(name: &str, outer: &str) -> AttributeProto {
        AttributeProto { name: Some(name.into()), ref_attr_name: Some(outer.into()), ..AttributeProto::default() }
    }

    fn inlined(functions: Vec<FunctionProto>, nodes: Vec<NodeProto>) -> Result<(GraphProto, Versions), Reason> {
        let opset_import = vec![OperatorSetIdProto { domain: None, version: Some(18) }];
        let model = ModelProto { functions, opset_import, ..ModelProto::default() };
        inline(&model, GraphProto { node: nodes, ..GraphProto::default() })
    }

    fn line(node: &NodeProto) -> String {
        let attributes = node.attribute.iter().map(|attribute| match &attribute.g {
            Some(graph) => {
                let outputs = graph.output.iter().map(|output| output.name());
                format!(" {{{}: {}}}", listing(&graph.node), outputs.collect::<Vec<_>>().join(" "))
            }
            None => format!(" {}={}", attribute.name(), attribute.f()),
        });
        let attributes: String = attributes.collect();
        format!("{} = {} {}{attributes}", node.output.join(" "), node.op_type(), node.input.join(" "))
    }

    fn listing(nodes: &[NodeProto]) -> String {
        nodes.iter().map(line).collect::<Vec<_>>().join("; ")
    }

    fn graph(name: &str, nodes: Vec<NodeProto>, output: &str) -> AttributeProto {
        let output = vec![ValueInfoProto { name: Some(output.into()), ..ValueInfoProto::default() }];
        let constant = TensorProto { name: Some("inside".into()), ..TensorProto::default() };
        let graph = GraphProto { node: nodes, output, initializer: vec![constant], ..GraphProto::default() };
        AttributeProto { name: Some(name.into()), g: Some(Box::new(graph)), ..AttributeProto::default() }
    }

    #[test]
    fn bodies_take_the_place_of_calls() {
        let scaled = FunctionProto {
            attribute_proto: vec![float("by", 2.0)],
            ..function(
                "Scaled a b = c",
                18,
                vec![node("t = Add a b", vec![]), {
                    node("c = LeakyRelu t", vec![reference("alpha", "by"), reference("gone", "nowhere")])
                }],
            )
        };
        let twice = function(
            "Twice x = y z",
            18,
            vec![
                node("t = local.Scaled x x", vec![float("by", 3.0)]),
                node("y = local.Scaled t", vec![]),
                node("z = Identity t", vec![]),
            ],
        );
        let (graph, versions) =
            inlined(vec![scaled, twice], vec![node("t - = local.Twice in", vec![]), node("u = Relu t", vec![])])
                .unwrap();
        let expected = [
            "t/Scaled/t = Add in in",
            "t/t = LeakyRelu t/Scaled/t alpha=3",
            "t/Scaled_2/t = Add t/t ",
            "t = LeakyRelu t/Scaled_2/t alpha=2",
            "t/z = Identity t/t",
            "u = Relu t",
        ];
        assert_eq!(listing(&graph.node), expected.join("; "));
        assert!(versions.is_empty());
    }

    #[test]
    fn names_in_nested_graphs_are_their_own() {
        let branch = |name: &str| graph(name, vec![node("v = Add t inside", vec![])], "v");
        let body = vec![
            node("t = Relu x", vec![]),
            node("v = If x", vec![branch("then_branch"), branch("else_branch")]),
            node("y = Neg v", vec![]),
        ];
        let calls = vec![
            node("p = local.F q", vec![]),
            node("r = If q", vec![graph("then_branch", vec![node("o = local.F q", vec![])], "o")]),
        ];
        let (graph, _) = inlined(vec![function("F x = y", 18, body)], calls).unwrap();
        let expected = [
            "p/t = Relu q",
            "p/v_3 = If q {p/v = Add p/t p/inside: p/v} {p/v_2 = Add p/t p/inside_2: p/v_2}",
            "p = Neg p/v_3",
            "r = If q {o/t = Relu q; o/v_3 = If q {o/v = Add o/t o/inside: o/v} {o/v_2 = Add o/t o/inside_2: o/v_2}; o = Neg o/v_3: o}",
        ];
        assert_eq!(listing(&graph.node), expected.join("; "));
    }

    #[test]
    fn nodes_keep_the_version_of_their_function() {
        let old = function("F x = y", 11, vec![node("y = Softmax x", vec![])]);
        let (graph, versions) = inlined(vec![old], vec![node("p = local.F q", vec![])]).unwrap();
        assert_eq!(versions.get(graph.node[0].name()), Some(&11));
        let future = function("F x = y", 999, vec![node("y = Softmax x", vec![])]);
        let refused = inlined(vec![future], vec![node("p = local.F q", vec![])]).unwrap_err();
        assert!(refused.to_string().contains("opset 999"), "{refused}");
    }

    #[test]
    fn an_input_may_be_an_output() {
        let (graph, _) =
            inlined(vec![function("F x = x x", 18, vec![])], vec![node("p r = local.F q", vec![])]).unwrap();
        assert_eq!(listing(&graph.node), "p = Identity q; r = Identity q");
    }

    #[test]
    fn calls_without_end_are_refused() {
        let circle = [
            function("F x = y", 18, vec![node("y = local.G x", vec![])]),
            function("G x = y", 18, vec![node("y = local.F x", vec![])]),
        ];
        let refused = inlined(circle.to_vec(), vec![node("p = local.F q", vec![])]).unwrap_err();
        assert!(refused.to_string().contains("calls itself"), "{refused}");
        let doubling = |level: u32| {
            let inner = format!("local.F{}", level + 1);
            let body = vec![node(&format!("t = {inner} x"), vec![]), node(&format!("y = {inner} t"), vec![])];
            function(&format!("F{level} x = y"), 18, body)
        };
        let mut functions: Vec<FunctionProto> = (0..40).map(doubling).collect();
        functions.push(function("F40 x = y", 18, vec![node("y = Relu x", vec![])]));
        let refused = inlined(functions, vec![node("p = local.F0 q", vec![])]).unwrap_err();
        assert!(refused.to_string().contains("32 MiB"), "{refused}");
    }
}
