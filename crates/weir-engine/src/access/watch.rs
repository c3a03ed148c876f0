//! Keeping the access state true: reading the list of changes, and holding live sessions against it.

use super::directory::{Access, KEEP};
use super::ticket::Stands;
use crate::Error;
use crate::engine::Engine;
use crate::session::Session;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::time::MissedTickBehavior;
use weir_core::TenantId;

/// Between two looks for changes. A change is enforced on every node within this and one query.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Changes read at once.
const CHANGES: u32 = 500;

impl Access {
    /// Reads the changes since the last look; returns the tenants that they concern.
    async fn look(&self) -> Result<Vec<TenantId>, Error> {
        let mut tenants = Vec::new();
        loop {
            let after = self.seen.load(Ordering::Acquire);
            let changes = self.store.directory.access_changes_after(after, CHANGES).await?;
            let more = changes.len() == CHANGES as usize;
            for change in changes {
                self.changed.insert(change.tenant_id, (change.seq, Instant::now()));
                self.seen.fetch_max(change.seq, Ordering::AcqRel);
                tenants.push(change.tenant_id);
            }
            if !more {
                tenants.sort_unstable();
                tenants.dedup();
                return Ok(tenants);
            }
        }
    }

    /// Drops what can be dropped: changes older than anything remembered, tickets that expired.
    pub(crate) async fn sweep(&self) {
        self.changed.retain(|_, change| change.1.elapsed() < 2 * KEEP);
        // A limiter that nobody holds and that is full again knows nothing worth keeping.
        self.limiters.retain(|_, limiter| Arc::strong_count(limiter) > 1 || !limiter.is_full());
        if let Err(error) = self.store.tickets.purge(self.clock.now()).await {
            tracing::warn!(%error, "expired tickets could not be purged: {error}");
        }
    }
}

impl Engine {
    /// Looks for changes of access and applies them to live sessions, for ever.
    pub(crate) async fn watch_access(self: Arc<Self>) {
        let mut tick = tokio::time::interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failing = false;
        loop {
            tick.tick().await;
            let begun = Instant::now();
            match self.access.look().await {
                Ok(tenants) => {
                    failing = false;
                    for tenant in tenants {
                        self.enforce(tenant).await;
                    }
                    // Only now: what waits for the confirmation finds the hub told of every session's end.
                    self.access.freshness.confirm(begun);
                }
                Err(error) if !failing => {
                    failing = true;
                    let cause = error.internal.unwrap_or(error.message);
                    tracing::warn!(cause, "access changes cannot be read: {cause}");
                }
                Err(_) => {}
            }
        }
    }

    /// Holds every live session of a tenant against what is true now.
    async fn enforce(self: &Arc<Self>, tenant: TenantId) {
        for session in self.sessions.of(tenant) {
            self.recheck(&session).await;
        }
    }

    /// Holds a session against what is true now: ends it, or gives it its credentials as they stand.
    pub(crate) async fn recheck(&self, session: &Arc<Session>) {
        let based_on = session.caller();
        match self.access.again(Stands::of(&based_on)).await {
            // A refusal of credentials that were replaced meanwhile says nothing about the new ones.
            Err(error) if Arc::ptr_eq(&session.caller(), &based_on) => session.close(&error),
            Err(_) => {}
            Ok(caller) => {
                let session = Arc::clone(session);
                // In a task of its own: a session that is catching up must not hold up the others.
                self.spawn(async move {
                    if let Err(error) = session.reauthorize(&based_on, caller).await {
                        session.close(&error);
                    }
                });
            }
        }
    }
}
