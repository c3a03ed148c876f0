//! What the payment provider says.

use super::Sql;
use super::columns::{columns, tenant_columns};
use super::database::{Scope, Tx};
use super::tenants::tenant;
use super::value::{Row, args};
use crate::{
    AccessChangeKind, Brake, By, Changed, Handled, PaymentEvent, PaymentEvents, Payments, Reply, Standing,
    Stood, StoreError, SubscriptionState, TenantStatus, UNPAID,
};
use serde_json::json;
use std::time::Duration;
use weir_core::{TenantId, Timestamp};

const HOUR: Duration = Duration::from_secs(3600);

impl Tx {
    /// Whether one more suspension is allowed; if so it counts. Call with the brake's row locked.
    async fn brake_lets(
        &mut self,
        tenant: TenantId,
        brake: Brake,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let row = self
            .fetch(
                "count",
                "SELECT count(*) AS lately FROM payment_suspensions WHERE at > $1",
                args![now.minus(brake.within)],
            )
            .await?;
        if row.get::<i64>("lately")? >= i64::from(brake.most) {
            return Ok(false);
        }
        self.execute("INSERT INTO payment_suspensions (tenant_id, at) VALUES ($1, $2)", args![tenant, now])
            .await?;
        Ok(true)
    }

    /// Whether no newer look at the tenant has begun. Call with the tenant's lock held, and its account made.
    async fn is_newest(&mut self, tenant: TenantId, look: i64) -> Result<bool, StoreError> {
        let row = self
            .fetch("account", "SELECT looks FROM billing_accounts WHERE tenant_id = $1", args![tenant])
            .await?;
        Ok(row.get::<i64>("looks")? == look)
    }

    async fn note_subscription(
        &mut self,
        tenant: TenantId,
        one: &SubscriptionState,
        next: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        // Hours that begin before it does are not its own; one that is not over when it ends is nobody's.
        let from = one.since.plus(HOUR).minus(Duration::from_micros(1)).hour();
        let until = match (one.ended.map(Timestamp::hour), next) {
            (Some(ended), Some(next)) => Some(ended.min(next)),
            (ended, next) => ended.or(next),
        };
        self.execute(
            "INSERT INTO stripe_subscriptions (subscription_id, tenant_id, customer_id, metered_from, metered_until)
             VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (subscription_id) DO UPDATE SET metered_until = excluded.metered_until
             WHERE stripe_subscriptions.tenant_id = excluded.tenant_id",
            args![one.id.clone(), tenant, one.customer_id.clone(), from, until],
        )
        .await
        .map(drop)
    }
}

impl Payments for Sql {
    fn link_customer(&self, tenant: TenantId, customer: String, by: By) -> Reply<'_, String> {
        self.call(async move {
            let mut tx = self.database.begin(tenant).await?;
            tx.lock_billing(tenant).await?;
            let now = self.time(&mut tx).await?;
            if let Some(known) = tx.account(tenant, now).await?.stripe_customer_id {
                return Ok(known);
            }
            tx.execute(
                "UPDATE billing_accounts SET stripe_customer_id = $2 WHERE tenant_id = $1",
                args![tenant, customer.clone()],
            )
            .await?;
            tx.record(tenant, "billing.customer", tenant, json!({ "customer": customer }), &by).await?;
            tx.commit().await?;
            Ok(customer)
        })
    }

    fn tenant_of_customer(&self, customer: String) -> Reply<'_, Option<TenantId>> {
        const WHOSE: &str = "SELECT tenant_id FROM billing_accounts WHERE stripe_customer_id = $1";
        self.call(async move {
            let row = self.database.fetch_optional(Scope::Operator, WHOSE, args![customer]).await?;
            row.map(|row| row.get("tenant_id")).transpose()
        })
    }

    fn begin_look(&self, tenant: TenantId) -> Reply<'_, i64> {
        const LOOK: &str =
            "UPDATE billing_accounts SET looks = looks + 1 WHERE tenant_id = $1 RETURNING looks";
        self.call(async move {
            let mut tx = self.database.begin(tenant).await?;
            tx.lock_billing(tenant).await?;
            let now = self.time(&mut tx).await?;
            tx.account(tenant, now).await?;
            let look = tx.fetch("account", LOOK, args![tenant]).await?.get("looks")?;
            tx.commit().await?;
            Ok(look)
        })
    }

    fn note_subscriptions(
        &self,
        tenant: TenantId,
        look: i64,
        all: Vec<SubscriptionState>,
    ) -> Reply<'_, bool> {
        self.call(async move {
            let mut tx = self.database.begin(tenant).await?;
            tx.lock_billing(tenant).await?;
            let now = self.time(&mut tx).await?;
            tx.account(tenant, now).await?;
            if !tx.is_newest(tenant, look).await? {
                return Ok(false);
            }
            // Of two at once the newer one is metered from its beginning, so that no hour is reported for both.
            let mut next = None;
            for one in &all {
                tx.note_subscription(tenant, one, next).await?;
                next = Some(one.since.plus(HOUR).minus(Duration::from_micros(1)).hour());
            }
            let current = all.iter().find(|one| one.ended.is_none()).map(|one| one.id.clone());
            tx.execute(
                "UPDATE billing_accounts SET stripe_subscription_id = $2 WHERE tenant_id = $1",
                args![tenant, current],
            )
            .await?;
            tx.commit().await?;
            Ok(true)
        })
    }

    fn set_standing(
        &self,
        id: TenantId,
        look: i64,
        standing: Standing,
        brake: Brake,
        by: By,
    ) -> Reply<'_, Stood> {
        self.call(async move {
            let mut tx = self.database.begin(Scope::Operator).await?;
            let now = self.time(&mut tx).await?;
            if standing == Standing::Suspended {
                // Before the tenant's row: everybody takes the two in this order.
                tx.execute("UPDATE turns SET until = until WHERE name = 'brake'", args![]).await?;
            }
            tx.lock_billing(id).await?;
            let before = tx.account(id, now).await?;
            if !tx.is_newest(id, look).await? {
                return Ok(Stood::Outdated);
            }
            const READ: &str = concat!("SELECT ", tenant_columns!(""), " FROM tenants WHERE id = $1");
            let then = tenant(&tx.fetch("tenant", READ, args![id]).await?)?;
            let unpaid = then.status_reason.as_deref() == Some(UNPAID);
            let next = match (standing, then.status) {
                // What was suspended for another reason stays so, whatever is paid or owed.
                (_, TenantStatus::Suspended) if !unpaid => None,
                (Standing::Active, TenantStatus::PastDue | TenantStatus::Suspended) => {
                    Some(TenantStatus::Active)
                }
                (Standing::PastDue, TenantStatus::Active | TenantStatus::Trial) => {
                    Some(TenantStatus::PastDue)
                }
                (Standing::Suspended, TenantStatus::Active | TenantStatus::Trial | TenantStatus::PastDue) => {
                    Some(TenantStatus::Suspended)
                }
                _ => None,
            };
            let (standing, since) = match (standing, before.standing) {
                (Standing::Active, _) => (Standing::Active, None),
                // Who is suspended is not set back to past due: only a payment mends it.
                (Standing::PastDue, Standing::Suspended) if then.status == TenantStatus::Suspended => {
                    (Standing::Suspended, before.past_due_since)
                }
                // Somebody let it go on: it has another time of grace.
                (Standing::PastDue, Standing::Suspended) => (Standing::PastDue, Some(now)),
                (standing, _) => (standing, Some(before.past_due_since.unwrap_or(now))),
            };
            if next.is_none() && standing == before.standing {
                return Ok(Stood::Already);
            }
            if next == Some(TenantStatus::Suspended) && !tx.brake_lets(id, brake, now).await? {
                return Ok(Stood::Braked);
            }
            tx.execute(
                "UPDATE billing_accounts SET standing = $2, past_due_since = $3 WHERE tenant_id = $1",
                args![id, standing, since],
            )
            .await?;
            let Some(status) = next else {
                tx.record(id, "billing.standing", id, json!({ "standing": standing }), &by).await?;
                tx.commit().await?;
                return Ok(Stood::Already);
            };
            let reason = (status != TenantStatus::Active).then(|| UNPAID.to_owned());
            const SET: &str = concat!(
                "UPDATE tenants SET status = $2, status_reason = $3 WHERE id = $1 RETURNING ",
                tenant_columns!("")
            );
            let row = tx.fetch("tenant", SET, args![id, status, reason.clone()]).await?;
            let mut value = tenant(&row)?;
            let details = json!({ "status": status, "reason": reason });
            let change = tx.change_access(id, AccessChangeKind::TenantStatus, id, details, &by).await?;
            tx.commit().await?;
            value.access_version += 1;
            Ok(Stood::Changed(Box::new(Changed { value, change })))
        })
    }

    fn past_due(&self, since: Timestamp, limit: u32) -> Reply<'_, Vec<TenantId>> {
        const PAST: &str = "SELECT tenant_id FROM billing_accounts
             WHERE standing = 'past_due' AND past_due_since <= $1 ORDER BY past_due_since LIMIT $2";
        self.call(async move {
            let rows = self.database.fetch_all(Scope::Operator, PAST, args![since, limit]).await?;
            rows.iter().map(|row| row.get("tenant_id")).collect()
        })
    }

    fn troubled(&self, after: Option<TenantId>, limit: u32) -> Reply<'_, Vec<TenantId>> {
        const TROUBLED: &str = "SELECT tenant_id FROM billing_accounts
             WHERE standing <> 'active' AND stripe_customer_id IS NOT NULL AND tenant_id > $1
             ORDER BY tenant_id LIMIT $2";
        self.call(async move {
            let after = after.unwrap_or(TenantId::from_uuid(uuid::Uuid::nil()));
            let rows = self.database.fetch_all(Scope::Operator, TROUBLED, args![after, limit]).await?;
            rows.iter().map(|row| row.get("tenant_id")).collect()
        })
    }

    fn time(&self) -> Reply<'_, Timestamp> {
        self.call(self.now())
    }
}

impl PaymentEvents for Sql {
    fn take_event(&self, id: String, kind: String, customer: Option<String>) -> Reply<'_, bool> {
        const TAKE: &str = "INSERT INTO stripe_events (event_id, kind, customer_id, received_at, due_at)
             VALUES ($1, $2, $3, $4, $4) ON CONFLICT (event_id) DO NOTHING";
        self.call(async move {
            let mut tx = self.database.begin(Scope::Operator).await?;
            let now = self.time(&mut tx).await?;
            let taken = tx.execute(TAKE, args![id, kind, customer, now]).await?;
            tx.commit().await?;
            Ok(taken > 0)
        })
    }

    fn due_events(&self, limit: u32) -> Reply<'_, Vec<PaymentEvent>> {
        const DUE: &str = "SELECT event_id, kind, customer_id, attempts FROM stripe_events
             WHERE handled_at IS NULL AND due_at <= $1 ORDER BY due_at LIMIT $2";
        self.call(async move {
            let now = self.now().await?;
            let rows = self.database.fetch_all(Scope::Operator, DUE, args![now, limit]).await?;
            let event = |row: &Row| {
                Ok(PaymentEvent {
                    id: row.get("event_id")?,
                    kind: row.get("kind")?,
                    customer_id: row.get("customer_id")?,
                    attempts: row.get("attempts")?,
                })
            };
            rows.iter().map(event).collect()
        })
    }

    fn settle_event(&self, id: String, handled: Handled) -> Reply<'_, ()> {
        const DONE: &str = "UPDATE stripe_events SET handled_at = $2, outcome = $3, attempts = attempts + 1
             WHERE event_id = $1 AND handled_at IS NULL";
        const AGAIN: &str = "UPDATE stripe_events SET due_at = $2, attempts = attempts + 1
             WHERE event_id = $1 AND handled_at IS NULL";
        self.call(async move {
            let mut tx = self.database.begin(Scope::Operator).await?;
            match handled {
                Handled::Done(outcome) => {
                    let now = self.time(&mut tx).await?;
                    tx.execute(DONE, args![id, now, outcome]).await?
                }
                Handled::Again(at) => tx.execute(AGAIN, args![id, at]).await?,
            };
            tx.commit().await
        })
    }

    fn forget_events(&self, keep: Duration) -> Reply<'_, u64> {
        self.call(async move {
            let mut tx = self.database.begin(Scope::Operator).await?;
            let before = self.time(&mut tx).await?.minus(keep);
            let gone = tx.execute("DELETE FROM stripe_events WHERE handled_at < $1", args![before]).await?;
            tx.execute("DELETE FROM payment_suspensions WHERE at < $1", args![before]).await?;
            tx.commit().await?;
            Ok(gone)
        })
    }
}
