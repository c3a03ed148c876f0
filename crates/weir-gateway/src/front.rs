//! The first look at a connection.
//!
//! WebSockets and event streams over HTTP/1.1 are recognized by their request line before hyper sees them:
//! hyper cannot give a connection away after a 200, and its buffers would outlive a million upgrades. The
//! bytes are only peeked at, so everything else reaches hyper untouched. The runtime's event loop hears only of
//! connections that it must wait for.

use crate::error::Failure;
use crate::extract::request_id;
use crate::scene::{Head, Scene};
use crate::state::{Gateway, Settings};
use crate::{graphql, sse, ws};
use axum::http::request::Parts;
use axum::http::{self, HeaderName, HeaderValue, Method, Uri};
use bytes::{Bytes, BytesMut};
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use weir_core::{Code, RequestId};
use weir_engine::Error;
use weir_hub::Socket;

/// The request lines of live connections, up to where the path ends.
const LIVE: [&[u8]; 8] = [
    b"GET /ws?",
    b"GET /ws ",
    b"GET /v1/ws?",
    b"GET /v1/ws ",
    b"GET /sse?",
    b"GET /sse ",
    b"GET /v1/sse?",
    b"GET /v1/sse ",
];
/// Of RFC 9113, section 3.4.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of the first look: most heads are smaller.
pub(crate) const FIRST_LOOK: usize = 2048;
/// Between two looks at a head that arrives in pieces.
const TRICKLE: Duration = Duration::from_millis(10);

/// Who is to serve a connection.
pub(crate) enum Kind {
    /// hyper.
    Http,
    /// The hub.
    Live,
    /// Nobody: hyper would refuse the head too, but without saying why.
    Refused(Error),
}

/// How long is read on, and how much, so that a refused client gets its answer before the connection is gone.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: u64 = 256 * 1024;

/// A request of a live connection: its head, and what came behind it.
pub(crate) struct Request {
    head: Result<Parts, Error>,
    rest: Bytes,
}

impl Request {
    fn new(head: &[u8], rest: &[u8], settings: &Settings) -> Self {
        // Copied, if there is any: it must not keep the whole buffer alive.
        Self { head: parse_head(head, settings), rest: Bytes::copy_from_slice(rest) }
    }
}

/// Takes the request of a live connection if the whole of it is there already.
pub(crate) fn take_live(socket: &mut Socket, look: &mut [u8], settings: &Settings) -> Option<Request> {
    let seen = socket.peek(look).ok()?;
    let seen = &look[..seen];
    let end = head_end(seen).filter(|_| is_live(seen))?;
    // At least what was seen, for nobody else reads.
    let read = socket.read(look).ok()?;
    Some(Request::new(look.get(..end)?, look.get(end..read)?, settings))
}

/// Waits until something is said on a connection, or it ends.
pub(crate) async fn first_byte(socket: Socket, until: Instant) -> Option<TcpStream> {
    let socket = signed_up(socket).ok()?;
    timeout_at(until, socket.readable()).await.ok()?.ok()?;
    Some(socket)
}

/// The same socket for the runtime to wait on.
fn signed_up(socket: Socket) -> io::Result<TcpStream> {
    TcpStream::from_std(socket.into())
}

/// Looks at the first request's head without taking it. `None` when it was not there in time: hyper starts
/// its own clock only once it knows the version of HTTP, and cannot tell a slow head from an idle connection.
pub(crate) async fn recognize(
    socket: &TcpStream,
    until: Instant,
    live: bool,
    settings: &Settings,
) -> Option<Kind> {
    let look = async {
        let mut start = vec![0; FIRST_LOOK];
        loop {
            let seen = match socket.peek(&mut start).await {
                Ok(0) | Err(_) => return None,
                Ok(seen) => &start[..seen],
            };
            if live && is_live(seen) {
                return Some(Kind::Live);
            }
            // What is whole, too large or no HTTP/1.1 at all is hyper's to serve or to refuse.
            let partial = HTTP2_PREFACE.starts_with(seen) && seen != HTTP2_PREFACE || is_partial(seen);
            if !partial || seen.len() > settings.header_bytes {
                return Some(refusal(seen, settings).map_or(Kind::Http, Kind::Refused));
            }
            if seen.len() == start.len() {
                start.resize(settings.header_bytes + 1, 0);
                continue;
            }
            // Peeking is always ready now, so there is nothing to wait for but time.
            tokio::time::sleep(TRICKLE).await;
        }
    };
    timeout_at(until, look).await.ok().flatten()
}

/// What is wrong with the head of a first request, as far as hyper would answer it with a bare status.
fn refusal(seen: &[u8], settings: &Settings) -> Option<Error> {
    if seen.starts_with(HTTP2_PREFACE) {
        return None;
    }
    let mut headers = vec![httparse::EMPTY_HEADER; settings.headers];
    let mut request = httparse::Request::new(&mut headers);
    let whole = match request.parse(seen) {
        Err(httparse::Error::TooManyHeaders) => return Some(head_too_large(settings)),
        Err(_) => return Some(head_malformed()),
        Ok(status) => status,
    };
    if whole.is_partial() {
        return (seen.len() > settings.header_bytes).then(|| head_too_large(settings));
    }
    let target = request.path.unwrap_or("/");
    target.parse::<Uri>().is_err().then(|| {
        Error::new(
            Code::InvalidRequest,
            "The request target is not a URL: characters like `>`, `<`, `\"` and spaces are written as `%3E`, `%3C`, `%22` and `%20`.",
        )
    })
}

fn head_malformed() -> Error {
    Error::new(Code::InvalidRequest, "The request head is not HTTP/1.1.")
}

fn head_too_large(settings: &Settings) -> Error {
    let (bytes, count) = (settings.header_bytes, settings.headers);
    Error::new(Code::HeadersTooLarge, format!("The request head may have {bytes} bytes and {count} headers."))
}

/// Answers a head that is refused, and reads on for a moment: closing with unread bytes would take the answer back.
pub(crate) async fn refuse(mut socket: TcpStream, error: Error, gateway: &Arc<Gateway>) {
    gateway.metrics.request("unmatched", &Method::GET, error.code.http_status(), Duration::ZERO);
    let answer = Failure::new(error, RequestId::new()).raw();
    let parting = async {
        socket.write_all(&answer).await?;
        socket.shutdown().await?;
        tokio::io::copy(&mut socket.take(LINGER_BYTES), &mut tokio::io::sink()).await
    };
    // Whatever comes of it, the connection ends here.
    let _ = tokio::time::timeout(LINGER, parting).await;
}

/// Whether this begins the request of a live connection.
fn is_live(seen: &[u8]) -> bool {
    LIVE.iter().any(|line| seen.starts_with(line)) || is_graphql(seen)
}

/// Where the blank line after a head ends.
fn head_end(read: &[u8]) -> Option<usize> {
    memchr::memmem::find(read, b"\r\n\r\n").map(|at| at + 4)
}

/// Whether this is the whole head of a request to take up GraphQL's protocol of WebSockets: the path serves others too.
fn is_graphql(seen: &[u8]) -> bool {
    let starts = |lines: &[&[u8]]| lines.iter().any(|line| seen.starts_with(line));
    if !starts(&[b"GET /graphql ", b"GET /graphql?", b"GET /v1/graphql ", b"GET /v1/graphql?"]) {
        return false;
    }
    let mut headers = [httparse::EMPTY_HEADER; 128];
    let mut request = httparse::Request::new(&mut headers);
    let whole = request.parse(seen).is_ok_and(|status| status.is_complete());
    let upgrades = |header: &httparse::Header<'_>| {
        header.name.eq_ignore_ascii_case("upgrade") && header.value.eq_ignore_ascii_case(b"websocket")
    };
    whole && request.headers.iter().any(upgrades)
}

/// Whether these bytes are the beginning of a request head, and not the whole of one.
fn is_partial(seen: &[u8]) -> bool {
    let mut headers = [httparse::EMPTY_HEADER; 128];
    httparse::Request::new(&mut headers).parse(seen).is_ok_and(|status| status.is_partial())
}

/// Serves a WebSocket or an event stream whose request has to be waited for.
pub(crate) async fn live_in_pieces(mut socket: TcpStream, until: Instant, gateway: Arc<Gateway>) {
    let request = read_request(&mut socket, &gateway.settings);
    let Ok(Ok(request)) = timeout_at(until, request).await else { return };
    match socket.into_std() {
        Ok(socket) => live(Socket::from_std(socket), request, gateway).await,
        Err(error) => tracing::error!(%error, "a socket cannot be handed over: {error}"),
    }
}

/// Serves a WebSocket or an event stream: decides, and hands the socket over.
pub(crate) async fn live(socket: Socket, request: Request, gateway: Arc<Gateway>) {
    let begun = Instant::now();
    let gateway = &gateway;
    let Request { head: parsed, rest } = request;
    let id = parsed.as_ref().map_or_else(|_| RequestId::new(), request_id);
    let route = parsed.as_ref().map_or("unmatched", |parts| route(parts));
    let scene = parsed.as_ref().map_or_else(
        |_| Arc::default(),
        |parts| {
            let head = Head {
                method: &parts.method,
                route: Some(route),
                path: parts.uri.path(),
                version: parts.version,
                headers: &parts.headers,
                request: &id,
            };
            Scene::of_request(gateway, &head)
        },
    );
    let answer = async {
        match hand_over(gateway, parsed, socket, rest).await {
            Ok(status) => status,
            Err((socket, error)) => {
                let status = error.code.http_status();
                // Whatever comes of it, the connection ends here.
                let _ = say(socket, &Failure::new(error, id.clone()).raw()).await;
                status
            }
        }
    };
    let status = scene.run(answer).await;
    scene.answered(status);
    gateway.metrics.request(route, &Method::GET, status, begun.elapsed());
}

/// Answers and ends a connection that nothing else has been said on.
async fn say(socket: Socket, answer: &[u8]) -> io::Result<()> {
    let mut socket = signed_up(socket)?;
    socket.write_all(answer).await?;
    socket.shutdown().await
}

fn route(parts: &Parts) -> &'static str {
    match parts.uri.path() {
        path if path.ends_with("/ws") => "/ws",
        path if path.ends_with("/graphql") => "/graphql",
        _ => "/sse",
    }
}

/// Gives the socket to the hub; returns the status that was answered. Gives it back with what is wrong.
async fn hand_over(
    gateway: &Arc<Gateway>,
    parsed: Result<Parts, Error>,
    socket: Socket,
    rest: Bytes,
) -> Result<u16, (Socket, Error)> {
    let parts = match parsed {
        Ok(parts) => parts,
        Err(error) => return Err((socket, error)),
    };
    let accepted = match route(&parts) {
        "/ws" => Some(ws::accept(gateway, &parts).await),
        "/graphql" => Some(graphql::ws::accept(gateway, &parts).await),
        _ => None,
    };
    if let Some(accepted) = accepted {
        match accepted {
            Ok(accepted) => accepted.take_socket(gateway, socket, rest),
            Err(error) => return Err((socket, error)),
        }
        return Ok(101);
    }
    match sse::accept(gateway, &parts).await {
        Ok(accepted) => accepted.take_socket(socket),
        Err(error) => return Err((socket, error)),
    }
    Ok(200)
}

/// Reads up to the blank line.
async fn read_request(socket: &mut TcpStream, settings: &Settings) -> io::Result<Request> {
    let mut read = BytesMut::with_capacity(1024);
    loop {
        if socket.read_buf(&mut read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let end = head_end(&read);
        if end.is_some() || read.len() > settings.header_bytes {
            let (head, rest) = read.split_at(end.unwrap_or(read.len()));
            return Ok(Request::new(head, rest, settings));
        }
    }
}

fn parse_head(head: &[u8], settings: &Settings) -> Result<Parts, Error> {
    let malformed = head_malformed;
    let too_large = || head_too_large(settings);
    if head.len() > settings.header_bytes {
        return Err(too_large());
    }
    let mut headers = vec![httparse::EMPTY_HEADER; settings.headers];
    let mut parsed = httparse::Request::new(&mut headers);
    match parsed.parse(head) {
        Ok(status) if status.is_complete() => {}
        Err(httparse::Error::TooManyHeaders) => return Err(too_large()),
        _ => return Err(malformed()),
    }
    // `>` is part of patterns and may not stand in a URI as it is, but is typed into shells all the same.
    let path = parsed.path.unwrap_or("/").replace('>', "%3E");
    let mut request = http::Request::builder().uri(path).body(()).map_err(|_| malformed())?;
    for header in parsed.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| malformed())?;
        let value = HeaderValue::from_bytes(header.value).map_err(|_| malformed())?;
        request.headers_mut().append(name, value);
    }
    let given =
        request.headers().get("x-request-id").and_then(|value| RequestId::given(value.to_str().ok()?));
    request.extensions_mut().insert(given.unwrap_or_default());
    Ok(request.into_parts().0)
}
