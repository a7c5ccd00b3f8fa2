//! An explanation as one HTML file: no script, nothing fetched, legible on light and dark ground.
//!
//! A token's colour is red or blue of one lightness, laid over the page's own ground with the opacity |R| / max |R|:
//! black and white text have almost the same contrast on it, so that one file serves both.

use std::fmt::Write;

use ::image::{Rgb, RgbImage};

use super::colour::blend;
use super::explanation::{Block, Content, Explanation, Group, Map, signed, strength};
use super::heatmap::png_bytes;

/// The most pixels of a map.
const MAP_ROWS: usize = 128;
const MAP_COLUMNS: usize = 512;

/// The full colours, as the style sheet has them.
const POSITIVE: Rgb<u8> = Rgb([208, 64, 48]);
const NEGATIVE: Rgb<u8> = Rgb([48, 112, 208]);

const STYLE: &str = "\
:root{color-scheme:light dark}\
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.3rem;margin:0}h2{font-size:1.1rem;margin:2rem 0 0}h3{font-size:.9rem;font-weight:400;margin:.8rem 0 .2rem}\
.f{margin:.1rem 0;opacity:.75;font-size:.9rem}.b{display:flex;flex-wrap:wrap;gap:0 2.5rem}.b>div{flex:1 1 20rem}\
.t{line-height:2}.t span{padding:.15em .1em;border-radius:.2em;white-space:pre-wrap}\
.p{background:rgb(208 64 48/var(--a))}.n{background:rgb(48 112 208/var(--a))}\
.s{display:flex;align-items:center;gap:.6rem;font-size:.85rem;margin-top:.6rem}\
.s i{width:12rem;height:.8rem;border-radius:.2rem;background:linear-gradient(90deg,rgb(48 112 208),transparent,rgb(208 64 48))}\
img{width:100%;min-height:3rem;image-rendering:pixelated}";

/// `explanation` as an HTML file.
///
/// # Errors
/// A map that cannot be made a picture.
pub fn html_page(explanation: &Explanation) -> std::io::Result<String> {
    let title = escape(&explanation.title);
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n<style>{STYLE}</style>\n\
         </head>\n<body>\n<h1>{title}</h1>\n"
    );
    for fact in &explanation.facts {
        let _ = writeln!(page, "<p class=\"f\">{}</p>", escape(fact));
    }
    for group in &explanation.groups {
        write_group(&mut page, group)?;
    }
    page.push_str("</body>\n</html>\n");
    Ok(page)
}

fn write_group(page: &mut String, group: &Group) -> std::io::Result<()> {
    if !group.label.is_empty() {
        let _ = writeln!(page, "<h2>{}</h2>", escape(&group.label));
    }
    page.push_str("<div class=\"b\">\n");
    for block in &group.blocks {
        write_block(page, block, group.limit())?;
    }
    page.push_str("</div>\n");
    Ok(())
}

fn write_block(page: &mut String, block: &Block, limit: f64) -> std::io::Result<()> {
    let _ = writeln!(page, "<div><h3>{}, sum {}</h3>", escape(&block.label), signed(block.sum));
    match &block.content {
        Content::Tokens(tokens) => {
            page.push_str("<div class=\"t\" dir=\"auto\">");
            for token in tokens {
                if token.starts_word {
                    page.push('\n');
                }
                let strength = strength(token.value, limit);
                let opacity = (strength.abs() * 100.0).round() as u32;
                let class = if strength < 0.0 { "n" } else { "p" };
                let (text, value) = (escape(&token.text), signed(token.value));
                let _ = match opacity {
                    0 => write!(page, "<span title=\"{value}\">{text}</span>"),
                    _ => {
                        write!(page, "<span class=\"{class}\" style=\"--a:{opacity}%\" title=\"{value}\">{text}</span>")
                    }
                };
            }
            page.push_str("\n</div>\n");
            write_scale(page, limit);
        }
        Content::Map(map) => {
            let binned = map.binned(MAP_ROWS, MAP_COLUMNS);
            let picture = picture_of(&binned);
            let (rows, columns) = (map.rows(), map.columns);
            if let Some(picture) = picture {
                let data = base64(&png_bytes(&picture)?);
                let _ = writeln!(
                    page,
                    "<img alt=\"relevance of {rows} by {columns} places\" src=\"data:image/png;base64,{data}\">"
                );
            }
            write_scale(page, binned.limit());
        }
    }
    page.push_str("</div>\n");
    Ok(())
}

fn write_scale(page: &mut String, limit: f64) {
    let limit = signed(limit);
    let limit = limit.trim_start_matches('+');
    let _ = writeln!(page, "<div class=\"s\">against \u{2212}{limit}<i></i>+{limit} for</div>");
}

/// One pixel for each number; `None` for an empty map.
fn picture_of(map: &Map) -> Option<RgbImage> {
    let (width, height) = (u32::try_from(map.columns).ok()?, u32::try_from(map.rows()).ok()?);
    let limit = map.limit();
    let colour = |strength: f64| {
        let full = if strength < 0.0 { NEGATIVE } else { POSITIVE };
        blend(Rgb([255; 3]), full, strength.abs())
    };
    let pixels = map.values.iter().flat_map(|&value| colour(strength(value, limit)).0).collect();
    RgbImage::from_raw(width, height, pixels).filter(|picture| !picture.is_empty())
}

/// The text with the characters that mean something in HTML, inside and outside of attributes, written out.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = (0..3).fold(0u32, |word, at| word << 8 | u32::from(chunk.get(at).copied().unwrap_or(0)));
        for digit in 0..4usize {
            let value = (word >> (18 - 6 * digit) & 63) as usize;
            text.push(if digit <= chunk.len() { DIGITS.get(value).map_or('=', |&c| char::from(c)) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::explanation::tests::example;
    use super::super::explanation::{Content, Token};
    use super::*;

    #[test]
    fn the_page_of_the_example() {
        let mut explanation = example();
        explanation.groups.truncate(1);
        insta::assert_snapshot!(html_page(&explanation).unwrap().replace(STYLE, "…"), @r#"
        <!DOCTYPE html>
        <html lang="en">
        <head>
        <meta charset="utf-8">
        <meta name="viewport" content="width=device-width">
        <title>class 1 &lt;good&gt;</title>
        <style>…</style>
        </head>
        <body>
        <h1>class 1 &lt;good&gt;</h1>
        <p class="f">rules: epsilon &amp; more</p>
        <h2>epsilon</h2>
        <div class="b">
        <div><h3>input_ids, sum -0.5000</h3>
        <div class="t" dir="auto">
        <span class="n" style="--a:100%" title="-2.0000">not</span>
        <span class="p" style="--a:50%" title="+1.0000">fun</span><span class="p" style="--a:25%" title="+0.5000">ny</span>
        </div>
        <div class="s">against −2.0000<i></i>+2.0000 for</div>
        </div>
        <div><h3>decoder_input_ids, sum +0.2500</h3>
        <div class="t" dir="auto">
        <span title="0">&lt;s&gt;</span>
        <span class="p" style="--a:13%" title="+0.2500">&quot;&amp;&#39;</span>
        </div>
        <div class="s">against −2.0000<i></i>+2.0000 for</div>
        </div>
        </div>
        </body>
        </html>
        "#);
    }

    #[test]
    fn a_map_is_a_picture_within_the_page() {
        let page = html_page(&example()).unwrap();
        assert!(page.contains("alt=\"relevance of 2 by 3 places\" src=\"data:image/png;base64,iVBOR"), "{page}");
        assert!(page.contains("against −1.0000<i></i>+1.0000 for"), "{page}");
        let map = Map { columns: 3, values: vec![0.0, 2.0, -2.0] };
        let picture = picture_of(&map).unwrap();
        assert_eq!(
            [picture.get_pixel(0, 0), picture.get_pixel(1, 0), picture.get_pixel(2, 0)],
            [&Rgb([255; 3]), &POSITIVE, &NEGATIVE]
        );
        assert!(picture_of(&Map { columns: 0, values: Vec::new() }).is_none());
    }

    #[test]
    fn a_page_of_128_tokens_is_small() {
        let token = |at: u32| Token {
            text: "<encyclopaedic>".into(),
            starts_word: true,
            id: 0,
            value: f64::from(at).sin() * 1e-5,
        };
        let mut explanation = example();
        explanation.groups.truncate(1);
        explanation.groups[0].blocks.truncate(1);
        explanation.groups[0].blocks[0].content = Content::Tokens((0..128).map(token).collect());
        let page = html_page(&explanation).unwrap();
        assert!(page.len() < 20_000, "{} bytes", page.len());
        assert!(!page.contains("http") && !page.contains("<script") && !page.contains("<encyclo"));
    }

    #[test]
    fn base64_of_the_examples_of_rfc_4648() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
