//! Which groups a topic reaches: a map for exact topics, a tree of tokens for patterns with wildcards.
//!
//! A look-up walks at most a few branches per token, so there is no cache that could be stale.

use std::collections::HashMap;
use std::sync::Arc;
use weir_core::Pattern;
use weir_core::topic::{SYSTEM, is_system};

/// The groups of one project by their patterns.
#[derive(Default)]
pub struct Index {
    exact: HashMap<Arc<str>, Vec<u32>>,
    wild: Node,
}

#[derive(Default)]
struct Node {
    /// By the next token; `*` and `>` stand for themselves.
    next: HashMap<Box<str>, Self>,
    /// Groups with a pattern that ends here.
    here: Vec<u32>,
}

impl Node {
    fn is_empty(&self) -> bool {
        self.next.is_empty() && self.here.is_empty()
    }

    /// Removes one group from the end of a path, and every node that is empty then.
    fn remove<'a>(&mut self, mut path: impl Iterator<Item = &'a str>, group: u32) {
        let Some(token) = path.next() else { return forget(&mut self.here, group) };
        if let Some(node) = self.next.get_mut(token) {
            node.remove(path, group);
            if node.is_empty() {
                self.next.remove(token);
            }
        }
    }

    fn route(&self, rest: Option<&str>, found: &mut impl FnMut(u32)) {
        let Some(rest) = rest else { return self.here.iter().copied().for_each(found) };
        if let Some(tail) = self.next.get(">") {
            tail.here.iter().copied().for_each(&mut *found);
        }
        let (token, rest) = match rest.split_once('.') {
            Some((token, rest)) => (token, Some(rest)),
            None => (rest, None),
        };
        for branch in [token, "*"] {
            if let Some(node) = self.next.get(branch) {
                node.route(rest, found);
            }
        }
    }
}

fn forget(groups: &mut Vec<u32>, group: u32) {
    if let Some(at) = groups.iter().position(|one| *one == group) {
        groups.swap_remove(at);
    }
}

impl Index {
    /// Lets a pattern reach a group.
    pub fn insert(&mut self, pattern: &Pattern, group: u32) {
        if pattern.is_exact() {
            return self.exact.entry(pattern.shared()).or_default().push(group);
        }
        let mut node = &mut self.wild;
        for token in pattern.as_str().split('.') {
            node = node.next.entry(token.into()).or_default();
        }
        node.here.push(group);
    }

    /// Undoes [`Index::insert`].
    pub fn remove(&mut self, pattern: &Pattern, group: u32) {
        if !pattern.is_exact() {
            return self.wild.remove(pattern.as_str().split('.'), group);
        }
        if let Some(groups) = self.exact.get_mut(pattern.as_str()) {
            forget(groups, group);
            if groups.is_empty() {
                self.exact.remove(pattern.as_str());
            }
        }
    }

    /// Names every group that the topic reaches, once per matching pattern.
    pub fn route(&self, topic: &str, mut found: impl FnMut(u32)) {
        if let Some(groups) = self.exact.get(topic) {
            groups.iter().copied().for_each(&mut found);
        }
        if self.wild.next.is_empty() {
            return;
        }
        if !is_system(topic) {
            return self.wild.route(Some(topic), &mut found);
        }
        // No wildcard stands for the first token of the server's own topics.
        if let Some(node) = self.wild.next.get(SYSTEM) {
            node.route(topic.split_once('.').map(|(_, rest)| rest), &mut found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern() -> impl Strategy<Value = Pattern> {
        let token = prop_oneof![Just("a"), Just("b"), Just("*"), Just(SYSTEM)];
        (proptest::collection::vec(token, 1..4), any::<bool>()).prop_map(|(mut tokens, tail)| {
            if tail {
                tokens.push(">");
            }
            tokens.join(".").parse().expect("a pattern")
        })
    }

    proptest! {
        #[test]
        fn finds_what_the_patterns_select(
            patterns in proptest::collection::vec(pattern(), 0..12),
            gone in proptest::collection::vec(any::<bool>(), 12),
            topic in "([ab]|@weir)(\\.[ab]){0,4}",
        ) {
            let mut index = Index::default();
            for (group, pattern) in patterns.iter().enumerate() {
                index.insert(pattern, group as u32);
            }
            let mut expected = Vec::new();
            for (group, pattern) in patterns.iter().enumerate() {
                if gone[group] {
                    index.remove(pattern, group as u32);
                } else if pattern.matches(&topic) {
                    expected.push(group as u32);
                }
            }
            let mut found = Vec::new();
            index.route(&topic, |group| found.push(group));
            found.sort_unstable();
            prop_assert_eq!(found, expected);
            for (group, pattern) in patterns.iter().enumerate() {
                index.remove(pattern, group as u32);
            }
            prop_assert!(index.exact.is_empty() && index.wild.is_empty());
        }
    }
}
