//! `Idempotency-Key` on what administers: a write that is sent again happens once and is answered the same.

use super::admin::principal;
use crate::error::Failure;
use crate::extract::{read_body, request_id};
use crate::scene;
use crate::state::Gateway;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{OriginalUri, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;
use weir_core::Code;
use weir_engine::Error;
use weir_engine::admin::{Held, Turn};

const KEY: &str = "idempotency-key";

/// Bytes of an answer that is kept. What administers answers with a page at most, and a write with one thing.
const MAX_ANSWER: usize = 1024 * 1024;

/// Carries a keyed write out once, however often it comes.
pub(crate) async fn once(State(gateway): State<Arc<Gateway>>, request: Request, next: Next) -> Response {
    if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS)
        || !request.headers().contains_key(KEY)
    {
        return next.run(request).await;
    }
    // In a task of its own from before the claim: a client that goes away leaves no claim that nobody carries out, and
    // when it sends the request again it finds its answer.
    let here = scene::current().unwrap_or_default();
    let work = tokio::spawn(async move { here.run(carry_out(gateway, request, next)).await });
    match work.await {
        Ok(response) => response,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

async fn carry_out(gateway: Arc<Gateway>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let (held, body) = match begin(&gateway, &parts, body).await {
        Ok(Begun::Yours(held, body)) => (held, body),
        Ok(Begun::Answered(response)) => return response,
        Err(error) => return Failure::new(error, request_id(&parts)).into_response(),
    };
    parts.extensions.insert(held);
    let request = Request::from_parts(parts, Body::from(body));
    finish(&gateway, held, next.run(request).await).await
}

enum Begun {
    Yours(Held, Bytes),
    Answered(Response),
}

async fn begin(gateway: &Arc<Gateway>, parts: &Parts, body: Body) -> Result<Begun, Error> {
    let mut keys = parts.headers.get_all(KEY).iter();
    let key = keys.next().filter(|_| keys.next().is_none()).and_then(|key| key.to_str().ok());
    let key = key.ok_or_else(|| {
        Error::new(Code::InvalidRequest, "`Idempotency-Key` takes one value of printable ASCII characters.")
    })?;
    let principal = principal(parts, gateway).await?;
    let body = read_body(body, gateway).await?;
    let uri = parts.extensions.get::<OriginalUri>().map_or(&parts.uri, |original| &original.0);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    // The API is mounted twice.
    let path = path.strip_prefix("/v1").unwrap_or(path);
    let header = |name: &str| parts.headers.get(name).map_or(&b""[..], HeaderValue::as_bytes);
    let (project, tag) = (header("x-weir-project"), header("if-match"));
    let request = [parts.method.as_str().as_bytes(), path.as_bytes(), project, tag, &body];
    match gateway.engine.claim(&principal, key, &request).await? {
        Turn::Yours(held) => Ok(Begun::Yours(held, body)),
        Turn::Answered { status, body } => Ok(Begun::Answered(again(status, body)?)),
    }
}

fn again(status: u16, body: Vec<u8>) -> Result<Response, Error> {
    let status = StatusCode::from_u16(status).map_err(Error::internal)?;
    let empty = body.is_empty();
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    if !empty {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    headers.insert("idempotent-replayed", HeaderValue::from_static("true"));
    Ok(response)
}

/// Keeps the answer, if it would be the same again.
async fn finish(gateway: &Gateway, held: Held, response: Response) -> Response {
    let status = response.status();
    if !is_final(status) {
        gateway.engine.settle(held, None).await;
        return response;
    }
    let (parts, body) = response.into_parts();
    match to_bytes(body, MAX_ANSWER).await {
        Ok(bytes) => {
            gateway.engine.settle(held, Some((status.as_u16(), &bytes))).await;
            Response::from_parts(parts, Body::from(bytes))
        }
        Err(error) => {
            gateway.engine.settle(held, None).await;
            let error = Error::internal(format!("an answer could not be kept: {error}"));
            Failure::new(error, weir_core::RequestId::new()).into_response()
        }
    }
}

/// Whether an answer is about the request. The others are about the moment: who asks, how often, how we are.
fn is_final(status: StatusCode) -> bool {
    let of_the_moment = matches!(
        status,
        StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN
            | StatusCode::REQUEST_TIMEOUT
            | StatusCode::TOO_MANY_REQUESTS
    );
    (status.is_success() || status.is_client_error()) && !of_the_moment
}
