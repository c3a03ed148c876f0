//! Members of a tenant, and the seats that are kept for those invited.

use crate::people::{Email, NewUser, User};
use crate::sign_ins::TokenHash;
use crate::{AccessChange, After, By, Changed, Page, Reply};
use weir_core::{InvitationId, Role, Secret, TenantId, Timestamp, UserId};

/// A user as a tenant sees one of its members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The user.
    pub user: User,
    /// The role in the tenant.
    pub role: Role,
    /// Since when.
    pub joined_at: Timestamp,
}

/// A seat that is kept for somebody until they take it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitation {
    /// The id.
    pub id: InvitationId,
    /// For whom.
    pub email: Email,
    /// What the person is called.
    pub name: String,
    /// The seat. `None`: the right to set the user's password, given out by the installation itself.
    pub seat: Option<(TenantId, Role)>,
    /// Whether the person becomes platform staff.
    pub operator: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it is refused.
    pub expires_at: Timestamp,
}

/// An invitation to make. It takes the place of an earlier one to the same seat.
#[derive(Clone, Debug)]
pub struct NewInvitation {
    /// The hash of the token that takes the seat.
    pub hash: TokenHash,
    /// The rest.
    pub invitation: Invitation,
}

/// Who takes an invitation.
#[derive(Clone, Debug)]
pub enum Joining {
    /// Somebody new. The address must be the invitation's.
    New(NewUser),
    /// A user who has proved to be that.
    Known(UserId),
    /// A user who sets a new password; only where the invitation offers no seat.
    Password(UserId, Secret),
}

/// What taking an invitation led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The user.
    pub user: User,
    /// The seat that was taken.
    pub seat: Option<(TenantId, Role)>,
    /// The announcements.
    pub changes: Vec<AccessChange>,
}

/// Who belongs to a tenant. Every change writes its audit entry in the same transaction and announces what it does to
/// somebody's access (see [`Changed`]).
pub trait Members: Send + Sync {
    /// The members of a tenant.
    fn members(&self, tenant: TenantId, page: After<UserId>) -> Reply<'_, Page<Member>>;

    /// Reads a member of the tenant.
    fn member(&self, tenant: TenantId, user: UserId) -> Reply<'_, Member>;

    /// Makes a user a member at once. `Conflict` when it is one.
    fn join(&self, tenant: TenantId, user: UserId, role: Role, by: By) -> Reply<'_, Changed<Member>>;

    /// Changes a member's role, from one to another. `Conflict` when it is not the first any more, or the
    /// tenant would be left without an owner.
    fn set_role(
        &self,
        tenant: TenantId,
        user: UserId,
        role: (Role, Role),
        by: By,
    ) -> Reply<'_, Changed<Member>>;

    /// Takes a membership away. `Conflict` when the role is not `from` any more, or the tenant would be left without an
    /// owner.
    fn remove(&self, tenant: TenantId, user: UserId, from: Role, by: By) -> Reply<'_, Changed<Member>>;

    /// Keeps a seat for somebody. `Conflict` when a user with this address is a member already.
    fn invite(&self, invitation: NewInvitation, by: By) -> Reply<'_, Invitation>;

    /// The seats that are kept in a tenant, expired ones included until they are purged.
    fn invitations(&self, tenant: TenantId, page: After<InvitationId>) -> Reply<'_, Page<Invitation>>;

    /// Gives up a seat that is kept.
    fn withdraw(&self, tenant: TenantId, invitation: InvitationId, by: By) -> Reply<'_, ()>;

    /// The invitation that this token takes; `None` when it is unknown, used, withdrawn or expired.
    fn invitation(&self, hash: TokenHash, now: Timestamp) -> Reply<'_, Option<Invitation>>;

    /// Takes the seat: exactly one of any number of callers does. `None` like [`People::invitation`].
    fn accept(&self, hash: TokenHash, joining: Joining, by: By) -> Reply<'_, Option<Joined>>;
}
