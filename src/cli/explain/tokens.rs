//! Tokens explained: coloured text on the terminal, and an HTML file.

use super::{Arguments, Story, check_output_name, compile, execute, labels};
use crate::attribution::{TokenOptions, ends, groups, groups_json};
use crate::cli::flags::Format;
use crate::cli::output;
use crate::cli::tokens::reduce_of;
use crate::error::{Error, Status};
use crate::reduce::Reduction;
use crate::render::{Explanation, html_page};

pub(super) fn run(arguments: &Arguments) -> Result<Status, Error> {
    let output = arguments.output.as_deref();
    if let Some(path) = output {
        check_output_name(path, ".html", arguments)?;
    }
    let labels = labels(arguments)?;
    let targets = &arguments.compile.target;
    let reduce = reduce_of(&arguments.reduce)?;
    let options = arguments.tokens.options(reduce, targets)?;
    let mut options = options.unwrap_or(TokenOptions { files: Vec::new(), reduce, targets: targets.clone() });
    let inputs = arguments.inputs.read(arguments.execution.memory_limit())?;
    let compiled = compile(arguments)?;
    let (graph, outcome) = execute(&compiled, &inputs, true, arguments)?;
    let story = Story::of(&compiled, &outcome, &ends(&graph, &outcome), &labels, targets);
    if compiled.report.is_gradient && options.reduce.tokens.is_none() {
        options.reduce.tokens = Some(Reduction::Abs);
        if !outcome.token_ids.is_empty() {
            output::message(
                "note: a token shows the sum of its gradient's magnitudes, since their signed sum over hidden units means \
                 nothing; --reduce tokens=sum shows that",
            );
        }
    }
    let groups = groups(&graph, &outcome, &options)?;
    let to_stdout = !output.is_some_and(output::is_stdout);
    let mut explanation = Explanation {
        title: format!("Explained: {}", story.target),
        facts: story.facts(),
        quantity: story.quantity(),
        groups,
    };
    if let Some(path) = output {
        output::text(Some(path), &html_page(&explanation).map_err(Error::Output)?)?;
    }
    let groups = std::mem::take(&mut explanation.groups);
    if arguments.format == Format::Json {
        let mut value = story.json(&outcome);
        value["tokens"] = groups_json(&groups);
        output::report(&format!("{value}\n"), to_stdout)?;
        return Ok(Status::Good);
    }
    story.tell(&graph, &outcome);
    output::report(&arguments.tokens.color.text(groups, story.quantity(), to_stdout), to_stdout)?;
    if let Some(path) = output.filter(|_| to_stdout) {
        output::message(&format!("wrote {}", path.display()));
    }
    Ok(Status::Good)
}
