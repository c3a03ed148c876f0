//! Questions of one node to all nodes. What they are about is the engine's; here they are texts.

use crate::{By, Changed, Reply};
use std::time::Duration;
use uuid::Uuid;
use weir_core::{ConnectionId, NodeId, TenantId};

/// One question. Unique, and in the order of asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct InquiryId(Uuid);

impl InquiryId {
    pub(crate) fn new() -> Self {
        Self(Uuid::now_v7())
    }

    pub(crate) const fn uuid(self) -> Uuid {
        self.0
    }

    pub(crate) const fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid)
    }
}

/// A question that waits for answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inquiry {
    /// About whose things.
    pub tenant_id: TenantId,
    /// What is asked.
    pub question: String,
}

/// Asking every node about what only it knows: its live connections.
pub trait Inquiries: Send + Sync {
    /// Asks, and wakes every node that listens.
    fn ask(&self, tenant: TenantId, question: String) -> Reply<'_, InquiryId>;

    /// What was asked; `None` when it is forgotten.
    fn inquiry(&self, id: InquiryId) -> Reply<'_, Option<Inquiry>>;

    /// A node's answer; wakes whoever asked. Too late an answer is dropped.
    fn answer(&self, id: InquiryId, tenant: TenantId, node: NodeId, answer: String) -> Reply<'_, ()>;

    /// The answers so far.
    fn answers(&self, id: InquiryId, tenant: TenantId) -> Reply<'_, Vec<(NodeId, String)>>;

    /// Forgets questions that were asked longer ago than `age`, with their answers.
    fn forget_inquiries(&self, age: Duration) -> Reply<'_, ()>;

    /// Announces that a connection is to end, wherever it is.
    fn end_connection(
        &self,
        tenant: TenantId,
        connection: ConnectionId,
        by: By,
    ) -> Reply<'_, Changed<ConnectionId>>;
}
