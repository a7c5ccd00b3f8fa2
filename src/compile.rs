//! From a model file to its relevance graph: import, names to values, rules, passes.

use std::path::{Component, Path, PathBuf};

use lrpc_ir::{Diagnostic, Diagnostics, Graph, Value, text};
use lrpc_passes::compile::{self, Report, default_tensors};
use lrpc_passes::manager::PassDef;
use lrpc_passes::relevance::composite::{Composite, split_parameters};
use lrpc_passes::relevance::condition::Condition;
use lrpc_passes::relevance::site::Carrier;

use crate::data::{DataError, write_atomically};
use crate::error::Error;
use crate::graph_file::looks_like_graph;
use crate::names;
use crate::onnx::{self, ImportError, ImportOptions, Imported, ModelFile};

/// The largest composite file that is read, in bytes.
const MAX_COMPOSITE_BYTES: u64 = 1 << 20;

/// The name of all inputs and embeddings under `--wrt`.
const DEFAULT_TENSORS: &str = "default";

/// What to compile, in the words of the command line.
#[derive(Debug, Clone, Default)]
pub struct CompileOptions {
    /// Composites: a name or a path that ends in `.toml`, with parameters, or `auto` alone, which is also what nothing
    /// means.
    pub rules: Vec<String>,
    /// Targets, such as `logits[:, 8]`; empty means the largest element of each row.
    pub targets: Vec<String>,
    /// The tensors and weights to explain, in the words of [`names`], or `default` for inputs and embeddings, which is also
    /// what nothing means.
    pub wrt: Vec<String>,
    /// Conditions, such as `features.28:channel=12`, each with results of its own.
    pub conditions: Vec<String>,
    /// A carrier that replaces the composites'.
    pub carrier: Option<Carrier>,
    /// Whether every model output is a result although a target names one.
    pub all_outputs: bool,
    /// Whether seeds are 1 instead of the output's value.
    pub unit_seed: bool,
    /// Whether the verifier runs after every pass.
    pub verify: bool,
    /// The largest model that is read, which of its inputs are fixed, and which values its initializers have.
    pub import: ImportOptions,
}

/// A compiled model.
#[derive(Debug)]
pub struct Compiled {
    /// The relevance graph; its model reference holds the path as it was given.
    pub graph: Graph,
    /// What compiling did.
    pub report: Report,
    /// The model, which holds the weights.
    pub file: ModelFile,
}

/// Compiles the model at `path`.
///
/// # Errors
/// Models that are refused, names that the model does not have, and operations without a rule, all at once.
pub fn compile_model(path: &Path, options: &CompileOptions) -> Result<Compiled, Error> {
    compile_observed(path, options, &mut |_, _| ())
}

/// Compiles the model at `path`; `observe` sees the graph after every pass.
///
/// # Errors
/// As [`compile_model`].
pub fn compile_observed(
    path: &Path,
    options: &CompileOptions,
    observe: &mut dyn FnMut(&PassDef, &Graph),
) -> Result<Compiled, Error> {
    let composites = composites(&options.rules)?;
    let imported = import_model(path, &options.import)?;
    let Requested { wrt, parts, weights, conditions } = Requested::of(&imported, &options.wrt, &options.conditions)?;
    let Imported { mut graph, file, .. } = imported;
    let values = |named: &[(String, Value)]| named.iter().map(|(_, value)| *value).collect();
    let request = compile::Options {
        composites,
        targets: options.targets.clone(),
        wrt: values(&wrt),
        parts: values(&parts),
        weights: values(&weights),
        conditions,
        carrier: options.carrier,
        unit_seed: options.unit_seed,
        all_outputs: options.all_outputs,
        verify: options.verify,
    };
    let wrt: Vec<(String, Value)> = [wrt, parts].concat();
    let own_names: Vec<String> = wrt.iter().map(|(_, value)| graph.name(*value).to_string()).collect();
    let report = compile::compile(&mut graph, &request, observe)?;
    for ((asked, _), own) in wrt.iter().zip(&own_names) {
        rename_results(&mut graph, own, asked);
    }
    Ok(Compiled { graph, report, file })
}

/// Compiles the model at `path` for its outputs alone: a graph without relevance, of models of any type. What `options`
/// say of rules, targets and tensors is not looked at; `observe` sees the graph after every pass.
///
/// # Errors
/// Models that are refused.
pub fn compile_forward(
    path: &Path,
    options: &CompileOptions,
    observe: &mut dyn FnMut(&PassDef, &Graph),
) -> Result<Compiled, Error> {
    let Imported { mut graph, file, .. } = import_model(path, &options.import)?;
    let report = compile::forward(&mut graph, options.verify, observe)?;
    Ok(Compiled { graph, report, file })
}

/// Imports the model at `path`.
///
/// # Errors
/// Models that are refused, and relevance graphs, which somebody may take for models.
pub fn import_model(path: &Path, options: &ImportOptions) -> Result<Imported, Error> {
    onnx::import(path, options).map_err(|error| match error {
        ImportError::File(_) if looks_like_graph(path) => {
            let message = format!("{}: this is a relevance graph, not an ONNX model", path.display());
            Diagnostic::new(message).help("give it to `lrpc run` or `lrpc inspect`").into()
        }
        other => other.into(),
    })
}

/// The composites that `--rules` names; none for `auto`.
///
/// # Errors
/// Unknown names and parameters, and files that are no composites.
pub fn composites(rules: &[String]) -> Result<Vec<Composite>, Error> {
    let as_request = |findings: Diagnostics| {
        Diagnostics(findings.0.into_iter().map(|one| one.of_kind(lrpc_ir::DiagnosticKind::Request)).collect())
    };
    match rules {
        [] => Ok(Vec::new()),
        [auto] if auto == "auto" => Ok(Vec::new()),
        _ if rules.iter().any(|rule| rule.trim().starts_with("auto(")) => {
            let help = "name the composite that it chooses, which `lrpc inspect GRAPH` shows, with its parameters";
            Err(Diagnostic::request("--rules auto takes no parameters").help(help).into())
        }
        _ if rules.iter().any(|rule| rule == "auto") => {
            Err(Diagnostic::request("--rules auto stands alone").help("leave `auto` out, or the others").into())
        }
        _ => rules.iter().map(|rule| composite(rule).map_err(as_request).map_err(Error::from)).collect(),
    }
}

/// The path of a composite file in `mine.toml` and `mine.toml(gamma=0.5)`, and the parameters behind it.
pub(crate) fn composite_file(rule: &str) -> Option<(&str, &str)> {
    let rule = rule.trim();
    if rule.ends_with(".toml") {
        return Some((rule, ""));
    }
    let end = rule.rfind(".toml(").filter(|_| rule.ends_with(')'))?;
    Some(rule.split_at(end + ".toml".len()))
}

fn composite(text: &str) -> Result<Composite, Diagnostics> {
    let Some((path, parameters)) = composite_file(text) else { return Composite::named(text) };
    let unreadable =
        |error: &dyn std::fmt::Display| Diagnostic::new(format!("--rules {path}: cannot be read: {error}"));
    let size = std::fs::metadata(path).map_err(|error| unreadable(&error))?.len();
    if size > MAX_COMPOSITE_BYTES {
        return Err(unreadable(&format!("it has {size} bytes, the limit is {MAX_COMPOSITE_BYTES}")).into());
    }
    let toml = std::fs::read_to_string(path).map_err(|error| unreadable(&error))?;
    let named = |finding: Diagnostic| Diagnostic { message: format!("--rules {path}: {}", finding.message), ..finding };
    let composite = Composite::from_toml(&toml).and_then(|composite| {
        let (_, given) = split_parameters(parameters)?;
        composite.with_parameters(given)
    });
    composite.map_err(|findings| Diagnostics(findings.0.into_iter().map(named).collect()))
}

/// What `--wrt` and `--condition` ask for.
#[derive(Default)]
struct Requested {
    /// Tensors that are named, each with the name that it was asked for by.
    wrt: Vec<(String, Value)>,
    /// Tensors that patterns find.
    parts: Vec<(String, Value)>,
    weights: Vec<(String, Value)>,
    conditions: Vec<Condition>,
}

impl Requested {
    fn of(imported: &Imported, wrt: &[String], conditions: &[String]) -> Result<Requested, Diagnostics> {
        let mut requested = Requested::default();
        let mut findings = Vec::new();
        for name in wrt {
            findings.extend(requested.add(imported, name).err().into_iter().flatten());
        }
        for text in conditions {
            let condition = Condition::parse(text, &mut |name| one_tensor(imported, name));
            match condition {
                Ok(condition) => requested.conditions.push(condition),
                Err(finding) => findings.push(finding),
            }
        }
        if findings.is_empty() { Ok(requested) } else { Err(Diagnostics(findings)) }
    }

    /// What one `--wrt` names.
    fn add(&mut self, imported: &Imported, name: &str) -> Result<(), Vec<Diagnostic>> {
        let graph = &imported.graph;
        if name == DEFAULT_TENSORS && !imported.values.contains_key(name) {
            let tensors = default_tensors(graph).map_err(|finding| vec![finding])?;
            tensors.into_iter().for_each(|value| add_once(&mut self.wrt, graph.name(value), value));
            return Ok(());
        }
        let found = names::find(imported, "--wrt", name).map_err(|finding| vec![finding])?;
        let mut findings = Vec::new();
        for (tensor, value) in found.tensors {
            let ty = graph.ty(value);
            if found.by_pattern {
                add_once(&mut self.parts, &tensor, value);
            } else if names::is_activation(graph, value) {
                add_once(&mut self.wrt, &tensor, value);
            } else if names::is_weight(graph, value) {
                add_once(&mut self.weights, &tensor, value);
            } else if !ty.dtype.is_float() {
                findings.push(Diagnostic::request(format!("--wrt {name}: `{tensor}` is {ty}, not floating-point")));
            } else {
                let message = format!("--wrt {name}: `{tensor}` is a constant of the model and no weight");
                findings.push(Diagnostic::request(message));
            }
        }
        if findings.is_empty() { Ok(()) } else { Err(findings) }
    }
}

fn add_once(list: &mut Vec<(String, Value)>, name: &str, value: Value) {
    if !list.iter().any(|(_, other)| *other == value) {
        list.push((name.to_string(), value));
    }
}

/// The tensor that a condition names.
fn one_tensor(imported: &Imported, name: &str) -> Result<Value, Diagnostic> {
    let found = names::find(imported, "tensor", name)?;
    match found.tensors.as_slice() {
        [(tensor, value)] if !names::is_activation(&imported.graph, *value) => {
            Err(Diagnostic::request(format!("`{tensor}` is no floating-point tensor that the model computes")))
        }
        [(_, value)] => Ok(*value),
        several => {
            let tensors: Vec<&str> = several.iter().map(|(tensor, _)| tensor.as_str()).collect();
            Err(Diagnostic::request(format!("`{name}` names several tensors"))
                .help(format!("name one of them: {}", tensors.join(", "))))
        }
    }
}

/// A tensor asked for by another of its ONNX names is returned under that name, and has it in the graph.
fn rename_results(graph: &mut Graph, own: &str, asked: &str) {
    if let Some(value) = graph.find(own)
        && own != asked
        && !graph.inputs().contains(&value)
    {
        graph.rename(value, asked);
    }
    let (own, asked) = (format!("relevance/{own}"), format!("relevance/{asked}"));
    let summed = graph.repeats.iter_mut().flat_map(|repeat| &mut repeat.results);
    for name in graph.results.iter_mut().map(|result| &mut result.name).chain(summed) {
        if let Some(prefix) = name.strip_suffix(&own)
            && (prefix.is_empty() || prefix.ends_with('/'))
        {
            *name = format!("{prefix}{asked}");
        }
    }
}

/// The text of the graph file that is to stand at `target` (the working folder where `None`): the model's path is
/// relative to it.
pub fn graph_text(graph: &Graph, target: Option<&Path>) -> String {
    let mut graph = graph.clone();
    if let Some(model) = &mut graph.model {
        let folder = target.and_then(Path::parent).filter(|folder| !folder.as_os_str().is_empty());
        model.path = relative_path(Path::new(&model.path), folder.unwrap_or(Path::new(".")));
    }
    text::print(&graph)
}

/// Writes the graph file, whole or not at all.
///
/// # Errors
/// The file cannot be written.
pub fn write_graph(graph: &Graph, path: &Path) -> Result<(), DataError> {
    let text = graph_text(graph, Some(path));
    write_atomically(path, |writer| writer.write_all(text.as_bytes()))
}

/// `path` as seen from `folder`, with `/` between its parts; as it is where one of them cannot be resolved.
fn relative_path(path: &Path, folder: &Path) -> String {
    let (Ok(path_parts), Ok(folder_parts)) = (path.canonicalize(), folder.canonicalize()) else {
        return path.to_string_lossy().into_owned();
    };
    let path_parts: Vec<Component> = path_parts.components().collect();
    let folder_parts: Vec<Component> = folder_parts.components().collect();
    let common = path_parts.iter().zip(&folder_parts).take_while(|(a, b)| a == b).count();
    let up = folder_parts.iter().skip(common).map(|_| Component::ParentDir);
    let relative: PathBuf = up.chain(path_parts.iter().skip(common).copied()).collect();
    relative.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_relative_to_the_graph_file() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("a/b")).unwrap();
        std::fs::create_dir_all(folder.path().join("c")).unwrap();
        let model = folder.path().join("a/m.onnx");
        std::fs::write(&model, "x").unwrap();
        assert_eq!(relative_path(&model, &folder.path().join("a")), "m.onnx");
        assert_eq!(relative_path(&model, &folder.path().join("a/b")), "../m.onnx");
        assert_eq!(relative_path(&model, &folder.path().join("c")), "../a/m.onnx");
        assert_eq!(relative_path(Path::new("no/such.onnx"), folder.path()), "no/such.onnx");
    }

    #[test]
    fn parameters_follow_names_of_files() {
        assert_eq!(composite_file("a/mine.toml"), Some(("a/mine.toml", "")));
        assert_eq!(composite_file("a (1).toml(gamma=0.5)"), Some(("a (1).toml", "(gamma=0.5)")));
        assert_eq!(composite_file("gamma(gamma=0.5)"), None);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.toml");
        std::fs::write(&path, "name='mine'\ndoc=''\nextends='gamma'\nparameters={slope=1.0}\n").unwrap();
        let read = |parameters: &str| composites(&[format!("{}{parameters}", path.display())]);
        let found = read("(gamma=0.5, slope=2)").unwrap();
        assert_eq!(found[0].signature(), "mine(bias=include, eps=1e-6, gamma=0.5, slope=2)");
        let error = read("(gama=0.5)").unwrap_err().to_string();
        assert!(error.contains("mine.toml: ") && error.contains("did you mean `gamma`?"), "{error}");
        assert!(read("(gamma)").is_err());
    }

    #[test]
    fn auto_stands_alone() {
        assert!(composites(&["auto".into()]).unwrap().is_empty());
        assert!(composites(&["auto".into(), "epsilon".into()]).is_err());
        let error = composites(&["auto(eps=1)".into()]).unwrap_err().to_string();
        assert!(error.contains("auto takes no parameters"), "{error}");
        let error = composites(&["no/such.toml".into()]).unwrap_err();
        assert_eq!(error.status(), crate::error::Status::Usage);
    }
}
