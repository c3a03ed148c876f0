//! The background work, on whichever node has the turn.

use super::StripeBilling;
use super::report::Written;
use std::collections::hash_map::Entry;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval};
use weir_core::{Clock, SystemClock, TenantId};
use weir_store::{ReportState, StoreError};

/// Between two looks for work.
const EVERY: Duration = Duration::from_secs(1);
/// What a report is of.
const HOUR: Duration = Duration::from_secs(3600);
/// For how long the turn lasts when its node is gone.
const LEASE: Duration = Duration::from_secs(60);
/// Between two looks after all tenants that do not stand well, in case a webhook was lost.
const LOOK_EVERY: Duration = Duration::from_secs(15 * 60);
/// Between two looks at one whose time of grace is over and which is not suspended: the brake holds, or Stripe is away.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// How many of each are looked after at once.
const BATCH: u32 = 100;
/// Webhooks are remembered for longer than Stripe sends them again.
const KEEP_EVENTS: Duration = Duration::from_secs(45 * 24 * 3600);

impl StripeBilling {
    /// Reports usage and follows payments, for ever.
    pub async fn run(self: Arc<Self>) {
        tokio::join!(self.report(), self.follow());
    }

    async fn report(&self) {
        let mut tick = interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failing = false;
        loop {
            tick.tick().await;
            let outcome = self.report_usage().await;
            if let Err(error) = &outcome
                && !failing
            {
                tracing::warn!(%error, "usage cannot be reported: {error}");
            }
            failing = outcome.is_err();
        }
    }

    /// Writes what closed and sends what is due, if the turn is this node's. Returns how many reports arrived.
    ///
    /// # Errors
    /// The database's. What was begun goes on at the next call.
    pub async fn report_usage(&self) -> Result<u64, StoreError> {
        let mut written = self.written.lock().await;
        if !self.store.outbox.take_turn(self.node, LEASE).await? {
            // Whoever takes it over looks far back first.
            *written = Written::default();
            self.counts.waiting.store(0, Relaxed);
            self.counts.oldest_age.store(0, Relaxed);
            self.counts.breaker_open.store(false, Relaxed);
            return Ok(0);
        }
        let reports = self.write(&mut written).await?;
        let sent = self.send_due().await?;
        if reports + sent > 0 {
            tracing::info!(reports, sent, "reported usage: {reports} new reports, {sent} arrived");
        }
        let open = self.store.outbox.open_reports().await?;
        let waiting =
            open.iter().filter(|one| matches!(one.state, ReportState::Pending | ReportState::Unsure));
        self.counts.waiting.store(waiting.clone().map(|one| one.reports).sum(), Relaxed);
        let ended = waiting.map(|one| one.oldest.plus(HOUR)).min();
        let age = ended.map_or(Duration::ZERO, |ended| SystemClock.now().since(ended));
        self.counts.oldest_age.store(age.as_secs(), Relaxed);
        Ok(sent)
    }

    async fn follow(&self) {
        let mut tick = interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looked: Option<Instant> = None;
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = self.wake.notified() => {}
            }
            let long = looked.is_none_or(|at| at.elapsed() >= LOOK_EVERY);
            match self.follow_payments(long).await {
                Ok(true) if long => looked = Some(Instant::now()),
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "payments cannot be followed: {error}"),
            }
        }
    }

    /// Looks after webhooks that are left and tenants whose time of grace is over; `thorough`, after all that do not stand
    /// well. False when the turn is another node's.
    ///
    /// # Errors
    /// The database's.
    pub async fn follow_payments(&self, thorough: bool) -> Result<bool, StoreError> {
        if !self.store.outbox.take_turn(self.node, LEASE).await? {
            return Ok(false);
        }
        for event in self.store.payment_events.due_events(BATCH).await? {
            self.handle(event).await;
        }
        let now = self.store.payments.time().await?;
        for tenant in self.store.payments.past_due(now.minus(self.settings.grace), BATCH).await? {
            if self.is_long_ago(tenant) {
                self.look_after(tenant).await;
            }
        }
        if thorough {
            let mut after = None;
            loop {
                let page = self.store.payments.troubled(after, BATCH).await?;
                for tenant in &page {
                    self.look_after(*tenant).await;
                }
                after = page.last().copied();
                if after.is_none() {
                    break;
                }
            }
            self.store.payment_events.forget_events(KEEP_EVENTS).await?;
        }
        Ok(true)
    }

    /// Whether the worker has not looked at the tenant lately; from now on it has.
    fn is_long_ago(&self, tenant: TenantId) -> bool {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        looked.retain(|_, at| at.elapsed() < LOOK_AGAIN);
        match looked.entry(tenant) {
            Entry::Occupied(_) => false,
            Entry::Vacant(vacant) => {
                vacant.insert(Instant::now());
                true
            }
        }
    }

    async fn look_after(&self, tenant: TenantId) {
        if let Err(trouble) = self.look(tenant).await {
            tracing::warn!(%tenant, %trouble, "how tenant {tenant} stands cannot be found out: {trouble}");
        }
    }
}
