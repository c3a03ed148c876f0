//! The delivery to one endpoint by the node that holds its lease.
//!
//! ```text
//!   log   … 7 8 9 │ 10  11  12  13 │ 14 …
//!                 │ ✓   …   ✓   ✗  └ read
//!          cursor ┘     └ in flight: the cursor waits here
//!                           ✗ becomes a message of the database, with the move of the cursor past it
//! ```
//! *Ordered*: whatever stands first in the order, waiting message or new event, is the only one in flight; it waits until it is
//! due and holds up what follows. *Unordered*: due messages, then new events, up to `in_flight`. Dead letters that are sent
//! again keep the order of their topic among themselves.

use super::message::{self, Sending};
use super::{Attempted, LAST_ANSWERS, WebhookCounts};
use crate::Error;
use crate::engine::Engine;
use crate::projects::Use;
use crate::resume::{Gap, GapReason, after_cursor};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use serde::de::IgnoredAny;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use weir_core::{Pattern, Position, Secret, Timestamp};
use weir_log::{LogError, Place, ReadQuery};
use weir_store::webhooks::{
    AttemptOutcome, DeathReason, DisabledFor, LeasedWebhook, MAX_MESSAGES, Progress, Webhook, WebhookAttempt,
    WebhookMessage,
};

/// Between two looks at a log of which no news comes: what is live may be missed, what is stored is not.
const POLL: Duration = Duration::from_secs(10);
/// What happened is written this often at least.
const SAVE_EVERY: Duration = Duration::from_millis(100);
/// And when there is so much of it.
const SAVE_AT: usize = 64;
/// Nothing is attempted while so much could not be written.
const MOST_UNSAVED: usize = 256;
/// Between two looks at what is due and cannot be sent just now.
const REST: Duration = Duration::from_millis(20);
/// After something failed that is not the endpoint's doing.
const PAUSE: Duration = Duration::from_secs(1);
/// Events read at once, and bytes of them.
const PAGE: (usize, usize) = (64, 1 << 20);
/// Bytes of messages that wait for one endpoint; then nothing more is read for it.
const MOST_WAITING_BYTES: u64 = 64 << 20;

/// Where a message stands in the order: those of an earlier incarnation of the log come first.
type Turn = (bool, u64, String);

/// An attempt that has ended.
struct Done {
    sending: Sending,
    /// `None` when the message was not there any more, or the database did not say.
    attempted: Option<Attempted>,
}

/// A place in the log that was read.
struct Read {
    position: Position,
    settled: bool,
}

pub(super) struct Worker {
    engine: Arc<Engine>,
    of: Webhook,
    place: Place,
    secrets: Vec<Secret>,
    secrets_at: Option<Instant>,
    patterns: Arc<[Pattern]>,
    trusted_until: watch::Receiver<Instant>,
    wake: Arc<Notify>,
    stop: CancellationToken,
    followed: Option<Use>,
    /// Read up to here.
    read: Position,
    at_head: bool,
    /// What was read and is not behind the cursor yet, in order.
    line: VecDeque<Read>,
    /// New events that were not attempted.
    fresh: VecDeque<WebhookMessage>,
    /// Messages of the database, by their turn.
    waiting: BTreeMap<Turn, WebhookMessage>,
    flying: FuturesUnordered<BoxFuture<'static, Done>>,
    /// The names of what is in flight.
    in_flight: HashSet<String>,
    progress: Progress,
    saved: Instant,
    failing_since: Option<Timestamp>,
}

impl Worker {
    pub(super) fn new(
        engine: Arc<Engine>,
        leased: LeasedWebhook,
        trusted_until: watch::Receiver<Instant>,
        wake: Arc<Notify>,
        stop: CancellationToken,
    ) -> Self {
        let of = leased.webhook;
        let place =
            Place { tenant: of.tenant_id, project: of.project_id, stream: Arc::from(leased.stream.as_str()) };
        Self {
            engine,
            place,
            secrets: Vec::new(),
            secrets_at: None,
            patterns: of.terms.topics.clone().into(),
            trusted_until,
            wake,
            stop,
            followed: None,
            read: of.cursor,
            at_head: false,
            line: VecDeque::new(),
            fresh: VecDeque::new(),
            waiting: BTreeMap::new(),
            flying: FuturesUnordered::new(),
            in_flight: HashSet::new(),
            progress: Progress::default(),
            saved: Instant::now(),
            failing_since: of.failing_since,
            of,
        }
    }

    /// Delivers until it is told to stop, or the endpoint is not this node's any more.
    pub(super) async fn run(mut self) {
        while !self.stop.is_cancelled() {
            match self.work().await {
                Ok(()) => break,
                Err(error) => {
                    let cause = error.internal.clone().unwrap_or_else(|| error.message.clone());
                    tracing::warn!(webhook = %self.of.id, cause, "a webhook waits: {cause}");
                    let stop = self.stop.clone();
                    tokio::select! {
                        () = sleep(PAUSE) => {}
                        () = stop.cancelled() => {}
                    }
                }
            }
        }
        // What the endpoint took before the end need not be sent again.
        let answers = async {
            while let Some(done) = self.flying.next().await {
                self.note(done);
            }
        };
        let _ = timeout(LAST_ANSWERS, answers).await;
        if let Err(error) = self.save().await {
            tracing::warn!(webhook = %self.of.id, %error, "what a webhook took last is sent again: {error}");
        }
    }

    /// From where the database says that it stands.
    async fn begin(&mut self) -> Result<(), Error> {
        let messages = self.engine.store.deliveries.messages(self.of.tenant_id, self.of.id).await?;
        self.waiting = messages.into_iter().map(|message| (self.turn(&message), message)).collect();
        self.look_where_it_stands().await
    }

    /// Holds the cursor against the log: what is missing is told to the endpoint first.
    async fn look_where_it_stands(&mut self) -> Result<(), Error> {
        let found = self.engine.log.inspect(&self.place, self.read.sequence).await?;
        let resolved = after_cursor(self.read, found);
        match resolved.gap {
            None => Ok(()),
            Some(gap) => self.declare(gap, resolved.after).await,
        }
    }

    /// A gap is a message like any other, written with the move of the cursor over it.
    async fn declare(&mut self, gap: Gap, after: Position) -> Result<(), Error> {
        tracing::warn!(
            webhook = %self.of.id, reason = ?gap.reason, from = gap.from, to = gap.to,
            "a webhook does not get the events {} to {}: {:?}", gap.from, gap.to, gap.reason
        );
        let told = message::gap(&self.of, gap, after, self.engine.clock.now());
        self.progress.waiting.push(told.clone());
        let turn = self.turn(&told);
        self.waiting.insert(turn, WebhookMessage { body: Vec::new(), ..told });
        self.line.push_back(Read { position: after, settled: true });
        self.read = after;
        // Turns go by the incarnation that is read.
        let waiting = std::mem::take(&mut self.waiting);
        self.waiting = waiting.into_values().map(|message| (self.turn(&message), message)).collect();
        self.save().await.map(drop)
    }

    fn turn(&self, message: &WebhookMessage) -> Turn {
        (message.epoch == self.read.epoch, message.sequence, message.id.clone())
    }

    /// Until it is told to stop, or the endpoint is somebody else's, or it begins anew.
    async fn work(&mut self) -> Result<(), Error> {
        if self.saved_nothing_yet() {
            self.begin().await?;
        }
        let mut looked = Instant::now();
        loop {
            if self.stop.is_cancelled() {
                return Ok(());
            }
            if self.followed.is_none() {
                // Without it news come by looking.
                self.followed = self.engine.projects.follow(&self.place).await.ok();
            }
            // Registered before the log is read, so that no news between the two is missed.
            let wake = Arc::clone(&self.wake);
            let news = wake.notified();
            tokio::pin!(news);
            news.as_mut().enable();
            if self.wants_saving() && !self.save().await? {
                return Ok(());
            }
            if self.has_room() {
                self.read_on().await?;
            }
            self.start();
            // Nothing new to attempt: what is known is written before resting.
            if self.is_dirty() && self.flying.is_empty() && !self.save().await? {
                return Ok(());
            }
            if self.has_room() && !self.at_head {
                continue;
            }
            let pause = self.pause();
            tokio::select! {
                Some(done) = self.flying.next() => self.note(done),
                () = news => self.at_head = false,
                () = sleep(pause) => {
                    if looked.elapsed() >= POLL {
                        looked = Instant::now();
                        self.at_head = false;
                        if self.fresh.is_empty() {
                            self.followed = self.engine.projects.follow(&self.place).await.ok();
                            self.look_where_it_stands().await?;
                        }
                    }
                }
                () = self.stop.cancelled() => return Ok(()),
            }
        }
    }

    fn saved_nothing_yet(&self) -> bool {
        self.line.is_empty() && self.fresh.is_empty() && self.flying.is_empty() && !self.is_dirty()
    }

    /// How long nothing has to be done, if nothing happens.
    fn pause(&self) -> Duration {
        let now = self.engine.clock.now();
        let due = self.waiting.values().filter(|message| !self.in_flight.contains(&message.id));
        let next = due.map(|message| message.due_at.since(now)).min().unwrap_or(POLL);
        let save = if self.is_dirty() { SAVE_EVERY } else { POLL };
        next.min(save).clamp(REST, PAUSE)
    }

    fn is_dirty(&self) -> bool {
        let progress = &self.progress;
        self.line.front().is_some_and(|read| read.settled)
            || !(progress.waiting.is_empty()
                && progress.taken.is_empty()
                && progress.dead.is_empty()
                && progress.attempts.is_empty()
                && progress.failing_since.is_none()
                && progress.disable.is_none())
    }

    fn wants_saving(&self) -> bool {
        let urgent = !self.progress.waiting.is_empty()
            || !self.progress.dead.is_empty()
            || self.progress.disable.is_some()
            || self.progress.attempts.len() >= SAVE_AT;
        self.is_dirty() && (urgent || self.saved.elapsed() >= SAVE_EVERY)
    }

    /// Writes what happened. False when the endpoint is not this node's any more.
    async fn save(&mut self) -> Result<bool, Error> {
        while self.line.front().is_some_and(|read| read.settled) {
            self.progress.cursor = self.line.pop_front().map(|read| read.position);
        }
        let progress = self.progress.clone();
        let disable = progress.disable;
        let (dead, counts) = (progress.dead.len(), &self.engine.webhooks.counts);
        let now = self.engine.clock.now();
        let of = Webhook { failing_since: self.failing_since, ..self.of.clone() };
        let kept = self.engine.store.deliveries.progress(self.engine.node, &of, progress, now).await?;
        self.saved = Instant::now();
        self.progress = Progress::default();
        if kept {
            WebhookCounts::add(&counts.dead, dead);
        }
        if kept && let Some(reason) = disable {
            WebhookCounts::add(&counts.disabled, 1);
            self.engine.system.look();
            tracing::warn!(webhook = %self.of.id, reason = reason.as_str(), "webhook {} is disabled: {}", self.of.id, reason.as_str());
            return Ok(false);
        }
        if kept && dead > 0 {
            self.engine.system.look();
        }
        Ok(kept)
    }

    /// Whether more may be read.
    fn has_room(&self) -> bool {
        let waiting: u64 = self.waiting.values().map(|message| message.bytes).sum();
        self.fresh.is_empty()
            && self.waiting.len() + self.flying.len() < MAX_MESSAGES as usize
            && waiting < MOST_WAITING_BYTES
            // The order stops at the first that waits.
            && !(self.of.terms.ordered && !(self.waiting.is_empty() && self.flying.is_empty()))
    }

    async fn read_on(&mut self) -> Result<(), Error> {
        if self.at_head {
            return Ok(());
        }
        let query = ReadQuery {
            after: self.read.sequence,
            patterns: Arc::clone(&self.patterns),
            max_events: PAGE.0,
            max_bytes: PAGE.1,
        };
        let page = {
            let _read = self.engine.webhooks.reads.acquire().await.map_err(Error::internal)?;
            self.engine.log.read(&self.place, query).await
        };
        match page {
            Ok(page) => {
                let now = self.engine.clock.now();
                for event in &page.events {
                    self.read = event.position(self.read.epoch);
                    self.line.push_back(Read { position: self.read, settled: false });
                    let cursors = &self.engine.cursors;
                    self.fresh.push_back(message::event(&self.of, event, self.read.epoch, cursors, now));
                }
                if page.through > self.read.sequence {
                    self.read = Position { sequence: page.through, check: 0, ..self.read };
                    self.line.push_back(Read { position: self.read, settled: true });
                }
                self.at_head = page.at_head;
                Ok(())
            }
            Err(LogError::OutOfRange { floor }) if floor > self.read.sequence => {
                let gap = Gap { reason: GapReason::Expired, from: self.read.sequence + 1, to: floor };
                self.declare(gap, Position { sequence: floor, check: 0, ..self.read }).await
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Whether this node may send at this moment, and still when the answer comes.
    fn may_send(&self) -> bool {
        let until = *self.trusted_until.borrow();
        until.saturating_duration_since(Instant::now()) > Duration::ZERO
            && self.engine.access.require_fresh().is_ok()
            && self.progress.attempts.len() < MOST_UNSAVED
            // A message of the database is sent when it is there.
            && self.progress.waiting.is_empty()
            && self.progress.disable.is_none()
            && !self.stop.is_cancelled()
    }

    /// Sends what is to be sent now.
    fn start(&mut self) {
        let room = if self.of.terms.ordered { 1 } else { self.of.terms.in_flight.max(1) as usize };
        while self.flying.len() < room && self.may_send() {
            let Some(sending) = self.next() else { return };
            self.in_flight.insert(sending.message.id.clone());
            match self.sent(sending) {
                Ok(sent) => self.flying.push(sent),
                Err(error) => {
                    tracing::error!(webhook = %self.of.id, %error, "a webhook cannot be signed: {error}");
                    return;
                }
            }
        }
    }

    /// What is next in turn.
    fn next(&mut self) -> Option<Sending> {
        let now = self.engine.clock.now();
        let mut topics: HashSet<&str> = HashSet::new();
        for message in self.waiting.values() {
            let flies = self.in_flight.contains(&message.id);
            // Of the dead letters of one topic the first goes first.
            let free = message.dead_letter.is_none() || topics.insert(&message.topic);
            if self.of.terms.ordered && (flies || message.due_at > now) {
                return None;
            }
            if !flies && free && message.due_at <= now {
                return Some(Sending { message: message.clone(), durable: true });
            }
        }
        self.fresh.pop_front().map(|message| Sending { message, durable: false })
    }

    fn sent(&mut self, sending: Sending) -> Result<BoxFuture<'static, Done>, Error> {
        // Looked at again now and then: the old secret's time ends.
        if self.secrets_at.is_none_or(|at| at.elapsed() > POLL) {
            self.secrets = self.engine.webhooks.secrets(&self.of, &*self.engine.clock)?;
            self.secrets_at = Some(Instant::now());
        }
        let (engine, of, secrets) = (Arc::clone(&self.engine), self.of.clone(), self.secrets.clone());
        Ok(Box::pin(async move {
            let body = match sending.durable {
                false => Ok(Some(sending.message.body.clone())),
                true => {
                    let id = sending.message.id.clone();
                    engine.store.deliveries.body(of.tenant_id, of.id, id).await
                }
            };
            let Ok(Some(body)) = body else { return Done { sending, attempted: None } };
            if serde_json::from_slice::<IgnoredAny>(&body).is_err() {
                let attempted = Attempted::unreadable(engine.clock.now());
                return Done { sending, attempted: Some(attempted) };
            }
            let webhooks = &engine.webhooks;
            let Ok(_permit) = webhooks.permits.acquire().await else {
                return Done { sending, attempted: None };
            };
            let attempted =
                webhooks.attempt(&of.terms.url, &sending.message, body, &secrets, &*engine.clock).await;
            Done { sending, attempted: Some(attempted) }
        }))
    }

    /// Takes note of how an attempt ended.
    fn note(&mut self, done: Done) {
        let Done { sending, attempted } = done;
        let Sending { mut message, durable } = sending;
        self.in_flight.remove(&message.id);
        let turn = self.turn(&message);
        let Some(attempted) = attempted else {
            // Tried again soon, or forgotten if it is not there.
            if let Some(waiting) = self.waiting.get_mut(&turn) {
                waiting.due_at = self.engine.clock.now().plus(PAUSE);
            }
            return;
        };
        message.attempts = message.attempts.saturating_add(1);
        let outcome = self.outcome(&attempted, &message);
        self.progress.attempts.push(WebhookAttempt {
            id: uuid::Uuid::now_v7(),
            at: attempted.at,
            message_id: message.id.clone(),
            event_id: message.event_id.clone(),
            topic: message.topic.clone(),
            sequence: message.sequence,
            number: message.attempts,
            outcome,
            status: attempted.status,
            failure: attempted.failure.clone(),
            millis: u64::try_from(attempted.took.as_millis()).unwrap_or(u64::MAX),
        });
        let counts = &self.engine.webhooks.counts;
        if attempted.failure.is_none() {
            WebhookCounts::add(&counts.delivered, 1);
            if self.failing_since.take().is_some() {
                self.progress.failing_since = Some(None);
            }
            if durable {
                self.waiting.remove(&turn);
                self.progress.taken.push(WebhookMessage { body: Vec::new(), ..message });
            } else {
                self.settle(&message);
            }
            return;
        }
        WebhookCounts::add(&counts.failed, 1);
        let now = self.engine.clock.now();
        if self.failing_since.is_none() && !attempted.is_unreadable() {
            self.failing_since = Some(attempted.at);
            self.progress.failing_since = Some(self.failing_since);
        }
        message.first_failed_at = message.first_failed_at.or(Some(attempted.at));
        message.last_failed_at = Some(attempted.at);
        message.failure = attempted.failure.clone();
        let retries = &self.engine.webhooks.settings.retries;
        let next = retries.get(message.attempts as usize - 1).or(retries.last()).copied().unwrap_or(PAUSE);
        message.due_at = now.plus(next.max(attempted.retry_after.unwrap_or_default()));
        if outcome == AttemptOutcome::Disabled {
            let gone = attempted.is_gone();
            self.progress.disable = Some(if gone { DisabledFor::Gone } else { DisabledFor::Failing });
        }
        if !durable {
            self.settle(&message);
        }
        if outcome == AttemptOutcome::Dead {
            self.waiting.remove(&turn);
            let unreadable = attempted.is_unreadable();
            let reason = if unreadable { DeathReason::Undecodable } else { DeathReason::Exhausted };
            self.progress.dead.push((message, reason));
            return;
        }
        self.progress.waiting.push(message.clone());
        self.waiting.insert(turn, WebhookMessage { body: Vec::new(), ..message });
    }

    fn outcome(&self, attempted: &Attempted, message: &WebhookMessage) -> AttemptOutcome {
        let settings = &self.engine.webhooks.settings;
        let failing = self.failing_since.map_or(Duration::ZERO, |since| attempted.at.since(since));
        if attempted.failure.is_none() {
            AttemptOutcome::Delivered
        } else if attempted.is_unreadable() {
            AttemptOutcome::Dead
        } else if attempted.is_gone() || failing >= settings.disable_after {
            AttemptOutcome::Disabled
        } else if message.attempts as usize > settings.retries.len() {
            AttemptOutcome::Dead
        } else {
            AttemptOutcome::Retry
        }
    }

    /// The cursor may pass this event.
    fn settle(&mut self, message: &WebhookMessage) {
        let same = |read: &&mut Read| {
            read.position.sequence == message.sequence
                && read.position.epoch == message.epoch
                && !read.settled
        };
        if let Some(read) = self.line.iter_mut().find(same) {
            read.settled = true;
        }
    }
}
