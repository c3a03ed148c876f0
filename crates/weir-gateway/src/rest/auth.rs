//! `/v1/auth/…`: people sign in, stay signed in, and sign out.

use super::{Enforced, oidc};
use crate::credentials;
use crate::error::{ErrorBody, Failure};
use crate::extract::{self, Address, RawBody, charge, request_id, require_json};
use crate::middleware::RateHeaders;
use crate::state::Gateway;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, StatusCode, header};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::sync::Arc;
use utoipa::ToSchema;
use weir_core::{RequestId, Role, Secret, TenantId, UserId};
use weir_engine::people::{Me, Person, SignedIn};
use weir_engine::{Credentials, Error, Membership, User};

/// Somebody who signs in.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SignIn {
    /// The address.
    email: String,
    /// The password.
    password: String,
    /// For which tenant; not needed by who is a member of one only.
    #[schema(value_type = Option<String>)]
    tenant_id: Option<TenantId>,
}

/// A refresh token.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RefreshToken {
    /// `wrt_…`
    refresh_token: String,
}

/// Another password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangePassword {
    /// The one that holds.
    current: String,
    /// 12 to 256 characters.
    new: String,
}

/// An invitation to accept.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Accept {
    /// `wit_…`
    invitation: String,
    /// Somebody new sets it: 12 to 256 characters. A user proves with it to be the one who is invited.
    password: String,
}

/// A user.
#[derive(Serialize, ToSchema)]
pub(crate) struct UserBody {
    /// The id.
    #[schema(value_type = String, example = "usr_0190f5d2a6b07c3e8f4b1d2c3a495867")]
    id: UserId,
    /// The address.
    email: String,
    /// What the person is called.
    name: String,
    /// Whether this is platform staff.
    operator: bool,
}

impl From<User> for UserBody {
    fn from(user: User) -> Self {
        Self { id: user.id, email: user.email.to_string(), name: user.name, operator: user.operator }
    }
}

/// A tenant that one is a member of.
#[derive(Serialize, ToSchema)]
pub(crate) struct MembershipBody {
    /// The tenant.
    #[schema(value_type = String)]
    tenant_id: TenantId,
    /// Its name.
    name: String,
    /// The role there.
    #[schema(value_type = String)]
    role: Role,
}

impl From<Membership> for MembershipBody {
    fn from(membership: Membership) -> Self {
        Self { tenant_id: membership.tenant_id, name: membership.tenant_name, role: membership.role }
    }
}

/// Who one is.
#[derive(Serialize, ToSchema)]
pub(crate) struct MeBody {
    /// The user.
    user: UserBody,
    /// The tenant that one signed in for; none for the installation's operators.
    #[schema(value_type = Option<String>)]
    tenant_id: Option<TenantId>,
    /// The role there, at this moment.
    #[schema(value_type = String)]
    role: Role,
    /// All tenants that one is a member of.
    memberships: Vec<MembershipBody>,
}

impl From<Me> for MeBody {
    fn from(me: Me) -> Self {
        Self {
            user: me.user.into(),
            tenant_id: me.tenant,
            role: me.role,
            memberships: me.memberships.into_iter().map(MembershipBody::from).collect(),
        }
    }
}

/// Tokens, and who one is.
#[derive(Serialize, ToSchema)]
pub(crate) struct SignedInBody {
    /// For `Authorization: Bearer`.
    access_token: String,
    /// `Bearer`.
    token_type: &'static str,
    /// Seconds for which the access token is good.
    expires_in: u64,
    /// Good for one `POST /v1/auth/refresh`.
    refresh_token: String,
    #[serde(flatten)]
    me: MeBody,
    /// After a change of password: where what was issued before is refused already.
    #[serde(skip_serializing_if = "Option::is_none")]
    enforced: Option<Enforced>,
}

impl From<SignedIn> for SignedInBody {
    fn from(signed_in: SignedIn) -> Self {
        Self {
            access_token: signed_in.access_token.expose().to_owned(),
            token_type: "Bearer",
            expires_in: signed_in.expires_in.as_secs(),
            refresh_token: signed_in.refresh_token.expose().to_owned(),
            me: signed_in.me.into(),
            enforced: None,
        }
    }
}

/// Tokens are for nobody's cache.
pub(super) type Tokens = ([(HeaderName, &'static str); 1], Json<SignedInBody>);

pub(super) fn tokens(body: SignedInBody) -> Tokens {
    ([(header::CACHE_CONTROL, "no-store")], Json(body))
}

/// Which request, from where.
pub(crate) struct Asked {
    request: RequestId,
    pub(super) address: Address,
}

impl FromRequestParts<Arc<Gateway>> for Asked {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, gateway: &Arc<Gateway>) -> Result<Self, Infallible> {
        let address = Address::from_request_parts(parts, gateway).await?;
        Ok(Self { request: request_id(parts), address })
    }
}

impl Asked {
    pub(super) fn fail(&self, error: Error) -> Failure {
        Failure::new(error, self.request.clone())
    }

    pub(super) fn read<T: DeserializeOwned>(&self, body: &RawBody) -> Result<T, Failure> {
        let read = require_json(&body.headers).and_then(|()| extract::json(&body.bytes));
        read.map_err(|error| self.fail(error))
    }
}

/// Somebody who has signed in, with one unit of the rate taken.
pub(crate) struct SignedInPerson(Person);

impl FromRequestParts<Arc<Gateway>> for SignedInPerson {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, gateway: &Arc<Gateway>) -> Result<Self, Failure> {
        let person = person(parts, gateway).await;
        person.map(Self).map_err(|error| Failure::new(error, request_id(parts)))
    }
}

async fn person(parts: &Parts, gateway: &Gateway) -> Result<Person, Error> {
    let token = match credentials::from_headers(&parts.headers)?.ok_or_else(credentials::missing)? {
        Credentials::Token(token) | Credentials::TokenIn(token, _) => token,
        _ => return Err(not_a_person()),
    };
    let person = gateway.engine.person(&token).await?;
    charge(person.take(1), 1, parts.extensions.get::<RateHeaders>())?;
    Ok(person)
}

fn not_a_person() -> Error {
    Error::new(weir_core::Code::InvalidToken, "This is for people: send the access token of a sign-in.")
}

/// The routes below `/auth`.
pub(crate) fn routes() -> Router<Arc<Gateway>> {
    Router::new()
        .route("/login", post(sign_in))
        .route("/refresh", post(refresh))
        .route("/logout", post(sign_out))
        .route("/me", get(me))
        .route("/password", post(password))
        .route("/accept", post(accept))
        .route("/oidc/start", post(oidc::start))
        .route("/oidc/callback", post(oidc::callback))
}

/// Sign in.
///
/// An unknown address, a wrong password and a disabled user are answered alike. Who is a member of several tenants
/// and names none gets `INVALID_REQUEST` with the choice in `details.tenants`.
#[utoipa::path(post, path = "/v1/auth/login", tag = "auth", security(()), request_body = SignIn,
    responses((status = 200, body = SignedInBody), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 429, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn sign_in(
    State(gateway): State<Arc<Gateway>>,
    asked: Asked,
    body: RawBody,
) -> Result<Tokens, Failure> {
    let wish: SignIn = asked.read(&body)?;
    let password = Secret::new(wish.password);
    let signed_in = gateway.engine.sign_in(&wish.email, &password, wish.tenant_id, asked.address.0).await;
    Ok(tokens(signed_in.map_err(|error| asked.fail(error))?.into()))
}

/// Stay signed in.
///
/// A refresh token works once; used again it ends the whole sign-in, for one of two holders is a thief.
#[utoipa::path(post, path = "/v1/auth/refresh", tag = "auth", security(()), request_body = RefreshToken,
    responses((status = 200, body = SignedInBody), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 429, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn refresh(
    State(gateway): State<Arc<Gateway>>,
    asked: Asked,
    body: RawBody,
) -> Result<Tokens, Failure> {
    let wish: RefreshToken = asked.read(&body)?;
    let token = Secret::new(wish.refresh_token);
    let signed_in = gateway.engine.refresh_sign_in(&token, asked.address.0).await;
    Ok(tokens(signed_in.map_err(|error| asked.fail(error))?.into()))
}

/// Sign out.
///
/// Ends the refresh token and all that it was refreshed from. The access token ends by itself, within minutes.
#[utoipa::path(post, path = "/v1/auth/logout", tag = "auth", security(()), request_body = RefreshToken,
    responses((status = 204), (status = 400, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn sign_out(
    State(gateway): State<Arc<Gateway>>,
    asked: Asked,
    body: RawBody,
) -> Result<StatusCode, Failure> {
    let wish: RefreshToken = asked.read(&body)?;
    let signed_out = gateway.engine.sign_out(&Secret::new(wish.refresh_token)).await;
    signed_out.map_err(|error| asked.fail(error))?;
    Ok(StatusCode::NO_CONTENT)
}

/// Who am I?
#[utoipa::path(get, path = "/v1/auth/me", tag = "auth", security(("bearer" = [])),
    responses((status = 200, body = MeBody), (status = 401, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn me(
    State(gateway): State<Arc<Gateway>>,
    asked: Asked,
    SignedInPerson(person): SignedInPerson,
) -> Result<Json<MeBody>, Failure> {
    let me = gateway.engine.me(&person).await.map_err(|error| asked.fail(error))?;
    Ok(Json(me.into()))
}

/// Change the password.
///
/// Everything that was issued under the old one ends, on every node; the answer has new tokens.
#[utoipa::path(post, path = "/v1/auth/password", tag = "auth", security(("bearer" = [])), request_body = ChangePassword,
    responses((status = 200, body = SignedInBody), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 429, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn password(
    State(gateway): State<Arc<Gateway>>,
    asked: Asked,
    SignedInPerson(person): SignedInPerson,
    body: RawBody,
) -> Result<Tokens, Failure> {
    let wish: ChangePassword = asked.read(&body)?;
    let (current, new) = (Secret::new(wish.current), Secret::new(wish.new));
    let changed = gateway.engine.change_password(&person, &current, &new).await;
    let (signed_in, changes) = changed.map_err(|error| asked.fail(error))?;
    let mut body = SignedInBody::from(signed_in);
    // The last of the announcements: nodes act on them in their order.
    if let Some(change) = changes.last() {
        body.enforced = Some(gateway.engine.enforced(change).await.into());
    }
    Ok(tokens(body))
}

/// Accept an invitation.
///
/// Takes the seat that it keeps and signs in for it.
#[utoipa::path(post, path = "/v1/auth/accept", tag = "auth", security(()), request_body = Accept,
    responses((status = 200, body = SignedInBody), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 409, body = ErrorBody), (status = 429, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn accept(
    State(gateway): State<Arc<Gateway>>,
    asked: Asked,
    body: RawBody,
) -> Result<Tokens, Failure> {
    let wish: Accept = asked.read(&body)?;
    let (invitation, password) = (Secret::new(wish.invitation), Secret::new(wish.password));
    let signed_in = gateway.engine.accept_invitation(&invitation, &password, asked.address.0).await;
    Ok(tokens(signed_in.map_err(|error| asked.fail(error))?.into()))
}
