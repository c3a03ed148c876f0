//! Frees the store's write buffers away from its locks. Left alone the store frees one under the lock that every commit
//! takes, and 32 MiB of short entries keep it for a tenth of a second, in which nothing is published.

use super::storage::Storage;
use fjall::AbstractTree;
use std::any::Any;
use std::sync::Arc;

/// What was written to a keyspace and is in no table yet (a memtable).
type Buffer = Arc<dyn Any + Send + Sync>;

/// Holds a share in every buffer until it is the last one.
#[derive(Default)]
pub(super) struct Spent {
    /// Those that are being filled, one for each keyspace.
    filling: Vec<Buffer>,
    /// Those that were full. The store writes them into tables, and forgets them some time after.
    full: Vec<Buffer>,
}

impl Spent {
    /// Looks, after each batch, which buffers are new and which the store has forgotten.
    pub fn look(&mut self, storage: &Storage) {
        for (at, keyspace) in storage.written().into_iter().enumerate() {
            let buffer: Buffer = keyspace.tree.active_memtable();
            match self.filling.get_mut(at) {
                None => self.filling.push(buffer),
                Some(before) if Arc::ptr_eq(before, &buffer) => {}
                Some(before) => self.full.push(std::mem::replace(before, buffer)),
            }
        }
        for spent in self.full.extract_if(.., |buffer| Arc::strong_count(buffer) == 1) {
            // Where no thread can be had it is freed here.
            let _ = std::thread::Builder::new().name("weir-log-free".into()).spawn(move || drop(spent));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::Options;
    use std::time::{Duration, Instant};

    #[test]
    fn the_store_never_has_the_last_share_of_a_buffer() {
        let directory = tempfile::tempdir().expect("a directory");
        let storage = Storage::open(&Options::new(directory.path())).expect("open");
        let mut spent = Spent::default();
        storage.topics.insert("a", "1").expect("insert");
        spent.look(&storage);
        let first = Arc::downgrade(&spent.filling[1]);
        storage.topics.rotate_memtable_and_wait().expect("rotate");
        spent.look(&storage);
        // It forgets at the turn of any other buffer.
        let patience = Instant::now() + Duration::from_secs(30);
        while first.strong_count() > 1 {
            assert!(Instant::now() < patience, "the store keeps the buffer");
            storage.events.insert("a", "1").expect("insert");
            storage.events.rotate_memtable_and_wait().expect("rotate");
        }
        assert_eq!(first.strong_count(), 1, "the store freed it");
        spent.look(&storage);
        while first.strong_count() > 0 {
            assert!(Instant::now() < patience, "nobody freed it");
            std::thread::yield_now();
        }
    }
}
