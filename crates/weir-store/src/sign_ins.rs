//! Sign-ins: the refresh tokens that keep people signed in.

use crate::Reply;
use weir_core::{TenantId, Timestamp, UserId};

/// The SHA-256 of a random token: enough to look it up by.
pub type TokenHash = [u8; 32];

/// A token that keeps somebody signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refresh {
    /// Its hash.
    pub hash: TokenHash,
    /// The sign-in that it goes back to.
    pub family: uuid::Uuid,
    /// Whose it is.
    pub user_id: UserId,
    /// What the sign-in was for; `None` for the installation's operators.
    pub tenant_id: Option<TenantId>,
    /// From when on it is refused.
    pub expires_at: Timestamp,
}

/// What presenting a refresh token led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// It was good, and the new one has taken its place.
    Rotated(Refresh),
    /// It had been used: one of two holders is a thief, so the whole sign-in has ended.
    Reused(UserId),
    /// It is unknown, expired or revoked.
    Refused,
}

/// Sign-ins. Each is a family of refresh tokens, of which one at a time is good.
pub trait SignIns: Send + Sync {
    /// Keeps the first refresh token of a sign-in.
    fn begin(&self, token: Refresh) -> Reply<'_, ()>;

    /// Puts a new refresh token in the place of one that was not used yet. The new token's family, user and tenant
    /// are the old one's.
    fn rotate(&self, old: TokenHash, new: (TokenHash, Timestamp), now: Timestamp) -> Reply<'_, Rotation>;

    /// Ends a sign-in; unknown tokens are ignored.
    fn end(&self, token: TokenHash) -> Reply<'_, ()>;

    /// Deletes refresh tokens and invitations that expired; returns how many.
    fn purge(&self, now: Timestamp) -> Reply<'_, u64>;
}
