//! The nodes that run.

use super::Sql;
use super::database::Scope;
use super::value::{Row, args};
use crate::notice::Notice;
use crate::{Closing, Enforced, Heartbeat, Node, Nodes, Reply, StoreError};
use std::time::Duration;
use weir_core::{NodeId, Timestamp};

fn node(row: &Row) -> Result<Node, StoreError> {
    Ok(Node {
        id: row.get("id")?,
        started_at: row.get("started_at")?,
        seen_at: row.get("seen_at")?,
        lease_until: row.get("lease_until")?,
        confirmed: row.get("confirmed")?,
    })
}

impl Nodes for Sql {
    fn beat(&self, beat: Heartbeat) -> Reply<'_, bool> {
        self.call(async move {
            let mut tx = self.database.begin(Scope::Operator).await?;
            let now = tx.now().await?;
            let until = now.plus(beat.lease);
            let renewed = tx
                .execute(
                    "UPDATE nodes SET seen_at = $2, lease_until = $3, confirmed = $4
                     WHERE id = $1 AND lease_until >= $2",
                    args![beat.node, now, until, beat.confirmed],
                )
                .await?;
            if renewed == 0 {
                tx.execute("DELETE FROM nodes WHERE id = $1", args![beat.node]).await?;
                tx.execute("DELETE FROM connection_shares WHERE node_id = $1", args![beat.node]).await?;
                tx.execute(
                    "INSERT INTO nodes (id, started_at, seen_at, lease_until, confirmed)
                     VALUES ($1, $2, $3, $4, $5)",
                    args![beat.node, beat.started_at, now, until, beat.confirmed],
                )
                .await?;
            }
            tx.commit().await?;
            Ok(renewed > 0)
        })
    }

    fn leave(&self, node: NodeId) -> Reply<'_, ()> {
        self.call(async move {
            let mut tx = self.database.begin(Scope::Operator).await?;
            tx.execute("DELETE FROM nodes WHERE id = $1", args![node]).await?;
            tx.execute("DELETE FROM connection_shares WHERE node_id = $1", args![node]).await?;
            // Who waits for it need not any more.
            tx.notify(Notice::Enforced).await?;
            tx.commit().await
        })
    }

    fn live(&self) -> Reply<'_, Vec<Node>> {
        self.call(async move {
            let now = self.database.now().await?;
            let rows = self
                .database
                .fetch_all(
                    Scope::Operator,
                    "SELECT id, started_at, seen_at, lease_until, confirmed FROM nodes
                     WHERE lease_until >= $1 ORDER BY id",
                    args![now],
                )
                .await?;
            rows.iter().map(node).collect()
        })
    }

    fn confirm(&self, node: NodeId, confirmed: i64, closings: Vec<Closing>) -> Reply<'_, ()> {
        self.call(async move {
            let mut tx = self.database.begin(Scope::Operator).await?;
            for Closing { seq, connections } in closings {
                tx.execute(
                    "INSERT INTO access_closings (seq, node_id, connections) VALUES ($1, $2, $3)
                     ON CONFLICT (seq, node_id)
                     DO UPDATE SET connections = access_closings.connections + excluded.connections",
                    args![seq, node, connections],
                )
                .await?;
            }
            tx.execute("UPDATE nodes SET confirmed = $2 WHERE id = $1", args![node, confirmed]).await?;
            tx.notify(Notice::Enforced).await?;
            tx.commit().await
        })
    }

    fn enforcement(&self, seq: i64) -> Reply<'_, Enforced> {
        const COUNT: &str = "SELECT count(*) AS nodes,
                    count(CASE WHEN confirmed >= $1 THEN 1 END) AS done,
                    (SELECT CAST(coalesce(sum(connections), 0) AS BIGINT) FROM access_closings WHERE seq = $1) AS closed
             FROM nodes WHERE lease_until >= $2";
        self.call(async move {
            let now = self.database.now().await?;
            let row = self.database.fetch_optional(Scope::Operator, COUNT, args![seq, now]).await?;
            let row = row.ok_or(StoreError::NotFound("count"))?;
            let closed: i64 = row.get("closed")?;
            Ok(Enforced {
                nodes: row.get("done")?,
                of: row.get("nodes")?,
                connections_closed: u64::try_from(closed).unwrap_or(0),
            })
        })
    }

    fn prune(&self, age: Duration) -> Reply<'_, ()> {
        self.call(async move {
            let mut tx = self.database.begin(Scope::Operator).await?;
            let now = tx.now().await?;
            let before = now.minus(age);
            tx.execute("DELETE FROM nodes WHERE lease_until < $1", args![before]).await?;
            tx.execute("DELETE FROM connection_shares WHERE node_id NOT IN (SELECT id FROM nodes)", args![])
                .await?;
            if let Some(keep) = tx.oldest_needed(now, before).await? {
                tx.execute("DELETE FROM access_closings WHERE seq < $1", args![keep]).await?;
                tx.execute("DELETE FROM access_changes WHERE seq < $1", args![keep]).await?;
            }
            tx.commit().await
        })
    }
}

impl super::database::Tx {
    /// The first access change that must stay: the oldest that is young, or the newest of all; and the last
    /// that each node has enforced, by which it knows that it missed nothing.
    async fn oldest_needed(&mut self, now: Timestamp, young: Timestamp) -> Result<Option<i64>, StoreError> {
        const BOUNDS: &str = "SELECT
                coalesce((SELECT min(seq) FROM access_changes WHERE at >= $2), (SELECT max(seq) FROM access_changes)) AS young,
                (SELECT min(confirmed) FROM nodes WHERE lease_until >= $1) AS enforced";
        let Some(row) = self.fetch_optional(BOUNDS, args![now, young]).await? else { return Ok(None) };
        let (young, enforced): (Option<i64>, Option<i64>) = (row.get("young")?, row.get("enforced")?);
        Ok(young.map(|young| enforced.map_or(young, |enforced| enforced.min(young))))
    }
}
