//! Names of tokens: files that name them, and how the names are written for people.
//!
//! Read are lists of tokens (one on each line, a JSON list, or a JSON list of lists, one for each sample) and
//! vocabularies: one token on each line, whose number, from 0, is its id; a JSON list; a JSON map from token to id
//! (`vocab.json`); and the vocabulary inside a `tokenizer.json`. No tokenizer is run.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use lrpc_ir::Diagnostic;
use serde_json::Value as Json;

/// The largest token file that is read, in bytes.
const MAX_TOKEN_BYTES: u64 = 1 << 26;

/// The marks with which byte-level and SentencePiece vocabularies write the space before a word.
const BYTE_LEVEL_SPACE: char = '\u{120}';
const SENTENCE_PIECE_SPACE: char = '\u{2581}';
/// The mark with which WordPiece vocabularies write that a token goes on with a word.
const WORD_PIECE_CONTINUES: &str = "##";

/// A token as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenName {
    /// Its characters; what cannot be seen is written out.
    pub text: String,
    /// Whether a space stands before it.
    pub starts_word: bool,
}

/// A file that names tokens.
#[derive(Debug, Clone)]
pub struct TokenFile {
    path: PathBuf,
    names: Names,
    spelling: Spelling,
}

#[derive(Debug, Clone)]
enum Names {
    /// The tokens of one sample, or a vocabulary: numbers tell.
    Flat(Vec<String>),
    /// The tokens of each sample.
    Samples(Vec<Vec<String>>),
    /// Names by id.
    Vocabulary(BTreeMap<i64, String>),
}

/// How a vocabulary writes spaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spelling {
    /// `Ġ` for a space, and a printable character for every other byte.
    ByteLevel,
    /// `▁` for a space.
    SentencePiece,
    /// `##` where there is none; also words without any mark.
    WordPiece,
}

impl TokenFile {
    /// Reads a file of any of the forms.
    ///
    /// # Errors
    /// A file that cannot be read, is too large, is no UTF-8 or is in no such form.
    pub fn read(path: &Path) -> Result<TokenFile, Diagnostic> {
        let wrong = |why: &dyn std::fmt::Display| Diagnostic::new(format!("--tokens {}: {why}", path.display()));
        let size = std::fs::metadata(path).map_err(|error| wrong(&error))?.len();
        if size > MAX_TOKEN_BYTES {
            return Err(wrong(&format!("it has {size} bytes, the limit is {MAX_TOKEN_BYTES}")));
        }
        let bytes = std::fs::read(path).map_err(|error| wrong(&error))?;
        let text = String::from_utf8(bytes).map_err(|error| {
            wrong(&format!("it is no UTF-8 text: byte {} starts no character", error.utf8_error().valid_up_to()))
        })?;
        let text = text.trim_start_matches('\u{feff}');
        let named_json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
        let names = match serde_json::from_str::<Json>(text) {
            Ok(json @ (Json::Array(_) | Json::Object(_))) => names_of(json).map_err(|why| wrong(&why))?,
            Err(error) if named_json => return Err(wrong(&error)),
            _ => Names::Flat(text.lines().map(str::to_string).collect()),
        };
        let spelling = names.spelling();
        Ok(TokenFile { path: path.to_path_buf(), names, spelling })
    }

    /// The names of the tokens of `samples`, each a row of ids.
    ///
    /// `rows` is the number of rows of the table that the ids index: it tells a list of tokens from a vocabulary. Ids
    /// that a vocabulary does not have are shown as numbers.
    ///
    /// # Errors
    /// Lists of another length than the samples have.
    pub fn names(&self, samples: &[Vec<i64>], rows: Option<usize>) -> Result<Vec<Vec<TokenName>>, Diagnostic> {
        let lengths: Vec<usize> = samples.iter().map(Vec::len).collect();
        match &self.names {
            Names::Vocabulary(names) => Ok(self.look_up(samples, |id| names.get(&id))),
            Names::Samples(lists) => {
                let found: Vec<usize> = lists.iter().map(Vec::len).collect();
                if found != lengths {
                    return Err(self.misfit(&format!("its lists have {} tokens", in_words(&found)), &lengths));
                }
                Ok(lists.iter().map(|list| list.iter().map(|token| self.show(token)).collect()).collect())
            }
            Names::Flat(names) => {
                let is_list = lengths == [names.len()] && rows != Some(names.len());
                if is_list {
                    return Ok(vec![names.iter().map(|token| self.show(token)).collect()]);
                }
                let name = |id: i64| usize::try_from(id).ok().and_then(|id| names.get(id));
                if samples.iter().flatten().any(|&id| name(id).is_none()) {
                    return Err(self.misfit(&format!("it has {} tokens", names.len()), &lengths));
                }
                Ok(self.look_up(samples, name))
            }
        }
    }

    /// How many tokens a vocabulary has; `None` for lists, and for what may be either.
    pub fn vocabulary_len(&self) -> Option<usize> {
        match &self.names {
            Names::Vocabulary(names) => Some(names.len()),
            _ => None,
        }
    }

    fn misfit(&self, found: &str, lengths: &[usize]) -> Diagnostic {
        let message = format!("--tokens {}: {found}, the input has {}", self.path.display(), in_words(lengths));
        Diagnostic::new(message)
            .help("name one token for each position, or give a vocabulary that has every id; --tokens INPUT=FILE")
    }

    fn look_up<'a>(&'a self, samples: &[Vec<i64>], name: impl Fn(i64) -> Option<&'a String>) -> Vec<Vec<TokenName>> {
        let show = |&id: &i64| name(id).map_or_else(|| number(id), |token| self.show(token));
        samples.iter().map(|ids| ids.iter().map(show).collect()).collect()
    }

    fn show(&self, token: &str) -> TokenName {
        let mark = match self.spelling {
            Spelling::ByteLevel => Some(BYTE_LEVEL_SPACE),
            Spelling::SentencePiece => Some(SENTENCE_PIECE_SPACE),
            Spelling::WordPiece => None,
        };
        let Some(mark) = mark else {
            let rest = token.strip_prefix(WORD_PIECE_CONTINUES).filter(|rest| !rest.is_empty());
            return TokenName { text: visible(rest.unwrap_or(token)), starts_word: rest.is_none() };
        };
        let rest = token.strip_prefix(mark);
        let starts_word = rest.is_some();
        let text = match (self.spelling, rest.unwrap_or(token)) {
            (Spelling::ByteLevel, rest) => visible(&bytes_of(rest).unwrap_or_else(|| rest.to_string())),
            (_, rest) => visible(&rest.replace(SENTENCE_PIECE_SPACE, " ")),
        };
        TokenName { text, starts_word }
    }
}

/// The ids themselves, where nothing names them.
pub fn unnamed(samples: &[Vec<i64>]) -> Vec<Vec<TokenName>> {
    samples.iter().map(|ids| ids.iter().map(|&id| number(id)).collect()).collect()
}

fn number(id: i64) -> TokenName {
    TokenName { text: id.to_string(), starts_word: true }
}

impl Names {
    fn spelling(&self) -> Spelling {
        let all: Box<dyn Iterator<Item = &String>> = match self {
            Names::Flat(names) => Box::new(names.iter()),
            Names::Samples(lists) => Box::new(lists.iter().flatten()),
            Names::Vocabulary(names) => Box::new(names.values()),
        };
        let marks: Vec<char> = all.filter_map(|name| name.chars().next()).collect();
        let count = |mark: char| marks.iter().filter(|&&first| first == mark).count();
        match (count(BYTE_LEVEL_SPACE), count(SENTENCE_PIECE_SPACE)) {
            (0, 0) => Spelling::WordPiece,
            (bytes, pieces) if bytes >= pieces => Spelling::ByteLevel,
            _ => Spelling::SentencePiece,
        }
    }
}

fn names_of(json: Json) -> Result<Names, String> {
    let forms = "write a list of tokens, a list of lists, or a map from token to id, or give a tokenizer.json";
    match json {
        Json::Array(items) if items.iter().all(Json::is_array) && !items.is_empty() => {
            let lists = items.iter().map(strings).collect::<Option<Vec<_>>>();
            lists.map(Names::Samples).ok_or_else(|| forms.into())
        }
        json @ Json::Array(_) => strings(&json).map(Names::Flat).ok_or_else(|| forms.into()),
        Json::Object(mut entries) => {
            let added = entries.remove("added_tokens");
            let vocabulary = match entries.get_mut("model").and_then(|model| model.get_mut("vocab")) {
                Some(vocabulary) => vocabulary.take(),
                None => Json::Object(entries),
            };
            let mut names = by_id(vocabulary).ok_or(forms)?;
            for token in added.iter().filter_map(Json::as_array).flatten() {
                if let (Some(id), Some(content)) = (token["id"].as_i64(), token["content"].as_str()) {
                    names.insert(id, content.to_string());
                }
            }
            Ok(Names::Vocabulary(names))
        }
        _ => Err(forms.into()),
    }
}

fn strings(json: &Json) -> Option<Vec<String>> {
    json.as_array()?.iter().map(|item| item.as_str().map(str::to_string)).collect()
}

/// A map from token to id, or the list of pairs of token and score that unigram vocabularies are.
fn by_id(vocabulary: Json) -> Option<BTreeMap<i64, String>> {
    match vocabulary {
        Json::Object(entries) => entries.into_iter().map(|(token, id)| Some((id.as_i64()?, token))).collect(),
        Json::Array(pieces) => {
            (0..).zip(pieces).map(|(id, piece)| Some((id, piece.get(0)?.as_str()?.to_string()))).collect()
        }
        _ => None,
    }
}

/// The text whose bytes a byte-level token writes as characters; `None` where it is no such token. Bytes that are no
/// whole characters, as tokens may end within one, are written out.
///
/// Source of the map: Radford et al. 2019 (GPT-2): printable Latin-1 characters stand for themselves, the other bytes,
/// in ascending order, for the characters from U+0100 on.
fn bytes_of(token: &str) -> Option<String> {
    let itself = |byte: u8| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let others = (0..=u8::MAX).filter(|&byte| !itself(byte)).zip('\u{100}'..).map(|(byte, other)| (other, byte));
    let map: HashMap<char, u8> =
        (0..=u8::MAX).filter(|&byte| itself(byte)).map(|byte| (char::from(byte), byte)).chain(others).collect();
    let bytes: Vec<u8> = token.chars().map(|character| map.get(&character).copied()).collect::<Option<_>>()?;
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("\\x{byte:02x}")));
    }
    Some(text)
}

/// The text with everything written out that cannot be seen, or that would act on a terminal or on its neighbours:
/// control characters, and those that change the direction of text.
fn visible(text: &str) -> String {
    let mut shown = String::new();
    for character in text.chars() {
        match character {
            '\n' => shown.push('\u{21b5}'),
            '\t' => shown.push('\u{21e5}'),
            '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' => {
                shown.extend(character.escape_unicode());
            }
            other if other.is_control() => shown.extend(other.escape_unicode()),
            other => shown.push(other),
        }
    }
    if shown.is_empty() || shown.chars().all(|character| character == ' ') {
        return "\u{2423}".repeat(shown.len().max(1));
    }
    shown
}

/// `3, 5 and 1 more` for long lists, `3, 5` for short ones.
fn in_words(lengths: &[usize]) -> String {
    const SHOWN: usize = 4;
    let shown: Vec<String> = lengths.iter().take(SHOWN).map(usize::to_string).collect();
    let more = lengths.len().saturating_sub(SHOWN);
    let text = if shown.is_empty() { "no".into() } else { shown.join(", ") };
    if more > 0 { format!("{text} and {more} more") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, content: &[u8]) -> Result<TokenFile, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        TokenFile::read(&path).map_err(|error| error.to_string())
    }

    /// The tokens with a space before each that starts a word.
    fn shown(file: &TokenFile, ids: &[i64], rows: usize) -> Result<String, String> {
        let names = file.names(&[ids.to_vec()], Some(rows)).map_err(|error| error.to_string())?;
        let show = |name: &TokenName| format!("{}{}", if name.starts_word { " " } else { "" }, name.text);
        Ok(names[0].iter().map(show).collect::<Vec<_>>().join("|"))
    }

    #[test]
    fn vocabularies_are_read_in_every_form() {
        let lines = read("vocab.txt", b"\xef\xbb\xbf[PAD]\r\nfilm\r\n##s\r\n").unwrap();
        let list = read("vocab.json", br###"["[PAD]", "film", "##s"]"###).unwrap();
        let map = read("vocab.json", br###"{"##s": 2, "film": 1, "[PAD]": 0}"###).unwrap();
        let tokenizer = br###"{"added_tokens": [{"id": 0, "content": "[PAD]"}],
                               "model": {"type": "WordPiece", "vocab": {"film": 1, "##s": 2}}}"###;
        for file in [lines, list, map, read("tokenizer.json", tokenizer).unwrap()] {
            assert_eq!(shown(&file, &[1, 2, 0], 3).unwrap(), " film|s| [PAD]");
        }
        let unigram = "{\"model\": {\"vocab\": [[\"<pad>\", 0.0], [\"▁film\", -2.5], [\"s\", -3]]}}";
        let unigram = read("tokenizer.json", unigram.as_bytes()).unwrap();
        assert_eq!(shown(&unigram, &[1, 2, 0, 9], 3).unwrap(), " film|s|<pad>| 9");
    }

    #[test]
    fn byte_level_tokens_are_decoded() {
        let file = read("tokens.json", "[\"Gr\", \"Ã¼\", \"ÃŁe\", \"Ġdu\", \"Ċ\", \"Ġ\", \"Ã\"]".as_bytes()).unwrap();
        assert_eq!(shown(&file, &[0; 7], 50).unwrap(), "Gr|ü|ße| du|↵| ␣|\\xc3");
    }

    #[test]
    fn a_list_is_told_from_a_vocabulary() {
        let file = read("tokens.txt", b"good\nfilm\n").unwrap();
        assert_eq!(shown(&file, &[7, 9], 50).unwrap(), " good| film", "one for each position");
        assert_eq!(shown(&file, &[1, 1], 2).unwrap(), " film| film", "one for each row of the table");
        assert_eq!(shown(&file, &[1, 0, 1], 50).unwrap(), " film| good| film", "every id is there");
        assert!(shown(&file, &[1, 0, 2], 50).unwrap_err().contains("it has 2 tokens, the input has 3"));
        let samples = read("tokens.json", br#"[["a"], ["b", "c"]]"#).unwrap();
        assert!(shown(&samples, &[0], 9).unwrap_err().contains("lists have 1, 2 tokens, the input has 1"));
        assert_eq!(samples.names(&[vec![0], vec![0, 0]], None).unwrap()[1][1].text, "c");
    }

    #[test]
    fn files_of_no_form_are_refused() {
        for (name, content, words) in [
            ("a.txt", &b"good\xff"[..], "byte 4 starts no character"),
            ("a.json", b"[\"a\", ", "EOF"),
            ("a.json", b"[1, 2]", "write a list of tokens"),
            ("a.json", b"{\"a\": \"b\"}", "write a list of tokens"),
            ("a.json", b"[[\"a\"], [1]]", "write a list of tokens"),
        ] {
            let error = read(name, content).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
        let deep = "[".repeat(100_000);
        assert!(read("deep.json", deep.as_bytes()).is_err());
        assert!(TokenFile::read(Path::new("no/such")).is_err());
    }

    #[test]
    fn nothing_acts_on_a_terminal() {
        assert_eq!(visible("\u{1b}[31mred\u{7}"), "\\u{1b}[31mred\\u{7}");
        assert_eq!(visible("a\u{202e}b"), "a\\u{202e}b");
        assert_eq!([visible(""), visible("  "), visible("a\nb")], ["␣", "␣␣", "a↵b"]);
    }
}
