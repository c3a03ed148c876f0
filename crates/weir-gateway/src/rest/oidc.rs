//! `/v1/auth/oidc/…`: people sign in at the installation's OpenID provider.

use super::auth::{Asked, SignedInBody, Tokens, tokens};
use crate::error::{ErrorBody, Failure};
use crate::extract::RawBody;
use crate::state::Gateway;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderName, header};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;
use weir_core::{Secret, TenantId};
use weir_engine::people::Returned;

/// A sign-in that has begun.
#[derive(Serialize, ToSchema)]
pub(crate) struct StartedBody {
    /// Where the browser goes next.
    authorization_url: String,
    /// What the browser keeps to itself until it comes back: it proves that it is the one which went.
    flow: String,
    /// Seconds in which it has to come back.
    expires_in: u64,
}

/// What the browser comes back with.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Callback {
    /// As the answer to the beginning said.
    flow: String,
    /// From the URL to which the provider sent the browser.
    state: String,
    /// From the same URL.
    code: String,
    /// For which tenant; not needed by who is a member of one only.
    #[schema(value_type = Option<String>)]
    tenant_id: Option<TenantId>,
    /// An invitation to accept: `wit_…`.
    invitation: Option<String>,
}

/// Begin to sign in at the identity provider.
///
/// Send the browser to `authorization_url` and keep `flow` in it. The provider sends it back to the page that
/// `oidc.redirect_url` names, which ends the sign-in with what is in its URL. `NOT_FOUND` where no provider is configured.
#[utoipa::path(post, path = "/v1/auth/oidc/start", tag = "auth", security(()),
    responses((status = 200, body = StartedBody), (status = 404, body = ErrorBody), (status = 429, body = ErrorBody),
        (status = 503, body = ErrorBody)))]
pub(crate) async fn start(
    State(gateway): State<Arc<Gateway>>,
    asked: Asked,
) -> Result<([(HeaderName, &'static str); 1], Json<StartedBody>), Failure> {
    let started = gateway.engine.start_oidc(asked.address.0).await.map_err(|error| asked.fail(error))?;
    let body = StartedBody {
        authorization_url: started.authorization_url,
        flow: started.flow.expose().to_owned(),
        expires_in: started.expires_in.as_secs(),
    };
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(body)))
}

/// Sign in as whom the identity provider says.
///
/// That is the user with this identity at the provider, or with an e-mail address that the provider has verified; with
/// an invitation to such an address also somebody new, who needs no password.
#[utoipa::path(post, path = "/v1/auth/oidc/callback", tag = "auth", security(()), request_body = Callback,
    responses((status = 200, body = SignedInBody), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody),
        (status = 429, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn callback(
    State(gateway): State<Arc<Gateway>>,
    asked: Asked,
    body: RawBody,
) -> Result<Tokens, Failure> {
    let wish: Callback = asked.read(&body)?;
    let [flow, state, code] = [wish.flow, wish.state, wish.code].map(Secret::new);
    let returned = Returned { flow, state, code };
    let invitation = wish.invitation.map(Secret::new);
    let address = asked.address.0;
    let signed_in = gateway.engine.finish_oidc(&returned, wish.tenant_id, invitation.as_ref(), address).await;
    Ok(tokens(signed_in.map_err(|error| asked.fail(error))?.into()))
}
