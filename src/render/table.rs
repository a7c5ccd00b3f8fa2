//! Tables of plain text.

use std::fmt;

/// Side of a column on which its cells are aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// Width of what is shown in a terminal, in characters.
pub const LINE: usize = 100;
/// The narrowest that a column is made so that a table fits.
const NARROWEST: usize = 12;

/// A table with a head, printed by `Display`: columns two spaces apart, no space at the end of a line.
#[derive(Clone, Debug)]
pub struct Table {
    columns: Vec<(String, Align)>,
    rows: Vec<Vec<String>>,
    width: usize,
}

/// `text` in lines of at most `width` characters, broken between words, or within those that are longer than a line.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if used > 0 && used + 1 + length > width {
            lines.push(String::new());
            used = 0;
        }
        for (place, c) in word.chars().enumerate() {
            if used > 0 && place == 0 {
                push(&mut lines, ' ');
                used += 1;
            } else if used == width {
                lines.push(String::new());
                used = 0;
            }
            push(&mut lines, c);
            used += 1;
        }
    }
    lines
}

fn push(lines: &mut [String], c: char) {
    if let Some(line) = lines.last_mut() {
        line.push(c);
    }
}

impl Table {
    /// An empty table with the given columns.
    pub fn new(columns: &[(&str, Align)]) -> Table {
        let columns = columns.iter().map(|(name, align)| (name.to_string(), *align)).collect();
        Table { columns, rows: Vec::new(), width: usize::MAX }
    }

    /// The table with cells of its widest columns of text broken into lines, so that it is at most `width` characters
    /// wide where that is possible.
    pub fn fitted(mut self, width: usize) -> Table {
        self.width = width;
        self
    }

    /// Adds a row. Missing cells are empty; cells beyond the last column are left out.
    pub fn row(&mut self, cells: impl IntoIterator<Item = impl fmt::Display>) {
        let mut row: Vec<String> = cells.into_iter().take(self.columns.len()).map(|cell| cell.to_string()).collect();
        row.resize(self.columns.len(), String::new());
        self.rows.push(row);
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn widths(&self) -> Vec<usize> {
        let width = |cell: &String| cell.chars().count();
        let widest = |(column, (name, _)): (usize, &(String, Align))| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(width).fold(width(name), usize::max)
        };
        let mut widths: Vec<usize> = self.columns.iter().enumerate().map(widest).collect();
        let gaps = 2 * self.columns.len().saturating_sub(1);
        while widths.iter().sum::<usize>() + gaps > self.width {
            let columns = widths.iter_mut().zip(&self.columns).filter(|(_, (_, align))| *align == Align::Left);
            match columns.map(|(width, _)| width).max() {
                Some(width) if *width > NARROWEST => *width -= 1,
                _ => break,
            }
        }
        widths
    }

    /// A row as lines.
    fn lines(&self, row: &[String], widths: &[usize]) -> Vec<String> {
        let fits = |cell: &String, width: usize| cell.chars().count() <= width;
        let broken = |(cell, &width): (&String, &usize)| {
            if fits(cell, width) { vec![cell.clone()] } else { wrap(cell, width) }
        };
        let cells: Vec<Vec<String>> = row.iter().zip(widths).map(broken).collect();
        let height = cells.iter().map(Vec::len).max().unwrap_or_default();
        let empty = String::new();
        let line = |place| self.line(cells.iter().map(|lines| lines.get(place).unwrap_or(&empty)), widths);
        (0..height).map(line).collect()
    }

    fn line<'a>(&self, cells: impl Iterator<Item = &'a String>, widths: &[usize]) -> String {
        let cells = cells.zip(widths).zip(&self.columns).map(|((cell, &width), (_, align))| match align {
            Align::Left => format!("{cell:<width$}"),
            Align::Right => format!("{cell:>width$}"),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_string()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        writeln!(f, "{}", self.line(self.columns.iter().map(|(name, _)| name), &widths))?;
        let rules: Vec<String> = widths.iter().map(|&width| "-".repeat(width)).collect();
        writeln!(f, "{}", self.line(rules.iter(), &widths))?;
        let lines = self.rows.iter().flat_map(|row| self.lines(row, &widths));
        lines.into_iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_end_without_spaces() {
        let mut table = Table::new(&[("operation", Align::Left), ("count", Align::Right), ("rule", Align::Left)]);
        table.row(["conv", "12", "ZPlus"]);
        table.row(["größe", "1024", ""]);
        table.row(["relu"]);
        insta::assert_snapshot!(table.to_string(), @r"
        operation  count  rule
        ---------  -----  -----
        conv          12  ZPlus
        größe       1024
        relu
        ");
    }

    #[test]
    fn text_is_broken_between_words_and_long_words_within() {
        assert_eq!(wrap("one two  three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefgh ij", 3), ["abc", "def", "gh", "ij"]);
        assert_eq!(wrap("", 5), [""]);
    }

    #[test]
    fn the_widest_columns_of_text_shrink_until_the_table_fits() {
        let mut table = Table::new(&[("name", Align::Left), ("count", Align::Right), ("meaning", Align::Left)]);
        table.row(["a", "7", "one two three four five six seven"]);
        table.row(["b", "8", "short"]);
        insta::assert_snapshot!(table.fitted(30).to_string(), @r"
        name  count  meaning
        ----  -----  -----------------
        a         7  one two three
                     four five six
                     seven
        b         8  short
        ");
    }

    #[test]
    fn an_empty_table_is_its_head() {
        let table = Table::new(&[("a", Align::Right)]);
        assert!(table.is_empty());
        assert_eq!(table.to_string(), "a\n-\n");
    }
}
