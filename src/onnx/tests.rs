//! Tests of the file layer: what is accepted, and every reason for which a file is refused.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lrpc_ir::DType;
use prost::Message as _;
use tempfile::TempDir;

use super::proto::tensor_proto::{DataLocation, DataType};
use super::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto, TensorProto,
};
use super::{Limits, ModelError, ModelErrorReason as Reason, ModelFile, TensorError};

fn model(graph: GraphProto) -> ModelProto {
    let opset = OperatorSetIdProto { domain: None, version: Some(17) };
    ModelProto { ir_version: Some(8), opset_import: vec![opset], graph: Some(graph), ..Default::default() }
}

fn weight(name: &str, dtype: DataType, dims: &[i64]) -> TensorProto {
    TensorProto { name: Some(name.into()), data_type: Some(dtype.into()), dims: dims.to_vec(), ..Default::default() }
}

fn with_weights(initializer: Vec<TensorProto>) -> ModelProto {
    model(GraphProto { initializer, ..Default::default() })
}

fn external(name: &str, dims: &[i64], entries: &[(&str, &str)]) -> TensorProto {
    let entry =
        |(key, value): &(&str, &str)| StringStringEntryProto { key: Some((*key).into()), value: Some((*value).into()) };
    TensorProto {
        data_location: Some(DataLocation::External.into()),
        external_data: entries.iter().map(entry).collect(),
        ..weight(name, DataType::Float, dims)
    }
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn write(folder: &TempDir, model: &ModelProto) -> PathBuf {
    write_bytes(folder, &model.encode_to_vec())
}

fn write_bytes(folder: &TempDir, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join("model.onnx");
    std::fs::write(&path, bytes).unwrap();
    path
}

fn open(path: &Path) -> Result<ModelFile, ModelError> {
    ModelFile::open(path, &Limits::default())
}

fn refuse(path: &Path) -> Reason {
    let start = Instant::now();
    let error = open(path).unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(1), "refused too late");
    assert!(error.to_string().contains("model.onnx"), "the message does not name the file: {error}");
    error.reason
}

fn refuse_bytes(bytes: &[u8]) -> Reason {
    let folder = folder();
    refuse(&write_bytes(&folder, bytes))
}

fn refuse_model(model: &ModelProto) -> Reason {
    refuse_bytes(&model.encode_to_vec())
}

fn refuse_tensor(tensor: TensorProto) -> TensorError {
    match refuse_model(&with_weights(vec![tensor])) {
        Reason::Tensor { name, reason } => {
            assert_eq!(name, "w");
            reason
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_that_is_not_there() {
    assert!(matches!(refuse(Path::new("/nowhere/model.onnx")), Reason::Io(_)));
}

#[test]
fn a_folder_in_place_of_a_file() {
    let folder = folder();
    let path = folder.path().join("model.onnx");
    std::fs::create_dir(&path).unwrap();
    assert!(matches!(refuse(&path), Reason::Io(_)));
}

#[test]
fn an_empty_file() {
    assert!(matches!(refuse_bytes(b""), Reason::Empty));
}

#[test]
fn other_formats_are_named() {
    assert!(matches!(refuse_bytes(b"PK\x03\x04rest"), Reason::OtherFormat { .. }));
    assert!(matches!(refuse_bytes(b"\x1c\0\0\0TFL3"), Reason::OtherFormat { .. }));
}

#[test]
fn text_zeros_and_noise_are_not_onnx() {
    assert!(matches!(refuse_bytes(b"hello world, this is text\n"), Reason::NotOnnx { .. } | Reason::Truncated { .. }));
    assert!(matches!(refuse_bytes(&[0; 4096]), Reason::NotOnnx { offset: 0, .. }));
    assert!(matches!(refuse_bytes(&[0xff; 64]), Reason::NotOnnx { offset: 0, .. }));
    // The field `graph` as a number; a group.
    assert!(matches!(refuse_bytes(&[7 << 3, 1]), Reason::NotOnnx { .. }));
    assert!(matches!(refuse_bytes(&[7 << 3 | 3]), Reason::NotOnnx { .. }));
}

#[test]
fn every_cut_of_a_model_is_refused() {
    let bytes =
        with_weights(vec![TensorProto { raw_data: Some(vec![0; 8].into()), ..weight("w", DataType::Float, &[2]) }])
            .encode_to_vec();
    for length in 0..bytes.len() {
        // A cut between two fields of the outermost message leaves a model that lacks its graph or its opset.
        let reason = refuse_bytes(&bytes[..length]);
        let expected = matches!(
            reason,
            Reason::Empty | Reason::Truncated { .. } | Reason::NoGraph | Reason::NoOpset | Reason::IrVersion { .. }
        );
        assert!(expected, "{length} of {}: {reason}", bytes.len());
    }
}

#[test]
fn a_length_beyond_the_end_allocates_nothing() {
    // The field `graph`, 2^62 bytes long.
    let mut bytes = vec![7 << 3 | 2];
    bytes.extend([0x80; 8]);
    bytes.push(0x40);
    assert!(matches!(refuse_bytes(&bytes), Reason::Truncated { .. } | Reason::NotOnnx { .. }));
}

#[test]
fn text_that_is_not_utf8() {
    let mut bytes = with_weights(vec![]).encode_to_vec();
    // The field `producer_name`.
    bytes.extend([2 << 3 | 2, 1, 0xff]);
    assert!(matches!(refuse_bytes(&bytes), Reason::Decode(_)));
}

#[test]
fn versions() {
    let graph = GraphProto::default;
    let opset = |domain: &str, version| OperatorSetIdProto { domain: Some(domain.into()), version: Some(version) };
    let old = ModelProto { ir_version: Some(2), ..model(graph()) };
    assert!(matches!(refuse_model(&old), Reason::IrVersion { found: 2 }));
    let new = ModelProto { ir_version: Some(99), ..model(graph()) };
    assert!(matches!(refuse_model(&new), Reason::IrVersion { found: 99 }));
    for version in [0, 29, i64::MIN, i64::MAX] {
        let model = ModelProto { opset_import: vec![opset("ai.onnx", version)], ..model(graph()) };
        assert!(matches!(refuse_model(&model), Reason::Opset { found } if found == version));
    }
    let none = ModelProto { opset_import: vec![], ..model(graph()) };
    assert!(matches!(refuse_model(&none), Reason::NoOpset));
    let twice = ModelProto { opset_import: vec![opset("", 17), opset("ai.onnx", 18)], ..model(graph()) };
    assert!(matches!(refuse_model(&twice), Reason::AmbiguousOpset { first: 17, second: 18, .. }));
    assert!(matches!(refuse_model(&ModelProto { graph: None, ..model(graph()) }), Reason::NoGraph));
}

#[test]
fn other_domains_are_allowed() {
    let folder = folder();
    let mut model = model(GraphProto::default());
    model.opset_import.push(OperatorSetIdProto { domain: Some("com.example".into()), version: Some(3) });
    let file = open(&write(&folder, &model)).unwrap();
    assert_eq!(file.opset("ai.onnx"), Some(17));
    assert_eq!(file.opset("com.example"), Some(3));
    assert_eq!(file.opset("elsewhere"), None);
}

#[test]
fn a_million_empty_nodes_in_a_small_file() {
    // Two bytes in the file and some two hundred in memory, each; the first file is stopped by their number, the
    // second by the memory that they would take.
    for count in [3_000_000, 400_000] {
        let nodes: Vec<u8> = [1 << 3 | 2, 0].repeat(count);
        assert!(matches!(refuse_bytes(&in_graph(&nodes)), Reason::TooComplex { .. }), "{count} nodes");
    }
}

#[test]
fn small_things_in_great_numbers() {
    // Empty names of a node's inputs; empty external entries; elements of one byte.
    let names = in_graph(&field(1, &field(1, b"").repeat(2_000_000)));
    assert!(matches!(refuse_bytes(&names), Reason::TooComplex { .. }));
    let entries = in_graph(&field(5, &field(13, b"").repeat(2_000_000)));
    assert!(matches!(refuse_bytes(&entries), Reason::TooComplex { .. }));
    let attributes = in_graph(&field(1, &field(5, b"").repeat(2_000_000)));
    assert!(matches!(refuse_bytes(&attributes), Reason::TooComplex { .. }));
}

#[test]
fn integers_in_great_numbers() {
    let ones = vec![1; 5_000_000];
    let packed = in_graph(&field(5, &field(7, &ones)));
    assert!(matches!(refuse_bytes(&packed), Reason::TooComplex { what: "integers in lists", .. }));
    let attribute = in_graph(&field(1, &field(5, &[8 << 3, 1].repeat(5_000_000))));
    assert!(matches!(refuse_bytes(&attribute), Reason::TooComplex { what: "integers in lists", .. }));
    let unknown = [ModelProto::default().encode_to_vec(), [0xf8, 0x06, 1].repeat(34_000_000)].concat();
    let folder = folder();
    let error = open(&write_bytes(&folder, &unknown)).unwrap_err();
    assert!(matches!(error.reason, Reason::TooComplex { what: "fields", .. }));
}

#[test]
fn graphs_inside_graphs() {
    let mut graph = Vec::new();
    for _ in 0..200 {
        graph = field(1, &field(5, &field(6, &graph)));
    }
    assert!(matches!(refuse_bytes(&in_graph(&graph)), Reason::TooComplex { what: "levels of nesting", .. }));
    let mut types = Vec::new();
    for _ in 0..1_600 {
        types = field(4, &field(1, &types));
    }
    let value = in_graph(&field(11, &field(2, &types)));
    assert!(matches!(refuse_bytes(&value), Reason::TooComplex { what: "levels of nesting", .. }));
}

/// A length-delimited field.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    prost::encode_length_delimiter(content.len(), &mut bytes).unwrap();
    bytes.extend(content);
    bytes
}

fn in_graph(graph: &[u8]) -> Vec<u8> {
    let mut bytes = ModelProto { graph: None, ..model(GraphProto::default()) }.encode_to_vec();
    bytes.extend(field(7, graph));
    bytes
}

#[test]
fn a_large_honest_model_is_not_refused() {
    let node = |index: usize| NodeProto {
        input: vec![format!("/encoder/layer.{index}/output"), format!("encoder.layer.{index}.weight")],
        output: vec![format!("/encoder/layer.{}/output", index + 1)],
        name: Some(format!("/encoder/layer.{index}/Conv")),
        op_type: Some("Conv".into()),
        attribute: vec![AttributeProto { name: Some("pads".into()), ints: vec![1; 4], ..Default::default() }],
        ..Default::default()
    };
    let folder = folder();
    let path = write(&folder, &model(GraphProto { node: (0..300_000).map(node).collect(), ..Default::default() }));
    assert_eq!(open(&path).unwrap().graph().node.len(), 300_000);
}

#[test]
fn tensors_that_do_not_fit() {
    let float = |dims: &[i64]| weight("w", DataType::Float, dims);
    assert!(matches!(refuse_tensor(float(&[2])), TensorError::Length { expected: 2, found: 0, .. }));
    assert!(matches!(refuse_tensor(float(&[-1])), TensorError::NegativeDim(_)));
    assert!(matches!(refuse_tensor(float(&[1 << 40, 1 << 40])), TensorError::Overflow(_)));
    assert!(matches!(refuse_tensor(float(&[0, 1 << 40, 1 << 40])), TensorError::Overflow(_)));
    assert!(matches!(refuse_tensor(float(&[1 << 62])), TensorError::Overflow(_)));
    let raw = TensorProto { raw_data: Some(vec![0; 7].into()), ..float(&[2]) };
    assert!(matches!(refuse_tensor(raw), TensorError::Length { expected: 8, found: 7, unit: "bytes" }));
    assert!(matches!(refuse_tensor(TensorProto { data_type: Some(0), ..float(&[]) }), TensorError::ElementType(0)));
    assert!(matches!(refuse_tensor(TensorProto { data_type: Some(99), ..float(&[]) }), TensorError::ElementType(99)));
    let segment = TensorProto { segment: Some(Default::default()), ..float(&[0]) };
    assert!(matches!(refuse_tensor(segment), TensorError::Storage(_)));
}

#[test]
fn a_bad_tensor_inside_a_node_is_found() {
    let value = AttributeProto {
        name: Some("value".into()),
        t: Some(Box::new(weight("", DataType::Float, &[3]))),
        ..Default::default()
    };
    let node = NodeProto { name: Some("/c".into()), attribute: vec![value], ..Default::default() };
    let reason = refuse_model(&model(GraphProto { node: vec![node], ..Default::default() }));
    assert!(matches!(reason, Reason::Tensor { name, .. } if name == "/c.value"));
}

#[test]
fn two_weights_of_one_name() {
    let model = with_weights(vec![weight("w", DataType::Float, &[0]), weight("w", DataType::Float, &[0])]);
    assert!(matches!(refuse_model(&model), Reason::DuplicateTensor { name } if name == "w"));
}

#[test]
fn all_ways_to_store_elements() {
    let folder = folder();
    let file = open(&write(
        &folder,
        &with_weights(vec![
            TensorProto { float_data: vec![1.5, -2.0], ..weight("float", DataType::Float, &[2]) },
            TensorProto { double_data: vec![0.1], ..weight("double", DataType::Double, &[]) },
            TensorProto { int32_data: vec![-1, 255], ..weight("i8", DataType::Int8, &[2]) },
            TensorProto { int32_data: vec![0x3c00], ..weight("f16", DataType::Float16, &[1]) },
            TensorProto { int32_data: vec![1, 0], ..weight("bool", DataType::Bool, &[2]) },
            TensorProto { int64_data: vec![-7, i64::MAX], ..weight("i64", DataType::Int64, &[2]) },
            TensorProto { uint64_data: vec![u64::from(u32::MAX)], ..weight("u32", DataType::Uint32, &[1]) },
            TensorProto { uint64_data: vec![u64::MAX], ..weight("u64", DataType::Uint64, &[1]) },
            TensorProto { raw_data: Some(vec![0xfe, 0xff].into()), ..weight("i16", DataType::Int16, &[1]) },
            TensorProto { string_data: vec!["a".into()], ..weight("text", DataType::String, &[1]) },
        ]),
    ))
    .unwrap();
    let bytes = |name: &str| file.weight(name).unwrap().bytes().to_vec();
    assert_eq!(bytes("float"), [1.5_f32.to_le_bytes(), (-2_f32).to_le_bytes()].concat());
    assert_eq!(bytes("double"), 0.1_f64.to_le_bytes());
    assert_eq!(bytes("f16"), [0x00, 0x3c]);
    assert_eq!(bytes("i8"), [0xff, 0xff]);
    let integers = |name: &str| file.weight(name).unwrap().integers();
    assert_eq!(integers("i8"), Some(vec![-1, -1]));
    assert_eq!(integers("i16"), Some(vec![-2]));
    assert_eq!(integers("bool"), Some(vec![1, 0]));
    assert_eq!(integers("i64"), Some(vec![-7, i64::MAX]));
    assert_eq!(integers("u32"), Some(vec![i64::from(u32::MAX)]));
    assert_eq!(integers("u64"), None);
    assert_eq!(integers("float"), None);
    let floats = |name: &str| file.weight(name).unwrap().floats();
    assert_eq!(floats("float"), Some(vec![1.5, -2.0]));
    assert_eq!(floats("f16"), Some(vec![1.0]));
    assert_eq!(floats("double"), Some(vec![0.1]));
    assert_eq!(floats("i64"), None);
    assert!(file.weight("text").is_none());
    assert!(file.weight("i16").unwrap().is_dense());
    assert!(!file.weight("i8").unwrap().is_dense());
}

#[test]
fn raw_data_stay_in_the_map() {
    let folder = folder();
    let raw = TensorProto { raw_data: Some(vec![3; 4096].into()), ..weight("w", DataType::Uint8, &[4096]) };
    let file = open(&write(&folder, &with_weights(vec![raw]))).unwrap();
    let tensor = file.weight("w").unwrap();
    assert_eq!((tensor.dtype(), tensor.dims(), tensor.elements()), (DType::U8, [4096].as_slice(), 4096));
    assert_eq!(tensor.bytes().as_ptr(), file.weight("w").unwrap().bytes().as_ptr());
}

#[test]
fn constants_are_weights_too() {
    let constant = |output: &str, attribute: AttributeProto| NodeProto {
        op_type: Some("Constant".into()),
        output: vec![output.into()],
        attribute: vec![attribute],
        ..Default::default()
    };
    let named = |name: &str| AttributeProto { name: Some(name.into()), ..Default::default() };
    let tensor = TensorProto { int64_data: vec![4], ..weight("", DataType::Int64, &[1]) };
    let node = vec![
        constant("tensor", AttributeProto { t: Some(Box::new(tensor)), ..named("value") }),
        constant("ints", AttributeProto { ints: vec![1, 2], ..named("value_ints") }),
        constant("float", AttributeProto { f: Some(0.5), ..named("value_float") }),
    ];
    let folder = folder();
    let file = open(&write(&folder, &model(GraphProto { node, ..Default::default() }))).unwrap();
    assert_eq!(file.weight_names().collect::<Vec<_>>(), ["float", "ints", "tensor"]);
    assert_eq!(file.weight("tensor").unwrap().integers(), Some(vec![4]));
    assert_eq!(file.weight("ints").unwrap().dims(), [2]);
    assert_eq!(file.weight("float").unwrap().dims(), [0_u64; 0]);
}

#[test]
fn external_data_are_mapped() {
    let folder = folder();
    std::fs::create_dir(folder.path().join("data")).unwrap();
    std::fs::write(folder.path().join("data/w.bin"), (0..32).collect::<Vec<u8>>()).unwrap();
    let entries = [("location", "data/w.bin"), ("offset", "3"), ("length", "8")];
    let rest = [("location", "data/w.bin"), ("offset", "24")];
    let model = with_weights(vec![external("w", &[2], &entries), external("rest", &[2], &rest)]);
    let file = open(&write(&folder, &model)).unwrap();
    assert_eq!(file.weight("w").unwrap().bytes().to_vec(), (3..11).collect::<Vec<u8>>());
    assert_eq!(file.weight("rest").unwrap().bytes().to_vec(), (24..32).collect::<Vec<u8>>());
    // Opened from its own folder, by its bare name.
    assert_eq!(file.path().file_name().unwrap(), "model.onnx");
}

fn refuse_external(folder: &TempDir, dims: &[i64], entries: &[(&str, &str)]) -> TensorError {
    match refuse(&write(folder, &with_weights(vec![external("w", dims, entries)]))) {
        Reason::Tensor { reason, .. } => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn external_data_that_are_malformed_or_missing() {
    let folder = folder();
    std::fs::write(folder.path().join("w.bin"), [0; 8]).unwrap();
    let at = |entries: &[(&str, &str)]| refuse_external(&folder, &[2], entries);
    assert!(matches!(at(&[]), TensorError::ExternalEntry(_)));
    assert!(matches!(at(&[("location", "")]), TensorError::ExternalEntry(_)));
    assert!(matches!(at(&[("location", "w.bin"), ("offset", "-1")]), TensorError::ExternalEntry(_)));
    assert!(matches!(at(&[("location", "absent.bin")]), TensorError::ExternalIo { .. }));
    assert!(matches!(at(&[("location", "w.bin"), ("offset", "1")]), TensorError::ExternalRange { size: 8, .. }));
    let huge = u64::MAX.to_string();
    assert!(matches!(at(&[("location", "w.bin"), ("offset", &huge)]), TensorError::ExternalRange { .. }));
    assert!(matches!(at(&[("location", "w.bin"), ("length", "4")]), TensorError::Length { expected: 8, found: 4, .. }));
    let million = refuse_external(&folder, &[1 << 50], &[("location", "w.bin")]);
    assert!(matches!(million, TensorError::ExternalRange { .. }));
}

#[test]
fn external_data_that_leave_the_folder() {
    let outer = folder();
    std::fs::write(outer.path().join("secret"), [0; 8]).unwrap();
    let folder = tempfile::tempdir_in(outer.path()).unwrap();
    let refused = |location: &str| {
        let error = refuse_external(&folder, &[2], &[("location", location)]);
        assert!(matches!(error, TensorError::ExternalRefused { .. }), "{location}: {error:?}");
    };
    refused("../secret");
    refused("inside/../../secret");
    refused(outer.path().join("secret").to_str().unwrap());
    refused(".");
}

#[cfg(unix)]
#[test]
fn external_data_behind_links() {
    let outer = folder();
    std::fs::write(outer.path().join("secret"), [0; 8]).unwrap();
    let folder = tempfile::tempdir_in(outer.path()).unwrap();
    std::os::unix::fs::symlink(outer.path().join("secret"), folder.path().join("symbolic")).unwrap();
    std::os::unix::fs::symlink(outer.path(), folder.path().join("up")).unwrap();
    std::fs::hard_link(outer.path().join("secret"), folder.path().join("hard")).unwrap();
    for location in ["symbolic", "up/secret", "hard"] {
        let error = refuse_external(&folder, &[2], &[("location", location)]);
        assert!(matches!(error, TensorError::ExternalRefused { .. }), "{location}: {error:?}");
    }
    std::fs::write(folder.path().join("real"), [0; 8]).unwrap();
    std::os::unix::fs::symlink("real", folder.path().join("alias")).unwrap();
    let inside = with_weights(vec![external("w", &[2], &[("location", "alias")])]);
    assert!(open(&write(&folder, &inside)).is_ok(), "a link that stays inside is no harm");
}

#[test]
fn the_structure_does_not_depend_on_floating_point_weights() {
    let hashes = |elements: [f32; 2], shape: i64, name: &str| {
        let folder = folder();
        let file = open(&write(
            &folder,
            &with_weights(vec![
                TensorProto { float_data: elements.to_vec(), ..weight(name, DataType::Float, &[2]) },
                TensorProto { int64_data: vec![shape], ..weight("shape", DataType::Int64, &[1]) },
            ]),
        ))
        .unwrap();
        (file.structure_hash(), file.weights_hash())
    };
    let (structure, weights) = hashes([1.0, 2.0], 3, "w");
    assert_eq!(structure.len(), 64);
    assert_eq!((structure.clone(), weights.clone()), hashes([1.0, 2.0], 3, "w"));
    let (same, trained) = hashes([1.0, 2.5], 3, "w");
    assert_eq!(same, structure);
    assert_ne!(trained, weights);
    assert_ne!(hashes([1.0, 2.0], 4, "w").0, structure);
    assert_ne!(hashes([1.0, 2.0], 3, "v").0, structure);
}

#[test]
fn the_structure_holds_single_numbers() {
    let hash = |number: f32| {
        let folder = folder();
        let tensor = TensorProto { float_data: vec![number], ..weight("half", DataType::Float, &[]) };
        open(&write(&folder, &with_weights(vec![tensor]))).unwrap().structure_hash()
    };
    assert_eq!(hash(0.5), hash(0.5));
    assert_ne!(hash(0.5), hash(0.25));
}
