//! Announcing a change of access, in the transaction of the change.

use super::database::Tx;
use super::value::{Row, args};
use crate::notice::Notice;
use crate::{AccessChange, AccessChangeKind, By, StoreError};
use serde_json::Value;
use weir_core::TenantId;

/// Any number that no other advisory lock of the database uses: "weir acc" in ASCII.
const LIST_LOCK: &str = "SELECT pg_advisory_xact_lock(8603945563757831011)";

impl Tx {
    /// Ends a change to what somebody may do: what was cached about the tenant becomes out of date, the audit
    /// entry is written, the nodes are told. Commit soon after: changes of all tenants queue here.
    pub async fn change_access(
        &mut self,
        tenant: TenantId,
        kind: AccessChangeKind,
        subject: impl ToString + Send,
        details: Value,
        by: &By,
    ) -> Result<AccessChange, StoreError> {
        let subject = subject.to_string();
        self.note_change(tenant, kind, &subject, details, by).await?;
        self.announce(tenant, kind, subject, by).await
    }

    /// The same for a change that concerns several tenants, given in the order of their ids. All of them are noted
    /// before the first is announced: who waits for a tenant's row must not hold the list.
    pub async fn change_access_in(
        &mut self,
        tenants: &[TenantId],
        kind: AccessChangeKind,
        subject: impl ToString + Send,
        details: Value,
        by: &By,
    ) -> Result<Vec<AccessChange>, StoreError> {
        let subject = subject.to_string();
        for tenant in tenants {
            self.note_change(*tenant, kind, &subject, details.clone(), by).await?;
        }
        let mut changes = Vec::with_capacity(tenants.len());
        for tenant in tenants {
            changes.push(self.announce(*tenant, kind, subject.clone(), by).await?);
        }
        Ok(changes)
    }

    async fn note_change(
        &mut self,
        tenant: TenantId,
        kind: AccessChangeKind,
        subject: &str,
        details: Value,
        by: &By,
    ) -> Result<(), StoreError> {
        self.execute("UPDATE tenants SET access_version = access_version + 1 WHERE id = $1", args![tenant])
            .await?;
        self.record(tenant, kind.as_str(), subject, details, by).await
    }

    async fn announce(
        &mut self,
        tenant: TenantId,
        kind: AccessChangeKind,
        subject: String,
        by: &By,
    ) -> Result<AccessChange, StoreError> {
        // PostgreSQL hands out sequence numbers before the commit, so a greater one could become visible
        // first and a reader would pass over the smaller. Whoever holds this lock until its commit is
        // alone between taking a number and showing it. In SQLite every writer is alone.
        if matches!(self, Self::Postgres(_)) {
            self.fetch_optional(LIST_LOCK, args![]).await?;
        }
        let row = self
            .fetch(
                "access change",
                "INSERT INTO access_changes (tenant_id, at, kind, subject) VALUES ($1, $2, $3, $4)
                 RETURNING seq, tenant_id, at, kind, subject",
                args![tenant, by.at, kind, subject],
            )
            .await?;
        self.notify(Notice::AccessChanged).await?;
        change(&row)
    }
}

pub fn change(row: &Row) -> Result<AccessChange, StoreError> {
    Ok(AccessChange {
        seq: row.get("seq")?,
        tenant_id: row.get("tenant_id")?,
        at: row.get("at")?,
        kind: row.get("kind")?,
        subject: row.get("subject")?,
    })
}
