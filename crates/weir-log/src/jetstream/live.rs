//! The live feed of one stream.
//!
//! The stream republishes each message after its commit, with its sequence. One core subscription per
//! stream and node listens: sequences of a stream follow on each other without a gap, so a hole is seen
//! at the next message, and is read from the stream before anything behind it is passed on. Core
//! messages can be lost, and the last one leaves no hole: an audit asks the leader for the last
//! sequence every two seconds, and at once after the connection was made anew.
//!
//! `reached` is the one piece of state that matters: everything up to there was passed on to whoever
//! watched.

use super::api::{Link, Wanted};
use super::message::Stored;
use super::stream::{Known, Seen, Stream};
use super::{Core, Watched};
use crate::{FeedItem, LogError, Place};
use async_nats::header::{HeaderName, NATS_LAST_SEQUENCE};
use async_nats::{Message, Subscriber};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use weir_core::{Event, Position, ProjectId};

/// The header of messages that came in an atomic batch.
const BATCH_ID: HeaderName = HeaderName::from_static("Nats-Batch-Id");
/// How often the stream's last sequence is compared with ours.
const AUDIT: Duration = Duration::from_secs(2);
/// When to look again after a difference or a failure.
const AUDIT_SOON: Duration = Duration::from_millis(100);
/// How long nobody may watch before the subscription is given up.
const IDLE: Duration = Duration::from_secs(60);
/// Events and bytes in one feed item, at most; with the bound on items this bounds the queue.
const ITEM_EVENTS: usize = 256;
const ITEM_BYTES: usize = 256 << 10;
/// Messages taken from the subscription in one go.
const GULP: usize = 256;
/// Messages and bytes read at once to fill a hole.
const FILL: usize = 1000;
const FILL_BYTES: usize = 4 << 20;
/// Heads asked for at once when many projects are watched together.
const HEADS: usize = 32;

/// A wish to watch a project.
pub(super) struct Watch {
    pub place: Place,
    pub reply: oneshot::Sender<Result<Position, LogError>>,
}

/// The task of one stream.
pub(super) struct Live {
    core: Arc<Core>,
    stream: Arc<Stream>,
    wishes: mpsc::Receiver<Watch>,
    out: mpsc::Sender<FeedItem>,
    link: watch::Receiver<Link>,
    messages: Option<Subscriber>,
    known: Option<Known>,
    reached: u64,
    /// What the last audit saw; still not reached at the next one, it was lost on the way.
    expected: u64,
    /// Where `reached` stood when the audit under way was started.
    audited_from: u64,
    /// How often in a row the stream ended before that.
    behind: u32,
    next_audit: Instant,
    watched_last: Instant,
    /// Events on their way out, in order.
    pending: Vec<(ProjectId, Vec<Arc<Event>>)>,
}

type Audit = BoxFuture<'static, Result<Option<Seen>, LogError>>;

impl Live {
    pub fn new(
        core: Arc<Core>,
        stream: Arc<Stream>,
        wishes: mpsc::Receiver<Watch>,
        out: mpsc::Sender<FeedItem>,
    ) -> Self {
        let link = core.api.link.clone();
        let now = Instant::now();
        Self {
            core,
            stream,
            wishes,
            out,
            link,
            messages: None,
            known: None,
            reached: 0,
            expected: 0,
            audited_from: 0,
            behind: 0,
            next_audit: now,
            watched_last: now,
            pending: Vec::new(),
        }
    }

    /// Runs until the log is closed.
    pub async fn run(mut self) {
        let mut audit: Option<Audit> = None;
        loop {
            let listening = self.messages.is_some();
            tokio::select! {
                wish = self.wishes.recv() => match wish {
                    Some(wish) => self.admit(wish).await,
                    None => return,
                },
                changed = self.link.changed(), if listening => {
                    if changed.is_err() {
                        return;
                    }
                    self.link.mark_unchanged();
                    // Whatever was published meanwhile is lost: no grace.
                    (self.expected, self.next_audit) = (u64::MAX, Instant::now());
                }
                message = next(&mut self.messages), if listening => match message {
                    Some(message) => self.take(message).await,
                    None => return,
                },
                () = tokio::time::sleep_until(self.next_audit), if listening && audit.is_none() => {
                    self.audited_from = self.reached;
                    let stream = Arc::clone(&self.stream);
                    audit = Some(async move { stream.look().await }.boxed());
                }
                seen = async { match audit.as_mut() { Some(audit) => audit.await, None => std::future::pending().await } } => {
                    audit = None;
                    self.next_audit = Instant::now() + AUDIT;
                    self.compare(seen).await;
                }
            }
        }
    }

    // ---- watching -----------------------------------------------------------------------------

    /// Lets projects in. While this runs nothing is passed on, so `reached` stands still: a project's
    /// head that the leader names now is either behind it (then all up to `reached` is in that head)
    /// or ahead of it (then what lies between is skipped when it comes by).
    async fn admit(&mut self, first: Watch) {
        let mut wishes = vec![first];
        while wishes.len() < GULP {
            match self.wishes.try_recv() {
                Ok(wish) => wishes.push(wish),
                Err(_) => break,
            }
        }
        self.watched_last = Instant::now();
        let known = match self.listen().await {
            Ok(known) => known,
            Err(error) => {
                wishes.into_iter().for_each(|wish| drop(wish.reply.send(Err(error.clone()))));
                return;
            }
        };
        let (core, stream) = (&self.core, &self.stream);
        futures::stream::iter(wishes)
            .map(|wish| async move {
                let position = begin(core, stream, known, &wish.place).await;
                // Whoever asked may have given up; then the engine's unwatch follows.
                let _ = wish.reply.send(position);
            })
            .buffer_unordered(HEADS)
            .collect::<()>()
            .await;
    }

    /// Subscribes if that is not done, and makes sure that the leader has come as far as we have.
    async fn listen(&mut self) -> Result<Known, LogError> {
        self.core.api.check_connected()?;
        let known = self.stream.known().await?;
        if self.messages.is_none() {
            let lost = |e: &dyn std::fmt::Display| LogError::Unavailable(format!("subscribing: {e}"));
            let client = &self.core.api.client;
            let messages = client.subscribe(self.stream.layout.live()).await.map_err(|e| lost(&e))?;
            client.flush().await.map_err(|e| lost(&e))?;
            // What is committed after this look comes through the subscription or shows in an audit.
            let seen = self.look().await?;
            (self.messages, self.known, self.reached) = (Some(messages), Some(known), seen.last);
            (self.expected, self.behind) = (u64::MAX, 0);
            self.next_audit = Instant::now() + AUDIT_SOON;
        } else if self.look().await?.last < self.reached {
            self.next_audit = Instant::now();
            return Err(LogError::Unavailable("the stream's leader is behind; try again".into()));
        }
        Ok(known)
    }

    async fn look(&self) -> Result<Seen, LogError> {
        let seen = self.stream.look().await?;
        seen.ok_or_else(|| LogError::Unavailable(format!("stream {} is gone", self.stream.layout.name)))
    }

    // ---- passing on ---------------------------------------------------------------------------

    /// Takes a message and what else is there.
    async fn take(&mut self, first: Message) {
        if self.take_in_order(first).await.is_err() {
            // Nothing behind a hole may pass; the audit tries again.
            (self.expected, self.next_audit) = (u64::MAX, Instant::now() + AUDIT_SOON);
        }
        self.flush().await;
    }

    async fn take_in_order(&mut self, first: Message) -> Result<(), LogError> {
        // Messages of atomic batches, following on `reached`.
        let mut batch: Vec<Stored> = Vec::new();
        let mut next = Some(first);
        for _ in 0..GULP {
            let Some(stored) = next.take().and_then(Stored::from_message) else { break };
            let expected = self.reached + batch.len() as u64 + 1;
            let batched = stored.headers.get(BATCH_ID).is_some();
            if !batch.is_empty() && (!batched || stored.sequence > expected) {
                self.pass_batch(std::mem::take(&mut batch)).await?;
            }
            if stored.sequence > expected {
                self.flush().await;
                self.fill(stored.sequence - 1).await?;
            }
            if batched && stored.sequence >= expected {
                batch.push(stored);
            } else if stored.sequence > self.reached + batch.len() as u64 {
                self.reached = stored.sequence;
                self.pass(stored);
            }
            next = self.messages.as_mut().and_then(|messages| messages.next().now_or_never()).flatten();
        }
        self.pass_batch(batch).await
    }

    /// Passes on messages of atomic batches. The server says the wrong "last sequence" with the first
    /// message of each subject in a batch that follows on pipelined publishes, so that is looked up.
    async fn pass_batch(&mut self, batch: Vec<Stored>) -> Result<(), LogError> {
        let Some(last) = batch.last().map(|message| message.sequence) else { return Ok(()) };
        let known = self.stream.known().await?;
        for event in self.events(known, batch).await? {
            self.queue(event);
        }
        self.reached = last;
        Ok(())
    }

    /// The events that somebody waits for among all messages of the stream after `reached`.
    async fn events(&self, known: Known, messages: Vec<Stored>) -> Result<Vec<Event>, LogError> {
        let layout = &self.stream.layout;
        let wanted = |message: &Stored| {
            let project = message.project(layout);
            project.is_some_and(|project| self.core.watches(project, &layout.name, message.sequence))
        };
        self.stream.events(known, self.reached, messages, wanted).await
    }

    fn pass(&mut self, stored: Stored) {
        let layout = &self.stream.layout;
        let Some(project) = stored.project(layout) else { return };
        // No look at the event unless somebody waits for it.
        if !self.core.watches(project, &layout.name, stored.sequence) {
            return;
        }
        let previous = stored.headers.get(NATS_LAST_SEQUENCE).and_then(|n| n.as_str().parse().ok());
        if let Some(event) = stored.event(layout, previous.unwrap_or(0)) {
            self.queue(event);
        }
    }

    /// Notes that the event goes out now, and lines it up.
    fn queue(&mut self, mut event: Event) {
        let Some(mut watched) = self.core.watched.get_mut(&event.project) else { return };
        if watched.stream != self.stream.layout.name || event.sequence <= watched.position.sequence {
            return;
        }
        event.previous = watched.floor.previous(event.sequence, event.previous);
        watched.position = event.position(watched.position.epoch);
        drop(watched);
        match self.pending.last_mut() {
            Some((project, events)) if *project == event.project => events.push(Arc::new(event)),
            _ => self.pending.push((event.project, vec![Arc::new(event)])),
        }
    }

    async fn flush(&mut self) {
        for (project, events) in std::mem::take(&mut self.pending) {
            let mut item = Vec::new();
            let mut bytes = 0;
            for event in events {
                let weight = event.weight();
                if !item.is_empty() && (item.len() == ITEM_EVENTS || bytes + weight > ITEM_BYTES) {
                    self.send(FeedItem::Events { project, events: std::mem::take(&mut item) }).await;
                    bytes = 0;
                }
                bytes += weight;
                item.push(event);
            }
            self.send(FeedItem::Events { project, events: item }).await;
        }
    }

    /// Hands an item over. While the queue is full, messages that arrive are let go: they are read
    /// from the stream when there is room, so a slow consumer costs reads and never memory.
    async fn send(&mut self, item: FeedItem) {
        loop {
            tokio::select! {
                biased;
                permit = self.out.reserve() => {
                    // An error means that the log is closed and nobody reads any more.
                    if let Ok(permit) = permit {
                        permit.send(item);
                    }
                    return;
                }
                Some(_) = next(&mut self.messages) => {
                    (self.expected, self.next_audit) = (u64::MAX, Instant::now());
                }
            }
        }
    }

    // ---- holes --------------------------------------------------------------------------------

    /// Passes on what the stream holds after `reached`, at least up to `to`.
    async fn fill(&mut self, to: u64) -> Result<(), LogError> {
        if self.watched_here().is_empty() {
            self.reached = self.reached.max(to);
            return Ok(());
        }
        if self.reached < to {
            self.stream.figures.holes.fetch_add(1, Relaxed);
        }
        let known = self.stream.known().await?;
        let all = self.stream.layout.all();
        while self.reached < to {
            let batch = self.stream.messages(self.reached + 1, &all, FILL, FILL_BYTES).await?;
            let Some(last) = batch.messages.last().map(|message| message.sequence) else {
                if self.is_lagging(known, &all, to).await? {
                    tokio::time::sleep(super::api::LAG_PAUSE).await;
                    continue;
                }
                self.report_trimmed(to).await?;
                self.reached = to;
                break;
            };
            let gapless = last - self.reached == batch.messages.len() as u64;
            if !gapless {
                self.report_trimmed(last).await?;
            }
            for event in self.events(known, batch.messages).await? {
                self.queue(event);
            }
            self.reached = last;
            self.flush().await;
        }
        Ok(())
    }

    /// After a replica found nothing: whether the leader has something up to `to`.
    async fn is_lagging(&self, known: Known, all: &str, to: u64) -> Result<bool, LogError> {
        if known.replicas == 1 {
            return Ok(false);
        }
        let wanted = Wanted::Next(self.reached + 1, all);
        let next = self.stream.api.leader_get(&self.stream.layout.name, wanted).await?;
        Ok(next.is_some_and(|next| next.sequence <= to))
    }

    /// Some sequences between `reached` and `to` are no longer in the stream: the feed is broken for
    /// the watched projects whose floor lies in there.
    async fn report_trimmed(&mut self, to: u64) -> Result<(), LogError> {
        let trimmed = self.reached + 1..=to;
        for project in self.watched_here() {
            let floor = self.core.floors.get(project).await?.through;
            if trimmed.contains(&floor) || floor > to {
                self.break_off(project, &format!("events up to {floor} were trimmed before they were fed"))
                    .await;
            }
        }
        Ok(())
    }

    // ---- audit --------------------------------------------------------------------------------

    async fn compare(&mut self, seen: Result<Option<Seen>, LogError>) {
        if self.watched_here().is_empty() {
            if self.watched_last.elapsed() > IDLE {
                self.stream.figures.lag.store(0, Relaxed);
                self.messages = None;
                return;
            }
        } else {
            self.watched_last = Instant::now();
        }
        let Ok(seen) = seen else {
            self.next_audit = Instant::now() + AUDIT_SOON;
            return;
        };
        let Some(Seen { known: Some(known), last, .. }) = seen else {
            return self.start_over("the stream is gone").await;
        };
        if self.known.is_some_and(|ours| ours.epoch != known.epoch) {
            return self.start_over("the stream was made anew").await;
        }
        self.stream.refresh(known);
        if last < self.audited_from {
            // A new leader may still be applying what it has; a stream that stays short was set back.
            self.behind += 1;
            self.next_audit = Instant::now() + AUDIT_SOON;
            if self.behind > 20 {
                self.start_over("the stream was set back to an older state").await;
            }
            return;
        }
        self.behind = 0;
        self.stream.figures.lag.store(last.saturating_sub(self.reached), Relaxed);
        if last <= self.reached {
            self.expected = last;
        } else if self.expected <= last && self.expected > self.reached || self.expected == u64::MAX {
            self.expected = last;
            if self.fill(last).await.is_err() {
                self.expected = u64::MAX;
                self.next_audit = Instant::now() + AUDIT_SOON;
            }
        } else {
            // Probably on its way.
            self.expected = last;
            self.next_audit = Instant::now() + AUDIT_SOON;
        }
    }

    /// The stream is not the one that was followed: every watch of it ends.
    async fn start_over(&mut self, reason: &str) {
        tracing::warn!(stream = %self.stream.layout.name, reason, "the live feed starts over");
        self.stream.forget();
        self.messages = None;
        self.break_all(reason).await;
    }

    fn watched_here(&self) -> Vec<ProjectId> {
        let name = &self.stream.layout.name;
        self.core.watched.iter().filter(|w| w.stream == *name).map(|w| *w.key()).collect()
    }

    async fn break_all(&mut self, reason: &str) {
        for project in self.watched_here() {
            self.break_off(project, reason).await;
        }
    }

    async fn break_off(&mut self, project: ProjectId, reason: &str) {
        self.core.watched.remove(&project);
        self.flush().await;
        self.send(FeedItem::Broken { project, reason: reason.to_owned() }).await;
    }
}

async fn begin(core: &Core, stream: &Stream, known: Known, place: &Place) -> Result<Position, LogError> {
    let name = &stream.layout.name;
    if let Some(watched) = core.watched.get(&place.project).filter(|w| w.stream == *name) {
        return Ok(watched.position);
    }
    let bounds = core.bounds(stream, known, place).await?;
    let floor = core.floors.get(place.project).await?;
    core.watched.insert(place.project, Watched { stream: Arc::clone(name), position: bounds.head, floor });
    Ok(bounds.head)
}

async fn next(messages: &mut Option<Subscriber>) -> Option<Message> {
    match messages {
        Some(messages) => messages.next().await,
        None => std::future::pending().await,
    }
}
