//! Usage counters.

use super::Sql;
use super::database::{Scope, Tx};
use super::value::{Row, args};
use crate::{Counted, MAX_USAGE_DAYS, Metric, Reply, StoreError, Usage, UsageWindow, hour_of};
use std::collections::BTreeMap;
use std::time::Duration;
use weir_core::{NodeId, ProjectId, TenantId, Timestamp};

/// The sums of a batch, ordered by counter: every node takes the row locks in this order.
type Sums = BTreeMap<(TenantId, Timestamp, Metric, ProjectId), u64>;

fn sum(counted: Vec<Counted>) -> Sums {
    let mut sums = Sums::new();
    for one in counted {
        let sum = sums.entry((one.tenant_id, hour_of(one.at), one.metric, one.project_id)).or_default();
        *sum = sum.saturating_add(one.quantity);
    }
    sums
}

fn to_stored(quantity: u64) -> Result<i64, StoreError> {
    quantity.try_into().map_err(|_| {
        StoreError::Invalid(format!("a usage of {quantity} in one batch is more than {}", i64::MAX))
    })
}

fn from_stored(quantity: i64) -> Result<u64, StoreError> {
    quantity.try_into().map_err(|_| StoreError::Corrupt(format!("a usage counter is negative: {quantity}")))
}

impl Tx {
    /// Notes the batch as taken; false when it, or a later one, was taken before.
    async fn take_batch(&mut self, node: NodeId, batch: i64) -> Result<bool, StoreError> {
        let touched = self
            .execute(
                "INSERT INTO usage_nodes (node_id, last_batch) VALUES ($1, $2)
                 ON CONFLICT (node_id) DO UPDATE SET last_batch = excluded.last_batch
                 WHERE usage_nodes.last_batch < excluded.last_batch",
                args![node, batch],
            )
            .await?;
        Ok(touched > 0)
    }

    async fn add_usage(&mut self, sums: Sums) -> Result<(), StoreError> {
        for ((tenant, window_start, metric, project), quantity) in sums {
            self.execute(
                "INSERT INTO usage_hourly (tenant_id, window_start, metric, project_id, quantity)
                 VALUES ($1, $2, $3, $4, $5)
                 ON CONFLICT (tenant_id, window_start, metric, project_id)
                 DO UPDATE SET quantity = usage_hourly.quantity + excluded.quantity",
                args![tenant, window_start, metric, project, to_stored(quantity)?],
            )
            .await?;
        }
        Ok(())
    }
}

fn window(row: &Row) -> Result<UsageWindow, StoreError> {
    Ok(UsageWindow {
        window_start: row.get("window_start")?,
        metric: row.get("metric")?,
        quantity: from_stored(row.get("quantity")?)?,
    })
}

impl Usage for Sql {
    fn record(&self, node: NodeId, batch: u64, counted: Vec<Counted>) -> Reply<'_, bool> {
        self.call(async move {
            let mut tx = self.database.begin(Scope::Operator).await?;
            if !tx.take_batch(node, to_stored(batch)?).await? {
                return Ok(false);
            }
            tx.add_usage(sum(counted)).await?;
            tx.commit().await?;
            Ok(true)
        })
    }

    fn usage(
        &self,
        tenant: TenantId,
        project: Option<ProjectId>,
        from: Timestamp,
        to: Timestamp,
    ) -> Reply<'_, Vec<UsageWindow>> {
        // The sum of integers is a wider type in PostgreSQL; the cast brings it back.
        const OF_TENANT: &str = "SELECT window_start, metric, CAST(sum(quantity) AS BIGINT) AS quantity
             FROM usage_hourly WHERE tenant_id = $1 AND window_start >= $2 AND window_start < $3
             GROUP BY window_start, metric ORDER BY window_start, metric";
        const OF_PROJECT: &str = "SELECT window_start, metric, quantity
             FROM usage_hourly
             WHERE tenant_id = $1 AND window_start >= $2 AND window_start < $3 AND project_id = $4
             ORDER BY window_start, metric";
        self.call(async move {
            if to.since(from) > Duration::from_secs(MAX_USAGE_DAYS * 24 * 3600) {
                return Err(StoreError::Invalid(format!(
                    "usage from {from} to {to} is more than {MAX_USAGE_DAYS} days: ask for shorter ranges"
                )));
            }
            let rows = match project {
                None => self.database.fetch_all(tenant, OF_TENANT, args![tenant, from, to]).await?,
                Some(project) => {
                    self.database.fetch_all(tenant, OF_PROJECT, args![tenant, from, to, project]).await?
                }
            };
            rows.iter().map(window).collect()
        })
    }

    fn total(&self, tenant: TenantId, metric: Metric, from: Timestamp, to: Timestamp) -> Reply<'_, u64> {
        const TOTAL: &str = "SELECT CAST(coalesce(sum(quantity), 0) AS BIGINT) AS quantity
             FROM usage_hourly
             WHERE tenant_id = $1 AND metric = $2 AND window_start >= $3 AND window_start < $4";
        self.call(async move {
            match self.database.fetch_optional(tenant, TOTAL, args![tenant, metric, from, to]).await? {
                Some(row) => from_stored(row.get("quantity")?),
                None => Ok(0),
            }
        })
    }
}
