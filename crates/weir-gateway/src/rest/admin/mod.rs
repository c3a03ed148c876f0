//! `/v1/admin/…`: who may is said by each handler's [`Admin`]; what happens is the engine's.

pub(crate) mod alerts;
pub(crate) mod audit;
pub(crate) mod connections;
pub(crate) mod dead_letters;
pub(crate) mod keys;
pub(crate) mod list;
pub(crate) mod members;
pub(crate) mod projects;
pub(crate) mod signing_keys;
pub(crate) mod tenants;
pub(crate) mod webhooks;

use crate::credentials;
use crate::error::Failure;
use crate::extract::{self, RawBody, charge, request_id, require_json};
use crate::middleware::RateHeaders;
use crate::query::cut;
use crate::rest::{invalid, storage};
use crate::scene;
use crate::state::Gateway;
use axum::Router;
use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use axum::routing::{delete, get, patch, post};
use serde::de::DeserializeOwned;
use std::str::FromStr;
use std::sync::Arc;
use weir_engine::admin::{Held, May, Permit};
use weir_engine::{Error, Principal, Reach};

/// Somebody who holds the permission `P`, with one unit of its rate taken: the signature of a handler is its
/// permission.
pub(crate) struct Admin<P>(pub(crate) May<P>);

impl<P: Permit> FromRequestParts<Arc<Gateway>> for Admin<P> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, gateway: &Arc<Gateway>) -> Result<Self, Failure> {
        let request = request_id(parts);
        let fail = |error| Failure::new(error, request.clone());
        let held = parts.extensions.get::<Held>().copied();
        let principal = match held {
            // Who came under an idempotency key has paid.
            Some(_) => authenticate(parts, gateway).await,
            None => principal(parts, gateway).await,
        };
        let principal = principal.map_err(fail)?;
        May::check(principal, request.clone()).map(|may| Self(may.under(held))).map_err(fail)
    }
}

async fn authenticate(parts: &Parts, gateway: &Gateway) -> Result<Arc<Principal>, Error> {
    let presented = credentials::from_headers(&parts.headers)?.ok_or_else(credentials::missing)?;
    gateway.engine.principal(presented).await
}

/// Who wants to administer, with one unit of its rate taken.
pub(crate) async fn principal(parts: &Parts, gateway: &Gateway) -> Result<Arc<Principal>, Error> {
    let principal = authenticate(parts, gateway).await?;
    charge(principal.take(1), 1, parts.extensions.get::<RateHeaders>())?;
    if let Reach::Tenant(tenant) = principal.reach {
        gateway.engine.count_request(tenant, principal.project);
        scene::identify_tenant(tenant, principal.project);
    }
    Ok(principal)
}

impl<P: Permit> Admin<P> {
    pub(crate) fn fail(&self, error: Error) -> Failure {
        Failure::new(error, self.0.request().clone())
    }

    /// The body as JSON of a known shape.
    pub(crate) fn read<T: DeserializeOwned>(&self, body: &RawBody) -> Result<T, Failure> {
        let read = require_json(&body.headers).and_then(|()| extract::json(&body.bytes));
        read.map_err(|error| self.fail(error))
    }
}

/// The one id in the path.
pub(crate) struct Id<T>(pub(crate) T);

impl<T: FromStr<Err: std::fmt::Display>> FromRequestParts<Arc<Gateway>> for Id<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, gateway: &Arc<Gateway>) -> Result<Self, Failure> {
        let request = request_id(parts);
        let fail = |error| Failure::new(error, request.clone());
        let text = Path::<String>::from_request_parts(parts, gateway).await;
        let Path(text) = text.map_err(|_| fail(invalid("id", "cannot be read from the path")))?;
        text.parse().map(Self).map_err(|error: T::Err| fail(invalid("id", &cut(&error.to_string()))))
    }
}

/// The routes below `/admin`.
pub(crate) fn routes() -> Router<Arc<Gateway>> {
    Router::new()
        .route("/tenants", get(tenants::list).post(tenants::create))
        .route("/tenants/{id}", get(tenants::read).patch(tenants::change).delete(tenants::remove))
        .route("/tenants/{id}/suspend", post(tenants::suspend))
        .route("/tenants/{id}/resume", post(tenants::resume))
        .route("/tenants/{id}/projects", get(projects::list).post(projects::create))
        .route("/tenants/{id}/storage", get(storage::of_tenant))
        .route("/tenants/{id}/members", get(members::list).post(members::invite))
        .route("/tenants/{id}/members/{user}", patch(members::change).merge(delete(members::remove)))
        .route("/tenants/{id}/invitations", get(members::invitations))
        .route("/tenants/{id}/invitations/{invitation}", delete(members::withdraw))
        .route("/projects/{id}", get(projects::read).patch(projects::change).delete(projects::remove))
        .route("/alerts", get(alerts::list))
        .route("/alerts/{id}/acknowledge", post(alerts::acknowledge))
        .route("/audit", get(audit::list))
        .route("/audit/verify", get(audit::verify))
        .route("/audit/export", get(audit::export))
        .route("/connections", get(connections::list))
        .route("/connections/{id}", delete(connections::end))
        .route("/keys", get(keys::list).post(keys::create))
        .route("/keys/{id}", get(keys::read).merge(delete(keys::revoke)))
        .route("/keys/{id}/rotate", post(keys::rotate))
        .route("/webhooks", get(webhooks::list).post(webhooks::create))
        .route("/webhooks/{id}", get(webhooks::read).patch(webhooks::change).delete(webhooks::remove))
        .route("/webhooks/{id}/rotate", post(webhooks::rotate))
        .route("/webhooks/{id}/test", post(webhooks::test))
        .route("/webhooks/{id}/enable", post(webhooks::enable))
        .route("/webhooks/{id}/disable", post(webhooks::disable))
        .route("/webhooks/{id}/replay", post(webhooks::replay))
        .route("/webhooks/{id}/attempts", get(webhooks::attempts))
        .route("/dead-letters", get(dead_letters::list))
        .route("/dead-letters/redrive", post(dead_letters::redrive_all))
        .route("/dead-letters/{id}", get(dead_letters::read).merge(delete(dead_letters::remove)))
        .route("/dead-letters/{id}/redrive", post(dead_letters::redrive))
        .route("/signing-keys", get(signing_keys::list).post(signing_keys::create))
        .route("/signing-keys/{id}", delete(signing_keys::revoke))
}
