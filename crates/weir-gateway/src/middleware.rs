//! What happens around every request: an id, limits told in headers, and a measurement.

use crate::cors;
use crate::error::Failure;
use crate::scene::{Head, Scene};
use crate::state::Gateway;
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderName, HeaderValue, Method};
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use futures::future::BoxFuture;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;
use tower::{Layer, Service};
use weir_core::RequestId;
use weir_engine::Error;
use weir_engine::limits::Decision;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The newest word of the rate limiter about this request, for the answer's headers.
#[derive(Clone, Default)]
pub(crate) struct RateHeaders(Arc<Mutex<Option<Decision>>>);

impl RateHeaders {
    pub(crate) fn note(&self, decision: Decision) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(decision);
    }

    fn write(&self, response: &mut Response) {
        let Some(decision) = *self.0.lock().unwrap_or_else(PoisonError::into_inner) else { return };
        let reset = u64::try_from(decision.reset.as_millis().div_ceil(1_000)).unwrap_or(u64::MAX);
        let pairs = [
            ("ratelimit-limit", u64::from(decision.limit)),
            ("ratelimit-remaining", u64::from(decision.remaining)),
            ("ratelimit-reset", reset),
        ];
        for (name, value) in pairs {
            response.headers_mut().insert(HeaderName::from_static(name), value.into());
        }
    }
}

/// Puts what follows around a service: see [`Around`].
#[derive(Clone)]
pub(crate) struct AroundLayer(pub(crate) Arc<Gateway>);

impl<S> Layer<S> for AroundLayer {
    type Service = Around<S>;

    fn layer(&self, inner: S) -> Around<S> {
        Around { gateway: Arc::clone(&self.0), inner }
    }
}

/// Gives the request an id (the client's own, when it is usable) and answers with it; a handler that panics answers too.
/// A service rather than axum's function: that one allocates three times more for each request.
#[derive(Clone)]
pub(crate) struct Around<S> {
    gateway: Arc<Gateway>,
    inner: S,
}

impl<S> Service<Request> for Around<S>
where
    S: Service<Request, Error = Infallible>,
    S::Response: IntoResponse,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let begun = Instant::now();
        let gateway = Arc::clone(&self.gateway);
        let id = incoming_id(&request).unwrap_or_default();
        let route = request.extensions().get::<MatchedPath>().cloned();
        let method = request.method().clone();
        let rate = RateHeaders::default();
        request.extensions_mut().insert(id.clone());
        request.extensions_mut().insert(rate.clone());
        let head = Head {
            method: &method,
            route: route.as_ref().map(MatchedPath::as_str),
            path: request.uri().path(),
            version: request.version(),
            headers: request.headers(),
            request: &id,
        };
        let scene = Scene::of_request(&gateway, &head);
        let answer = (method != Method::OPTIONS).then(|| self.inner.call(request));
        Box::pin(async move {
            let mut response = match answer {
                None => cors::preflight(),
                // Within the scene also when it panics: the line that is logged of it says whose request it was.
                Some(answer) => scene.run(caught(answer, &id)).await,
            };
            cors::open(response.headers_mut());
            scene.answered(response.status().as_u16());
            rate.write(&mut response);
            if let Ok(value) = HeaderValue::from_str(id.as_str()) {
                response.headers_mut().insert(REQUEST_ID, value);
            }
            let route = route.as_ref().map_or("unmatched", MatchedPath::as_str);
            gateway.engine.count_answer(response.status().is_server_error());
            gateway.metrics.request(route, &method, response.status().as_u16(), begun.elapsed());
            Ok(response)
        })
    }
}

async fn caught<R: IntoResponse>(
    answer: impl Future<Output = Result<R, Infallible>>,
    request: &RequestId,
) -> Response {
    let Ok(Ok(answer)) = AssertUnwindSafe(answer).catch_unwind().await else {
        let error = Error::internal("a handler panicked; the panic's own line has the place");
        return Failure::new(error, request.clone()).into_response();
    };
    answer.into_response()
}

fn incoming_id(request: &Request) -> Option<RequestId> {
    RequestId::given(request.headers().get(REQUEST_ID)?.to_str().ok()?)
}

#[cfg(test)]
#[path = "middleware_tests.rs"]
mod tests;
