//! Names that are free.

use std::collections::BTreeSet;

use super::Graph;

impl Graph {
    /// As [`Graph::fresh_name`] for the results of one node, which are told apart from each other too.
    pub fn fresh_names<'a>(&self, bases: impl IntoIterator<Item = &'a str>) -> Vec<String> {
        let mut taken: BTreeSet<String> = BTreeSet::new();
        let mut names = Vec::new();
        for base in bases {
            let mut name = self.fresh_name(base);
            let mut count = 1u64;
            while taken.contains(&name) || self.find(&name).is_some() {
                name = format!("{base}.{count}");
                count += 1;
            }
            taken.insert(name.clone());
            names.push(name);
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use crate::text::parse;

    #[test]
    fn names_of_one_node_differ() {
        let graph = parse("lrpc 1\ninput %x : f32[2]\nresult \"x\" = %x\n").unwrap();
        assert_eq!(graph.fresh_names(["x", "x.1", "y", "y"]), ["x.1", "x.1.1", "y", "y.1"]);
    }
}
