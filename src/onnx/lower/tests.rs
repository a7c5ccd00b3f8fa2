//! Tests of lowering: ONNX graphs in, printed graphs or findings out.

mod choices;
mod control;
mod elements;
mod quantised;
mod shapes;
mod sizes;
mod spatial;

use prost::Message as _;

use super::{Finding, FindingKind, ImportError, ImportOptions, Imported, import};
use crate::onnx::proto::attribute_proto::AttributeType;
use crate::onnx::proto::tensor_proto::DataType;
use crate::onnx::proto::tensor_shape_proto::{Dimension, dimension};
use crate::onnx::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto, type_proto,
};

/// A graph under construction, in opset 18 unless said otherwise.
struct Onnx {
    graph: GraphProto,
    opset: i64,
}

/// An input or output: `x 1 C ?` is a value called x with the dimensions 1, C and one without name; `i64:x` holds
/// integers.
fn value(text: &str) -> ValueInfoProto {
    let mut words = text.split(' ');
    let word = words.next().unwrap_or_default();
    let (kind, word) = match word.strip_prefix("i64:") {
        Some(word) => (DataType::Int64, word),
        None => (DataType::Float, word),
    };
    let name = Some(word.to_string());
    let dim = |word: &str| {
        let value = match word.parse() {
            Ok(size) => Some(dimension::Value::DimValue(size)),
            Err(_) if word == "?" => None,
            Err(_) => Some(dimension::Value::DimParam(word.into())),
        };
        Dimension { denotation: None, value }
    };
    let shape = Some(TensorShapeProto { dim: words.map(dim).collect() });
    let tensor = type_proto::Tensor { elem_type: Some(kind.into()), shape };
    let ty = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), denotation: None };
    ValueInfoProto { name, r#type: Some(ty), ..Default::default() }
}

fn ints(name: &str, values: &[i64]) -> AttributeProto {
    let ty = Some(AttributeType::Ints.into());
    AttributeProto { name: Some(name.into()), ints: values.to_vec(), r#type: ty, ..Default::default() }
}

fn int(name: &str, value: i64) -> AttributeProto {
    let ty = Some(AttributeType::Int.into());
    AttributeProto { name: Some(name.into()), i: Some(value), r#type: ty, ..Default::default() }
}

fn float(name: &str, value: f32) -> AttributeProto {
    let ty = Some(AttributeType::Float.into());
    AttributeProto { name: Some(name.into()), f: Some(value), r#type: ty, ..Default::default() }
}

fn word(name: &str, value: &'static str) -> AttributeProto {
    let ty = Some(AttributeType::String.into());
    AttributeProto { name: Some(name.into()), s: Some(value.into()), r#type: ty, ..Default::default() }
}

impl Onnx {
    fn new(inputs: &[&str], outputs: &[&str]) -> Onnx {
        let values = |texts: &[&str]| texts.iter().map(|text| value(text)).collect();
        let graph = GraphProto { input: values(inputs), output: values(outputs), ..Default::default() };
        Onnx { graph, opset: 18 }
    }

    fn opset(mut self, opset: i64) -> Onnx {
        self.opset = opset;
        self
    }

    /// A node, as `y = Conv x w`; its name is its operator's in lower case with a slash, `/conv`.
    fn node(mut self, text: &str, attributes: &[AttributeProto]) -> Onnx {
        let (outputs, call) = text.split_once(" = ").unwrap();
        let mut words = call.split(' ');
        let operator = words.next().unwrap();
        // A dash is an optional input that is not given.
        let names = |words: &mut dyn Iterator<Item = &str>| words.map(|word| word.replace('-', "")).collect();
        let (domain, operator) = operator.rsplit_once('.').unwrap_or(("", operator));
        self.graph.node.push(NodeProto {
            name: Some(format!("/{}", operator.to_lowercase())),
            op_type: Some(operator.into()),
            domain: Some(domain.into()),
            output: names(&mut outputs.split(' ')),
            input: names(&mut words),
            attribute: attributes.to_vec(),
            ..Default::default()
        });
        self
    }

    fn floats(mut self, name: &str, dims: &[i64]) -> Onnx {
        let elements = dims.iter().product::<i64>();
        self.graph.initializer.push(TensorProto {
            name: Some(name.into()),
            data_type: Some(DataType::Float.into()),
            dims: dims.to_vec(),
            float_data: (0..elements).map(|element| element as f32).collect(),
            ..Default::default()
        });
        self
    }

    fn longs(mut self, name: &str, values: &[i64]) -> Onnx {
        self.graph.initializer.push(TensorProto {
            name: Some(name.into()),
            data_type: Some(DataType::Int64.into()),
            dims: vec![values.len() as i64],
            int64_data: values.to_vec(),
            ..Default::default()
        });
        self
    }

    fn import(self) -> Result<Imported, ImportError> {
        let (_folder, path) = self.saved();
        import(&path, &ImportOptions::default())
    }

    /// The model as a file, in a folder that goes with the first value.
    fn saved(self) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.onnx");
        let opset = OperatorSetIdProto { domain: None, version: Some(self.opset) };
        let other = |domain: &str| OperatorSetIdProto { domain: Some(domain.into()), version: Some(1) };
        let others = ["com.microsoft", "ai.onnx.ml", "ai.onnx.preview"].map(other);
        let model = ModelProto {
            ir_version: Some(8),
            opset_import: [opset].into_iter().chain(others).collect(),
            graph: Some(self.graph),
            ..Default::default()
        };
        std::fs::write(&path, model.encode_to_vec()).unwrap();
        (folder, path)
    }

    /// The forward region as it is printed, without provenance.
    fn forward(self) -> String {
        let imported = self.import().unwrap_or_else(|error| panic!("{error}"));
        lrpc_ir::verify::verify(&imported.graph).unwrap();
        let text = lrpc_ir::text::print(&imported.graph);
        assert!(lrpc_ir::text::parse(&text).unwrap() == imported.graph, "{text}");
        let lines = text.lines().filter_map(|line| line.strip_prefix("  "));
        lines.map(|line| line.split(" from ").next().unwrap_or(line)).collect::<Vec<_>>().join("\n")
    }

    /// Compares the graph with the snapshot of that name.
    fn check_lowering(self, case: &str) {
        let mut graph = self.import().unwrap_or_else(|error| panic!("{error}")).graph;
        lrpc_ir::verify::verify(&graph).unwrap();
        graph.model = None;
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path(concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots/import"));
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.bind(|| insta::assert_snapshot!(case, lrpc_ir::text::print(&graph)));
    }

    fn findings(self) -> Vec<Finding> {
        match self.import() {
            Err(ImportError::Graph { findings, .. }) => findings.0,
            other => panic!("{other:?}"),
        }
    }

    /// The only finding, which is invalid.
    fn invalid(self) -> String {
        self.only(FindingKind::Invalid)
    }

    /// The only finding, which is not supported.
    fn unsupported(self) -> String {
        self.only(FindingKind::Unsupported)
    }

    fn only(self, kind: FindingKind) -> String {
        let findings = self.findings();
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!(findings[0].kind, kind, "{findings:?}");
        format!("{}: {}", findings[0].node, findings[0].reason)
    }
}

// What comes out.

#[test]
fn a_convolution_with_symbolic_sizes() {
    let onnx = Onnx::new(&["x N 3 ? W"], &["y N 8 h w"])
        .floats("w", &[8, 3, 3, 3])
        .node("y = Conv x w", &[ints("strides", &[2, 2]), ints("pads", &[1, 1, 1, 1]), ints("kernel_shape", &[3, 3])]);
    assert_eq!(onnx.forward(), "%y = conv %x, @w {stride=2, pad=1} : f32[N, 8, floor((x_2+1)/2), floor((W+1)/2)]");
}

#[test]
fn same_padding_puts_the_odd_place_where_it_says() {
    let conv = |mode| {
        Onnx::new(&["x 1 1 5 5"], &["y 1 1 3 3"])
            .floats("w", &[1, 1, 4, 4])
            .node("y = Conv x w", &[ints("strides", &[2, 2]), word("auto_pad", mode)])
            .forward()
    };
    assert_eq!(conv("SAME_UPPER"), "%y = conv %x, @w {stride=2, pad=1} : f32[1, 1, 3, 3]");
    assert_eq!(conv("SAME_LOWER"), "%y = conv %x, @w {stride=2, pad=2} : f32[1, 1, 3, 3]");
}

#[test]
fn windows_that_begin_behind_the_input_are_not_counted() {
    // Five places in steps of two with one place of padding: ceil would count four windows of one place.
    let pool = |ceil| {
        Onnx::new(&["x 1 1 5"], &["y 1 1 ?"])
            .node(
                "y = MaxPool x",
                &[ints("kernel_shape", &[2]), ints("strides", &[3]), ints("pads", &[1, 1]), int("ceil_mode", ceil)],
            )
            .forward()
    };
    assert_eq!(pool(0), "%y = pool %x {kind=max, window=[2], stride=3, pad=1} : f32[1, 1, 2]");
    assert_eq!(pool(1), "%y = pool %x {kind=max, window=[2], stride=3, pad=1} : f32[1, 1, 2]");
}

#[test]
fn shape_arithmetic_leaves_no_nodes() {
    let onnx = Onnx::new(&["x N 4 5"], &["y N 20"])
        .longs("zero", &[0])
        .longs("rest", &[-1])
        .node("shape = Shape x", &[])
        .node("batch = Gather shape zero", &[])
        .node("target = Concat batch rest", &[int("axis", 0)])
        .node("y = Reshape x target", &[]);
    assert_eq!(onnx.forward(), "%y = reshape %x : f32[N, 20]");
}

#[test]
fn gemm_becomes_one_linear_map_with_a_bias() {
    let gemm = |bias: &[i64]| {
        Onnx::new(&["x N 4"], &["y N 3"])
            .floats("w", &[3, 4])
            .floats("b", bias)
            .node("y = Gemm x w b", &[int("transB", 1), float("alpha", 0.5)])
            .forward()
    };
    assert_eq!(
        gemm(&[1, 3]),
        "%y.scale = scale @w {by=0.5} : f32[3, 4]\n%y.reshape = reshape @b : f32[3]\n\
         %y = dot %x, %y.scale, %y.reshape {contract=1x1} : f32[N, 3]"
    );
    assert!(gemm(&[1]).contains("%y.broadcast = broadcast @b : f32[3]"));
}

#[test]
fn matmul_broadcasts_its_outer_axes() {
    let onnx = Onnx::new(&["a B 1 2 3", "b 7 3 4"], &["y B 7 2 4"]).node("y = MatMul a b", &[]);
    assert_eq!(
        onnx.forward(),
        "%y.broadcast = broadcast %a : f32[B, 7, 2, 3]\n%y.broadcast.1 = broadcast %b : f32[B, 7, 3, 4]\n\
         %y = dot %y.broadcast, %y.broadcast.1 {batch=[0x0, 1x1], contract=3x2} : f32[B, 7, 2, 4]"
    );
}

#[test]
fn softmax_before_opset_13_flattens() {
    let softmax =
        |opset| Onnx::new(&["x N 4 5"], &["y N 4 5"]).opset(opset).node("y = Softmax x", &[int("axis", 1)]).forward();
    assert_eq!(softmax(13), "%y = softmax %x {axis=1} : f32[N, 4, 5]");
    assert_eq!(
        softmax(12),
        "%y.reshape = reshape %x : f32[N, 20]\n%y.softmax = softmax %y.reshape {axis=1} : f32[N, 20]\n\
         %y = reshape %y.softmax : f32[N, 4, 5]"
    );
}

#[test]
fn clip_takes_constant_limits_as_parameters() {
    let low = AttributeProto { ..float("value_float", 0.0) };
    let high = AttributeProto { ..float("value_float", 6.0) };
    let onnx = Onnx::new(&["x N"], &["y N"])
        .node("low = Constant", &[low])
        .node("high = Constant", &[high])
        .node("y = Clip x low high", &[]);
    assert_eq!(onnx.forward(), "%y = clip %x {low=0, high=6} : f32[N]");
    let old = Onnx::new(&["x N"], &["y N"]).opset(7).node("y = Clip x", &[float("max", 6.0)]);
    assert_eq!(old.forward(), "%y = clip %x {high=6} : f32[N]");
    let run_time = Onnx::new(&["x N", "low"], &["y N"]).node("y = Clip x low", &[]);
    assert_eq!(run_time.forward(), "%y.broadcast = broadcast %low : f32[N]\n%y = max %x, %y.broadcast : f32[N]");
}

#[test]
fn small_constants_are_written_and_initializers_are_referenced() {
    let value = AttributeProto {
        t: Some(Box::new(TensorProto {
            data_type: Some(DataType::Float.into()),
            dims: vec![2],
            float_data: vec![1.0, 2.5],
            ..Default::default()
        })),
        name: Some("value".into()),
        r#type: Some(AttributeType::Tensor.into()),
        ..Default::default()
    };
    let onnx = Onnx::new(&["x 2"], &["y 2"])
        .floats("w", &[2])
        .node("c = Constant", &[value])
        .node("s = Add x w", &[])
        .node("y = Mul s c", &[]);
    assert_eq!(onnx.forward(), "%s = add %x, @w : f32[2]\n%c = const [1, 2.5] : f32[2]\n%y = mul %s, %c : f32[2]");
}

#[test]
fn names_that_move_nothing_are_other_names_of_a_value() {
    let onnx =
        Onnx::new(&["x 2"], &["y 2"]).node("a = Relu x", &[]).node("b = Identity a", &[]).node("y = Dropout b", &[]);
    let imported = onnx.import().unwrap();
    assert_eq!(imported.graph.len(), 2);
    assert_eq!(imported.values["b"], imported.values["a"]);
    assert_eq!(imported.graph.results[0].name, "output/y");
    assert_eq!(imported.graph.name(imported.graph.results[0].value), "a");
}

#[test]
fn a_name_of_ours_gives_way_to_one_of_the_model() {
    // The first node would call its intermediate value y.broadcast.
    let onnx = Onnx::new(&["x 2", "s"], &["z 2"])
        .node("y = Add x s", &[])
        .node("y.broadcast = Neg y", &[])
        .node("z = Mul y.broadcast y", &[]);
    let imported = onnx.import().unwrap();
    let found = imported.graph.find("y.broadcast").unwrap();
    assert_eq!(imported.graph.node(found.node).op.mnemonic(), "neg");
}

#[test]
fn reflected_padding_is_made_of_slices() {
    let onnx = Onnx::new(&["x 1 5"], &["y 1 8"])
        .longs("pads", &[0, 2, 0, 1])
        .node("y = Pad x pads", &[word("mode", "reflect")]);
    assert_eq!(
        onnx.forward(),
        "%y.slice = slice %x {start=[0, 2], step=[1, -1]} : f32[1, 2]\n\
         %y.slice.1 = slice %x {start=[0, 3], step=[1, -1]} : f32[1, 1]\n\
         %y = concat %y.slice, %x, %y.slice.1 {axis=1} : f32[1, 8]"
    );
}

#[test]
fn slices_clamp_and_count_from_the_end() {
    let slice = |start: i64, end: i64, step: i64| {
        Onnx::new(&["x 5"], &["y ?"])
            .longs("starts", &[start])
            .longs("ends", &[end])
            .longs("axes", &[-1])
            .longs("steps", &[step])
            .node("y = Slice x starts ends axes steps", &[])
            .forward()
    };
    assert_eq!(slice(-3, i64::MAX, 1), "%y = slice %x {start=[2]} : f32[3]");
    assert_eq!(slice(-1, i64::MIN, -2), "%y = slice %x {start=[4], step=-2} : f32[3]");
    assert_eq!(slice(9, 20, 1), "%y = slice %x {start=[0]} : f32[0]");
    assert_eq!(slice(3, -6, -1), "%y = slice %x {start=[3], step=-1} : f32[4]");
    assert_eq!(slice(0, 5, 1), "");
}

#[test]
fn a_known_condition_chooses_its_branch() {
    let branch = |operator: &str| {
        let inner = Onnx::new(&[], &["inner 2"]).node(&format!("inner = {operator} x"), &[]).graph;
        let ty = Some(AttributeType::Graph.into());
        AttributeProto { g: Some(Box::new(inner)), r#type: ty, ..Default::default() }
    };
    let named = |name: &str, attribute| AttributeProto { name: Some(name.into()), ..attribute };
    let condition = TensorProto {
        name: Some("c".into()),
        data_type: Some(DataType::Bool.into()),
        int32_data: vec![0],
        ..Default::default()
    };
    let mut onnx = Onnx::new(&["x 2"], &["y 2"])
        .node("y = If c", &[named("then_branch", branch("Relu")), named("else_branch", branch("Neg"))]);
    onnx.graph.initializer.push(condition);
    assert_eq!(onnx.forward(), "%inner = neg %x : f32[2]");
}

#[test]
fn provenance_is_the_module_where_the_exporter_tells() {
    let mut onnx = Onnx::new(&["x 2"], &["y 2"]).node("a = Relu x", &[]).node("y = Neg a", &[]);
    let scopes = StringStringEntryProto {
        key: Some("pkg.torch.onnx.name_scopes".into()),
        value: Some("['', 'features', 'features.0', 'relu']".into()),
    };
    onnx.graph.node[0].name = Some("node_relu_3".into());
    onnx.graph.node[0].metadata_props = vec![scopes];
    let graph = onnx.import().unwrap().graph;
    let from = |name: &str| graph.node(graph.find(name).unwrap().node).origin.from.clone();
    assert_eq!(from("a").as_deref(), Some("features.0/relu"));
    assert_eq!(from("y").as_deref(), Some("/neg"));
}

// What is refused.

#[test]
fn everything_unsupported_is_reported_at_once() {
    let mut onnx = Onnx::new(&["x 2"], &["y 2"])
        .node("a = Frobnicate x", &[])
        .node("b = Relu a", &[])
        .node("c = Relu x", &[word("mode", "strange")])
        .node("d = Whirl c", &[])
        .node("y = Add b d", &[]);
    onnx.graph.node[3].domain = Some("com.example".into());
    let findings = onnx.findings();
    let lines: Vec<String> = super::Findings(findings).to_string().lines().map(String::from).collect();
    assert_eq!(
        lines,
        [
            "ai.onnx.Frobnicate (opset 18) is not supported: no lowering is known for the operator (at /frobnicate)",
            "ai.onnx.Relu (opset 18) is not supported: the attribute mode is not known (at /relu)",
            "com.example.Whirl (domain not imported) is invalid: the model does not import the operator's domain (at /whirl)",
        ]
    );
}

#[test]
fn an_operator_older_than_its_lowering() {
    let onnx = Onnx::new(&["x 2"], &["y 2"]).opset(12).node("y = HardSwish x", &[]);
    assert_eq!(onnx.unsupported(), "/hardswish: the operator is supported from opset 14 on");
}

#[test]
fn cycles_are_named() {
    let onnx = Onnx::new(&["x 2"], &["y 2"]).node("a = Add x b", &[]).node("b = Relu a", &[]).node("y = Neg x", &[]);
    let findings = onnx.findings();
    let named: Vec<&str> = findings.iter().map(|finding| finding.node.as_str()).collect();
    assert_eq!(named, ["/add", "/relu"]);
    assert!(findings.iter().all(|finding| finding.reason == "it is part of a cycle"), "{findings:?}");
}

#[test]
fn nodes_out_of_order_and_undefined_names() {
    let order = Onnx::new(&["x 2"], &["y 2"]).node("y = Relu a", &[]).node("a = Neg x", &[]);
    assert_eq!(order.invalid(), "/relu: it reads \"a\" before \"/neg\" makes it");
    let undefined = Onnx::new(&["x 2"], &["y 2"]).node("y = Add x nothing", &[]);
    assert_eq!(undefined.invalid(), "/add: it reads \"nothing\", which nothing defines");
    let output = Onnx::new(&["x 2"], &["y 2"]).node("z = Relu x", &[]);
    assert_eq!(output.invalid(), "y: nothing defines this graph output");
}

#[test]
fn names_that_are_defined_twice() {
    let nodes = Onnx::new(&["x 2"], &["y 2"]).node("y = Relu x", &[]).node("y = Neg x", &[]);
    assert_eq!(nodes.invalid(), "/neg: it defines \"y\", which is defined already");
    let input = Onnx::new(&["x 2"], &["x 2"]).node("x = Relu x", &[]);
    assert!(input.findings().iter().any(|finding| finding.reason.contains("defined already")));
    let inputs = Onnx::new(&["x 2", "x 2"], &["y 2"]).node("y = Relu x", &[]);
    assert_eq!(inputs.invalid(), "x: two graph inputs have this name");
}

#[test]
fn shapes_that_do_not_fit() {
    let add = Onnx::new(&["x 2", "b 3"], &["y 2"]).node("y = Add x b", &[]);
    assert_eq!(add.invalid(), "/add: the shapes [2] and [3] do not broadcast");
    let conv = Onnx::new(&["x 1 4 8 8"], &["y 1 8 6 6"]).floats("w", &[8, 3, 3, 3]).node("y = Conv x w", &[]);
    assert!(conv.invalid().starts_with("/conv: the input's channel axis"));
    let reshape = Onnx::new(&["x 2 3"], &["y 4 2"]).longs("shape", &[4, 2]).node("y = Reshape x shape", &[]);
    assert_eq!(reshape.invalid(), "/reshape: 6 elements do not fill 8");
    let window = Onnx::new(&["x 1 1 2 2"], &["y 1 1 1 1"]).node("y = MaxPool x", &[ints("kernel_shape", &[5, 5])]);
    assert_eq!(window.invalid(), "/maxpool: a window of 5 places does not fit into 2 with its padding");
}

#[test]
fn a_declared_output_has_to_be_what_is_computed() {
    let onnx = Onnx::new(&["x 2 3"], &["y 3 2"]).node("y = Relu x", &[]);
    assert_eq!(onnx.invalid(), "y: the output is declared as f32[3, 2] and computed as f32[2, 3]");
}

#[test]
fn dimensions_that_overflow() {
    let input = Onnx::new(&["x 4611686018427387904 4"], &["y ? ?"]).node("y = Relu x", &[]);
    assert!(input.invalid().contains("more elements than can be counted"));
    let large = "x 4611686018427387904";
    let concat = Onnx::new(&[large], &["y ?"]).node("y = Concat x x", &[int("axis", 0)]);
    assert_eq!(concat.invalid(), "/concat: the dimension overflows 64 bits");
    let stride = Onnx::new(&["x 1 1 8"], &["y 1 1 ?"])
        .floats("w", &[1, 1, 2])
        .node("y = Conv x w", &[ints("dilations", &[i64::MAX])]);
    assert!(stride.invalid().starts_with("/conv: "));
    let negative = Onnx::new(&["x -7"], &["y ?"]).node("y = Relu x", &[]);
    assert_eq!(negative.invalid(), "x: axis 0 has the size -7");
}

#[test]
fn inputs_and_attributes_that_are_missing_or_wrong() {
    let input = Onnx::new(&["x 1 1 8"], &["y 1 1 8"]).node("y = Conv x", &[]);
    assert_eq!(input.invalid(), "/conv: input 1 is missing");
    let attribute = Onnx::new(&["x 1 1 8"], &["y 1 1 8"]).node("y = MaxPool x", &[]);
    assert_eq!(attribute.invalid(), "/maxpool: kernel_shape is missing");
    let ty = Onnx::new(&["x 2"], &["y 2"]).node("y = Softmax x", &[float("axis", 1.0)]);
    assert_eq!(ty.invalid(), "/softmax: attribute axis has the wrong type");
    let axis = Onnx::new(&["x 2"], &["y 2"]).node("y = Softmax x", &[int("axis", 1)]);
    assert_eq!(axis.invalid(), "/softmax: axis 1 is outside of rank 1");
}

#[test]
fn an_output_that_is_used_and_not_computed() {
    let onnx =
        Onnx::new(&["x 1 1 4"], &["y 1 1 3", "i 1 1 3"]).node("y i = AveragePool x", &[ints("kernel_shape", &[2])]);
    assert_eq!(onnx.unsupported(), "/averagepool: its output \"i\" is used, which is not computed");
}

#[test]
fn every_operator_is_listed_once_per_meaning() {
    let mut seen = std::collections::BTreeSet::new();
    for def in super::operators() {
        assert!(seen.insert((def.domain, def.name, def.since)), "{} twice from {}", def.name, def.since);
    }
    assert!(seen.len() > 100, "{}", seen.len());
}
