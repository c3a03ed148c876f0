//! The client: a call in, its answer or what is known of its effect out.

use super::error::{Error, Refusal};
use crate::{Outbound, Policy, Request, Response};
use form_urlencoded::Serializer;
use http::HeaderMap;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::time::Duration;
use weir_core::Secret;

/// Where Stripe is.
pub const API_BASE: &str = "https://api.stripe.com";
/// The version of the API whose answers are read here. Another one is a change of code: the fields move.
pub const VERSION: &str = "2026-10-28.endive";
/// Stripe answers most calls in under a second, and gives up itself after a minute or so.
const TIMEOUT: Duration = Duration::from_secs(20);
const ANSWER_BYTES: usize = 4 << 20;

/// Parameters of a call, by the names of Stripe's documentation.
pub(super) type Params<'a> = Vec<(&'a str, String)>;

/// Makes calls to Stripe with one account's secret key. Clones share connections.
#[derive(Clone)]
pub struct Stripe {
    http: Outbound,
    base: String,
    key: Secret,
}

impl Stripe {
    /// A client for the account of this secret or restricted key.
    ///
    /// # Errors
    /// When `base` is not a URL that can be called, or TLS cannot be set up.
    pub fn new(base: &str, key: Secret) -> Result<Self, crate::Error> {
        let http = Outbound::new(Policy::Trusted)?;
        http.check(base)?;
        Ok(Self { http, base: base.trim_end_matches('/').to_owned(), key })
    }

    /// Reads something.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str, params: Params<'_>) -> Result<T, Error> {
        let query = encode(&params);
        let separator = if query.is_empty() { "" } else { "?" };
        let url = format!("{}{path}{separator}{query}", self.base);
        self.send(Request::get(url)).await
    }

    /// Changes something, once for each `once`, which Stripe remembers for a day. `None` where the parameters have an
    /// identity of their own.
    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        params: Params<'_>,
        once: Option<&str>,
    ) -> Result<T, Error> {
        let request = Request::post(format!("{}{path}", self.base), encode(&params))
            .header("content-type", "application/x-www-form-urlencoded");
        self.send(match once {
            Some(key) => request.header("idempotency-key", key),
            None => request,
        })
        .await
    }

    async fn send<T: DeserializeOwned>(&self, request: Request) -> Result<T, Error> {
        let request = request
            .header("authorization", format!("Bearer {}", self.key.expose()))
            .header("stripe-version", VERSION)
            .timeout(TIMEOUT)
            .at_most(ANSWER_BYTES);
        match self.http.send(request).await {
            Ok(answer) if answer.status.is_success() => serde_json::from_slice(&answer.body)
                .map_err(|error| Error::Unknown(format!("the answer is not as documented: {error}"))),
            Ok(answer) => Err(refused(&answer)),
            // Also where nobody was reached: a call is lost as easily as its answer.
            Err(error) => Err(Error::Unknown(error.to_string())),
        }
    }
}

fn encode(params: &Params<'_>) -> String {
    Serializer::new(String::new()).extend_pairs(params).finish()
}

/// What a status says about the effect. 409 is another copy of the call at work; above 500 Stripe does not know itself.
fn refused(answer: &Response) -> Error {
    #[derive(Deserialize)]
    struct Body {
        error: Refusal,
    }
    let body = serde_json::from_slice::<Body>(&answer.body);
    let mut refusal = body.map(|body| body.error).unwrap_or_default();
    refusal.status = answer.status.as_u16();
    refusal.request_id = request_id(&answer.headers);
    match refusal.status {
        401 | 403 => Error::Unauthorized(refusal),
        429 => Error::Busy(refusal),
        409 | 500.. => Error::Unknown(refusal.to_string()),
        _ => Error::Refused(refusal),
    }
}

fn request_id(headers: &HeaderMap) -> Option<String> {
    Some(headers.get("request-id")?.to_str().ok()?.chars().take(64).collect())
}
