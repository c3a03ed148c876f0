//! Usage on its way to the payment provider.

use super::Sql;
use super::database::Scope;
use super::value::{Row, args};
use crate::{Metric, Outbox, Reply, Report, ReportCount, ReportKey, ReportState, Settled, StoreError};
use std::time::Duration;
use weir_core::{NodeId, TenantId, Timestamp};

/// More in one hour of a project than anybody uses, and than the provider takes. Keeps sums from overflowing.
const ABSURD: i64 = 1_000_000_000_000_000;

fn report(row: &Row) -> Result<Report, StoreError> {
    Ok(Report {
        key: ReportKey {
            tenant_id: row.get("tenant_id")?,
            metric: row.get("metric")?,
            window_start: row.get("window_start")?,
            revision: row.get("revision")?,
        },
        quantity: row.get("quantity")?,
        customer_id: row.get("customer_id")?,
        state: row.get("state")?,
        attempts: row.get("attempts")?,
        first_sent_at: row.get("first_sent_at")?,
        last_sent_at: row.get("last_sent_at")?,
        note: row.get("note")?,
    })
}

impl Outbox for Sql {
    fn take_turn(&self, node: NodeId, lease: Duration) -> Reply<'_, bool> {
        self.call(async move {
            let mut tx = self.database.begin(Scope::Operator).await?;
            let taken = tx.take_turn("stripe", node, lease).await?;
            tx.commit().await?;
            Ok(taken)
        })
    }

    fn write_reports(&self, metric: Metric, from: Timestamp, until: Timestamp) -> Reply<'_, u64> {
        // One statement: a usage that grows meanwhile is seen before or after, and the key lets no revision be twice.
        const WRITE: &str = "INSERT INTO usage_outbox
                 (tenant_id, metric, window_start, revision, quantity, customer_id, state, due_at)
             SELECT u.tenant_id, $1, u.window_start, coalesce(o.revision, 0) + 1, u.quantity - coalesce(o.quantity, 0),
                 u.customer_id, 'pending', $4
             FROM (SELECT h.tenant_id, h.window_start, s.customer_id,
                       CAST(sum(CASE WHEN h.quantity > $5 THEN $5 ELSE h.quantity END) AS BIGINT) AS quantity
                   FROM stripe_subscriptions s
                   JOIN usage_hourly h ON h.tenant_id = s.tenant_id AND h.window_start >= s.metered_from
                       AND (s.metered_until IS NULL OR h.window_start < s.metered_until)
                   WHERE h.metric = $1 AND h.window_start >= $2 AND h.window_start < $3
                   GROUP BY h.tenant_id, h.window_start, s.customer_id) u
             LEFT JOIN (SELECT tenant_id, window_start, max(revision) AS revision,
                            CAST(sum(quantity) AS BIGINT) AS quantity
                        FROM usage_outbox WHERE metric = $1 AND window_start >= $2 AND window_start < $3
                        GROUP BY tenant_id, window_start) o
                 ON o.tenant_id = u.tenant_id AND o.window_start = u.window_start
             WHERE u.quantity <> coalesce(o.quantity, 0)
             ON CONFLICT DO NOTHING";
        self.call(async move {
            let mut tx = self.database.begin(Scope::Operator).await?;
            let now = self.time(&mut tx).await?;
            let written = tx.execute(WRITE, args![metric, from, until, now, ABSURD]).await?;
            tx.commit().await?;
            Ok(written)
        })
    }

    fn due_reports(&self, limit: u32) -> Reply<'_, (Timestamp, Vec<Report>)> {
        // Sorted rather than joined with itself: a planner that takes thousands of new rows for a few would compare each
        // with each. The first open revision of an hour holds up those after it, due or not.
        const DUE: &str = "SELECT * FROM (
                 SELECT o.*, row_number() OVER (PARTITION BY tenant_id ORDER BY window_start, metric, revision) AS place
                 FROM (SELECT e.*, row_number() OVER (PARTITION BY tenant_id, metric, window_start ORDER BY revision)
                           AS of_its_hour
                       FROM usage_outbox e WHERE state IN ('pending', 'unsure')) o
                 WHERE of_its_hour = 1 AND due_at <= $1) due
             WHERE place = 1 ORDER BY window_start, tenant_id LIMIT $2";
        self.call(async move {
            let now = self.now().await?;
            let rows = self.database.fetch_all(Scope::Operator, DUE, args![now, limit]).await?;
            Ok((now, rows.iter().map(report).collect::<Result<_, _>>()?))
        })
    }

    fn begin_reports(&self, reports: Vec<(ReportKey, bool)>, now: Timestamp) -> Reply<'_, ()> {
        const BEGIN: &str =
            "UPDATE usage_outbox SET state = 'pending', attempts = attempts + 1, last_sent_at = $5,
                 first_sent_at = CASE WHEN $6 = 1 THEN $5 ELSE coalesce(first_sent_at, $5) END
             WHERE tenant_id = $1 AND metric = $2 AND window_start = $3 AND revision = $4
               AND state IN ('pending', 'unsure')";
        self.call(async move {
            let mut tx = self.database.begin(Scope::Operator).await?;
            for (key, afresh) in reports {
                let ReportKey { tenant_id, metric, window_start, revision } = key;
                tx.execute(BEGIN, args![tenant_id, metric, window_start, revision, now, afresh]).await?;
            }
            tx.commit().await
        })
    }

    fn settle_reports(&self, settled: Vec<Settled>) -> Reply<'_, ()> {
        const SETTLE: &str = "UPDATE usage_outbox SET state = $5, due_at = $6, note = $7
             WHERE tenant_id = $1 AND metric = $2 AND window_start = $3 AND revision = $4
               AND state IN ('pending', 'unsure')";
        self.call(async move {
            let mut tx = self.database.begin(Scope::Operator).await?;
            for Settled { key, state, due_at, note } in settled {
                let ReportKey { tenant_id, metric, window_start, revision } = key;
                tx.execute(SETTLE, args![tenant_id, metric, window_start, revision, state, due_at, note])
                    .await?;
            }
            tx.commit().await
        })
    }

    fn reject_report(&self, key: ReportKey, note: String) -> Reply<'_, bool> {
        const REJECT: &str = "UPDATE usage_outbox SET state = 'rejected', note = $5
             WHERE tenant_id = $1 AND metric = $2 AND window_start = $3 AND revision = $4 AND state = 'sent'";
        self.call(async move {
            let mut tx = self.database.begin(Scope::Operator).await?;
            let ReportKey { tenant_id, metric, window_start, revision } = key;
            let rejected = tx.execute(REJECT, args![tenant_id, metric, window_start, revision, note]).await?;
            tx.commit().await?;
            Ok(rejected > 0)
        })
    }

    fn arrived(&self, tenant: TenantId, metric: Metric, window_start: Timestamp) -> Reply<'_, i64> {
        const ARRIVED: &str =
            "SELECT CAST(coalesce(sum(quantity), 0) AS BIGINT) AS quantity FROM usage_outbox
             WHERE tenant_id = $1 AND metric = $2 AND window_start = $3 AND state = 'sent'";
        self.call(async move {
            let row =
                self.database.fetch_optional(tenant, ARRIVED, args![tenant, metric, window_start]).await?;
            row.ok_or(StoreError::NotFound("sum"))?.get("quantity")
        })
    }

    fn adjustments(&self, tenant: TenantId, from: Timestamp, until: Timestamp) -> Reply<'_, Vec<Report>> {
        const ADJUSTMENTS: &str = "SELECT * FROM usage_outbox
             WHERE tenant_id = $1 AND window_start >= $2 AND window_start < $3
               AND state IN ('adjustment', 'rejected')
             ORDER BY window_start, metric, revision LIMIT 1000";
        self.call(async move {
            let rows = self.database.fetch_all(tenant, ADJUSTMENTS, args![tenant, from, until]).await?;
            rows.iter().map(report).collect()
        })
    }

    fn open_reports(&self) -> Reply<'_, Vec<ReportCount>> {
        const OPEN: &str = "SELECT state, count(*) AS reports, min(window_start) AS oldest FROM usage_outbox
             WHERE state <> 'sent' GROUP BY state ORDER BY state";
        self.call(async move {
            let rows = self.database.fetch_all(Scope::Operator, OPEN, args![]).await?;
            let count = |row: &Row| {
                let state: ReportState = row.get("state")?;
                Ok(ReportCount { state, reports: row.get("reports")?, oldest: row.get("oldest")? })
            };
            rows.iter().map(count).collect()
        })
    }
}
