//! A recurrent network as text, once with a loop and once written out.

use std::collections::BTreeMap;

use lrpc_ir::plan::Precision;
use lrpc_ir::{Bindings, Graph};
use lrpc_passes::relevance::composite::{COMPOSITES, Composite};
use ndarray::ArrayD;

use crate::funnel::{self, Explanation, Outcome, Tensors};
use crate::numbers::{Random, Style};

/// A network whose step is written with `{name}` for what differs from step to step: carried values, sequences and
/// `{.}`, with which local names begin. Behind the loop `{name.last}` is what a carried value is at the end and
/// `{name.all}` a stack.
pub struct Network {
    /// Weights and other inputs.
    pub header: &'static str,
    /// Nodes before the loop.
    pub before: &'static str,
    /// Carried values: name, type, the local value that comes next.
    pub carried: &'static [(&'static str, &'static str, &'static str)],
    /// Sequences: name and type of a slice.
    pub scanned: &'static [(&'static str, &'static str)],
    /// Captured values: name and type.
    pub captured: &'static [(&'static str, &'static str)],
    /// The step.
    pub step: &'static str,
    /// Stacks: name, type of a slice, the local value.
    pub stacks: &'static [(&'static str, &'static str, &'static str)],
    /// Nodes behind the loop, up to `%y`.
    pub after: &'static str,
    /// The requested tensors.
    pub explained: &'static [&'static str],
}

impl Network {
    /// With a loop of `T` steps.
    pub fn looped(&self) -> String {
        let list = |items: Vec<String>| items.join(", ");
        let names = |names: Vec<&str>| list(names.iter().map(|name| format!("%{name}")).collect());
        let outputs = self.carried.iter().map(|(name, ..)| format!("%{name}.last"));
        let outputs = list(outputs.chain(self.stacks.iter().map(|(name, ..)| format!("%{name}.all"))).collect());
        let types = self.carried.iter().map(|(_, ty, _)| ty.to_string());
        let types = list(types.chain(self.stacks.iter().map(|(_, ty, _)| sequence(ty, "T"))).collect());
        let given = self.carried.iter().map(|(name, ..)| *name).chain(self.scanned.iter().map(|(name, _)| *name));
        let given = names(given.chain(self.captured.iter().map(|(name, _)| *name)).collect());
        let mut body = String::from("body\ninput %position : i64[]\n");
        let inputs =
            self.carried.iter().map(|(name, ty, _)| (name, ty)).chain(self.scanned.iter().map(|(a, b)| (a, b)));
        for (name, ty) in inputs.chain(self.captured.iter().map(|(a, b)| (a, b))) {
            body.push_str(&format!("input %{name} : {ty}\n"));
        }
        body.push_str(&format!("forward\n{}\n", self.at(self.step, "l.", |name| name.to_string())));
        for (name, _, local) in self.carried.iter().chain(self.stacks) {
            body.push_str(&format!("result \"{name}\" = %{}\n", self.at(local, "l.", |name| name.to_string())));
        }
        let last = |name: &str| name.to_string();
        format!(
            "{}\nforward\n{}\n{outputs} = loop {given} {{trips=T, carried={}, scanned={}}} : {types} from \"/loop\"\n{body}end\n{}\nresult \"output/y\" = %y\n",
            self.header,
            self.before,
            self.carried.len(),
            self.scanned.len(),
            self.at(self.after, "", last),
        )
    }

    /// Without loops, in `steps` steps.
    pub fn unrolled(&self, steps: usize) -> String {
        // Without a step nothing reads weights.
        let lines = self.header.lines().filter(|line| steps > 0 || !line.starts_with("weight"));
        let header: String = lines.map(|line| format!("{line}\n")).collect();
        let mut text = format!("{header}forward\n{}\n", self.before);
        let state = |step, name: &str| self.value(step, name);
        for step in 0..steps {
            for (name, ty) in self.scanned {
                let zeros = ", 0".repeat(rank(ty));
                let one = sequence(ty, "1");
                text.push_str(&format!(
                    "%{name}.{step}.one = slice %{name} {{start=[{step}{zeros}]}} : {one} from \"/loop\"\n"
                ));
                text.push_str(&format!("%{name}.{step} = reshape %{name}.{step}.one : {ty} from \"/loop\"\n"));
            }
            text.push_str(&self.at(self.step, &format!("l{step}."), |name| state(step, name)));
            text.push('\n');
            for (name, ty, local) in self.stacks {
                let local = self.at(local, &format!("l{step}."), |name| state(step, name));
                let one = sequence(ty, "1");
                text.push_str(&format!("%{name}.{step}.row = reshape %{local} : {one} from \"/loop\"\n"));
            }
        }
        for (name, ty, _) in self.stacks {
            let rows: Vec<String> = (0..steps).map(|step| format!("%{name}.{step}.row")).collect();
            let all = sequence(ty, &steps.to_string());
            text.push_str(&format!("%{name}.all = concat {} {{axis=0}} : {all} from \"/loop\"\n", rows.join(", ")));
        }
        let mut after = self.after.to_string();
        for (name, ..) in self.carried {
            after = after.replace(&format!("{{{name}.last}}"), &state(steps, name));
        }
        text.push_str(&self.at(&after, "", |name| name.to_string()));
        text.push_str("\nresult \"output/y\" = %y\n");
        // Sizes are numbers here.
        let fixed = |text: &str, from: &str, to: &str| text.replace(from, to);
        let text = fixed(&text, "[T,", &format!("[{steps},"));
        fixed(&text, "{trips=T", &format!("{{trips={steps}"))
    }

    /// The name of a carried value or slice at a step, written out.
    fn value(&self, step: usize, name: &str) -> String {
        match self.carried.iter().find(|(carried, ..)| *carried == name) {
            Some((_, _, next)) if step > 0 => {
                let moved = self.carried.iter().find(|(other, ..)| *next == format!("{{{other}}}"));
                let made = || next.replace("{.}", &format!("l{}.", step - 1));
                moved.map_or_else(made, |(other, ..)| self.value(step - 1, other))
            }
            Some(_) => name.to_string(),
            None => format!("{name}.{step}"),
        }
    }

    fn at(&self, text: &str, local: &str, name: impl Fn(&str) -> String) -> String {
        let mut text = text.replace("{.}", local);
        for one in self.carried.iter().map(|(name, ..)| *name).chain(self.scanned.iter().map(|(name, _)| *name)) {
            text = text
                .replace(&format!("{{{one}}}"), &name(one))
                .replace(&format!("{{{one}.last}}"), &format!("{one}.last"));
        }
        for (one, ..) in self.stacks {
            text = text.replace(&format!("{{{one}.all}}"), &format!("{one}.all"));
        }
        text
    }

    /// Numbers for weights and inputs at `steps` steps.
    pub fn tensors(&self, steps: usize, random: &mut Random) -> Tensors {
        let graph = funnel::read(&self.unrolled(steps.max(1)));
        let mut tensors = Tensors::new();
        let weights = graph.weights().into_iter().map(|(name, value)| (name.to_string(), value));
        let inputs = graph.inputs().into_iter().map(|value| (graph.name(value).to_string(), value));
        for (name, value) in weights.chain(inputs) {
            let mut shape: Vec<usize> = graph.ty(value).shape.iter().map(|dim| dim.known().unwrap() as usize).collect();
            if self.scanned.iter().any(|(scanned, _)| *scanned == name) || name == "x" {
                shape[0] = steps;
            }
            tensors.insert(name, random.tensor(&shape, Style::Fine));
        }
        tensors
    }
}

/// Every composite that applies rules once, with some parameters beside the defaults.
pub fn composites() -> Vec<String> {
    let once = |name: &&str| Composite::named(name).unwrap().sampling.is_none() && *name != "autoencoder";
    let mut all: Vec<String> = COMPOSITES.iter().map(|(name, _)| *name).filter(once).map(str::to_string).collect();
    all.extend(
        ["epsilon(bias=operand)", "epsilon(add=AbsRatio, softmax=Stop)", "epsilon-plus(bias=exclude)"]
            .map(String::from),
    );
    all
}

/// The relevance graph under one composite.
pub fn explain(body: &str, rules: &str, tensors: &[&str]) -> Graph {
    funnel::explain(body, &Explanation::of(Composite::named(rules).unwrap(), tensors))
}

/// Results and ledger in f64.
pub fn run(graph: &Graph, tensors: &Tensors, dims: &[(&str, i64)]) -> Outcome {
    let used = graph.inputs().into_iter().map(|input| graph.name(input).to_string());
    let used: Vec<String> = used.chain(graph.weights().into_keys().map(str::to_string)).collect();
    let tensors: BTreeMap<String, ArrayD<f64>> = tensors
        .iter()
        .filter(|(name, _)| used.contains(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let dims: Bindings = dims.iter().map(|(name, size)| (name.to_string(), *size)).collect();
    funnel::run_sized(graph, &tensors, Precision::F64, &dims)
}

/// The largest difference of any result, relative to the largest number of that result.
pub fn difference(one: &Outcome, other: &Outcome) -> f64 {
    assert_eq!(one.results.keys().collect::<Vec<_>>(), other.results.keys().collect::<Vec<_>>());
    let of = |(name, left): (&String, &ArrayD<f64>)| {
        let right = &other.results[name];
        assert_eq!(left.shape(), right.shape(), "{name}");
        let scale = right.iter().fold(0.0f64, |most, value| most.max(value.abs())).max(1e-30);
        left.iter().zip(right).fold(0.0f64, |most, (a, b)| most.max((a - b).abs())) / scale
    };
    one.results.iter().map(of).fold(0.0, f64::max)
}

/// Every line of the ledger closes, and what started is what arrived and was absorbed.
pub fn closes(outcome: &Outcome, tolerance: f64) {
    for line in &outcome.ledger {
        let absorbed: f64 = line.absorbed.iter().map(|(_, value)| value).sum();
        let left = (line.input - line.output - absorbed).abs();
        assert!(left <= tolerance * line.scale.max(1e-300), "{} {}: {left} of {}", line.site, line.rule, line.scale);
    }
    for total in &outcome.totals {
        let absorbed: f64 = total.absorbed.values().sum();
        let left = (total.started - total.arrived - absorbed).abs();
        assert!(left <= tolerance * total.scale.max(1e-300), "{}: {left} of {}", total.name, total.scale);
    }
}

fn rank(ty: &str) -> usize {
    ty.matches(',').count() + usize::from(!ty.contains("[]"))
}

/// The type of a sequence of `length` slices.
fn sequence(ty: &str, length: &str) -> String {
    match ty.contains("[]") {
        true => ty.replace("[]", &format!("[{length}]")),
        false => ty.replace('[', &format!("[{length}, ")),
    }
}
