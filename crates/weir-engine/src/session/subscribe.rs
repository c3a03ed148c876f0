//! Subscribing: the answer, what was missed, and live, without a hole, a repetition or a reordering at
//! the seam.

use super::{Operation, Session, gone, take};
use crate::engine::Engine;
use crate::projects::Use;
use crate::resume::{self, Gap, GapReason, Start};
use crate::{Caller, Error, encode};
use serde_json::json;
use std::sync::Arc;
use tokio::sync::oneshot;
use weir_core::{Code, Cursor, Pattern, Position};
use weir_hub::{Attach, Attached, Conn, Hub, Message, NotCovered};
use weir_log::{LogError, Page, ReadQuery};

/// Events and bytes of one read while catching up: small enough to be interleaved fairly.
const CATCH_UP_EVENTS: usize = 1_000;
const CATCH_UP_BYTES: usize = 512 << 10;

/// A subscription that has been accepted.
#[derive(Clone, Debug)]
pub struct Subscribed {
    /// Where it starts: resuming with this loses nothing of it.
    pub cursor: String,
    /// Whether everything since the wished start will come; else a gap says what will not.
    pub recovered: bool,
}

/// How a transport words what the engine has to say before and between events.
pub trait Voice: Send + Sync + 'static {
    /// The answer to a subscription; `None` where the transport has none.
    fn subscribed(&self, subscribed: &Subscribed) -> Option<Vec<u8>>;
    /// A declared loss.
    fn gap(&self, gap: &Gap) -> Vec<u8>;
    /// The end of an operation that the engine ends, because its permission was lost: nothing of it is sent
    /// after this. The default says nothing, for transports without operations.
    fn ended(&self, error: &Error) -> Option<Vec<u8>> {
        let _ = error;
        None
    }
}

/// Why a subscription did not come about.
#[derive(Debug)]
pub enum SubscribeError {
    /// It was refused or failed before it began.
    Refused(Error),
    /// It failed after it was announced: only closing the connection, so that the client resumes from
    /// what it has, keeps the promise that nothing is lost silently.
    Interrupted(Error),
}

impl From<Error> for SubscribeError {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl From<LogError> for SubscribeError {
    fn from(error: LogError) -> Self {
        Self::Refused(error.into())
    }
}

impl Session {
    /// Subscribes: answers through the voice, replays what was missed, and goes live without a hole, a
    /// repetition or a reordering at the seam. Returns when live.
    ///
    /// # Errors
    /// Before the voice has answered: the subscription did not happen. `Interrupted` afterwards.
    pub async fn subscribe(
        &self,
        patterns: Vec<Pattern>,
        start: Start,
        voice: Arc<dyn Voice>,
    ) -> Result<(), SubscribeError> {
        let mut turn = self.turn.lock().await;
        if turn.is_none() && self.engine.access.changed_lately(self.caller().place.tenant) {
            // What was enforced just before the session was made must hold before it is delivered anything.
            self.engine.hold_to_access(self).await?;
        }
        let caller = self.caller();
        self.check(&caller, &patterns)?;
        self.keep_open(&mut turn, &caller).await?;
        Journey { session: self, caller, patterns: patterns.into(), voice, operation: None }.run(start).await
    }

    fn check(&self, caller: &Caller, patterns: &[Pattern]) -> Result<(), Error> {
        self.engine.access.require_fresh()?;
        caller.may_subscribe(patterns)?;
        take(&self.subscribe_rate, "subscriptions per second on one connection")?;
        let inner = self.inner();
        let new = patterns.iter().filter(|p| !inner.live.iter().any(|(live, _)| live == *p)).count();
        within_topics(caller, inner.live.len() + new)
    }

    /// From the first subscription on the project stays open as long as the session.
    pub(super) async fn keep_open(&self, turn: &mut Option<Use>, caller: &Caller) -> Result<(), Error> {
        if turn.is_none() {
            *turn = Some(self.engine.projects.follow(&caller.place).await?);
        }
        Ok(())
    }

    fn now_live(&self, patterns: &[Pattern], since: u64) {
        let mut inner = self.inner();
        inner.live.reserve_exact(patterns.len());
        for pattern in patterns {
            match inner.live.iter_mut().find(|(live, _)| live == pattern) {
                Some((_, known)) => *known = since.min(*known),
                None => inner.live.push((pattern.clone(), since)),
            }
        }
    }
}

/// A subscription on its way from its start to live. The project is open.
pub(super) struct Journey<'a> {
    pub(super) session: &'a Session,
    pub(super) caller: Arc<Caller>,
    pub(super) patterns: Arc<[Pattern]>,
    pub(super) voice: Arc<dyn Voice>,
    /// `None`: the session itself subscribes.
    pub(super) operation: Option<&'a Operation>,
}

impl Journey<'_> {
    /// Returns when live.
    pub(super) async fn run(&self, start: Start) -> Result<(), SubscribeError> {
        let engine = &self.session.engine;
        let tail = match &start {
            Start::Live => Some(None),
            Start::After(text) => {
                let position = resume::decode(&engine.cursors, &self.caller.place, text)?.position;
                // Without a check only the log can say whether the position is still true.
                (position.check != 0 || position.sequence == 0).then_some(Some(position))
            }
            _ => None,
        };
        engine.access.confirmed().await;
        if let Some(after) = tail
            && self.attach(after, Some(Arc::clone(&self.voice)), None).await?.is_ok()
        {
            return Ok(());
        }
        let resolved = resume::resolve(&*engine.log, &engine.cursors, &self.caller.place, &start).await?;
        self.announce(&resolved)?;
        self.catch_up(resolved.after).await.map_err(SubscribeError::Interrupted)
    }

    /// Asks the hub for something, unless the operation has ended.
    fn ask(&self, ask: impl FnOnce(&Hub, Conn)) -> Result<(), Error> {
        let conn = *self
            .session
            .conn
            .get()
            .ok_or_else(|| Error::internal("subscribed before the socket was handed over"))?;
        let has_ended = self.operation.map(Operation::has_ended);
        if has_ended.as_deref() == Some(&true) {
            return Err(gone());
        }
        ask(&self.session.engine.hub, conn);
        Ok(())
    }

    fn say(&self, text: Vec<u8>) -> Result<(), Error> {
        self.ask(|hub, conn| hub.send(conn, text.into(), false))
    }

    /// Asks the shard to take the connection live; see [`Attach`].
    async fn attach(
        &self,
        after: Option<Position>,
        voice: Option<Arc<dyn Voice>>,
        since: Option<u64>,
    ) -> Result<Result<Attached, NotCovered>, Error> {
        let (project, cursors) = (self.caller.place.project, self.session.engine.cursors.clone());
        let preface = voice.map(|voice| {
            let say = move |position| {
                let cursor = cursors.encode(&Cursor { project, position });
                voice.subscribed(&Subscribed { cursor, recovered: true }).unwrap_or_default()
            };
            Box::new(say) as Box<dyn FnOnce(Position) -> Vec<u8> + Send>
        });
        let (done, outcome) = oneshot::channel();
        let attach = Attach {
            project,
            patterns: self.patterns.to_vec(),
            operation: self.operation.map(|operation| Arc::clone(&operation.wire)),
            after,
            preface,
            done: Box::new(move |result| {
                let _ = done.send(result);
            }),
        };
        self.ask(|hub, conn| hub.attach(conn, attach))?;
        let outcome = outcome.await.map_err(|_| gone())?;
        if let Ok(attached) = outcome
            && self.operation.is_none()
        {
            let since = since.unwrap_or(after.map_or(attached.head.sequence, |after| after.sequence));
            self.session.now_live(&self.patterns, since);
        }
        Ok(outcome)
    }

    fn announce(&self, resolved: &resume::Resolved) -> Result<(), Error> {
        let cursor = Cursor { project: self.caller.place.project, position: resolved.after };
        let cursor = self.session.engine.cursors.encode(&cursor);
        let subscribed = Subscribed { cursor, recovered: resolved.gap.is_none() };
        if let Some(text) = self.voice.subscribed(&subscribed) {
            self.say(text)?;
        }
        resolved.gap.iter().try_for_each(|gap| self.say(self.voice.gap(gap)))
    }

    /// Reads history up to the head and hands over to the shard, as often as it takes.
    async fn catch_up(&self, mut at: Position) -> Result<(), Error> {
        let engine = &self.session.engine;
        let since = at.sequence;
        at.check = 0; // From here on the position is the log's own word.
        loop {
            self.session.caller().may_subscribe(&self.patterns)?;
            let query = ReadQuery {
                after: at.sequence,
                patterns: Arc::clone(&self.patterns),
                max_events: CATCH_UP_EVENTS,
                max_bytes: CATCH_UP_BYTES,
            };
            let page = {
                let _permit = engine.replays.acquire(&self.caller).await?;
                engine.log.read(&self.caller.place, query).await
            };
            match page {
                Ok(page) => {
                    at.sequence = page.through;
                    let at_head = page.at_head;
                    self.hand_over(page, at.epoch).await?;
                    if at_head && self.go_live(at, since).await? {
                        return Ok(());
                    }
                }
                Err(LogError::OutOfRange { floor }) if floor > at.sequence => {
                    let (from, to) = (at.sequence + 1, floor);
                    self.say(self.voice.gap(&Gap { reason: GapReason::Expired, from, to }))?;
                    at.sequence = floor;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn go_live(&self, at: Position, since: u64) -> Result<bool, Error> {
        match self.attach(Some(at), None, Some(since)).await? {
            Ok(_) => Ok(true),
            Err(NotCovered { floor: Some(_) }) => Ok(false),
            Err(NotCovered { floor: None }) => Err(gone()),
        }
    }

    /// Gives a page of history to the hub and waits until the client has taken it: a reader paces its
    /// own replay, and the page is all that is held for it.
    async fn hand_over(&self, page: Page, epoch: u64) -> Result<(), Error> {
        let session = self.session;
        let _page = match session.operations.get().filter(|_| self.operation.is_some()) {
            Some(operations) => Some(operations.page.lock().await),
            None => None,
        };
        let messages = self.unsent(&page, epoch)?;
        if messages.is_empty() {
            return Ok(());
        }
        session.engine.access.confirmed().await;
        self.ask(|hub, conn| match self.operation {
            None => hub.send_messages(conn, messages, true),
            Some(operation) => hub.send_to_operation(conn, Arc::clone(&operation.wire), messages, true),
        })?;
        session.drained.notified().await;
        if session.inner().closed { Err(gone()) } else { Ok(()) }
    }

    /// The events of a page that were not sent before. Operations do not share what was sent.
    fn unsent(&self, page: &Page, epoch: u64) -> Result<Vec<Arc<Message>>, Error> {
        let inner = self.session.inner();
        if inner.closed {
            return Err(gone());
        }
        let repeated = |sequence, topic: &str| {
            self.operation.is_none()
                && inner.live.iter().any(|(pattern, since)| sequence > *since && pattern.matches(topic))
        };
        let new = page.events.iter().filter(|event| !repeated(event.sequence, event.topic.as_str()));
        Ok(new.map(|event| encode::message(event, epoch, &self.session.engine.cursors)).collect())
    }
}

impl Engine {
    /// Checks what can be said about a subscription before there is a connection to say it on.
    ///
    /// # Errors
    /// `INSUFFICIENT_SCOPE`, `PROJECT_LIMIT_EXCEEDED`, `INVALID_CURSOR`.
    pub fn check_wish(&self, caller: &Caller, patterns: &[Pattern], start: &Start) -> Result<(), Error> {
        caller.may_subscribe(patterns)?;
        within_topics(caller, patterns.len())?;
        if let Start::After(text) = start {
            resume::decode(&self.cursors, &caller.place, text)?;
        }
        Ok(())
    }
}

pub(super) fn within_topics(caller: &Caller, wanted: usize) -> Result<(), Error> {
    let limit = caller.limits.topics_per_connection as usize;
    if wanted <= limit {
        return Ok(());
    }
    Err(Error::new(
        Code::ProjectLimitExceeded,
        format!("This connection would follow {wanted} topics; the limit is {limit}. Use a wildcard or another connection."),
    )
    .with(json!({ "limit": limit, "used": wanted, "what": "topics_per_connection" })))
}
