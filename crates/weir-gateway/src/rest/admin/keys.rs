//! `/v1/admin/keys`.

use super::list::{List, page};
use super::{Admin, Id};
use crate::error::{ErrorBody, Failure};
use crate::extract::RawBody;
use crate::query::Query;
use crate::rest::Enforced;
use crate::state::Gateway;
use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use utoipa::ToSchema;
use weir_core::{KeyId, ProjectId, Scopes, Timestamp};
use weir_engine::ApiKey;
use weir_engine::admin::KeyWish;
use weir_engine::admin::permits::{KeysRead, KeysWrite};

/// For how long a rotated key works on when nothing else is said.
const DEFAULT_GRACE: Duration = Duration::from_secs(24 * 3600);

/// An API key, without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KeyBody {
    /// Its id.
    #[schema(value_type = String, example = "key_0190f5d2a6b07c3e8f4b1d2c3a495867")]
    id: KeyId,
    /// The project that it works on.
    #[schema(value_type = String)]
    project_id: ProjectId,
    /// What its owner calls it.
    name: String,
    /// What it may do.
    #[schema(value_type = Vec<String>)]
    scopes: Scopes,
    /// Requests per second; 0 is unlimited.
    rate_limit_per_sec: u32,
    /// False once it is revoked.
    is_active: bool,
    /// From when on it is refused as expired.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    /// When it was revoked.
    #[schema(value_type = Option<String>, format = DateTime)]
    revoked_at: Option<Timestamp>,
    /// The key that took its place when it was rotated.
    #[schema(value_type = Option<String>)]
    replaced_by: Option<KeyId>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

impl From<ApiKey> for KeyBody {
    fn from(key: ApiKey) -> Self {
        Self {
            id: key.id,
            project_id: key.project_id,
            name: key.name,
            scopes: key.scopes,
            rate_limit_per_sec: key.rate_limit_per_sec,
            is_active: key.revoked_at.is_none(),
            expires_at: key.expires_at,
            revoked_at: key.revoked_at,
            replaced_by: key.replaced_by,
            created_at: key.created_at,
        }
    }
}

/// A new API key. Its secret is in this answer and nowhere else.
#[derive(Serialize, ToSchema)]
pub(crate) struct NewKeyBody {
    #[serde(flatten)]
    key: KeyBody,
    /// The key itself: goes into `Authorization: Bearer …` or `X-API-Key`.
    api_key: String,
    /// After a rotation: where the old key's end is known already.
    #[serde(skip_serializing_if = "Option::is_none")]
    enforced: Option<Enforced>,
}

/// A revoked key, and where it is refused already.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RevokedKeyBody {
    #[serde(flatten)]
    key: KeyBody,
    /// Where it holds already.
    enforced: Enforced,
}

/// An API key to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateKey {
    /// The project that it works on; an API key's own when absent.
    #[schema(value_type = Option<String>)]
    project_id: Option<ProjectId>,
    /// 1 to 128 characters.
    name: String,
    /// At least one of `events:publish events:subscribe admin:read admin:write billing:read`, none that you do not hold
    /// yourself.
    #[schema(value_type = Vec<String>)]
    scopes: Scopes,
    /// Requests per second; 0 (when absent) is unlimited.
    #[serde(default)]
    rate_limit_per_sec: u32,
    /// From when on it is refused.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
}

/// How to rotate a key.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RotateKey {
    /// For how long the old key goes on working: 0 to 604800 (7 days); 86400 when absent.
    grace_seconds: Option<u64>,
}

/// List API keys.
///
/// Those of one project, or of the whole tenant; revoked ones included.
#[utoipa::path(get, path = "/v1/admin/keys", tag = "admin", extensions(("x-permission" = json!("keys:read"))),
    params(("project_id" = Option<String>, Query, description = "Only this project's"),
        ("limit" = Option<u32>, Query, description = "1 to 1000, 100 when absent", minimum = 1, maximum = 1000),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before")),
    responses((status = 200, body = List<KeyBody>), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn list(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<KeysRead>,
    RawQuery(query): RawQuery,
) -> Result<Json<List<KeyBody>>, Failure> {
    let query = Query::parse(query.as_deref());
    let keys = async {
        let project = query.parsed("project_id", "a project id (`prj_…`)")?;
        gateway.engine.keys(&admin.0, project, page(&query)?).await
    };
    let keys = keys.await.map_err(|error| admin.fail(error))?;
    Ok(Json(List::of(keys, |key| key.id, KeyBody::from)))
}

/// Create an API key.
#[utoipa::path(post, path = "/v1/admin/keys", tag = "admin", extensions(("x-permission" = json!("keys:write"))),
    request_body = CreateKey,
    responses((status = 201, body = NewKeyBody), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn create(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<KeysWrite>,
    body: RawBody,
) -> Result<(StatusCode, Json<NewKeyBody>), Failure> {
    let wish: CreateKey = admin.read(&body)?;
    let project = wish.project_id.or(admin.0.principal().project);
    let project = project.ok_or_else(|| {
        admin.fail(crate::rest::invalid("project_id", "is needed: the project that the key works on"))
    })?;
    let wish = KeyWish {
        project,
        name: wish.name,
        scopes: wish.scopes,
        rate_limit_per_sec: wish.rate_limit_per_sec,
        expires_at: wish.expires_at,
    };
    let (key, text) = gateway.engine.create_key(&admin.0, wish).await.map_err(|error| admin.fail(error))?;
    let body = NewKeyBody { key: key.into(), api_key: text.expose().to_owned(), enforced: None };
    Ok((StatusCode::CREATED, Json(body)))
}

/// Read an API key.
#[utoipa::path(get, path = "/v1/admin/keys/{id}", tag = "admin", extensions(("x-permission" = json!("keys:read"))),
    params(("id" = String, Path, description = "The key")),
    responses((status = 200, body = KeyBody), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn read(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<KeysRead>,
    Id(id): Id<KeyId>,
) -> Result<Json<KeyBody>, Failure> {
    let key = gateway.engine.key(&admin.0, id).await.map_err(|error| admin.fail(error))?;
    Ok(Json(key.into()))
}

/// Rotate an API key.
///
/// A new key takes its place; the old one works on for the grace time.
#[utoipa::path(post, path = "/v1/admin/keys/{id}/rotate", tag = "admin", extensions(("x-permission" = json!("keys:write"))),
    params(("id" = String, Path, description = "The key")), request_body(content = Option<RotateKey>),
    responses((status = 201, body = NewKeyBody), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn rotate(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<KeysWrite>,
    Id(id): Id<KeyId>,
    body: RawBody,
) -> Result<(StatusCode, Json<NewKeyBody>), Failure> {
    let wish: RotateKey = if body.bytes.is_empty() { RotateKey::default() } else { admin.read(&body)? };
    let grace = wish.grace_seconds.map_or(DEFAULT_GRACE, Duration::from_secs);
    let rotated = gateway.engine.rotate_key(&admin.0, id, grace).await;
    let (changed, text) = rotated.map_err(|error| admin.fail(error))?;
    let enforced = gateway.engine.enforced(&changed.change).await;
    let body = NewKeyBody {
        key: changed.value.into(),
        api_key: text.expose().to_owned(),
        enforced: Some(enforced.into()),
    };
    Ok((StatusCode::CREATED, Json(body)))
}

/// Revoke an API key.
///
/// Whatever uses it ends: the answer says how many nodes have enforced it, and how many connections that closed.
#[utoipa::path(delete, path = "/v1/admin/keys/{id}", tag = "admin", extensions(("x-permission" = json!("keys:write"))),
    params(("id" = String, Path, description = "The key")),
    responses((status = 200, body = RevokedKeyBody), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn revoke(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<KeysWrite>,
    Id(id): Id<KeyId>,
) -> Result<Json<RevokedKeyBody>, Failure> {
    let changed = gateway.engine.revoke_key(&admin.0, id).await.map_err(|error| admin.fail(error))?;
    let enforced = gateway.engine.enforced(&changed.change).await.into();
    Ok(Json(RevokedKeyBody { key: changed.value.into(), enforced }))
}
