//! The node's lease: renewed every second, given up at the end. While it holds, changes of access wait for this node.

use crate::Error;
use crate::engine::Engine;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::time::{MissedTickBehavior, timeout};
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

    /// Renews the lease for ever.
    pub(crate) async fn keep_lease(self: Arc<Self>) {
        let mut tick = tokio::time::interval(BEAT_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failing = false;
        loop {
            tick.tick().await;
            let failure = match timeout(BEAT_PATIENCE, self.beat()).await {
                Ok(Ok(_)) => None,
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
                Notice::AccessChanged | Notice::Missed => self.look_now.notify_one(),
                _ => {}
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
