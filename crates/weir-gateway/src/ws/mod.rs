//! `/ws`, subprotocol `weir.v1`: what is checked before the upgrade here, the frames in `frames.rs`, one connection in
//! `connection.rs`. Once upgraded, the socket belongs to the hub.

mod connection;
mod dispatch;
mod frames;

pub(crate) use connection::{ALLOWANCE, FRAME_OVERHEAD, NODE_ALLOWANCE};
pub(crate) use dispatch::{Dispatchers, Talker};

use crate::extract::request_id;
use crate::query::Query;
use crate::state::Gateway;
use crate::upgrade::{self, Accepted};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::response::Response;
use connection::Connection;
use std::sync::Arc;
use weir_core::Code;
use weir_engine::Error;

const SUBPROTOCOL: &str = "weir.v1";

/// Checks a handshake and its credentials.
///
/// Credentials in a header are answered with HTTP if they are not good. Those in the URL come from
/// browsers, whose scripts cannot see an HTTP answer: they are told by an `error` frame and a close code.
pub(crate) async fn accept(gateway: &Arc<Gateway>, parts: &Parts) -> Result<Accepted, Error> {
    let key = upgrade::handshake(&parts.headers)?;
    if gateway.is_draining() {
        return Err(Error::new(Code::Draining, "This node is shutting down; connect again."));
    }
    gateway.engine.admit()?;
    let presented = upgrade::presented(&parts.headers, &Query::parse(parts.uri.query()))?;
    let admitted = upgrade::admit(gateway, presented.as_ref()).await?;
    let request = request_id(parts);
    let connection = Connection::new(gateway, request.clone());
    connection.begin(admitted);
    let spoken = upgrade::offers(&parts.headers, SUBPROTOCOL).then_some(SUBPROTOCOL);
    Ok(Accepted { listener: connection, request, headers: upgrade::switching(key, spoken) })
}

/// Upgrades where hyper has the connection.
pub(crate) async fn upgrade(State(gateway): State<Arc<Gateway>>, mut request: Request) -> Response {
    let on_upgrade = upgrade::take_upgrade(&mut request);
    let (parts, _) = request.into_parts();
    let accepted = match on_upgrade {
        Ok(on_upgrade) => accept(&gateway, &parts).await.map(|accepted| (on_upgrade, accepted)),
        Err(error) => Err(error),
    };
    upgrade::over_hyper(gateway, accepted, request_id(&parts))
}
