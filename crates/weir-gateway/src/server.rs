//! The listener: accepts, looks at the first bytes, and gives each connection to whoever serves it.
//!
//! An event stream over HTTP/1.1 is recognized by its request line before hyper sees it, because hyper
//! cannot give a connection away after a 200. The bytes are only peeked at, so everything else reaches
//! hyper untouched.

use crate::error::Failure;
use crate::sse;
use crate::state::{Gateway, Settings};
use axum::Router;
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Request};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weir_core::{Code, RequestId};
use weir_engine::Error;

/// The request lines of an event stream, up to where the path ends.
const EVENT_STREAMS: [&[u8]; 4] = [b"GET /sse?", b"GET /sse ", b"GET /v1/sse?", b"GET /v1/sse "];
/// Of RFC 9113, section 3.4.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Between two looks at a request line that arrives in pieces.
const TRICKLE: Duration = Duration::from_millis(10);

/// Connections that are being served.
#[derive(Clone, Default)]
pub struct Server {
    connections: TaskTracker,
    stop: CancellationToken,
}

impl Server {
    /// Stops accepting and lets every request that has begun finish; returns when all have, or after
    /// `within`.
    pub async fn stop(&self, within: Duration) {
        self.stop.cancel();
        self.connections.close();
        if tokio::time::timeout(within, self.connections.wait()).await.is_err() {
            tracing::warn!("{} connections did not finish in {within:?} and are cut", self.connections.len());
        }
    }
}

/// Serves a router on a listener until the server is stopped. `gateway` is given where event streams
/// live, that is, not on the operator's listener.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    gateway: Arc<Gateway>,
    streams: bool,
    server: Server,
) {
    let http = Arc::new(builder(&gateway));
    loop {
        let accepted = tokio::select! {
            () = server.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let socket = match accepted {
            Ok((socket, _)) => socket,
            Err(error) => {
                // Out of files, most often: going round at once would only spin.
                tracing::warn!(%error, "a connection could not be accepted: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (http, router, gateway) = (Arc::clone(&http), router.clone(), Arc::clone(&gateway));
        let stop = server.stop.clone();
        server.connections.spawn(async move {
            let _ = socket.set_nodelay(true);
            let kind = tokio::select! {
                () = stop.cancelled() => return,
                kind = recognize(&socket, streams, gateway.settings.header_timeout) => kind,
            };
            match kind {
                Some(Kind::EventStream) => event_stream(socket, &gateway).await,
                Some(Kind::Http) => serve_http(&http, socket, router, stop).await,
                None => {}
            }
        });
    }
}

fn builder(gateway: &Gateway) -> Builder<TokioExecutor> {
    let settings = &gateway.settings;
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        // Without a timer hyper ignores the time-out and says nothing.
        .timer(TokioTimer::new())
        .header_read_timeout(settings.header_timeout)
        .max_headers(settings.headers)
        .max_buf_size(settings.header_bytes.max(8192));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(settings.header_bytes).unwrap_or(u32::MAX))
        .max_concurrent_streams(256)
        .keep_alive_interval(Duration::from_secs(30));
    builder
}

async fn serve_http(
    http: &Builder<TokioExecutor>,
    socket: TcpStream,
    router: Router,
    stop: CancellationToken,
) {
    let connection =
        http.serve_connection_with_upgrades(TokioIo::new(socket), TowerToHyperService::new(router));
    tokio::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    // Errors here are clients that vanished or broke the protocol; hyper has answered what can be.
    let _ = connection.await;
}

/// Who is to serve a connection.
enum Kind {
    Http,
    EventStream,
}

/// Looks at the first bytes without taking them. `None` when none came in time: hyper starts its own
/// clock only once it knows the version of HTTP, so a silent client would stay for ever.
async fn recognize(socket: &TcpStream, streams: bool, limit: Duration) -> Option<Kind> {
    let look = async {
        let mut start = [0; 24];
        loop {
            let seen = match socket.peek(&mut start).await {
                Ok(0) | Err(_) => return None,
                Ok(seen) => &start[..seen],
            };
            if streams && EVENT_STREAMS.iter().any(|line| seen.starts_with(line)) {
                return Some(Kind::EventStream);
            }
            let undecided = |line: &&[u8]| line.len() > seen.len() && line.starts_with(seen);
            if !(undecided(&HTTP2_PREFACE) || streams && EVENT_STREAMS.iter().any(undecided)) {
                return Some(Kind::Http);
            }
            // Peeking is always ready now, so there is nothing to wait for but time.
            tokio::time::sleep(TRICKLE).await;
        }
    };
    tokio::time::timeout(limit, look).await.ok().flatten()
}

async fn event_stream(mut socket: TcpStream, gateway: &Arc<Gateway>) {
    let settings = &gateway.settings;
    let head = read_head(&mut socket, settings.header_bytes);
    let Ok(Ok(head)) = tokio::time::timeout(settings.header_timeout, head).await else { return };
    let id = RequestId::new();
    let parsed = parse_head(&head, settings, id.clone());
    let id = parsed.as_ref().map_or(id, crate::extract::request_id);
    let accepted = match parsed {
        Ok(parts) => sse::accept(gateway, &parts).await,
        Err(error) => Err(error),
    };
    match accepted {
        Ok(accepted) => match socket.into_std() {
            Ok(socket) => accepted.take_socket(socket),
            Err(error) => {
                tracing::error!(request_id = %id, %error, "the socket of {id} cannot be handed over: {error}")
            }
        },
        Err(error) => refuse(socket, error, id).await,
    }
}

/// Reads up to the blank line. A client sends nothing after it before it has the answer.
async fn read_head(socket: &mut TcpStream, limit: usize) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(1024);
    loop {
        if socket.read_buf(&mut head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if head.windows(4).any(|end| end == b"\r\n\r\n") || head.len() > limit {
            return Ok(head);
        }
    }
}

fn parse_head(head: &[u8], settings: &Settings, id: RequestId) -> Result<Parts, Error> {
    let malformed = || Error::new(Code::InvalidRequest, "The request head is not HTTP/1.1.");
    let too_large = || {
        let (bytes, count) = (settings.header_bytes, settings.headers);
        Error::new(
            Code::HeadersTooLarge,
            format!("The request head may have {bytes} bytes and {count} headers."),
        )
    };
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
    let mut request = Request::builder().uri(path).body(()).map_err(|_| malformed())?;
    for header in parsed.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| malformed())?;
        let value = HeaderValue::from_bytes(header.value).map_err(|_| malformed())?;
        request.headers_mut().append(name, value);
    }
    let given =
        request.headers().get("x-request-id").and_then(|value| RequestId::given(value.to_str().ok()?));
    request.extensions_mut().insert(given.unwrap_or(id));
    Ok(request.into_parts().0)
}

/// An error on a socket that hyper does not have.
async fn refuse(mut socket: TcpStream, error: Error, id: RequestId) {
    let _ = socket.write_all(&Failure::new(error, id).raw()).await;
    let _ = socket.shutdown().await;
}
