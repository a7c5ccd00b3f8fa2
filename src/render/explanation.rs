//! An explanation as people see it: tokens, each with a signed number, and maps of numbers.
//!
//! [`super::terminal`] and [`super::html`] show it. Tokens that belong together share one scale, which is symmetric, so
//! that zero has no colour.

/// An explanation to be shown.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// What is explained.
    pub title: String,
    /// What else is to be known: rules, totals.
    pub facts: Vec<String>,
    /// What the numbers are: `relevance`, `gradient`.
    pub quantity: &'static str,
    /// One for each composite, target and sample.
    pub groups: Vec<Group>,
}

/// What is seen side by side, on one scale.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// What tells it from the other groups; empty where there is one alone.
    pub label: String,
    /// One for each explained tensor.
    pub blocks: Vec<Block>,
}

/// The relevance of one tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// What it belongs to.
    pub label: String,
    /// Its sum.
    pub sum: f64,
    /// The numbers.
    pub content: Content,
}

/// The numbers of a block.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// One for each token.
    Tokens(Vec<Token>),
    /// One for each place of a grid.
    Map(Map),
}

/// A token with its relevance.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    /// Its characters.
    pub text: String,
    /// Whether a space stands before it.
    pub starts_word: bool,
    /// Its number in the vocabulary.
    pub id: i64,
    /// Its relevance, finite.
    pub value: f64,
}

/// Numbers in rows, from the upper left.
#[derive(Debug, Clone, PartialEq)]
pub struct Map {
    /// Number of columns.
    pub columns: usize,
    /// The numbers, row by row.
    pub values: Vec<f64>,
}

impl Group {
    /// The largest |value| of its tokens: the one with the full colour.
    pub fn limit(&self) -> f64 {
        let tokens = self.blocks.iter().filter_map(|block| match &block.content {
            Content::Tokens(tokens) => Some(tokens),
            Content::Map(_) => None,
        });
        largest(tokens.flatten().map(|token| token.value))
    }

    /// Whether it has tokens.
    pub fn has_tokens(&self) -> bool {
        self.blocks.iter().any(|block| matches!(block.content, Content::Tokens(_)))
    }
}

impl Map {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.values.len() / self.columns.max(1)
    }

    /// The largest |value|.
    pub fn limit(&self) -> f64 {
        largest(self.values.iter().copied())
    }

    /// The map with at most that many rows and columns: neighbours are added, so that the sum stays.
    pub fn binned(&self, most_rows: usize, most_columns: usize) -> Map {
        let (rows, columns) = (self.rows().min(most_rows), self.columns.min(most_columns));
        let mut values = vec![0.0; rows * columns];
        for (flat, value) in self.values.iter().enumerate() {
            let row = flat / self.columns.max(1) * rows / self.rows().max(1);
            let column = flat % self.columns.max(1) * columns / self.columns.max(1);
            if let Some(sum) = values.get_mut(row * columns + column) {
                *sum += value;
            }
        }
        Map { columns, values }
    }
}

fn largest(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(0.0, |largest, value| largest.max(value.abs()))
}

/// `value` as a share of `limit`, in −1..=1; 0 where everything is.
pub fn strength(value: f64, limit: f64) -> f64 {
    if limit > 0.0 { (value / limit).clamp(-1.0, 1.0) } else { 0.0 }
}

/// A number with its sign, for people: four decimals, or powers of ten for very small and large ones.
pub fn signed(value: f64) -> String {
    if value == 0.0 {
        return "0".into();
    }
    if value.abs() < 1e-3 || value.abs() >= 1e6 { format!("{value:+.2e}") } else { format!("{value:+.4}") }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Two blocks of tokens, two of whose characters mean something in HTML, and a map.
    pub fn example() -> Explanation {
        let token = |text: &str, starts_word, value| Token { text: text.into(), starts_word, id: 7, value };
        let block = |label: &str, sum, content| Block { label: label.into(), sum, content };
        let encoder = vec![token("not", true, -2.0), token("fun", true, 1.0), token("ny", false, 0.5)];
        let decoder = vec![token("<s>", true, 0.0), token("\"&'", true, 0.25)];
        let map = Map { columns: 3, values: vec![0.0, 1.0, -1.0, 0.5, -0.5, 0.25] };
        Explanation {
            title: "class 1 <good>".into(),
            facts: vec!["rules: epsilon & more".into()],
            quantity: "relevance",
            groups: vec![
                Group {
                    label: "epsilon".into(),
                    blocks: vec![
                        block("input_ids", -0.5, Content::Tokens(encoder)),
                        block("decoder_input_ids", 0.25, Content::Tokens(decoder)),
                    ],
                },
                Group { label: "sound".into(), blocks: vec![block("features", 0.25, Content::Map(map))] },
            ],
        }
    }

    #[test]
    fn a_scale_is_that_of_the_largest_token() {
        let example = example();
        assert_eq!(example.groups.iter().map(Group::limit).collect::<Vec<_>>(), [2.0, 0.0]);
        assert_eq!([strength(-2.0, 2.0), strength(0.5, 2.0), strength(0.0, 0.0)], [-1.0, 0.25, 0.0]);
    }

    #[test]
    fn bins_keep_the_sum() {
        let map = Map { columns: 5, values: (0..35).map(f64::from).collect() };
        let binned = map.binned(2, 3);
        assert_eq!((binned.rows(), binned.columns), (2, 3));
        assert_eq!(binned.values.iter().sum::<f64>(), map.values.iter().sum::<f64>());
        assert_eq!(map.binned(100, 100), map);
        let empty = Map { columns: 0, values: Vec::new() };
        assert_eq!(empty.binned(2, 2), empty);
    }

    #[test]
    fn numbers_have_signs() {
        let shown = [0.0, -0.0, 0.12344, -3.0, 1e-5, -2.5e8].map(signed);
        assert_eq!(shown, ["0", "0", "+0.1234", "-3.0000", "+1.00e-5", "-2.50e8"]);
    }
}
