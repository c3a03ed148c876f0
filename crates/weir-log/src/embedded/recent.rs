//! A bounded cache for the writer: what was used lately stays, the rest is read again when needed.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;

/// Two generations: a value that is used moves to the young one; when that is full it becomes the old
/// one and the former old one is forgotten. Holds at most twice its limit, at one map access per use.
pub(super) struct Recent<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    limit: usize,
}

impl<K: Hash + Eq + Clone, V> Recent<K, V> {
    pub fn new(limit: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), limit }
    }

    /// Forgets what is old if it is time to. Never in the midst of a batch, whose values are not
    /// stored yet.
    pub fn age(&mut self) {
        if self.young.len() >= self.limit {
            self.old = std::mem::take(&mut self.young);
        }
    }

    /// The value, from here or from `load`.
    pub fn get<E>(&mut self, key: &K, load: impl FnOnce() -> Result<V, E>) -> Result<&mut V, E> {
        match self.young.entry(key.clone()) {
            Entry::Occupied(here) => Ok(here.into_mut()),
            Entry::Vacant(place) => {
                let value = match self.old.remove(key) {
                    Some(value) => value,
                    None => load()?,
                };
                Ok(place.insert(value))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Recent;

    #[test]
    fn keeps_what_is_used_and_stays_bounded() {
        let mut recent = Recent::new(10);
        let mut loads = 0;
        for i in 0..1000 {
            recent.age();
            for key in [0, i] {
                let _ = recent.get::<()>(&key, || {
                    loads += 1;
                    Ok(key)
                });
            }
            assert!(recent.young.len() + recent.old.len() <= 20);
        }
        assert_eq!(loads, 1000, "0 is never loaded twice");
    }
}
