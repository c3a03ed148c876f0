//! Projects.

use super::connection::{self, Connection, Edge};
use super::enforced::Enforced;
use super::loaders::Loaders;
use super::scalars::{DateTime, Json};
use super::tenants::{Deleted, Tenant};
use super::viewer::{Viewer, id, tenant_or_own};
use async_graphql::{ComplexObject, Context, ID, InputObject, Object, Result, SimpleObject};
use weir_core::TenantId;
use weir_engine::admin::ProjectChange as Wanted;
use weir_engine::admin::permits::{ProjectsRead, ProjectsWrite};
use weir_engine::{Error, Page};

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
    /// Its own limits, narrower than its tenant's: `connections`, and `requests_per_second` on each node.
    limits: Json,
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
            limits: Json::of(&project.limits),
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

/// What to change about a project; what is absent stays.
#[derive(InputObject)]
pub(super) struct ProjectChangeInput {
    /// Another name.
    name: Option<String>,
    /// Limits of its own, in the place of all such before: an object with `connections` and `requests_per_second`, none above the
    /// tenant's.
    limits: Option<Json>,
}

/// A project after a change, and where the change holds.
#[derive(SimpleObject)]
pub(super) struct ProjectChange {
    /// The project as it is now.
    project: Project,
    /// Where it holds already; null when nothing had to be enforced.
    enforced: Option<Enforced>,
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
    let page = connection::page(first, after.as_deref())?;
    Ok(self::connection(viewer.gateway.engine.projects(&may, tenant, page).await?))
}

/// A page of projects, as a list has it.
pub(super) fn connection(page: Page<weir_engine::Project>) -> Connection<Project> {
    Connection::of(page, |project| Edge { cursor: project.id.to_string(), node: project.into() })
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

    /// Change a project's name or its own limits. Needs `projects:write`.
    async fn change_project(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The project.")] project_id: ID,
        #[graphql(desc = "What to change.")] input: ProjectChangeInput,
    ) -> Option<Result<ProjectChange>> {
        Some(change(Viewer::of(ctx), &project_id, input).await.map_err(Into::into))
    }

    /// Delete a project with its keys: whatever it has open on any node ends, and there is no way back. Needs
    /// `projects:write`.
    async fn delete_project(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The project.")] project_id: ID,
    ) -> Option<Result<Deleted>> {
        let delete = async {
            let viewer = Viewer::of(ctx);
            let may = viewer.may::<ProjectsWrite>().await?;
            let engine = &viewer.gateway.engine;
            let changed = engine.delete_project(&may, id("project_id", &project_id)?).await?;
            let enforced = engine.enforced(&changed.change).await.into();
            Ok(Deleted { id: project_id, name: changed.value.name, enforced })
        };
        Some(delete.await.map_err(|error: Error| error.into()))
    }
}

async fn create(viewer: &Viewer, tenant: Option<ID>, name: String) -> Result<Project, Error> {
    let may = viewer.may::<ProjectsWrite>().await?;
    let tenant = tenant_or_own(&may, tenant.as_ref().map(|tenant| tenant.as_str()))?;
    Ok(viewer.gateway.engine.create_project(&may, tenant, name).await?.into())
}

async fn change(viewer: &Viewer, project: &ID, input: ProjectChangeInput) -> Result<ProjectChange, Error> {
    let may = viewer.may::<ProjectsWrite>().await?;
    let limits = input.limits.map(|limits| {
        limits.read("limits", "an object with `connections` and `requests_per_second` and nothing else")
    });
    let wanted = Wanted { name: input.name, limits: limits.transpose()? };
    let engine = &viewer.gateway.engine;
    let (project, change) = engine.change_project(&may, id("project_id", project)?, wanted).await?;
    let enforced = match &change {
        Some(change) => Some(engine.enforced(change).await.into()),
        None => None,
    };
    Ok(ProjectChange { project: project.into(), enforced })
}
