//! What goes back: results and errors as GraphQL words them, with Weir's codes.

use super::scalars::millis;
use crate::error::report;
use crate::metrics::told;
use async_graphql::{ErrorExtensionValues, Response, ServerError, Value};
use serde::Serialize;
use serde_json::json;
use std::sync::Arc;
use weir_core::{Code, RequestId};
use weir_engine::Error;

/// Errors of one answer at most: a text can be wrong in more ways than anybody reads.
const ERRORS: usize = 10;

/// An error of ours on its way through the executor.
pub(super) fn server_error(error: &Error) -> ServerError {
    ServerError { source: Some(Arc::new(error.clone())), ..ServerError::new(error.message.clone(), None) }
}

/// A result that is complete: every error has its code and the request's id.
#[derive(Serialize)]
pub(super) struct Answer {
    /// Absent when nothing was executed.
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<ServerError>,
    #[serde(skip)]
    code: Option<Code>,
}

impl Answer {
    /// Of what the executor made of an operation.
    pub(super) fn of(response: Response, request: &RequestId) -> Self {
        // An error that has a path came from a field; without one the operation was refused as a whole.
        let executed = response.errors.iter().all(|error| !error.path.is_empty());
        let mut answer = Self::refused(response.errors, request);
        if executed {
            answer.data = Some(response.data);
        }
        answer
    }

    /// Of an operation that was not executed.
    pub(super) fn refused(errors: impl Into<Vec<ServerError>>, request: &RequestId) -> Self {
        let mut errors: Vec<ServerError> = errors.into();
        errors.truncate(ERRORS);
        let codes: Vec<Code> = errors.iter_mut().map(|error| complete(error, request)).collect();
        Self { data: None, errors, code: codes.first().copied() }
    }

    /// Of one error of ours.
    pub(super) fn failure(error: &Error, request: &RequestId) -> Self {
        Self::refused(server_error(error), request)
    }

    /// Whether fields were resolved, with or without errors.
    pub(super) const fn executed(&self) -> bool {
        self.data.is_some()
    }

    /// The first thing that went wrong.
    pub(super) const fn problem(&self) -> Option<Code> {
        self.code
    }

    /// Why it was refused.
    pub(super) fn code(&self) -> Code {
        self.code.unwrap_or(Code::Internal)
    }

    /// The errors alone.
    pub(super) fn errors(&self) -> &[ServerError] {
        &self.errors
    }

    /// The answer's text.
    pub(super) fn text(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// Words an error of ours, and gives the executor's own a code.
fn complete(error: &mut ServerError, request: &RequestId) -> Code {
    let known = error.source::<Error>().cloned();
    let ours = known.unwrap_or_else(|| Error::new(Code::InvalidRequest, std::mem::take(&mut error.message)));
    report(&ours, request);
    told::note(&ours);
    let mut extensions = ErrorExtensionValues::default();
    extensions.set("code", ours.code.as_str());
    extensions.set("request_id", request.as_str());
    let details = if ours.details.is_null() { json!({}) } else { ours.details };
    extensions.set("details", Value::from_json(details).unwrap_or_default());
    extensions.set("retryable", ours.code.retryable());
    if let Some(wait) = ours.retry_after {
        extensions.set("retry_after_ms", millis(wait));
    }
    error.message = ours.message;
    error.extensions = Some(extensions);
    error.source = None;
    ours.code
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_graphql::{EmptyMutation, EmptySubscription, Object, Schema};
    use std::time::Duration;

    struct Query;

    #[Object]
    impl Query {
        async fn refused(&self) -> async_graphql::Result<Option<i32>> {
            let error = Error::new(Code::RateLimitExceeded, "Slower.").with(json!({"limit": 1}));
            Err(error.after(Duration::from_millis(1500)).into())
        }
    }

    #[tokio::test]
    async fn errors_carry_codes() {
        let schema = Schema::new(Query, EmptyMutation, EmptySubscription);
        let request = RequestId::new();
        let answer = |response| {
            let answer = Answer::of(response, &request);
            (answer.executed(), serde_json::from_slice::<serde_json::Value>(&answer.text()).expect("json"))
        };
        let (executed, body) = answer(schema.execute("{ refused }").await);
        assert!(executed);
        let error = &body["errors"][0];
        assert_eq!(error["message"], "Slower.");
        assert_eq!(error["path"], json!(["refused"]));
        let expected = json!({"code": "RATE_LIMIT_EXCEEDED", "request_id": request.as_str(), "details": {"limit": 1},
            "retryable": true, "retry_after_ms": 1500});
        assert_eq!(error["extensions"], expected);
        let (executed, body) = answer(schema.execute("{ nothing }").await);
        assert!(!executed && body.get("data").is_none());
        assert_eq!(body["errors"][0]["extensions"]["code"], "INVALID_REQUEST");
    }
}
