//! The text format, which is the `relevance.graph` file itself. The grammar is in `docs/format.md`.
//!
//! `parse(print(graph)) == graph` for every graph that the verifier accepts. Printing the same graph twice gives the
//! same bytes.

mod lexer;
mod parse;
mod print;

pub use parse::{ParseError, parse};
pub use print::{annotated, print, print_node, value};

/// The symbol's name as the format spells it: bare if it is a word, in quotation marks otherwise.
pub(crate) fn symbol(name: &str) -> String {
    let mut chars = name.chars();
    let word = chars.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.');
    let reserved = ["floor", "max", "min", "inf", "nan", "true", "false"].contains(&name);
    if word && !reserved { name.into() } else { quoted(name) }
}

/// The string in quotation marks.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => out.push_str(&format!("\\u{{{:x}}}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Whether `c` may stand in a value's name without quotation marks.
fn is_bare(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_./:$-+@".contains(c)
}

#[cfg(test)]
mod tests;
