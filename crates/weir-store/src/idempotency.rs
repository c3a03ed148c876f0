//! Requests that are sent again: the change happens once, and every copy gets the first answer.
//!
//! A request with an `Idempotency-Key` claims the key before it does anything. The claim travels in [`By`](crate::By),
//! and whatever writes an audit entry marks it as applied **in the transaction of the change**; who no longer
//! holds the claim changes nothing. So however nodes race, stall or die: the change happens at most once, and the row
//! tells whether it did. The answer is kept after the change; when its node dies in between, copies learn that
//! the change was made and its answer lost ([`Claimed::AnswerLost`]).

use crate::Reply;
use std::fmt;
use std::time::Duration;
use uuid::Uuid;
use weir_core::{Permissions, TenantId, Timestamp};

/// For how long a key stands for its first request.
pub const IDEMPOTENCY_WINDOW: Duration = Duration::from_secs(24 * 3600);

/// How long a claim that changed nothing keeps copies of the request waiting when its node has died. It may be shorter
/// than a slow request takes: whoever lost the claim meanwhile can change nothing any more.
pub const CLAIM_TIME: Duration = Duration::from_secs(30);

/// The right to carry out one request. A new one each time a key is claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim(Uuid);

impl Claim {
    /// A claim that nobody else has.
    #[must_use]
    #[allow(clippy::new_without_default, reason = "a claim is made on purpose")]
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }

    /// The UUID inside.
    #[must_use]
    pub const fn uuid(self) -> Uuid {
        self.0
    }

    pub(crate) const fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid)
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the request {}", self.0)
    }
}

/// A request that names an idempotency key.
#[derive(Clone, Debug)]
pub struct KeyedRequest {
    /// Whose keys these are; `None` is the platform's own staff.
    pub tenant: Option<TenantId>,
    /// Who sends it: keys of different actors never meet.
    pub actor: String,
    /// The key.
    pub key: String,
    /// The SHA-256 of everything that makes it this request.
    pub request: [u8; 32],
    /// What its sender may do.
    pub held: Permissions,
}

/// An answer that was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its HTTP status.
    pub status: u16,
    /// Its body, sealed for the claim.
    pub sealed: Vec<u8>,
}

/// What became of wanting to carry out a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// Carry it out, under this claim.
    Yours(Claim),
    /// It was answered already, to a sender who held these permissions; the body is sealed for this claim.
    Answered(Claim, Answer, Permissions),
    /// A copy of it is being carried out.
    InProgress,
    /// A copy of it was carried out, and its answer is lost.
    AnswerLost,
    /// The key was used for another request.
    OtherRequest,
}

/// Keys of requests that must not happen twice.
pub trait Idempotency: Send + Sync {
    /// Claims a key for a request; of any number of copies at once, one gets it.
    fn claim(&self, request: KeyedRequest, now: Timestamp) -> Reply<'_, Claimed>;

    /// Keeps the answer, for copies of the request. Does nothing when somebody else holds the claim.
    fn settle(&self, tenant: Option<TenantId>, claim: Claim, answer: Answer) -> Reply<'_, ()>;

    /// Gives the claim back, so that a copy of the request starts afresh. If something was changed under it, copies
    /// learn that instead.
    fn release(&self, tenant: Option<TenantId>, claim: Claim) -> Reply<'_, ()>;

    /// Forgets what is older than the window; returns how many.
    fn purge(&self, now: Timestamp) -> Reply<'_, u64>;
}
