//! Alerts.

use super::Sql;
use super::columns::columns;
use super::database::{Scope, Tx};
use super::usage::from_stored;
use super::value::{Row, args};
use crate::alerts::{
    Alert, AlertFilter, AlertState, AlertStates, Alerts, FailingWebhook, Keeping, QuotaReached, Sighting,
    Telling, Told, Unpaid, Untold,
};
use crate::{After, By, Overrides, Page, Reply, Standing, StoreError};
use serde_json::json;
use std::time::Duration;
use weir_core::{AlertId, NodeId, SystemTopic, TenantId, Timestamp, WebhookId};

macro_rules! alert_columns {
    () => {
        columns!(
            "",
            "a_",
            "id",
            "tenant_id",
            "condition",
            "subject",
            "severity",
            "message",
            "value",
            "bound",
            "first_seen_at",
            "last_seen_at",
            "occurrences",
            "acknowledged_at",
            "acknowledged_by",
            "resolved_at"
        )
    };
}

fn alert(row: &Row) -> Result<Alert, StoreError> {
    Ok(Alert {
        id: row.get("a_id")?,
        tenant_id: row.get("a_tenant_id")?,
        condition: row.get("a_condition")?,
        subject: row.get("a_subject")?,
        severity: row.get("a_severity")?,
        message: row.get("a_message")?,
        value: row.get("a_value")?,
        limit: row.get("a_bound")?,
        first_seen_at: row.get("a_first_seen_at")?,
        last_seen_at: row.get("a_last_seen_at")?,
        occurrences: row.get("a_occurrences")?,
        acknowledged_at: row.get("a_acknowledged_at")?,
        acknowledged_by: row.get("a_acknowledged_by")?,
        resolved_at: row.get("a_resolved_at")?,
    })
}

fn scope(of: Option<TenantId>) -> Scope {
    of.map_or(Scope::Operator, Scope::Tenant)
}

/// A count as the databases hold it.
fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl Tx {
    /// Tells a tenant's projects of its alert; only the one that it is about, where it is about one.
    async fn tell_of(&mut self, alert: &Alert, topic: SystemTopic, now: Timestamp) -> Result<(), StoreError> {
        let Some(tenant) = alert.tenant_id else { return Ok(()) };
        let mut told = json!({
            "id": alert.id,
            "condition": alert.condition,
            "subject": alert.subject,
            "severity": alert.severity,
            "message": alert.message,
            "value": alert.value,
            "limit": alert.limit,
            "first_seen_at": alert.first_seen_at,
        });
        if let Some(resolved_at) = alert.resolved_at {
            told["resolved_at"] = json!(resolved_at);
        }
        self.tell(tenant, alert.subject.parse().ok(), topic, &told, now).await.map(drop)
    }
}

impl Alerts for Sql {
    fn sight(&self, mut seen: Vec<Sighting>) -> Reply<'_, Vec<Alert>> {
        // What is worse is never made better while it is open: nodes may see it differently.
        const SIGHT: &str = concat!(
            "INSERT INTO alerts (id, tenant_id, condition, subject, severity, message, value, bound,
                 first_seen_at, last_seen_at, clears_at, occurrences, told_due)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $10, $11, $9)
             ON CONFLICT (condition, subject) WHERE resolved_at IS NULL DO UPDATE SET
                 message = CASE WHEN excluded.severity >= alerts.severity THEN excluded.message ELSE alerts.message END,
                 value = CASE WHEN excluded.severity >= alerts.severity THEN excluded.value ELSE alerts.value END,
                 bound = CASE WHEN excluded.severity >= alerts.severity THEN excluded.bound ELSE alerts.bound END,
                 severity = CASE WHEN excluded.severity >= alerts.severity THEN excluded.severity ELSE alerts.severity END,
                 last_seen_at = excluded.last_seen_at,
                 clears_at = CASE WHEN excluded.clears_at >= alerts.clears_at THEN excluded.clears_at ELSE alerts.clears_at END,
                 occurrences = alerts.occurrences + $12
             RETURNING ",
            alert_columns!()
        );
        // One order for everybody, so that nodes wait for each other and never in a circle.
        seen.sort_by(|a, b| (&a.condition, &a.subject).cmp(&(&b.condition, &b.subject)));
        self.call(async move {
            let mut tx = self.database.begin(Scope::Operator).await?;
            let now = tx.now().await?;
            let mut opened = Vec::new();
            for one in seen {
                let id = AlertId::new();
                let times = count(one.times);
                let row = tx
                    .fetch(
                        "alert",
                        SIGHT,
                        args![
                            id,
                            one.tenant,
                            one.condition,
                            one.subject,
                            one.severity,
                            one.message,
                            one.value,
                            one.limit,
                            now,
                            now.plus(one.hold),
                            times.max(1),
                            times
                        ],
                    )
                    .await?;
                let alert = alert(&row)?;
                if alert.id == id {
                    tx.tell_of(&alert, SystemTopic::AlertRaised, now).await?;
                    opened.push(alert);
                }
            }
            tx.commit().await?;
            Ok(opened)
        })
    }

    fn clear(&self, limit: u32) -> Reply<'_, Vec<Alert>> {
        const CLEAR: &str = concat!(
            "UPDATE alerts SET resolved_at = $1, told_due = $1, told_attempts = CASE told WHEN 1 THEN 0 ELSE told_attempts END
             WHERE id IN (SELECT id FROM alerts WHERE resolved_at IS NULL AND clears_at < $1 ORDER BY id LIMIT $2)
               AND resolved_at IS NULL AND clears_at < $1
             RETURNING ",
            alert_columns!()
        );
        self.call(async move {
            let mut tx = self.database.begin(Scope::Operator).await?;
            let now = tx.now().await?;
            let rows = tx.fetch_all(CLEAR, args![now, limit]).await?;
            let cleared = rows.iter().map(alert).collect::<Result<Vec<_>, _>>()?;
            for alert in &cleared {
                tx.tell_of(alert, SystemTopic::AlertResolved, now).await?;
            }
            tx.commit().await?;
            Ok(cleared)
        })
    }

    fn alerts(
        &self,
        of: Option<TenantId>,
        filter: AlertFilter,
        page: After<AlertId>,
    ) -> Reply<'_, Page<Alert>> {
        const LIST: &str = concat!(
            "SELECT ",
            alert_columns!(),
            " FROM alerts
              WHERE ($1 IS NULL OR id < $1) AND ($2 IS NULL OR tenant_id = $2) AND ($3 IS NULL OR severity = $3)
                AND ($4 = 'all'
                     OR $4 = 'resolved' AND resolved_at IS NOT NULL
                     OR resolved_at IS NULL AND ($4 = 'open'
                         OR $4 = 'raised' AND acknowledged_at IS NULL
                         OR $4 = 'acknowledged' AND acknowledged_at IS NOT NULL))
              ORDER BY id DESC LIMIT $5"
        );
        self.call(async move {
            let states = match filter.states {
                None => "all",
                Some(AlertStates::Open) => "open",
                Some(AlertStates::Only(state)) => state.as_str(),
            };
            let args = args![
                page.after,
                of.or(filter.tenant),
                filter.severity,
                states.to_owned(),
                page.fetch_limit()
            ];
            let rows = self.database.fetch_all(scope(of), LIST, args).await?;
            Ok(Page::cut(rows.iter().map(alert).collect::<Result<_, _>>()?, &page))
        })
    }

    fn acknowledge(&self, of: Option<TenantId>, id: AlertId, by: By) -> Reply<'_, Alert> {
        const LOCK: &str = concat!(
            "UPDATE alerts SET told = told WHERE id = $1 AND ($2 IS NULL OR tenant_id = $2) RETURNING ",
            alert_columns!()
        );
        const ACKNOWLEDGE: &str = concat!(
            "UPDATE alerts SET acknowledged_at = $2, acknowledged_by = $3 WHERE id = $1 RETURNING ",
            alert_columns!()
        );
        self.call(async move {
            // An operator's is noted in the trail of the tenant whose alert it is.
            let mut tx = self.database.begin(scope(of)).await?;
            let found = alert(&tx.fetch("alert", LOCK, args![id, of]).await?)?;
            match found.state() {
                AlertState::Resolved => return Err(StoreError::Conflict("the alert is resolved".to_owned())),
                AlertState::Acknowledged => return Ok(found),
                AlertState::Raised => {}
            }
            let row = tx.fetch("alert", ACKNOWLEDGE, args![id, by.at, by.actor.clone()]).await?;
            let details = json!({ "condition": found.condition, "subject": found.subject });
            tx.record(found.tenant_id, "alert.acknowledge", id, details, &by).await?;
            tx.commit().await?;
            alert(&row)
        })
    }

    fn standing(&self, since: Duration, limit: u32) -> Reply<'_, Vec<Alert>> {
        const STANDING: &str = concat!(
            "SELECT ",
            alert_columns!(),
            " FROM alerts WHERE resolved_at IS NULL OR resolved_at > $1
              ORDER BY severity DESC, id DESC LIMIT $2"
        );
        self.call(async move {
            let now = self.database.now().await?;
            let args = args![now.minus(since), limit];
            let rows = self.database.fetch_all(Scope::Operator, STANDING, args).await?;
            rows.iter().map(alert).collect()
        })
    }

    fn untold(&self, limit: u32) -> Reply<'_, Vec<Untold>> {
        const UNTOLD: &str = concat!(
            "SELECT told, told_attempts, ",
            alert_columns!(),
            " FROM alerts WHERE told_due <= $1 AND (told = 0 OR told = 1 AND resolved_at IS NOT NULL)
              ORDER BY told_due, id LIMIT $2"
        );
        self.call(async move {
            let now = self.database.now().await?;
            let rows = self.database.fetch_all(Scope::Operator, UNTOLD, args![now, limit]).await?;
            let untold = |row: &Row| {
                let telling = if row.get::<i64>("told")? == 0 { Telling::Raised } else { Telling::Resolved };
                Ok(Untold { alert: alert(row)?, telling, attempts: row.get("told_attempts")? })
            };
            rows.iter().map(untold).collect()
        })
    }

    fn settle_telling(&self, id: AlertId, telling: Telling, outcome: Told) -> Reply<'_, ()> {
        // Held against what was told before: two nodes that both had the turn for a moment do no harm.
        const DONE: &str =
            "UPDATE alerts SET told = $2 + 1, told_attempts = 0, told_due = $3 WHERE id = $1 AND told = $2";
        const AGAIN: &str =
            "UPDATE alerts SET told_attempts = told_attempts + 1, told_due = $3 WHERE id = $1 AND told = $2";
        self.call(async move {
            let before = match telling {
                Telling::Raised => 0_i64,
                Telling::Resolved => 1,
            };
            let mut tx = self.database.begin(Scope::Operator).await?;
            let now = tx.now().await?;
            match outcome {
                Told::Done => tx.execute(DONE, args![id, before, now]).await?,
                Told::Again(wait) => tx.execute(AGAIN, args![id, before, now.plus(wait)]).await?,
            };
            tx.commit().await
        })
    }

    fn forget_alerts(&self, age: Duration) -> Reply<'_, u64> {
        self.call(async move {
            let mut tx = self.database.begin(Scope::Operator).await?;
            let before = tx.now().await?.minus(age);
            let gone = tx.execute("DELETE FROM alerts WHERE resolved_at < $1", args![before]).await?;
            tx.commit().await?;
            Ok(gone)
        })
    }

    fn take_alert_turn(&self, node: NodeId, lease: Duration) -> Reply<'_, bool> {
        self.call(async move {
            let mut tx = self.database.begin(Scope::Operator).await?;
            let taken = tx.take_turn("alerts", node, lease).await?;
            tx.commit().await?;
            Ok(taken)
        })
    }

    fn quotas_reached(&self, after: Option<TenantId>, limit: u32) -> Reply<'_, Vec<QuotaReached>> {
        const REACHED: &str = "SELECT n.tenant_id AS tenant_id, max(n.threshold) AS threshold, max(n.event_limit) AS event_limit
             FROM billing_notices n
             JOIN billing_accounts a ON a.tenant_id = n.tenant_id AND a.period_start = n.period_start
             JOIN tenants t ON t.id = n.tenant_id AND t.deleted_at IS NULL
             WHERE a.period_end > $1 AND n.tenant_id > $2
             GROUP BY n.tenant_id ORDER BY n.tenant_id LIMIT $3";
        self.call(async move {
            let now = self.now().await?;
            let args = args![now, after.unwrap_or(TenantId::from_uuid(uuid::Uuid::nil())), limit];
            let rows = self.database.fetch_all(Scope::Operator, REACHED, args).await?;
            let reached = |row: &Row| {
                Ok(QuotaReached {
                    tenant: row.get("tenant_id")?,
                    threshold: row.get("threshold")?,
                    limit: row.get("event_limit")?,
                })
            };
            rows.iter().map(reached).collect()
        })
    }

    fn keeping(&self, after: Option<TenantId>, limit: u32) -> Reply<'_, Vec<Keeping>> {
        const KEEPING: &str = "SELECT t.id AS id, t.plan AS plan, t.overrides AS overrides,
                 CAST(sum(s.bytes - s.floor_bytes) AS BIGINT) AS bytes
             FROM log_storage s JOIN usage_positions u ON u.epoch = s.epoch AND u.ended_at IS NULL
             JOIN tenants t ON t.id = s.tenant_id AND t.deleted_at IS NULL
             WHERE s.tenant_id > $1 GROUP BY t.id, t.plan, t.overrides ORDER BY t.id LIMIT $2";
        self.call(async move {
            let args = args![after.unwrap_or(TenantId::from_uuid(uuid::Uuid::nil())), limit];
            let rows = self.database.fetch_all(Scope::Operator, KEEPING, args).await?;
            let keeping = |row: &Row| {
                let overrides: Overrides = row.get("overrides")?;
                let limits = overrides.over(row.get("plan")?)?;
                let bytes = from_stored(row.get("bytes")?)?;
                Ok(Keeping { tenant: row.get("id")?, bytes, limit: limits.retention_bytes })
            };
            rows.iter().map(keeping).collect()
        })
    }

    fn unpaid(&self, after: Option<TenantId>, limit: u32) -> Reply<'_, Vec<Unpaid>> {
        const UNPAID: &str =
            "SELECT a.tenant_id AS tenant_id, a.standing AS standing, a.past_due_since AS since
             FROM billing_accounts a JOIN tenants t ON t.id = a.tenant_id AND t.deleted_at IS NULL
             WHERE a.standing <> 'active' AND a.tenant_id > $1 ORDER BY a.tenant_id LIMIT $2";
        self.call(async move {
            let args = args![after.unwrap_or(TenantId::from_uuid(uuid::Uuid::nil())), limit];
            let rows = self.database.fetch_all(Scope::Operator, UNPAID, args).await?;
            let unpaid = |row: &Row| {
                let standing: Standing = row.get("standing")?;
                let suspended = standing == Standing::Suspended;
                Ok(Unpaid { tenant: row.get("tenant_id")?, suspended, since: row.get("since")? })
            };
            rows.iter().map(unpaid).collect()
        })
    }

    fn failing_webhooks(
        &self,
        after: Option<WebhookId>,
        patience: Duration,
        limit: u32,
    ) -> Reply<'_, Vec<FailingWebhook>> {
        // Who asked for it to be disabled knows.
        const FAILING: &str = "SELECT id, tenant_id, enabled, coalesce(disabled_at, failing_since) AS since FROM webhooks
             WHERE id > $1 AND (enabled = 1 AND failing_since <= $2 OR enabled = 0 AND disabled_for IN ('failing', 'gone'))
             ORDER BY id LIMIT $3";
        self.call(async move {
            let long_ago = self.now().await?.minus(patience);
            let args = args![after.unwrap_or(WebhookId::from_uuid(uuid::Uuid::nil())), long_ago, limit];
            let rows = self.database.fetch_all(Scope::Operator, FAILING, args).await?;
            let failing = |row: &Row| {
                Ok(FailingWebhook {
                    webhook: row.get("id")?,
                    tenant: row.get("tenant_id")?,
                    since: row.get("since")?,
                    disabled: row.get::<i64>("enabled")? == 0,
                })
            };
            rows.iter().map(failing).collect()
        })
    }

    fn note_version(&self, node: NodeId, version: String) -> Reply<'_, ()> {
        const NOTE: &str = "UPDATE nodes SET version = $2 WHERE id = $1 AND version <> $2";
        self.call(async move {
            let mut tx = self.database.begin(Scope::Operator).await?;
            tx.execute(NOTE, args![node, version]).await?;
            tx.commit().await
        })
    }

    fn node_versions(&self) -> Reply<'_, Vec<(NodeId, String)>> {
        const VERSIONS: &str = "SELECT id, version FROM nodes WHERE lease_until >= $1 ORDER BY id";
        self.call(async move {
            let now = self.database.now().await?;
            let rows = self.database.fetch_all(Scope::Operator, VERSIONS, args![now]).await?;
            rows.iter().map(|row| Ok((row.get("id")?, row.get("version")?))).collect()
        })
    }

    fn database_time(&self) -> Reply<'_, Timestamp> {
        self.call(self.database.now())
    }
}
