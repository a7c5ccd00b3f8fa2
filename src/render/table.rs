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

/// A table with a head, printed by `Display`: columns two spaces apart, no space at the end of a line.
#[derive(Clone, Debug)]
pub struct Table {
    columns: Vec<(String, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table with the given columns.
    pub fn new(columns: &[(&str, Align)]) -> Table {
        Table { columns: columns.iter().map(|(name, align)| (name.to_string(), *align)).collect(), rows: Vec::new() }
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
        self.columns
            .iter()
            .enumerate()
            .map(|(column, (name, _))| {
                let cells = self.rows.iter().filter_map(|row| row.get(column));
                cells.map(width).fold(width(name), usize::max)
            })
            .collect()
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
        self.rows.iter().try_for_each(|row| writeln!(f, "{}", self.line(row.iter(), &widths)))
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
    fn an_empty_table_is_its_head() {
        let table = Table::new(&[("a", Align::Right)]);
        assert!(table.is_empty());
        assert_eq!(table.to_string(), "a\n-\n");
    }
}
