//! How many live connections there may be of a tenant, and of a project with a limit of its own: exact over all nodes.
//!
//! Each node holds shares that the database grants (`weir_store::Shares`); the sum of them never exceeds the limit.
//! Counting within a share is memory. A share grows by doubling, so that a herd of connections costs as many questions
//! as its number has digits in base two, and goes back when it is not needed, or when another node asks for it.

use super::quota::{Held, Pool};
use crate::Error;
use dashmap::DashMap;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use weir_core::{Code, NodeId};
use weir_store::{Quota, Share, ShareWish, Store, StoreError};

/// How long a connection waits for other nodes to give back what they do not use.
const PATIENCE: Duration = Duration::from_millis(500);
/// Between two attempts in that time.
const AGAIN: Duration = Duration::from_millis(100);

/// The shares of this node.
pub(crate) struct Connections {
    store: Store,
    node: NodeId,
    pools: DashMap<Quota, Arc<Pool>>,
}

/// One counted connection: given back when dropped.
#[derive(Debug)]
pub struct ConnectionSlot {
    _tenant: Held,
    _project: Option<Held>,
}

/// A quota that lost its share while it was in use, with nothing left to take instead.
pub(crate) struct Excess {
    pub(crate) quota: Quota,
    pub(crate) connections: u32,
}

impl Connections {
    pub(crate) fn new(store: Store, node: NodeId) -> Self {
        Self { store, node, pools: DashMap::new() }
    }

    /// Counts one more connection of the tenant, and of its project where that has a limit.
    ///
    /// # Errors
    /// `PROJECT_LIMIT_EXCEEDED`, with the limit and the number in use; `DATABASE_UNAVAILABLE`.
    pub(crate) async fn take(
        &self,
        quota: Quota,
        tenant_limit: u32,
        project_limit: Option<u32>,
    ) -> Result<ConnectionSlot, Error> {
        let tenant = self.take_of((quota.0, None), tenant_limit).await?;
        let project = match project_limit {
            Some(limit) => Some(self.take_of(quota, limit).await?),
            None => None,
        };
        Ok(ConnectionSlot { _tenant: tenant, _project: project })
    }

    async fn take_of(&self, quota: Quota, limit: u32) -> Result<Held, Error> {
        let pool = Arc::clone(&self.pools.entry(quota).or_insert_with(|| Arc::new(Pool::new(quota))));
        if let Some(held) = pool.take(limit) {
            return Ok(held);
        }
        let begun = Instant::now();
        let deadline = begun + PATIENCE;
        let _waiting = pool.wait();
        loop {
            if let Ok(_turn) = timeout_at(deadline, pool.turn.lock()).await
                && !pool.is_exhausted()
            {
                // Somebody before may have brought enough for all who wait.
                if let Some(held) = pool.take(limit) {
                    return Ok(held);
                }
                self.refill(&pool).await?;
            }
            if let Some(held) = pool.take(limit) {
                return Ok(held);
            }
            // Nobody else has any: there is nothing to wait for but one that is just being closed here.
            let share = pool.last_share();
            let alone = share.is_some_and(|share| share.others == 0);
            if alone && begun.elapsed() >= AGAIN || Instant::now() >= deadline {
                return Err(refused(quota, limit, share));
            }
            let _ = timeout_at(deadline.min(Instant::now() + AGAIN), pool.room.notified()).await;
        }
    }

    /// Asks the database for more. Call with the turn held.
    async fn refill(&self, pool: &Pool) -> Result<(), Error> {
        let need = pool.need();
        let wish = ShareWish {
            node: self.node,
            quota: pool.quota,
            held: need.held,
            live: need.live,
            waiting: need.waiting,
            more: need.more,
        };
        let share = self.store.shares.take(wish).await.map_err(|error| match error {
            StoreError::Conflict(cause) => no_lease(&cause),
            other => other.into(),
        })?;
        pool.set_share(share);
        pool.set_exhausted(share.granted <= need.live);
        if share.granted > need.live {
            pool.room.notify_waiters();
        }
        Ok(())
    }

    /// Another node needs connections of this quota: gives back what is not in use.
    pub(crate) async fn give_back(&self, quota: Quota) {
        let Some(pool) = self.pools.get(&quota).map(|pool| Arc::clone(&pool)) else { return };
        let _turn = pool.turn.lock().await;
        // Taken from ourselves first: if the database does not hear of it, it counts too much, never too little.
        if let Some(keep) = pool.withdraw_unused() {
            self.keep(quota, keep).await;
        }
    }

    /// The limits of a tenant changed: gives back everything that was granted under the old ones and is not in use.
    pub(crate) async fn trim(&self, tenant: weir_core::TenantId) {
        let quotas: Vec<Quota> =
            self.pools.iter().map(|entry| *entry.key()).filter(|quota| quota.0 == tenant).collect();
        for quota in quotas {
            self.give_back(quota).await;
        }
    }

    /// Somebody gave some back, or may have.
    pub(crate) fn returned(&self, quota: Option<Quota>) {
        let wake = |pool: &Pool| {
            pool.set_exhausted(false);
            pool.room.notify_waiters();
        };
        match quota {
            Some(quota) => self.pools.get(&quota).iter().for_each(|pool| wake(pool)),
            None => self.pools.iter().for_each(|pool| wake(&pool)),
        }
    }

    /// Gives back what was not needed for a while, and forgets quotas without connections.
    pub(crate) async fn sweep(&self) {
        for pool in self.all() {
            let _turn = pool.turn.lock().await;
            if let Some(keep) = pool.withdraw_idle() {
                self.keep(pool.quota, keep).await;
            }
        }
        self.pools.retain(|_, pool| Arc::strong_count(pool) > 1 || !pool.is_empty());
    }

    /// The node's lease had ended, and with it its shares.
    pub(crate) async fn lose_shares(&self) {
        for pool in self.all() {
            let _turn = pool.turn.lock().await;
            pool.lose_share();
        }
    }

    /// Asks again for what is in use without a share; tells what there was none left for.
    pub(crate) async fn reclaim(&self) -> Result<Vec<Excess>, Error> {
        let mut excess = Vec::new();
        for pool in self.all() {
            let need = pool.need();
            if need.held >= need.live {
                continue;
            }
            let _turn = pool.turn.lock().await;
            let need = pool.need();
            let wanted = ShareWish {
                node: self.node,
                quota: pool.quota,
                held: 0,
                live: 0,
                waiting: need.live,
                more: 0,
            };
            let share = self.store.shares.take(wanted).await?;
            pool.set_share(share);
            let connections = pool.live().saturating_sub(share.granted);
            if connections > 0 {
                excess.push(Excess { quota: pool.quota, connections });
            }
        }
        Ok(excess)
    }

    async fn keep(&self, quota: Quota, keep: u32) {
        if let Err(error) = self.store.shares.keep(self.node, quota, keep).await {
            // The next question about this quota sets it right; without one it ends with the lease.
            tracing::warn!(%error, "unused connections could not be given back: {error}");
        }
    }

    fn all(&self) -> Vec<Arc<Pool>> {
        self.pools.iter().map(|entry| Arc::clone(entry.value())).collect()
    }
}

fn no_lease(cause: &str) -> Error {
    let message = "This node has lost touch with the others and takes no new connections until it is back.";
    let mut error = Error::new(Code::DatabaseUnavailable, message).after(Duration::from_secs(1));
    error.internal = Some(cause.to_owned());
    error
}

fn refused(quota: Quota, limit: u32, share: Option<Share>) -> Error {
    let limit = share.and_then(|share| share.limit).map_or(limit, |shared| shared.min(limit));
    let used = share.map_or(limit, |share| share.granted + share.others);
    let (whose, what) = match quota.1 {
        None => ("tenant", "connections"),
        Some(_) => ("project", "project_connections"),
    };
    Error::new(
        Code::ProjectLimitExceeded,
        format!(
            "The {whose} has {used} live connections; its limit is {limit}. Close some, or raise the limit."
        ),
    )
    .with(json!({ "limit": limit, "used": used, "what": what }))
}

#[cfg(test)]
#[path = "connections_tests.rs"]
mod tests;
