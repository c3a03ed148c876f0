//! Billing accounts and plans.

use super::Sql;
use super::database::{Scope, Tx};
use super::value::{Row, args};
use crate::{AccessChangeKind, Account, Billing, By, Changed, Overrides, Reply, StoreError, Terms};
use serde_json::json;
use weir_core::{Period, Plan, PlanName, TenantId, Timestamp};

const ACCOUNT: &str =
    "SELECT t.id, t.plan, t.overrides, t.created_at, a.anchor, a.period_start, a.period_end,
        a.spend_cap_micros, a.standing, a.past_due_since, a.stripe_customer_id, a.stripe_subscription_id,
        p.name, p.version, p.currency, p.monthly_events, p.price_per_event_micros
     FROM tenants t
     LEFT JOIN billing_accounts a ON a.tenant_id = t.id
     LEFT JOIN plans p ON p.name = t.plan AND p.version = a.plan_version
     WHERE t.id = $1";
const NEWEST: &str = "SELECT name, version, currency, monthly_events, price_per_event_micros FROM plans p
     WHERE version = (SELECT max(version) FROM plans q WHERE q.name = p.name)";

fn plan(row: &Row) -> Result<Plan, StoreError> {
    Ok(Plan {
        name: row.get("name")?,
        version: row.get("version")?,
        currency: row.get("currency")?,
        monthly_events: row.get("monthly_events")?,
        price_per_event_micros: row.get("price_per_event_micros")?,
    })
}

fn account(row: &Row) -> Result<Account, StoreError> {
    let (name, overrides): (PlanName, Overrides) = (row.get("plan")?, row.get("overrides")?);
    Ok(Account {
        tenant_id: row.get("id")?,
        plan: plan(row)?,
        anchor: row.get("anchor")?,
        period: Period { start: row.get("period_start")?, end: row.get("period_end")? },
        spend_cap_micros: row.get("spend_cap_micros")?,
        own_limit: overrides.over(name)?.monthly_events,
        standing: row.get("standing")?,
        past_due_since: row.get("past_due_since")?,
        stripe_customer_id: row.get("stripe_customer_id")?,
        stripe_subscription_id: row.get("stripe_subscription_id")?,
    })
}

impl Tx {
    /// What all who change a tenant's billing queue for. SQLite has one writer anyway.
    pub async fn lock_billing(&mut self, tenant: TenantId) -> Result<(), StoreError> {
        const LOCK: &str = "SELECT id FROM tenants WHERE id = $1 FOR NO KEY UPDATE";
        if matches!(self, Self::Postgres(_)) {
            self.fetch("tenant", LOCK, args![tenant]).await?;
        }
        Ok(())
    }

    /// The tenant's account in the period of `now`, made or moved on if need be. Call with the tenant's lock held.
    pub async fn account(&mut self, tenant: TenantId, now: Timestamp) -> Result<Account, StoreError> {
        let mut row = self.fetch("tenant", ACCOUNT, args![tenant]).await?;
        if row.get::<Option<Timestamp>>("anchor")?.is_none() {
            self.make_account(&row, now).await?;
            row = self.fetch("tenant", ACCOUNT, args![tenant]).await?;
        }
        let mut account = account(&row)?;
        if now >= account.period.end {
            let next = Period::monthly(account.anchor, now);
            // A subscription's last period may end where none of the anchor's months does.
            account.period = Period { start: next.start.max(account.period.end), end: next.end };
            self.set_account_period(&account).await?;
        }
        Ok(account)
    }

    async fn make_account(&mut self, tenant: &Row, now: Timestamp) -> Result<(), StoreError> {
        let created = tenant.get::<Timestamp>("created_at")?;
        let anchor = created.hour();
        let period = Period::monthly(anchor, now);
        self.execute(
            "INSERT INTO billing_accounts (tenant_id, plan_version, anchor, period_start, period_end)
             VALUES ($1, (SELECT max(version) FROM plans WHERE name = $2), $3, $4, $5)",
            args![
                tenant.get::<TenantId>("id")?,
                tenant.get::<PlanName>("plan")?,
                anchor,
                period.start,
                period.end
            ],
        )
        .await?;
        self.note_terms(tenant.get("id")?, created).await
    }

    /// Remembers which terms the tenant has from `since` on: those of its row and account.
    async fn note_terms(&mut self, tenant: TenantId, since: Timestamp) -> Result<(), StoreError> {
        self.execute(
            "INSERT INTO billing_terms (tenant_id, since, plan, plan_version)
             SELECT t.id, $2, t.plan, a.plan_version
             FROM tenants t JOIN billing_accounts a ON a.tenant_id = t.id WHERE t.id = $1
             ON CONFLICT (tenant_id, since)
                 DO UPDATE SET plan = excluded.plan, plan_version = excluded.plan_version",
            args![tenant, since],
        )
        .await
        .map(drop)
    }

    async fn set_account_period(&mut self, account: &Account) -> Result<(), StoreError> {
        self.execute(
            "UPDATE billing_accounts SET anchor = $2, period_start = $3, period_end = $4 WHERE tenant_id = $1",
            args![account.tenant_id, account.anchor, account.period.start, account.period.end],
        )
        .await
        .map(drop)
    }

    /// The tenant changed to another plan: it gets the version that is sold now. Its row is locked, and has the plan.
    pub async fn change_terms(
        &mut self,
        tenant: TenantId,
        plan: PlanName,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.execute(
            "UPDATE billing_accounts SET plan_version = (SELECT max(version) FROM plans WHERE name = $2)
             WHERE tenant_id = $1",
            args![tenant, plan],
        )
        .await?;
        self.note_terms(tenant, now).await
    }
}

impl Billing for Sql {
    fn account(&self, tenant: TenantId) -> Reply<'_, Account> {
        self.call(async move {
            let now = self.now().await?;
            if let Some(row) = self.database.fetch_optional(tenant, ACCOUNT, args![tenant]).await?
                && row.get::<Option<Timestamp>>("period_end")?.is_some_and(|end| now < end)
            {
                return account(&row);
            }
            let mut tx = self.database.begin(tenant).await?;
            tx.lock_billing(tenant).await?;
            let account = tx.account(tenant, now).await?;
            tx.commit().await?;
            Ok(account)
        })
    }

    fn terms(&self, tenant: TenantId) -> Reply<'_, Vec<Terms>> {
        const TERMS: &str =
            "SELECT b.since, p.name, p.version, p.currency, p.monthly_events, p.price_per_event_micros
             FROM billing_terms b JOIN plans p ON p.name = b.plan AND p.version = b.plan_version
             WHERE b.tenant_id = $1 ORDER BY b.since";
        self.call(async move {
            let rows = self.database.fetch_all(tenant, TERMS, args![tenant]).await?;
            let terms = |row: &Row| Ok(Terms { since: row.get("since")?, plan: plan(row)? });
            rows.iter().map(terms).collect()
        })
    }

    fn set_spend_cap(&self, tenant: TenantId, cap: Option<u64>, by: By) -> Reply<'_, Changed<Account>> {
        self.call(async move {
            let stored = cap.map(to_stored).transpose()?;
            let mut tx = self.database.begin(tenant).await?;
            tx.lock_billing(tenant).await?;
            let now = self.time(&mut tx).await?;
            let mut account = tx.account(tenant, now).await?;
            if cap.is_some() && account.plan.price_per_event_micros == 0 {
                return Err(StoreError::Invalid(format!(
                    "the plan `{}` has no price, so there is nothing to cap: a spend cap needs a plan on which events \
                     beyond the included ones are paid",
                    account.plan.name
                )));
            }
            let unlimited = account.event_limit().is_none();
            account.spend_cap_micros = cap;
            tx.execute(
                "UPDATE billing_accounts SET spend_cap_micros = $2 WHERE tenant_id = $1",
                args![tenant, stored],
            )
            .await?;
            if unlimited && account.event_limit().is_some() {
                tx.begin_limit(&account).await?;
            }
            let details = json!({ "spend_cap_micros": cap, "currency": account.plan.currency });
            let change = tx.change_access(tenant, AccessChangeKind::SpendCap, tenant, details, &by).await?;
            tx.commit().await?;
            Ok(Changed { value: account, change })
        })
    }

    fn set_period(&self, tenant: TenantId, anchor: Timestamp, period: Period, by: By) -> Reply<'_, Account> {
        self.call(async move {
            let mut tx = self.database.begin(tenant).await?;
            tx.lock_billing(tenant).await?;
            let now = self.time(&mut tx).await?;
            let wanted = whole_hours(period);
            if wanted.start > now || wanted.end <= wanted.start {
                return Err(StoreError::Invalid(format!(
                    "a period from {} to {} is none that an account can be in at {now}",
                    period.start, period.end
                )));
            }
            let mut account = tx.account(tenant, now).await?;
            let same = account.period == wanted && account.anchor == anchor.hour();
            if same || wanted.start < account.period.start {
                return Ok(account);
            }
            (account.anchor, account.period) = (anchor.hour(), wanted);
            tx.set_account_period(&account).await?;
            let details = json!({ "period_start": wanted.start, "period_end": wanted.end });
            tx.record(tenant, "billing.period", tenant, details, &by).await?;
            tx.commit().await?;
            Ok(account)
        })
    }

    fn plans(&self) -> Reply<'_, Vec<Plan>> {
        self.call(async {
            let rows = self.database.fetch_all(Scope::Operator, NEWEST, args![]).await?;
            let mut plans = rows.iter().map(plan).collect::<Result<Vec<_>, _>>()?;
            plans.sort_by_key(|plan| (plan.name as u8, plan.version));
            Ok(plans)
        })
    }

    fn plan(&self, name: PlanName, version: u32) -> Reply<'_, Plan> {
        const ONE: &str = "SELECT name, version, currency, monthly_events, price_per_event_micros FROM plans
             WHERE name = $1 AND version = $2";
        self.call(async move {
            let row = self.database.fetch_optional(Scope::Operator, ONE, args![name, version]).await?;
            plan(&row.ok_or(StoreError::NotFound("version of the plan"))?)
        })
    }

    fn add_plan(&self, terms: Plan, by: By) -> Reply<'_, Plan> {
        self.call(async move {
            let events = terms.monthly_events.map(to_stored).transpose()?;
            let price = to_stored(terms.price_per_event_micros)?;
            let mut tx = self.database.begin(Scope::Operator).await?;
            // Of two at once one finds its number taken: `Conflict`, and nothing was added.
            let row = tx
                .fetch(
                    "plan",
                    "INSERT INTO plans (name, version, currency, monthly_events, price_per_event_micros)
                     VALUES ($1, (SELECT coalesce(max(version), 0) + 1 FROM plans WHERE name = $1), $2, $3, $4)
                     RETURNING name, version, currency, monthly_events, price_per_event_micros",
                    args![terms.name, terms.currency, events, price],
                )
                .await?;
            let added = plan(&row)?;
            tx.record(None, "plan.add", format!("{}/{}", added.name, added.version), json!(added), &by).await?;
            tx.commit().await?;
            Ok(added)
        })
    }
}

/// The period with both ends moved back to the hour: periods lie end to end, as those of the subscription do.
fn whole_hours(period: Period) -> Period {
    Period { start: period.start.hour(), end: period.end.hour() }
}

/// A number of events or an amount, as the database counts.
pub fn to_stored(number: u64) -> Result<i64, StoreError> {
    number.try_into().map_err(|_| StoreError::Invalid(format!("{number} is more than {}", i64::MAX)))
}
