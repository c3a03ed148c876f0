//! `/ws`, subprotocol `weir.v1`: the handshake here, the frames in `frames.rs`, one connection in
//! `connection.rs`. Once upgraded, the socket belongs to the hub.

mod connection;
mod dispatch;
mod frames;

pub(crate) use dispatch::Dispatchers;

use crate::credentials;
use crate::error::Failure;
use crate::extract::request_id;
use crate::query::Query;
use crate::state::Gateway;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use connection::Connection;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto::upgrade::downcast;
use sha1::{Digest, Sha1};
use std::sync::Arc;
use tokio::net::TcpStream;
use weir_core::Code;
use weir_engine::{Caller, Error};
use weir_hub::{Dialect, NewConnection};

const SUBPROTOCOL: &str = "weir.v1";
/// Of RFC 6455, section 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Upgrades to a WebSocket.
///
/// Credentials in a header are answered with HTTP if they are not good. Those in the URL come from
/// browsers, whose scripts cannot see an HTTP answer: they are told by an `error` frame and a close code.
pub(crate) async fn upgrade(State(gateway): State<Arc<Gateway>>, mut request: Request) -> Response {
    let on_upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let (parts, _) = request.into_parts();
    let id = request_id(&parts);
    let prepared = async {
        let accept = handshake(&parts.headers)?;
        let on_upgrade = on_upgrade
            .ok_or_else(|| refused("WebSockets need HTTP/1.1 on this server; use /sse over HTTP/2."))?;
        if gateway.is_draining() {
            return Err(Error::new(Code::Draining, "This node is shutting down; connect again."));
        }
        gateway.engine.admit()?;
        let query = Query::parse(parts.uri.query());
        let caller = authenticate(&gateway, &parts.headers, &query).await?;
        Ok((accept, on_upgrade, caller))
    };
    match prepared.await {
        Ok((accept, on_upgrade, caller)) => {
            let connection = Connection::new(&gateway, id);
            tokio::spawn(take_over(gateway, on_upgrade, connection, caller));
            switching(&accept, &parts.headers)
        }
        Err(error) => Failure::new(error, id).into_response(),
    }
}

/// What is known of the caller at the handshake. `None`: the first frame must say. An inner error is told
/// after the upgrade.
async fn authenticate(
    gateway: &Gateway,
    headers: &HeaderMap,
    query: &Query,
) -> Result<Option<Result<Arc<Caller>, Error>>, Error> {
    if let Some(presented) = credentials::from_headers(headers)? {
        return Ok(Some(Ok(gateway.engine.authenticate(presented).await?)));
    }
    match credentials::from_query(query) {
        Some(presented) => Ok(Some(gateway.engine.authenticate(presented).await)),
        None => Ok(None),
    }
}

/// Checks the opening handshake of RFC 6455, section 4.2.1; returns `Sec-WebSocket-Accept`.
fn handshake(headers: &HeaderMap) -> Result<String, Error> {
    let has = |name, token: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(token)))
    };
    if !has(header::CONNECTION, "upgrade") || !has(header::UPGRADE, "websocket") {
        return Err(refused(
            "This is a WebSocket endpoint: send `Connection: Upgrade` and `Upgrade: websocket`.",
        ));
    }
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(refused("`Sec-WebSocket-Version` must be 13."));
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes).unwrap_or_default();
    if STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 16) {
        let mut hash = Sha1::new();
        hash.update(key);
        hash.update(GUID);
        return Ok(STANDARD.encode(hash.finalize()));
    }
    Err(refused("`Sec-WebSocket-Key` must be 16 bytes in base64."))
}

fn refused(message: &str) -> Error {
    Error::new(Code::InvalidRequest, message)
}

fn switching(accept: &str, headers: &HeaderMap) -> Response {
    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    let answer = response.headers_mut();
    answer.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(accept) {
        answer.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    let offered =
        headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    if offered.flat_map(|value| value.split(',')).any(|name| name.trim() == SUBPROTOCOL) {
        answer.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    }
    response
}

/// Waits until the answer is written, then hands the bare socket to the hub.
async fn take_over(
    gateway: Arc<Gateway>,
    on_upgrade: OnUpgrade,
    connection: Arc<Connection>,
    caller: Option<Result<Arc<Caller>, Error>>,
) {
    let request = connection.request.clone();
    let Ok(upgraded) = on_upgrade.await else { return };
    let Some((socket, read_ahead)) = bare(upgraded) else {
        tracing::error!(request_id = %request, "the upgraded socket of {request} is not a TCP socket");
        return;
    };
    connection.begin(caller);
    gateway.engine.hub().adopt(NewConnection {
        socket,
        dialect: Dialect::WebSocket,
        read_ahead,
        preamble: bytes::Bytes::new(),
        listener: connection,
    });
}

fn bare(upgraded: Upgraded) -> Option<(std::net::TcpStream, bytes::Bytes)> {
    let parts = downcast::<TokioIo<TcpStream>>(upgraded).ok()?;
    let socket = parts.io.into_inner().into_std().ok()?;
    Some((socket, parts.read_buf))
}
