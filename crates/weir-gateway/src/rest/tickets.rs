//! `POST /v1/tickets`: for sockets and event streams of browsers, which cannot set headers.

use crate::error::{ErrorBody, Failure};
use crate::extract::Authenticated;
use crate::state::Gateway;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;
use weir_core::Timestamp;

/// A ticket.
#[derive(Serialize, ToSchema)]
pub(crate) struct TicketBody {
    /// Goes into `?ticket=` of `/ws` or `/sse`.
    ticket: String,
    /// It works once, until then.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
}

/// Get a ticket.
///
/// It stands for the caller's own credentials, works once and for 30 seconds.
#[utoipa::path(post, path = "/v1/tickets", tag = "connections",
    params(("X-Weir-Project" = Option<String>, Header, description = "Members: the project in which they act")),
    responses((status = 201, body = TicketBody), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 429, body = ErrorBody),
        (status = 503, body = ErrorBody)))]
pub(crate) async fn create(
    State(gateway): State<Arc<Gateway>>,
    auth: Authenticated,
) -> Result<(StatusCode, Json<TicketBody>), Failure> {
    let ticket = gateway.engine.issue_ticket(&auth.caller).await.map_err(|error| auth.fail(error))?;
    let body = TicketBody { ticket: ticket.text.expose().to_owned(), expires_at: ticket.expires_at };
    Ok((StatusCode::CREATED, Json(body)))
}
