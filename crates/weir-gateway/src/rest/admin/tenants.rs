//! `/v1/admin/tenants`.

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
use serde_json::{Map, Value, json};
use std::sync::Arc;
use utoipa::ToSchema;
use weir_core::{PlanName, TenantId, Timestamp};
use weir_engine::admin::permits::{TenantDelete, TenantRead, TenantWrite, TenantsManage};
use weir_engine::admin::{TenantChange, TenantWish};
use weir_engine::{Overrides, Tenant};

/// A tenant.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TenantBody {
    /// Its id.
    #[schema(value_type = String, example = "ten_0190f5d2a6b07c3e8f4b1d2c3a495867")]
    id: TenantId,
    /// Its name.
    name: String,
    /// `free`, `pro` or `enterprise`.
    #[schema(value_type = String)]
    plan: PlanName,
    /// The limits that hold: the plan's, with the overrides put on top.
    #[schema(value_type = Object)]
    limits: Value,
    /// The limits in which the tenant differs from its plan.
    #[schema(value_type = Object)]
    limit_overrides: Map<String, Value>,
    /// `active`, `trial`, `past_due` or `suspended`.
    status: &'static str,
    /// Why, for people.
    status_reason: Option<String>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

impl From<Tenant> for TenantBody {
    fn from(tenant: Tenant) -> Self {
        Self {
            id: tenant.id,
            name: tenant.name,
            plan: tenant.plan,
            limits: json!(tenant.limits),
            limit_overrides: tenant.overrides.fields().clone(),
            status: tenant.status.as_str(),
            status_reason: tenant.status_reason,
            created_at: tenant.created_at,
        }
    }
}

/// A tenant after a change, and where the change holds.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChangedTenant {
    #[serde(flatten)]
    tenant: TenantBody,
    /// Where it holds already; absent when nothing had to be enforced.
    #[serde(skip_serializing_if = "Option::is_none")]
    enforced: Option<Enforced>,
}

/// A tenant to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateTenant {
    /// 1 to 128 characters, unique in the installation.
    name: String,
    /// `free` (when absent), `pro` or `enterprise`.
    #[schema(value_type = Option<String>)]
    plan: Option<PlanName>,
    /// Limits that differ from the plan's, by name.
    #[serde(default)]
    #[schema(value_type = Object)]
    limits: Map<String, Value>,
    /// Whether it begins on trial.
    #[serde(default)]
    trial: bool,
}

/// What to change about a tenant.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangeTenant {
    /// Another name.
    name: Option<String>,
    /// Another plan; for operators.
    #[schema(value_type = Option<String>)]
    plan: Option<PlanName>,
    /// Limits that differ from the plan's, in the place of all such before; for operators.
    #[schema(value_type = Option<Object>)]
    limits: Option<Map<String, Value>>,
}

/// Why a tenant is suspended.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SuspendTenant {
    /// What its people read.
    reason: String,
}

/// List tenants.
///
/// Operators see all, everybody else their own.
#[utoipa::path(get, path = "/v1/admin/tenants", tag = "admin", extensions(("x-permission" = json!("tenant:read"))),
    params(("limit" = Option<u32>, Query, description = "1 to 1000, 100 when absent", minimum = 1, maximum = 1000),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before")),
    responses((status = 200, body = List<TenantBody>), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn list(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<TenantRead>,
    RawQuery(query): RawQuery,
) -> Result<Json<List<TenantBody>>, Failure> {
    let page = page(&Query::parse(query.as_deref())).map_err(|error| admin.fail(error))?;
    let tenants = gateway.engine.tenants(&admin.0, page).await.map_err(|error| admin.fail(error))?;
    Ok(Json(List::of(tenants, |tenant| tenant.id, TenantBody::from)))
}

/// Create a tenant.
#[utoipa::path(post, path = "/v1/admin/tenants", tag = "admin", extensions(("x-permission" = json!("tenants:manage"))),
    request_body = CreateTenant,
    responses((status = 201, body = TenantBody), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 409, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn create(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<TenantsManage>,
    body: RawBody,
) -> Result<(StatusCode, Json<TenantBody>), Failure> {
    let wish: CreateTenant = admin.read(&body)?;
    let wish = TenantWish {
        name: wish.name,
        plan: wish.plan.unwrap_or(PlanName::Free),
        overrides: Overrides::new(wish.limits).map_err(|error| admin.fail(error.into()))?,
        trial: wish.trial,
    };
    let tenant = gateway.engine.create_tenant(&admin.0, wish).await.map_err(|error| admin.fail(error))?;
    Ok((StatusCode::CREATED, Json(tenant.into())))
}

/// Read a tenant: its plan, its limits, how it stands.
#[utoipa::path(get, path = "/v1/admin/tenants/{id}", tag = "admin", extensions(("x-permission" = json!("tenant:read"))),
    params(("id" = String, Path, description = "The tenant")),
    responses((status = 200, body = TenantBody), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn read(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<TenantRead>,
    Id(id): Id<TenantId>,
) -> Result<Json<TenantBody>, Failure> {
    let tenant = gateway.engine.tenant(&admin.0, id).await.map_err(|error| admin.fail(error))?;
    Ok(Json(tenant.into()))
}

/// Change a tenant.
///
/// The name takes `tenant:write`; plan and limits take `tenants:manage` and hold on live connections at once.
#[utoipa::path(patch, path = "/v1/admin/tenants/{id}", tag = "admin", extensions(("x-permission" = json!("tenant:write"))),
    params(("id" = String, Path, description = "The tenant")), request_body = ChangeTenant,
    responses((status = 200, body = ChangedTenant), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn change(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<TenantWrite>,
    Id(id): Id<TenantId>,
    body: RawBody,
) -> Result<Json<ChangedTenant>, Failure> {
    let change: ChangeTenant = admin.read(&body)?;
    let changed = async {
        let overrides = change.limits.map(Overrides::new).transpose()?;
        let change = TenantChange { name: change.name, plan: change.plan, overrides };
        gateway.engine.change_tenant(&admin.0, id, change).await
    };
    let (tenant, change) = changed.await.map_err(|error| admin.fail(error))?;
    let enforced = match change {
        Some(change) => Some(gateway.engine.enforced(&change).await.into()),
        None => None,
    };
    Ok(Json(ChangedTenant { tenant: tenant.into(), enforced }))
}

/// A tenant that is no more.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeletedTenant {
    /// Its id.
    #[schema(value_type = String)]
    id: TenantId,
    /// The name that it had.
    name: String,
    /// True.
    deleted: bool,
    /// Where it holds already.
    enforced: Enforced,
}

/// Delete a tenant.
///
/// With its projects, keys, members and invitations: whatever it has open on any node ends, and its people are let in
/// no more. What it used is still billed, and its audit trail stays. There is no way back.
#[utoipa::path(delete, path = "/v1/admin/tenants/{id}", tag = "admin", extensions(("x-permission" = json!("tenant:delete"))),
    params(("id" = String, Path, description = "The tenant")),
    responses((status = 200, body = DeletedTenant), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn remove(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<TenantDelete>,
    Id(id): Id<TenantId>,
) -> Result<Json<DeletedTenant>, Failure> {
    let changed = gateway.engine.delete_tenant(&admin.0, id).await.map_err(|error| admin.fail(error))?;
    let enforced = gateway.engine.enforced(&changed.change).await.into();
    Ok(Json(DeletedTenant { id, name: changed.value.name, deleted: true, enforced }))
}

/// Suspend a tenant.
///
/// Whatever it has open on any node ends; its people can still look, and pay.
#[utoipa::path(post, path = "/v1/admin/tenants/{id}/suspend", tag = "admin", extensions(("x-permission" = json!("tenants:manage"))),
    params(("id" = String, Path, description = "The tenant")), request_body = SuspendTenant,
    responses((status = 200, body = ChangedTenant), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn suspend(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<TenantsManage>,
    Id(id): Id<TenantId>,
    body: RawBody,
) -> Result<Json<ChangedTenant>, Failure> {
    let SuspendTenant { reason } = admin.read(&body)?;
    let changed = gateway.engine.suspend_tenant(&admin.0, id, reason).await;
    let changed = changed.map_err(|error| admin.fail(error))?;
    let enforced = gateway.engine.enforced(&changed.change).await;
    Ok(Json(ChangedTenant { tenant: changed.value.into(), enforced: Some(enforced.into()) }))
}

/// End a tenant's suspension.
#[utoipa::path(post, path = "/v1/admin/tenants/{id}/resume", tag = "admin", extensions(("x-permission" = json!("tenants:manage"))),
    params(("id" = String, Path, description = "The tenant")),
    responses((status = 200, body = ChangedTenant), (status = 401, body = ErrorBody), (status = 403, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn resume(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<TenantsManage>,
    Id(id): Id<TenantId>,
) -> Result<Json<ChangedTenant>, Failure> {
    let changed = gateway.engine.resume_tenant(&admin.0, id).await.map_err(|error| admin.fail(error))?;
    let enforced = gateway.engine.enforced(&changed.change).await;
    Ok(Json(ChangedTenant { tenant: changed.value.into(), enforced: Some(enforced.into()) }))
}
