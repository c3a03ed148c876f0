//! `/graphql` over HTTP, as the GraphQL over HTTP specification has it: `POST` for all operations, `GET` for queries.

use super::accept::{Media, preferred};
use super::answer::Answer;
use super::loaders::Loaders;
use super::plan::Plans;
use super::request::Params;
use super::viewer::Viewer;
use super::{page, stream, ws};
use crate::error::headers;
use crate::extract::{read_body, request_id, require_json};
use crate::query::Query;
use crate::state::Gateway;
use crate::{rest, upgrade};
use async_graphql::Request as Operation;
use async_graphql::parser::types::OperationType;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::sync::Arc;
use std::time::Instant;
use weir_core::{Code, RequestId};
use weir_engine::Error;

/// `POST /graphql`.
pub(crate) async fn post(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let media = preferred(&parts.headers);
    if media == Media::EventStream {
        return stream::over_hyper(gateway, parts, Some(body)).await;
    }
    let outcome = async {
        let viewer = Viewer::of_request(&gateway, &parts).await?;
        require_json(&parts.headers)?;
        Ok((viewer, Params::from_body(&read_body(body, &gateway).await?)?))
    };
    match outcome.await {
        Ok((viewer, params)) => run(viewer, params, media, true).await,
        Err(error) => refusal(&error, &request_id(&parts), media),
    }
}

/// `GET /graphql`: a query, an event stream, a WebSocket, or the explorer for a browser.
pub(crate) async fn get(State(gateway): State<Arc<Gateway>>, mut request: Request) -> Response {
    if upgrade::is_wanted(request.headers()) {
        return ws::over_hyper(gateway, request).await;
    }
    let (parts, _) = std::mem::take(&mut request).into_parts();
    let media = preferred(&parts.headers);
    match media {
        Media::Page if gateway.settings.graphql.explorer => return page::explorer(),
        Media::EventStream => return stream::over_hyper(gateway, parts, None).await,
        _ => {}
    }
    let outcome = async {
        let viewer = Viewer::of_request(&gateway, &parts).await?;
        Ok((viewer, Params::from_url(&Query::parse(parts.uri.query()))?))
    };
    match outcome.await {
        Ok((viewer, params)) => run(viewer, params, media, false).await,
        Err(error) => refusal(&error, &request_id(&parts), media),
    }
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
        _ => respond(&execute(viewer, operation, kind).await, media),
    }
}

/// Runs a query or a mutation to its end.
pub(super) async fn execute(viewer: Viewer, operation: Operation, kind: OperationType) -> Answer {
    let (begun, gateway, request) = (Instant::now(), Arc::clone(&viewer.gateway), viewer.request.clone());
    let answer = Answer::of(gateway.graphql.execute(on_behalf_of(viewer, operation)).await, &request);
    gateway.metrics.operations.count(&kind.to_string(), begun, answer.problem());
    answer
}

/// Gives an operation what its resolvers look for.
pub(super) fn on_behalf_of(viewer: Viewer, operation: Operation) -> Operation {
    let viewer = Arc::new(viewer);
    operation.data(Loaders::new(Arc::clone(&viewer))).data(viewer).data(Plans::default())
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
