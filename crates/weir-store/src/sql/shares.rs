//! Shares of connections.

use super::Sql;
use super::database::Tx;
use super::tenants;
use super::value::args;
use crate::notice::Notice;
use crate::shares::{Quota, Share, ShareWish, Shares};
use crate::sql::columns::{columns, project_columns, tenant_columns};
use crate::{Reply, StoreError};
use uuid::Uuid;
use weir_core::NodeId;

/// The tenant's row is what all who change its shares queue for. SQLite has one writer anyway.
const LOCK: &str = "SELECT id FROM tenants WHERE id = $1 FOR NO KEY UPDATE";
const TENANT: &str = concat!("SELECT ", tenant_columns!(""), " FROM tenants WHERE id = $1");
const PROJECT: &str =
    concat!("SELECT ", project_columns!(""), " FROM projects WHERE tenant_id = $1 AND id = $2");

/// Nodes with a lease, whether this one is among them, and what the others hold.
const OTHERS: &str = "SELECT count(*) AS nodes,
        count(CASE WHEN n.id = $3 THEN 1 END) AS own,
        CAST(coalesce(sum(CASE WHEN n.id <> $3 THEN s.granted END), 0) AS BIGINT) AS others
     FROM nodes n
     LEFT JOIN connection_shares s ON s.node_id = n.id AND s.tenant_id = $1 AND s.project_id = $2
     WHERE n.lease_until >= $4";

impl Tx {
    async fn limit_of(&mut self, (tenant, project): Quota) -> Result<Option<u32>, StoreError> {
        if matches!(self, Self::Postgres(_)) {
            self.fetch("tenant", LOCK, args![tenant]).await?;
        }
        match project {
            None => {
                let row = self.fetch("tenant", TENANT, args![tenant]).await?;
                Ok(Some(tenants::tenant(&row)?.limits.connections))
            }
            Some(project) => {
                let row = self.fetch("project", PROJECT, args![tenant, project]).await?;
                Ok(tenants::project(&row)?.limits.connections)
            }
        }
    }

    async fn set_share(&mut self, node: NodeId, quota: Quota, granted: u32) -> Result<(), StoreError> {
        let (tenant, project) = (quota.0, stored(quota));
        if granted == 0 {
            let sql =
                "DELETE FROM connection_shares WHERE tenant_id = $1 AND project_id = $2 AND node_id = $3";
            return self.execute(sql, args![tenant, project, node]).await.map(drop);
        }
        self.execute(
            "INSERT INTO connection_shares (tenant_id, project_id, node_id, granted) VALUES ($1, $2, $3, $4)
             ON CONFLICT (tenant_id, project_id, node_id) DO UPDATE SET granted = excluded.granted",
            args![tenant, project, node, granted],
        )
        .await
        .map(drop)
    }
}

/// All projects together are the nil UUID.
fn stored(quota: Quota) -> Uuid {
    quota.1.map_or(Uuid::nil(), |project| project.uuid())
}

/// What a node holds after its wish, of `limit` connections of which others hold `others`.
fn grant(wish: &ShareWish, limit: u32, others: u32, nodes: u32) -> u32 {
    let room = limit.saturating_sub(others);
    if wish.held > room {
        // The limit was lowered: what is not in use goes, what is stays.
        return room.max(wish.live).min(wish.held);
    }
    let free = room - wish.held;
    let fair = wish.more.min(free / nodes.max(1));
    wish.held + free.min(fair.max(wish.waiting))
}

impl Shares for Sql {
    fn take(&self, wish: ShareWish) -> Reply<'_, Share> {
        self.call(async move {
            let (tenant, project) = wish.quota;
            let mut tx = self.database.begin(tenant).await?;
            let limit = tx.limit_of(wish.quota).await?;
            let now = tx.now().await?;
            let row = tx.fetch("count", OTHERS, args![tenant, stored(wish.quota), wish.node, now]).await?;
            let (nodes, own, others): (u32, u32, u32) =
                (row.get("nodes")?, row.get("own")?, row.get("others")?);
            if own == 0 {
                return Err(StoreError::Conflict("this node's lease has ended; its shares are void".into()));
            }
            let granted = grant(&wish, limit.unwrap_or(u32::MAX), others, nodes);
            tx.set_share(wish.node, wish.quota, granted).await?;
            if granted < wish.held.saturating_add(wish.waiting) && others > 0 {
                tx.notify(Notice::SharesWanted(tenant, project)).await?;
            }
            tx.commit().await?;
            Ok(Share { granted, limit, others })
        })
    }

    fn keep(&self, node: NodeId, quota: Quota, keep: u32) -> Reply<'_, ()> {
        self.call(async move {
            let mut tx = self.database.begin(quota.0).await?;
            tx.limit_of(quota).await?;
            tx.set_share(node, quota, keep).await?;
            tx.notify(Notice::SharesReturned(quota.0, quota.1)).await?;
            tx.commit().await
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_core::TenantId;

    fn wish(held: u32, live: u32, waiting: u32, more: u32) -> ShareWish {
        ShareWish { node: NodeId::new(), quota: (TenantId::new(), None), held, live, waiting, more }
    }

    #[test]
    fn blocks_shrink_near_the_limit() {
        assert_eq!(grant(&wish(0, 0, 1, 16), 1_000, 0, 4), 16);
        assert_eq!(grant(&wish(16, 16, 1, 16), 100, 60, 4), 22, "a quarter of the 24 that are left");
        assert_eq!(grant(&wish(16, 16, 1, 16), 78, 60, 4), 17, "the one that waits");
        assert_eq!(grant(&wish(16, 16, 9, 16), 100, 60, 4), 25, "all that wait");
        assert_eq!(grant(&wish(16, 16, 90, 16), 100, 60, 4), 40, "what there is");
        assert_eq!(grant(&wish(16, 16, 1, 16), 76, 60, 4), 16);
    }

    #[test]
    fn a_lowered_limit_takes_what_is_not_in_use() {
        assert_eq!(grant(&wish(50, 20, 1, 16), 40, 10, 2), 30);
        assert_eq!(grant(&wish(50, 45, 1, 16), 40, 10, 2), 45);
    }
}
