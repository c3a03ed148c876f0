//! API keys, and the calls that make and end signing keys.

use super::columns::{columns, key_columns, signing_key_columns};
use super::database::Tx;
use super::signing::{self, signing_key};
use super::value::{Row, args};
use super::{Sql, check_name};
use crate::{
    AccessChangeKind, After, ApiKey, By, Changed, Keys, NewKey, NewSigningKey, Page, Reply, SigningKey,
    StoreError,
};
use serde_json::json;
use std::time::Duration;
use uuid::Uuid;
use weir_core::key::KeyHash;
use weir_core::{KeyId, ProjectId, SigningKeyId, SystemTopic, TenantId};

pub fn api_key(row: &Row) -> Result<ApiKey, StoreError> {
    Ok(ApiKey {
        id: row.get("k_id")?,
        tenant_id: row.get("k_tenant_id")?,
        project_id: row.get("k_project_id")?,
        name: row.get("k_name")?,
        key_hash: row.get("k_key_hash")?,
        scopes: row.get("k_scopes")?,
        rate_limit_per_sec: row.get("k_rate_limit_per_sec")?,
        revoked_at: row.get("k_revoked_at")?,
        expires_at: row.get("k_expires_at")?,
        replaced_by: row.get("k_replaced_by")?,
        created_at: row.get("k_created_at")?,
    })
}

impl Tx {
    /// Makes an API key and its audit entry. The database refuses a project of another tenant.
    pub async fn insert_key(
        &mut self,
        tenant: TenantId,
        project: ProjectId,
        new: NewKey,
        by: &By,
    ) -> Result<ApiKey, StoreError> {
        check_name("key", &new.name)?;
        let details = json!({ "name": new.name, "project_id": project, "scopes": new.scopes });
        let row = self
            .fetch(
                "key",
                concat!(
                    "INSERT INTO api_keys (id, tenant_id, project_id, name, key_hash, scopes,
                                       rate_limit_per_sec, expires_at, created_at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING ",
                    key_columns!("")
                ),
                args![
                    new.id,
                    tenant,
                    project,
                    new.name,
                    new.key_hash,
                    new.scopes,
                    new.rate_limit_per_sec,
                    new.expires_at,
                    by.at
                ],
            )
            .await?;
        self.record(tenant, "key.create", new.id, details, by).await?;
        api_key(&row)
    }

    /// Gives the old key its end and its successor, unless it has either.
    async fn retire(&mut self, old: &ApiKey, by: &By, grace: Duration, new: KeyId) -> Result<(), StoreError> {
        let end = by.at.plus(grace);
        let end = old.expires_at.map_or(end, |expires| expires.min(end));
        self.execute(
            "UPDATE api_keys SET expires_at = $3, replaced_by = $4 WHERE tenant_id = $1 AND id = $2",
            args![old.tenant_id, old.id, end, new],
        )
        .await
        .map(drop)
    }
}

fn check_rotatable(old: &ApiKey, by: &By) -> Result<(), StoreError> {
    let reason = if old.revoked_at.is_some() {
        "is revoked"
    } else if old.replaced_by.is_some() {
        "has been rotated already"
    } else if old.expires_at.is_some_and(|expires| expires <= by.at) {
        "has expired"
    } else {
        return Ok(());
    };
    Err(StoreError::Conflict(format!("the key {} {reason}: create a new one", old.id)))
}

impl Keys for Sql {
    fn create(&self, tenant: TenantId, project: ProjectId, new: NewKey, by: By) -> Reply<'_, ApiKey> {
        self.call(async move {
            let mut tx = self.database.begin(tenant).await?;
            tx.hold_project(tenant, project).await?;
            let key = tx.insert_key(tenant, project, new, &by).await?;
            let told = json!({ "key_id": key.id, "name": key.name, "scopes": key.scopes, "by": by.actor });
            tx.tell(tenant, Some(project), SystemTopic::KeyCreated, &told, by.at).await?;
            tx.commit().await?;
            Ok(key)
        })
    }

    fn get(&self, tenant: TenantId, key: KeyId) -> Reply<'_, ApiKey> {
        self.call(async move {
            let row = self
                .database
                .fetch_optional(
                    tenant,
                    concat!("SELECT ", key_columns!(""), " FROM api_keys WHERE tenant_id = $1 AND id = $2"),
                    args![tenant, key],
                )
                .await?;
            api_key(&row.ok_or(StoreError::NotFound("key"))?)
        })
    }

    fn list(
        &self,
        tenant: TenantId,
        project: Option<ProjectId>,
        page: After<KeyId>,
    ) -> Reply<'_, Page<ApiKey>> {
        self.call(async move {
            let after = page.after.map_or(Uuid::nil(), KeyId::uuid);
            let rows = self
                .database
                .fetch_all(
                    tenant,
                    concat!(
                        "SELECT ",
                        key_columns!(""),
                        " FROM api_keys
                     WHERE tenant_id = $1 AND ($2 IS NULL OR project_id = $2) AND id > $3
                     ORDER BY id LIMIT $4"
                    ),
                    args![tenant, project, after, page.fetch_limit()],
                )
                .await?;
            Ok(Page::cut(rows.iter().map(api_key).collect::<Result<_, _>>()?, &page))
        })
    }

    fn rotate(
        &self,
        tenant: TenantId,
        key: KeyId,
        replacement: (KeyId, KeyHash),
        grace: Duration,
        by: By,
    ) -> Reply<'_, Changed<ApiKey>> {
        self.call(async move {
            let mut tx = self.database.begin(tenant).await?;
            // An update that changes nothing locks the row in both databases: of two rotations at once
            // the second finds the key replaced.
            let row = tx
                .fetch(
                    "key",
                    concat!(
                        "UPDATE api_keys SET name = name WHERE tenant_id = $1 AND id = $2 RETURNING ",
                        key_columns!("")
                    ),
                    args![tenant, key],
                )
                .await?;
            let old = api_key(&row)?;
            check_rotatable(&old, &by)?;
            let (id, key_hash) = replacement;
            tx.retire(&old, &by, grace, id).await?;
            let details = json!({ "replaced_by": id, "grace_seconds": grace.as_secs() });
            let change = tx.change_access(tenant, AccessChangeKind::KeyRotated, key, details, &by).await?;
            let project = old.project_id;
            let new = NewKey {
                id,
                name: old.name,
                key_hash,
                scopes: old.scopes,
                rate_limit_per_sec: old.rate_limit_per_sec,
                expires_at: None,
            };
            let value = tx.insert_key(tenant, project, new, &by).await?;
            let told = json!({
                "key_id": key, "replaced_by": id, "grace_seconds": grace.as_secs(), "by": by.actor,
            });
            tx.tell(tenant, Some(project), SystemTopic::KeyRotated, &told, by.at).await?;
            tx.commit().await?;
            Ok(Changed { value, change })
        })
    }

    fn revoke(&self, tenant: TenantId, key: KeyId, by: By) -> Reply<'_, Changed<ApiKey>> {
        self.call(async move {
            let mut tx = self.database.begin(tenant).await?;
            let row = tx
                .fetch(
                    "key",
                    concat!(
                        "UPDATE api_keys SET revoked_at = coalesce(revoked_at, $3)
                     WHERE tenant_id = $1 AND id = $2 RETURNING ",
                        key_columns!("")
                    ),
                    args![tenant, key, by.at],
                )
                .await?;
            let value = api_key(&row)?;
            // The first time; doing it again changes nothing.
            if value.revoked_at == Some(by.at) {
                let told = json!({ "key_id": key, "name": value.name, "by": by.actor });
                tx.tell(tenant, Some(value.project_id), SystemTopic::KeyRevoked, &told, by.at).await?;
            }
            let kind = AccessChangeKind::KeyRevoked;
            let change = tx.change_access(tenant, kind, key, json!({}), &by).await?;
            tx.commit().await?;
            Ok(Changed { value, change })
        })
    }

    fn create_signing_key(
        &self,
        tenant: TenantId,
        project: ProjectId,
        new: NewSigningKey,
        by: By,
    ) -> Reply<'_, Changed<SigningKey>> {
        self.call(async move {
            let mut tx = self.database.begin(tenant).await?;
            tx.hold_project(tenant, project).await?;
            let (id, details) = (new.id, signing::details(project, &new));
            let value = tx.insert_signing_key(tenant, project, new, &by).await?;
            let kind = AccessChangeKind::SigningKeyCreated;
            let change = tx.change_access(tenant, kind, id, details, &by).await?;
            tx.check_signing_keys(tenant, project).await?;
            tx.commit().await?;
            Ok(Changed { value, change })
        })
    }

    fn signing_keys(
        &self,
        tenant: TenantId,
        project: ProjectId,
        page: After<SigningKeyId>,
    ) -> Reply<'_, Page<SigningKey>> {
        self.call(async move {
            let after = page.after.map_or(Uuid::nil(), SigningKeyId::uuid);
            let rows = self
                .database
                .fetch_all(
                    tenant,
                    concat!(
                        "SELECT ",
                        signing_key_columns!(""),
                        " FROM signing_keys WHERE tenant_id = $1 AND project_id = $2 AND id > $3
                     ORDER BY id LIMIT $4"
                    ),
                    args![tenant, project, after, page.fetch_limit()],
                )
                .await?;
            Ok(Page::cut(rows.iter().map(signing_key).collect::<Result<_, _>>()?, &page))
        })
    }

    fn revoke_signing_key(
        &self,
        tenant: TenantId,
        key: SigningKeyId,
        by: By,
    ) -> Reply<'_, Changed<SigningKey>> {
        self.call(async move {
            let mut tx = self.database.begin(tenant).await?;
            let row = tx
                .fetch(
                    "signing key",
                    concat!(
                        "UPDATE signing_keys SET revoked_at = coalesce(revoked_at, $3)
                     WHERE tenant_id = $1 AND id = $2 RETURNING ",
                        signing_key_columns!("")
                    ),
                    args![tenant, key, by.at],
                )
                .await?;
            let kind = AccessChangeKind::SigningKeyRevoked;
            let change = tx.change_access(tenant, kind, key, json!({}), &by).await?;
            tx.commit().await?;
            Ok(Changed { value: signing_key(&row)?, change })
        })
    }
}
