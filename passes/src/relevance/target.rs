//! Targets as text: which elements of which outputs are explained, summed or contrasted (docs/targets.md).

use lrpc_ir::Diagnostic;

use super::seed::Rows;
use crate::names::suggestion;

/// The most targets that one `:top-k(K)` makes.
const MAX_RANKS: usize = 100;

/// What a target selects along one axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Selector {
    All,
    Index(i64),
}

/// How an element of each row is picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pick {
    /// By the selector of the last axis.
    Index,
    /// The element that this many others surpass: 0 for the largest.
    Largest(usize),
    /// By weights that are given when running.
    Given,
    /// Every element by its distance from the input of the same shape.
    Error,
}

/// One output element per row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Term {
    pub(super) negative: bool,
    pub(super) output: String,
    pub(super) selectors: Vec<Selector>,
    pub(super) pick: Pick,
    /// The input that a reconstruction error is against.
    pub(super) input: Option<String>,
    /// The rows that it picks from, once they have been made.
    pub(super) rows: Option<Rows>,
}

/// A sum or contrast of output elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub(super) terms: Vec<Term>,
    /// The text that it was read from.
    pub text: String,
}

impl Target {
    /// The default: the largest element of each batch row of `output`.
    pub fn default_of(output: &str) -> Target {
        let (output, selectors) = (output.to_string(), Vec::new());
        let text = format!("{output}:argmax");
        let (pick, input) = (Pick::Largest(0), None);
        Target { terms: vec![Term { negative: false, output, selectors, pick, input, rows: None }], text }
    }

    /// The reconstruction error of `output` against the model's `input`.
    pub fn reconstruction(output: &str, input: &str) -> Target {
        let text = format!("reconstruction({output}, {input})");
        let (output, selectors, input) = (output.to_string(), Vec::new(), Some(input.to_string()));
        Target { terms: vec![Term { negative: false, output, selectors, pick: Pick::Error, input, rows: None }], text }
    }

    /// Reads `logits[0,8]`, `logits[:,-1,:]:argmax`, `logits[0,8]-logits[0,3]`, `start+end`, `logits:given` and
    /// `reconstruction(decoded, image)`. One target comes back, and K of them for `logits:top-k(K)`.
    ///
    /// # Errors
    /// Text that is not in this form, and outputs that are not among `outputs`.
    pub fn parse(text: &str, outputs: &[&str]) -> Result<Vec<Target>, Diagnostic> {
        let wrong = |why: String| {
            let first = outputs.first().unwrap_or(&"logits");
            let help = match text.trim().ends_with(".npy") {
                true => format!("write '{first}:given', and give the file when running: --input target={text}"),
                false => format!(
                    "write an output's name with one index or `:` per axis, e.g. '{first}[:, 8]' or '{first}:argmax'"
                ),
            };
            Diagnostic::request(format!("--target '{text}': {why}")).help(help)
        };
        let mut reader = Reader { rest: text.trim(), outputs };
        if let Some(target) = reader.reconstruction() {
            return Ok(vec![target.map_err(wrong)?]);
        }
        let mut terms = Vec::new();
        let mut ranks = None;
        let mut negative = false;
        loop {
            if reader.rest.is_empty() && !terms.is_empty() {
                return Err(wrong("nothing follows the last `+` or `-`".into()));
            }
            let (term, several) = reader.term(negative).map_err(wrong)?;
            terms.push(term);
            ranks = ranks.or(several);
            negative = match reader.rest.chars().next() {
                None => break,
                Some(sign @ ('+' | '-')) => sign == '-',
                Some(':') => {
                    let word = reader.rest.split(['(', '+', '-', '[']).next().unwrap_or_default();
                    let alike = if word.starts_with(":top") { ", did you mean `:top-k(5)`?" } else { "" };
                    let known = "there are `:argmax`, `:top-k(K)` and `:given`";
                    return Err(wrong(format!("there is no `{}`{alike} {known}", word.trim())));
                }
                Some(_) => return Err(wrong(format!("`{}` is too much", reader.rest))),
            };
            reader.skip(1);
        }
        let text = text.trim().to_string();
        match (ranks, terms.as_slice()) {
            (None, _) => Ok(vec![Target { terms, text }]),
            (Some(count), [term]) => {
                let ranked = |rank| Term { pick: Pick::Largest(rank), ..term.clone() };
                Ok((0..count).map(|rank| Target { terms: vec![ranked(rank)], text: text.clone() }).collect())
            }
            (Some(_), _) => Err(wrong("`:top-k` stands in no sum and in no contrast".into())),
        }
    }

    /// A finding about the target.
    pub(super) fn error(&self, why: impl std::fmt::Display) -> Diagnostic {
        Diagnostic::request(format!("--target '{}': {why}", self.text))
    }
}

/// What is left of a target's text.
struct Reader<'a> {
    rest: &'a str,
    outputs: &'a [&'a str],
}

impl Reader<'_> {
    /// One term, and how many targets it stands for where it says so.
    fn term(&mut self, negative: bool) -> Result<(Term, Option<usize>), String> {
        let output = self.output()?;
        let selectors = self.selectors()?;
        let (pick, ranks) = match self.suffix()? {
            Some((pick, ranks)) => (pick, ranks),
            None if selectors.is_empty() => (Pick::Largest(0), None),
            None => (Pick::Index, None),
        };
        Ok((Term { negative, output, selectors, pick, input: None, rows: None }, ranks))
    }

    /// `reconstruction(OUTPUT, INPUT)`, which stands alone.
    fn reconstruction(&mut self) -> Option<Result<Target, String>> {
        if self.outputs.iter().any(|output| self.rest.starts_with(output)) {
            return None;
        }
        let inside = self.rest.strip_prefix("reconstruction")?.trim_start().strip_prefix('(')?;
        self.rest = inside.trim_start();
        let read = self.output().and_then(|output| {
            let input = self.rest.strip_prefix(',').and_then(|rest| rest.trim().strip_suffix(')'));
            let input = input.ok_or("write it as `reconstruction(OUTPUT, INPUT)`, in no sum and in no contrast")?;
            Ok(Target::reconstruction(&output, input.trim()))
        });
        Some(read)
    }

    /// Names may hold any character: the longest output name that fits is meant.
    fn output(&mut self) -> Result<String, String> {
        let fits = self.outputs.iter().filter(|name| self.rest.starts_with(**name)).max_by_key(|name| name.len());
        let output = fits.ok_or_else(|| {
            let word = self.rest.split(['[', ':', '+', '-']).next().unwrap_or_default().trim();
            format!("no output is called so; {}", suggestion(word, self.outputs.iter().copied()))
        })?;
        self.skip(output.len());
        Ok(output.to_string())
    }

    fn selectors(&mut self) -> Result<Vec<Selector>, String> {
        let Some(inner) = self.rest.strip_prefix('[') else { return Ok(Vec::new()) };
        let (inside, after) = inner.split_once(']').ok_or("`]` is missing")?;
        self.rest = after.trim_start();
        let selectors = inside.split(',').map(selector).collect::<Option<_>>();
        selectors.ok_or_else(|| format!("`[{inside}]` must hold integers and `:`"))
    }

    fn suffix(&mut self) -> Result<Option<(Pick, Option<usize>)>, String> {
        if let Some(after) = self.rest.strip_prefix(":argmax") {
            self.rest = after.trim_start();
            return Ok(Some((Pick::Largest(0), None)));
        }
        if let Some(after) = self.rest.strip_prefix(":given") {
            self.rest = after.trim_start();
            return Ok(Some((Pick::Given, None)));
        }
        let Some(after) = self.rest.strip_prefix(":top-k") else { return Ok(None) };
        let count = after.trim_start().strip_prefix('(').and_then(|inner| inner.split_once(')'));
        let (count, after) = count.ok_or("`:top-k` needs a number, as in `:top-k(5)`")?;
        self.rest = after.trim_start();
        match count.trim().parse() {
            Ok(count) if (1..=MAX_RANKS).contains(&count) => Ok(Some((Pick::Largest(0), Some(count)))),
            _ => Err(format!("`:top-k({count})` takes a number from 1 to {MAX_RANKS}")),
        }
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default().trim_start();
    }
}

fn selector(text: &str) -> Option<Selector> {
    match text.trim() {
        ":" => Some(Selector::All),
        number => number.parse().ok().map(Selector::Index),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read() {
        let outputs = ["y", "y-z", "u"];
        let read = |text: &str| Target::parse(text, &outputs).map(|targets| targets[0].terms.clone());
        let terms = read(" y-z[0, -1] - y:argmax + u ").unwrap();
        let shown: Vec<_> = terms.iter().map(|term| (term.negative, term.output.as_str(), term.pick)).collect();
        let expected = [(false, "y-z", Pick::Index), (true, "y", Pick::Largest(0)), (false, "u", Pick::Largest(0))];
        assert_eq!(shown, expected);
        assert_eq!(terms[0].selectors, [Selector::Index(0), Selector::Index(-1)]);
        assert_eq!(read("u[:]:given").unwrap()[0].pick, Pick::Given);
        let ranks = Target::parse("y:top-k(3)", &outputs).unwrap();
        let picks: Vec<Pick> = ranks.iter().map(|target| target.terms[0].pick).collect();
        assert_eq!(picks, [Pick::Largest(0), Pick::Largest(1), Pick::Largest(2)]);
    }

    #[test]
    fn reconstructions_are_read() {
        let read = Target::parse("reconstruction(y, x.1)", &["y"]).unwrap();
        assert_eq!(read, [Target::reconstruction("y", "x.1")]);
        let taken = Target::parse("reconstruction:argmax", &["reconstruction"]).unwrap();
        assert_eq!(taken[0].terms[0].pick, Pick::Largest(0));
        for (text, words) in
            [("reconstruction(z, x)", "no output is called so"), ("reconstruction(y)", "OUTPUT, INPUT")]
        {
            assert!(Target::parse(text, &["y"]).unwrap_err().to_string().contains(words), "{text}");
        }
    }

    #[test]
    fn other_text_is_refused() {
        for (text, words) in [
            ("logits", "no output is called so; there are y, u"),
            ("Y[0]", "no output is called so; did you mean `y`? there are y, u"),
            ("y[0", "`]` is missing"),
            ("y[a]", "must hold integers"),
            ("y y", "is too much"),
            ("y+", "nothing follows the last `+`"),
            ("y:topk(5)", "there is no `:topk`, did you mean `:top-k(5)`?"),
            ("y:max", "there is no `:max`"),
            ("y:top-k(0)", "from 1 to 100"),
            ("y:top-k", "needs a number"),
            ("y:top-k(2)-u", "in no contrast"),
        ] {
            let error = Target::parse(text, &["y", "u"]).unwrap_err().to_string();
            assert!(error.contains(words) && error.contains("--target"), "{text}: {error}");
        }
    }
}
