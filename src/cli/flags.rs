//! Flags that several commands share.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use lrpc_ir::plan::Precision;
use lrpc_ir::{Bindings, Diagnostic};
use lrpc_passes::bind::{Strategy, Wanted};
use lrpc_passes::relevance::site::Carrier;

use super::output;
use crate::compile::CompileOptions;
use crate::data::{Tensor, read_tensor};
use crate::error::Error;
use crate::inputs::SeedIndex;
use crate::machine;
use crate::onnx::{ImportOptions, Weights};
use crate::session::RunOptions;

/// The most threads that are used for each core.
const THREADS_PER_CORE: usize = 4;

/// The largest file of `--given` that is read, in bytes.
const MAX_GIVEN_BYTES: u64 = 1 << 20;

/// Form of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// What relevance starts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum SeedValue {
    /// The output itself.
    #[default]
    Value,
    /// 1.
    One,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum CarrierFlag {
    /// Relevance itself.
    Relevance,
    /// The coefficient g of R = a·g.
    Coefficient,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Outputs {
    /// Those that the target names.
    Needed,
    /// Every output of the model.
    All,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum PrecisionFlag {
    /// Single precision.
    #[default]
    F32,
    /// Double precision throughout.
    F64,
}

impl PrecisionFlag {
    pub(super) fn precision(self) -> Precision {
        match self {
            PrecisionFlag::F32 => Precision::F32,
            PrecisionFlag::F64 => Precision::F64,
        }
    }
}

/// What to compile.
#[derive(Debug, Args)]
pub(super) struct CompileFlags {
    /// Rules: a composite with parameters, as `epsilon(eps=1e-6)`; a path to a composite in TOML; or `auto`. Repeat for
    /// several side by side. `lrpc rules --composites` lists what comes with the program
    #[arg(long, value_name = "NAME|FILE.toml|auto", default_value = "auto")]
    pub(super) rules: Vec<String>,
    /// What to explain: `logits[0, 8]`, `logits[:, -1, :]:argmax`, `logits[0,8]-logits[0,3]`, `logits:top-k(5)`,
    /// `logits:given`. Repeat for several results. Default: the largest element of each row of the first floating-point
    /// output
    #[arg(long, value_name = "TARGET", allow_hyphen_values = true)]
    pub(super) target: Vec<String>,
    /// What relevance is asked for: tensors by ONNX name, by the name of their node or module (`features.28`), or with `*`
    /// and `?`; weights; `default` for inputs and embeddings, which is also what is meant when nothing is said
    #[arg(long, value_name = "NAME")]
    pub(super) wrt: Vec<String>,
    /// Let relevance pass a tensor at given places only: `features.28:channel=12`, `encoder:token=5`, `fc1:unit=3,7-9`,
    /// `x:axis2=4`, several joined by `&`; `none` for all relevance. Repeat for several results that share one pass
    #[arg(long, value_name = "CONDITION")]
    pub(super) condition: Vec<String>,
    /// How relevance travels; default: as the composite says
    #[arg(long)]
    pub(super) carrier: Option<CarrierFlag>,
    /// Which model outputs are results when a target is given: what it names, sliced as it says, or all in full as well
    #[arg(long, default_value = "needed")]
    pub(super) outputs: Outputs,
    /// What relevance starts with
    #[arg(long, default_value = "value")]
    pub(super) seed: SeedValue,
    #[command(flatten)]
    pub(super) import: ImportFlags,
    /// Check all invariants after every pass
    #[arg(long)]
    pub(super) verify: bool,
}

/// Which values the weights of a model have.
#[derive(Debug, Args)]
pub(super) struct WeightFlags {
    /// Values of the model's initializers: `stored`, or `random:SEED` for a model whose weights are elsewhere: then those
    /// of floating-point numbers are made up, but for the few of at most 64 elements that the file has. What was compiled
    /// so is run so
    #[arg(long, value_name = "stored|random:SEED", default_value = "stored")]
    weights: Weights,
}

impl WeightFlags {
    pub(super) fn import(&self) -> ImportOptions {
        ImportOptions { weights: self.weights, ..ImportOptions::default() }
    }
}

/// What of a model is replaced as it is read.
#[derive(Debug, Args)]
pub(super) struct ImportFlags {
    /// Fix an input of the model that decides its structure (axes, ranks, steps): a file with one small tensor
    #[arg(long, value_name = "NAME=FILE", value_parser = named_file)]
    given: Vec<(String, PathBuf)>,
    #[command(flatten)]
    weights: WeightFlags,
}

impl ImportFlags {
    /// # Errors
    /// Files of `--given` that are refused.
    pub(super) fn options(&self) -> Result<ImportOptions, Error> {
        Ok(ImportOptions { given: given_tensors(&self.given)?, ..self.weights.import() })
    }
}

impl CompileFlags {
    /// # Errors
    /// Files of `--given` that are refused.
    pub(super) fn options(&self) -> Result<CompileOptions, Error> {
        Ok(CompileOptions {
            rules: self.rules.clone(),
            targets: self.target.clone(),
            wrt: self.wrt.clone(),
            conditions: self.condition.clone(),
            carrier: self.carrier.map(|carrier| match carrier {
                CarrierFlag::Relevance => Carrier::Relevance,
                CarrierFlag::Coefficient => Carrier::Coefficient,
            }),
            all_outputs: self.outputs == Outputs::All,
            unit_seed: self.seed == SeedValue::One,
            verify: self.verify,
            import: self.import.options()?,
        })
    }
}

/// The tensors of `--given`.
///
/// # Errors
/// Files that are refused, and names that are given twice.
fn given_tensors(files: &[(String, PathBuf)]) -> Result<BTreeMap<String, Tensor>, Error> {
    let mut given = BTreeMap::new();
    for (name, path) in files {
        if given.insert(name.clone(), read_tensor(path, MAX_GIVEN_BYTES)?).is_some() {
            return Err(Diagnostic::request(format!("--given {name} is there twice")).into());
        }
    }
    Ok(given)
}

/// How a graph is bound.
#[derive(Debug, Args)]
pub(super) struct BindFlags {
    /// Size of a symbolic dimension, as `N=4`
    #[arg(long = "dim", value_name = "NAME=SIZE", value_parser = dim)]
    pub(super) dims: Vec<(String, i64)>,
    /// Type of computation
    #[arg(long, default_value = "f32")]
    pub(super) precision: PrecisionFlag,
    /// How forward values are kept for the relevance region: store (all of them) or recompute (what automatic
    /// differentiation would have saved; the rest is computed again)
    #[arg(long, value_name = "STRATEGY", default_value = "store", value_parser = strategy)]
    pub(super) keep: Strategy,
    /// Results to return, by name or with `*` and `?`, as `relevance/*`. Default: all
    #[arg(long, value_name = "NAME")]
    pub(super) want: Vec<String>,
    /// Sum what every rule application lets in, out and absorbs
    #[arg(long)]
    pub(super) audit: bool,
}

impl BindFlags {
    pub(super) fn dims(&self) -> Bindings {
        self.dims.iter().cloned().collect()
    }

    pub(super) fn precision(&self) -> Precision {
        self.precision.precision()
    }

    pub(super) fn wanted(&self) -> Wanted {
        if self.want.is_empty() { Wanted::All } else { Wanted::Matching(self.want.clone()) }
    }
}

/// Where and with how much a graph is run.
#[derive(Debug, Args)]
pub(super) struct ExecutionFlags {
    /// Where to run: cpu
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub(super) device: String,
    /// Number of threads, at most four for each core; default: one per core. The numbers that come out do not depend on it
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) threads: usize,
    /// The most memory that a run may take, as `2GiB`. Default: 90 % of the machine's
    #[arg(long, value_name = "SIZE", value_parser = machine::parse_bytes)]
    pub(super) memory_limit: Option<u64>,
    /// How many steps of a composite that runs the model several times are taken at once. Default: as many as make a batch
    /// of eight samples, and fewer where memory does not allow them
    #[arg(long, value_name = "N", value_parser = steps)]
    pub(super) steps_at_once: Option<usize>,
}

impl ExecutionFlags {
    /// The most bytes that a run, and what is read for it, may take.
    pub(super) fn memory_limit(&self) -> Option<u64> {
        self.memory_limit.or_else(machine::default_memory_limit)
    }

    /// The number of threads to use: beyond a few for each core they only cost time.
    pub(super) fn threads(&self) -> usize {
        let most = machine::cores().saturating_mul(THREADS_PER_CORE);
        if self.threads > most {
            let asked = self.threads;
            output::message(&format!(
                "note: {most} threads are used instead of {asked}: {THREADS_PER_CORE} for each core"
            ));
        }
        self.threads.min(most)
    }

    pub(super) fn options(&self, bind: &BindFlags) -> RunOptions {
        RunOptions {
            precision: bind.precision(),
            audit: bind.audit,
            strategy: bind.keep,
            wanted: bind.wanted(),
            token_ids: false,
            threads: self.threads(),
            memory_limit: self.memory_limit(),
            steps_at_once: self.steps_at_once,
        }
    }

    /// # Errors
    /// A device that this build does not drive.
    pub(super) fn check_device(&self) -> Result<(), Error> {
        if self.device == "cpu" {
            return Ok(());
        }
        let reason = "this build runs on the CPU alone; leave --device out, or say --device cpu";
        Err(Error::Device { name: self.device.clone(), reason: reason.into() })
    }
}

/// A number from 1 on.
fn steps(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&steps| steps > 0).ok_or_else(|| format!("`{text}` is no whole number from 1 on"))
}

/// `NAME=SIZE`.
pub(super) fn dim(text: &str) -> Result<(String, i64), String> {
    let (name, size) = text.split_once('=').ok_or("write it as NAME=SIZE")?;
    let number: i64 = size.trim().parse().map_err(|_| format!("`{size}` is no whole number"))?;
    if number < 0 {
        return Err(format!("{number} is negative"));
    }
    Ok((name.trim().to_string(), number))
}

fn strategy(text: &str) -> Result<Strategy, String> {
    match text {
        "store" => Ok(Strategy::Store),
        "recompute" => Ok(Strategy::Recompute),
        other => Err(format!("`{other}` is no way to keep values here; there are: store, recompute")),
    }
}

/// `3`, `3,5`, `target=3,5`.
pub(super) fn seed_index(text: &str) -> Result<SeedIndex, String> {
    let (name, list) = match text.split_once('=') {
        Some((name, list)) => (Some(name.trim().to_string()), list),
        None => (None, text),
    };
    let indices: Result<Vec<i64>, _> = list.split(',').map(|item| item.trim().parse::<i64>()).collect();
    let indices = indices.map_err(|_| format!("`{list}` is no list of whole numbers"))?;
    Ok(SeedIndex { name, indices })
}

/// `NAME=FILE`.
pub(super) fn named_file(text: &str) -> Result<(String, PathBuf), String> {
    let (name, path) = text.split_once('=').ok_or("write it as NAME=FILE")?;
    Ok((name.to_string(), PathBuf::from(path)))
}

/// Sizes by name in words: `N=1, S=128`.
pub(super) fn dims_in_words(dims: &BTreeMap<String, i64>) -> String {
    dims.iter().map(|(name, size)| format!("{name}={size}")).collect::<Vec<_>>().join(", ")
}
