//! Usage counters.

use super::Sql;
use super::database::{Scope, Tx};
use super::value::{Row, Value, args};
use crate::{
    Accepted, Batch, Counted, Explain, MAX_QUANTITY, MAX_USAGE_DAYS, Metric, Reply, StoreError, Usage,
    UsageRange, UsageShare, UsageWindow, hour_of,
};
use std::collections::BTreeMap;
use std::time::Duration;
use uuid::Uuid;
use weir_core::{NodeId, ProjectId, TenantId, Timestamp};

/// What a counter is of.
type Key = (TenantId, Timestamp, Metric, ProjectId);
/// What to add, ordered by counter: every node takes the row locks in this order.
pub(super) type Sums = BTreeMap<Key, u64>;

fn sum(counted: Vec<Counted>) -> Result<Sums, StoreError> {
    let mut sums = Sums::new();
    for one in counted {
        if one.metric == Metric::EventsPublished {
            let why = "events_published is counted in the event log, not by nodes".to_owned();
            return Err(StoreError::Invalid(why));
        }
        let sum = sums.entry((one.tenant_id, hour_of(one.at), one.metric, one.project_id)).or_default();
        *sum = sum.saturating_add(one.quantity);
        if *sum > MAX_QUANTITY {
            let (much, metric) = (*sum, one.metric.as_str());
            return Err(StoreError::Invalid(format!(
                "{much} {metric} in one batch is more than {MAX_QUANTITY}"
            )));
        }
    }
    Ok(sums)
}

/// Quantities, numbers and sequences as the databases keep them.
pub(super) fn to_stored(number: u64) -> Result<i64, StoreError> {
    number.try_into().map_err(|_| StoreError::Invalid(format!("{number} is more than {}", i64::MAX)))
}

pub(super) fn from_stored(number: i64) -> Result<u64, StoreError> {
    number.try_into().map_err(|_| StoreError::Corrupt(format!("a number of the usage is negative: {number}")))
}

impl Tx {
    /// Notes the batch as taken; false when it, or a later one, was taken before.
    async fn take_batch(&mut self, batch: &Batch) -> Result<bool, StoreError> {
        let touched = self
            .execute(
                "INSERT INTO usage_nodes (node_id, last_batch, flushed_until) VALUES ($1, $2, $3)
                 ON CONFLICT (node_id) DO UPDATE
                 SET last_batch = excluded.last_batch, flushed_until = excluded.flushed_until
                 WHERE usage_nodes.last_batch < excluded.last_batch",
                args![batch.node, to_stored(batch.number)?, batch.until],
            )
            .await?;
        Ok(touched > 0)
    }

    /// Adds to the numbers that are billed.
    pub(super) async fn add_usage(&mut self, sums: &Sums) -> Result<(), StoreError> {
        let row = |(key, quantity): (&Key, &u64)| {
            let (tenant, window_start, metric, project) = *key;
            Ok(args![tenant, window_start, metric, project, to_stored(*quantity)?])
        };
        self.insert_all(
            "INSERT INTO usage_hourly (tenant_id, window_start, metric, project_id, quantity)",
            "ON CONFLICT (tenant_id, window_start, metric, project_id)
             DO UPDATE SET quantity = usage_hourly.quantity + excluded.quantity",
            sums.iter().map(row).collect::<Result<_, StoreError>>()?,
        )
        .await
    }

    /// Adds to the node's share in them.
    async fn add_share(&mut self, batch: &Batch, sums: &Sums) -> Result<(), StoreError> {
        let number = to_stored(batch.number)?;
        let row = |(key, quantity): (&Key, &u64)| {
            let (tenant, window_start, metric, project) = *key;
            let quantity = to_stored(*quantity)?;
            Ok(args![tenant, window_start, metric, project, batch.node, number, number, 1_i64, quantity])
        };
        self.insert_all(
            "INSERT INTO usage_batches (tenant_id, window_start, metric, project_id, node_id,
                 first_batch, last_batch, batches, quantity)",
            "ON CONFLICT (tenant_id, window_start, metric, project_id, node_id)
             DO UPDATE SET last_batch = excluded.last_batch, batches = usage_batches.batches + 1,
                 quantity = usage_batches.quantity + excluded.quantity",
            sums.iter().map(row).collect::<Result<_, StoreError>>()?,
        )
        .await
    }
}

fn window(row: &Row) -> Result<UsageWindow, StoreError> {
    Ok(UsageWindow {
        window_start: row.get("window_start")?,
        metric: row.get("metric")?,
        quantity: from_stored(row.get("quantity")?)?,
    })
}

pub(super) fn range(row: &Row) -> Result<UsageRange, StoreError> {
    Ok(UsageRange {
        tenant_id: row.get("tenant_id")?,
        project_id: row.get("project_id")?,
        window_start: row.get("window_start")?,
        epoch: row.get::<i64>("epoch")?.cast_unsigned(),
        first_sequence: from_stored(row.get("first_sequence")?)?,
        last_sequence: from_stored(row.get("last_sequence")?)?,
        quantity: from_stored(row.get("quantity")?)?,
        recounted: row.get::<Option<i64>>("recounted")?.map(from_stored).transpose()?,
        recounted_at: row.get("recounted_at")?,
    })
}

fn share(row: &Row) -> Result<UsageShare, StoreError> {
    Ok(UsageShare {
        project_id: row.get("project_id")?,
        window_start: row.get("window_start")?,
        node: row.get("node_id")?,
        first_batch: from_stored(row.get("first_batch")?)?,
        last_batch: from_stored(row.get("last_batch")?)?,
        batches: from_stored(row.get("batches")?)?,
        quantity: from_stored(row.get("quantity")?)?,
    })
}

/// The parameters that both explanations begin with: whose, from, to, at most, and after which entry.
fn explain_args<T>(wanted: &Explain<T>, least: Value, last: impl Fn(&T) -> Value) -> Vec<Value> {
    let limit = i64::try_from(wanted.limit).unwrap_or(i64::MAX);
    let mut args = args![wanted.tenant, wanted.from, wanted.to, limit];
    match &wanted.after {
        Some(after) => args.extend([after.window_start.into(), after.project_id.into(), last(&after.last)]),
        None => {
            let before_all = Timestamp::from_micros(i64::MIN);
            args.extend([before_all.into(), Uuid::nil().into(), least]);
        }
    }
    args
}

impl Usage for Sql {
    fn record(&self, batch: Batch) -> Reply<'_, bool> {
        self.call(async move {
            let sums = sum(batch.counted.clone())?;
            let mut tx = self.database.begin(Scope::Operator).await?;
            if !tx.take_batch(&batch).await? {
                return Ok(false);
            }
            tx.add_usage(&sums).await?;
            tx.add_share(&batch, &sums).await?;
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

    fn accepted(&self, tenant: TenantId, from: Timestamp, to: Timestamp) -> Reply<'_, Accepted> {
        // One statement, so that the two belong together.
        const ACCEPTED: &str = "SELECT CAST(coalesce(sum(quantity), 0) AS BIGINT) AS quantity,
                 (SELECT min(complete_until) FROM usage_positions WHERE ended_at IS NULL) AS complete_until
             FROM usage_hourly
             WHERE tenant_id = $1 AND metric = $2 AND window_start >= $3 AND window_start < $4";
        self.call(async move {
            let args = args![tenant, Metric::EventsPublished, from, to];
            let row = self.database.fetch_optional(tenant, ACCEPTED, args).await?;
            let row = row.ok_or(StoreError::NotFound("usage"))?;
            Ok(Accepted {
                events: from_stored(row.get("quantity")?)?,
                complete_until: row.get::<Option<Timestamp>>("complete_until")?.unwrap_or_default(),
            })
        })
    }

    fn closed_until(&self) -> Reply<'_, Timestamp> {
        const CLOSED: &str = "SELECT CAST(min(known) AS BIGINT) AS known FROM (
                 SELECT complete_until AS known FROM usage_positions WHERE ended_at IS NULL
                 UNION ALL
                 SELECT coalesce(u.flushed_until, 0) FROM nodes n
                     LEFT JOIN usage_nodes u ON u.node_id = n.id WHERE n.lease_until >= $1
             ) AS counted";
        self.call(async move {
            let now = self.database.now().await?;
            let row = self.database.fetch_optional(Scope::Operator, CLOSED, args![now]).await?;
            let known = row.map(|row| row.get::<Option<Timestamp>>("known")).transpose()?.flatten();
            Ok(known.unwrap_or_default())
        })
    }

    fn ranges(&self, wanted: Explain<u64>) -> Reply<'_, Vec<UsageRange>> {
        const OF_TENANT: &str =
            "SELECT tenant_id, project_id, window_start, epoch, first_sequence, last_sequence,
                 quantity, recounted, recounted_at
             FROM usage_ranges
             WHERE tenant_id = $1 AND window_start >= $2 AND window_start < $3
               AND (window_start, project_id, epoch) > ($5, $6, $7)
             ORDER BY window_start, project_id, epoch LIMIT $4";
        const OF_PROJECT: &str =
            "SELECT tenant_id, project_id, window_start, epoch, first_sequence, last_sequence,
                 quantity, recounted, recounted_at
             FROM usage_ranges
             WHERE tenant_id = $1 AND window_start >= $2 AND window_start < $3 AND project_id = $8
               AND (window_start, project_id, epoch) > ($5, $6, $7)
             ORDER BY window_start, project_id, epoch LIMIT $4";
        self.call(async move {
            let mut args = explain_args(&wanted, i64::MIN.into(), |epoch| epoch.cast_signed().into());
            let sql = match wanted.project {
                None => OF_TENANT,
                Some(project) => {
                    args.push(project.into());
                    OF_PROJECT
                }
            };
            self.database.fetch_all(wanted.tenant, sql, args).await?.iter().map(range).collect()
        })
    }

    fn shares_of(&self, metric: Metric, wanted: Explain<NodeId>) -> Reply<'_, Vec<UsageShare>> {
        const OF_TENANT: &str =
            "SELECT project_id, window_start, node_id, first_batch, last_batch, batches, quantity
             FROM usage_batches
             WHERE tenant_id = $1 AND window_start >= $2 AND window_start < $3 AND metric = $8
               AND (window_start, project_id, node_id) > ($5, $6, $7)
             ORDER BY window_start, project_id, node_id LIMIT $4";
        const OF_PROJECT: &str = "SELECT project_id, window_start, node_id, first_batch, last_batch, batches, quantity
             FROM usage_batches
             WHERE tenant_id = $1 AND window_start >= $2 AND window_start < $3 AND metric = $8 AND project_id = $9
               AND (window_start, project_id, node_id) > ($5, $6, $7)
             ORDER BY window_start, project_id, node_id LIMIT $4";
        self.call(async move {
            let mut args = explain_args(&wanted, Uuid::nil().into(), |node| (*node).into());
            args.push(metric.into());
            let sql = match wanted.project {
                None => OF_TENANT,
                Some(project) => {
                    args.push(project.into());
                    OF_PROJECT
                }
            };
            self.database.fetch_all(wanted.tenant, sql, args).await?.iter().map(share).collect()
        })
    }
}
