//! `docs/rules.md`: every rule and composite, from the code; each rule's example graph is its first snapshot.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use lrpc_passes::relevance::composite::{COMPOSITES, Composite};
use lrpc_passes::rules::{RULES, RuleDef};

const HEAD: &str = "# Rules and composites

Everything that `lrpc` applies, written from the code by `INSTA_UPDATE=always cargo test --test tidy` (or
`cargo run -p lrpc-xtask -- rules`); a test fails where this file is stale. [rule-book.md](rule-book.md) explains the
notation, [composites.md](composites.md) how to write a composite of your own, [writing-a-rule.md](writing-a-rule.md) how to
write a rule. `lrpc rules NAME` shows one entry on the terminal.
";

/// The document. `root` is the repository.
///
/// # Errors
/// Files that cannot be read, a rule without snapshot, and a composite that does not read.
pub(crate) fn markdown(root: &Path) -> Result<String, String> {
    let examples = examples(root)?;
    let mut out = format!("{HEAD}\n## Rules\n\n| rule | serves | use when |\n|---|---|---|\n");
    for rule in RULES {
        let link = rule.name.to_lowercase();
        let when = cell(rule.section("Use when"));
        let _ = writeln!(out, "| [`{}`](#{link}) | {} | {when} |", rule.name, rule.classes.join(", "));
    }
    for rule in RULES {
        let example = examples.get(rule.name).ok_or_else(|| {
            format!("no test under passes/src/rules snapshots `{0}`: write check_rule(\"…\", \"{0}\", …)", rule.name)
        })?;
        rule_section(&mut out, rule, example);
    }
    out.push_str("\n## Composites\n\nThe first entry that matches an operation chooses its rule.\n");
    for (name, _) in COMPOSITES {
        let composite = Composite::named(name).map_err(|error| format!("{name}: {error}"))?;
        composite_section(&mut out, &composite);
    }
    Ok(out)
}

fn rule_section(out: &mut String, rule: &RuleDef, example: &str) {
    let _ = writeln!(out, "\n### {}\n\nServes {}.", rule.name, rule.classes.join(", "));
    for (heading, text) in rule.sections() {
        match heading {
            "Parameters" if !rule.parameters.is_empty() => {
                let _ = writeln!(out, "\n**Parameters.** {text}\n\n| name | default | meaning |\n|---|---|---|");
                for parameter in rule.parameters {
                    let (default, doc) = ((parameter.default)(), cell(parameter.doc));
                    let _ = writeln!(out, "| `{}` | `{default}` | {doc} |", parameter.name);
                }
            }
            "Example graph" => {
                let _ = writeln!(out, "\n**Example graph.**\n\n```\n{example}```");
            }
            _ => {
                let end = if heading.ends_with('?') { "" } else { "." };
                let _ = writeln!(out, "\n**{heading}{end}** {text}");
            }
        }
    }
}

fn composite_section(out: &mut String, composite: &Composite) {
    let doc = &composite.doc;
    let _ = writeln!(out, "\n### {}\n\n{doc} Carried as {}.", composite.name, composite.carrier.name());
    if !composite.parameters.is_empty() {
        let parameters: Vec<String> =
            composite.parameters.iter().map(|(name, value)| format!("`{name}` = `{value}`")).collect();
        let _ = writeln!(out, "\nParameters: {}.", parameters.join(", "));
    }
    out.push_str("\n| entry | selects | rule | with |\n|---|---|---|---|\n");
    for entry in composite.entries() {
        let with = if entry.with.is_empty() { String::new() } else { format!("`{}`", cell(&entry.with)) };
        let _ = writeln!(
            out,
            "| {} {} | `{}` | `{}` | {with} |",
            entry.of,
            entry.number,
            cell(&entry.selects),
            cell(&entry.rule)
        );
    }
}

/// Text as a cell of a table.
fn cell(text: &str) -> String {
    text.replace('\n', " ").replace('|', "\\|")
}

/// The graph of the first `check_rule("case", "Rule", …)` of each rule under `passes/src/rules`.
fn examples(root: &Path) -> Result<BTreeMap<String, String>, String> {
    let read = |path: &Path| std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()));
    let folder = root.join("passes/src/rules");
    let entries = std::fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    let mut found = BTreeMap::new();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs")) {
        let source = read(path)?;
        for call in source.split("check_rule(").skip(1) {
            let mut literals = call.split('"').skip(1).step_by(2);
            let (Some(case), Some(rule)) = (literals.next(), literals.next()) else { continue };
            if found.contains_key(rule) || !RULES.iter().any(|known| known.name == rule) {
                continue;
            }
            let snapshot = read(&root.join(format!("snapshots/rules/{case}.snap")))?;
            let graph = snapshot.splitn(3, "---\n").nth(2).unwrap_or_default();
            found.insert(rule.to_string(), graph.to_string());
        }
    }
    Ok(found)
}
