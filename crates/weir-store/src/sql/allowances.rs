//! Leases of events. Who touches what belongs to a tenant holds the lock of its row, see `lock_billing`.

use super::Sql;
use super::billing::to_stored;
use super::database::{Scope, Tx};
use super::value::{Row, args};
use crate::allowances::{Allowances, Doubt, Held, IN_DOUBT, Lease, LeaseWish, Reached};
use crate::notice::Notice;
use crate::{Accepted, Account, Metric, Reply, StoreError};
use serde_json::json;
use std::time::Duration;
use weir_core::{NodeId, Period, SystemTopic, TenantId, Timestamp};

/// The shares of a limit that are worth a word, in percent.
const THRESHOLDS: [u32; 3] = [50, 80, 100];

/// A row of `allowance_periods`.
struct Settled {
    tenant: TenantId,
    period: Period,
    settled: u64,
    recount_after: Option<Timestamp>,
    unleased: bool,
    snapshot: Option<(Timestamp, u64)>,
    noticed: u32,
}

impl Settled {
    /// Nothing was accepted yet.
    const fn nothing(tenant: TenantId, period: Period) -> Self {
        Self { tenant, period, settled: 0, recount_after: None, unleased: false, snapshot: None, noticed: 0 }
    }

    /// Adds what may have been accepted beyond leases that stand; in doubt, the log will be asked. What was noted
    /// before for the recount knew nothing of it.
    fn add(&mut self, events: u64, in_doubt_until: Option<Timestamp>) {
        self.settled = self.settled.saturating_add(events);
        self.recount_after = self.recount_after.max(in_doubt_until);
        self.snapshot = None;
    }
}

/// Sums of the leases that stand.
struct Standing {
    nodes: u64,
    own_node_lives: bool,
    others_granted: u64,
    others_used: u64,
}

fn settled(row: &Row) -> Result<Settled, StoreError> {
    let snapshot: (Option<Timestamp>, Option<u64>) = (row.get("snapshot_at")?, row.get("snapshot_used")?);
    Ok(Settled {
        tenant: row.get("tenant_id")?,
        period: Period { start: row.get("period_start")?, end: row.get("period_end")? },
        settled: row.get("settled")?,
        recount_after: row.get("recount_after")?,
        unleased: row.get("unleased")?,
        snapshot: snapshot.0.zip(snapshot.1),
        noticed: row.get("noticed")?,
    })
}

fn held(row: &Row) -> Result<Held, StoreError> {
    Ok(Held {
        period_start: row.get("period_start")?,
        granted: row.get("granted")?,
        used: row.get("used")?,
        flying: 0,
        doubtful: row.get("doubtful")?,
    })
}

/// What a node holds after its wish, where there is `room` for so much.
fn grant(wish: &LeaseWish, held: &Held, room: u64, nodes: u64) -> u64 {
    // Nothing is taken from it here, even where the limit was lowered: it might not hear of that. It hears of the change
    // itself, and gives back what it does not use.
    let free = room.saturating_sub(held.granted);
    // Half of an equal part: what is left lasts for several questions of every node, and the last ones are of one.
    let fair = wish.more.min(free / nodes.max(1) / 2);
    held.granted + free.min(fair.max(wish.waiting))
}

impl Tx {
    async fn settled(&mut self, tenant: TenantId, start: Timestamp) -> Result<Option<Settled>, StoreError> {
        const READ: &str =
            "SELECT tenant_id, period_start, period_end, settled, recount_after, unleased, snapshot_at,
                snapshot_used, noticed
             FROM allowance_periods WHERE tenant_id = $1 AND period_start = $2";
        self.fetch_optional(READ, args![tenant, start]).await?.as_ref().map(settled).transpose()
    }

    async fn set_settled(&mut self, to: &Settled) -> Result<(), StoreError> {
        const WRITE: &str = "INSERT INTO allowance_periods (tenant_id, period_start, period_end, settled,
                recount_after, unleased, snapshot_at, snapshot_used, noticed)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
             ON CONFLICT (tenant_id, period_start) DO UPDATE SET period_end = excluded.period_end,
                settled = excluded.settled, recount_after = excluded.recount_after, unleased = excluded.unleased,
                snapshot_at = excluded.snapshot_at, snapshot_used = excluded.snapshot_used,
                noticed = excluded.noticed";
        let (at, used) = to.snapshot.unzip();
        let used = used.map(to_stored).transpose()?;
        let (Period { start, end }, settled) = (to.period, to_stored(to.settled)?);
        self.execute(
            WRITE,
            args![to.tenant, start, end, settled, to.recount_after, to.unleased, at, used, to.noticed],
        )
        .await
        .map(drop)
    }

    async fn own_lease(
        &mut self,
        tenant: TenantId,
        start: Timestamp,
        node: NodeId,
    ) -> Result<Option<Held>, StoreError> {
        const READ: &str = "SELECT period_start, granted, used, doubtful FROM allowance_leases
             WHERE tenant_id = $1 AND period_start = $2 AND node_id = $3";
        self.fetch_optional(READ, args![tenant, start, node]).await?.as_ref().map(held).transpose()
    }

    async fn set_lease(&mut self, tenant: TenantId, node: NodeId, to: &Held) -> Result<(), StoreError> {
        let (granted, used, doubtful) =
            (to_stored(to.granted)?, to_stored(to.used)?, to_stored(to.doubtful)?);
        self.execute(
            "INSERT INTO allowance_leases (tenant_id, period_start, node_id, granted, used, doubtful)
             VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (tenant_id, period_start, node_id)
             DO UPDATE SET granted = excluded.granted, used = excluded.used, doubtful = excluded.doubtful",
            args![tenant, to.period_start, node, granted, used, doubtful],
        )
        .await
        .map(drop)
    }

    async fn drop_lease(
        &mut self,
        tenant: TenantId,
        start: Timestamp,
        node: NodeId,
    ) -> Result<(), StoreError> {
        let sql = "DELETE FROM allowance_leases WHERE tenant_id = $1 AND period_start = $2 AND node_id = $3";
        self.execute(sql, args![tenant, start, node]).await.map(drop)
    }

    /// The leases that stand. Those of nodes that are gone stand until they are ended.
    async fn standing(
        &mut self,
        tenant: TenantId,
        start: Timestamp,
        node: NodeId,
        now: Timestamp,
    ) -> Result<Standing, StoreError> {
        const SUMS: &str = "SELECT
                (SELECT count(*) FROM nodes WHERE lease_until >= $4) AS nodes,
                (SELECT count(*) FROM nodes WHERE lease_until >= $4 AND id = $3) AS own,
                CAST(coalesce(sum(granted), 0) AS BIGINT) AS granted,
                CAST(coalesce(sum(used), 0) AS BIGINT) AS used
             FROM allowance_leases WHERE tenant_id = $1 AND period_start = $2 AND node_id <> $3";
        let row = self.fetch("sum", SUMS, args![tenant, start, node, now]).await?;
        Ok(Standing {
            nodes: row.get("nodes")?,
            own_node_lives: row.get::<i64>("own")? > 0,
            others_granted: row.get("granted")?,
            others_used: row.get("used")?,
        })
    }

    /// What the log took since the beginning of the period, as far as it is counted. Without an end: as long as the
    /// period lasts nothing belongs to a later one, whatever a node's clock says.
    async fn counted(&mut self, tenant: TenantId, start: Timestamp) -> Result<u64, StoreError> {
        const COUNTED: &str =
            "SELECT CAST(coalesce(sum(quantity), 0) AS BIGINT) AS quantity FROM usage_hourly
             WHERE tenant_id = $1 AND metric = $2 AND window_start >= $3";
        self.fetch("sum", COUNTED, args![tenant, Metric::EventsPublished, start]).await?.get("quantity")
    }

    /// Notes the shares of the limit that `used` reaches and that were not noted before.
    async fn note_reached(
        &mut self,
        of: &mut Settled,
        used: u64,
        limit: u64,
        now: Timestamp,
    ) -> Result<Vec<u32>, StoreError> {
        let mut reached = Vec::new();
        let percent = u128::from(used) * 100;
        for threshold in THRESHOLDS {
            let is_reached = limit > 0 && percent >= u128::from(limit) * u128::from(threshold);
            if !is_reached || threshold <= of.noticed {
                continue;
            }
            of.noticed = threshold;
            let new = self
                .execute(
                    "INSERT INTO billing_notices (tenant_id, period_start, metric, threshold, event_limit, at)
                     VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
                    args![
                        of.tenant,
                        of.period.start,
                        Metric::EventsPublished,
                        threshold,
                        to_stored(limit)?,
                        now
                    ],
                )
                .await?;
            if new > 0 {
                reached.push(threshold);
                let told = json!({
                    "metric": Metric::EventsPublished, "percent": threshold, "limit": limit, "used": used,
                    "period_start": of.period.start, "period_end": of.period.end,
                });
                self.tell(of.tenant, None, SystemTopic::LimitThreshold, &told, now).await?;
            }
        }
        Ok(reached)
    }

    /// A tenant without a limit gets one: what it has of the period, and what is accepted until every node has heard of
    /// it, was not leased, and counts.
    pub async fn begin_limit(&mut self, account: &Account) -> Result<(), StoreError> {
        let (tenant, period) = (account.tenant_id, account.period);
        let now = self.now().await?;
        let begun = self.settled(tenant, period.start).await?;
        let mut of = begun.unwrap_or(Settled::nothing(tenant, period));
        (of.unleased, of.recount_after, of.snapshot) = (true, Some(now.plus(IN_DOUBT)), None);
        self.set_settled(&of).await
    }

    /// Nothing is leased to a tenant without a limit. If it gets one in this period, the log says how much was
    /// accepted meanwhile.
    async fn stop_leasing(&mut self, wish: &LeaseWish, account: &Account) -> Result<(), StoreError> {
        let (tenant, start) = (wish.tenant, account.period.start);
        let Some(mut of) = self.settled(tenant, start).await? else { return Ok(()) };
        if let Some(own) = self.own_lease(tenant, start, wish.node).await? {
            of.add(own.granted, None);
            self.drop_lease(tenant, start, wish.node).await?;
        }
        (of.unleased, of.recount_after, of.snapshot) = (true, None, None);
        self.set_settled(&of).await
    }
}

/// Takes note of what a node says of its lease, so that saying it twice changes nothing.
fn note(of: &mut Settled, stored: &Held, said: &Held, now: Timestamp) -> Held {
    let doubtful = said.doubtful.saturating_sub(stored.doubtful);
    if doubtful > 0 {
        of.add(doubtful, Some(now.plus(IN_DOUBT)));
    }
    Held {
        period_start: stored.period_start,
        // It does not know of a grant whose answer it never got; of what it gave back it has used nothing.
        granted: said.granted.min(stored.granted.saturating_sub(doubtful)),
        used: said.used.max(stored.used),
        flying: said.flying,
        doubtful: said.doubtful.max(stored.doubtful),
    }
}

impl Sql {
    async fn lease_now(&self, wish: LeaseWish) -> Result<Lease, StoreError> {
        let (tenant, node) = (wish.tenant, wish.node);
        let mut tx = self.database.begin(tenant).await?;
        tx.lock_billing(tenant).await?;
        let now = tx.now().await?;
        let today = self.clock.as_ref().map_or(now, |clock| clock.now());
        let account = tx.account(tenant, today).await?;
        let period = account.period;
        let remaining = period.end.since(today);
        let Some(limit) = account.event_limit() else {
            tx.stop_leasing(&wish, &account).await?;
            tx.commit().await?;
            return Ok(Lease {
                period,
                remaining,
                limit: None,
                granted: 0,
                used: 0,
                others_unused: 0,
                in_doubt: false,
                reached: Vec::new(),
            });
        };
        let standing = tx.standing(tenant, period.start, node, now).await?;
        if !standing.own_node_lives {
            return Err(StoreError::Conflict(
                "this node's lease has ended, and its allowances with it".into(),
            ));
        }
        let begun = tx.settled(tenant, period.start).await?;
        let mut of = begun.unwrap_or(Settled::nothing(tenant, period));
        of.period.end = period.end;
        let stored = tx.own_lease(tenant, period.start, node).await?;
        let said = wish.held.filter(|held| held.period_start == period.start);
        let own = match (stored, said) {
            (Some(stored), Some(said)) => note(&mut of, &stored, &said, now),
            (stored, _) => {
                // Whatever it had before, it does not know of.
                if let Some(lost) = stored {
                    of.add(lost.granted, Some(now.plus(IN_DOUBT)));
                }
                Held { period_start: period.start, ..Held::default() }
            }
        };
        if of.unleased {
            let leased = standing.others_granted.saturating_add(own.granted);
            of.settled = of.settled.max(tx.counted(tenant, period.start).await?.saturating_sub(leased));
            of.recount_after.get_or_insert(now.plus(IN_DOUBT));
        }
        let room = limit.saturating_sub(of.settled.saturating_add(standing.others_granted));
        let granted = grant(&wish, &own, room, standing.nodes);
        let used = of.settled.saturating_add(standing.others_used).saturating_add(own.used);
        let in_doubt = of.recount_after.is_some();
        let reached = if in_doubt { Vec::new() } else { tx.note_reached(&mut of, used, limit, now).await? };
        tx.set_settled(&of).await?;
        tx.set_lease(tenant, node, &Held { granted, ..own }).await?;
        let others_unused = standing.others_granted.saturating_sub(standing.others_used);
        if granted < own.granted.saturating_add(wish.waiting) && others_unused > 0 {
            tx.notify(Notice::AllowanceWanted(tenant)).await?;
        } else if said.is_some() && granted < stored.map_or(0, |stored| stored.granted) {
            tx.notify(Notice::AllowanceReturned(tenant)).await?;
        }
        tx.commit().await?;
        Ok(Lease { period, remaining, limit: Some(limit), granted, used, others_unused, in_doubt, reached })
    }

    /// Ends one lease of a node that is gone.
    async fn end_dead_lease(
        &self,
        tenant: TenantId,
        start: Timestamp,
        node: NodeId,
    ) -> Result<bool, StoreError> {
        let mut tx = self.database.begin(tenant).await?;
        tx.lock_billing(tenant).await?;
        let now = tx.now().await?;
        if tx.standing(tenant, start, node, now).await?.own_node_lives {
            return Ok(false);
        }
        let Some(lost) = tx.own_lease(tenant, start, node).await? else { return Ok(false) };
        if let Some(mut of) = tx.settled(tenant, start).await? {
            of.add(lost.granted, Some(now.plus(IN_DOUBT)));
            tx.set_settled(&of).await?;
        }
        tx.drop_lease(tenant, start, node).await?;
        tx.commit().await?;
        Ok(true)
    }
}

impl Allowances for Sql {
    fn lease(&self, wish: LeaseWish) -> Reply<'_, Lease> {
        self.call(self.lease_now(wish))
    }

    fn end_lease(&self, node: NodeId, tenant: TenantId, said: Held) -> Reply<'_, ()> {
        self.call(async move {
            let mut tx = self.database.begin(tenant).await?;
            tx.lock_billing(tenant).await?;
            let now = tx.now().await?;
            let start = said.period_start;
            let (Some(stored), Some(mut of)) =
                (tx.own_lease(tenant, start, node).await?, tx.settled(tenant, start).await?)
            else {
                return Ok(());
            };
            let end = note(&mut of, &stored, &said, now);
            // What is still on its way may arrive or not.
            of.add(end.used + end.flying, (end.flying > 0).then(|| now.plus(IN_DOUBT)));
            tx.set_settled(&of).await?;
            tx.drop_lease(tenant, start, node).await?;
            tx.notify(Notice::AllowanceReturned(tenant)).await?;
            tx.commit().await
        })
    }

    fn end_dead_leases(&self, age: Duration) -> Reply<'_, u64> {
        const DEAD: &str = "SELECT tenant_id, period_start, node_id FROM allowance_leases
             WHERE node_id NOT IN (SELECT id FROM nodes WHERE lease_until >= $1)
             ORDER BY tenant_id LIMIT 1000";
        self.call(async move {
            let now = self.database.now().await?;
            let mut ended = 0;
            for row in self.database.fetch_all(Scope::Operator, DEAD, args![now]).await? {
                let (tenant, start, node) =
                    (row.get("tenant_id")?, row.get("period_start")?, row.get("node_id")?);
                ended += u64::from(self.end_dead_lease(tenant, start, node).await?);
            }
            let before = self.now().await?.minus(age);
            let mut tx = self.database.begin(Scope::Operator).await?;
            for old in [
                "DELETE FROM allowance_leases WHERE (tenant_id, period_start) IN
                    (SELECT tenant_id, period_start FROM allowance_periods WHERE period_end < $1)",
                "DELETE FROM allowance_periods WHERE period_end < $1",
            ] {
                tx.execute(old, args![before]).await?;
            }
            tx.commit().await?;
            Ok(ended)
        })
    }

    fn doubts(&self, limit: u32) -> Reply<'_, Vec<Doubt>> {
        const DOUBTS: &str = "SELECT tenant_id, period_start, period_end FROM allowance_periods
             WHERE recount_after IS NOT NULL ORDER BY recount_after LIMIT $1";
        self.call(async move {
            let rows = self.database.fetch_all(Scope::Operator, DOUBTS, args![limit]).await?;
            let doubt = |row: &Row| {
                let period = Period { start: row.get("period_start")?, end: row.get("period_end")? };
                Ok(Doubt { tenant: row.get("tenant_id")?, period })
            };
            rows.iter().map(doubt).collect()
        })
    }

    fn recount(&self, doubt: Doubt, count: Accepted) -> Reply<'_, bool> {
        const USED: &str = "SELECT CAST(coalesce(sum(used), 0) AS BIGINT) AS used FROM allowance_leases
             WHERE tenant_id = $1 AND period_start = $2";
        self.call(async move {
            let mut tx = self.database.begin(doubt.tenant).await?;
            tx.lock_billing(doubt.tenant).await?;
            let now = tx.now().await?;
            let Some(mut of) = tx.settled(doubt.tenant, doubt.period.start).await? else { return Ok(true) };
            let Some(after) = of.recount_after else { return Ok(true) };
            let used: u64 =
                tx.fetch("sum", USED, args![doubt.tenant, doubt.period.start]).await?.get("used")?;
            let before = of.settled;
            let exact = match of.snapshot {
                Some((at, at_least)) if count.complete_until >= at.max(after) => {
                    let beyond = count.events.saturating_sub(at_least);
                    of.settled = if of.unleased { beyond } else { of.settled.min(beyond) };
                    of.unleased = false;
                    // Nothing was accepted on the standing leases since, that the count would take for settled.
                    at_least == used
                }
                Some((at, _)) if count.complete_until < at => return Ok(false),
                _ => false,
            };
            of.snapshot = (!exact).then_some((now, used));
            of.recount_after = of.recount_after.filter(|_| !exact);
            tx.set_settled(&of).await?;
            if of.settled < before {
                tx.notify(Notice::AllowanceReturned(doubt.tenant)).await?;
            }
            tx.commit().await?;
            Ok(exact)
        })
    }

    fn reached(&self, tenant: TenantId, period_start: Timestamp) -> Reply<'_, Vec<Reached>> {
        const REACHED: &str = "SELECT threshold, event_limit, at FROM billing_notices
             WHERE tenant_id = $1 AND period_start = $2 AND metric = $3 ORDER BY threshold";
        self.call(async move {
            let arguments = args![tenant, period_start, Metric::EventsPublished];
            let rows = self.database.fetch_all(tenant, REACHED, arguments).await?;
            let reached = |row: &Row| {
                Ok(Reached {
                    threshold: row.get("threshold")?,
                    limit: row.get("event_limit")?,
                    at: row.get("at")?,
                })
            };
            rows.iter().map(reached).collect()
        })
    }
}
