//! One case: a model, its inputs, and what it gives.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use lrpc::data::{Tensor, TensorFile};
use lrpc::onnx::{ImportError, ImportOptions};
use lrpc::{CompileOptions, Compiled, Error, ModelWeights, RunOptions, Session, compile_forward};
use serde_json::Value;

use super::compare::{Tolerance, difference};

/// The largest file of tensors that is read, in bytes.
pub const MAX_BYTES: u64 = 1 << 28;

/// Cases whose expected numbers were computed in single precision and stray from the exact ones by more than the case's
/// own tolerance: by how much at most. ONNX's runner would miss them with the exact numbers too.
const ROUNDED: &[(&str, f64)] = &[("dft_inverse", 1e-6), ("dft_inverse_opset19", 1e-6)];

/// A case as the list has it.
#[derive(Debug, Clone)]
pub struct Case {
    /// The name, behind `@runtime` where constants are inputs.
    pub name: String,
    /// The operators of the model, those of inner graphs included.
    pub operators: Vec<String>,
    /// Element types that are not supported, and types that are no tensors.
    pub foreign: Vec<String>,
    tolerance: Tolerance,
    has_runtime_constants: bool,
}

/// A case that was run.
#[derive(Debug)]
pub struct Ran {
    /// The case.
    pub case: Case,
    /// What became of it.
    pub outcome: Outcome,
    /// The inputs whose values were given when compiling, because import asked for them.
    pub given: Vec<String>,
}

/// What became of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// All outputs are as they should be.
    Passed,
    /// The model, or this use of it, is refused: by which operator if one is to blame, at which step, and why.
    Refused {
        /// The operator's name.
        operator: Option<String>,
        /// `import`, `compile` or `run`.
        step: &'static str,
        /// What is told.
        reason: String,
    },
    /// An output is not as it should be: which, and how.
    Wrong(String),
    /// An output is not as the case has it, but as near as the rounding of the expected numbers allows: which, and how.
    Rounded(String),
    /// It panicked.
    Panicked(String),
}

impl Outcome {
    /// The outcome in words, of one line; nothing where the case passed.
    pub fn reason(&self) -> Option<String> {
        match self {
            Outcome::Passed => None,
            Outcome::Refused { operator: Some(operator), step, reason } => {
                Some(format!("{step}: {operator}: {reason}"))
            }
            Outcome::Refused { step, reason, .. } => Some(format!("{step}: {reason}")),
            Outcome::Wrong(reason) => Some(format!("WRONG: {reason}")),
            Outcome::Rounded(reason) => Some(format!("the expected numbers are rounded: {reason}")),
            Outcome::Panicked(reason) => Some(format!("PANIC: {reason}")),
        }
    }
}

impl Case {
    /// The case of an entry of the list.
    pub fn of(entry: &Value) -> Option<Case> {
        let words = |key: &str| -> Option<Vec<String>> {
            entry[key].as_array()?.iter().map(|word| Some(word.as_str()?.to_string())).collect()
        };
        Some(Case {
            name: entry["name"].as_str()?.to_string(),
            operators: words("operators")?,
            foreign: words("foreign")?,
            tolerance: Tolerance { relative: entry["rtol"].as_f64()?, absolute: entry["atol"].as_f64()? },
            has_runtime_constants: false,
        })
    }

    /// The same case with its constants as inputs.
    pub fn with_runtime_constants(&self) -> Case {
        Case { name: format!("{}@runtime", self.name), has_runtime_constants: true, ..self.clone() }
    }

    /// Whether the constants are inputs.
    pub fn has_runtime_constants(&self) -> bool {
        self.has_runtime_constants
    }

    /// Runs the case, whose files lie in `root`.
    pub fn run(&self, root: &Path) -> (Outcome, Vec<String>) {
        let mut given = BTreeMap::new();
        let outcome = catch_unwind(AssertUnwindSafe(|| self.compute(root, &mut given)));
        let outcome = match outcome {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(missed)) => refusal(missed.step, &missed.error),
            Err(panic) => Outcome::Panicked(message(&*panic)),
        };
        (outcome, given.into_keys().collect())
    }

    fn compute(&self, root: &Path, given: &mut BTreeMap<String, Tensor>) -> Result<Outcome, Box<Missed>> {
        let folder = root.join(self.name.trim_end_matches("@runtime"));
        let read = |name: &str| {
            let file =
                TensorFile::read(&folder.join(name), MAX_BYTES).map_err(|error| Missed::at("read", error.into()));
            file.map(|file| file.tensors)
        };
        let (mut inputs, expected) = (read("inputs.safetensors")?, read("outputs.safetensors")?);
        if self.has_runtime_constants {
            inputs.extend(read("constants.safetensors")?);
        }
        let model = folder.join(if self.has_runtime_constants { "runtime.onnx" } else { "model.onnx" });
        let compiled = compile_with(&model, &inputs, given)?;
        // An input that nothing depends on is no input of the graph.
        let own: Vec<&str> = compiled.graph.inputs().into_iter().map(|input| compiled.graph.name(input)).collect();
        inputs.retain(|name, _| own.contains(&name.as_str()));
        let run = || -> Result<BTreeMap<String, Tensor>, Error> {
            let weights = ModelWeights::locate(&compiled.graph, &compiled.file, &model)?;
            let options = RunOptions { threads: 1, ..RunOptions::default() };
            let mut session = Session::new(&compiled.graph, &weights, options);
            Ok(session.run(&inputs, &[], &BTreeMap::new(), None)?.results)
        };
        let found = run().map_err(|error| Missed::at("run", error))?;
        let wrong = |tolerance: Tolerance| {
            expected.iter().find_map(|(name, expected)| match found.get(&format!("output/{name}")) {
                Some(found) => difference(found, expected, tolerance).map(|how| format!("{name} {how}")),
                None => Some(format!("{name} is not among the results")),
            })
        };
        let Some(how) = wrong(self.tolerance) else { return Ok(Outcome::Passed) };
        let rounding = ROUNDED.iter().find(|(name, _)| *name == self.name).map(|(_, rounding)| *rounding);
        let is_rounding = rounding.is_some_and(|absolute| wrong(Tolerance { absolute, ..self.tolerance }).is_none());
        Ok(if is_rounding { Outcome::Rounded(how) } else { Outcome::Wrong(how) })
    }
}

/// An error, and what was being done.
struct Missed {
    step: &'static str,
    error: Error,
}

impl Missed {
    fn at(step: &'static str, error: Error) -> Box<Missed> {
        Box::new(Missed { step, error })
    }
}

/// Compiles the model. Inputs that import asks for by `--given NAME` are given then, and only these.
fn compile_with(
    model: &Path,
    inputs: &BTreeMap<String, Tensor>,
    given: &mut BTreeMap<String, Tensor>,
) -> Result<Compiled, Box<Missed>> {
    loop {
        let options = CompileOptions {
            import: ImportOptions { given: given.clone(), ..ImportOptions::default() },
            ..CompileOptions::default()
        };
        let error = match compile_forward(model, &options, &mut |_, _| ()) {
            Ok(compiled) => return Ok(compiled),
            Err(error @ Error::Import(_)) => error,
            Err(error) => return Err(Missed::at("compile", error)),
        };
        let known = given.len();
        given.extend(asked_for(&error.to_string(), inputs));
        if given.len() == known {
            return Err(Missed::at("import", error));
        }
    }
}

/// Those of the inputs that an error of import asks for by `--given NAME`.
pub fn asked_for(error: &str, inputs: &BTreeMap<String, Tensor>) -> BTreeMap<String, Tensor> {
    let names = error.split("--given ").skip(1).filter_map(|rest| Some(rest.split_once("=FILE")?.0));
    names.filter_map(|name| inputs.get_key_value(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// The refusal that an error is: its first finding.
fn refusal(step: &'static str, error: &Error) -> Outcome {
    let (operator, reason) = match error {
        Error::Import(ImportError::Graph { findings, .. }) => match findings.0.first() {
            Some(finding) => (finding.operator.as_ref().map(|one| one.name.clone()), finding.reason.clone()),
            None => (None, error.to_string()),
        },
        // Without the path, which is another one on each machine.
        Error::Import(ImportError::File(error)) => (None, error.reason.to_string()),
        _ => (None, error.findings().first().map_or_else(|| error.to_string(), |finding| finding.message.clone())),
    };
    Outcome::Refused { operator, step, reason: reason.lines().next().unwrap_or_default().to_string() }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("without a message").lines().next().unwrap_or_default().to_string()
}
