//! Deleting tenants and projects. Their rows stay, marked: what serves anybody finds them no more. What was in the
//! projects is erased afterwards, see `erasure`.

use super::columns::{columns, project_columns, tenant_columns};
use super::database::Tx;
use super::tenants::{project, tenant};
use super::value::args;
use crate::{AccessChangeKind, By, Changed, Project, StoreError, Tenant};
use serde_json::json;
use weir_core::{ProjectId, TenantId};

const TENANT: &str =
    concat!("SELECT ", tenant_columns!(""), " FROM tenants WHERE id = $1 AND deleted_at IS NULL");
const PROJECT: &str = concat!(
    "SELECT ",
    project_columns!(""),
    " FROM projects WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NULL"
);
const REVOKE_KEYS: &str = "UPDATE api_keys SET revoked_at = $3
     WHERE tenant_id = $1 AND ($2 IS NULL OR project_id = $2) AND (revoked_at IS NULL OR revoked_at > $3)";
const REVOKE_SIGNING_KEYS: &str = "UPDATE signing_keys SET revoked_at = $3
     WHERE tenant_id = $1 AND ($2 IS NULL OR project_id = $2) AND revoked_at IS NULL";

impl Tx {
    /// Locks the row of a tenant that is not deleted until the commit.
    pub async fn hold_tenant(&mut self, tenant: TenantId) -> Result<(), StoreError> {
        // An update that changes nothing locks in both databases. It is no key column, whose lock would hold up
        // foreign keys.
        let hold = "UPDATE tenants SET access_version = access_version
                    WHERE id = $1 AND deleted_at IS NULL RETURNING id";
        self.fetch("tenant", hold, args![tenant]).await.map(drop)
    }

    /// The same for a project: what is made in it is made before it is deleted, or not at all.
    pub async fn hold_project(&mut self, tenant: TenantId, project: ProjectId) -> Result<(), StoreError> {
        let hold = "UPDATE projects SET created_at = created_at
                    WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NULL RETURNING id";
        self.fetch("project", hold, args![tenant, project]).await.map(drop)
    }

    /// Rows are locked in the order in which all changes lock them: projects, keys, invitations, the tenant, members.
    pub async fn delete_tenant(&mut self, id: TenantId, by: &By) -> Result<Changed<Tenant>, StoreError> {
        let now = self.now().await?;
        let projects = self
            .execute(
                "UPDATE projects SET deleted_at = $2, gone_at = $3 WHERE tenant_id = $1 AND deleted_at IS NULL",
                args![id, by.at, now],
            )
            .await?;
        let keys = self.revoke_all(id, None, by).await?;
        self.execute("DELETE FROM invitations WHERE tenant_id = $1", args![id]).await?;
        self.execute("DELETE FROM system_events WHERE tenant_id = $1", args![id]).await?;
        self.delete_webhooks(id, None, None).await?;
        self.delete_letters(id, None).await?;
        self.hold_tenant(id).await?;
        let mut value = tenant(&self.fetch("tenant", TENANT, args![id]).await?)?;
        self.execute(
            "UPDATE tenants SET name = $2, deleted_at = $3 WHERE id = $1",
            args![id, id.to_string(), by.at],
        )
        .await?;
        let members = self.execute("DELETE FROM memberships WHERE tenant_id = $1", args![id]).await?;
        let details =
            json!({ "name": value.name, "projects": projects, "keys_revoked": keys, "members": members });
        let change = self.change_access(id, AccessChangeKind::TenantDeleted, id, details, by).await?;
        value.access_version += 1;
        Ok(Changed { value, change })
    }

    pub async fn delete_project(
        &mut self,
        tenant: TenantId,
        id: ProjectId,
        by: &By,
    ) -> Result<Changed<Project>, StoreError> {
        self.hold_project(tenant, id).await?;
        let value = project(&self.fetch("project", PROJECT, args![tenant, id]).await?)?;
        let now = self.now().await?;
        self.execute(
            "UPDATE projects SET name = $3, deleted_at = $4, gone_at = $5 WHERE tenant_id = $1 AND id = $2",
            args![tenant, id, id.to_string(), by.at, now],
        )
        .await?;
        let keys = self.revoke_all(tenant, Some(id), by).await?;
        self.delete_webhooks(tenant, Some(id), None).await?;
        self.delete_letters(tenant, Some(id)).await?;
        let details = json!({ "name": value.name, "keys_revoked": keys });
        let change = self.change_access(tenant, AccessChangeKind::ProjectDeleted, id, details, by).await?;
        Ok(Changed { value, change })
    }

    /// Revokes the keys of a project, or of the whole tenant, that are not revoked yet.
    async fn revoke_all(
        &mut self,
        tenant: TenantId,
        project: Option<ProjectId>,
        by: &By,
    ) -> Result<u64, StoreError> {
        let keys = self.execute(REVOKE_KEYS, args![tenant, project, by.at]).await?;
        Ok(keys + self.execute(REVOKE_SIGNING_KEYS, args![tenant, project, by.at]).await?)
    }
}
