//! One JetStream stream: its name and subjects, its settings, which incarnation it is.

use super::api::{Api, problem};
use crate::{LogError, Place, StreamLoad};
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{CreateStreamErrorKind, GetStreamErrorKind};
use async_nats::jetstream::stream::{Config, DiscardPolicy, Info, Republish, RetentionPolicy, StorageType};
use futures::future::BoxFuture;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;
use weir_core::Breaker;

/// The metadata key under which a stream carries its epoch.
const EPOCH: &str = "weir.epoch";

/// How a stream's name becomes subjects.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// The stream: `EVENTS`.
    pub name: Arc<str>,
    /// The first token of its subjects: `events`.
    pub prefix: String,
}

impl Layout {
    /// The layout of the stream `name`: each stream has its own first token, so no two overlap.
    ///
    /// # Errors
    /// [`LogError::Corrupt`] when the name cannot be one.
    pub fn new(name: &str) -> Result<Self, LogError> {
        let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        let prefix = name.to_ascii_lowercase();
        // `live` is where the streams republish to; a leading underscore is NATS's own.
        if !plain || name.is_empty() || name.len() > 64 || name.starts_with('_') || prefix == "live" {
            return Err(LogError::Corrupt(format!(
                "`{}` cannot be a stream's name: use 1 to 64 of A-Z a-z 0-9 _ -, not starting with _ and not LIVE",
                name.chars().take(80).collect::<String>()
            )));
        }
        Ok(Self { name: name.into(), prefix })
    }

    /// Every subject of the stream.
    pub fn all(&self) -> String {
        format!("{}.>", self.prefix)
    }

    /// Where the stream republishes what it has committed.
    pub fn live(&self) -> String {
        format!("live.{}.>", self.prefix)
    }

    /// The subject of a topic, or of a pattern, of a project.
    pub fn subject(&self, place: &Place, topic: &str) -> String {
        format!("{}.{}.{}.{topic}", self.prefix, place.tenant, place.project)
    }

    /// Tenant, project and topic of a subject.
    pub fn split<'a>(&self, subject: &'a str) -> Option<(&'a str, &'a str, &'a str)> {
        let rest = subject.strip_prefix(&*self.prefix)?.strip_prefix('.')?;
        let (tenant, rest) = rest.split_once('.')?;
        let (project, topic) = rest.split_once('.')?;
        Some((tenant, project, topic))
    }
}

/// What is known of an existing stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// Which incarnation.
    pub epoch: u64,
    /// How many servers keep it. With one, whoever answers knows everything.
    pub replicas: usize,
    /// Whether it takes atomic batches.
    pub batches: bool,
}

/// A look at a stream through its leader.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// What it is; `None` when it carries no epoch.
    pub known: Option<Known>,
    /// Its last sequence.
    pub last: u64,
}

/// Numbers of a stream, for whoever watches.
#[derive(Default)]
pub(super) struct Figures {
    bytes: AtomicU64,
    max_bytes: AtomicU64,
    events: AtomicU64,
    /// How far the live feed was behind at the last look.
    pub lag: AtomicU64,
    /// What the live feed had to read from the stream.
    pub holes: AtomicU64,
}

impl Figures {
    fn note(&self, info: &Info) {
        self.bytes.store(info.state.bytes, Relaxed);
        self.events.store(info.state.messages, Relaxed);
        self.max_bytes.store(u64::try_from(info.config.max_bytes).unwrap_or(0), Relaxed);
    }
}

/// A stream that is made when first used.
pub(super) struct Stream {
    pub api: Arc<Api>,
    pub layout: Layout,
    known: RwLock<Option<Known>>,
    /// What it looked like last, and how its live feed does.
    pub figures: Figures,
    /// Of appends: they wait for the leader.
    appends: Breaker,
    /// Of reads, which any copy answers.
    reads: Breaker,
    /// Held while the stream is looked up or made, so one task does it.
    making: tokio::sync::Mutex<()>,
}

impl Stream {
    /// A stream that nothing is known of yet.
    pub fn new(api: Arc<Api>, layout: Layout) -> Self {
        Self {
            api,
            layout,
            known: RwLock::new(None),
            figures: Figures::default(),
            appends: Breaker::default(),
            reads: Breaker::default(),
            making: tokio::sync::Mutex::new(()),
        }
    }

    /// Refuses an append at once where the last ones waited in vain.
    pub fn admit_append(&self) -> Result<(), LogError> {
        self.admit(&self.appends, "appends")
    }

    /// Learns from what became of an append.
    pub fn append_ended<T>(&self, outcome: &Result<T, LogError>) {
        self.learn(&self.appends, "appends", outcome);
    }

    /// A read, refused at once where the last ones waited in vain.
    pub async fn reading<T>(&self, read: BoxFuture<'_, Result<T, LogError>>) -> Result<T, LogError> {
        self.admit(&self.reads, "reads")?;
        let outcome = read.await;
        self.learn(&self.reads, "reads", &outcome);
        outcome
    }

    fn admit(&self, breaker: &Breaker, what: &str) -> Result<(), LogError> {
        // Without a connection it is refused anyway, and with a new one nothing is known of what was.
        breaker.admit(Instant::now()).map_err(|wait| {
            LogError::Unavailable(format!(
                "the last {what} of stream {} found no answer; the next is made in {} ms",
                self.layout.name,
                wait.as_millis()
            ))
        })
    }

    fn learn<T>(&self, breaker: &Breaker, what: &str, outcome: &Result<T, LogError>) {
        match outcome {
            Err(LogError::Unavailable(reason)) => {
                // A lost connection is known to all at once, and found again by itself.
                if self.api.check_connected().is_ok() && breaker.failed(Instant::now()) {
                    let name = &self.layout.name;
                    tracing::warn!(stream = %name, reason, "{what} of stream {name} are refused until one is answered");
                }
            }
            Err(LogError::Overloaded { .. }) => {}
            _ => breaker.answered(),
        }
    }

    /// Whether appends, and reads, are refused at once.
    pub fn breakers_open(&self) -> (bool, bool) {
        let now = Instant::now();
        (self.appends.is_open(now), self.reads.is_open(now))
    }

    /// What it looked like last.
    pub fn load(&self) -> StreamLoad {
        let figures = &self.figures;
        StreamLoad {
            name: Arc::clone(&self.layout.name),
            bytes: figures.bytes.load(Relaxed),
            max_bytes: Some(figures.max_bytes.load(Relaxed)).filter(|max| *max > 0),
            events: Some(figures.events.load(Relaxed)),
        }
    }

    /// What is known of the stream without asking.
    pub fn cached(&self) -> Option<Known> {
        *self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the next use look the stream up again.
    pub fn forget(&self) {
        self.remember(None);
    }

    /// Takes over what a look at the same incarnation showed: an operator may have added copies.
    pub fn refresh(&self, seen: Known) {
        if self.cached().is_some_and(|known| known.epoch == seen.epoch && known != seen) {
            self.remember(Some(seen));
        }
    }

    fn remember(&self, known: Option<Known>) {
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
    }

    /// What the stream is; looks it up, and makes it when missing.
    pub async fn known(&self) -> Result<Known, LogError> {
        if let Some(known) = self.cached() {
            return Ok(known);
        }
        let _making = self.making.lock().await;
        if let Some(known) = self.cached() {
            return Ok(known);
        }
        let info = match self.look_up().await? {
            Some(info) => self.bring_up_to_date(info).await?,
            None => self.make().await?,
        };
        let known = read_known(&info).ok_or_else(|| {
            LogError::Corrupt(format!(
                "stream {} exists and was not made by this program: it has no `{EPOCH}` in its metadata",
                self.layout.name
            ))
        })?;
        self.remember(Some(known));
        Ok(known)
    }

    /// Asks the leader. `None` when there is no such stream.
    pub async fn look(&self) -> Result<Option<Seen>, LogError> {
        Ok(self
            .look_up()
            .await?
            .map(|info| Seen { known: read_known(&info), last: info.state.last_sequence }))
    }

    async fn look_up(&self) -> Result<Option<Info>, LogError> {
        let (name, context) = (&*self.layout.name, &self.api.context);
        let what = format!("looking up stream {name}");
        let looked = self.api.until_answered(&what, || context.get_stream(name)).await;
        match looked? {
            Ok(stream) => {
                let info = stream.cached_info();
                self.figures.note(info);
                Ok(Some(info.clone()))
            }
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(e) if e.error_code() == ErrorCode::STREAM_NOT_FOUND => Ok(None),
                GetStreamErrorKind::JetStream(e) => Err(problem(e.error_code(), &e.to_string())),
                _ => Err(LogError::Unavailable(format!("stream {}: {error}", self.layout.name))),
            },
        }
    }

    async fn make(&self) -> Result<Info, LogError> {
        // A version 4 UUID: 62 random bits in its lower half, and never 0.
        let epoch = uuid::Uuid::new_v4().as_u64_pair().1;
        match self.api.context.create_stream(self.wanted(epoch)).await {
            Ok(stream) => Ok(stream.cached_info().clone()),
            // Another node was quicker and drew another epoch: its stream is the stream.
            Err(error) if matches!(error.kind(), CreateStreamErrorKind::JetStream(ref e) if e.error_code() == ErrorCode::STREAM_NAME_EXIST) => {
                self.look_up().await?.ok_or_else(|| {
                    LogError::Unavailable(format!("stream {} exists and cannot be found", self.layout.name))
                })
            }
            Err(error) => match error.kind() {
                CreateStreamErrorKind::JetStream(e) => Err(problem(e.error_code(), &e.to_string())),
                _ => Err(LogError::Unavailable(format!("making stream {}: {error}", self.layout.name))),
            },
        }
    }

    fn wanted(&self, epoch: u64) -> Config {
        let options = &self.api.options;
        Config {
            name: self.layout.name.to_string(),
            subjects: vec![self.layout.all()],
            retention: RetentionPolicy::Limits,
            // Old events leave by trimming alone: a bound of the stream's own would take them whosever they are. What
            // does not fit is refused, never made to fit at the expense of what was acknowledged.
            discard: DiscardPolicy::New,
            max_bytes: options.stream_max_bytes.and_then(|max| i64::try_from(max).ok()).unwrap_or(-1),
            max_age: std::time::Duration::ZERO,
            storage: StorageType::File,
            num_replicas: options.replicas,
            duplicate_window: options.dedupe_window,
            // Erasing a project overwrites its messages one by one.
            deny_delete: false,
            allow_direct: true,
            allow_atomic_publish: true,
            republish: Some(Republish {
                source: self.layout.all(),
                destination: self.layout.live(),
                headers_only: false,
            }),
            metadata: HashMap::from([(EPOCH.to_owned(), epoch.to_string())]),
            ..Config::default()
        }
    }

    /// Checks what cannot be changed and changes what safely can be.
    async fn bring_up_to_date(&self, info: Info) -> Result<Info, LogError> {
        let (is, wanted) = (&info.config, self.wanted(0));
        let fixed = [
            ("subjects", is.subjects == wanted.subjects, format!("{:?}", is.subjects)),
            ("storage", is.storage == wanted.storage, format!("{:?}", is.storage)),
            ("retention", is.retention == wanted.retention, format!("{:?}", is.retention)),
        ];
        if let Some((what, _, value)) = fixed.iter().find(|(_, same, _)| !same) {
            return Err(LogError::Corrupt(format!(
                "stream {} exists with {what} {value}, which this program does not use; \
                 give it another name or remove it",
                self.layout.name
            )));
        }
        let mut config = is.clone();
        // Copies are only ever added: two nodes with different settings must not undo each other's.
        config.num_replicas = is.num_replicas.max(wanted.num_replicas);
        config.duplicate_window = wanted.duplicate_window;
        config.max_bytes = wanted.max_bytes;
        config.max_age = wanted.max_age;
        config.discard = wanted.discard;
        config.allow_direct = true;
        config.allow_atomic_publish = true;
        config.republish = wanted.republish;
        if config == *is {
            return Ok(info);
        }
        tracing::info!(stream = %self.layout.name, "the stream's settings differ and are updated");
        self.api
            .context
            .update_stream(config)
            .await
            .map_err(|error| LogError::Unavailable(format!("updating stream {}: {error}", self.layout.name)))
    }
}

fn read_known(info: &Info) -> Option<Known> {
    Some(Known {
        epoch: info.config.metadata.get(EPOCH)?.parse().ok().filter(|epoch| *epoch != 0)?,
        replicas: info.config.num_replicas,
        batches: info.config.allow_atomic_publish,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_disjoint_subjects() {
        let layout = Layout::new("EVENTS").expect("a name");
        assert_eq!((layout.all().as_str(), layout.live().as_str()), ("events.>", "live.events.>"));
        assert_eq!(layout.split("events.t.p.a.b"), Some(("t", "p", "a.b")));
        assert_eq!(layout.split("eventsx.t.p.a"), None);
        for bad in ["", "a.b", "a b", "LIVE", "_x", "a>", &"x".repeat(65)] {
            assert!(Layout::new(bad).is_err(), "{bad}");
        }
    }
}
