//! What happens around every request: an id, limits told in headers, and a measurement.

use crate::scene::{Head, Scene};
use crate::state::Gateway;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use weir_core::RequestId;
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
        let reset = decision.reset.as_millis().div_ceil(1_000);
        let pairs = [
            ("ratelimit-limit", u128::from(decision.limit)),
            ("ratelimit-remaining", u128::from(decision.remaining)),
            ("ratelimit-reset", reset),
        ];
        for (name, value) in pairs {
            if let Ok(value) = HeaderValue::from_str(&value.to_string()) {
                response.headers_mut().insert(HeaderName::from_static(name), value);
            }
        }
    }
}

/// Gives the request an id (the client's own, when it is usable) and answers with it.
pub(crate) async fn around(
    State(gateway): State<Arc<Gateway>>,
    mut request: Request,
    next: Next,
) -> Response {
    let begun = Instant::now();
    let id = incoming_id(&request).unwrap_or_default();
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let method = request.method().clone();
    let rate = RateHeaders::default();
    request.extensions_mut().insert(id.clone());
    request.extensions_mut().insert(rate.clone());
    let head = Head {
        method: &method,
        route: route.as_deref(),
        path: request.uri().path(),
        version: request.version(),
        headers: request.headers(),
        request: &id,
    };
    let scene = Scene::of_request(&gateway, &head);
    let mut response = scene.run(next.run(request)).await;
    scene.answered(response.status().as_u16());
    rate.write(&mut response);
    if let Ok(value) = HeaderValue::from_str(id.as_str()) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    let route = route.as_deref().unwrap_or("unmatched");
    gateway.engine.count_answer(response.status().is_server_error());
    gateway.metrics.request(route, &method, response.status().as_u16(), begun.elapsed());
    response
}

fn incoming_id(request: &Request) -> Option<RequestId> {
    RequestId::given(request.headers().get(REQUEST_ID)?.to_str().ok()?)
}
