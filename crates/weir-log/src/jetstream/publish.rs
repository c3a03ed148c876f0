//! The one road into a stream: a task that sends what is in line, in order, and hands out the acks.
//!
//! NATS keeps the order of one connection, so publishes are pipelined without waiting for each other's
//! acks, up to a bound. A stream on a single server syncs every message on its own; there, what has
//! queued up behind an ack goes as one atomic batch, which is synced once.
//!
//! What finds no leader is kept (see [`super::held`]): while something is, nothing that is behind it is sent.

use super::api::{ApiError, Link, problem};
use super::held::Held;
use super::message::Outbound;
use super::stream::Stream;
use crate::LogError;
use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::ErrorCode;
use async_nats::{Message, RequestErrorKind, StatusCode, Subscriber};
use futures::StreamExt;
use serde::Deserialize;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use weir_core::ProjectId;

/// Messages on their way to the server at once, at most.
const WINDOW: usize = 1024;
/// Bytes on their way to the server at once, at most (one message may exceed it alone).
const WINDOW_BYTES: usize = 8 << 20;
/// The server takes up to 1000 messages in an atomic batch.
const BATCH: usize = 1000;
/// Below so many messages, single publishes beat a batch (which costs a round through a staging area).
const WORTH_A_BATCH: usize = 16;
/// Atomic batches on their way at once.
const BATCHES: usize = 2;
/// "atomic publish batch contains duplicate message id": nothing of the batch was stored.
const BATCH_HAS_DUPLICATE: ErrorCode = ErrorCode(10201);
/// "atomic publish batch is incomplete": its beginning found no leader. Nothing of the batch was stored.
const BATCH_INCOMPLETE: ErrorCode = ErrorCode(10176);
/// For how many times the time-out of a request a message may wait for a leader, from when it was put in line.
const PATIENCE: u32 = 2;

/// What the stream says of a stored message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ack {
    pub sequence: u64,
    pub duplicate: bool,
    /// Whether it was sent before and may have been stored then, so that it may be a repetition of itself.
    pub unsure: bool,
}

/// How a publish ended.
#[derive(Debug)]
pub(super) enum Refusal {
    /// As an error of the log.
    Failed(LogError),
    /// A message with the same id is being stored at this moment: ask again.
    InProcess,
    /// Nobody took it, so it was not stored: the stream is missing or has no leader just now.
    Unheard,
}

/// Bytes that are in line or on their way, over all streams.
#[derive(Debug)]
pub(super) struct Budget {
    used: AtomicUsize,
    limit: usize,
}

impl Budget {
    pub const fn new(limit: usize) -> Self {
        Self { used: AtomicUsize::new(0), limit }
    }

    /// Bytes in it, and how many there may be.
    pub fn load(&self) -> (u64, u64) {
        (self.used.load(Ordering::Relaxed) as u64, self.limit as u64)
    }

    /// Takes `bytes`, or says how full it is.
    pub fn take(self: &Arc<Self>, bytes: usize) -> Result<(), LogError> {
        let queued = self.used.fetch_add(bytes, Ordering::Relaxed);
        if queued > 0 && queued + bytes > self.limit {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
            return Err(LogError::Overloaded { queued, limit: self.limit });
        }
        Ok(())
    }
}

/// A message in line. Dropping it gives its bytes back.
pub(super) struct Queued {
    message: Outbound,
    project: ProjectId,
    /// Whether the stream looks for its id among the recent ones.
    deduped: bool,
    /// Whether it was sent before and may have been stored.
    unsure: bool,
    /// Until when it may wait for a leader.
    until: Instant,
    bytes: usize,
    budget: Arc<Budget>,
    done: Option<oneshot::Sender<Result<Ack, Refusal>>>,
}

impl Queued {
    /// Wraps a message of `project` whose `bytes` were taken from the budget.
    pub fn new(
        message: Outbound,
        project: ProjectId,
        stream: &Stream,
        bytes: usize,
        budget: Arc<Budget>,
    ) -> (Self, oneshot::Receiver<Result<Ack, Refusal>>) {
        let (done, outcome) = oneshot::channel();
        let deduped = message.headers.get(NATS_MESSAGE_ID).is_some();
        let until = Instant::now() + stream.api.options.request_timeout * PATIENCE;
        let done = Some(done);
        (Self { message, project, deduped, unsure: false, until, bytes, budget, done }, outcome)
    }

    pub(super) const fn project(&self) -> ProjectId {
        self.project
    }

    /// Whether it may be sent again later.
    pub(super) fn may_wait(&self, now: Instant) -> bool {
        now < self.until
    }

    fn finish(mut self, outcome: Result<Ack, Refusal>) {
        if let Some(done) = self.done.take() {
            // The caller may have gone away; the message is stored all the same.
            let _ = done.send(outcome);
        }
    }

    pub(super) fn fail(self, error: &LogError) {
        self.finish(Err(Refusal::Failed(error.clone())));
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// One ack that is waited for: of a single message or of a batch.
struct Flight {
    messages: Vec<Queued>,
    bytes: usize,
    deadline: Instant,
}

impl Flight {
    /// A batch with an id in it is refused whole when one is a repetition, and then sent again: what is
    /// behind it must not overtake it.
    fn may_come_back(&self) -> bool {
        self.messages.len() > 1 && self.messages.iter().any(|message| message.deduped)
    }
}

#[derive(Deserialize)]
struct AckReply {
    #[serde(default)]
    seq: u64,
    #[serde(default)]
    duplicate: bool,
    error: Option<ApiError>,
}

/// The task of one stream.
pub(super) struct Publisher {
    stream: Arc<Stream>,
    line: mpsc::UnboundedReceiver<Vec<Queued>>,
    waiting: VecDeque<Queued>,
    held: Held,
    /// By token, which counts up: the first one is the oldest.
    flights: BTreeMap<u64, Flight>,
    in_flight: usize,
    in_flight_bytes: usize,
    next_token: u64,
    inbox: String,
    /// Messages at the front of the line that must go one by one.
    singles: usize,
    lost: u64,
}

impl Publisher {
    /// The task of `stream`, which takes its messages from `line`.
    pub fn new(stream: Arc<Stream>, line: mpsc::UnboundedReceiver<Vec<Queued>>) -> Self {
        let inbox = stream.api.client.new_inbox();
        let lost = stream.api.link.borrow().lost;
        Self {
            stream,
            line,
            waiting: VecDeque::new(),
            held: Held::new(),
            flights: BTreeMap::new(),
            in_flight: 0,
            in_flight_bytes: 0,
            next_token: 0,
            inbox,
            singles: 0,
            lost,
        }
    }

    /// Runs until the line is closed and empty.
    pub async fn run(mut self) {
        let mut link = self.stream.api.link.clone();
        let mut acks = match self.stream.api.client.subscribe(format!("{}.*", self.inbox)).await {
            Ok(acks) => acks,
            Err(error) => return self.refuse_all(&error.to_string()).await,
        };
        let mut open = true;
        while open || !self.waiting.is_empty() || !self.held.is_empty() || !self.flights.is_empty() {
            // What is held waits for all acks first; then for the end of the pause.
            let deadline = self.flights.first_key_value().map(|(_, flight)| flight.deadline);
            let deadline = deadline.or_else(|| self.held.again());
            tokio::select! {
                biased;
                changed = link.changed() => {
                    if changed.is_err() {
                        return self.fail_everything("the connection was closed");
                    }
                    let now = *link.borrow_and_update();
                    self.notice_loss(now);
                }
                ack = acks.next(), if !self.flights.is_empty() => match ack {
                    Some(ack) => self.settle_ready(ack, &mut acks),
                    None => return self.fail_everything("the connection was closed"),
                },
                more = self.line.recv(), if open && self.waiting.len() < 2 * WINDOW => match more {
                    Some(more) => self.line_up(more),
                    None => open = false,
                },
                () = sleep_until(deadline), if deadline.is_some() => self.expire(),
            }
            self.send_ready().await;
        }
    }

    /// Takes what else is in line, so that a batch can be as large as it may.
    fn line_up(&mut self, first: Vec<Queued>) {
        self.waiting.extend(first);
        while self.waiting.len() < 2 * WINDOW {
            match self.line.try_recv() {
                Ok(more) => self.waiting.extend(more),
                Err(_) => return,
            }
        }
    }

    async fn send_ready(&mut self) {
        if !self.held.is_empty() && !self.flights.is_empty() {
            return;
        }
        match self.held.release(&mut self.waiting) {
            None => return,
            Some(released) if self.singles > 0 => self.singles += released,
            Some(_) => {}
        }
        if self.waiting.is_empty() {
            return;
        }
        let known = match self.stream.known().await {
            Ok(known) => known,
            Err(error) => return self.postpone(&error),
        };
        let batching = known.replicas == 1 && known.batches;
        while let Some(first) = self.waiting.front() {
            if self.flights.values().any(Flight::may_come_back) {
                return;
            }
            let fits = self.in_flight == 0 || self.in_flight_bytes + first.bytes <= WINDOW_BYTES;
            let total = self.in_flight + self.waiting.len();
            let sent = if !batching || self.singles > 0 || total <= WORTH_A_BATCH {
                if !fits || self.in_flight >= WINDOW {
                    return;
                }
                self.singles = self.singles.saturating_sub(1);
                self.send(1).await
            } else {
                // Behind an ack: what queues up meanwhile makes the next batch.
                if self.flights.len() >= BATCHES || !fits {
                    return;
                }
                let count = self.batch_length();
                self.send(count).await
            };
            if let Err(error) = sent {
                self.fail_everything(&error);
            }
        }
    }

    /// The stream cannot be found out about: what may still wait does, in its place in the line.
    fn postpone(&mut self, error: &LogError) {
        let now = Instant::now();
        let line = std::mem::take(&mut self.waiting);
        for message in line {
            if error.is_transient() && message.may_wait(now) {
                self.waiting.push_back(message);
            } else {
                message.fail(error);
            }
        }
        if !self.waiting.is_empty() {
            self.held.pause();
        }
    }

    fn batch_length(&self) -> usize {
        let mut bytes = 0;
        let within = |message: &&Queued| {
            bytes += message.bytes;
            bytes <= WINDOW_BYTES / 2
        };
        self.waiting.iter().take(BATCH).take_while(within).count().max(1)
    }

    /// Sends the first `count` messages, as an atomic batch when there are several.
    async fn send(&mut self, count: usize) -> Result<(), String> {
        let token = self.next_token;
        self.next_token += 1;
        let mut flight = Flight {
            messages: Vec::with_capacity(count),
            bytes: 0,
            deadline: Instant::now() + self.stream.api.options.request_timeout,
        };
        let mut failed = None;
        for (number, queued) in (1..=count).zip(self.waiting.drain(..count)) {
            flight.bytes += queued.bytes;
            if failed.is_none() {
                failed =
                    transmit(&self.stream, &self.inbox, token, &queued.message, number, count).await.err();
            }
            flight.messages.push(queued);
        }
        self.in_flight += count;
        self.in_flight_bytes += flight.bytes;
        self.flights.insert(token, flight);
        failed.map_or(Ok(()), Err)
    }

    /// Settles this ack and those that are there already, before new messages are sent.
    fn settle_ready(&mut self, first: Message, acks: &mut Subscriber) {
        self.settle(&first);
        while let Some(Some(ack)) = futures::FutureExt::now_or_never(acks.next()) {
            self.settle(&ack);
        }
    }

    fn settle(&mut self, ack: &Message) {
        let token = ack.subject.rsplit('.').next().and_then(|token| token.parse().ok());
        // Acks of flights that were given up are late: their callers were told "unknown".
        let Some((token, flight)) = token.and_then(|token| Some((token, self.land(token)?))) else { return };
        if ack.status == Some(StatusCode::NO_RESPONDERS) {
            return self.hold(token, flight);
        }
        match serde_json::from_slice::<AckReply>(&ack.payload) {
            Ok(AckReply { error: None, seq, duplicate }) if seq > 0 => {
                self.held.stored(token, &flight.messages);
                deliver(flight, seq, duplicate);
            }
            Ok(AckReply { error: Some(error), .. }) => self.refuse(token, flight, &error),
            _ => {
                let error = LogError::Unavailable("the stream gave an unreadable ack".into());
                flight.messages.into_iter().for_each(|message| message.fail(&error));
            }
        }
    }

    /// Nobody took the flight: nothing of it was stored, and it is sent again in a moment.
    fn hold(&mut self, token: u64, flight: Flight) {
        let error = unheard(&self.stream);
        self.held.keep(token, flight.messages, &error);
        if self.held.is_lasting() {
            // It may be gone, and is then made anew.
            self.stream.forget();
        }
    }

    fn refuse(&mut self, token: u64, flight: Flight, error: &ApiError) {
        if flight.messages.len() > 1 && error.code == BATCH_INCOMPLETE {
            return self.hold(token, flight);
        }
        if flight.messages.len() > 1 && error.code == BATCH_HAS_DUPLICATE {
            // Nothing was stored. One by one each message gets its own answer.
            self.singles += flight.messages.len();
            flight.messages.into_iter().rev().for_each(|message| self.waiting.push_front(message));
            return;
        }
        flight.messages.into_iter().for_each(|message| message.finish(Err(refusal(error))));
    }

    fn land(&mut self, token: u64) -> Option<Flight> {
        let flight = self.flights.remove(&token)?;
        self.in_flight -= flight.messages.len();
        self.in_flight_bytes -= flight.bytes;
        Some(flight)
    }

    fn expire(&mut self) {
        let now = Instant::now();
        while let Some((&token, flight)) = self.flights.first_key_value() {
            if flight.deadline > now {
                return;
            }
            let error = LogError::Unavailable(format!(
                "stream {} did not confirm within {:?}; the outcome is unknown",
                self.stream.layout.name, self.stream.api.options.request_timeout
            ));
            if let Some(flight) = self.land(token) {
                let (mut known, unknown): (Vec<_>, Vec<_>) =
                    flight.messages.into_iter().partition(|m| m.deduped);
                unknown.into_iter().for_each(|message| message.fail(&error));
                known.iter_mut().for_each(|message| message.unsure = true);
                self.held.keep(token, known, &error);
            }
        }
    }

    fn notice_loss(&mut self, link: Link) {
        if link.lost != self.lost {
            self.lost = link.lost;
            self.fail_everything("the connection to NATS was lost; the outcome is unknown");
        }
    }

    fn fail_everything(&mut self, reason: &str) {
        let error = LogError::Unavailable(reason.to_owned());
        for (_, flight) in std::mem::take(&mut self.flights) {
            flight.messages.into_iter().for_each(|message| message.fail(&error));
        }
        self.held.fail(&error);
        self.waiting.drain(..).for_each(|message| message.fail(&error));
        (self.in_flight, self.in_flight_bytes, self.singles) = (0, 0, 0);
    }

    async fn refuse_all(mut self, reason: &str) {
        let error = LogError::Unavailable(reason.to_owned());
        while let Some(messages) = self.line.recv().await {
            messages.into_iter().for_each(|message| message.fail(&error));
        }
    }
}

/// Hands out the sequences: those of a batch follow on each other and the ack names the last.
fn deliver(flight: Flight, last: u64, duplicate: bool) {
    let first = last + 1 - (flight.messages.len() as u64).min(last);
    for (sequence, message) in (first..).zip(flight.messages) {
        let unsure = message.unsure;
        message.finish(Ok(Ack { sequence, duplicate, unsure }));
    }
}

fn refusal(error: &ApiError) -> Refusal {
    match error.code {
        ErrorCode::STREAM_DUPLICATE_MESSAGE_CONFLICT => Refusal::InProcess,
        _ => Refusal::Failed(problem(error.code, &error.description)),
    }
}

/// That nobody took a message for this stream.
pub(super) fn unheard(stream: &Stream) -> LogError {
    let name = &stream.layout.name;
    LogError::Unavailable(format!("nobody takes publishes for stream {name}: it is missing or has no leader"))
}

/// Publishes one message past the line. It must not have been stored so far.
pub(super) async fn publish_alone(stream: &Stream, message: Outbound) -> Result<Ack, Refusal> {
    let failed = |error: &dyn std::fmt::Display| Refusal::Failed(LogError::Unavailable(error.to_string()));
    let Outbound { subject, headers, payload } = message;
    let ack =
        stream.api.client.request_with_headers(subject, headers, payload).await.map_err(
            |error| match error.kind() {
                RequestErrorKind::NoResponders => Refusal::Unheard,
                _ => failed(&error),
            },
        )?;
    match serde_json::from_slice::<AckReply>(&ack.payload) {
        Ok(AckReply { error: Some(error), .. }) => Err(refusal(&error)),
        Ok(AckReply { seq, duplicate, .. }) => Ok(Ack { sequence: seq, duplicate, unsure: false }),
        Err(error) => Err(failed(&error)),
    }
}

async fn transmit(
    stream: &Stream,
    inbox: &str,
    token: u64,
    message: &Outbound,
    number: usize,
    count: usize,
) -> Result<(), String> {
    let client = &stream.api.client;
    let mut headers = message.headers.clone();
    if count > 1 {
        headers.insert("Nats-Batch-Id", format!("{}.{token}", &inbox[inbox.len().saturating_sub(22)..]));
        headers.insert("Nats-Batch-Sequence", number.to_string());
    }
    let (subject, payload) = (message.subject.clone(), message.payload.clone());
    let sent = async {
        if number < count {
            return client.publish_with_headers(subject, headers, payload).await;
        }
        if count > 1 {
            headers.insert("Nats-Batch-Commit", "1");
        }
        client.publish_with_reply_and_headers(subject, format!("{inbox}.{token}"), headers, payload).await
    };
    // The client's own queue is short; it only fills while there is no connection.
    match tokio::time::timeout(stream.api.options.request_timeout, sent).await {
        Ok(sent) => sent.map_err(|error| error.to_string()),
        Err(_) => Err("the connection to NATS takes no more".into()),
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => tokio::time::sleep(Duration::MAX).await,
    }
}
