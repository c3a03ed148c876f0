//! `/v1/admin/tenants/{id}/projects` and `/v1/admin/projects/{id}`.

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
use utoipa::ToSchema;
use weir_core::{ProjectId, ProjectLimits, TenantId, Timestamp};
use weir_engine::Project;
use weir_engine::admin::ProjectChange;
use weir_engine::admin::permits::{ProjectsRead, ProjectsWrite};

/// A project.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProjectBody {
    /// Its id.
    #[schema(value_type = String, example = "prj_0190f5d2a6b07c3e8f4b1d2c3a495867")]
    id: ProjectId,
    /// Whose it is.
    #[schema(value_type = String)]
    tenant_id: TenantId,
    /// Its name.
    name: String,
    /// Its own limits, narrower than its tenant's: `connections`, `requests_per_second` on each node, `retention_seconds`,
    /// `retention_bytes`. With `connection_events_per_second` so many events about connections are written to
    /// `@weir.connection.…`.
    #[schema(value_type = Object)]
    limits: ProjectLimits,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

impl From<Project> for ProjectBody {
    fn from(project: Project) -> Self {
        Self {
            id: project.id,
            tenant_id: project.tenant_id,
            name: project.name,
            limits: project.limits,
            created_at: project.created_at,
        }
    }
}

/// A project to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateProject {
    /// 1 to 128 characters, unique in the tenant.
    name: String,
}

/// What to change about a project.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangeProject {
    /// Another name.
    name: Option<String>,
    /// Limits of its own, in the place of all such before: `connections`, `requests_per_second`, `retention_seconds`,
    /// `retention_bytes`, none above the tenant's, and `connection_events_per_second` (at most 1000).
    #[schema(value_type = Option<Object>)]
    limits: Option<ProjectLimits>,
}

/// A project after a change, and where the change holds.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChangedProject {
    #[serde(flatten)]
    project: ProjectBody,
    /// Where it holds already; absent when nothing had to be enforced.
    #[serde(skip_serializing_if = "Option::is_none")]
    enforced: Option<Enforced>,
}

/// A project that is no more.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeletedProject {
    /// Its id.
    #[schema(value_type = String)]
    id: ProjectId,
    /// The name that it had.
    name: String,
    /// True.
    deleted: bool,
    /// Where it holds already.
    enforced: Enforced,
}

/// List the projects of a tenant.
#[utoipa::path(get, path = "/v1/admin/tenants/{id}/projects", tag = "admin",
    extensions(("x-permission" = json!("projects:read"))),
    params(("id" = String, Path, description = "The tenant"),
        ("limit" = Option<u32>, Query, description = "1 to 1000, 100 when absent", minimum = 1, maximum = 1000),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before")),
    responses((status = 200, body = List<ProjectBody>), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn list(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<ProjectsRead>,
    Id(tenant): Id<TenantId>,
    RawQuery(query): RawQuery,
) -> Result<Json<List<ProjectBody>>, Failure> {
    let page = page(&Query::parse(query.as_deref())).map_err(|error| admin.fail(error))?;
    let projects = gateway.engine.projects(&admin.0, tenant, page).await;
    let projects = projects.map_err(|error| admin.fail(error))?;
    Ok(Json(List::of(projects, |project| project.id, ProjectBody::from)))
}

/// Create a project.
#[utoipa::path(post, path = "/v1/admin/tenants/{id}/projects", tag = "admin",
    extensions(("x-permission" = json!("projects:write"))),
    params(("id" = String, Path, description = "The tenant")), request_body = CreateProject,
    responses((status = 201, body = ProjectBody), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn create(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<ProjectsWrite>,
    Id(tenant): Id<TenantId>,
    body: RawBody,
) -> Result<(StatusCode, Json<ProjectBody>), Failure> {
    let CreateProject { name } = admin.read(&body)?;
    let project = gateway.engine.create_project(&admin.0, tenant, name).await;
    Ok((StatusCode::CREATED, Json(project.map_err(|error| admin.fail(error))?.into())))
}

/// Read a project.
#[utoipa::path(get, path = "/v1/admin/projects/{id}", tag = "admin", extensions(("x-permission" = json!("projects:read"))),
    params(("id" = String, Path, description = "The project")),
    responses((status = 200, body = ProjectBody), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn read(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<ProjectsRead>,
    Id(id): Id<ProjectId>,
) -> Result<Json<ProjectBody>, Failure> {
    let project = gateway.engine.project(&admin.0, id).await.map_err(|error| admin.fail(error))?;
    Ok(Json(project.into()))
}

/// Change a project.
///
/// Limits hold on live connections at once. A project is limited by its tenant's limits in any case: its own only narrow
/// them.
#[utoipa::path(patch, path = "/v1/admin/projects/{id}", tag = "admin", extensions(("x-permission" = json!("projects:write"))),
    params(("id" = String, Path, description = "The project")), request_body = ChangeProject,
    responses((status = 200, body = ChangedProject), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn change(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<ProjectsWrite>,
    Id(id): Id<ProjectId>,
    body: RawBody,
) -> Result<Json<ChangedProject>, Failure> {
    let ChangeProject { name, limits } = admin.read(&body)?;
    let changed = gateway.engine.change_project(&admin.0, id, ProjectChange { name, limits }).await;
    let (project, change) = changed.map_err(|error| admin.fail(error))?;
    let enforced = match change {
        Some(change) => Some(gateway.engine.enforced(&change).await.into()),
        None => None,
    };
    Ok(Json(ChangedProject { project: project.into(), enforced }))
}

/// Delete a project.
///
/// Its keys are revoked and whatever is open in it on any node ends. There is no way back.
#[utoipa::path(delete, path = "/v1/admin/projects/{id}", tag = "admin", extensions(("x-permission" = json!("projects:write"))),
    params(("id" = String, Path, description = "The project")),
    responses((status = 200, body = DeletedProject), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn remove(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<ProjectsWrite>,
    Id(id): Id<ProjectId>,
) -> Result<Json<DeletedProject>, Failure> {
    let changed = gateway.engine.delete_project(&admin.0, id).await.map_err(|error| admin.fail(error))?;
    let enforced = gateway.engine.enforced(&changed.change).await.into();
    Ok(Json(DeletedProject { id, name: changed.value.name, deleted: true, enforced }))
}
