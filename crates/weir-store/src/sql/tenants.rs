//! Tenants and projects.

use super::columns::{columns, project_columns, tenant_columns};
use super::database::{Scope, Tx};
use super::value::{Row, args};
use super::{Sql, check_name};
use crate::{
    AccessChangeKind, After, By, Changed, DEFAULT_STREAM, NewTenant, Overrides, Page, Project, Reply,
    StoreError, Tenant, TenantStatus, Tenants,
};
use serde_json::json;
use weir_core::{PlanName, ProjectId, ProjectLimits, TenantId};

pub fn tenant(row: &Row) -> Result<Tenant, StoreError> {
    let (plan, overrides): (_, Overrides) = (row.get("t_plan")?, row.get("t_overrides")?);
    Ok(Tenant {
        id: row.get("t_id")?,
        name: row.get("t_name")?,
        plan,
        limits: overrides.over(plan)?,
        overrides,
        status: row.get("t_status")?,
        status_reason: row.get("t_status_reason")?,
        stream: row.get("t_stream")?,
        stripe_customer_id: row.get("t_stripe_customer_id")?,
        created_at: row.get("t_created_at")?,
        access_version: row.get("t_access_version")?,
    })
}

pub fn project(row: &Row) -> Result<Project, StoreError> {
    Ok(Project {
        id: row.get("p_id")?,
        tenant_id: row.get("p_tenant_id")?,
        name: row.get("p_name")?,
        limits: row.get("p_limits")?,
        created_at: row.get("p_created_at")?,
    })
}

impl Tx {
    /// Finds the tenant of this name or makes it. Either way the row is locked until the commit: an update that
    /// changes nothing locks in both databases. It is no key column, whose lock would hold up foreign keys.
    pub async fn tenant_named(&mut self, new: &NewTenant, by: &By) -> Result<Tenant, StoreError> {
        check_name("tenant", &new.name)?;
        let row = self
            .fetch(
                "tenant",
                concat!("INSERT INTO tenants (id, name, plan, overrides, status, stream, created_at, access_version)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, 1)
                 ON CONFLICT (name) DO UPDATE SET access_version = tenants.access_version RETURNING ", tenant_columns!("")),
                args![
                    new.id,
                    new.name.clone(),
                    new.plan,
                    new.overrides.clone(),
                    new.status,
                    DEFAULT_STREAM.to_owned(),
                    by.at
                ],
            )
            .await?;
        let tenant = tenant(&row)?;
        if tenant.id == new.id {
            let details = json!({ "name": tenant.name, "plan": tenant.plan });
            self.record(tenant.id, "tenant.create", tenant.id, details, by).await?;
        }
        Ok(tenant)
    }

    /// Finds the tenant's project of this name or makes it. Either way the row is locked until the commit.
    pub async fn project_named(
        &mut self,
        tenant: TenantId,
        id: ProjectId,
        name: String,
        by: &By,
    ) -> Result<Project, StoreError> {
        check_name("project", &name)?;
        let row = self
            .fetch(
                "project",
                concat!(
                    "INSERT INTO projects (id, tenant_id, name, created_at) VALUES ($1, $2, $3, $4)
                 ON CONFLICT (tenant_id, name) DO UPDATE SET created_at = projects.created_at RETURNING ",
                    project_columns!("")
                ),
                args![id, tenant, name, by.at],
            )
            .await?;
        let project = project(&row)?;
        if project.id == id {
            self.record(tenant, "project.create", id, json!({ "name": project.name }), by).await?;
        }
        Ok(project)
    }

    /// Ends a change to a tenant: audit, announcement, commit.
    async fn finish_tenant(
        mut self,
        changed: Row,
        kind: AccessChangeKind,
        details: serde_json::Value,
        by: &By,
    ) -> Result<Changed<Tenant>, StoreError> {
        let mut value = tenant(&changed)?;
        let change = self.change_access(value.id, kind, value.id, details, by).await?;
        self.commit().await?;
        value.access_version += 1;
        Ok(Changed { value, change })
    }
}

impl Tenants for Sql {
    fn create(&self, new: NewTenant, by: By) -> Reply<'_, Tenant> {
        self.call(async move {
            let mut tx = self.database.begin(Scope::Operator).await?;
            let tenant = tx.tenant_named(&new, &by).await?;
            if tenant.id != new.id {
                return Err(StoreError::Conflict(format!("a tenant named `{}` exists already", new.name)));
            }
            tx.commit().await?;
            Ok(tenant)
        })
    }

    fn get(&self, id: TenantId) -> Reply<'_, Tenant> {
        self.call(async move {
            let row = self
                .database
                .fetch_optional(
                    id,
                    concat!(
                        "SELECT ",
                        tenant_columns!(""),
                        " FROM tenants WHERE id = $1 AND deleted_at IS NULL"
                    ),
                    args![id],
                )
                .await?;
            tenant(&row.ok_or(StoreError::NotFound("tenant"))?)
        })
    }

    fn rename(&self, id: TenantId, name: String, by: By) -> Reply<'_, Tenant> {
        self.call(async move {
            check_name("tenant", &name)?;
            let mut tx = self.database.begin(id).await?;
            let row = tx
                .fetch(
                    "tenant",
                    concat!(
                        "UPDATE tenants SET name = $2 WHERE id = $1 AND deleted_at IS NULL RETURNING ",
                        tenant_columns!("")
                    ),
                    args![id, name.clone()],
                )
                .await
                .map_err(|error| match error {
                    StoreError::Conflict(_) => {
                        StoreError::Conflict(format!("a tenant named `{name}` exists already"))
                    }
                    other => other,
                })?;
            tx.record(id, "tenant.rename", id, json!({ "name": name }), &by).await?;
            tx.commit().await?;
            tenant(&row)
        })
    }

    fn set_status(
        &self,
        id: TenantId,
        status: TenantStatus,
        reason: Option<String>,
        by: By,
    ) -> Reply<'_, Changed<Tenant>> {
        self.call(async move {
            let mut tx = self.database.begin(id).await?;
            let row = tx
                .fetch(
                    "tenant",
                    concat!(
                        "UPDATE tenants SET status = $2, status_reason = $3
                         WHERE id = $1 AND deleted_at IS NULL RETURNING ",
                        tenant_columns!("")
                    ),
                    args![id, status, reason.clone()],
                )
                .await?;
            let details = json!({ "status": status, "reason": reason });
            tx.finish_tenant(row, AccessChangeKind::TenantStatus, details, &by).await
        })
    }

    fn set_plan(
        &self,
        id: TenantId,
        plan: PlanName,
        overrides: Overrides,
        by: By,
    ) -> Reply<'_, Changed<Tenant>> {
        self.call(async move {
            let details = json!({ "plan": plan, "limits": overrides.fields() });
            let mut tx = self.database.begin(id).await?;
            tx.lock_billing(id).await?;
            let now = self.time(&mut tx).await?;
            let before = tx.account(id, now).await?;
            let row = tx
                .fetch(
                    "tenant",
                    concat!(
                        "UPDATE tenants SET plan = $2, overrides = $3
                         WHERE id = $1 AND deleted_at IS NULL RETURNING ",
                        tenant_columns!("")
                    ),
                    args![id, plan, overrides],
                )
                .await?;
            // Who keeps the plan keeps its terms.
            if plan != before.plan.name {
                tx.change_terms(id, plan, now).await?;
            }
            let after = tx.account(id, now).await?;
            if before.event_limit().is_none() && after.event_limit().is_some() {
                tx.begin_limit(&after).await?;
            }
            tx.ask_for_review(id).await?;
            tx.finish_tenant(row, AccessChangeKind::TenantPlan, details, &by).await
        })
    }

    fn set_placement(&self, id: TenantId, stream: String, by: By) -> Reply<'_, Changed<Tenant>> {
        self.call(async move {
            check_name("stream", &stream)?;
            let mut tx = self.database.begin(id).await?;
            let row = tx
                .fetch(
                    "tenant",
                    concat!(
                        "UPDATE tenants SET stream = $2 WHERE id = $1 AND deleted_at IS NULL RETURNING ",
                        tenant_columns!("")
                    ),
                    args![id, stream.clone()],
                )
                .await?;
            let details = json!({ "stream": stream });
            tx.finish_tenant(row, AccessChangeKind::TenantPlacement, details, &by).await
        })
    }

    fn set_project_limits(
        &self,
        tenant: TenantId,
        id: ProjectId,
        limits: ProjectLimits,
        by: By,
    ) -> Reply<'_, Changed<Project>> {
        self.call(async move {
            let mut tx = self.database.begin(tenant).await?;
            let row = tx
                .fetch(
                    "project",
                    concat!(
                        "UPDATE projects SET limits = $3
                         WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NULL RETURNING ",
                        project_columns!("")
                    ),
                    args![tenant, id, limits],
                )
                .await?;
            let value = project(&row)?;
            tx.ask_for_review(tenant).await?;
            let kind = AccessChangeKind::ProjectLimits;
            let change = tx.change_access(tenant, kind, id, json!({ "limits": limits }), &by).await?;
            tx.commit().await?;
            Ok(Changed { value, change })
        })
    }

    fn create_project(&self, tenant: TenantId, id: ProjectId, name: String, by: By) -> Reply<'_, Project> {
        self.call(async move {
            let mut tx = self.database.begin(tenant).await?;
            let open = "SELECT id FROM tenants WHERE id = $1 AND deleted_at IS NULL";
            tx.fetch("tenant", open, args![tenant]).await?;
            let project = tx.project_named(tenant, id, name, &by).await?;
            if project.id != id {
                return Err(StoreError::Conflict(format!(
                    "the tenant has a project named `{}` already",
                    project.name
                )));
            }
            tx.commit().await?;
            Ok(project)
        })
    }

    fn rename_project(&self, tenant: TenantId, id: ProjectId, name: String, by: By) -> Reply<'_, Project> {
        const RENAME: &str = concat!(
            "UPDATE projects SET name = $3 WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NULL RETURNING ",
            project_columns!("")
        );
        self.call(async move {
            check_name("project", &name)?;
            let mut tx = self.database.begin(tenant).await?;
            let renamed = tx.fetch("project", RENAME, args![tenant, id, name.clone()]).await;
            let row = renamed.map_err(|error| match error {
                StoreError::Conflict(_) => {
                    StoreError::Conflict(format!("the tenant has a project named `{name}` already"))
                }
                other => other,
            })?;
            tx.record(tenant, "project.rename", id, json!({ "name": name }), &by).await?;
            tx.commit().await?;
            project(&row)
        })
    }

    fn delete(&self, id: TenantId, by: By) -> Reply<'_, Changed<Tenant>> {
        self.call(async move {
            let mut tx = self.database.begin(id).await?;
            let deleted = tx.delete_tenant(id, &by).await?;
            tx.commit().await?;
            Ok(deleted)
        })
    }

    fn delete_project(&self, tenant: TenantId, id: ProjectId, by: By) -> Reply<'_, Changed<Project>> {
        self.call(async move {
            let mut tx = self.database.begin(tenant).await?;
            let deleted = tx.delete_project(tenant, id, &by).await?;
            tx.commit().await?;
            Ok(deleted)
        })
    }

    fn project(&self, tenant: TenantId, id: ProjectId) -> Reply<'_, Project> {
        self.call(async move {
            let row = self
                .database
                .fetch_optional(
                    tenant,
                    concat!(
                        "SELECT ",
                        project_columns!(""),
                        " FROM projects WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NULL"
                    ),
                    args![tenant, id],
                )
                .await?;
            project(&row.ok_or(StoreError::NotFound("project"))?)
        })
    }

    fn projects(&self, tenant: TenantId, page: After<ProjectId>) -> Reply<'_, Page<Project>> {
        self.call(async move {
            let after = page.after.unwrap_or(ProjectId::from_uuid(uuid::Uuid::nil()));
            let rows = self
                .database
                .fetch_all(
                    tenant,
                    concat!(
                        "SELECT ",
                        project_columns!(""),
                        " FROM projects WHERE tenant_id = $1 AND id > $2 AND deleted_at IS NULL ORDER BY id LIMIT $3"
                    ),
                    args![tenant, after, page.fetch_limit()],
                )
                .await?;
            Ok(Page::cut(rows.iter().map(project).collect::<Result<_, _>>()?, &page))
        })
    }
}
