//! Extractors: who is calling (the signature of a handler is its permission) and bodies.

use crate::credentials;
use crate::error::Failure;
use crate::middleware::RateHeaders;
use crate::query::cut;
use crate::scene;
use crate::server::Peer;
use crate::state::Gateway;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use serde::Deserialize;
use serde_json::json;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use weir_core::{Code, RequestId};
use weir_engine::limits::Decision;
use weir_engine::{Caller, Error};

/// The request's id: the client's, where it gave a usable one, or ours.
pub(crate) fn request_id(parts: &Parts) -> RequestId {
    parts.extensions.get::<RequestId>().cloned().unwrap_or_default()
}

/// Any authenticated caller, with one unit of its rate taken. What it may do is the engine's to say.
pub(crate) struct Authenticated {
    /// Who.
    pub(crate) caller: Arc<Caller>,
    /// Which request.
    pub(crate) request: RequestId,
}

impl FromRequestParts<Arc<Gateway>> for Authenticated {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, gateway: &Arc<Gateway>) -> Result<Self, Failure> {
        let request = request_id(parts);
        let fail = |error| Failure::new(error, request.clone());
        let presented = credentials::from_headers(&parts.headers).map_err(fail)?;
        let presented = presented.ok_or_else(|| fail(credentials::missing()))?;
        let caller = gateway.engine.authenticate(presented).await.map_err(fail)?;
        take(&caller, 1, parts.extensions.get::<RateHeaders>()).map_err(fail)?;
        gateway.engine.count_request(caller.place.tenant, Some(caller.place.project));
        scene::identify(&caller);
        Ok(Self { caller, request })
    }
}

/// The address that a request comes from, as far as it is known.
pub(crate) struct Address(pub(crate) Option<IpAddr>);

impl FromRequestParts<Arc<Gateway>> for Address {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, gateway: &Arc<Gateway>) -> Result<Self, Infallible> {
        let named = |name: &String| {
            // The last address is the one that the proxy in front saw; those before are the client's own words.
            let value = parts.headers.get_all(name.as_str()).iter().next_back()?.to_str().ok()?;
            value.rsplit(',').next()?.trim().parse().ok()
        };
        let peer = || parts.extensions.get::<Peer>().map(|peer| peer.0);
        Ok(Self(gateway.settings.address_header.as_ref().and_then(named).or_else(peer)))
    }
}

impl Authenticated {
    pub(crate) fn fail(&self, error: Error) -> Failure {
        Failure::new(error, self.request.clone())
    }
}

/// Takes units of the caller's rate and notes what to tell it.
pub(crate) fn take(caller: &Caller, units: u32, headers: Option<&RateHeaders>) -> Result<(), Error> {
    charge(caller.take(units), units, headers)
}

/// Notes what a limiter said about `units`, and refuses what it refused.
pub(crate) fn charge(
    decision: Option<Decision>,
    units: u32,
    headers: Option<&RateHeaders>,
) -> Result<(), Error> {
    let Some(decision) = decision else { return Ok(()) };
    if let Some(headers) = headers {
        headers.note(decision);
    }
    if decision.allowed {
        return Ok(());
    }
    if units > decision.limit {
        return Err(Error::new(
            Code::InvalidRequest,
            format!("{units} units at once are more than the {} per second of this {} will ever allow: send less at once.", decision.limit, decision.whose),
        )
        .with(json!({ "limit": decision.limit, "requested": units, "what": format!("requests_per_second of the {}", decision.whose) })));
    }
    Err(Error::new(
        Code::RateLimitExceeded,
        format!("This {} may make {} requests per second.", decision.whose, decision.limit),
    )
    .with(json!({ "limit": decision.limit, "requested": units, "what": format!("requests_per_second of the {}", decision.whose) }))
    .after(decision.retry_after))
}

/// A request body within the limits of size and time.
pub(crate) struct RawBody {
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Bytes,
}

impl FromRequest<Arc<Gateway>> for RawBody {
    type Rejection = Failure;

    async fn from_request(request: Request, gateway: &Arc<Gateway>) -> Result<Self, Failure> {
        let (parts, body) = request.into_parts();
        let id = request_id(&parts);
        let bytes = read_body(body, gateway).await.map_err(|error| Failure::new(error, id))?;
        Ok(Self { headers: parts.headers, bytes })
    }
}

/// A whole body within the limits of size and time.
pub(crate) async fn read_body(body: Body, gateway: &Gateway) -> Result<Bytes, Error> {
    let limit = gateway.settings.body_bytes;
    let whole = axum::body::to_bytes(body, limit);
    match tokio::time::timeout(gateway.settings.body_timeout, whole).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if is_too_long(&error) => {
            Err(Error::new(Code::PayloadTooLarge, format!("The request body is larger than {limit} bytes."))
                .with(json!({ "limit_bytes": limit })))
        }
        Ok(Err(_)) => Err(Error::new(Code::InvalidRequest, "The request body ended before it was complete.")),
        Err(_) => Err(Error::new(
            Code::RequestTimeout,
            format!("The request body did not arrive within {:?}.", gateway.settings.body_timeout),
        )),
    }
}

fn is_too_long(error: &axum::Error) -> bool {
    use std::error::Error as _;
    let mut cause = error.source();
    while let Some(inner) = cause {
        if inner.to_string().contains("length limit") {
            return true;
        }
        cause = inner.source();
    }
    error.to_string().contains("length limit")
}

/// The media type of a body, lower case, without parameters.
pub(crate) fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    value.split(';').next().unwrap_or("").trim().to_ascii_lowercase()
}

/// Refuses any media type but JSON.
pub(crate) fn require_json(headers: &HeaderMap) -> Result<(), Error> {
    let kind = media_type(headers);
    // A batch of CloudEvents is JSON too, but not of the shape that is read here.
    let other = kind.starts_with("application/cloudevents");
    if kind == "application/json" || kind.starts_with("application/") && kind.ends_with("+json") && !other {
        return Ok(());
    }
    Err(Error::new(
        Code::UnsupportedMediaType,
        format!("The content type is `{}`; send `Content-Type: application/json`.", cut(&kind)),
    ))
}

/// Reads JSON of a known shape, saying what and where if it does not fit.
pub(crate) fn json<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|error| not_as_documented::<T>(bytes, &error))
}

fn not_as_documented<'a, T: Deserialize<'a>>(bytes: &'a [u8], error: &serde_json::Error) -> Error {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Error::new(
            Code::InvalidRequest,
            "The body is empty; send the JSON that is described at /docs.",
        );
    }
    let mut details = json!({ "line": error.line(), "column": error.column() });
    // Read once more to learn whose value it is: only who is refused pays for that.
    let mut again = serde_json::Deserializer::from_slice(bytes);
    let field =
        serde_path_to_error::deserialize::<_, T>(&mut again).err().map(|error| error.path().to_string());
    // A dot is the whole, a question mark a place without a name.
    let message = match field.filter(|field| field != "." && !field.contains('?')) {
        Some(field) => {
            let message = format!("The body is not as documented: `{}`: {error}.", cut(&field));
            details["field"] = field.into();
            message
        }
        None => format!("The body is not as documented: {error}."),
    };
    Error::new(Code::InvalidRequest, message).with(details)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[serde(rename = "inner")]
        _inner: Inner,
    }

    #[derive(Debug, serde::Deserialize)]
    struct Inner {
        #[serde(rename = "count")]
        _count: u32,
    }

    #[test]
    fn a_wrong_body_is_named_to_the_field() {
        for (body, field, said) in [
            (
                r#"{"inner": {"count": -1}}"#,
                Some("inner.count"),
                "`inner.count`: invalid value: integer `-1`",
            ),
            (r#"{"inner": {}}"#, Some("inner"), "`inner`: missing field `count`"),
            (r#"{"outer": 1}"#, Some("outer"), "unknown field `outer`"),
            ("{", None, "EOF while parsing"),
            (" \n", None, "The body is empty"),
        ] {
            let error = json::<Outer>(body.as_bytes()).expect_err(body);
            assert!(error.message.contains(said), "{body}: {}", error.message);
            assert_eq!(error.details["field"].as_str(), field, "{body}");
        }
    }
}
