//! The events that nodes may accept of a tenant with a limit: leases within a billing period.
//!
//! What all nodes accept together never exceeds the limit, because at every moment
//!
//! ```text
//!   settled                          +  granted on the leases that stand  ≤  limit
//!   (accepted on leases that ended:     (accepted or still to be
//!    at most so many)                    accepted on them)
//! ```
//!
//! A lease that its node gives up adds to `settled` what was accepted on it. A node that died cannot say: all that it
//! was granted is settled, and so is whatever a node tried without learning the outcome. The log's own count corrects
//! that later, see [`Allowances::recount`].

use crate::{Accepted, Reply};
use std::time::Duration;
use weir_core::{NodeId, Period, TenantId, Timestamp};

/// After so long no event is on its way any more that was accepted by a node which has lost its lease since, or before
/// its node knew of a limit.
pub const IN_DOUBT: Duration = Duration::from_secs(15);

/// What a node knows of the lease that it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// The beginning of its period.
    pub period_start: Timestamp,
    /// Events that the node may accept on it in all, without those in doubt. What it leaves out it gives back.
    pub granted: u64,
    /// Of those the ones that the log confirmed.
    pub used: u64,
    /// Those that are on their way to the log.
    pub flying: u64,
    /// Events that may have been accepted or not, since the beginning of the lease.
    pub doubtful: u64,
}

/// A node's wish to accept events.
#[derive(Clone, Copy, Debug)]
pub struct LeaseWish {
    /// Whose wish.
    pub node: NodeId,
    /// Of whose events.
    pub tenant: TenantId,
    /// What it has; `None` when it knows of nothing. Then what it had before, if anything, is as a dead node's.
    pub held: Option<Held>,
    /// Events that wait.
    pub waiting: u64,
    /// How many more it would like, for those that come next.
    pub more: u64,
}

/// What a node may accept from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The period of now.
    pub period: Period,
    /// How long it still lasts.
    pub remaining: Duration,
    /// Events of the period at most; `None` is any number, and nothing is leased.
    pub limit: Option<u64>,
    /// What this node may accept in all, with what it used. See [`Held::granted`].
    pub granted: u64,
    /// What all nodes together have accepted, as far as is known.
    pub used: u64,
    /// What other nodes were granted and, as far as is known, have not used.
    pub others_unused: u64,
    /// Whether the log's count may find that less was used.
    pub in_doubt: bool,
    /// Shares of the limit, in percent, that were found to be reached now, and never before in this period.
    pub reached: Vec<u32>,
}

/// A period whose settled number is to be corrected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// Whose.
    pub tenant: TenantId,
    /// Which period.
    pub period: Period,
}

/// A share of the limit that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    /// In percent.
    pub threshold: u32,
    /// Of how many events.
    pub limit: u64,
    /// When it was noticed.
    pub at: Timestamp,
}

/// Leases of events. They end with their node's own lease, see [`Nodes`](crate::Nodes).
pub trait Allowances: Send + Sync {
    /// Takes note of what the node has used and gives back, and grants what there is of its wish: far from the limit
    /// all that it would like, near it a part of what is left, but always what waits there if there is enough. If there
    /// is not, the other nodes are asked, by notice, to give back what they do not use. `Conflict` when the node has no
    /// lease itself.
    fn lease(&self, wish: LeaseWish) -> Reply<'_, Lease>;

    /// Ends a lease in order: what was not used is free again.
    fn end_lease(&self, node: NodeId, tenant: TenantId, held: Held) -> Reply<'_, ()>;

    /// Ends the leases of nodes that are gone, and forgets periods that ended `age` ago. Says how many it ended.
    fn end_dead_leases(&self, age: Duration) -> Reply<'_, u64>;

    /// Up to `limit` periods to recount.
    fn doubts(&self, limit: u32) -> Reply<'_, Vec<Doubt>>;

    /// Corrects what is settled by what the log took since the beginning of the period. First it notes what the standing
    /// leases have used; a count that is complete until later holds that, so what it holds beyond is settled at most.
    /// True when there is no doubt any more; until then ask again with a later count.
    fn recount(&self, doubt: Doubt, count: Accepted) -> Reply<'_, bool>;

    /// The shares of the limit that were reached in a period.
    fn reached(&self, tenant: TenantId, period_start: Timestamp) -> Reply<'_, Vec<Reached>>;
}
