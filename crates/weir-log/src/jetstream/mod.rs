//! The JetStream backend: any number of nodes on one NATS cluster.
//!
//! ```text
//!   append ── line ── Publisher ──▶ stream NAME: `<name>.{tenant}.{project}.{topic}` ──┐ republish
//!   (one per stream; pipelined,          ▲ batched direct gets                         │ after commit
//!    R1: atomic batches)                 │ (pages, holes)                              ▼
//!   read · inspect · locate · topics ────┘            Live ◀── `live.<name>.>` with stream sequences
//! ```
//! The stream `EVENTS` has the subjects `events.{tenant}.{project}.{topic}`; any other stream has its
//! own name in lower case in front. Sequences are the stream's: strictly increasing in each project,
//! with the other projects' events between.
//!
//! Neither the live feed nor replay makes a JetStream consumer: a node has one core subscription per
//! stream that it follows, and reads by direct get. The server's cost does not grow with connections.
//!
//! Floors are kept in the key-value bucket `weir_floors` and hold on every node at once. The messages
//! below a floor are purged one dedupe window later, when no repetition can ask for them any more;
//! the newest message of a project always stays, for its position.

mod api;
mod erase;
mod floors;
mod held;
mod live;
mod message;
mod options;
mod publish;
mod purge;
mod read;
#[cfg(any(test, feature = "testing"))]
pub mod server;
mod stream;
mod survey;
mod walk;

pub use options::{Credentials, Options, ServerSync};
pub use survey::{Kept, Survey, survey};

use crate::{
    Appended, Durability, EventLog, Feed, FeedItem, Health, Inspection, LinkLoad, Load, LogError, Milestone,
    Outcome, Page, Place, ReadQuery, Record, System, TopicHead, Walked,
};
use api::{Api, LAG_PAUSE, Link, Wanted};
use dashmap::DashMap;
use floors::{Floor, Floors};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use live::{Live, Watch};
use publish::{Ack, Budget, Publisher, Queued, Refusal};
use purge::Purger;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use stream::{Layout, Stream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weir_core::event::check;
use weir_core::{NewEvent, Position, ProjectId, Timestamp, Topic};

/// Items in the queue to the engine, at most; each holds at most 256 KiB of events (or one event).
const FEED_ITEMS: usize = 256;
/// Wishes to watch that wait, at most.
const WISHES: usize = 1024;

/// How far the feed of a project has come.
struct Watched {
    stream: Arc<str>,
    position: Position,
    floor: Floor,
}

/// What the parts share.
struct Core {
    api: Arc<Api>,
    floors: Floors,
    streams: DashMap<Arc<str>, Arc<Stream>>,
    watched: DashMap<ProjectId, Watched>,
    purger: Purger,
}

impl Core {
    fn stream(&self, name: &Arc<str>) -> Result<Arc<Stream>, LogError> {
        if let Some(stream) = self.streams.get(name) {
            return Ok(Arc::clone(&stream));
        }
        let layout = Layout::new(name)?;
        let stream = self.streams.entry(Arc::clone(name));
        Ok(Arc::clone(&stream.or_insert_with(|| Arc::new(Stream::new(Arc::clone(&self.api), layout)))))
    }

    /// Whether the event with this sequence of a stream is still to be fed to a watcher.
    fn watches(&self, project: ProjectId, stream: &Arc<str>, sequence: u64) -> bool {
        let watched = self.watched.get(&project);
        watched.is_some_and(|w| w.stream == *stream && sequence > w.position.sequence)
    }

    fn raise_watched_floor(&self, project: ProjectId, floor: Floor) {
        if let Some(mut watched) = self.watched.get_mut(&project)
            && floor.through > watched.floor.through
        {
            watched.floor = floor;
        }
    }
}

/// The ways into the two tasks of a stream.
struct Lane {
    line: mpsc::UnboundedSender<Vec<Queued>>,
    wishes: mpsc::Sender<Watch>,
}

/// What exists while the log is open.
struct Open {
    lanes: std::collections::HashMap<Arc<str>, Lane>,
    feed: mpsc::Sender<FeedItem>,
}

/// The event log on NATS JetStream.
pub struct JetStream {
    core: Arc<Core>,
    budget: Arc<Budget>,
    /// `None` once closed. Held for a moment only; it orders the appends of one stream.
    open: Mutex<Option<Open>>,
    feed: Mutex<Option<Feed>>,
    publishers: TaskTracker,
    stop: CancellationToken,
    runtime: tokio::runtime::Handle,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn closed() -> LogError {
    LogError::Unavailable("the event log is closed".into())
}

impl JetStream {
    /// Connects and opens the bucket of floors. Streams are made when first used.
    ///
    /// # Errors
    /// [`LogError::Unavailable`] when no server answers, the credentials are refused, or the server is
    /// too old or runs without JetStream.
    pub async fn connect(options: Options) -> Result<Arc<Self>, LogError> {
        let (link, link_seen) = watch::channel(Link::default());
        let client = options.connect(link).await?;
        options::check_server(&client)?;
        let budget = Arc::new(Budget::new(options.max_queued_bytes));
        let api = Arc::new(Api::new(client, options, link_seen));
        let floors = Floors::open(Arc::clone(&api)).await?;
        let purger = Purger::new(api.options.dedupe_window);
        let core = Arc::new(Core { api, floors, streams: DashMap::new(), watched: DashMap::new(), purger });
        let (sender, receiver) = mpsc::channel(FEED_ITEMS);
        let log = Arc::new(Self {
            core,
            budget,
            open: Mutex::new(Some(Open { lanes: std::collections::HashMap::new(), feed: sender })),
            feed: Mutex::new(Some(Feed::new(receiver))),
            publishers: TaskTracker::new(),
            stop: CancellationToken::new(),
            runtime: tokio::runtime::Handle::current(),
        });
        log.start_background().await?;
        Ok(log)
    }

    async fn start_background(&self) -> Result<(), LogError> {
        let core = Arc::clone(&self.core);
        let mut hints = core
            .api
            .client
            .subscribe(floors::HINTS)
            .await
            .map_err(|error| LogError::Unavailable(format!("subscribing to floors: {error}")))?;
        self.spawn(async move {
            while let Some(hint) = hints.next().await {
                let floor = Floor::parse(&hint.payload);
                if let (Some(project), Some(floor)) = (floors::hinted_project(&hint.subject), floor) {
                    core.raise_watched_floor(project, floor);
                }
            }
        });
        let core = Arc::clone(&self.core);
        self.spawn(async move { core.purge_when_due().await });
        Ok(())
    }

    /// Runs a task until the log is closed.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.runtime.spawn(async move { stop.run_until_cancelled(task).await });
    }

    /// The lane of a stream, which is made (with its two tasks) when first asked for.
    fn with_lane<T>(&self, name: &Arc<str>, use_it: impl FnOnce(&Lane) -> T) -> Result<T, LogError> {
        let stream = self.core.stream(name)?;
        let mut open = locked(&self.open);
        let open = open.as_mut().ok_or_else(closed)?;
        if let Some(lane) = open.lanes.get(name) {
            return Ok(use_it(lane));
        }
        let (line, queue) = mpsc::unbounded_channel();
        let (wishes, wished) = mpsc::channel(WISHES);
        self.publishers.spawn_on(Publisher::new(Arc::clone(&stream), queue).run(), &self.runtime);
        self.spawn(Live::new(Arc::clone(&self.core), stream, wished, open.feed.clone()).run());
        let lane = open.lanes.entry(Arc::clone(name)).or_insert(Lane { line, wishes });
        Ok(use_it(lane))
    }

    /// Puts messages in line; the receivers are in their order.
    fn line_up(&self, place: &Place, records: &[Record]) -> Result<Vec<Acked>, LogError> {
        let stream = self.core.stream(&place.stream)?;
        let messages: Vec<_> = records.iter().map(|r| message::encode(&stream.layout, place, r)).collect();
        let weights: Vec<usize> = records.iter().map(weight).collect();
        let limit = self.core.api.client.max_payload();
        if let Some(too_large) = weights.iter().find(|weight| **weight > limit) {
            return Err(LogError::Full(format!(
                "an event of {too_large} bytes exceeds the server's max_payload of {limit}: raise that"
            )));
        }
        self.budget.take(weights.iter().sum())?;
        let (queued, acks): (Vec<_>, Vec<_>) = messages
            .into_iter()
            .zip(weights)
            .map(|(message, weight)| {
                Queued::new(message, place.project, &stream, weight, Arc::clone(&self.budget))
            })
            .unzip();
        self.with_lane(&place.stream, |lane| lane.line.send(queued).map_err(|_| closed()))??;
        Ok(acks)
    }
}

type Acked = oneshot::Receiver<Result<Ack, Refusal>>;

/// Bytes of a record as a message, roughly and never too few.
fn weight(record: &Record) -> usize {
    let pairs: usize =
        record.headers.pairs().iter().map(|(name, value)| name.len() + 3 * value.len() + 2).sum();
    let kind = record.kind.as_ref().map_or(0, |kind| kind.as_str().len());
    record.payload.len() + 2 * record.id.as_str().len() + record.topic.as_str().len() + kind + pairs + 512
}

/// What becomes of records that are in line.
async fn settle(
    log: &Arc<Core>,
    stream: &Stream,
    place: &Place,
    records: &[Record],
    acks: Vec<Acked>,
) -> Result<Vec<Outcome>, LogError> {
    let mut outcomes = Vec::with_capacity(records.len());
    for (record, ack) in records.iter().zip(acks) {
        let ack = match ack.await.map_err(|_| closed())? {
            Ok(ack) => ack,
            Err(Refusal::Failed(error)) => return Err(error),
            Err(Refusal::InProcess | Refusal::Unheard) => insist(log, stream, place, record).await?,
        };
        outcomes.push(judge(log, stream, record, ack).await?);
    }
    Ok(outcomes)
}

/// What becomes of one record once its ack is there.
async fn judge(log: &Arc<Core>, stream: &Stream, record: &Record, ack: Ack) -> Result<Outcome, LogError> {
    let epoch = stream.known().await?.epoch;
    if !ack.duplicate {
        let position =
            Position { epoch, sequence: ack.sequence, check: check(&record.id, record.published_at) };
        return Ok(Outcome::Appended(Appended {
            position,
            published_at: record.published_at,
            duplicate: false,
        }));
    }
    let stored = log.api.leader_get(&stream.layout.name, Wanted::At(ack.sequence)).await?;
    let first = stored
        .and_then(|stored| stored.event(&stream.layout, 0))
        .ok_or(LogError::OutOfRange { floor: ack.sequence })?;
    let ours = NewEvent {
        id: None,
        topic: record.topic.clone(),
        payload: record.payload.clone(),
        kind: record.kind.clone(),
        headers: record.headers.clone(),
    };
    if first.fingerprint() != ours.fingerprint() {
        return Ok(Outcome::Conflict);
    }
    // A message that was sent twice may have met itself.
    let own = ack.unsure && first.published_at == record.published_at;
    Ok(Outcome::Appended(Appended {
        position: first.position(epoch),
        published_at: first.published_at,
        duplicate: !own,
    }))
}

impl EventLog for JetStream {
    fn append(
        &self,
        place: &Place,
        records: Vec<Record>,
    ) -> BoxFuture<'static, Result<Vec<Outcome>, LogError>> {
        if records.is_empty() {
            return async { Ok(Vec::new()) }.boxed();
        }
        let stream = match self.core.api.check_connected().and_then(|()| self.core.stream(&place.stream)) {
            Ok(stream) => stream,
            Err(error) => return async { Err(error) }.boxed(),
        };
        let acks = match stream.admit_append().and_then(|()| self.line_up(place, &records)) {
            Ok(acks) => acks,
            Err(error) => return async { Err(error) }.boxed(),
        };
        let (core, place) = (Arc::clone(&self.core), place.clone());
        async move {
            let outcome = settle(&core, &stream, &place, &records, acks).await.map_err(|error| match error {
                // All tenants on it are refused: whoever makes room has to know where.
                LogError::Full(reason) => LogError::Full(format!("stream {}: {reason}", place.stream)),
                other => other,
            });
            stream.append_ended(&outcome);
            if matches!(outcome, Err(LogError::Full(_))) {
                core.purger.press();
            }
            outcome
        }
        .boxed()
    }

    fn read<'a>(&'a self, place: &'a Place, query: ReadQuery) -> BoxFuture<'a, Result<Page, LogError>> {
        async move { self.core.stream(&place.stream)?.reading(self.core.read(place, query).boxed()).await }
            .boxed()
    }

    fn inspect<'a>(&'a self, place: &'a Place, sequence: u64) -> BoxFuture<'a, Result<Inspection, LogError>> {
        async move { self.core.stream(&place.stream)?.reading(self.core.inspect(place, sequence).boxed()).await }
            .boxed()
    }

    fn locate<'a>(&'a self, place: &'a Place, time: Timestamp) -> BoxFuture<'a, Result<u64, LogError>> {
        async move { self.core.stream(&place.stream)?.reading(self.core.locate(place, time).boxed()).await }
            .boxed()
    }

    fn topics<'a>(
        &'a self,
        place: &'a Place,
        after: Option<&'a Topic>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<TopicHead>, LogError>> {
        async move {
            self.core.stream(&place.stream)?.reading(self.core.topics(place, after, limit).boxed()).await
        }
        .boxed()
    }

    fn trim<'a>(&'a self, place: &'a Place, through: u64) -> BoxFuture<'a, Result<(), LogError>> {
        self.core.trim(place, through).boxed()
    }

    fn erase<'a>(&'a self, place: &'a Place) -> BoxFuture<'a, Result<bool, LogError>> {
        self.core.erase(place).boxed()
    }

    /// Nothing to do: erasing overwrote the messages where they stood.
    fn shred(&self) -> BoxFuture<'_, Result<(), LogError>> {
        async { Ok(()) }.boxed()
    }

    fn walk<'a>(
        &'a self,
        stream: &'a Arc<str>,
        after: Option<Milestone>,
    ) -> BoxFuture<'a, Result<Option<Walked>, LogError>> {
        self.core.walk(stream, after).boxed()
    }

    fn watch<'a>(&'a self, place: &'a Place) -> BoxFuture<'a, Result<Position, LogError>> {
        async move {
            let wishes = self.with_lane(&place.stream, |lane| lane.wishes.clone())?;
            let (reply, position) = oneshot::channel();
            let asked = async {
                wishes.send(Watch { place: place.clone(), reply }).await.map_err(|_| closed())?;
                position.await.map_err(|_| closed())?
            };
            // Looking up a stream and a head are three requests, each bounded by itself.
            tokio::time::timeout(self.core.api.options.request_timeout * 3, asked)
                .await
                .map_err(|_| LogError::Unavailable("the live feed did not answer in time".into()))?
        }
        .boxed()
    }

    fn unwatch(&self, project: ProjectId) {
        self.core.watched.remove(&project);
    }

    fn feed(&self) -> Option<Feed> {
        locked(&self.feed).take()
    }

    fn is_reachable(&self) -> bool {
        self.core.api.check_connected().is_ok()
    }

    fn health(&self) -> BoxFuture<'_, Health> {
        async move {
            let problem = self.core.problem().await;
            let replicas = self.core.streams.iter().filter_map(|s| Some(s.cached()?.replicas)).min();
            let replicas = replicas.unwrap_or(self.core.api.options.replicas);
            let durability = match self.core.api.options.sync {
                ServerSync::Always => Durability::Synced { replicas },
                ServerSync::Interval => Durability::Cached { replicas, window: "up to 2 minutes".into() },
                ServerSync::Unknown => Durability::Unknown,
            };
            Health { problem, durability }
        }
        .boxed()
    }

    fn system(&self) -> System {
        System::JetStream
    }

    fn load(&self) -> Load {
        let client = &self.core.api.client;
        let (queued_bytes, queue_limit) = self.budget.load();
        let streams: Vec<_> = self.core.streams.iter().map(|stream| Arc::clone(&stream)).collect();
        let sum = |figure: fn(&stream::Figures) -> &AtomicU64| {
            streams.iter().map(|stream| figure(&stream.figures).load(Ordering::Relaxed)).sum()
        };
        let statistics = client.statistics();
        Load {
            queued_bytes,
            queue_limit,
            lag: sum(|figures| &figures.lag),
            holes: sum(|figures| &figures.holes),
            disk_free: None,
            breakers_open: Some(streams.iter().fold((false, false), |(appends, reads), stream| {
                let open = stream.breakers_open();
                (appends || open.0, reads || open.1)
            })),
            streams: streams.iter().map(|stream| stream.load()).collect(),
            link: Some(LinkLoad {
                connected: self.core.api.check_connected().is_ok(),
                connects: statistics.connects.load(Ordering::Relaxed),
                received: (
                    statistics.in_messages.load(Ordering::Relaxed),
                    statistics.in_bytes.load(Ordering::Relaxed),
                ),
                sent: (
                    statistics.out_messages.load(Ordering::Relaxed),
                    statistics.out_bytes.load(Ordering::Relaxed),
                ),
            }),
        }
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async move {
            // Without senders the publishers end when their lines are empty. Each ack is waited for
            // with a deadline of its own, so this ends.
            drop(locked(&self.open).take());
            self.publishers.close();
            self.publishers.wait().await;
            self.stop.cancel();
            if let Err(error) = self.core.api.client.drain().await {
                tracing::debug!(%error, "the connection was closed already");
            }
        }
        .boxed()
    }
}

impl Core {
    /// What keeps the log from working, if anything.
    async fn problem(&self) -> Option<String> {
        if let Err(error) = self.api.check_connected() {
            return Some(error.to_string());
        }
        let streams: Vec<_> = self.streams.iter().map(|stream| Arc::clone(&stream)).collect();
        for stream in streams {
            match stream.look().await {
                Ok(Some(_)) => {}
                Ok(None) if stream.cached().is_none() => {}
                Ok(None) => return Some(format!("stream {} is gone", stream.layout.name)),
                Err(error) => return Some(format!("stream {}: {error}", stream.layout.name)),
            }
        }
        if self.streams.is_empty() {
            return self.api.context.query_account().await.err().map(|e| format!("JetStream: {e}"));
        }
        None
    }

    async fn trim(&self, place: &Place, through: u64) -> Result<(), LogError> {
        let stream = self.stream(&place.stream)?;
        let known = stream.known().await?;
        let head = self.bounds(&stream, known, place).await?.head.sequence;
        let through = through.min(head);
        if through == 0 {
            return Ok(());
        }
        let floor = self.floors.raise(place.project, Floor { through, head }).await?;
        self.raise_watched_floor(place.project, floor);
        self.purger.plan(place, floor.through);
        Ok(())
    }
}

/// The stream is storing a message with this id right now (on a cluster that takes a round): the
/// answer is a repetition in a moment, or ours is taken when the other one failed.
async fn insist(core: &Core, stream: &Stream, place: &Place, record: &Record) -> Result<Ack, LogError> {
    let deadline = Instant::now() + core.api.options.request_timeout;
    loop {
        tokio::time::sleep(LAG_PAUSE).await;
        match publish::publish_alone(stream, message::encode(&stream.layout, place, record)).await {
            Ok(ack) => return Ok(ack),
            Err(Refusal::Failed(error)) => return Err(error),
            Err(Refusal::InProcess) if Instant::now() > deadline => {
                return Err(LogError::Unavailable("an event with this id is being stored; try again".into()));
            }
            Err(Refusal::Unheard) if Instant::now() > deadline => return Err(publish::unheard(stream)),
            Err(Refusal::InProcess | Refusal::Unheard) => {}
        }
    }
}
