//! One operation under one rule, against a twin.

use lrpc_ir::plan::Precision;
use lrpc_ir::{Absorbed, Diagnostics};
use lrpc_kernels::{LedgerSums, LedgerTotal};
use lrpc_passes::relevance::composite::Composite;
use lrpc_passes::relevance::site::Carrier;
use ndarray::ArrayD;

use crate::funnel::{self, Explanation, Outcome, Tensors};
use crate::numbers::{Random, Style};

/// The operation `%y`, made at `/site`, under a rule. Below it lies a head that gives every element of `y` relevance of
/// either sign (zero for some), whatever the value of `y`.
pub struct Site {
    /// The rule.
    pub rule: &'static str,
    /// Its parameters in TOML.
    pub with: String,
    /// The graph's header: weights and inputs.
    pub header: String,
    /// The forward nodes up to and with `%y`.
    pub forward: String,
    /// The shape of `y`.
    pub shape: Vec<usize>,
    /// Values whose relevance is asked for.
    pub explained: Vec<&'static str>,
    /// The numbers of weights and inputs.
    pub tensors: Tensors,
}

/// What a twin says.
pub struct Expected {
    /// Relevance of the explained values.
    pub relevance: Vec<ArrayD<f64>>,
    /// What the bias absorbs.
    pub bias: f64,
    /// What the stabiliser absorbs.
    pub stabiliser: f64,
}

/// Numbers of cases, to be asserted at the end of a test.
#[derive(Debug, Default)]
pub struct Count {
    /// All.
    pub cases: usize,
    /// Those that are conditioned well enough for f32.
    pub single: usize,
}

impl Count {
    /// At least `cases` were checked, and f32 in at least half of them.
    pub fn suffices(&self, cases: usize) {
        assert!(self.cases >= cases && 2 * self.single >= self.cases, "{self:?}");
    }
}

impl Site {
    fn body(&self) -> String {
        let size: usize = self.shape.iter().product();
        format!(
            "{}\nweight @head : f32[{size}, 2]\nweight @offset : f32[2]\nforward\n{}\n%row = reshape %y : f32[1, {size}] from \"/row\"\n\
             %scores = dot %row, @head, @offset {{contract=1x0}} : f32[1, 2] from \"/head\"\nresult \"output/scores\" = %scores\n",
            self.header, self.forward
        )
    }

    fn composite(&self, carrier: Carrier, result: &str) -> Composite {
        let head = if carrier == Carrier::Relevance { "WSquare" } else { "Gradient" };
        let ledger = self.rule != "Gradient";
        let toml = format!(
            "name = 'test'\ndoc = ''\nextends = 'epsilon'\nledger = {ledger}\nresult = '{result}'\n[[rule]]\nname = '/site'\nuse = '{}'\nwith = {{ {} }}\n\
             [[rule]]\nname = '/head'\nuse = '{head}'\n",
            self.rule, self.with
        );
        Composite::from_toml(&toml).unwrap()
    }

    /// Coefficients in f64 and f32, that of `y` among them, under the names of relevance.
    pub fn coefficients(&self, random: &mut Random) -> (Outcome, Outcome) {
        self.outcomes(random, Carrier::Coefficient, "coefficient")
    }

    /// The outcomes in f64 and f32.
    fn outcomes(&self, random: &mut Random, carrier: Carrier, result: &str) -> (Outcome, Outcome) {
        self.try_outcomes(random, carrier, result).unwrap_or_else(|error| panic!("{error}\n{}", self.forward))
    }

    /// The outcomes in f64 and f32, or why the rule does not serve the site.
    pub fn try_outcomes(
        &self,
        random: &mut Random,
        carrier: Carrier,
        result: &str,
    ) -> Result<(Outcome, Outcome), Diagnostics> {
        let mut tensors = self.tensors.clone();
        let size = self.shape.iter().product();
        tensors.insert("head".into(), random.tensor(&[size, 2], Style::Fine));
        // The offset takes a part, so that the two seeds do not cancel where `y` has one element.
        tensors.insert("offset".into(), random.away_from_zero(&[2]));
        let explained: Vec<&str> = self.explained.iter().copied().chain(["y"]).collect();
        let mut explanation = Explanation::of(self.composite(carrier, result), &explained);
        explanation.targets = vec!["scores[:,0]-scores[:,1]".into()];
        explanation.unit_seed = true;
        explanation.carrier = Some(carrier);
        let graph = funnel::try_explain(&self.body(), &explanation)?;
        Ok((funnel::run(&graph, &tensors, Precision::F64), funnel::run(&graph, &tensors, Precision::F32)))
    }

    /// Holds the rule against `twin`, which is given the relevance of `y`.
    #[track_caller]
    pub fn check(&self, random: &mut Random, count: &mut Count, twin: impl Fn(&ArrayD<f64>) -> Expected) {
        self.check_carried(random, count, Carrier::Relevance, twin);
    }

    /// As [`Site::check`], where relevance travels as `carrier`.
    #[track_caller]
    pub fn check_carried(
        &self,
        random: &mut Random,
        count: &mut Count,
        carrier: Carrier,
        twin: impl Fn(&ArrayD<f64>) -> Expected,
    ) {
        let (double, single) = self.outcomes(random, carrier, "relevance");
        let arriving = double.relevance("y");
        let expected = twin(arriving);
        let what = format!("{} {{ {} }}\n{}", self.rule, self.with, self.forward);
        let scale = expected.relevance.iter().fold(largest(arriving), |scale, array| scale.max(largest(array)));
        for (name, relevance) in self.explained.iter().zip(&expected.relevance) {
            assert_close(double.relevance(name), relevance, 1e-10 * scale, &format!("{name} of {what}"));
        }
        let line = line_of(&double.ledger, "/site");
        let sums = arriving.iter().chain(expected.relevance.iter().flatten()).map(|value| value.abs()).sum::<f64>();
        let terms = [(Absorbed::Bias, expected.bias), (Absorbed::Stabiliser, expected.stabiliser)];
        for (kind, expected) in terms {
            let found = absorbed(line, kind);
            assert!((found - expected).abs() <= 1e-10 * sums, "{kind:?} {found} is not {expected} in {what}");
        }
        assert_closes(line, 1e-12, &what);
        count.cases += 1;
        // Where relevance grows, denominators cancel, and f32 has no four digits of them.
        if scale <= 8.0 * largest(arriving) {
            count.single += 1;
            for (name, relevance) in self.explained.iter().zip(&expected.relevance) {
                assert_close(single.relevance(name), relevance, 1e-4 * scale, &format!("f32 {name} of {what}"));
            }
        }
    }
}

/// The largest absolute value.
pub fn largest(array: &ArrayD<f64>) -> f64 {
    array.iter().fold(0.0, |largest, value| value.abs().max(largest))
}

/// Asserts that two arrays agree element by element.
#[track_caller]
pub fn assert_close(actual: &ArrayD<f64>, expected: &ArrayD<f64>, tolerance: f64, what: &str) {
    assert_eq!(actual.shape(), expected.shape(), "{what}");
    for ((at, a), e) in actual.indexed_iter().zip(expected) {
        assert!((a - e).abs() <= tolerance, "{a} is not {e} within {tolerance:e} at {at:?}: {what}");
    }
}

/// The ledger line of a site.
pub fn line_of<'a>(ledger: &'a [LedgerSums], site: &str) -> &'a LedgerSums {
    let mut lines = ledger.iter().filter(|line| line.site == site);
    let line = lines.next().unwrap_or_else(|| panic!("no ledger line for {site}"));
    assert!(lines.next().is_none(), "two ledger lines for {site}");
    line
}

/// What a line absorbs of one kind.
pub fn absorbed(line: &LedgerSums, kind: Absorbed) -> f64 {
    line.absorbed.iter().filter(|(has, _)| *has == kind).map(|(_, sum)| sum).sum()
}

/// Asserts that a line closes within `tolerance` of its scale.
#[track_caller]
pub fn assert_closes(line: &LedgerSums, tolerance: f64, what: &str) {
    let absorbed: f64 = line.absorbed.iter().map(|(_, sum)| sum).sum();
    let rest = line.input - line.output - absorbed;
    // Next to the smallest number that f32 holds, digits are lost.
    assert!(rest.abs() <= tolerance * (line.scale + 1e-30), "{line:?} misses {rest}: {what}");
}

/// Asserts that a total closes within `tolerance` of its scale.
#[track_caller]
pub fn assert_total_closes(total: &LedgerTotal, tolerance: f64, what: &str) {
    let rest = total.started - total.arrived - total.absorbed.values().sum::<f64>();
    assert!(rest.abs() <= tolerance * total.scale, "{total:?} misses {rest}: {what}");
}
