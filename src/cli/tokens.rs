//! Flags for what is shown of tokens, and how they are coloured.

use std::env;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::{Args, ValueEnum};
use lrpc_ir::Diagnostic;

use super::paths::Input;
use crate::attribution::TokenOptions;
use crate::error::Error;
use crate::reduce::{Reduce, Reduction};
use crate::render::explanation::Group;
use crate::render::{Colours, Explanation, terminal_text};
use crate::tokens::TokenFile;

/// Columns of a terminal that does not say how many it has.
const COLUMNS: usize = 80;

/// `tokens=sum`, `channels=abs`, `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReduceFlag {
    None,
    Tokens(Option<Reduction>),
    Channels(Option<Reduction>),
    Places(Option<Reduction>),
}

impl FromStr for ReduceFlag {
    type Err = String;

    fn from_str(text: &str) -> Result<ReduceFlag, String> {
        let reduction = |how: &str| match how {
            "sum" => Ok(Some(Reduction::Sum)),
            "abs" => Ok(Some(Reduction::Abs)),
            "none" => Ok(None),
            other => Err(format!("`{other}` is no reduction; there are: sum, abs, none")),
        };
        match text.split_once('=') {
            None if text == "none" => Ok(ReduceFlag::None),
            Some(("tokens", how)) => reduction(how).map(ReduceFlag::Tokens),
            Some(("channels", how)) => reduction(how).map(ReduceFlag::Channels),
            Some(("places", how)) => reduction(how).map(ReduceFlag::Places),
            _ => Err("write it as tokens=sum, channels=abs, places=sum or none".into()),
        }
    }
}

/// What all the flags together ask for; the last of each kind counts.
///
/// # Errors
/// `none` beside another.
pub(super) fn reduce_of(flags: &[ReduceFlag]) -> Result<Reduce, Error> {
    if flags.contains(&ReduceFlag::None) && flags.iter().any(|flag| *flag != ReduceFlag::None) {
        return Err(Diagnostic::request("--reduce none stands alone").help("leave `none` out, or the others").into());
    }
    Ok(flags.iter().fold(Reduce::default(), |reduce, flag| match *flag {
        ReduceFlag::None => reduce,
        ReduceFlag::Tokens(tokens) => Reduce { tokens, ..reduce },
        ReduceFlag::Channels(channels) => Reduce { channels, ..reduce },
        ReduceFlag::Places(places) => Reduce { places, ..reduce },
    }))
}

/// When text is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum ColorFlag {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never: numbers are written instead.
    Never,
}

impl ColorFlag {
    /// `groups` of `quantity` as text for standard output or standard error.
    pub(super) fn text(self, groups: Vec<Group>, quantity: &'static str, to_stdout: bool) -> String {
        let on_terminal = if to_stdout { io::stdout().is_terminal() } else { io::stderr().is_terminal() };
        let colours = self.colours(on_terminal, |name| env::var(name).unwrap_or_default());
        let columns = env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
        let explanation = Explanation { title: String::new(), facts: Vec::new(), quantity, groups };
        terminal_text(&explanation, colours, columns.unwrap_or(COLUMNS))
    }

    fn colours(self, on_terminal: bool, variable: impl Fn(&str) -> String) -> Colours {
        let plain = !on_terminal || !variable("NO_COLOR").is_empty() || variable("TERM") == "dumb";
        match self {
            ColorFlag::Never => Colours::None,
            ColorFlag::Auto if plain => Colours::None,
            _ if matches!(variable("COLORTERM").as_str(), "truecolor" | "24bit") => Colours::True,
            _ => Colours::Palette,
        }
    }
}

/// What names tokens, and how they are shown.
#[derive(Debug, Args)]
pub(super) struct TokenFlags {
    /// Names of tokens: one on each line or a JSON list for the input given; a JSON list of lists, one for each sample;
    /// or a vocabulary: vocab.txt, vocab.json, tokenizer.json. `INPUT=FILE` for one input of several
    #[arg(long, value_name = "[INPUT=]FILE")]
    tokens: Vec<PathBuf>,
    /// When tokens are coloured; without colour their numbers are written
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub(super) color: ColorFlag,
}

impl TokenFlags {
    fn split(&self) -> impl Iterator<Item = (Option<&str>, &Path)> {
        self.tokens.iter().map(|flag| match flag.to_str().and_then(|text| text.split_once('=')) {
            Some((input, path)) if !flag.exists() => (Some(input), Path::new(path)),
            _ => (None, flag.as_path()),
        })
    }

    /// What is read.
    pub(super) fn files(&self) -> impl Iterator<Item = Input<'_>> {
        self.split().map(|(_, path)| ("the tokens", path))
    }

    /// Reads the files; `None` where none is given.
    ///
    /// # Errors
    /// Files that are refused, and several for one input.
    pub(super) fn options(&self, reduce: Reduce, targets: &[String]) -> Result<Option<TokenOptions>, Error> {
        let mut files: Vec<(Option<String>, TokenFile)> = Vec::new();
        for (input, path) in self.split() {
            if files.iter().any(|(other, _)| other.as_deref() == input) {
                let message = format!("--tokens {}: there is another file for the same input", path.display());
                return Err(Diagnostic::request(message).help("write --tokens INPUT=FILE for each input").into());
            }
            files.push((input.map(str::to_string), TokenFile::read(path)?));
        }
        let targets = targets.to_vec();
        Ok(if files.is_empty() { None } else { Some(TokenOptions { files, reduce, targets }) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reductions_are_read() {
        assert_eq!("tokens=sum".parse(), Ok(ReduceFlag::Tokens(Some(Reduction::Sum))));
        assert_eq!("channels=none".parse(), Ok(ReduceFlag::Channels(None)));
        assert!("tokens=mean".parse::<ReduceFlag>().is_err() && "sum".parse::<ReduceFlag>().is_err());
        assert!(reduce_of(&[ReduceFlag::None, ReduceFlag::Tokens(None)]).is_err());
        assert_eq!(reduce_of(&[ReduceFlag::None]).unwrap(), Reduce::default());
    }

    #[test]
    fn colours_follow_flag_terminal_and_environment() {
        let colours = |flag: ColorFlag, terminal, given: &[(&str, &str)]| {
            let value =
                |name: &str| given.iter().find(|(other, _)| *other == name).map_or(String::new(), |v| v.1.into());
            flag.colours(terminal, value)
        };
        let truecolor = ("COLORTERM", "truecolor");
        assert_eq!(colours(ColorFlag::Auto, true, &[truecolor]), Colours::True);
        assert_eq!(colours(ColorFlag::Auto, true, &[]), Colours::Palette);
        assert_eq!(colours(ColorFlag::Auto, true, &[truecolor, ("NO_COLOR", "1")]), Colours::None);
        assert_eq!(colours(ColorFlag::Auto, true, &[("NO_COLOR", "")]), Colours::Palette);
        assert_eq!(colours(ColorFlag::Auto, true, &[("TERM", "dumb")]), Colours::None);
        assert_eq!(colours(ColorFlag::Auto, false, &[truecolor]), Colours::None);
        assert_eq!(colours(ColorFlag::Always, false, &[truecolor, ("NO_COLOR", "1")]), Colours::True);
        assert_eq!(colours(ColorFlag::Never, true, &[truecolor]), Colours::None);
    }
}
