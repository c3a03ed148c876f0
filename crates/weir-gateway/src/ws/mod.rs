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
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
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

/// A handshake that is in order.
pub(crate) struct Accepted {
    connection: Arc<Connection>,
    /// The answer's headers.
    headers: Vec<(HeaderName, String)>,
}

/// Checks a handshake and its credentials.
///
/// Credentials in a header are answered with HTTP if they are not good. Those in the URL come from
/// browsers, whose scripts cannot see an HTTP answer: they are told by an `error` frame and a close code.
pub(crate) async fn accept(gateway: &Arc<Gateway>, parts: &Parts) -> Result<Accepted, Error> {
    let key = handshake(&parts.headers)?;
    if gateway.is_draining() {
        return Err(Error::new(Code::Draining, "This node is shutting down; connect again."));
    }
    gateway.engine.admit()?;
    let query = Query::parse(parts.uri.query());
    let caller = authenticate(gateway, &parts.headers, &query).await?;
    let connection = Connection::new(gateway, request_id(parts));
    // Counted here, where waiting is possible; what comes of it is told on the socket.
    let admitted = match caller {
        Some(Ok(caller)) => Some(gateway.engine.reserve(&caller).await.map(|slot| (caller, slot))),
        Some(Err(error)) => Some(Err(error)),
        None => None,
    };
    connection.begin(admitted);
    Ok(Accepted { connection, headers: switching(key, &parts.headers) })
}

impl Accepted {
    /// Answers on a socket that is ours and hands it to the hub.
    pub(crate) fn take_socket(self, gateway: &Gateway, socket: TcpStream, read_ahead: Bytes) {
        let mut head = "HTTP/1.1 101 Switching Protocols\r\n".to_owned();
        let request = (HeaderName::from_static("x-request-id"), self.connection.request.to_string());
        for (name, value) in self.headers.into_iter().chain([request]) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        match socket.into_std() {
            Ok(socket) => adopt(gateway, self.connection, socket, read_ahead, head.into()),
            Err(error) => {
                let request = &self.connection.request;
                tracing::error!(request_id = %request, %error, "a socket cannot be handed over: {error}");
            }
        }
    }
}

/// Upgrades where hyper has the connection: one that was kept alive after another request.
pub(crate) async fn upgrade(State(gateway): State<Arc<Gateway>>, mut request: Request) -> Response {
    let on_upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let (parts, _) = request.into_parts();
    let accepted = match on_upgrade {
        Some(on_upgrade) => accept(&gateway, &parts).await.map(|accepted| (on_upgrade, accepted)),
        None => Err(refused("WebSockets need HTTP/1.1 on this server; use /sse over HTTP/2.")),
    };
    match accepted {
        Ok((on_upgrade, Accepted { connection, headers })) => {
            tokio::spawn(take_over(gateway, on_upgrade, connection));
            let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
            for (name, value) in headers {
                if let Ok(value) = HeaderValue::from_str(&value) {
                    response.headers_mut().insert(name, value);
                }
            }
            response
        }
        Err(error) => Failure::new(error, request_id(&parts)).into_response(),
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
        let presented = presented.in_project(query.parsed("project", credentials::PROJECT)?);
        return Ok(Some(Ok(gateway.engine.authenticate(presented).await?)));
    }
    match credentials::from_query(query)? {
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

/// The headers of the answer to a handshake (RFC 6455, section 4.2.2).
fn switching(accept: String, headers: &HeaderMap) -> Vec<(HeaderName, String)> {
    let mut answer = vec![
        (header::CONNECTION, "Upgrade".to_owned()),
        (header::UPGRADE, "websocket".to_owned()),
        (header::SEC_WEBSOCKET_ACCEPT, accept),
    ];
    let offered =
        headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    if offered.flat_map(|value| value.split(',')).any(|name| name.trim() == SUBPROTOCOL) {
        answer.push((header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL.to_owned()));
    }
    answer
}

/// Waits until hyper has written the answer, then takes the bare socket.
async fn take_over(gateway: Arc<Gateway>, on_upgrade: OnUpgrade, connection: Arc<Connection>) {
    let Ok(upgraded) = on_upgrade.await else { return };
    match bare(upgraded) {
        Some((socket, rest)) => {
            // Copied, if there is any: it must not keep hyper's whole buffer alive.
            adopt(&gateway, connection, socket, Bytes::copy_from_slice(&rest), Bytes::new());
        }
        None => {
            let request = &connection.request;
            tracing::error!(request_id = %request, "the upgraded socket of {request} is not a TCP socket");
        }
    }
}

fn bare(upgraded: Upgraded) -> Option<(std::net::TcpStream, Bytes)> {
    let parts = downcast::<TokioIo<TcpStream>>(upgraded).ok()?;
    let socket = parts.io.into_inner().into_std().ok()?;
    Some((socket, parts.read_buf))
}

fn adopt(
    gateway: &Gateway,
    listener: Arc<Connection>,
    socket: std::net::TcpStream,
    read_ahead: Bytes,
    preamble: Bytes,
) {
    let dialect = Dialect::WebSocket;
    gateway.engine.hub().adopt(NewConnection { socket, dialect, read_ahead, preamble, listener });
}
