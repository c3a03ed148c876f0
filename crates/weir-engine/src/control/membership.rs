//! The node's lease: renewed every second, given up at the end. While it holds, changes of access wait for this node.

use crate::Error;
use crate::engine::Engine;
use crate::limits::Excess;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::time::{MissedTickBehavior, timeout};
use weir_core::Code;
use weir_store::{Heartbeat, Notice};

/// Between two signs of life.
const BEAT_EVERY: Duration = Duration::from_secs(1);
/// A sign of life that takes longer is tried again: the connection may be dead.
const BEAT_PATIENCE: Duration = Duration::from_millis(1_500);

impl Engine {
    /// Renews this node's lease. False when it had none.
    ///
    /// # Errors
    /// `DATABASE_UNAVAILABLE`.
    pub(crate) async fn beat(&self) -> Result<bool, Error> {
        let begun = Instant::now();
        let renewed = self.store.nodes.beat(Heartbeat {
            node: self.node,
            started_at: self.started_at,
            confirmed: self.access.enforced.load(Ordering::Acquire),
            lease: self.access.freshness.lease(),
        });
        let renewed = renewed.await?;
        self.access.freshness.beaten(begun);
        Ok(renewed)
    }

    /// Renews the lease; after it had ended, takes again what is in use of the shares that went with it.
    async fn renew(&self) -> Result<(), Error> {
        if !self.beat().await? {
            tracing::warn!("this node's lease had ended: its shares of connections are taken anew");
            self.connections.lose_shares().await;
            self.allowances.lose().await;
        }
        for excess in self.connections.reclaim().await? {
            self.close_newest(&excess);
        }
        Ok(())
    }

    /// Others took over what this node held, while it could not be reached: the newest connections have no place.
    fn close_newest(&self, excess: &Excess) {
        let (tenant, project) = excess.quota;
        let mut sessions = self.sessions.of(tenant);
        sessions.retain(|session| project.is_none_or(|project| session.caller().place.project == project));
        // Ids begin with the time of their making.
        sessions.sort_by_key(|session| std::cmp::Reverse(session.id));
        let error = Error::new(
            Code::ProjectLimitExceeded,
            "While this node could not be reached, others took its place within the limit of connections.",
        );
        for session in sessions.into_iter().take(excess.connections as usize) {
            session.close(&error);
        }
    }

    /// Renews the lease for ever.
    pub(crate) async fn keep_lease(self: Arc<Self>) {
        let mut tick = tokio::time::interval(BEAT_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failing = false;
        loop {
            tick.tick().await;
            let failure = match timeout(BEAT_PATIENCE, self.renew()).await {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.internal.unwrap_or(error.message)),
                Err(_) => Some(format!("no answer within {BEAT_PATIENCE:?}")),
            };
            if let Some(cause) = failure.as_ref().filter(|_| !failing) {
                tracing::warn!(cause, "this node's lease cannot be renewed: {cause}");
            }
            failing = failure.is_some();
        }
    }

    /// Passes notices on to whom they wake, for ever.
    pub(crate) async fn hear_notices(self: Arc<Self>) {
        let mut notices = self.store.notices();
        loop {
            match notices.next().await {
                Notice::AccessChanged => self.look_now.notify_one(),
                Notice::Missed => {
                    self.look_now.notify_one();
                    self.connections.returned(None);
                    self.allowances.returned(None);
                }
                Notice::SharesReturned(tenant, project) => self.connections.returned(Some((tenant, project))),
                Notice::SharesWanted(tenant, project) => {
                    // Not here: a slow database must not hold up the notices behind it.
                    let engine = Arc::clone(&self);
                    self.spawn(async move { engine.connections.give_back((tenant, project)).await });
                }
                Notice::AllowanceWanted(tenant) => self.share_allowance(tenant),
                Notice::AllowanceReturned(tenant) => self.allowances.returned(Some(tenant)),
                Notice::Enforced => {}
                Notice::Asked(id) => {
                    let engine = Arc::clone(&self);
                    self.spawn(async move { engine.answer_inquiry(id).await });
                }
                Notice::Answered(_) => {}
            }
        }
    }

    /// Takes this node off the list: nothing waits for it any more.
    pub(crate) async fn leave(&self) {
        match timeout(BEAT_PATIENCE, self.store.nodes.leave(self.node)).await {
            Ok(Ok(())) => {}
            // It ends with its lease, in a few seconds.
            Ok(Err(error)) => tracing::warn!(%error, "this node could not take its leave: {error}"),
            Err(_) => tracing::warn!("this node could not take its leave in time"),
        }
    }
}
