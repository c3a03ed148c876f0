//! One WebSocket connection: authentication, then frames.
//!
//! Publishes and pings are handled as they come. Everything else runs one at a time in the order of its
//! arrival, so a subscribe and the unsubscribe after it never change places.

use super::dispatch::Talker;
use super::frames::{self, ClientFrame, ConnectionLimits, ServerFrame, Voice};
use crate::error::report_at;
use crate::scene::{self, Scene};
use crate::state::Gateway;
use crate::upgrade::Admitted;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;
use weir_core::{Code, ConnectionId, RequestId};
use weir_engine::{Credentials, Error, Farewell, Session, SubscribeError};
use weir_hub::{Closed, Conn, Goodbye, Listener};

/// Bytes of frames of one connection that may be in work: beyond it the socket is not read.
pub(crate) const ALLOWANCE: usize = 256 << 10;
/// The same for all connections of the node together: beyond it each is read one frame at a time.
pub(crate) const NODE_ALLOWANCE: usize = 128 << 20;
/// What a frame counts beside its bytes.
pub(crate) const FRAME_OVERHEAD: usize = 256;

/// How a connection of this protocol ends.
const FAREWELL: Farewell =
    Farewell { protocol: "ws", text: frames::farewell, code: Code::close_code, reachable: frames::reachable };

pub(super) struct Connection {
    gateway: Arc<Gateway>,
    /// Of the upgrade; the id of every error on this connection.
    pub(super) request: RequestId,
    id: ConnectionId,
    conn: OnceLock<Conn>,
    session: OnceLock<Arc<Session>>,
    in_work: AtomicUsize,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    frames: VecDeque<Bytes>,
    /// Those of them that publish.
    publishes: usize,
    /// A task is working on the queue.
    running: bool,
    /// The hub has stopped reading the socket for us.
    paused: bool,
    closed: bool,
    /// What the handshake's credentials turned out to be, until the hub has the socket.
    handshake: Option<Box<Result<Admitted, Error>>>,
}

impl Connection {
    pub(super) fn new(gateway: &Arc<Gateway>, request: RequestId) -> Arc<Self> {
        Arc::new(Self {
            gateway: Arc::clone(gateway),
            request,
            id: ConnectionId::new(),
            conn: OnceLock::new(),
            session: OnceLock::new(),
            in_work: AtomicUsize::new(0),
            queue: Mutex::default(),
        })
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Before the socket goes to the hub: remembers who it is, or gives it a time to say so.
    pub(super) fn begin(self: &Arc<Self>, admitted: Option<Result<Admitted, Error>>) {
        match admitted {
            Some(result) => self.queue().handshake = Some(Box::new(result)),
            None => {
                let connection = Arc::downgrade(self);
                let limit = self.gateway.settings.auth_timeout;
                self.gateway.engine.spawn(async move {
                    tokio::time::sleep(limit).await;
                    let Some(connection) = connection.upgrade() else { return };
                    if connection.session.get().is_none() {
                        connection.end(&Error::new(
                            Code::AuthenticationTimeout,
                            format!("No `connect` frame with a valid token came within {limit:?}."),
                        ));
                    }
                });
            }
        }
    }

    /// Makes the session; returns what to say first on it, unless the connection is gone.
    fn authenticated(&self, (caller, slot): Admitted) -> Result<Option<Vec<u8>>, Error> {
        let session = self.gateway.engine.open_session(&caller, slot, self.id, FAREWELL);
        if self.session.set(Arc::clone(&session)).is_err() {
            session.closed();
            return Err(Error::new(
                Code::InvalidFrame,
                "This connection is authenticated already; use `refresh`.",
            ));
        }
        if self.queue().closed {
            session.closed();
            return Ok(None);
        }
        session.can_refresh();
        if let Some(conn) = self.conn.get() {
            session.opened(*conn);
        }
        let hello = ServerFrame::Connected {
            connection_id: self.id,
            limits: ConnectionLimits::new(&caller.limits, &self.gateway.settings),
            expires_at: caller.expires_at,
        };
        Ok(Some(hello.text()))
    }

    fn send(&self, text: Vec<u8>) {
        if let Some(conn) = self.conn.get() {
            self.gateway.engine.hub().send(*conn, text.into(), false);
        }
    }

    fn report(&self, error: &Error) {
        let scene = Scene::of_connection(self.id, self.session.get().map(|session| &**session));
        report_at(&scene, error, &self.request);
    }

    fn fail(&self, id: Option<&str>, error: &Error) {
        self.report(error);
        self.send(frames::error(id, error, &self.request));
    }

    /// Ends the connection with an `error` frame and the code's close code.
    fn end(&self, error: &Error) {
        self.report(error);
        let text = frames::error(None, error, &self.request);
        if let Some(conn) = self.conn.get() {
            let goodbye = Goodbye {
                text: Some(text.into()),
                code: error.code.close_code(),
                reason: error.code.as_str().to_owned(),
                discard: false,
            };
            self.gateway.engine.hub().close(*conn, goodbye);
        }
    }

    /// Works on one frame; must not wait.
    fn handle(self: Arc<Self>, text: Bytes) {
        let cost = text.len() + FRAME_OVERHEAD;
        match ClientFrame::parse(&text) {
            Err(error) => {
                self.measure("other", Instant::now(), Some(&error));
                self.fail(None, &error);
                self.settle(cost);
            }
            Ok(frame) => match (&*frame.kind, self.session.get()) {
                ("ping", _) => {
                    self.measure("ping", Instant::now(), None);
                    self.send(ServerFrame::Pong { id: frame.id.as_deref() }.text());
                    self.settle(cost);
                }
                // Behind those that wait for something else: publishes are stored in the order of their frames.
                ("publish", Some(session)) if self.queue().publishes == 0 => {
                    self.publish(session, &frame, cost)
                }
                (kind, _) => {
                    let publishes = kind == "publish";
                    self.enqueue(text, publishes);
                }
            },
        }
    }

    fn publish(self: &Arc<Self>, session: &Arc<Session>, frame: &ClientFrame<'_>, cost: usize) {
        let begun = Instant::now();
        let id = frame.id.as_deref().map(str::to_owned);
        let scene = self.scene("ws publish", frame);
        let caller = session.caller();
        let accepted = session
            .take_publish()
            .and_then(|()| crate::extract::take(&caller, 1, None))
            .and_then(|()| frame.event());
        let outcome = match accepted {
            // In line for the log before this returns: events keep the order of their frames.
            Ok(event) => self.gateway.engine.publish_from(scene.origin(), &caller, event),
            Err(error) => {
                self.measure("publish", begun, Some(&error));
                scene.failed(error.code);
                self.fail(id.as_deref(), &error);
                return self.settle(cost);
            }
        };
        let connection = Arc::clone(self);
        self.gateway.engine.spawn(async move {
            let outcome = outcome.await;
            connection.measure("publish", begun, outcome.as_ref().err());
            match outcome {
                Ok(published) => connection.send(frames::published(id.as_deref(), &published)),
                Err(error) => {
                    scene.failed(error.code);
                    connection.fail(id.as_deref(), &error);
                }
            }
            connection.settle(cost);
        });
    }

    fn scene(&self, what: &'static str, frame: &ClientFrame<'_>) -> Arc<Scene> {
        let session = self.session.get().map(|session| &**session);
        Scene::of_message(&self.gateway, what, (self.id, session), frame.context())
    }

    fn enqueue(self: &Arc<Self>, text: Bytes, publishes: bool) {
        let start = {
            let mut queue = self.queue();
            queue.frames.push_back(text);
            queue.publishes += usize::from(publishes);
            !std::mem::replace(&mut queue.running, true)
        };
        if start {
            let connection = Arc::clone(self);
            self.gateway.engine.spawn(async move { connection.work().await });
        }
    }

    async fn work(self: Arc<Self>) {
        loop {
            let next = {
                let mut queue = self.queue();
                let next = queue.frames.pop_front();
                queue.running = next.is_some();
                if next.is_none() {
                    // Most connections send a frame or two in their life; the room for more is given back.
                    queue.frames = VecDeque::new();
                }
                next
            };
            let Some(text) = next else { return };
            self.run(&text).await;
            self.settle(text.len() + FRAME_OVERHEAD);
        }
    }

    async fn run(self: &Arc<Self>, text: &Bytes) {
        let Ok(frame) = ClientFrame::parse(text) else { return };
        let what = match &*frame.kind {
            "connect" => "ws connect",
            "subscribe" => "ws subscribe",
            "unsubscribe" => "ws unsubscribe",
            "refresh" => "ws refresh",
            // It has a scene of its own, and what is no type has none.
            _ => return Box::pin(self.obey(&frame)).await,
        };
        let scene = self.scene(what, &frame);
        scene.run(self.obey(&frame)).await;
    }

    async fn obey(self: &Arc<Self>, frame: &ClientFrame<'_>) {
        let begun = Instant::now();
        let id = frame.id.as_deref();
        let outcome = match (&*frame.kind, self.session.get()) {
            // Boxed, like `refresh`: they are rare, and every frame in work takes as much room as the largest.
            ("connect", _) => return Box::pin(self.connect(frame)).await,
            (_, None) => {
                let message = "Send a `connect` frame with a token first.";
                return self.end(&Error::new(Code::Unauthenticated, message));
            }
            ("subscribe", Some(session)) => self.subscribe(session, frame).await,
            ("unsubscribe", Some(session)) => self.unsubscribe(session, frame).await,
            ("refresh", Some(session)) => Box::pin(self.refresh(session, frame)).await,
            // It came while `connect` was being worked on.
            ("publish", Some(session)) => {
                self.publish(session, frame, 0);
                self.queue().publishes -= 1;
                return;
            }
            (other, _) => {
                let known = "connect, subscribe, unsubscribe, publish, refresh, ping";
                let message = format!("`{}` is not a frame type; use {known}.", crate::query::cut(other));
                Err(Error::new(Code::InvalidFrame, message))
            }
        };
        self.measure(&frame.kind, begun, outcome.as_ref().err());
        if let Err(error) = outcome {
            scene::failed(error.code);
            self.fail(id, &error);
        }
    }

    fn measure(&self, kind: &str, begun: Instant, error: Option<&Error>) {
        self.gateway.metrics.frames.count(kind, begun, error.map(|error| error.code));
    }

    async fn connect(&self, frame: &ClientFrame<'_>) {
        let begun = Instant::now();
        let outcome = async {
            if self.session.get().is_some() {
                let message = "This connection is authenticated already; use `refresh`.";
                return Err(Error::new(Code::InvalidFrame, message));
            }
            let presented = token(frame)?.in_project(frame.project()?);
            let caller = self.gateway.engine.authenticate(presented).await?;
            let slot = self.gateway.engine.reserve(&caller).await?;
            scene::identify(&caller);
            if let Some(hello) = self.authenticated((caller, slot))? {
                self.send(hello);
            }
            Ok(())
        };
        let outcome = outcome.await;
        self.measure("connect", begun, outcome.as_ref().err());
        if let Err(error) = &outcome {
            scene::failed(error.code);
        }
        match outcome {
            Ok(()) => {}
            Err(error) if self.session.get().is_some() => self.fail(frame.id.as_deref(), &error),
            Err(error) => self.end(&error),
        }
    }

    async fn subscribe(&self, session: &Arc<Session>, frame: &ClientFrame<'_>) -> Result<(), Error> {
        let patterns = frame.patterns()?;
        let voice = Voice { id: frame.id.as_deref().map(str::to_owned), topics: patterns.clone() };
        match session.subscribe(patterns, frame.start()?, Arc::new(voice)).await {
            Ok(()) => Ok(()),
            Err(SubscribeError::Refused(error)) => Err(error),
            Err(SubscribeError::Interrupted(error)) => {
                self.end(&error);
                Ok(())
            }
        }
    }

    async fn unsubscribe(&self, session: &Arc<Session>, frame: &ClientFrame<'_>) -> Result<(), Error> {
        let patterns = frame.patterns()?;
        session.unsubscribe(patterns.clone()).await?;
        self.send(ServerFrame::Unsubscribed { id: frame.id.as_deref(), topics: &patterns }.text());
        Ok(())
    }

    async fn refresh(&self, session: &Arc<Session>, frame: &ClientFrame<'_>) -> Result<(), Error> {
        let project = frame.project()?.unwrap_or(session.caller().place.project);
        let presented = token(frame)?.in_project(Some(project));
        let caller = self.gateway.engine.authenticate(presented).await?;
        let expires_at = caller.expires_at;
        let dropped_topics = session.refresh(caller).await?;
        let frame = ServerFrame::Refreshed { id: frame.id.as_deref(), dropped_topics, expires_at };
        self.send(frame.text());
        Ok(())
    }

    /// A frame is done with: its bytes no longer count.
    fn settle(&self, cost: usize) {
        self.gateway.frames_in_work.fetch_sub(cost, Ordering::AcqRel);
        let left = self.in_work.fetch_sub(cost, Ordering::AcqRel).saturating_sub(cost);
        if left > ALLOWANCE / 2 {
            return;
        }
        let resume = std::mem::take(&mut self.queue().paused);
        if resume && let Some(conn) = self.conn.get() {
            self.gateway.engine.hub().resume_reading(*conn);
        }
    }
}

fn token(frame: &ClientFrame<'_>) -> Result<Credentials, Error> {
    let text = frame.token.as_deref().filter(|text| !text.is_empty());
    let missing =
        || Error::new(Code::Unauthenticated, "The frame needs a `token`: an API key or a client token.");
    text.map(Credentials::bearer).ok_or_else(missing)
}

impl Talker for Connection {
    fn hear(self: Arc<Self>, text: Bytes) {
        self.handle(text);
    }
}

impl Listener for Connection {
    fn opened(&self, conn: Conn) -> Option<Bytes> {
        let _ = self.conn.set(conn);
        let handshake = self.queue().handshake.take()?;
        match handshake.and_then(|admitted| self.authenticated(admitted)) {
            Ok(hello) => hello.map(Bytes::from),
            Err(error) => {
                self.end(&error);
                None
            }
        }
    }

    fn text(self: Arc<Self>, text: Bytes) -> bool {
        let cost = text.len() + FRAME_OVERHEAD;
        let in_work = self.in_work.fetch_add(cost, Ordering::AcqRel) + cost;
        let node = self.gateway.frames_in_work.fetch_add(cost, Ordering::AcqRel) + cost;
        let go_on = in_work <= ALLOWANCE && node <= NODE_ALLOWANCE;
        if !go_on {
            self.queue().paused = true;
        }
        let lane = self.conn.get().map_or(0, |conn| usize::from(conn.shard));
        let gateway = Arc::clone(&self.gateway);
        gateway.dispatchers.send(lane, self, text);
        go_on
    }

    fn drained(&self) {
        if let Some(session) = self.session.get() {
            session.drained();
        }
    }

    fn closed(&self, _closed: Closed) {
        {
            let mut queue = self.queue();
            queue.closed = true;
            let dropped = queue.frames.drain(..).map(|text| text.len() + FRAME_OVERHEAD).sum::<usize>();
            self.gateway.frames_in_work.fetch_sub(dropped, Ordering::AcqRel);
        }
        if let Some(session) = self.session.get() {
            session.closed();
        }
    }
}
