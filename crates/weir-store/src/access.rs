//! Who changed what, and how the change reaches every node.

use crate::Claim;
use weir_core::{RequestId, TenantId, Timestamp};

/// Who makes a change, and when: what the audit entry of the change says.
#[derive(Clone, Debug)]
pub struct By {
    /// Who, with what kind of thing it is: `key:key_…`, `member:…`, `cli`, `system`.
    pub actor: String,
    /// When.
    pub at: Timestamp,
    /// In which request.
    pub request_id: Option<RequestId>,
    /// Under which claim, if the request named an idempotency key: the change is made only while it holds.
    pub claim: Option<Claim>,
}

impl By {
    /// A change that no request asked for.
    #[must_use]
    pub fn new(actor: impl Into<String>, at: Timestamp) -> Self {
        Self { actor: actor.into(), at, request_id: None, claim: None }
    }
}

/// What about a tenant's access changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AccessChangeKind {
    /// The tenant's status.
    TenantStatus,
    /// The tenant's plan or limits.
    TenantPlan,
    /// A tenant set what it is willing to spend.
    SpendCap,
    /// A project's own limits.
    ProjectLimits,
    /// The stream that holds the tenant's events.
    TenantPlacement,
    /// An API key was replaced; it expires soon.
    KeyRotated,
    /// An API key was revoked.
    KeyRevoked,
    /// A signing key, or a set of them, was made.
    SigningKeyCreated,
    /// A signing key was revoked.
    SigningKeyRevoked,
    /// A live connection was told to end.
    ConnectionEnded,
    /// A project got a topic schema, or a new version of one.
    SchemaSet,
    /// A topic schema was removed.
    SchemaRemoved,
    /// Somebody became a member.
    MemberJoined,
    /// A member has another role.
    MemberRole,
    /// Somebody is no member any more.
    MemberRemoved,
    /// A member has another password.
    UserPassword,
    /// A member became platform staff, or is it no more.
    UserOperator,
    /// A member was disabled, or let in again.
    UserDisabled,
    /// The tenant was deleted.
    TenantDeleted,
    /// A project was deleted.
    ProjectDeleted,
    /// Something that only a newer program knows: anything about the tenant may have changed.
    Unknown,
}

impl AccessChangeKind {
    const ALL: [Self; 20] = [
        Self::TenantStatus,
        Self::TenantPlan,
        Self::SpendCap,
        Self::ProjectLimits,
        Self::TenantPlacement,
        Self::KeyRotated,
        Self::KeyRevoked,
        Self::SigningKeyCreated,
        Self::SigningKeyRevoked,
        Self::ConnectionEnded,
        Self::SchemaSet,
        Self::SchemaRemoved,
        Self::MemberJoined,
        Self::MemberRole,
        Self::MemberRemoved,
        Self::UserPassword,
        Self::UserOperator,
        Self::UserDisabled,
        Self::TenantDeleted,
        Self::ProjectDeleted,
    ];

    /// The name, also the action of the audit entry.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TenantStatus => "tenant.status",
            Self::TenantPlan => "tenant.plan",
            Self::SpendCap => "tenant.spend_cap",
            Self::ProjectLimits => "project.limits",
            Self::TenantPlacement => "tenant.placement",
            Self::KeyRotated => "key.rotate",
            Self::KeyRevoked => "key.revoke",
            Self::SigningKeyCreated => "signing_key.create",
            Self::SigningKeyRevoked => "signing_key.revoke",
            Self::ConnectionEnded => "connection.end",
            Self::SchemaSet => "schema.set",
            Self::SchemaRemoved => "schema.remove",
            Self::MemberJoined => "member.join",
            Self::MemberRole => "member.role",
            Self::MemberRemoved => "member.remove",
            Self::UserPassword => "user.password",
            Self::UserOperator => "user.operator",
            Self::UserDisabled => "user.disabled",
            Self::TenantDeleted => "tenant.delete",
            Self::ProjectDeleted => "project.delete",
            Self::Unknown => "unknown",
        }
    }

    /// Never fails: a node that stopped at what a newer one announces would stop everybody it serves.
    pub(crate) fn parse(text: &str) -> Self {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).unwrap_or(Self::Unknown)
    }
}

/// One entry of the installation's list of access changes. Nodes read the list and drop what they cached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessChange {
    /// Its place in the list. An entry never becomes visible after a greater one: who has read up to
    /// here has missed nothing. Numbers may skip.
    pub seq: i64,
    /// Whose access.
    pub tenant_id: TenantId,
    /// When.
    pub at: Timestamp,
    /// What changed.
    pub kind: AccessChangeKind,
    /// The id of the thing that changed: `ten_…`, `key_…`, `sig_…`, `usr_…`; `prj_…` for a schema.
    pub subject: String,
}

/// A change to what somebody may do, committed together with its audit entry, the tenant's greater
/// `access_version` and the announcement that nodes act on.
#[derive(Clone, Debug)]
pub struct Changed<T> {
    /// The thing as it is now.
    pub value: T,
    /// The announcement, to be passed on to the other nodes at once.
    pub change: AccessChange,
}
