//! One connection of `graphql-transport-ws`: initialisation, then operations.
//!
//! Messages are worked on one at a time in the order of their arrival, so that an id is free again when its `complete`
//! has been worked on. What an operation does runs beside them.

use super::intake::Intake;
use super::messages::{Said, Say, halves, read};
use crate::error::report;
use crate::graphql::answer::Answer;
use crate::graphql::http::{execute, on_behalf_of};
use crate::graphql::plan::{Plan, Plans};
use crate::graphql::request::Params;
use crate::graphql::viewer::Viewer;
use crate::metrics::requests::SUBSCRIPTION;
use crate::scene::Scene;
use crate::state::Gateway;
use crate::ws::Talker;
use async_graphql::Request;
use async_graphql::parser::types::OperationType;
use bytes::Bytes;
use futures::StreamExt;
use serde_json::json;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Instant;
use tokio_util::sync::CancellationToken;
use weir_core::{Code, ConnectionId, RequestId};
use weir_engine::{
    Caller, Credentials, Envelope, Error, Farewell, Gap, Operation, Session, SubscribeError, Subscribed,
};
use weir_hub::{Closed, Conn, Goodbye, Listener};

/// Close codes of the protocol that are not codes of ours.
const BAD_REQUEST: u16 = 4400;
const UNAUTHORIZED: u16 = 4401;
const FORBIDDEN: u16 = 4403;
const BAD_SUBPROTOCOL: u16 = 4406;
const INIT_TIMEOUT: u16 = 4408;
const SUBSCRIBER_EXISTS: u16 = 4409;
const TOO_MANY_INITS: u16 = 4429;
/// 4500 is fatal to the protocol's clients; "service restart" (RFC 6455's registry) makes them come back.
const RESTART: u16 = 1012;

/// Credentials, and what they turned out to be.
type Known = (Credentials, Result<Arc<Caller>, Error>);

pub(super) struct Socket {
    gateway: Arc<Gateway>,
    request: RequestId,
    id: ConnectionId,
    conn: OnceLock<Conn>,
    session: OnceLock<(Arc<Session>, Credentials)>,
    intake: Intake,
    /// Operations that run, whether or not the client still wants to hear of them.
    working: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    messages: VecDeque<Bytes>,
    /// A task is working on the messages.
    busy: bool,
    /// `connection_init` came.
    initialised: bool,
    closed: bool,
    /// The subprotocol was offered.
    spoken: bool,
    /// From the handshake, until `connection_init`.
    known: Option<Box<Known>>,
    operations: HashMap<Arc<str>, Running>,
}

/// An operation that the client waits for.
struct Running {
    /// Cancelled when the client no longer does.
    stop: CancellationToken,
    /// Set when the hub has it.
    delivered: Option<Arc<Operation>>,
}

impl Socket {
    pub(super) fn new(
        gateway: &Arc<Gateway>,
        request: RequestId,
        known: Option<Known>,
        spoken: bool,
    ) -> Arc<Self> {
        let state = State { known: known.map(Box::new), spoken, ..State::default() };
        let socket = Arc::new(Self {
            gateway: Arc::clone(gateway),
            request,
            id: ConnectionId::new(),
            conn: OnceLock::new(),
            session: OnceLock::new(),
            intake: Intake::default(),
            working: AtomicUsize::new(0),
            state: Mutex::new(state),
        });
        let (waiting, limit) = (Arc::downgrade(&socket), gateway.settings.auth_timeout);
        gateway.engine.spawn(async move {
            tokio::time::sleep(limit).await;
            let Some(socket) = waiting.upgrade() else { return };
            if socket.session.get().is_none() {
                socket.close(INIT_TIMEOUT, "Connection initialisation timeout");
            }
        });
        socket
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, message: &Say<'_>) {
        if let Some(conn) = self.conn.get() {
            self.gateway.engine.hub().send(*conn, message.text().into(), false);
        }
    }

    fn close(&self, code: u16, reason: &str) {
        if let Some(conn) = self.conn.get() {
            let goodbye = Goodbye { text: None, code, reason: reason.to_owned(), discard: false };
            self.gateway.engine.hub().close(*conn, goodbye);
        }
    }

    async fn work(self: Arc<Self>) {
        loop {
            let next = {
                let mut state = self.state();
                let next = state.messages.pop_front();
                state.busy = next.is_some();
                if next.is_none() {
                    state.messages = VecDeque::new();
                }
                next
            };
            let Some(text) = next else { return };
            self.handle(&text).await;
            self.intake.settle(&self.gateway, self.conn.get(), text.len());
        }
    }

    async fn handle(self: &Arc<Self>, text: &[u8]) {
        match read(text) {
            Err(reason) => self.close(BAD_REQUEST, reason),
            Ok(Said::Pong) => {}
            Ok(Said::Ping(payload)) => self.say(&Say::Pong { payload }),
            Ok(Said::Init(credentials)) => self.initialise(credentials).await,
            Ok(Said::Complete { id }) => self.complete(&id).await,
            Ok(Said::Subscribe { id, payload }) => match self.session.get() {
                Some((session, credentials)) => self.begin(id.into(), payload, session, credentials),
                None => self.close(UNAUTHORIZED, "Unauthorized"),
            },
        }
    }

    /// Makes the session and acknowledges.
    async fn initialise(self: &Arc<Self>, given: Option<Credentials>) {
        let known = {
            let mut state = self.state();
            if std::mem::replace(&mut state.initialised, true) {
                drop(state);
                return self.close(TOO_MANY_INITS, "Too many initialisation requests");
            }
            state.known.take()
        };
        let outcome = async {
            let (credentials, caller) = match (given, known) {
                (Some(given), _) => {
                    let caller = self.gateway.engine.authenticate(given.clone()).await?;
                    (given, caller)
                }
                (None, Some(known)) => (known.0, known.1?),
                (None, None) => return Err(crate::credentials::missing()),
            };
            let slot = self.gateway.engine.reserve(&caller).await?;
            let farewell =
                Farewell { protocol: "graphql_ws", text: farewell, code: close_code, reachable: |_| None };
            let session = self.gateway.engine.open_session(&caller, slot, self.id, farewell);
            let stands = {
                // Under the lock, so that `closed` sees either this session or is seen here.
                let state = self.state();
                !state.closed && self.session.set((Arc::clone(&session), credentials)).is_ok()
            };
            if !stands {
                session.closed();
                return Ok(());
            }
            if let Some(conn) = self.conn.get() {
                session.opened(*conn);
            }
            self.say(&Say::ConnectionAck { payload: json!({ "connection_id": self.id }) });
            Ok(())
        };
        if let Err(error) = outcome.await {
            report(&error, &self.request);
            let code = if error.code.http_status() == 401 { FORBIDDEN } else { close_code(error.code) };
            self.close(code, error.code.as_str());
        }
    }

    fn begin(
        self: &Arc<Self>,
        id: Arc<str>,
        payload: serde_json::Value,
        session: &Arc<Session>,
        who: &Credentials,
    ) {
        let stop = CancellationToken::new();
        let limit = self.gateway.settings.graphql.subscriptions;
        let verdict = {
            let mut state = self.state();
            let full = state.operations.len().max(self.working.load(Ordering::Acquire)) >= limit;
            match state.operations.contains_key(&id) {
                true => Err(None),
                false if full => Err(Some(
                    Error::new(
                        Code::ProjectLimitExceeded,
                        format!("{limit} operations run on this connection; complete one of them first."),
                    )
                    .with(json!({ "limit": limit, "what": "subscriptions" })),
                )),
                false => {
                    let running = Running { stop: stop.clone(), delivered: None };
                    state.operations.insert(Arc::clone(&id), running);
                    Ok(())
                }
            }
        };
        match verdict {
            Ok(()) => {}
            Err(None) => {
                let reason: String =
                    format!("Subscriber for {id} already exists").chars().take(100).collect();
                return self.close(SUBSCRIBER_EXISTS, &reason);
            }
            Err(Some(error)) => return self.refuse(&id, &Answer::failure(&error, &self.request)),
        }
        self.working.fetch_add(1, Ordering::AcqRel);
        let (socket, session, who) = (Arc::clone(self), Arc::clone(session), who.clone());
        self.gateway.engine.spawn(async move {
            if let Err(answer) = socket.run(&id, payload, session, who, &stop).await
                && socket.forget(&id, &stop)
            {
                socket.refuse(&id, &answer);
            }
            socket.working.fetch_sub(1, Ordering::AcqRel);
        });
    }

    fn refuse(&self, id: &str, answer: &Answer) {
        self.say(&Say::Error { id, payload: answer.errors() });
    }

    /// Runs an operation. An error ends it.
    async fn run(
        self: &Arc<Self>,
        id: &Arc<str>,
        payload: serde_json::Value,
        session: Arc<Session>,
        who: Credentials,
        stop: &CancellationToken,
    ) -> Result<(), Answer> {
        let failure = |error: Error| Answer::failure(&error, &self.request);
        let viewer = Viewer::over_connection(&self.gateway, self.request.clone(), who, Arc::clone(&session));
        let viewer = viewer.map_err(failure)?;
        let params = Params::from_value(payload).map_err(failure)?;
        let context = params.context();
        let prepared = params.prepare(&self.gateway.settings.graphql);
        let (operation, kind) = prepared.map_err(|error| Answer::refused(error, &self.request))?;
        let scene = |what| Scene::of_message(&self.gateway, what, (self.id, Some(&*session)), context);
        if kind == OperationType::Subscription {
            let begun = Instant::now();
            let scene = scene("graphql subscription");
            let outcome = self.subscribe(id, viewer, operation, Arc::clone(&session), (stop, scene)).await;
            let problem = outcome.as_ref().err().and_then(Answer::problem);
            self.gateway.metrics.operations.count(SUBSCRIPTION, begun, problem);
            return outcome;
        }
        let what = if kind == OperationType::Mutation { "graphql mutation" } else { "graphql query" };
        let answer = scene(what).run(execute(viewer, operation, kind)).await;
        if !answer.executed() {
            return Err(answer);
        }
        if self.forget(id, stop) {
            self.say(&Say::Next { id, payload: &answer });
            self.say(&Say::Complete { id });
        }
        Ok(())
    }

    async fn subscribe(
        self: &Arc<Self>,
        id: &Arc<str>,
        viewer: Viewer,
        operation: Request,
        session: Arc<Session>,
        (stop, scene): (&CancellationToken, Arc<Scene>),
    ) -> Result<(), Answer> {
        let plans = Plans::default();
        let operation = on_behalf_of(viewer, operation).data(plans.clone());
        let mut results = self.gateway.graphql.execute_stream(operation);
        let mut scene = Some(scene);
        loop {
            let result = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                result = results.next() => result,
            };
            // Until it stands: what comes afterwards may go on for days.
            let scene = scene.take().unwrap_or_default();
            if let Some(plan) = plans.take() {
                return scene.run(self.deliver(id, plan, session, stop)).await;
            }
            let Some(result) = result else { break };
            let answer = Answer::of(result, &self.request);
            if !answer.executed() {
                return Err(answer);
            }
            if !self.is_wanted(id, stop) {
                return Ok(());
            }
            self.say(&Say::Next { id, payload: &answer });
        }
        if self.forget(id, stop) {
            self.say(&Say::Complete { id });
        }
        Ok(())
    }

    /// Gives an event stream to the hub.
    async fn deliver(
        self: &Arc<Self>,
        id: &Arc<str>,
        plan: Plan,
        session: Arc<Session>,
        stop: &CancellationToken,
    ) -> Result<(), Answer> {
        let (prefix, suffix) = halves(id, &plan.name);
        let envelope = Envelope {
            prefix: prefix.clone().into(),
            suffix: Bytes::from_static(suffix.as_bytes()),
            shape: plan.compiled.clone(),
        };
        let voice = Voice {
            socket: Arc::downgrade(self),
            id: Arc::clone(id),
            stop: stop.clone(),
            prefix,
            plan: plan.compiled,
        };
        let operation = session.begin_operation(plan.patterns, envelope, Arc::new(voice));
        let operation = operation.map_err(|error| Answer::failure(&error, &self.request))?;
        let wanted = {
            let mut state = self.state();
            match state.operations.get_mut(id) {
                Some(running) if !stop.is_cancelled() => {
                    running.delivered = Some(Arc::clone(&operation));
                    true
                }
                _ => false,
            }
        };
        if !wanted {
            session.end_operation(&operation).await;
            return Ok(());
        }
        match session.follow(&operation, plan.start).await {
            Ok(()) => Ok(()),
            Err(SubscribeError::Refused(error) | SubscribeError::Interrupted(error)) => {
                Err(Answer::failure(&error, &self.request))
            }
        }
    }

    async fn complete(&self, id: &str) {
        let Some(Running { stop, delivered }) = self.state().operations.remove(id) else { return };
        stop.cancel();
        if let (Some(operation), Some((session, _))) = (delivered, self.session.get()) {
            session.end_operation(&operation).await;
        }
    }

    fn is_wanted(&self, id: &str, stop: &CancellationToken) -> bool {
        !stop.is_cancelled() && self.state().operations.contains_key(id)
    }

    /// The operation is over: true when the client still waited to hear so.
    fn forget(&self, id: &str, stop: &CancellationToken) -> bool {
        let mut state = self.state();
        // Another operation may have the id by now: then this one was completed, and its token cancelled.
        !stop.is_cancelled() && state.operations.remove(id).is_some()
    }
}

/// How an event stream's own words sound on this connection.
struct Voice {
    socket: Weak<Socket>,
    id: Arc<str>,
    stop: CancellationToken,
    prefix: String,
    plan: Arc<crate::graphql::shape::Compiled>,
}

impl weir_engine::Voice for Voice {
    fn subscribed(&self, _subscribed: &Subscribed) -> Option<Vec<u8>> {
        None // The protocol has no answer to a `subscribe`.
    }

    fn gap(&self, gap: &Gap) -> Vec<u8> {
        let mut text = self.prefix.clone().into_bytes();
        self.plan.write_gap(&mut text, gap);
        text.extend_from_slice(b"}}}");
        text
    }

    fn ended(&self, error: &Error) -> Option<Vec<u8>> {
        let socket = self.socket.upgrade()?;
        let wanted = socket.forget(&self.id, &self.stop);
        let answer = Answer::failure(error, &socket.request);
        wanted.then(|| Say::Error { id: &self.id, payload: answer.errors() }.text())
    }
}

/// Only the close code says why: the protocol has no message for it.
fn farewell(_reason: &Error) -> Option<Vec<u8>> {
    None
}

fn close_code(code: Code) -> u16 {
    if code == Code::Draining { RESTART } else { code.close_code() }
}

impl Talker for Socket {
    fn hear(self: Arc<Self>, text: Bytes) {
        let start = {
            let mut state = self.state();
            state.messages.push_back(text);
            !std::mem::replace(&mut state.busy, true)
        };
        if start {
            let socket = Arc::clone(&self);
            self.gateway.engine.spawn(async move { socket.work().await });
        }
    }
}

impl Listener for Socket {
    fn opened(&self, conn: Conn) -> Option<Bytes> {
        let _ = self.conn.set(conn);
        if !self.state().spoken {
            self.close(BAD_SUBPROTOCOL, "Subprotocol not acceptable: use graphql-transport-ws");
        }
        None
    }

    fn text(self: Arc<Self>, text: Bytes) -> bool {
        let lane = self.conn.get().map_or(0, |conn| usize::from(conn.shard));
        let gateway = Arc::clone(&self.gateway);
        let go_on = self.intake.take(&gateway, text.len());
        gateway.dispatchers.send(lane, self, text);
        go_on
    }

    fn drained(&self) {
        if let Some((session, _)) = self.session.get() {
            session.drained();
        }
    }

    fn closed(&self, _closed: Closed) {
        let (dropped, operations) = {
            let mut state = self.state();
            state.closed = true;
            (std::mem::take(&mut state.messages), std::mem::take(&mut state.operations))
        };
        for text in dropped {
            self.intake.settle(&self.gateway, None, text.len());
        }
        for running in operations.into_values() {
            running.stop.cancel();
        }
        if let Some((session, _)) = self.session.get() {
            session.closed();
        }
    }
}
