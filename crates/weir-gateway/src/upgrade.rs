//! The opening handshake of a WebSocket (RFC 6455, section 4), and the way of its socket to the hub. What is spoken on
//! it is the listener's: `ws/` or `graphql/ws/`.

use crate::credentials;
use crate::error::Failure;
use crate::query::Query;
use crate::scene;
use crate::state::Gateway;
use axum::body::Bytes;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto::upgrade::downcast;
use sha1::{Digest, Sha1};
use std::sync::Arc;
use tokio::net::TcpStream;
use weir_core::{Code, RequestId};
use weir_engine::limits::ConnectionSlot;
use weir_engine::{Caller, Credentials, Error};
use weir_hub::{Dialect, Listener, NewConnection, Socket};

/// Of RFC 6455, section 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A handshake that is in order.
pub(crate) struct Accepted {
    /// Who hears what is said on the connection.
    pub(crate) listener: Arc<dyn Listener>,
    pub(crate) request: RequestId,
    /// The answer's headers.
    pub(crate) headers: Vec<(HeaderName, String)>,
}

impl Accepted {
    /// Answers on a socket that is ours and hands it to the hub.
    pub(crate) fn take_socket(self, gateway: &Gateway, socket: Socket, read_ahead: Bytes) {
        let mut head = "HTTP/1.1 101 Switching Protocols\r\n".to_owned();
        let request = (HeaderName::from_static("x-request-id"), self.request.to_string());
        for (name, value) in self.headers.into_iter().chain([request]) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        adopt(gateway, self.listener, socket, read_ahead, head.into());
    }
}

/// What hyper needs to give a connection away. Without it the request came over HTTP/2.
pub(crate) fn take_upgrade(request: &mut Request) -> Result<OnUpgrade, Error> {
    let on_upgrade = request.extensions_mut().remove::<OnUpgrade>();
    on_upgrade
        .ok_or_else(|| refused("WebSockets need HTTP/1.1 on this server; use an event stream over HTTP/2."))
}

/// Upgrades where hyper has the connection: one that was kept alive after another request.
pub(crate) fn over_hyper(
    gateway: Arc<Gateway>,
    accepted: Result<(OnUpgrade, Accepted), Error>,
    request: RequestId,
) -> Response {
    match accepted {
        Ok((on_upgrade, accepted)) => {
            let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
            for (name, value) in &accepted.headers {
                if let Ok(value) = HeaderValue::from_str(value) {
                    response.headers_mut().insert(name, value);
                }
            }
            tokio::spawn(take_over(gateway, on_upgrade, accepted));
            response
        }
        Err(error) => Failure::new(error, request).into_response(),
    }
}

/// Credentials of a handshake, by where they stood.
pub(crate) enum Presented {
    /// In a header: answered with HTTP if they are not good.
    Header(Credentials),
    /// In the URL, from browsers, whose scripts cannot see an HTTP answer: they are told after the upgrade.
    Url(Credentials),
}

impl Presented {
    /// The credentials.
    pub(crate) fn into_inner(self) -> Credentials {
        match self {
            Self::Header(credentials) | Self::Url(credentials) => credentials,
        }
    }
}

/// Credentials of a handshake. `None`: the first message must say.
pub(crate) fn presented(headers: &HeaderMap, query: &Query) -> Result<Option<Presented>, Error> {
    if let Some(given) = credentials::from_headers(headers)? {
        let project = query.parsed("project", credentials::PROJECT)?;
        return Ok(Some(Presented::Header(given.in_project(project))));
    }
    Ok(credentials::from_query(query)?.map(Presented::Url))
}

/// What is known of the caller at the handshake. An inner error is told after the upgrade.
pub(crate) async fn authenticate(
    gateway: &Gateway,
    presented: Option<&Presented>,
) -> Result<Option<Result<Arc<Caller>, Error>>, Error> {
    match presented {
        Some(Presented::Header(given)) => {
            Ok(Some(Ok(known(gateway.engine.authenticate(given.clone()).await?))))
        }
        Some(Presented::Url(given)) => Ok(Some(gateway.engine.authenticate(given.clone()).await.map(known))),
        None => Ok(None),
    }
}

fn known(caller: Arc<Caller>) -> Arc<Caller> {
    scene::identify(&caller);
    caller
}

/// Who comes, and its place among the tenant's connections.
pub(crate) type Admitted = (Arc<Caller>, ConnectionSlot);

/// The same, with a place among the tenant's connections: counted here, where waiting is possible; what comes of it is told
/// on the socket.
pub(crate) async fn admit(
    gateway: &Gateway,
    presented: Option<&Presented>,
) -> Result<Option<Result<Admitted, Error>>, Error> {
    Ok(match authenticate(gateway, presented).await? {
        Some(Ok(caller)) => Some(gateway.engine.reserve(&caller).await.map(|slot| (caller, slot))),
        Some(Err(error)) => Some(Err(error)),
        None => None,
    })
}

/// Whether one of the words of a list-valued header is this one.
fn has(headers: &HeaderMap, name: HeaderName, word: &str) -> bool {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(word))
}

/// Whether a request wants to become a WebSocket.
pub(crate) fn is_wanted(headers: &HeaderMap) -> bool {
    has(headers, header::UPGRADE, "websocket")
}

/// Checks the opening handshake of RFC 6455, section 4.2.1; returns `Sec-WebSocket-Accept`.
pub(crate) fn handshake(headers: &HeaderMap) -> Result<String, Error> {
    if !has(headers, header::CONNECTION, "upgrade") || !is_wanted(headers) {
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

/// Whether the client offers a subprotocol. Their names are case-sensitive.
pub(crate) fn offers(headers: &HeaderMap, subprotocol: &str) -> bool {
    let offered =
        headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).into_iter().filter_map(|value| value.to_str().ok());
    offered.flat_map(|value| value.split(',')).any(|name| name.trim() == subprotocol)
}

/// The headers of the answer to a handshake (RFC 6455, section 4.2.2).
pub(crate) fn switching(accept: String, subprotocol: Option<&str>) -> Vec<(HeaderName, String)> {
    let mut answer = vec![
        (header::CONNECTION, "Upgrade".to_owned()),
        (header::UPGRADE, "websocket".to_owned()),
        (header::SEC_WEBSOCKET_ACCEPT, accept),
    ];
    answer.extend(subprotocol.map(|name| (header::SEC_WEBSOCKET_PROTOCOL, name.to_owned())));
    answer
}

/// Waits until hyper has written the answer, then takes the bare socket.
async fn take_over(gateway: Arc<Gateway>, on_upgrade: OnUpgrade, accepted: Accepted) {
    let Ok(upgraded) = on_upgrade.await else { return };
    match bare(upgraded) {
        Some((socket, rest)) => {
            // Copied, if there is any: it must not keep hyper's whole buffer alive.
            adopt(&gateway, accepted.listener, socket, Bytes::copy_from_slice(&rest), Bytes::new());
        }
        None => {
            let request = &accepted.request;
            tracing::error!(request_id = %request, "the upgraded socket of {request} is not a TCP socket");
        }
    }
}

fn bare(upgraded: Upgraded) -> Option<(Socket, Bytes)> {
    let parts = downcast::<TokioIo<TcpStream>>(upgraded).ok()?;
    let socket = parts.io.into_inner().into_std().ok()?;
    Some((Socket::from_std(socket), parts.read_buf))
}

fn adopt(gateway: &Gateway, listener: Arc<dyn Listener>, socket: Socket, read_ahead: Bytes, preamble: Bytes) {
    let dialect = Dialect::WebSocket;
    gateway.engine.hub().adopt(NewConnection { socket, dialect, read_ahead, preamble, listener });
}
