//! The directory: made, locked, opened; and the store's errors in our words.

use super::Options;
use super::codec::{ProjectState, decode_epoch, encode_epoch};
use crate::LogError;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, Snapshot};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use uuid::Uuid;
use weir_core::{Position, ProjectId};

const EPOCH: &str = "epoch";

/// The open store. Everything in it is committed: the writer's batches are synced before the store
/// shows them to readers.
pub(super) struct Storage {
    pub db: Database,
    pub events: Keyspace,
    pub topics: Keyspace,
    pub projects: Keyspace,
    pub ids: Keyspace,
    pub expiry: Keyspace,
    pub journal: Keyspace,
    /// The walk has come so far: what the journal says up to here is not needed any more.
    pub walked: AtomicU64,
    pub epoch: u64,
    /// Held while files are rewritten without what was erased.
    pub shredding: std::sync::Mutex<()>,
    pub path: PathBuf,
    /// Held as long as the store is open. Dropped last: fields drop in the order of declaration.
    _lock: Lock,
}

/// Events are nobody else's on this machine, however open the directory around is.
fn create_private(path: &Path) -> io::Result<()> {
    let mut make = std::fs::DirBuilder::new();
    make.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut make, 0o700);
    make.create(path)
}

impl Storage {
    /// Opens the store in the directory, making it first if there is none.
    pub fn open(options: &Options) -> Result<Self, LogError> {
        let path = options.path.clone();
        let io = |what: &str, error: io::Error| {
            LogError::Unavailable(format!("cannot {what} {}: {error}", path.display()))
        };
        create_private(&path).map_err(|error| io("create", error))?;
        let lock = lock(&path)?;
        let home = path.join("log");
        if !home.try_exists().map_err(|error| io("look into", error))? {
            create(&path, &home, options)?;
        }
        let db = database(&home, options)?;
        let keyspace = |name: &str| db.keyspace(name, || shape(name)).map_err(|e| failed("open", &e));
        let value = keyspace("meta")?.get(EPOCH).map_err(|error| failed("read", &error))?;
        let Some(value) = value else {
            return Err(LogError::Corrupt(format!("{} has no epoch", home.display())));
        };
        Ok(Self {
            events: keyspace("events")?,
            topics: keyspace("topics")?,
            projects: keyspace("projects")?,
            ids: keyspace("ids")?,
            expiry: keyspace("expiry")?,
            journal: keyspace("journal")?,
            walked: AtomicU64::new(0),
            epoch: decode_epoch(&value)?,
            shredding: std::sync::Mutex::new(()),
            db,
            path: home,
            _lock: lock,
        })
    }

    /// Closes the store; nobody else opens it as long as the lock is held.
    pub fn closed(self) -> Lock {
        let Self { _lock: lock, .. } = self;
        lock
    }

    /// The keyspaces that batches write to.
    pub const fn written(&self) -> [&Keyspace; 6] {
        [&self.events, &self.topics, &self.projects, &self.ids, &self.expiry, &self.journal]
    }

    /// One committed state of everything.
    pub fn snapshot(&self) -> Snapshot {
        self.db.snapshot()
    }

    /// What is known of a project in a snapshot.
    pub fn project(&self, at: &Snapshot, project: ProjectId) -> Result<Option<ProjectState>, LogError> {
        let value = at.get(&self.projects, project.uuid().as_bytes()).map_err(|e| failed("read", &e))?;
        value.map(|value| ProjectState::decode(&value)).transpose()
    }

    /// The last position of a project.
    pub fn head(&self, state: Option<&ProjectState>) -> Position {
        let (sequence, check) = state.map_or((0, 0), |state| (state.sequence, state.check));
        Position { epoch: self.epoch, sequence, check }
    }

    /// Bytes on the disk.
    pub fn bytes(&self) -> Result<u64, LogError> {
        self.db.disk_space().map_err(|e| failed("size", &e))
    }

    /// Bytes free on the disk for this process.
    pub fn room(&self) -> io::Result<u64> {
        let disk = rustix::fs::statvfs(&self.path)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }
}

/// A locked file. Unlocked in so many words: a child process that is just being started may still hold
/// a copy of the descriptor, and closing ours alone would leave the lock with it.
pub struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::warn!(%error, "the log's lock file could not be unlocked");
        }
    }
}

/// One process a directory, from before anything in it is touched.
fn lock(path: &Path) -> Result<Lock, LogError> {
    let file = path.join("lock");
    let open = File::options().create(true).truncate(false).write(true).open(&file);
    let lock = open.map_err(|e| LogError::Unavailable(format!("cannot open {}: {e}", file.display())))?;
    match lock.try_lock() {
        Ok(()) => Ok(Lock(lock)),
        Err(std::fs::TryLockError::WouldBlock) => Err(LogError::Unavailable(format!(
            "another process uses {}: stop it, or give this one a directory of its own",
            path.display()
        ))),
        Err(std::fs::TryLockError::Error(e)) => {
            Err(LogError::Unavailable(format!("cannot lock {}: {e}", file.display())))
        }
    }
}

/// Makes a store beside its place and moves it there when it is whole and synced: a crash on the way
/// leaves nothing that looks like a log, and a log without its epoch cannot be.
fn create(path: &Path, home: &Path, options: &Options) -> Result<(), LogError> {
    let unfinished = path.join("log.new");
    let io = |error: io::Error| {
        LogError::Unavailable(format!("cannot create the log in {}: {error}", path.display()))
    };
    if unfinished.try_exists().map_err(io)? {
        std::fs::remove_dir_all(&unfinished).map_err(io)?;
    }
    {
        let db = database(&unfinished, options)?;
        for name in ["events", "topics", "projects", "ids", "expiry", "journal", "meta"] {
            db.keyspace(name, || shape(name)).map_err(|error| failed("create", &error))?;
        }
        let meta = db.keyspace("meta", || shape("meta")).map_err(|error| failed("create", &error))?;
        let mut batch = db.batch().durability(Some(PersistMode::SyncAll));
        batch.insert(&meta, EPOCH, encode_epoch(new_epoch()));
        batch.commit().map_err(|error| failed("create", &error))?;
    }
    std::fs::rename(&unfinished, home).map_err(io)?;
    // The new names must survive a power cut too, that of the directory itself included.
    for directory in [Some(path), path.parent()].into_iter().flatten() {
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(io)?;
    }
    Ok(())
}

/// A number that no other log has. Never 0: half of a random UUID, the one with a fixed bit set.
fn new_epoch() -> u64 {
    Uuid::new_v4().as_u64_pair().1
}

pub(super) fn database(path: &Path, options: &Options) -> Result<Database, LogError> {
    Database::builder(path)
        .cache_size(options.cache_bytes)
        .worker_threads(2)
        .open()
        .map_err(|error| failed("open", &error))
}

/// Events are read in long runs, the rest by key.
pub(super) fn shape(name: &str) -> KeyspaceCreateOptions {
    let options = KeyspaceCreateOptions::default();
    match name {
        "events" => options
            .data_block_size_policy(fjall::config::BlockSizePolicy::all(16 << 10))
            .expect_point_read_hits(true),
        "topics" | "ids" => options.max_memtable_size(32 << 20),
        _ => options.max_memtable_size(8 << 20),
    }
}

/// The store's error in words; only what is not an I/O error means damaged data.
pub(super) fn failed(what: &str, error: &fjall::Error) -> LogError {
    use fjall::{Error, LsmError};
    match error {
        Error::Io(io) | Error::Storage(LsmError::Io(io)) => {
            LogError::Unavailable(format!("cannot {what} the log: {io}"))
        }
        Error::Poisoned => LogError::Unavailable(format!("cannot {what} the log: an earlier write failed")),
        Error::Locked => LogError::Unavailable(format!("cannot {what} the log: another process uses it")),
        other => LogError::Corrupt(format!("cannot {what} the log: {other:?}")),
    }
}
