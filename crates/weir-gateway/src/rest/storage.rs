//! `/v1/admin/tenants/{id}/storage` and `/v1/billing/storage`: what is kept.

use crate::error::{ErrorBody, Failure};
use crate::query::Query;
use crate::rest::admin::list::{List, page};
use crate::rest::admin::{Admin, Id};
use crate::state::Gateway;
use axum::Json;
use axum::extract::{RawQuery, State};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;
use weir_core::{ProjectId, TenantId, Timestamp};
use weir_engine::admin::permits::{BillingRead, TenantRead};
use weir_engine::admin::{Storage, StorageReport};

/// Events that are kept, and the bounds that hold for them.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KeptBody {
    /// How many.
    events: u64,
    /// Their bytes: payload, id, topic, type and headers of each. What a log needs beside, and copies, are not counted.
    bytes: u64,
    /// When the oldest was accepted; null when nothing is kept, and for some seconds after the first event.
    #[schema(value_type = Option<String>, format = DateTime)]
    oldest_event_at: Option<Timestamp>,
    /// Seconds for which events are kept; 0 is as long as there is room.
    retention_seconds: u64,
    /// Bytes that are kept; 0 is as much as there is room.
    retention_bytes: u64,
}

impl From<Storage> for KeptBody {
    fn from(storage: Storage) -> Self {
        Self {
            events: storage.kept.events,
            bytes: storage.kept.bytes,
            oldest_event_at: storage.oldest_at,
            retention_seconds: storage.bound.seconds,
            retention_bytes: storage.bound.bytes,
        }
    }
}

/// What a project keeps.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProjectStorageBody {
    /// Which.
    #[schema(value_type = String)]
    project_id: ProjectId,
    #[serde(flatten)]
    kept: KeptBody,
}

/// What a tenant keeps, in all and by project.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StorageBody {
    /// Whose.
    #[schema(value_type = String)]
    tenant_id: TenantId,
    /// In all its projects together.
    total: KeptBody,
    /// By project.
    #[serde(flatten)]
    projects: List<ProjectStorageBody>,
}

impl From<StorageReport> for StorageBody {
    fn from(report: StorageReport) -> Self {
        let word = |(project_id, storage): (ProjectId, Storage)| ProjectStorageBody {
            project_id,
            kept: storage.into(),
        };
        Self {
            tenant_id: report.tenant,
            total: report.total.into(),
            projects: List::of(report.projects, |(project, _)| *project, word),
        }
    }
}

/// What a tenant stores.
///
/// As it was counted some seconds ago.
#[utoipa::path(get, path = "/v1/admin/tenants/{id}/storage", tag = "admin",
    extensions(("x-permission" = json!("tenant:read"))),
    params(("id" = String, Path, description = "The tenant"),
        ("limit" = Option<u32>, Query, description = "1 to 1000 projects, 100 when absent", minimum = 1, maximum = 1000),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before")),
    responses((status = 200, body = StorageBody), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn of_tenant(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<TenantRead>,
    Id(tenant): Id<TenantId>,
    RawQuery(query): RawQuery,
) -> Result<Json<StorageBody>, Failure> {
    let page = page(&Query::parse(query.as_deref())).map_err(|error| admin.fail(error))?;
    let report = gateway.engine.storage(&admin.0, tenant, page).await;
    Ok(Json(report.map_err(|error| admin.fail(error))?.into()))
}

/// What is stored.
///
/// As it was counted some seconds ago.
#[utoipa::path(get, path = "/v1/billing/storage", tag = "billing", extensions(("x-permission" = json!("billing:read"))),
    params(("tenant_id" = Option<String>, Query, description = "The tenant; your own when absent"),
        ("limit" = Option<u32>, Query, description = "1 to 1000 projects, 100 when absent", minimum = 1, maximum = 1000),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before")),
    responses((status = 200, body = StorageBody), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn of_billed(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<BillingRead>,
    RawQuery(query): RawQuery,
) -> Result<Json<StorageBody>, Failure> {
    let report = async {
        let query = Query::parse(query.as_deref());
        let tenant = query.parsed("tenant_id", "a tenant's id")?;
        let page = page(&query)?;
        let tenant = gateway.engine.tenant_or_own(&admin.0, tenant)?;
        gateway.engine.storage(&admin.0, tenant, page).await
    };
    Ok(Json(report.await.map_err(|error| admin.fail(error))?.into()))
}
