//! The listener: accepts, lets `front.rs` look at the first bytes, and gives each connection to whoever
//! serves it. Live connections go to the hub without hyper; everything else is hyper's.

use crate::acceptor::Acceptor;
use crate::front::{self, Kind};
use crate::state::Gateway;
use axum::Router;
use futures::{FutureExt, poll};
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a kept-alive connection may be idle between two requests, the head of the second included.
const IDLE: Duration = Duration::from_secs(75);

/// The address that a request's connection comes from.
#[derive(Clone, Copy)]
pub(crate) struct Peer(pub(crate) IpAddr);

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

/// Serves a router on a listener until the server is stopped. `live` says whether WebSockets and
/// event streams are served here, that is, not on the operator's listener.
pub async fn serve(acceptor: Acceptor, router: Router, gateway: Arc<Gateway>, live: bool, server: Server) {
    let http = Arc::new(builder(&gateway));
    let mut look = vec![0; front::FIRST_LOOK];
    loop {
        let accepted = tokio::select! {
            () = server.stop.cancelled() => return,
            accepted = acceptor.accept() => accepted,
        };
        let (mut socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of files, most often: going round at once would only spin.
                tracing::warn!(%error, "a connection could not be accepted: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let gateway = Arc::clone(&gateway);
        if live && let Some(request) = front::take_live(&mut socket, &mut look, &gateway.settings) {
            // Everything it needs is in memory, as a rule: only one that has to wait becomes a task. A panic is this
            // connection's alone, here too.
            let mut answer = Box::pin(AssertUnwindSafe(front::live(socket, request, gateway)).catch_unwind());
            if poll!(answer.as_mut()).is_pending() {
                server.connections.spawn(answer);
            }
            continue;
        }
        let (http, router, stop) = (Arc::clone(&http), router.clone(), server.stop.clone());
        server.connections.spawn(async move {
            let until = Instant::now() + gateway.settings.header_timeout;
            let spoken = tokio::select! {
                () = stop.cancelled() => return,
                spoken = front::first_byte(socket, until) => spoken,
            };
            if let Some(socket) = spoken {
                // Boxed: thousands may wait for a first byte at once, and what comes then needs much more room.
                Box::pin(serve_one(&http, (socket, peer.ip()), until, (router, gateway, live), stop)).await;
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
        // Answers are short, most of them: one buffer costs the kernel less than two.
        .writev(false)
        // It also ends idle connections. Balancers keep theirs for a minute and would find it closed; the first
        // head of a connection has been held to its own, shorter time before.
        .header_read_timeout(IDLE)
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

/// Serves a connection on which something has been said.
async fn serve_one(
    http: &Builder<TokioExecutor>,
    (socket, peer): (TcpStream, IpAddr),
    until: Instant,
    (router, gateway, live): (Router, Arc<Gateway>, bool),
    stop: CancellationToken,
) {
    let kind = tokio::select! {
        () = stop.cancelled() => return,
        kind = front::recognize(&socket, until, live, &gateway.settings) => kind,
    };
    match kind {
        Some(Kind::Live) => front::live_in_pieces(socket, until, gateway).await,
        Some(Kind::Http) => serve_http(http, (socket, peer), router, stop).await,
        Some(Kind::Refused(error)) => front::refuse(socket, error, &gateway).await,
        None => {}
    }
}

async fn serve_http(
    http: &Builder<TokioExecutor>,
    (socket, peer): (TcpStream, IpAddr),
    router: Router,
    stop: CancellationToken,
) {
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        router.call(request)
    });
    let connection = http.serve_connection_with_upgrades(TokioIo::new(socket), service);
    tokio::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    // Errors here are clients that vanished or broke the protocol; hyper has answered what can be.
    let _ = connection.await;
}
