//! `/v1/admin/tenants/{id}/projects` and `/v1/admin/projects/{id}`.

use super::list::{List, page};
use super::{Admin, Id};
use crate::error::{ErrorBody, Failure};
use crate::extract::RawBody;
use crate::query::Query;
use crate::state::Gateway;
use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;
use weir_core::{ProjectId, TenantId, Timestamp};
use weir_engine::Project;
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

/// List the projects of a tenant.
#[utoipa::path(get, path = "/v1/admin/tenants/{id}/projects", tag = "admin",
    extensions(("x-permission" = json!("projects:read"))),
    params(("id" = String, Path, description = "The tenant"),
        ("limit" = Option<u32>, Query, description = "1 to 1000, 100 when absent"),
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
