//! Subscribing: the answer, what was missed, and live, without a hole, a repetition or a reordering at
//! the seam.

use super::{Session, gone, take};
use crate::engine::Engine;
use crate::resume::{self, Gap, GapReason, Start};
use crate::{Caller, Error, encode};
use serde_json::json;
use std::sync::Arc;
use tokio::sync::oneshot;
use weir_core::{Code, Cursor, Pattern, Position};
use weir_hub::{Attach, Attached, Message, NotCovered};
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
    /// Before the voice has answered: the subscription did not happen. [`Interrupted`] afterwards.
    pub async fn subscribe(
        &self,
        patterns: Vec<Pattern>,
        start: Start,
        voice: Arc<dyn Voice>,
    ) -> Result<(), SubscribeError> {
        let mut turn = self.turn.lock().await;
        let caller = self.caller();
        self.check(&caller, &patterns)?;
        if turn.is_none() {
            *turn = Some(self.engine.projects.follow(&caller.place).await?);
        }
        let tail = match &start {
            Start::Live => Some(None),
            Start::After(text) => {
                let position = resume::decode(&self.engine.cursors, &caller.place, text)?.position;
                // Without a check only the log can say whether the position is still true.
                (position.check != 0 || position.sequence == 0).then_some(Some(position))
            }
            _ => None,
        };
        self.engine.access.confirmed().await;
        if let Some(after) = tail
            && self.attach(&caller, &patterns, after, Some(Arc::clone(&voice)), None).await?.is_ok()
        {
            return Ok(());
        }
        let resolved =
            resume::resolve(&*self.engine.log, &self.engine.cursors, &caller.place, &start).await?;
        self.announce(&caller, &resolved, &*voice);
        self.catch_up(&caller, patterns, resolved.after, &*voice).await.map_err(SubscribeError::Interrupted)
    }

    fn check(&self, caller: &Caller, patterns: &[Pattern]) -> Result<(), Error> {
        self.engine.access.require_fresh()?;
        caller.may_subscribe(patterns)?;
        take(&self.subscribe_rate, "subscriptions per second on one connection")?;
        let inner = self.inner();
        let new = patterns.iter().filter(|p| !inner.live.iter().any(|(live, _)| live == *p)).count();
        within_topics(caller, inner.live.len() + new)
    }

    /// Asks the shard to take the connection live; see [`Attach`].
    async fn attach(
        &self,
        caller: &Caller,
        patterns: &[Pattern],
        after: Option<Position>,
        voice: Option<Arc<dyn Voice>>,
        since: Option<u64>,
    ) -> Result<Result<Attached, NotCovered>, Error> {
        let conn = *self
            .conn
            .get()
            .ok_or_else(|| Error::internal("subscribed before the socket was handed over"))?;
        let (project, cursors) = (caller.place.project, self.engine.cursors.clone());
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
            patterns: patterns.to_vec(),
            after,
            preface,
            done: Box::new(move |result| {
                let _ = done.send(result);
            }),
        };
        self.engine.hub.attach(conn, attach);
        let outcome = outcome.await.map_err(|_| gone())?;
        if let Ok(attached) = outcome {
            let since = since.unwrap_or(after.map_or(attached.head.sequence, |after| after.sequence));
            self.now_live(patterns, since);
        }
        Ok(outcome)
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

    fn announce(&self, caller: &Caller, resolved: &resume::Resolved, voice: &dyn Voice) {
        let cursor = Cursor { project: caller.place.project, position: resolved.after };
        let subscribed =
            Subscribed { cursor: self.engine.cursors.encode(&cursor), recovered: resolved.gap.is_none() };
        if let Some(text) = voice.subscribed(&subscribed) {
            self.send(text);
        }
        if let Some(gap) = &resolved.gap {
            self.send(voice.gap(gap));
        }
    }

    /// Reads history up to the head and hands over to the shard, as often as it takes.
    async fn catch_up(
        &self,
        caller: &Caller,
        patterns: Vec<Pattern>,
        mut at: Position,
        voice: &dyn Voice,
    ) -> Result<(), Error> {
        let shared: Arc<[Pattern]> = patterns.clone().into();
        let since = at.sequence;
        at.check = 0; // From here on the position is the log's own word.
        loop {
            self.caller().may_subscribe(&patterns)?;
            let query = ReadQuery {
                after: at.sequence,
                patterns: Arc::clone(&shared),
                max_events: CATCH_UP_EVENTS,
                max_bytes: CATCH_UP_BYTES,
            };
            let page = {
                let _permit = self.engine.replays.acquire(caller).await?;
                self.engine.log.read(&caller.place, query).await
            };
            match page {
                Ok(page) => {
                    at.sequence = page.through;
                    let at_head = page.at_head;
                    self.hand_over(page, at.epoch).await?;
                    if at_head && self.go_live(caller, &patterns, at, since).await? {
                        return Ok(());
                    }
                }
                Err(LogError::OutOfRange { floor }) if floor > at.sequence => {
                    self.send(voice.gap(&Gap {
                        reason: GapReason::Expired,
                        from: at.sequence + 1,
                        to: floor,
                    }));
                    at.sequence = floor;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn go_live(
        &self,
        caller: &Caller,
        patterns: &[Pattern],
        at: Position,
        since: u64,
    ) -> Result<bool, Error> {
        match self.attach(caller, patterns, Some(at), None, Some(since)).await? {
            Ok(_) => Ok(true),
            Err(NotCovered { floor: Some(_) }) => Ok(false),
            Err(NotCovered { floor: None }) => Err(gone()),
        }
    }

    /// Gives a page of history to the hub and waits until the client has taken it: a reader paces its
    /// own replay, and the page is all that is held for it.
    async fn hand_over(&self, page: Page, epoch: u64) -> Result<(), Error> {
        let messages: Vec<Arc<Message>> = {
            let inner = self.inner();
            let repeated = |sequence, topic: &str| {
                inner.live.iter().any(|(pattern, since)| sequence > *since && pattern.matches(topic))
            };
            page.events
                .iter()
                .filter(|event| !repeated(event.sequence, event.topic.as_str()))
                .map(|event| encode::message(event, epoch, &self.engine.cursors))
                .collect()
        };
        if messages.is_empty() {
            return if self.inner().closed { Err(gone()) } else { Ok(()) };
        }
        let conn = *self.conn.get().ok_or_else(gone)?;
        self.engine.access.confirmed().await;
        self.engine.hub.send_messages(conn, messages, true);
        self.drained.notified().await;
        if self.inner().closed { Err(gone()) } else { Ok(()) }
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

fn within_topics(caller: &Caller, wanted: usize) -> Result<(), Error> {
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
