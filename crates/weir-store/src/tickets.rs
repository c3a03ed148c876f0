//! Tickets: a one-use, short-lived stand-in for credentials in a URL.

use crate::Reply;
use weir_core::{ProjectId, TenantId, Timestamp};

/// A ticket as it is kept. The ticket itself is not: only its SHA-256, which is enough because it is random.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The SHA-256 of the ticket.
    pub hash: [u8; 32],
    /// Whose it is.
    pub tenant_id: TenantId,
    /// What it opens.
    pub project_id: ProjectId,
    /// Who asked for it and may do what, as JSON in the words of the engine.
    pub caller: String,
    /// From when on it is refused.
    pub expires_at: Timestamp,
}

/// Tickets. Redeeming names no tenant: knowing the ticket is the right to it.
pub trait Tickets: Send + Sync {
    /// Keeps a ticket.
    fn issue(&self, ticket: Ticket) -> Reply<'_, ()>;

    /// Takes a ticket out, so that exactly one of any number of callers gets it. `None` when it is unknown,
    /// used or expired.
    fn redeem(&self, hash: [u8; 32], now: Timestamp) -> Reply<'_, Option<Ticket>>;

    /// Deletes tickets that expired; returns how many.
    fn purge(&self, now: Timestamp) -> Reply<'_, u64>;
}
