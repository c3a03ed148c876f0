//! Projects of a tenant.

use super::May;
use super::permits::{ProjectsRead, ProjectsWrite};
use crate::{Engine, Error};
use weir_core::{ProjectId, TenantId};
use weir_store::{After, Page, Project};

impl Engine {
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
}
