//! The provider: what it publishes about itself, and what it gives for a code.

use super::Settings;
use super::flow::Flow;
use crate::Error;
use crate::access::{KeySet, KeySetTimes, Remote};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Mutex as TurnMutex;
use weir_core::{Code, Secret};
use weir_outbound::{Outbound, Policy, Request};

/// How long one request to the provider may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of its answers at most.
const ANSWER_BYTES: usize = 64 << 10;
/// How long its description is believed.
const KEEP: Duration = Duration::from_secs(3600);
/// When it is asked again after it could not be, while there is an old description.
const RETRY: Duration = Duration::from_secs(60);
/// How its key set is kept.
const KEY_SET: KeySetTimes = KeySetTimes {
    interval: Duration::from_secs(30),
    refresh: Duration::from_secs(300),
    keep: Duration::from_secs(24 * 3600),
};

/// What a provider publishes about itself (OpenID Connect Discovery 1.0), as far as it is needed.
#[derive(Deserialize)]
struct Description {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    code_challenge_methods_supported: Option<Vec<String>>,
}

impl Description {
    /// Whether the client's secret goes into the body, because a header is not taken.
    fn secret_in_body(&self) -> bool {
        self.token_endpoint_auth_methods_supported
            .as_ref()
            .is_some_and(|methods| !methods.iter().any(|method| method == "client_secret_basic"))
    }
}

struct Known {
    description: Description,
    keys: Arc<Remote>,
}

pub(super) struct Provider {
    pub(super) settings: Settings,
    outbound: Outbound,
    known: Mutex<Option<(Arc<Known>, Instant)>>,
    /// Whoever asks holds it; the others wait for what that brings.
    turn: TurnMutex<()>,
}

#[derive(Deserialize)]
struct Tokens {
    id_token: String,
}

impl Provider {
    pub(super) fn new(settings: Settings) -> Result<Self, Error> {
        // The operator chose the URL.
        let outbound = Outbound::new(Policy::Trusted).map_err(Error::internal)?;
        Ok(Self { settings, outbound, known: Mutex::default(), turn: TurnMutex::default() })
    }

    /// Where a browser goes to sign in.
    pub(super) async fn authorization_url(&self, flow: &Flow) -> Result<String, Error> {
        let known = self.known().await?;
        let endpoint = &known.description.authorization_endpoint;
        let parameters = form(&[
            ("response_type", "code"),
            ("client_id", &self.settings.client_id),
            ("redirect_uri", &self.settings.redirect_url),
            ("scope", "openid email profile"),
            ("state", &flow.state),
            ("nonce", &flow.nonce),
            ("code_challenge", &flow.challenge()),
            ("code_challenge_method", "S256"),
        ]);
        Ok(format!("{endpoint}{}{parameters}", if endpoint.contains('?') { '&' } else { '?' }))
    }

    /// The ID token for a code.
    ///
    /// # Errors
    /// `INVALID_TOKEN` when the provider refuses the code; `IDENTITY_PROVIDER_UNAVAILABLE`.
    pub(super) async fn redeem(&self, code: &str, flow: &Flow) -> Result<Secret, Error> {
        let known = self.known().await?;
        let Settings { client_id, client_secret, redirect_url, .. } = &self.settings;
        let mut parameters = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect_url),
            ("code_verifier", &flow.verifier),
        ];
        let mut authorization = None;
        match client_secret.as_ref().map(Secret::expose) {
            Some(secret) if known.description.secret_in_body() => {
                parameters.extend([("client_id", client_id.as_str()), ("client_secret", secret)]);
            }
            Some(secret) => {
                let pair = format!("{}:{}", encoded(client_id), encoded(secret));
                authorization = Some(format!("Basic {}", BASE64_STANDARD.encode(pair)));
            }
            None => parameters.push(("client_id", client_id)),
        }
        let mut request = Request::post(&*known.description.token_endpoint, form(&parameters))
            .header("content-type", "application/x-www-form-urlencoded")
            .header("accept", "application/json");
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        let answer = self.outbound.send(request.timeout(TIMEOUT).at_most(ANSWER_BYTES)).await;
        let answer = answer.map_err(|error| unavailable(&format!("no token came: {error}")))?;
        match answer.status.as_u16() {
            200 => {
                let tokens: Tokens = serde_json::from_slice(&answer.body)
                    .map_err(|_| unavailable("its answer holds no `id_token`"))?;
                Ok(Secret::new(tokens.id_token))
            }
            status @ (400 | 403) => {
                tracing::info!(status, "the identity provider refused a code");
                let message = "The identity provider does not take this `code`: begin again.";
                Err(Error::new(Code::InvalidToken, message))
            }
            // A wrong client secret is 401.
            status => Err(unavailable(&format!("it answered a code with status {status}"))),
        }
    }

    /// The keys that it signs with.
    pub(super) async fn keys(&self) -> Result<Arc<KeySet>, Error> {
        let known = self.known().await?;
        known.keys.fresh().await.ok_or_else(|| unavailable("its key set cannot be fetched"))
    }

    /// The same, fetched now if that is not too often.
    pub(super) async fn newer_keys(&self) -> Result<Arc<KeySet>, Error> {
        let known = self.known().await?;
        known.keys.look_again().await;
        known.keys.current().ok_or_else(|| unavailable("its key set cannot be fetched"))
    }

    async fn known(&self) -> Result<Arc<Known>, Error> {
        if let Some(known) = self.believed() {
            return Ok(known);
        }
        let _turn = self.turn.lock().await;
        if let Some(known) = self.believed() {
            return Ok(known);
        }
        let old = self.slot().as_ref().map(|(known, _)| Arc::clone(known));
        let (known, until) = match (self.look(old.as_deref()).await, old) {
            (Ok(new), _) => (Arc::new(new), Instant::now() + KEEP),
            (Err(cause), Some(old)) => {
                tracing::warn!(cause, "the identity provider's description cannot be read again: {cause}");
                (old, Instant::now() + RETRY)
            }
            (Err(cause), None) => return Err(unavailable(&cause)),
        };
        *self.slot() = Some((Arc::clone(&known), until));
        Ok(known)
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<(Arc<Known>, Instant)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn believed(&self) -> Option<Arc<Known>> {
        self.slot().as_ref().filter(|(_, until)| *until > Instant::now()).map(|(known, _)| Arc::clone(known))
    }

    async fn look(&self, old: Option<&Known>) -> Result<Known, String> {
        let issuer = self.settings.issuer.as_str();
        let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let request = Request::get(url).header("accept", "application/json");
        let answer = self.outbound.send(request.timeout(TIMEOUT).at_most(ANSWER_BYTES)).await;
        let answer = answer.map_err(|error| format!("its description cannot be read: {error}"))?;
        if answer.status != 200 {
            return Err(format!("its description is answered with status {}", answer.status.as_u16()));
        }
        let description: Description = serde_json::from_slice(&answer.body)
            .map_err(|error| format!("its description is not one of OpenID Connect: {error}"))?;
        if description.issuer != issuer {
            return Err(format!(
                "it calls itself `{}`: set oidc.issuer to exactly that",
                description.issuer.chars().take(200).collect::<String>()
            ));
        }
        let methods = description.code_challenge_methods_supported.as_deref();
        if methods.is_some_and(|methods| !methods.iter().any(|method| method == "S256")) {
            return Err("it does not do PKCE with S256".into());
        }
        let keys = match old {
            Some(old) if old.description.jwks_uri == description.jwks_uri => Arc::clone(&old.keys),
            _ => Remote::of_provider(self.outbound.clone(), KEY_SET, &description.jwks_uri),
        };
        Ok(Known { description, keys })
    }
}

/// What went wrong is the operator's to know; people are told to come back.
fn unavailable(cause: &str) -> Error {
    tracing::warn!(cause, "the identity provider cannot be used: {cause}");
    let message = "The identity provider cannot be reached, or not used as it is: the server's log says why.";
    Error::new(Code::IdentityProviderUnavailable, message).after(TIMEOUT)
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

fn form(parameters: &[(&str, &str)]) -> String {
    let pairs: Vec<_> = parameters.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
    pairs.join("&")
}
