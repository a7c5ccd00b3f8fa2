//! Keeps the wanted results, and the ledger where it is audited.
//!
//! Nodes that nobody wants fall away with the next copy of the graph, since only what is reachable is copied. The
//! default of an input that is given is cut off here, so that its computation is not reachable through it.

use lrpc_ir::graph::GraphResult;
use lrpc_ir::{Diagnostic, Graph};

use super::{Request, Wanted};

/// The graph with the wanted results alone.
pub(super) fn slice(graph: &Graph, request: &Request) -> Result<Graph, Diagnostic> {
    let mut sliced = graph.clone();
    sliced.results = wanted_results(graph, &request.wanted)?;
    if !request.audit {
        sliced.ledger.clear();
    }
    for name in &request.given {
        let input = graph.inputs().into_iter().find(|&input| graph.name(input) == name).ok_or_else(|| {
            let names: Vec<&str> = graph.inputs().into_iter().map(|input| graph.name(input)).collect();
            Diagnostic::request(format!("the graph has no input `{name}`"))
                .help(format!("its inputs are {}", names.join(", ")))
        })?;
        let op = graph.node(input.node).op.clone();
        sliced.set_op(input.node, op, &[]).map_err(|error| Diagnostic::new(error.to_string()))?;
    }
    Ok(sliced)
}

fn wanted_results(graph: &Graph, wanted: &Wanted) -> Result<Vec<GraphResult>, Diagnostic> {
    let Wanted::Matching(patterns) = wanted else { return Ok(graph.results.clone()) };
    let names = || graph.results.iter().map(|result| result.name.as_str());
    if let Some(pattern) = patterns.iter().find(|pattern| !names().any(|name| matches(pattern, name))) {
        let known: Vec<&str> = names().collect();
        return Err(Diagnostic::request(format!("the graph has no result `{pattern}`"))
            .help(format!("its results are {}", known.join(", "))));
    }
    let is_wanted = |result: &&GraphResult| patterns.iter().any(|pattern| matches(pattern, &result.name));
    Ok(graph.results.iter().filter(is_wanted).cloned().collect())
}

/// Whether `name` matches `pattern`: `*` stands for any characters, `?` for one.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    // After a mismatch the last star takes one character more: linear in practice, quadratic at worst.
    let (mut at, mut place) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while place < name.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, place));
                at += 1;
            }
            Some(&c) if c == '?' || c == name[place] => {
                at += 1;
                place += 1;
            }
            _ => match star {
                Some((star_at, taken)) => {
                    star = Some((star_at, taken + 1));
                    at = star_at + 1;
                    place = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|&c| c == '*')
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, name, expected) in [
            ("relevance/*", "relevance/x", true),
            ("relevance/*", "output/x", false),
            ("*", "", true),
            ("?", "", false),
            ("*/x?", "relevance/x1", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b", "a-b-c", false),
            ("output/y", "output/y", true),
            ("output/y", "output/yy", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
