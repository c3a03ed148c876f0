//! `graphql-transport-ws` on `/graphql`: the handshake here, the messages in `messages.rs`, one connection in
//! `socket.rs`. Once upgraded, the socket belongs to the hub, as that of `/ws` does.

mod intake;
mod messages;
mod socket;

use crate::extract::request_id;
use crate::query::Query;
use crate::state::Gateway;
use crate::upgrade::{self, Accepted};
use axum::extract::Request;
use axum::http::request::Parts;
use axum::response::Response;
use socket::Socket;
use std::sync::Arc;
use weir_core::Code;
use weir_engine::Error;

const SUBPROTOCOL: &str = "graphql-transport-ws";

/// Checks a handshake. Credentials in a header are answered with HTTP if they are not good; all others with a close
/// code, as scripts in browsers see no HTTP answer.
pub(crate) async fn accept(gateway: &Arc<Gateway>, parts: &Parts) -> Result<Accepted, Error> {
    let key = upgrade::handshake(&parts.headers)?;
    if gateway.is_draining() {
        return Err(Error::new(Code::Draining, "This node is shutting down; connect again."));
    }
    gateway.engine.admit()?;
    let presented = upgrade::presented(&parts.headers, &Query::parse(parts.uri.query()))?;
    let caller = upgrade::authenticate(gateway, presented.as_ref()).await?;
    let request = request_id(parts);
    let spoken = upgrade::offers(&parts.headers, SUBPROTOCOL);
    let credentials = presented.map(upgrade::Presented::into_inner);
    let socket = Socket::new(gateway, request.clone(), credentials.zip(caller), spoken);
    let headers = upgrade::switching(key, spoken.then_some(SUBPROTOCOL));
    Ok(Accepted { listener: socket, request, headers })
}

/// Upgrades where hyper has the connection.
pub(super) async fn over_hyper(gateway: Arc<Gateway>, mut request: Request) -> Response {
    let on_upgrade = upgrade::take_upgrade(&mut request);
    let (parts, _) = request.into_parts();
    let accepted = match on_upgrade {
        Ok(on_upgrade) => accept(&gateway, &parts).await.map(|accepted| (on_upgrade, accepted)),
        Err(error) => Err(error),
    };
    upgrade::over_hyper(gateway, accepted, request_id(&parts))
}
