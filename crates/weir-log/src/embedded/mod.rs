//! The embedded backend: one process, one directory, every ack after an fsync.
//!
//! ```text
//!  append() ──► queue ──► writer thread ───────────────► answers      feeder task (only when the
//!  trim()     (bounded)   place · one batch · fsync ───► feed ◄────── consumer was behind)
//!                                   │                                      │
//!  read() … ──► a few blocking threads, each on one snapshot ◄─────────────┘
//! ```
//! The store (fjall) shows a batch to readers only after it was synced, so nothing that is read can
//! vanish. Sequences have no gaps here. A write or fsync that fails is never tried again: appends are
//! refused, [`Embedded::problem`] tells, and opening the log again recovers what was acknowledged.

mod codec;
mod feeder;
mod queue;
mod read;
mod recent;
mod reclaim;
mod rescue;
mod shred;
mod spent;
mod storage;
mod writer;

use crate::{
    Durability, EventLog, Feed, Health, Inspection, Load, LogError, Milestone, Outcome, Page, Place,
    ReadQuery, Record, StreamLoad, System, TopicHead, Walked,
};
use feeder::Feeder;
use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use queue::Queue;
pub use rescue::rescue;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use storage::Storage;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task;
use weir_core::{Position, ProjectId, Timestamp, Topic};
use writer::{Command, Prepared, Writer};

/// How often the writer is asked how far an erasure has come before the caller hears "not yet", and the pause between.
const ERASE_LOOKS: u32 = 200;
const ERASE_PAUSE: Duration = Duration::from_millis(10);

/// Where the log lives and how much it may use.
#[derive(Clone, Debug)]
pub struct Options {
    /// The directory; made if it is not there.
    pub path: PathBuf,
    /// For how long a publisher's id is remembered. 10 minutes.
    pub dedupe_window: Duration,
    /// Bytes of appends that may wait for the writer. 64 MiB.
    pub queue_bytes: usize,
    /// Bytes of events that may wait in the feed. 16 MiB.
    pub feed_bytes: usize,
    /// Bytes of disk that must stay free: below, appends are [`LogError::Full`] while trims still work.
    /// The store needs some of them to write its tables. 256 MiB.
    pub min_free_bytes: u64,
    /// Bytes of stored blocks kept in memory for readers. 64 MiB.
    pub cache_bytes: u64,
    /// Reads at the same time; more wait. 8.
    pub readers: usize,
}

impl Options {
    /// The defaults, for a log in this directory.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            dedupe_window: Duration::from_secs(600),
            queue_bytes: 64 << 20,
            feed_bytes: 16 << 20,
            min_free_bytes: 256 << 20,
            cache_bytes: 64 << 20,
            readers: 8,
        }
    }
}

/// Storage for readers: blocking work on a bounded number of threads.
#[derive(Clone)]
struct Reads {
    storage: Arc<Storage>,
    slots: Arc<Semaphore>,
    size: u32,
}

impl Reads {
    fn new(storage: Arc<Storage>, readers: usize) -> Self {
        let size = u32::try_from(readers).unwrap_or(u32::MAX).clamp(1, 1_024);
        Self { storage, slots: Arc::new(Semaphore::new(size as usize)), size }
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Storage) -> Result<T, LogError> + Send + 'static,
    ) -> Result<T, LogError> {
        let stopped = || LogError::Unavailable("the process is stopping".into());
        let slot = self.slots.clone().acquire_owned().await.map_err(|_| stopped())?;
        let storage = self.storage.clone();
        let work = move || {
            // Given back when the work is done and the storage let go, not when the caller loses patience.
            let _slot = slot;
            let storage = storage;
            work(&storage)
        };
        task::spawn_blocking(work).await.map_err(|_| stopped())?
    }

    /// Waits for the work that is under way, its callers gone or not, and refuses more.
    async fn end(&self) {
        // Failing means that it has been closed before.
        let _all = self.slots.acquire_many(self.size).await;
        self.slots.close();
    }
}

/// The log of one process. See the [module](self).
pub struct Embedded {
    reads: Reads,
    queue: Arc<Queue>,
    feeder: Arc<Feeder>,
    problem: watch::Receiver<Option<String>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    catch_up: Mutex<Option<task::JoinHandle<()>>>,
}

impl Embedded {
    /// Opens the log, making it if there is none. Call it inside a tokio runtime; it blocks while it
    /// recovers what the last run left unfinished.
    ///
    /// # Errors
    /// [`LogError::Unavailable`] when the directory cannot be used (another process has it, no
    /// permission, I/O error), [`LogError::Corrupt`] when what is in it is not a whole log.
    pub fn open(options: &Options) -> Result<Arc<Self>, LogError> {
        let runtime = tokio::runtime::Handle::try_current()
            .map_err(|_| LogError::Unavailable("open the log inside a tokio runtime".into()))?;
        let storage = Arc::new(Storage::open(options)?);
        let queue = Arc::new(Queue::new(options.queue_bytes));
        let feeder = Arc::new(Feeder::new(options.feed_bytes));
        let (problem_sender, problem) = watch::channel(None);
        let writer = Writer::new(storage.clone(), feeder.clone(), problem_sender, options)?;
        let thread = std::thread::Builder::new().name("weir-log".into()).spawn({
            let queue = queue.clone();
            move || writer.run(&queue)
        });
        let thread =
            thread.map_err(|e| LogError::Unavailable(format!("cannot start the log's thread: {e}")))?;
        let reads = Reads::new(storage, options.readers);
        let catch_up = runtime.spawn({
            let (feeder, reads) = (feeder.clone(), reads.clone());
            async move {
                let page = |place: Place, query| reads.run(move |storage| storage.page(&place, &query));
                feeder.catch_up(reads.storage.epoch, page).await;
            }
        });
        let (writer, catch_up) = (Mutex::new(Some(thread)), Mutex::new(Some(catch_up)));
        Ok(Arc::new(Self { reads, queue, feeder, problem, writer, catch_up }))
    }

    /// Turns to `Some` when the log stops accepting appends for good, with the reason. The process
    /// should then stop: started again, it recovers everything that was acknowledged.
    #[must_use]
    pub fn problem(&self) -> watch::Receiver<Option<String>> {
        self.problem.clone()
    }

    /// Puts a command in line and returns what waits for its answer.
    fn ask<T: Send + 'static>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, LogError>>) -> Command,
    ) -> BoxFuture<'static, Result<T, LogError>> {
        let (answer, answered) = oneshot::channel();
        if let Err(refused) = self.queue.push(command(answer)) {
            return ready(Err(refused)).boxed();
        }
        let problem = self.problem.clone();
        let outcome = async move {
            answered.await.unwrap_or_else(|_| {
                let reason = problem.borrow().clone();
                Err(LogError::Unavailable(reason.unwrap_or_else(|| "the log stopped".into())))
            })
        };
        outcome.boxed()
    }
}

impl EventLog for Embedded {
    fn append(
        &self,
        place: &Place,
        records: Vec<Record>,
    ) -> BoxFuture<'static, Result<Vec<Outcome>, LogError>> {
        if records.is_empty() {
            return ready(Ok(Vec::new())).boxed();
        }
        let place = place.clone();
        let records = records.into_iter().map(Prepared::new).collect();
        self.ask(|answer| Command::Append { place, records, answer })
    }

    fn read<'a>(&'a self, place: &'a Place, query: ReadQuery) -> BoxFuture<'a, Result<Page, LogError>> {
        let place = place.clone();
        self.reads.run(move |storage| storage.page(&place, &query)).boxed()
    }

    fn inspect<'a>(&'a self, place: &'a Place, sequence: u64) -> BoxFuture<'a, Result<Inspection, LogError>> {
        let place = place.clone();
        self.reads.run(move |storage| storage.inspection(&place, sequence)).boxed()
    }

    fn locate<'a>(&'a self, place: &'a Place, time: Timestamp) -> BoxFuture<'a, Result<u64, LogError>> {
        let place = place.clone();
        self.reads.run(move |storage| storage.located(&place, time)).boxed()
    }

    fn topics<'a>(
        &'a self,
        place: &'a Place,
        after: Option<&'a Topic>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<TopicHead>, LogError>> {
        let (place, after) = (place.clone(), after.cloned());
        self.reads.run(move |storage| storage.topic_heads(&place, after.as_ref(), limit)).boxed()
    }

    fn trim<'a>(&'a self, place: &'a Place, through: u64) -> BoxFuture<'a, Result<(), LogError>> {
        let place = place.clone();
        self.ask(|answer| Command::Trim { place, through, answer })
    }

    fn erase<'a>(&'a self, place: &'a Place) -> BoxFuture<'a, Result<bool, LogError>> {
        async move {
            // The writer gives room back between its batches, so it is asked a few times before the caller is.
            for _ in 0..ERASE_LOOKS {
                let place = place.clone();
                if self.ask(|answer| Command::Erase { place, answer }).await? {
                    return Ok(true);
                }
                tokio::time::sleep(ERASE_PAUSE).await;
            }
            Ok(false)
        }
        .boxed()
    }

    fn shred(&self) -> BoxFuture<'_, Result<(), LogError>> {
        let storage = self.reads.storage.clone();
        let shredding = task::spawn_blocking(move || storage.shred());
        async move { shredding.await.map_err(|_| LogError::Unavailable("the process is stopping".into()))? }
            .boxed()
    }

    fn walk<'a>(
        &'a self,
        _stream: &'a Arc<str>,
        after: Option<Milestone>,
    ) -> BoxFuture<'a, Result<Option<Walked>, LogError>> {
        self.reads.run(move |storage| storage.walk(after).map(Some)).boxed()
    }

    fn watch<'a>(&'a self, place: &'a Place) -> BoxFuture<'a, Result<Position, LogError>> {
        let (place, feeder) = (place.clone(), self.feeder.clone());
        self.reads.run(move |storage| feeder.watch(&place, || storage.committed_head(&place))).boxed()
    }

    fn unwatch(&self, project: ProjectId) {
        self.feeder.unwatch(project);
    }

    fn feed(&self) -> Option<Feed> {
        self.feeder.feed()
    }

    fn is_reachable(&self) -> bool {
        true
    }

    fn health(&self) -> BoxFuture<'_, Health> {
        let problem = self.problem.borrow().clone();
        ready(Health { problem, durability: Durability::Synced { replicas: 1 } }).boxed()
    }

    fn system(&self) -> System {
        System::Embedded
    }

    fn load(&self) -> Load {
        let storage = &self.reads.storage;
        let (queued_bytes, queue_limit) = self.queue.load();
        let stream = |bytes| StreamLoad { name: "embedded".into(), bytes, max_bytes: None, events: None };
        Load {
            queued_bytes,
            queue_limit,
            lag: self.feeder.lag(),
            disk_free: storage.room().ok(),
            streams: storage.bytes().map(stream).into_iter().collect(),
            ..Load::default()
        }
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.queue.close();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let catch_up = self.catch_up.lock().unwrap_or_else(PoisonError::into_inner).take();
        async move {
            if let Some(writer) = writer {
                // The join only fails when the thread panicked, and then there is nothing to wait for.
                let _ = task::spawn_blocking(|| writer.join()).await;
            }
            if let Some(catch_up) = catch_up {
                let _ = catch_up.await;
            }
            // A read whose caller has gone still has the files open, and the next process wants them.
            self.reads.end().await;
        }
        .boxed()
    }
}

impl Drop for Embedded {
    /// Without [`EventLog::close`] the writer still serves what is queued, but nobody waits for it.
    fn drop(&mut self) {
        self.queue.close();
    }
}
