//! The server's own events on their way to the log.

use super::Sql;
use super::database::{Scope, Tx};
use super::value::args;
use crate::system::{MAX_WAITING, SystemEvents, WaitingEvent};
use crate::{Reply, StoreError};
use serde_json::Value;
use std::time::Duration;
use uuid::Uuid;
use weir_core::{NodeId, ProjectId, SystemTopic, TenantId, Timestamp};

impl Tx {
    /// Notes what the server has to say of a change, with the change. False when too many of the tenant's wait: changes
    /// do not fail for that.
    pub async fn tell(
        &mut self,
        tenant: TenantId,
        project: Option<ProjectId>,
        topic: SystemTopic,
        payload: &Value,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        const TELL: &str = "INSERT INTO system_events (id, tenant_id, project_id, topic, payload, at)
             SELECT $1, $2, $3, $4, $5, $6
             WHERE (SELECT count(*) FROM system_events WHERE tenant_id = $2) < $7";
        let payload = payload.to_string();
        let told = self
            .execute(TELL, args![Uuid::now_v7(), tenant, project, topic, payload, at, MAX_WAITING])
            .await?;
        Ok(told > 0)
    }

    /// Gives the turn to a node if it has it, or nobody that lives does.
    pub async fn take_turn(
        &mut self,
        name: &'static str,
        node: NodeId,
        lease: Duration,
    ) -> Result<bool, StoreError> {
        // Nodes live by the database's clock, whatever else goes by another.
        let now = self.now().await?;
        let taken = self
            .execute(
                "UPDATE turns SET node_id = $1, until = $3
                 WHERE name = $4 AND (node_id = $1 OR node_id IS NULL OR until < $2 OR NOT EXISTS (
                     SELECT 1 FROM nodes n WHERE n.id = turns.node_id AND n.lease_until >= $2))",
                args![node, now, now.plus(lease), name.to_owned()],
            )
            .await?;
        Ok(taken > 0)
    }
}

impl SystemEvents for Sql {
    fn note(
        &self,
        tenant: TenantId,
        project: Option<ProjectId>,
        topic: SystemTopic,
        payload: Value,
        at: Timestamp,
    ) -> Reply<'_, bool> {
        self.call(async move {
            let mut tx = self.database.begin(tenant).await?;
            let told = tx.tell(tenant, project, topic, &payload, at).await?;
            tx.commit().await?;
            Ok(told)
        })
    }

    fn waiting(&self, per_tenant: u32, limit: u32) -> Reply<'_, Vec<WaitingEvent>> {
        // A tenant whose log does not answer holds up nobody else's.
        const WAITING: &str = "SELECT id, tenant_id, project_id, topic, payload, at FROM (
                 SELECT e.*, row_number() OVER (PARTITION BY tenant_id ORDER BY id) AS place FROM system_events e) told
             WHERE place <= $1 ORDER BY id LIMIT $2";
        self.call(async move {
            let rows = self.database.fetch_all(Scope::Operator, WAITING, args![per_tenant, limit]).await?;
            let read = |row: &super::value::Row| {
                Ok(WaitingEvent {
                    id: row.get("id")?,
                    tenant: row.get("tenant_id")?,
                    project: row.get("project_id")?,
                    topic: row.get("topic")?,
                    payload: row.get("payload")?,
                    at: row.get("at")?,
                })
            };
            rows.iter().map(read).collect()
        })
    }

    fn sent(&self, ids: Vec<Uuid>) -> Reply<'_, ()> {
        self.call(async move {
            let mut tx = self.database.begin(Scope::Operator).await?;
            for id in ids {
                tx.execute("DELETE FROM system_events WHERE id = $1", args![id]).await?;
            }
            tx.commit().await
        })
    }

    fn take_turn_to_tell(&self, node: NodeId, lease: Duration) -> Reply<'_, bool> {
        self.call(async move {
            let mut tx = self.database.begin(Scope::Operator).await?;
            let taken = tx.take_turn("system", node, lease).await?;
            tx.commit().await?;
            Ok(taken)
        })
    }
}
