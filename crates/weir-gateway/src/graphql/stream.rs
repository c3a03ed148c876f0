//! GraphQL over Server-Sent Events, the "distinct connections mode" of the graphql-sse protocol: one operation per
//! request, its results as `next` events, then `complete`.
//!
//! What an operation is refused for is told on the stream, as the protocol has it; who is refused is told by HTTP. A
//! subscription is a session like any other live connection, written by the hub into one end of a socket pair whose
//! other end hyper copies.

use super::accept::Media;
use super::answer::Answer;
use super::http::{execute, on_behalf_of, refusal};
use super::plan::{Plan, Plans};
use super::request::Params;
use super::shape::Compiled;
use super::viewer::Viewer;
use crate::extract::{read_body, request_id, require_json};
use crate::metrics::requests::SUBSCRIPTION;
use crate::query::Query;
use crate::state::Gateway;
use crate::{credentials, scene, sse};
use async_graphql::Request;
use async_graphql::parser::types::OperationType;
use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::StreamExt;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use weir_core::{Code, ConnectionId, RequestId};
use weir_engine::{Caller, Credentials, Envelope, Error, Farewell, Gap, Session, SubscribeError, Subscribed};
use weir_hub::{Closed, Conn, Dialect, Listener, NewConnection};

/// Runs the operation of a request whose answer is to be an event stream.
pub(super) async fn over_hyper(gateway: Arc<Gateway>, parts: Parts, body: Option<Body>) -> Response {
    let request = request_id(&parts);
    match open(&gateway, &parts, body).await {
        Ok(response) => response,
        Err(error) => refusal(&error, &request, Media::Json),
    }
}

async fn open(gateway: &Arc<Gateway>, parts: &Parts, body: Option<Body>) -> Result<Response, Error> {
    if gateway.is_draining() {
        return Err(Error::new(Code::Draining, "This node is shutting down; connect again."));
    }
    gateway.engine.admit()?;
    let query = Query::parse(parts.uri.query());
    let presented = match credentials::from_headers(&parts.headers)? {
        Some(presented) => presented.in_project(query.parsed("project", credentials::PROJECT)?),
        None => credentials::from_query(&query)?.ok_or_else(credentials::missing)?,
    };
    let caller = gateway.engine.authenticate(presented.clone()).await?;
    scene::identify(&caller);
    let params = match body {
        Some(body) => {
            require_json(&parts.headers)?;
            Params::from_body(&read_body(body, gateway).await?)?
        }
        None => Params::from_url(&query)?,
    };
    let request = request_id(parts);
    match params.prepare(&gateway.settings.graphql) {
        Err(error) => Ok(whole(&Answer::refused(error, &request))),
        Ok((operation, OperationType::Subscription)) => {
            subscribe(gateway, caller, presented, operation, request).await
        }
        Ok((_, OperationType::Mutation)) if parts.method != axum::http::Method::POST => Err(Error::new(
            Code::MethodNotAllowed,
            "A mutation cannot be asked for by GET: send it with POST.",
        )),
        Ok((operation, kind)) => {
            Ok(whole(&execute(Viewer::of_request(gateway, parts).await?, operation, kind).await))
        }
    }
}

fn headers() -> [(HeaderName, HeaderValue); 3] {
    [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ]
}

/// A stream of one result.
fn whole(answer: &Answer) -> Response {
    (headers(), last(answer)).into_response()
}

/// One result.
fn next(answer: &Answer) -> Vec<u8> {
    [b"event: next\ndata: ", &answer.text()[..], b"\n\n"].concat()
}

/// The end. Browsers pass over an event without data.
const COMPLETE: &[u8] = b"event: complete\ndata:\n\n";

/// One result and the end.
fn last(answer: &Answer) -> Vec<u8> {
    [&next(answer)[..], COMPLETE].concat()
}

/// What a stream says that the engine ends: why, where coming back is pointless. Else it just breaks off, so that
/// clients do come back.
fn farewell(reason: &Error) -> Option<Vec<u8>> {
    (!reason.code.retryable()).then(|| last(&Answer::failure(reason, &RequestId::new())))
}

async fn subscribe(
    gateway: &Arc<Gateway>,
    caller: Arc<Caller>,
    presented: Credentials,
    operation: Request,
    request: RequestId,
) -> Result<Response, Error> {
    let farewell = Farewell {
        protocol: "graphql_sse",
        text: farewell,
        code: Code::close_code,
        reachable: sse::reachable,
    };
    let slot = gateway.engine.reserve(&caller).await?;
    let session = gateway.engine.open_session(&caller, slot, ConnectionId::new(), farewell);
    let (ours, theirs) = sse::pair().map_err(|error| {
        session.closed();
        Error::internal(error)
    })?;
    let (opened, begun) = oneshot::channel();
    let stream = Arc::new_cyclic(|me| Stream {
        me: Weak::clone(me),
        gateway: Arc::clone(gateway),
        session,
        request,
        gone: CancellationToken::new(),
        begin: Mutex::new(Some((presented, operation, opened))),
    });
    let (read_ahead, preamble) = (Bytes::new(), Bytes::new());
    let new = NewConnection { socket: ours, dialect: Dialect::Sse, read_ahead, preamble, listener: stream };
    gateway.engine.hub().adopt(new);
    // The head goes out when the subscription stands: who has seen it misses nothing from then on.
    let _ = begun.await;
    Ok((headers(), sse::body(theirs)).into_response())
}

/// Told, or dropped, when the subscription stands or has failed.
type Opened = oneshot::Sender<()>;

struct Stream {
    me: Weak<Self>,
    gateway: Arc<Gateway>,
    session: Arc<Session>,
    request: RequestId,
    gone: CancellationToken,
    /// Taken when the hub has the socket.
    begin: Mutex<Option<(Credentials, Request, Opened)>>,
}

impl Stream {
    async fn run(self: Arc<Self>, presented: Credentials, operation: Request, opened: Opened) {
        let (gateway, session) = (&self.gateway, Arc::clone(&self.session));
        let viewer = match Viewer::over_connection(gateway, self.request.clone(), presented, session) {
            Ok(viewer) => viewer,
            Err(error) => return self.fail(&error),
        };
        let plans = Plans::default();
        let operation = on_behalf_of(viewer, operation).data(plans.clone());
        let mut results = gateway.graphql.execute_stream(operation);
        let mut opened = Some(opened);
        loop {
            let result = tokio::select! {
                () = self.gone.cancelled() => return,
                result = results.next() => result,
            };
            if let Some(plan) = plans.take() {
                return self.deliver(plan, opened.take()).await;
            }
            let Some(result) = result else { break };
            drop(opened.take());
            let answer = Answer::of(result, &self.request);
            if !answer.executed() {
                self.count(answer.problem());
                return self.end(last(&answer));
            }
            self.session.send(next(&answer));
        }
        self.count(None);
        self.end(COMPLETE.to_vec());
    }

    fn count(&self, problem: Option<Code>) {
        self.gateway.metrics.operations.count(SUBSCRIPTION, Instant::now(), problem);
    }

    async fn deliver(self: Arc<Self>, plan: Plan, opened: Option<Opened>) {
        let prefix = format!("event: next\ndata: {{\"data\":{{\"{}\":", plan.name);
        let envelope = Envelope {
            prefix: prefix.clone().into(),
            suffix: Bytes::from_static(SUFFIX.as_bytes()),
            shape: plan.compiled.clone(),
        };
        let opened = Mutex::new(opened);
        let voice = Voice { stream: Arc::downgrade(&self), opened, prefix, plan: plan.compiled };
        let outcome = match self.session.begin_operation(plan.patterns, envelope, Arc::new(voice)) {
            Ok(operation) => self.session.follow(&operation, plan.start).await,
            Err(error) => Err(SubscribeError::Refused(error)),
        };
        match outcome {
            Ok(()) => self.count(None),
            Err(SubscribeError::Refused(error) | SubscribeError::Interrupted(error)) => {
                self.count(Some(error.code));
                self.fail(&error);
            }
        }
    }

    fn fail(&self, error: &Error) {
        self.end(last(&Answer::failure(error, &self.request)));
    }

    /// Says the last of it and closes.
    fn end(&self, text: Vec<u8>) {
        let done = Error::new(Code::InvalidRequest, "The operation is over.");
        self.session.close_saying(&done, Some(text));
    }
}

/// What closes an event around the value of its field.
const SUFFIX: &str = "}}\n\n";

struct Voice {
    stream: Weak<Stream>,
    opened: Mutex<Option<Opened>>,
    prefix: String,
    plan: Arc<Compiled>,
}

impl weir_engine::Voice for Voice {
    fn subscribed(&self, _subscribed: &Subscribed) -> Option<Vec<u8>> {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(opened) = opened {
            let _ = opened.send(());
        }
        None
    }

    fn gap(&self, gap: &Gap) -> Vec<u8> {
        let mut text = self.prefix.clone().into_bytes();
        self.plan.write_gap(&mut text, gap);
        text.extend_from_slice(SUFFIX.as_bytes());
        text
    }

    fn ended(&self, error: &Error) -> Option<Vec<u8>> {
        if let Some(stream) = self.stream.upgrade() {
            stream.fail(error);
        }
        None
    }
}

impl Listener for Stream {
    fn opened(&self, conn: Conn) -> Option<Bytes> {
        self.session.opened(conn);
        let begin = self.begin.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let (Some(stream), Some((presented, operation, opened))) = (self.me.upgrade(), begin) {
            self.gateway.engine.spawn(stream.run(presented, operation, opened));
        }
        None
    }

    fn text(self: Arc<Self>, _text: Bytes) -> bool {
        true // Event streams have no way back; the hub does not call this for them.
    }

    fn drained(&self) {
        self.session.drained();
    }

    fn interrupted(&self) -> Option<Bytes> {
        self.session.interrupted()
    }

    fn closed(&self, _closed: Closed) {
        self.gone.cancel();
        self.session.closed();
    }
}
