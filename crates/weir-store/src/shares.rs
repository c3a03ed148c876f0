//! Shares of connections: how many each node may have live of a tenant, or of a project with a limit of its own.

use crate::Reply;
use weir_core::{NodeId, ProjectId, TenantId};

/// What the shares are of: all connections of a tenant, or those of one project.
pub type Quota = (TenantId, Option<ProjectId>);

/// A node's wish for more.
#[derive(Clone, Copy, Debug)]
pub struct ShareWish {
    /// Whose wish.
    pub node: NodeId,
    /// Of what.
    pub quota: Quota,
    /// What the node holds.
    pub held: u32,
    /// How many of them are connections; the rest may be taken away.
    pub live: u32,
    /// How many wait for one.
    pub waiting: u32,
    /// How many more it would like, for those that come next.
    pub more: u32,
}

/// What a node may have from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Connections of this node.
    pub granted: u32,
    /// The limit; `None` where a project has none of its own.
    pub limit: Option<u32>,
    /// Connections granted to all other nodes together.
    pub others: u32,
}

/// Shares of connections. Granted under a lock for each tenant: the sum of the shares of all nodes with a lease never
/// exceeds the limit, except where the limit was lowered below what is live.
pub trait Shares: Send + Sync {
    /// Grants what there is of a wish. Far from the limit a node gets all that it would like, near it an equal part of
    /// what is left, but always what waits there if there is enough. If there is not, the other nodes are asked, by
    /// notice, to give back what they do not use. `Conflict` when the node has no lease.
    fn take(&self, wish: ShareWish) -> Reply<'_, Share>;

    /// Gives back all but `keep` of a node's share, and tells who waits.
    fn keep(&self, node: NodeId, quota: Quota, keep: u32) -> Reply<'_, ()>;
}
