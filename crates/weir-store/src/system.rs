//! The server's own events on their way to the log.

use crate::Reply;
use std::time::Duration;
use uuid::Uuid;
use weir_core::{NodeId, ProjectId, SystemTopic, TenantId, Timestamp};

/// Events of one tenant that may wait for the log. What comes beyond that is not noted.
pub const MAX_WAITING: u32 = 1_000;

/// An event of the server's own that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingEvent {
    /// Its id; the order of ids is the order of making.
    pub id: Uuid,
    /// Whose.
    pub tenant: TenantId,
    /// Of which project; `None` is for every project of the tenant.
    pub project: Option<ProjectId>,
    /// Where it is published.
    pub topic: SystemTopic,
    /// What it says, as JSON.
    pub payload: String,
    /// When it happened.
    pub at: Timestamp,
}

/// The outbox of the server's own events. What is told of a change is written in the change's transaction, by the calls
/// that make changes.
pub trait SystemEvents: Send + Sync {
    /// Notes one that belongs to no change of the database. False when too many of the tenant's wait.
    fn note(
        &self,
        tenant: TenantId,
        project: Option<ProjectId>,
        topic: SystemTopic,
        payload: serde_json::Value,
        at: Timestamp,
    ) -> Reply<'_, bool>;

    /// The oldest ones that wait, at most `per_tenant` of each tenant.
    fn waiting(&self, per_tenant: u32, limit: u32) -> Reply<'_, Vec<WaitingEvent>>;

    /// The log has them, or nobody is there to be told.
    fn sent(&self, ids: Vec<Uuid>) -> Reply<'_, ()>;

    /// Whether this node is the one that sends for now. A node that is gone loses its turn.
    fn take_turn_to_tell(&self, node: NodeId, lease: Duration) -> Reply<'_, bool>;
}
