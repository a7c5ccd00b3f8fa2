//! An explanation on a terminal: coloured tokens in running text, or a column of signed numbers without colour.

use std::fmt::Write;

use ::image::Rgb;

use super::colour::diverging;
use super::explanation::{Block, Content, Explanation, Group, Map, Token, signed, strength};
use super::table::{Align, Table};

/// Below this share of the largest value, a token keeps the terminal's own colours.
const LEAST_COLOURED: f64 = 0.02;
/// The most cells that a map takes.
const MAP_ROWS: usize = 16;
const MAP_COLUMNS: usize = 64;
/// Cells of the colour scale, an odd number so that one is zero.
const SCALE_CELLS: i32 = 17;

/// The colours that a terminal has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colours {
    /// None: numbers are written.
    None,
    /// The palette of 256.
    Palette,
    /// 24 bits.
    True,
}

/// `explanation` as text of at most `width` columns, where single tokens and labels fit in.
pub fn terminal_text(explanation: &Explanation, colours: Colours, width: usize) -> String {
    let mut text = String::new();
    for group in &explanation.groups {
        if !group.label.is_empty() {
            let _ = writeln!(text, "{}", group.label);
        }
        for block in &group.blocks {
            let _ = writeln!(text, "{}  sum {}", block.label, signed(block.sum));
            match colours {
                Colours::None => plain(&mut text, block, explanation.quantity),
                _ => coloured(&mut text, block, group.limit(), colours, width.max(1)),
            }
        }
        if colours != Colours::None && group.has_tokens() {
            scale(&mut text, group, colours);
        }
        text.push('\n');
    }
    text
}

fn plain(text: &mut String, block: &Block, quantity: &str) {
    let mut table = Table::new(&[(quantity, Align::Right), ("", Align::Left)]);
    match &block.content {
        Content::Tokens(tokens) => tokens.iter().for_each(|token| table.row([signed(token.value), token.text.clone()])),
        Content::Map(map) => extremes(map).into_iter().for_each(|(value, place)| table.row([signed(value), place])),
    }
    let _ = write!(text, "{table}");
}

/// The largest and the smallest number of a map, with their places.
fn extremes(map: &Map) -> Vec<(f64, String)> {
    let place = |flat: usize| format!("[{}, {}]", flat / map.columns.max(1), flat % map.columns.max(1));
    let numbers = || map.values.iter().copied().enumerate();
    let largest = numbers().max_by(|a, b| a.1.total_cmp(&b.1));
    let smallest = numbers().min_by(|a, b| a.1.total_cmp(&b.1));
    let named =
        |found: Option<(usize, f64)>, what: &str| found.map(|(at, value)| (value, format!("{what} at {}", place(at))));
    [named(largest, "largest"), named(smallest, "smallest")].into_iter().flatten().collect()
}

fn coloured(text: &mut String, block: &Block, limit: f64, colours: Colours, width: usize) {
    match &block.content {
        Content::Tokens(tokens) => running_text(text, tokens, limit, colours, width),
        Content::Map(map) => {
            let map = map.binned(MAP_ROWS, MAP_COLUMNS);
            for row in map.values.chunks(map.columns.max(1)) {
                row.iter().for_each(|&value| text.push_str(&cell(" ", strength(value, map.limit()), colours)));
                text.push('\n');
            }
            let _ = writeln!(text, "full colour: {}", signed(map.limit()).trim_start_matches('+'));
        }
    }
}

fn running_text(text: &mut String, tokens: &[Token], limit: f64, colours: Colours, width: usize) {
    let mut column = 0;
    for token in tokens {
        let space = token.starts_word && column > 0;
        let length = token.text.chars().count();
        if column > 0 && column + usize::from(space) + length > width {
            text.push('\n');
            column = 0;
        } else if space {
            text.push(' ');
            column += 1;
        }
        text.push_str(&cell(&token.text, strength(token.value, limit), colours));
        column += length;
    }
    text.push('\n');
}

fn scale(text: &mut String, group: &Group, colours: Colours) {
    let limit = signed(group.limit());
    let limit = limit.trim_start_matches('+');
    let half = SCALE_CELLS / 2;
    let cells: String = (-half..=half).map(|at| cell(" ", f64::from(at) / f64::from(half), colours)).collect();
    let _ = writeln!(text, "-{limit} {cells} +{limit}");
}

/// `text` on the colour of `strength`, in black or white, whichever is easier to read.
fn cell(text: &str, strength: f64, colours: Colours) -> String {
    if strength.abs() < LEAST_COLOURED {
        return text.into();
    }
    let colour = diverging(strength);
    let code = |Rgb([red, green, blue]): Rgb<u8>| match colours {
        Colours::True => format!("2;{red};{green};{blue}"),
        _ => format!("5;{}", palette_index([red, green, blue])),
    };
    let front = if is_dark(colour) { Rgb([255; 3]) } else { Rgb([0; 3]) };
    format!("\u{1b}[38;{};48;{}m{text}\u{1b}[0m", code(front), code(colour))
}

/// Whether white is easier to read on the colour than black.
fn is_dark(Rgb([red, green, blue]): Rgb<u8>) -> bool {
    let linear = |byte: u8| (f64::from(byte) / 255.0).powf(2.2);
    // White and black contrast alike where (1 + 0.05) / (L + 0.05) = (L + 0.05) / 0.05.
    0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue) < 0.179
}

/// The nearest of the 216 colours of the palette's cube.
fn palette_index(colour: [u8; 3]) -> u8 {
    const LEVELS: [u8; 6] = [0, 95, 135, 175, 215, 255];
    let nearest = |byte: u8| (0..6u8).zip(LEVELS).min_by_key(|(_, level)| level.abs_diff(byte)).map_or(0, |(at, _)| at);
    let [red, green, blue] = colour.map(nearest);
    16 + 36 * red + 6 * green + blue
}

#[cfg(test)]
mod tests {
    use super::super::explanation::tests::example;
    use super::*;

    #[test]
    fn numbers_stand_for_colours() {
        insta::assert_snapshot!(terminal_text(&example(), Colours::None, 80), @r#"
        epsilon
        input_ids  sum -0.5000
        relevance
        ---------  ---
          -2.0000  not
          +1.0000  fun
          +0.5000  ny
        decoder_input_ids  sum +0.2500
        relevance
        ---------  ---
                0  <s>
          +0.2500  "&'

        sound
        features  sum +0.2500
        relevance
        ---------  ------------------
          +1.0000  largest at [0, 1]
          -1.0000  smallest at [0, 2]
        "#);
    }

    #[test]
    fn tokens_are_coloured() {
        let text = terminal_text(&example(), Colours::True, 80);
        let Rgb([red, green, blue]) = diverging(-1.0);
        let strongest = format!("\u{1b}[38;2;255;255;255;48;2;{red};{green};{blue}mnot\u{1b}[0m ");
        assert!(text.contains(&strongest), "{text:?}");
        assert!(text.contains("\n<s> "), "zero has no colour: {text:?}");
        assert!(text.contains("-2.0000 \u{1b}") && text.contains(" +2.0000"), "{text:?}");
        let palette = terminal_text(&example(), Colours::Palette, 80);
        assert!(palette.contains("48;5;") && !palette.contains("48;2;"), "{palette:?}");
    }

    #[test]
    fn lines_are_broken_between_tokens() {
        let text = terminal_text(&example(), Colours::True, 8);
        let bare: Vec<String> =
            text.split('\u{1b}').map(|part| part.split_once('m').map_or(part, |p| p.1).into()).collect();
        assert!(bare.concat().contains("not fun\nny\n"), "{:?}", bare.concat());
    }

    #[test]
    fn the_palette_holds_the_corners_of_the_cube() {
        assert_eq!([palette_index([0; 3]), palette_index([255; 3]), palette_index([255, 0, 0])], [16, 231, 196]);
    }
}
