//! A live connection as the engine sees it: who it is, what it follows, and how it ends. The same for
//! WebSocket and SSE; what is said is worded by the gateway. `subscribe.rs` has the way from history to
//! live.

mod operation;
mod subscribe;

pub use operation::{Envelope, Operation};
pub use subscribe::{SubscribeError, Subscribed, Voice};

use crate::billing::meter::ConnectionTime;
use crate::engine::Engine;
use crate::limits::{ConnectionSlot, Gcra, Rate};
use crate::projects::Use;
use crate::{Caller, Error};
use bytes::Bytes;
use operation::Operations;
use serde_json::json;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::{Mutex as TurnMutex, Notify, oneshot};
use weir_core::{Code, ConnectionId, Pattern};
use weir_hub::{Conn, Goodbye};

/// How a transport words the end of a connection. `DRAINING` comes with the time after which to come back.
#[derive(Clone, Copy, Debug)]
pub struct Farewell {
    /// By which protocol the client speaks: what sessions are counted by.
    pub protocol: &'static str,
    /// The last text, where the transport has one.
    pub text: fn(&Error) -> Option<Vec<u8>>,
    /// The WebSocket close code.
    pub code: fn(Code) -> u16,
    /// How it is told, in between, that the event log cannot be reached (false), or can be again (true).
    pub reachable: fn(bool) -> Option<Vec<u8>>,
}

/// One live, authenticated connection.
pub struct Session {
    /// Its public name.
    pub id: ConnectionId,
    farewell: Farewell,
    engine: Arc<Engine>,
    conn: OnceLock<Conn>,
    inner: Mutex<Inner>,
    /// Subscribing and unsubscribing happen one at a time; holds the project open once there was one.
    turn: TurnMutex<Option<Use>>,
    drained: Notify,
    publish_rate: Gcra,
    subscribe_rate: Gcra,
    operations: OnceLock<Box<Operations>>,
}

struct Inner {
    caller: Arc<Caller>,
    /// Live patterns, each with the sequence after which it has been live.
    live: Vec<(Pattern, u64)>,
    slot: Option<ConnectionSlot>,
    time: Option<ConnectionTime>,
    /// Asked to close before the hub owned the socket.
    doomed: Option<Box<Goodbye>>,
    /// Told to end, with nothing more to be done for it.
    ending: bool,
    closed: bool,
    can_refresh: bool,
}

impl Inner {
    /// Live patterns that the caller may not subscribe to (any more).
    fn lost(&self) -> Vec<Pattern> {
        let lost = |pattern: &Pattern| self.caller.may_subscribe(std::slice::from_ref(pattern)).is_err();
        self.live.iter().map(|(pattern, _)| pattern.clone()).filter(lost).collect()
    }
}

impl Session {
    /// By which protocol its client speaks.
    pub(crate) const fn protocol(&self) -> &'static str {
        self.farewell.protocol
    }

    pub(crate) fn new(
        engine: Arc<Engine>,
        caller: Arc<Caller>,
        slot: ConnectionSlot,
        id: ConnectionId,
        farewell: Farewell,
    ) -> Self {
        let time = engine.metering.connected(caller.place.tenant, caller.place.project);
        Self {
            id,
            farewell,
            engine,
            conn: OnceLock::new(),
            publish_rate: Gcra::new(Rate { per_second: caller.limits.publish_per_second }),
            subscribe_rate: Gcra::new(Rate { per_second: caller.limits.subscribe_per_second }),
            inner: Mutex::new(Inner {
                caller,
                live: Vec::new(),
                slot: Some(slot),
                time: Some(time),
                doomed: None,
                ending: false,
                closed: false,
                can_refresh: false,
            }),
            turn: TurnMutex::new(None),
            drained: Notify::new(),
            operations: OnceLock::new(),
        }
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        // Plain data behind the lock: a panic elsewhere cannot have left it half changed.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who this is, as of the last authentication or refresh.
    #[must_use]
    pub fn caller(&self) -> Arc<Caller> {
        Arc::clone(&self.inner().caller)
    }

    /// Whether it was told to end; its socket may take a while to follow.
    pub(crate) fn is_ending(&self) -> bool {
        let inner = self.inner();
        inner.ending || inner.closed
    }

    /// What it is subscribed to, operations included.
    pub(crate) fn topics(&self) -> Vec<Pattern> {
        let mut topics: Vec<Pattern> = self.inner().live.iter().map(|(pattern, _)| pattern.clone()).collect();
        topics.extend(self.operations.get().into_iter().flat_map(|operations| operations.patterns()));
        topics
    }

    /// The hub owns the socket from now on under this name.
    pub fn opened(&self, conn: Conn) {
        let doomed = {
            let mut inner = self.inner();
            let _ = self.conn.set(conn);
            inner.doomed.take()
        };
        if let Some(goodbye) = doomed {
            self.engine.hub.close(conn, *goodbye);
        }
    }

    /// The hub wrote everything it had been given.
    pub fn drained(&self) {
        self.drained.notify_one();
    }

    /// The socket is gone: gives everything back.
    pub fn closed(&self) {
        let again = {
            let mut inner = self.inner();
            inner.slot = None;
            inner.time = None;
            std::mem::replace(&mut inner.closed, true)
        };
        if !again {
            self.engine.system.disconnected(&self.caller(), self.id);
        }
        self.forget_operations();
        self.engine.sessions.remove(self);
        self.drained.notify_one();
    }

    /// Whether it is gone or on its way.
    pub(crate) fn is_closed(&self) -> bool {
        let inner = self.inner();
        inner.closed || inner.ending
    }

    /// Takes one unit of the connection's publish rate.
    ///
    /// # Errors
    /// `RATE_LIMIT_EXCEEDED`.
    pub fn take_publish(&self) -> Result<(), Error> {
        // Frames that were read before the end: whoever lost access publishes nothing more.
        if self.inner().ending {
            return Err(gone());
        }
        take(&self.publish_rate, "publishes per second on one connection")
    }

    /// Sends a text outside any subscription.
    pub fn send(&self, text: impl Into<Bytes>) {
        if let Some(conn) = self.conn.get() {
            self.engine.hub.send(*conn, text.into(), false);
        }
    }

    /// Lets a connection that had too much waiting be read again.
    pub fn resume_reading(&self) {
        if let Some(conn) = self.conn.get() {
            self.engine.hub.resume_reading(*conn);
        }
    }

    /// Ends the connection, saying why in its own words. Revoked access discards what is still queued. False when it
    /// was ending already.
    pub fn close(&self, error: &Error) -> bool {
        self.close_saying(error, (self.farewell.text)(error))
    }

    /// The client can send new credentials on this connection: it is asked for them before the old ones end.
    pub fn can_refresh(&self) {
        self.inner().can_refresh = true;
    }

    /// The token has expired; the connection goes on for `left`.
    pub(crate) fn ask_for_refresh(&self, left: Duration) {
        if !self.inner().can_refresh {
            return;
        }
        let left = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        let message = "The token has expired: send `refresh` with a new one, or the connection ends.";
        self.announce_end(
            &Error::new(Code::ExpiredToken, message).with(json!({ "refresh_within_ms": left })),
        );
    }

    /// Says that the connection will end, and why, without ending it.
    pub(crate) fn announce_end(&self, error: &Error) {
        if let Some(text) = (self.farewell.text)(error) {
            self.send(text);
        }
    }

    /// What is said before the end when the log stops feeding the project.
    #[must_use]
    pub fn interrupted(&self) -> Option<Bytes> {
        let message = "The event log was interrupted: connect again and resume with the last cursor.";
        let error = Error::new(Code::EventLogUnavailable, message)
            .after(Duration::from_millis(rand::random_range(500..2_000)));
        (self.farewell.text)(&error).map(Bytes::from)
    }

    /// Says whether the event log can be reached; the connection goes on.
    pub(crate) fn announce_reachable(&self, reachable: bool) {
        if let Some(text) = (self.farewell.reachable)(reachable) {
            self.send(text);
        }
    }

    /// Ends the connection with other last words. False when it was ending already.
    pub fn close_saying(&self, error: &Error, text: Option<Vec<u8>>) -> bool {
        let discard = matches!(
            error.code,
            Code::TenantSuspended
                | Code::InvalidApiKey
                | Code::ExpiredApiKey
                | Code::InvalidToken
                | Code::InsufficientScope
        );
        let goodbye = Goodbye {
            text: text.map(Bytes::from),
            code: (self.farewell.code)(error.code),
            reason: error.code.as_str().to_owned(),
            discard,
        };
        let mut inner = self.inner();
        match self.conn.get() {
            Some(conn) => self.engine.hub.close(*conn, goodbye),
            None => inner.doomed = Some(Box::new(goodbye)),
        }
        !std::mem::replace(&mut inner.ending, true) && !inner.closed
    }

    /// Stops following these patterns; unknown ones are ignored.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn unsubscribe(&self, patterns: Vec<Pattern>) -> Result<(), Error> {
        let _turn = self.turn.lock().await;
        take(&self.subscribe_rate, "subscriptions per second on one connection")?;
        self.drop_patterns(patterns).await
    }

    async fn drop_patterns(&self, patterns: Vec<Pattern>) -> Result<(), Error> {
        let conn = *self.conn.get().ok_or_else(gone)?;
        let (done, finished) = oneshot::channel();
        let done = Box::new(move || {
            let _ = done.send(());
        });
        self.engine.hub.detach(conn, patterns.clone(), done);
        finished.await.map_err(|_| gone())?;
        self.inner().live.retain(|(live, _)| !patterns.contains(live));
        Ok(())
    }

    /// Puts new credentials in the place of the old ones. Subscriptions that the new ones do not allow
    /// end; the number of them is returned.
    ///
    /// # Errors
    /// `INVALID_TOKEN` when they belong to another project; `RATE_LIMIT_EXCEEDED`.
    pub async fn refresh(self: &Arc<Self>, caller: Arc<Caller>) -> Result<usize, Error> {
        if caller.place.project != self.caller().place.project {
            return Err(Error::new(
                Code::InvalidToken,
                "The new token belongs to another project; open a new connection for it.",
            ));
        }
        take(&self.subscribe_rate, "subscriptions and refreshes per second on one connection")?;
        self.install(&mut self.inner(), caller);
        self.engine.recheck(self).await;
        self.drop_lost().await
    }

    /// The same credentials, as they stand now. Nothing happens if others were installed meanwhile.
    /// Lost subscriptions have ended for the hub when this returns.
    pub(crate) fn reauthorize(self: &Arc<Self>, based_on: &Arc<Caller>, caller: Arc<Caller>) {
        let same = caller.grant == based_on.grant;
        {
            let mut inner = self.inner();
            if !Arc::ptr_eq(&inner.caller, based_on) {
                return;
            }
            self.install(&mut inner, caller);
            if same {
                return;
            }
            let lost = inner.lost();
            if let Some(conn) = self.conn.get().filter(|_| !lost.is_empty()) {
                self.engine.hub.detach(*conn, lost.clone(), Box::new(|| {}));
                inner.live.retain(|(live, _)| !lost.contains(live));
            }
        }
        // What is just being subscribed, in a task of its own: others must not wait for its replay.
        let session = Arc::clone(self);
        self.engine.spawn(async move {
            if let Err(error) = session.drop_lost().await {
                session.close(&error);
            }
        });
    }

    /// At once, so that a replay that is under way is held to it with its next page.
    fn install(&self, inner: &mut Inner, caller: Arc<Caller>) {
        if !inner.closed {
            self.engine.sessions.expect_end(self.id, &inner.caller, &caller);
            self.publish_rate.set_rate(Rate { per_second: caller.limits.publish_per_second });
            self.subscribe_rate.set_rate(Rate { per_second: caller.limits.subscribe_per_second });
            inner.caller = caller;
        }
    }

    async fn drop_lost(&self) -> Result<usize, Error> {
        let _turn = self.turn.lock().await;
        let lost = self.inner().lost();
        if !lost.is_empty() {
            self.drop_patterns(lost.clone()).await?;
        }
        Ok(lost.len() + self.end_lost(&self.caller()).await)
    }
}

fn gone() -> Error {
    Error::new(
        Code::EventLogUnavailable,
        "The connection or its feed ended; connect again and resume with the last cursor.",
    )
}

fn take(rate: &Gcra, what: &str) -> Result<(), Error> {
    match rate.take(1) {
        Some(decision) if !decision.allowed => {
            Err(Error::new(Code::RateLimitExceeded, format!("More than {} {what}.", decision.limit))
                .with(json!({ "limit": decision.limit, "what": what }))
                .after(decision.retry_after))
        }
        _ => Ok(()),
    }
}
