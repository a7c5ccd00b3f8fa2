//! Names: with wildcards, and what was probably meant by one that does not exist.

/// Whether `name` matches `pattern`, in which `*` stands for any characters and `?` for one.
pub fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    // After a mismatch the last star takes one character more: linear in practice, quadratic at worst.
    let (mut at, mut place) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(character) = name.get(place) {
        match (pattern.get(at), star) {
            (Some('*'), _) => {
                star = Some((at, place));
                at += 1;
            }
            (Some(c), _) if *c == '?' || c == character => {
                at += 1;
                place += 1;
            }
            (_, Some((star_at, taken))) => {
                star = Some((star_at, taken + 1));
                at = star_at + 1;
                place = taken + 1;
            }
            (_, None) => return false,
        }
    }
    pattern.iter().skip(at).all(|&c| c == '*')
}

/// How many single characters differ between two words (Levenshtein).
pub fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut corner = i;
        let mut left = i + 1;
        row[0] = left;
        for (place, to) in b.iter().enumerate() {
            let above = row[place + 1];
            left = (corner + usize::from(from != *to)).min(above + 1).min(left + 1);
            corner = above;
            row[place + 1] = left;
        }
    }
    row[b.len()]
}

/// The way out where there is no `word` among `known`: the one that was probably meant, and all of them.
pub fn suggestion<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    if known.is_empty() {
        return "there are none".into();
    }
    let (word, length) = (word.to_lowercase(), word.chars().count());
    // A longer text is no misspelling of a name, and need not be compared.
    let candidates = known.iter().filter(|_| length <= 100);
    let near = candidates.map(|name| (distance(&word, &name.to_lowercase()), name)).min();
    let all = format!("there are {}", known.join(", "));
    match near {
        Some((differs, name)) if 2 * differs <= length.max(2) => format!("did you mean `{name}`? {all}"),
        _ => all,
    }
}

#[cfg(test)]
mod tests {
    use super::{distance, matches, suggestion};

    #[test]
    fn distances_count_single_characters() {
        for (a, b, expected) in [("", "", 0), ("abc", "", 3), ("", "ab", 2), ("kitten", "sitting", 3), ("ab", "ba", 2)]
        {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn what_is_near_is_suggested_and_what_is_far_is_not() {
        let known = ["epsilon", "epsilon-plus", "gamma"];
        assert_eq!(suggestion("Epsilom", known), "did you mean `epsilon`? there are epsilon, epsilon-plus, gamma");
        assert_eq!(suggestion("zzzz", known), "there are epsilon, epsilon-plus, gamma");
        assert_eq!(suggestion("x", []), "there are none");
    }

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, name, expected) in [
            ("*.conv?", "features.conv1", true),
            ("*.conv?", "features.conv", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b", "a-b-c", false),
            ("", "", true),
            ("*", "", true),
            ("x", "xx", false),
            ("relevance/*", "relevance/x", true),
            ("relevance/*", "output/x", false),
            ("?", "", false),
            ("*/x?", "relevance/x1", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
