//! Getting the bytes of what was erased out of the files. The store only ever adds: what is removed stays in its journal
//! until that is full and everything in it is in tables, and in tables until they are merged. Here both are brought about.

use super::storage::{Storage, failed, shape};
use crate::LogError;
use fjall::Keyspace;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::Duration;

/// Where what fills the journal up goes, to be cleared at once.
const SCRATCH: &str = "scratch";
/// Bytes of one such entry.
const FILLING: usize = 1 << 20;
/// Entries after which what fills up is put into a table: the moment at which the store looks whether its journal, of
/// 64 MB, is full. Also bounds the memory.
const ROUND: usize = 8;
/// Rounds after which something else must be wrong.
const ROUNDS: usize = 60;
/// Between two looks whether old tables are gone.
const PAUSE: Duration = Duration::from_millis(50);

impl Storage {
    /// Rewrites what is kept without what was removed before. Blocks for as long as that takes.
    pub fn shred(&self) -> Result<(), LogError> {
        let _one = self.shredding.lock().unwrap_or_else(PoisonError::into_inner);
        let scratch = self.db.keyspace(SCRATCH, || shape(SCRATCH)).map_err(|error| failed("open", &error))?;
        let done = self.renew_journals(&scratch).and_then(|()| self.renew_tables(&scratch));
        scratch.clear().map_err(|error| failed("clear", &error))?;
        done
    }

    /// Returns when every journal that is there now is gone.
    fn renew_journals(&self, scratch: &Keyspace) -> Result<(), LogError> {
        let old = files(&self.path, "jnl")?;
        let mut noise = 0x9E37_79B9_7F4A_7C15_u64 ^ u64::from(std::process::id());
        for _ in 0..ROUNDS {
            for key in 0..ROUND as u64 {
                let filling = filling(&mut noise);
                scratch.insert(key.to_be_bytes(), filling).map_err(|error| failed("write", &error))?;
            }
            // A journal goes when everything in it is in tables, of all keyspaces, the one that holds the epoch too.
            for name in self.db.list_keyspace_names() {
                let keyspace = self.db.keyspace(&name, || shape(&name));
                flush(&keyspace.map_err(|error| failed("open", &error))?)?;
            }
            if files(&self.path, "jnl")?.is_disjoint(&old) {
                return Ok(());
            }
        }
        Err(LogError::Unavailable("journals of the log are still in use".into()))
    }

    /// Returns when every table that is there now is gone.
    fn renew_tables(&self, scratch: &Keyspace) -> Result<(), LogError> {
        let kept = [&self.events, &self.topics, &self.ids, &self.expiry];
        let tables = || {
            let each = kept.iter().map(|keyspace| files(&keyspace.path().join("tables"), ""));
            each.collect::<Result<Vec<_>, _>>()
                .map(|each| each.into_iter().flatten().collect::<BTreeSet<_>>())
        };
        let old = tables()?;
        for keyspace in kept {
            keyspace.major_compact().map_err(|error| failed("compact", &error))?;
        }
        // Readers that began before may still look at the old ones; they are let go when a table is written.
        for _ in 0..ROUNDS {
            scratch.insert([0], [0]).map_err(|error| failed("write", &error))?;
            flush(scratch)?;
            if tables()?.is_disjoint(&old) {
                return Ok(());
            }
            std::thread::sleep(PAUSE);
        }
        Err(LogError::Unavailable("tables of the log are still in use".into()))
    }
}

/// The files of a directory with this extension.
fn files(directory: &Path, extension: &str) -> Result<BTreeSet<PathBuf>, LogError> {
    let io = |error: std::io::Error| {
        LogError::Unavailable(format!("cannot list {}: {error}", directory.display()))
    };
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(directory).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.extension().unwrap_or_default() == extension {
            found.insert(path);
        }
    }
    Ok(found)
}

fn flush(keyspace: &Keyspace) -> Result<(), LogError> {
    keyspace.rotate_memtable_and_wait().map_err(|error| failed("flush", &error))
}

/// Bytes that cannot be compressed. They are nobody's secret.
fn filling(noise: &mut u64) -> Vec<u8> {
    let mut filling = Vec::with_capacity(FILLING);
    while filling.len() < FILLING {
        *noise ^= *noise << 13;
        *noise ^= *noise >> 7;
        *noise ^= *noise << 17;
        filling.extend_from_slice(&noise.to_le_bytes());
    }
    filling
}
