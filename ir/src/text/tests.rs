use super::*;

/// The example of the format's documentation: every kind of line once.
pub(crate) const EXAMPLE: &str = include_str!("example.graph");

#[test]
fn the_example_prints_as_it_reads() {
    let graph = parse(EXAMPLE).unwrap();
    crate::verify::verify(&graph).unwrap();
    assert_eq!(print(&graph), EXAMPLE);
    assert_eq!(parse(&print(&graph)).unwrap(), graph);
}

#[test]
fn names_and_symbols_outside_of_the_bare_set_are_quoted() {
    let text = "lrpc 1\ninput %\"a b\\\"\" : f32[\"batch size\", floor((S-1)/2)+1]\nresult \"r\" = %\"a b\\\"\"\n";
    let graph = parse(text).unwrap();
    assert_eq!(graph.name(graph.inputs()[0]), "a b\"");
    assert_eq!(parse(&print(&graph)).unwrap(), graph);
}

#[test]
fn differences_and_infinite_scalars_read_back() {
    let text = "lrpc 1\ninput %x : f32[N]\nforward\n  %c = const inf : f32[]\n  %d = const -inf : f32[]\n  %n = const nan : f32[2]\n  \
                %y = slice %x {start=[N-2]} : f32[2]\nresult \"c\" = %c\nresult \"d\" = %d\nresult \"n\" = %n\nresult \"y\" = %y\n";
    let graph = parse(text).unwrap();
    crate::verify::verify(&graph).unwrap();
    let crate::Op::Movement(crate::ops::Movement::Slice { starts, .. }) = &graph.node(graph.results[3].value.node).op
    else {
        panic!("not a slice");
    };
    assert_eq!(starts[0], crate::Dim::symbol("N").sub(&crate::Dim::Known(2)).unwrap());
    assert_eq!(print(&graph), text);
}

#[test]
fn errors_name_line_and_column() {
    let cases = [
        ("lrpc 2\n", "line 1, column 1: expected `lrpc 1`: not a relevance graph, or of a newer version"),
        ("lrpc 1\nforward\n  %y = relu %x : f32[2]\n", "line 3, column 1: %x is not defined"),
        ("lrpc 1\ninput %x : f33[2]\n", "line 2, column 15: unknown element type `f33`"),
        ("lrpc 1\ninput %x : f32[2]\ninput %x : f32[2]\n", "line 3, column 1: the name %x is used twice"),
        (
            "lrpc 1\ninput %x : f32[2]\nforward\n  %y = relu %x {alpha=1} : f32[2]\n",
            "line 4, column 1: unknown attribute `alpha`",
        ),
        ("lrpc 1\nforward\n  %y = relu %y : f32[2]\n", "line 1, column 1: the graph has a cycle"),
        ("lrpc 1\nforward\n  %y = frobnicate : f32[2]\n", "line 3, column 1: unknown operation `frobnicate`"),
    ];
    for (text, message) in cases {
        assert_eq!(parse(text).unwrap_err().to_string(), message);
    }
}

#[test]
fn deep_expressions_are_refused() {
    let deep = format!("lrpc 1\ninput %x : f32[{}1{}]\n", "(".repeat(5000), ")".repeat(5000));
    assert!(parse(&deep).unwrap_err().message.contains("nest deeper"));
}
