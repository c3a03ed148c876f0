//! Getting a log out of files that are damaged. Merging its tables sooner or later meets what it cannot read, and from then on
//! the store takes nothing more, of no project: letting go of the events is not enough, the files have to go too.

use super::Options;
use super::codec::{self, ProjectState};
use super::read::sequence_of;
use super::storage::{Storage, database, failed, shape};
use crate::{LogError, Place};
use fjall::{Database, Keyspace, OwnedWriteBatch, PersistMode, Readable, Snapshot};
use rustix::fs::{CWD, RenameFlags};
use std::fs::File;
use std::io;
use std::path::PathBuf;
use weir_core::ProjectId;

/// Bytes that are copied in one write.
const BATCH_BYTES: usize = 4 << 20;

/// Copies a log that nobody has open into files of its own, if what a project has up to `through` cannot be read: everything but
/// that, and but other events that cannot be read. Where the damaged files are now; `None` when nothing had to be done. Blocks for
/// as long as the copy takes, which needs as much room as the log.
///
/// # Errors
/// [`LogError::Unavailable`] when the directory cannot be used or is full, [`LogError::Corrupt`] when more than events is damaged.
/// The log is then as it was.
pub fn rescue(options: &Options, place: &Place, through: u64) -> Result<Option<PathBuf>, LogError> {
    let storage = Storage::open(options)?;
    let at = storage.snapshot();
    let state = storage.project(&at, place.project)?.filter(|state| state.tenant == place.tenant);
    let damaged =
        state.is_some_and(|state| through <= state.sequence && !is_readable(&storage, &at, &state, through));
    if !damaged {
        return Ok(None);
    }
    let [home, fresh, aside] = ["log", "log.new", "log.damaged"].map(|name| options.path.join(name));
    let io = |error: io::Error| {
        LogError::Unavailable(format!("cannot copy the log in {}: {error}", options.path.display()))
    };
    if aside.try_exists().map_err(io)? {
        let why = format!("{} is left from before: remove it or put it elsewhere", aside.display());
        return Err(LogError::Unavailable(why));
    }
    if fresh.try_exists().map_err(io)? {
        std::fs::remove_dir_all(&fresh).map_err(io)?;
    }
    {
        let db = database(&fresh, options)?;
        let copied = Copy { from: &storage, at: &at, to: &db, weight: 0, batch: db.batch() };
        copied.all(place.project, through)?;
        db.persist(PersistMode::SyncAll).map_err(|error| failed("write", &error))?;
    }
    drop(at);
    let _lock = storage.closed();
    // At no moment is there no log, which would be made anew and empty.
    let both = rustix::fs::renameat_with(CWD, &fresh, CWD, &home, RenameFlags::EXCHANGE);
    both.map_err(|error| io(error.into()))?;
    std::fs::rename(&fresh, &aside).map_err(io)?;
    File::open(&options.path).and_then(|directory| directory.sync_all()).map_err(io)?;
    Ok(Some(aside))
}

/// One by one: a range fails before it is where the store cannot read.
fn is_readable(storage: &Storage, at: &Snapshot, state: &ProjectState, through: u64) -> bool {
    let event = |sequence| at.get(&storage.events, codec::event_key(state.number, sequence));
    (state.floor + 1..=through).all(|sequence| event(sequence).is_ok())
}

/// A copy under way.
struct Copy<'a> {
    from: &'a Storage,
    at: &'a Snapshot,
    to: &'a Database,
    batch: OwnedWriteBatch,
    weight: usize,
}

impl Copy<'_> {
    fn all(mut self, project: ProjectId, through: u64) -> Result<(), LogError> {
        let from = self.from;
        let meta = from.db.keyspace("meta", || shape("meta")).map_err(|error| failed("open", &error))?;
        let others = [
            ("topics", &from.topics),
            ("ids", &from.ids),
            ("expiry", &from.expiry),
            ("journal", &from.journal),
            ("meta", &meta),
        ];
        for (name, keyspace) in others {
            let into = self.keyspace(name)?;
            for entry in self.at.iter(keyspace) {
                let (key, value) = entry.into_inner().map_err(|error| failed("read", &error))?;
                self.put(&into, &key, &value)?;
            }
        }
        let (projects, into) = (self.keyspace("projects")?, self.keyspace("events")?);
        for entry in self.at.iter(&from.projects) {
            let (key, value) = entry.into_inner().map_err(|error| failed("read", &error))?;
            let state = ProjectState::decode(&value)?;
            let gone = if *key == *project.uuid().as_bytes() { through } else { 0 };
            self.put(&projects, &key, &value)?;
            self.events(&into, &state, state.floor.max(gone) + 1)?;
        }
        self.batch.commit().map_err(|error| failed("write", &error))
    }

    /// A project's events from one on, without those that cannot be read.
    fn events(&mut self, into: &Keyspace, state: &ProjectState, first: u64) -> Result<(), LogError> {
        let mut next = first;
        while next <= state.sequence {
            let rest = codec::event_key(state.number, next)..=codec::event_key(state.number, state.sequence);
            for entry in self.at.range(&self.from.events, rest) {
                let Ok((key, value)) = entry.into_inner() else { break };
                next = sequence_of(&key)? + 1;
                self.put(into, &key, &value)?;
            }
            // All are copied, or the store looked ahead to what it cannot read: then one by one.
            if next <= state.sequence
                && let Ok(Some(value)) = self.at.get(&self.from.events, codec::event_key(state.number, next))
            {
                self.put(into, &codec::event_key(state.number, next), &value)?;
            }
            next += 1;
        }
        Ok(())
    }

    fn keyspace(&self, name: &str) -> Result<Keyspace, LogError> {
        self.to.keyspace(name, || shape(name)).map_err(|error| failed("create", &error))
    }

    fn put(&mut self, into: &Keyspace, key: &[u8], value: &[u8]) -> Result<(), LogError> {
        self.batch.insert(into, key, value);
        self.weight += key.len() + value.len();
        if self.weight < BATCH_BYTES {
            return Ok(());
        }
        self.weight = 0;
        let full = std::mem::replace(&mut self.batch, self.to.batch());
        full.commit().map_err(|error| failed("write", &error))
    }
}
