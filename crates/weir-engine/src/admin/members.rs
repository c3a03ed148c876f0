//! Members: who belongs to a tenant, in which role, and who is asked in.

use super::May;
use super::permits::{MembersRead, MembersWrite, OwnersWrite};
use crate::people::invitation_token;
use crate::{Engine, Error};
use serde_json::json;
use weir_core::{Code, InvitationId, Role, Secret, TenantId, UserId};
use weir_store::members::{Invitation, Member, NewInvitation};
use weir_store::{After, Changed, Page};

/// Somebody to ask in.
#[derive(Clone, Debug)]
pub struct MemberWish {
    /// The address.
    pub email: String,
    /// The role, by name.
    pub role: String,
    /// What the person is called.
    pub name: Option<String>,
}

/// An invitation, with the token that takes it. The token is in this answer and nowhere else.
#[derive(Debug)]
pub struct Invited {
    /// The invitation.
    pub invitation: Invitation,
    /// Goes to the person, by whatever way the inviter trusts.
    pub token: Secret,
}

impl Engine {
    /// The members of a tenant.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub async fn members(
        &self,
        may: &May<MembersRead>,
        tenant: TenantId,
        page: After<UserId>,
    ) -> Result<Page<Member>, Error> {
        // A tenant that does not exist is an error, not an empty list.
        let tenant = self.store.tenants.get(may.tenant(tenant)?).await?.id;
        Ok(self.store.members.members(tenant, page).await?)
    }

    /// Asks somebody in. The answer is the same whether the installation knows the address or not, and the person is
    /// no member before taking the seat: an inviter learns nothing about people, and cannot act as them.
    ///
    /// # Errors
    /// `INVALID_REQUEST` for no address or an unknown role; `CONFLICT` for a member; `INSUFFICIENT_SCOPE` for an owner
    /// asked in by somebody who is none; `NOT_FOUND`.
    pub async fn invite_member(
        &self,
        may: &May<MembersWrite>,
        tenant: TenantId,
        wish: MemberWish,
    ) -> Result<Invited, Error> {
        let tenant = may.tenant(tenant)?;
        let role = role(&wish.role)?;
        may_touch(may, role)?;
        let (token, hash) = invitation_token()?;
        let now = self.clock.now();
        let invitation = Invitation {
            id: InvitationId::new(),
            email: wish.email.parse()?,
            name: wish.name.unwrap_or_default(),
            seat: Some((tenant, role)),
            operator: false,
            created_at: now,
            expires_at: now.plus(self.people.invitation_lifetime()),
        };
        let new = NewInvitation { hash, invitation };
        let invitation = self.store.members.invite(new, may.by(&*self.clock)).await?;
        Ok(Invited { invitation, token })
    }

    /// The seats that are kept for those invited.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub async fn invitations(
        &self,
        may: &May<MembersRead>,
        tenant: TenantId,
        page: After<InvitationId>,
    ) -> Result<Page<Invitation>, Error> {
        let tenant = self.store.tenants.get(may.tenant(tenant)?).await?.id;
        Ok(self.store.members.invitations(tenant, page).await?)
    }

    /// Gives a kept seat up: the invitation cannot be accepted any more.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub async fn withdraw_invitation(
        &self,
        may: &May<MembersWrite>,
        tenant: TenantId,
        id: InvitationId,
    ) -> Result<(), Error> {
        Ok(self.store.members.withdraw(may.tenant(tenant)?, id, may.by(&*self.clock)).await?)
    }

    /// Gives a member another role.
    ///
    /// # Errors
    /// `INVALID_REQUEST` for an unknown role; `INSUFFICIENT_SCOPE` when an owner is made or unmade by somebody who may
    /// not; `CONFLICT` for the last owner; `NOT_FOUND`.
    pub async fn set_member_role(
        &self,
        may: &May<MembersWrite>,
        tenant: TenantId,
        user: UserId,
        wanted: &str,
    ) -> Result<Changed<Member>, Error> {
        let tenant = may.tenant(tenant)?;
        let role = role(wanted)?;
        may_touch(may, role)?;
        let before = self.store.members.member(tenant, user).await?;
        may_touch(may, before.role)?;
        Ok(self.store.members.set_role(tenant, user, (before.role, role), may.by(&*self.clock)).await?)
    }

    /// Takes a membership away.
    ///
    /// # Errors
    /// `INSUFFICIENT_SCOPE` when an owner is removed by somebody who may not; `CONFLICT` for the last owner;
    /// `NOT_FOUND`.
    pub async fn remove_member(
        &self,
        may: &May<MembersWrite>,
        tenant: TenantId,
        user: UserId,
    ) -> Result<Changed<Member>, Error> {
        let tenant = may.tenant(tenant)?;
        let before = self.store.members.member(tenant, user).await?;
        may_touch(may, before.role)?;
        Ok(self.store.members.remove(tenant, user, before.role, may.by(&*self.clock)).await?)
    }
}

fn role(name: &str) -> Result<Role, Error> {
    name.parse().map_err(|error: weir_core::scope::InvalidRole| {
        let roles: Vec<_> = Role::ALL.into_iter().filter(|role| *role != Role::Operator).collect();
        Error::new(Code::InvalidRequest, format!("{error}.")).with(json!({ "field": "role", "roles": roles }))
    })
}

/// Owners are made and unmade by owners.
fn may_touch(may: &May<MembersWrite>, role: Role) -> Result<(), Error> {
    match role {
        Role::Owner => may.also::<OwnersWrite>().map(drop),
        _ => Ok(()),
    }
}
