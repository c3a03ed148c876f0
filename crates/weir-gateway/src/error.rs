//! The only place where an error becomes HTTP, a WebSocket close or JSON, and where a failure of ours is
//! logged.

use crate::metrics::told;
use crate::scene::{self, Scene};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};
use std::time::Duration;
use tracing::field;
use utoipa::ToSchema;
use weir_core::{Code, RequestId};
use weir_engine::Error;

/// The body of every error.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorBody {
    error: ErrorObject,
}

/// What went wrong.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorObject {
    /// One of the closed list in the documentation.
    #[schema(value_type = String, example = "INVALID_TOPIC")]
    code: Code,
    /// What is wrong, and the mend.
    message: String,
    /// The value, the limit, the field.
    #[schema(value_type = Object)]
    details: Value,
    /// Finds this request in the server's log.
    #[schema(value_type = String, example = "req_0190f5d2a6b07c3e8f4b1d2c3a495867")]
    request_id: RequestId,
}

/// The error as the JSON object that goes under `error`.
pub(crate) fn object(error: &Error, request: &RequestId) -> ErrorObject {
    told::note(error);
    let details = if error.details.is_null() { json!({}) } else { error.details.clone() };
    ErrorObject { code: error.code, message: error.message.clone(), details, request_id: request.clone() }
}

/// Logs what is our fault, once.
pub(crate) fn report(error: &Error, request: &RequestId) {
    report_at(&scene::current().unwrap_or_default(), error, request);
}

/// The same, of what is known to be of this scene.
pub(crate) fn report_at(scene: &Scene, error: &Error, request: &RequestId) {
    let Some(cause) = &error.internal else { return };
    let code = error.code;
    let (tenant, project, connection) = (scene.tenant(), scene.project(), scene.connection());
    let (tenant, project, connection) =
        (tenant.map(field::display), project.map(field::display), connection.map(field::display));
    if code == Code::Internal {
        tracing::error!(request_id = %request, %code, tenant, project, connection, cause, "request {request} failed: {cause}");
    } else {
        tracing::warn!(request_id = %request, %code, tenant, project, connection, cause, "request {request} refused: {cause}");
    }
}

/// An error on its way out of a handler.
#[derive(Debug)]
pub(crate) struct Failure {
    error: Error,
    request: RequestId,
}

impl Failure {
    pub(crate) const fn new(error: Error, request: RequestId) -> Self {
        Self { error, request }
    }
}

/// The headers that go with an error, by name.
pub(crate) fn headers(error: &Error) -> Vec<(HeaderName, String)> {
    let mut headers = Vec::new();
    let status = error.code.http_status();
    if let Some(wait) =
        error.retry_after.or_else(|| matches!(status, 429 | 503).then_some(Duration::from_secs(1)))
    {
        // Whole seconds, rounded up: coming back a moment early would be refused again.
        headers.push((header::RETRY_AFTER, wait.as_millis().div_ceil(1_000).max(1).to_string()));
    }
    if status == 401 {
        headers.push((header::WWW_AUTHENTICATE, "Bearer realm=\"weir\"".to_owned()));
    }
    headers
}

impl Failure {
    fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.error.code.http_status()).unwrap_or(StatusCode::BAD_REQUEST)
    }

    fn body(&self) -> ErrorBody {
        ErrorBody { error: object(&self.error, &self.request) }
    }

    /// The whole answer as HTTP/1.1, for a socket that hyper does not have.
    pub(crate) fn raw(&self) -> Vec<u8> {
        report(&self.error, &self.request);
        let body = serde_json::to_vec(&self.body()).unwrap_or_default();
        let mut head = format!(
            "HTTP/1.1 {}\r\nx-request-id: {}\r\nconnection: close\r\naccess-control-allow-origin: *\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n",
            self.status(),
            self.request,
            body.len()
        );
        for (name, value) in headers(&self.error) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        [head.as_bytes(), &body].concat()
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        report(&self.error, &self.request);
        let mut response = (self.status(), axum::Json(self.body())).into_response();
        for (name, value) in headers(&self.error) {
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}
