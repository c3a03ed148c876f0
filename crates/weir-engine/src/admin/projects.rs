//! Projects of a tenant.

use super::permits::{ProjectsRead, ProjectsWrite};
use super::{May, plan};
use crate::{Engine, Error};
use serde_json::json;
use weir_core::{Code, ProjectId, ProjectLimits, TenantId};
use weir_store::{AccessChange, After, Changed, Page, Project};

/// Events about connections that a project may have, a second on each node.
const MAX_CONNECTION_EVENTS: u32 = 1_000;

/// What to change about a project; `None` stays as it is.
#[derive(Clone, Debug, Default)]
pub struct ProjectChange {
    /// Another name.
    pub name: Option<String>,
    /// Other limits, in the place of all those before.
    pub limits: Option<ProjectLimits>,
}

impl Engine {
    /// The first projects of several tenants, in one look: a page for each tenant, in their order, an empty one for those out
    /// of reach.
    ///
    /// # Errors
    /// `DATABASE_UNAVAILABLE`.
    pub async fn first_projects(
        &self,
        may: &May<ProjectsRead>,
        tenants: &[TenantId],
        each: u32,
    ) -> Result<Vec<Page<Project>>, Error> {
        let within = || tenants.iter().copied().filter(|tenant| may.tenant(*tenant).is_ok());
        let (Some(from), Some(to)) = (within().min(), within().max()) else {
            return Ok(tenants.iter().map(|_| Page { items: Vec::new(), has_more: false }).collect());
        };
        // One more than wanted, to know whether there are more.
        let found = self.store.directory.first_projects(from, to, each.saturating_add(1)).await?;
        let of = |tenant: &TenantId| {
            let own = found.iter().filter(|project| project.tenant_id == *tenant);
            let mut items: Vec<Project> = own.cloned().collect();
            let has_more = items.len() > each as usize;
            items.truncate(each as usize);
            Page { items, has_more }
        };
        Ok(tenants.iter().map(of).collect())
    }

    /// The projects of a tenant.
    ///
    /// # Errors
    /// `NOT_FOUND` for a tenant out of reach.
    pub async fn projects(
        &self,
        may: &May<ProjectsRead>,
        tenant: TenantId,
        page: After<ProjectId>,
    ) -> Result<Page<Project>, Error> {
        let tenant = may.tenant(tenant)?;
        // A tenant that does not exist is an error, not an empty list.
        self.store.tenants.get(tenant).await?;
        Ok(self.store.tenants.projects(tenant, page).await?)
    }

    /// One project.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub async fn project(&self, may: &May<ProjectsRead>, id: ProjectId) -> Result<Project, Error> {
        let tenant = self.tenant_of_project(may, id).await?;
        Ok(self.store.tenants.project(tenant, id).await?)
    }

    /// Makes a project.
    ///
    /// # Errors
    /// `NOT_FOUND` for a tenant out of reach, `CONFLICT` when the tenant has one of that name, `INVALID_REQUEST`.
    pub async fn create_project(
        &self,
        may: &May<ProjectsWrite>,
        tenant: TenantId,
        name: String,
    ) -> Result<Project, Error> {
        let tenant = may.tenant(tenant)?;
        Ok(self.store.tenants.create_project(tenant, ProjectId::new(), name, may.by(&*self.clock)).await?)
    }

    /// Changes a project.
    ///
    /// # Errors
    /// `NOT_FOUND`; `CONFLICT` when the tenant has one of that name; `LIMIT_ABOVE_PLAN` for a limit above the tenant's;
    /// `INVALID_REQUEST`.
    pub async fn change_project(
        &self,
        may: &May<ProjectsWrite>,
        id: ProjectId,
        change: ProjectChange,
    ) -> Result<(Project, Option<AccessChange>), Error> {
        let tenant = self.tenant_of_project(may, id).await?;
        let mut project = self.store.tenants.project(tenant, id).await?;
        if let Some(limits) = &change.limits {
            self.check_project_limits(tenant, limits).await?;
        }
        if let Some(name) = change.name {
            project = self.store.tenants.rename_project(tenant, id, name, may.by(&*self.clock)).await?;
        }
        let Some(limits) = change.limits else { return Ok((project, None)) };
        let by = may.by(&*self.clock);
        let changed = self.store.tenants.set_project_limits(tenant, id, limits, by).await?;
        Ok((changed.value, Some(changed.change)))
    }

    async fn check_project_limits(&self, tenant: TenantId, wanted: &ProjectLimits) -> Result<(), Error> {
        let tenant = self.store.tenants.get(tenant).await?;
        if let Some(connections) = wanted.connections {
            plan::within(
                tenant.plan,
                "limits.connections",
                connections.into(),
                tenant.limits.connections.into(),
            )?;
        }
        if let Some(events) = wanted.connection_events_per_second.filter(|n| *n > MAX_CONNECTION_EVENTS) {
            return Err(Error::new(
                Code::InvalidRequest,
                format!(
                    "`connection_events_per_second` is {events}; at most {MAX_CONNECTION_EVENTS} are allowed."
                ),
            )
            .with(
                json!({ "field": "limits.connection_events_per_second", "limit": MAX_CONNECTION_EVENTS }),
            ));
        }
        let (limits, rate) = (&tenant.limits, wanted.requests_per_second.map(u64::from));
        for (field, wanted, tenants) in [
            ("limits.requests_per_second", rate, limits.requests_per_second.into()),
            ("limits.retention_seconds", wanted.retention_seconds, limits.retention_seconds),
            ("limits.retention_bytes", wanted.retention_bytes, limits.retention_bytes),
        ] {
            plan::rate_within(tenant.plan, field, wanted.unwrap_or(0), tenants)?;
        }
        Ok(())
    }

    /// Deletes a project: its keys are revoked, and everything that is open in it ends.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub async fn delete_project(
        &self,
        may: &May<ProjectsWrite>,
        id: ProjectId,
    ) -> Result<Changed<Project>, Error> {
        let tenant = self.tenant_of_project(may, id).await?;
        Ok(self.store.tenants.delete_project(tenant, id, may.by(&*self.clock)).await?)
    }
}
