//! Projects.

use super::connection::{self, Connection, Edge};
use super::loaders::Loaders;
use super::scalars::DateTime;
use super::tenants::Tenant;
use super::viewer::{Viewer, tenant_or_own};
use async_graphql::{ComplexObject, Context, ID, Object, Result, SimpleObject};
use weir_core::TenantId;
use weir_engine::Error;
use weir_engine::admin::permits::{ProjectsRead, ProjectsWrite};

/// An isolated name space of topics, with one order of events.
#[derive(SimpleObject)]
#[graphql(complex, rename_fields = "snake_case")]
pub(super) struct Project {
    /// Its id, `prj_…`.
    id: ID,
    /// Whose it is.
    tenant_id: ID,
    /// Its name.
    name: String,
    /// When it was made.
    created_at: DateTime,
    #[graphql(skip)]
    owner: TenantId,
}

impl From<weir_engine::Project> for Project {
    fn from(project: weir_engine::Project) -> Self {
        Self {
            id: project.id.to_string().into(),
            tenant_id: project.tenant_id.to_string().into(),
            name: project.name,
            created_at: project.created_at.into(),
            owner: project.tenant_id,
        }
    }
}

#[ComplexObject]
impl Project {
    /// Whose it is. Needs `tenant:read`.
    async fn tenant(&self, ctx: &Context<'_>) -> Option<Result<Tenant>> {
        Some(Loaders::of(ctx).tenant(self.owner).await.map(Tenant::from).map_err(Into::into))
    }
}

#[derive(Default)]
pub(super) struct ProjectQuery;

#[Object(rename_args = "snake_case")]
impl ProjectQuery {
    /// The projects of a tenant, oldest first. Needs `projects:read`.
    #[graphql(complexity = "connection::cost(first, child_complexity)")]
    async fn projects(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The tenant; your own when absent.")] tenant_id: Option<ID>,
        #[graphql(desc = "How many at most: 1 to 1000, 20 when absent.")] first: Option<i32>,
        #[graphql(desc = "Read on after this cursor of the page before.")] after: Option<String>,
    ) -> Option<Result<Connection<Project>>> {
        Some(list(Viewer::of(ctx), tenant_id.as_ref(), first, after).await.map_err(Into::into))
    }
}

/// A page of a tenant's projects.
pub(super) async fn list(
    viewer: &Viewer,
    tenant: Option<&ID>,
    first: Option<i32>,
    after: Option<String>,
) -> Result<Connection<Project>, Error> {
    let may = viewer.may::<ProjectsRead>().await?;
    let tenant = tenant_or_own(&may, tenant.map(|tenant| tenant.as_str()))?;
    let page =
        viewer.gateway.engine.projects(&may, tenant, connection::page(first, after.as_deref())?).await?;
    let edge = |project: weir_engine::Project| Edge { cursor: project.id.to_string(), node: project.into() };
    Ok(Connection::of(page, edge))
}

#[derive(Default)]
pub(super) struct ProjectMutation;

#[Object(rename_args = "snake_case")]
impl ProjectMutation {
    /// Create a project. Needs `projects:write`.
    async fn create_project(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The tenant; your own when absent.")] tenant_id: Option<ID>,
        #[graphql(desc = "1 to 128 characters, unique in the tenant.")] name: String,
    ) -> Option<Result<Project>> {
        Some(create(Viewer::of(ctx), tenant_id, name).await.map_err(Into::into))
    }
}

async fn create(viewer: &Viewer, tenant: Option<ID>, name: String) -> Result<Project, Error> {
    let may = viewer.may::<ProjectsWrite>().await?;
    let tenant = tenant_or_own(&may, tenant.as_ref().map(|tenant| tenant.as_str()))?;
    Ok(viewer.gateway.engine.create_project(&may, tenant, name).await?.into())
}
