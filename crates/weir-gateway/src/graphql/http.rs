//! `/graphql` over HTTP, as the GraphQL over HTTP specification has it: `POST` for all operations, `GET` for queries.

use super::accept::{Media, preferred};
use super::answer::Answer;
use super::page;
use super::request::Params;
use super::viewer::Viewer;
use crate::error::headers;
use crate::extract::{read_body, request_id, require_json};
use crate::middleware::RateHeaders;
use crate::query::Query;
use crate::state::Gateway;
use crate::{credentials, rest};
use async_graphql::Request as Operation;
use async_graphql::parser::types::OperationType;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::sync::Arc;
use weir_core::{Code, RequestId};
use weir_engine::Error;

/// `POST /graphql`.
pub(crate) async fn post(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let media = preferred(&parts.headers);
    let outcome = async {
        let viewer = viewer(&gateway, &parts).await?;
        require_json(&parts.headers)?;
        Ok((viewer, Params::from_body(&read_body(body, &gateway).await?)?))
    };
    match outcome.await {
        Ok((viewer, params)) => run(viewer, params, media, true).await,
        Err(error) => refusal(&error, &request_id(&parts), media),
    }
}

/// `GET /graphql`: a query, or the explorer for a browser.
pub(crate) async fn get(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let media = preferred(&parts.headers);
    if media == Media::Page && gateway.settings.graphql.explorer {
        return page::explorer();
    }
    let outcome = async {
        let viewer = viewer(&gateway, &parts).await?;
        Ok((viewer, Params::from_url(&Query::parse(parts.uri.query()))?))
    };
    match outcome.await {
        Ok((viewer, params)) => run(viewer, params, media, false).await,
        Err(error) => refusal(&error, &request_id(&parts), media),
    }
}

async fn viewer(gateway: &Arc<Gateway>, parts: &Parts) -> Result<Viewer, Error> {
    let presented = credentials::from_headers(&parts.headers)?.ok_or_else(credentials::missing)?;
    let caller = gateway.engine.authenticate(presented).await?;
    let rate = parts.extensions.get::<RateHeaders>().cloned();
    Viewer::admit(gateway, request_id(parts), caller, None, rate)
}

async fn run(viewer: Viewer, params: Params, media: Media, may_change: bool) -> Response {
    let request = viewer.request.clone();
    let (operation, kind) = match params.prepare(&viewer.gateway.settings.graphql) {
        Ok(prepared) => prepared,
        Err(error) => return respond(&Answer::refused(error, &request), media),
    };
    match kind {
        OperationType::Mutation if !may_change => {
            let message = "A mutation cannot be asked for by GET: send it with POST.";
            let mut response = refusal(&Error::new(Code::MethodNotAllowed, message), &request, media);
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
            response
        }
        OperationType::Subscription => {
            let message =
                "A subscription needs a WebSocket (`graphql-transport-ws`) or `Accept: text/event-stream`.";
            refusal(&rest::invalid("query", message), &request, media)
        }
        _ => respond(&execute(viewer, operation).await, media),
    }
}

/// Runs a query or a mutation to its end.
pub(super) async fn execute(viewer: Viewer, operation: Operation) -> Answer {
    let request = viewer.request.clone();
    let schema = viewer.gateway.graphql.clone();
    let operation = operation.data(viewer);
    Answer::of(schema.execute(operation).await, &request)
}

fn respond(answer: &Answer, media: Media) -> Response {
    let refused = StatusCode::from_u16(answer.code().http_status()).unwrap_or(StatusCode::BAD_REQUEST);
    let status = if answer.executed() || media != Media::Response { StatusCode::OK } else { refused };
    (status, [(header::CONTENT_TYPE, media.content_type())], answer.text()).into_response()
}

/// What is refused before there is an operation: the status says it in every form.
pub(super) fn refusal(error: &Error, request: &RequestId, media: Media) -> Response {
    let answer = Answer::failure(error, request);
    let status = StatusCode::from_u16(error.code.http_status()).unwrap_or(StatusCode::BAD_REQUEST);
    let mut response =
        (status, [(header::CONTENT_TYPE, media.content_type())], answer.text()).into_response();
    for (name, value) in headers(error) {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}
