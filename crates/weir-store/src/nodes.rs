//! The nodes that run on this database, and how far each has enforced the changes of access.

use crate::Reply;
use serde::Serialize;
use std::time::Duration;
use weir_core::{NodeId, Timestamp};

/// A sign of life.
#[derive(Clone, Copy, Debug)]
pub struct Heartbeat {
    /// Which node.
    pub node: NodeId,
    /// Since when it runs, by its own clock.
    pub started_at: Timestamp,
    /// All access changes up to this one are enforced there.
    pub confirmed: i64,
    /// From now on, by the database's clock, it counts for so long.
    pub lease: Duration,
}

/// A node whose lease has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Which.
    pub id: NodeId,
    /// Since when it runs, by its own clock.
    pub started_at: Timestamp,
    /// Its last sign of life, by the database's clock.
    pub seen_at: Timestamp,
    /// When it stops counting, by the database's clock.
    pub lease_until: Timestamp,
    /// All access changes up to this one are enforced there.
    pub confirmed: i64,
}

/// Connections that a node ended because of one change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closing {
    /// The change's place in the list.
    pub seq: i64,
    /// How many.
    pub connections: u32,
}

/// How far a change of access has come. A node that does not answer counts in `of` until its lease ends; by then it
/// has stopped delivering on its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Enforced {
    /// Nodes that have enforced it: their caches are dropped, their connections told to end.
    pub nodes: u32,
    /// Nodes that run.
    pub of: u32,
    /// Connections that it ended, on all of those nodes.
    pub connections_closed: u64,
}

impl Enforced {
    /// Whether every node that runs has enforced it.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.nodes >= self.of
    }
}

/// The nodes of the installation. Times are the database's: nodes' own clocks may differ.
pub trait Nodes: Send + Sync {
    /// Renews a node's lease. False when it had none any more (or not yet): it is registered anew, and its shares
    /// of connections are gone, as others may have taken them.
    fn beat(&self, heartbeat: Heartbeat) -> Reply<'_, bool>;

    /// Takes a node off the list, with its shares.
    fn leave(&self, node: NodeId) -> Reply<'_, ()>;

    /// The nodes that run, in the order of their ids.
    fn live(&self) -> Reply<'_, Vec<Node>>;

    /// Records that a node has enforced all changes up to `confirmed`, and what that ended. Wakes who waits for it.
    fn confirm(&self, node: NodeId, confirmed: i64, closings: Vec<Closing>) -> Reply<'_, ()>;

    /// How far the change at this place of the list has come.
    fn enforcement(&self, seq: i64) -> Reply<'_, Enforced>;

    /// Forgets changes of access that are older than `age` and that every node that runs has enforced, and nodes whose
    /// lease ended that long ago. The newest change always stays. What is forgotten is the beginning of the list: a
    /// node that comes back and does not find the last change it knows must drop all that it cached.
    fn prune(&self, age: Duration) -> Reply<'_, ()>;
}
