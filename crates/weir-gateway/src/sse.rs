//! `/sse`: Server-Sent Events (WHATWG HTML, section 9.2).
//!
//! The hub writes every event stream. Over HTTP/1.1 it gets the client's socket itself: `front.rs` sees
//! the request line before hyper does and calls [`take_socket`]. Where hyper owns the connection (HTTP/2, or a
//! kept-alive HTTP/1.1 connection) the hub writes into one end of a socket pair and hyper copies from the
//! other, so there is one implementation of what an event stream is.

use crate::credentials;
use crate::error::{Failure, object, report};
use crate::extract::request_id;
use crate::query::Query;
use crate::rest::invalid;
use crate::scene;
use crate::state::Gateway;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures::stream::unfold;
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::AsyncReadExt;
use tokio::sync::oneshot;
use weir_core::{Code, ConnectionId, Pattern, RequestId};
use weir_engine::{Error, Farewell, Gap, Session, Start, SubscribeError, Subscribed};
use weir_hub::{Closed, Conn, Dialect, Listener, NewConnection, Socket};

/// An event stream whose request was in order.
pub(crate) struct Accepted {
    gateway: Arc<Gateway>,
    session: Arc<Session>,
    request: RequestId,
    wish: (Vec<Pattern>, Start),
}

/// Checks everything about a request that can be known before the log is asked.
pub(crate) async fn accept(gateway: &Arc<Gateway>, parts: &Parts) -> Result<Accepted, Error> {
    if gateway.is_draining() {
        return Err(Error::new(Code::Draining, "This node is shutting down; connect again."));
    }
    gateway.engine.admit()?;
    let query = Query::parse(parts.uri.query());
    let presented = match credentials::from_headers(&parts.headers)? {
        Some(presented) => presented.in_project(query.parsed("project", credentials::PROJECT)?),
        None => credentials::from_query(&query)?.ok_or_else(credentials::missing)?,
    };
    let patterns = query.patterns()?;
    if patterns.is_empty() {
        return Err(invalid("topics", "must name at least one topic or pattern"));
    }
    let start = start(parts, &query)?;
    let caller = gateway.engine.authenticate(presented).await?;
    scene::identify(&caller);
    gateway.engine.check_wish(&caller, &patterns, &start)?;
    let slot = gateway.engine.reserve(&caller).await?;
    let session = gateway.engine.open_session(&caller, slot, ConnectionId::new(), FAREWELL);
    Ok(Accepted {
        gateway: Arc::clone(gateway),
        session,
        request: request_id(parts),
        wish: (patterns, start),
    })
}

/// `Last-Event-ID` says how far a reconnecting client is; the URL still says where it once began.
fn start(parts: &Parts, query: &Query) -> Result<Start, Error> {
    let header = parts.headers.get("last-event-id").and_then(|value| value.to_str().ok());
    let last = header.filter(|text| !text.is_empty()).or_else(|| query.last_event_id());
    match last {
        Some(cursor) => Ok(Start::After(cursor.to_owned())),
        None => Ok(query.start()?.unwrap_or(Start::Live)),
    }
}

impl Accepted {
    /// Gives a socket to the hub. The response head, if it is ours to send, goes out together with the start
    /// of the subscription: a client that has seen the head misses nothing that is published from then on.
    fn adopt(self, socket: Socket, head: Vec<u8>, opened: Opened) {
        let stream = EventStream {
            begin: Mutex::new(Some(Begin { wish: self.wish, head, opened })),
            gateway: Arc::clone(&self.gateway),
            session: self.session,
            request: self.request,
        };
        let (read_ahead, preamble) = (Bytes::new(), Bytes::new());
        let listener = Arc::new(stream);
        let new = NewConnection { socket, dialect: Dialect::Sse, read_ahead, preamble, listener };
        self.gateway.engine.hub().adopt(new);
    }

    /// Nothing came of it.
    pub(crate) fn abandon(self) {
        self.session.closed();
    }

    /// Answers a request whose socket is ours.
    pub(crate) fn take_socket(self, socket: Socket) {
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-store\r\nx-accel-buffering: no\r\n\
             access-control-allow-origin: *\r\naccess-control-expose-headers: x-request-id\r\nx-request-id: {}\r\nconnection: close\r\n\r\n",
            self.request
        );
        self.adopt(socket, head.into_bytes(), None);
    }
}

/// `/sse` where hyper keeps the connection.
pub(crate) async fn over_hyper(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let id = request_id(&parts);
    let accepted = match accept(&gateway, &parts).await {
        Ok(accepted) => accepted,
        Err(error) => return Failure::new(error, id).into_response(),
    };
    let (ours, theirs) = match pair() {
        Ok(pair) => pair,
        Err(error) => {
            accepted.abandon();
            return Failure::new(Error::internal(error), id).into_response();
        }
    };
    let (opened, outcome) = oneshot::channel();
    accepted.adopt(ours, Vec::new(), Some(opened));
    match outcome.await {
        Ok(Ok(())) => {
            let headers = [
                (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
                (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
                (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
            ];
            (headers, body(theirs)).into_response()
        }
        Ok(Err(error)) => Failure::new(error, id).into_response(),
        Err(_) => Failure::new(Error::internal("the event stream ended before it began"), id).into_response(),
    }
}

/// Two ends of a TCP connection over loopback.
pub(crate) fn pair() -> io::Result<(Socket, tokio::net::TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let theirs = TcpStream::connect(listener.local_addr()?)?;
    let (ours, from) = listener.accept()?;
    if from != theirs.local_addr()? {
        return Err(io::Error::other("somebody else connected to the pair's listener"));
    }
    theirs.set_nonblocking(true)?;
    Ok((weir_hub::ready(ours)?, tokio::net::TcpStream::from_std(theirs)?))
}

/// What arrives at one end of a pair, as a response's body.
pub(crate) fn body(socket: tokio::net::TcpStream) -> Body {
    Body::from_stream(unfold(socket, |mut socket| async move {
        let mut chunk = bytes::BytesMut::with_capacity(4096);
        match socket.read_buf(&mut chunk).await {
            Ok(0) | Err(_) => None,
            Ok(_) => Some((Ok::<_, io::Error>(chunk.freeze()), socket)),
        }
    }))
}

/// Who waits to hear that a stream has begun.
type Opened = Option<oneshot::Sender<Result<(), Error>>>;

/// What a stream needs at its beginning.
struct Begin {
    wish: (Vec<Pattern>, Start),
    head: Vec<u8>,
    opened: Opened,
}

struct EventStream {
    gateway: Arc<Gateway>,
    session: Arc<Session>,
    request: RequestId,
    /// Taken when the hub has the socket.
    begin: Mutex<Option<Begin>>,
}

/// The words of an event stream, with what goes before the first of them.
struct Voice {
    first: Mutex<Option<(Vec<u8>, Opened)>>,
}

impl Voice {
    fn take_first(&self) -> Option<(Vec<u8>, Opened)> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl weir_engine::Voice for Voice {
    /// The head, a time to come back after, and an event without data: it is not dispatched, but a client
    /// that drops off before the first event resumes from here.
    fn subscribed(&self, subscribed: &Subscribed) -> Option<Vec<u8>> {
        let (mut text, opened) = self.take_first().unwrap_or_default();
        // Spread out, so that the clients of a restarted node do not come back as one herd.
        let retry = rand::random_range(1_000..4_000);
        text.extend_from_slice(format!("retry: {retry}\nid: {}\n\n", subscribed.cursor).as_bytes());
        if let Some(opened) = opened {
            let _ = opened.send(Ok(()));
        }
        Some(text)
    }

    fn gap(&self, gap: &Gap) -> Vec<u8> {
        let data = serde_json::to_string(gap).unwrap_or_default();
        format!("event: gap\ndata: {data}\n\n").into_bytes()
    }
}

/// How a stream ends.
const FAREWELL: Farewell = Farewell { protocol: "sse", text: farewell, code: Code::close_code, reachable };

/// A comment, which no `EventSource` shows: the stream stands, and what comes meanwhile follows.
pub(crate) fn reachable(reachable: bool) -> Option<Vec<u8>> {
    let word = if reachable { "ok" } else { "unavailable" };
    Some(format!(": event_log {word}\n\n").into_bytes())
}

/// The last event of a stream that the engine ends.
fn farewell(reason: &Error) -> Option<Vec<u8>> {
    let retry = reason.retry_after.map(|after| format!("retry: {}\n", after.as_millis())).unwrap_or_default();
    let data = serde_json::json!({ "error": object(reason, &RequestId::new()) });
    Some(format!("{retry}event: error\ndata: {data}\n\n").into_bytes())
}

/// Subscribes; an error that comes before the head is an HTTP answer, a later one an event.
async fn run(session: Arc<Session>, request: RequestId, begin: Begin) {
    let Begin { wish: (patterns, start), head, opened } = begin;
    let voice = Arc::new(Voice { first: Mutex::new(Some((head, opened))) });
    let subscribed =
        session.subscribe(patterns, start, Arc::clone(&voice) as Arc<dyn weir_engine::Voice>).await;
    let Err(SubscribeError::Refused(error) | SubscribeError::Interrupted(error)) = subscribed else { return };
    match voice.take_first() {
        Some((_, Some(opened))) => {
            session.close_saying(&error, None);
            let _ = opened.send(Err(error));
        }
        Some((_, None)) => {
            let answer = Failure::new(error.clone(), request).raw();
            session.close_saying(&error, Some(answer));
        }
        None => {
            report(&error, &request);
            session.close(&error);
        }
    }
}

impl Listener for EventStream {
    fn opened(&self, conn: Conn) -> Option<Bytes> {
        self.session.opened(conn);
        let begin = self.begin.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(begin) = begin {
            self.gateway.engine.spawn(run(Arc::clone(&self.session), self.request.clone(), begin));
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
        self.session.closed();
    }
}
