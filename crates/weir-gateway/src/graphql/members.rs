//! Members of a tenant, and those who are asked in.

use super::connection::{self, Connection, Edge};
use super::enforced::Enforced;
use super::scalars::DateTime;
use super::viewer::{Viewer, id, tenant_or_own};
use async_graphql::{Context, Enum, ID, InputObject, Object, Result, SimpleObject};
use weir_core::Role as Held;
use weir_engine::Error;
use weir_engine::admin::MemberWish;
use weir_engine::admin::permits::{MembersRead, MembersWrite};

/// What a member may do.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
#[graphql(name = "Role", remote = "Held", rename_items = "snake_case")]
pub(super) enum Role {
    /// Everything, and makes owners.
    Owner,
    /// Everything but owners and money.
    Admin,
    /// Projects, keys, schemas and connections.
    Developer,
    /// Plan, usage, payments.
    Billing,
    /// Looks.
    Viewer,
    /// Platform staff, above all tenants.
    Operator,
}

/// A member of a tenant.
#[derive(SimpleObject)]
#[graphql(rename_fields = "snake_case")]
pub(super) struct Member {
    /// The user, `usr_…`.
    user_id: ID,
    /// The address.
    email: String,
    /// What the person is called.
    name: String,
    /// What the member may do.
    role: Role,
    /// True while the user is let in nowhere.
    disabled: bool,
    /// Since when the person is a member.
    joined_at: DateTime,
}

impl From<weir_engine::Member> for Member {
    fn from(member: weir_engine::Member) -> Self {
        Self {
            user_id: member.user.id.to_string().into(),
            email: member.user.email.to_string(),
            name: member.user.name,
            role: member.role.into(),
            disabled: member.user.disabled_at.is_some(),
            joined_at: member.joined_at.into(),
        }
    }
}

/// A member after a change, and where the change holds.
#[derive(SimpleObject)]
pub(super) struct MemberChange {
    /// The member as it is now, or was when it was removed.
    member: Member,
    /// Where it holds already.
    enforced: Enforced,
}

/// A seat that is kept for somebody.
#[derive(SimpleObject)]
#[graphql(rename_fields = "snake_case")]
pub(super) struct Invitation {
    /// Its id, `inv_…`.
    id: ID,
    /// For whom.
    email: String,
    /// The role that goes with the seat.
    role: Option<Role>,
    /// From when on it cannot be accepted.
    expires_at: DateTime,
    /// Goes to the person, who sends it to `POST /v1/auth/accept`: in the answer that made it, and nowhere else.
    invitation_token: Option<String>,
}

/// Somebody to ask in.
#[derive(InputObject)]
#[graphql(rename_fields = "snake_case")]
pub(super) struct InvitationInput {
    /// The tenant; your own when absent.
    tenant_id: Option<ID>,
    /// The address.
    email: String,
    /// The role, by name.
    role: Role,
    /// What the person is called.
    name: Option<String>,
}

#[derive(Default)]
pub(super) struct MemberQuery;

#[Object(rename_args = "snake_case")]
impl MemberQuery {
    /// The members of a tenant. Needs `members:read`.
    #[graphql(complexity = "connection::cost(first, child_complexity)")]
    async fn members(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The tenant; your own when absent.")] tenant_id: Option<ID>,
        #[graphql(desc = "How many at most: 1 to 1000, 20 when absent.")] first: Option<i32>,
        #[graphql(desc = "Read on after this cursor of the page before.")] after: Option<String>,
    ) -> Option<Result<Connection<Member>>> {
        let list = async {
            let viewer = Viewer::of(ctx);
            let may = viewer.may::<MembersRead>().await?;
            let tenant = tenant_or_own(&may, tenant_id.as_ref().map(|id| id.as_str()))?;
            let page = connection::page(first, after.as_deref())?;
            let edge = |member: weir_engine::Member| Edge {
                cursor: member.user.id.to_string(),
                node: member.into(),
            };
            Ok(Connection::of(viewer.gateway.engine.members(&may, tenant, page).await?, edge))
        };
        Some(list.await.map_err(|error: Error| error.into()))
    }
}

#[derive(Default)]
pub(super) struct MemberMutation;

#[Object(rename_args = "snake_case")]
impl MemberMutation {
    /// Ask somebody in. Needs `members:write`, for owners `owners:write`.
    async fn invite_member(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Whom, and as what.")] input: InvitationInput,
    ) -> Option<Result<Invitation>> {
        Some(invite(Viewer::of(ctx), input).await.map_err(Into::into))
    }

    /// Give a member another role, which holds for issued tokens and open connections. Needs `members:write`, for owners
    /// `owners:write`.
    async fn set_member_role(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The member.")] user_id: ID,
        #[graphql(desc = "The role.")] role: Role,
        #[graphql(desc = "The tenant; your own when absent.")] tenant_id: Option<ID>,
    ) -> Option<Result<MemberChange>> {
        let viewer = Viewer::of(ctx);
        Some(change(viewer, &user_id, Some(role), tenant_id.as_ref()).await.map_err(Into::into))
    }

    /// Take a membership away. Needs `members:write`, for owners `owners:write`.
    async fn remove_member(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The member.")] user_id: ID,
        #[graphql(desc = "The tenant; your own when absent.")] tenant_id: Option<ID>,
    ) -> Option<Result<MemberChange>> {
        Some(change(Viewer::of(ctx), &user_id, None, tenant_id.as_ref()).await.map_err(Into::into))
    }
}

async fn invite(viewer: &Viewer, input: InvitationInput) -> Result<Invitation, Error> {
    let may = viewer.may::<MembersWrite>().await?;
    let tenant = tenant_or_own(&may, input.tenant_id.as_ref().map(|id| id.as_str()))?;
    let role = Held::from(input.role).as_str().to_owned();
    let wish = MemberWish { email: input.email, role, name: input.name };
    let invited = viewer.gateway.engine.invite_member(&may, tenant, wish).await?;
    Ok(Invitation {
        id: invited.invitation.id.to_string().into(),
        email: invited.invitation.email.to_string(),
        role: invited.invitation.seat.map(|(_, role)| role.into()),
        expires_at: invited.invitation.expires_at.into(),
        invitation_token: Some(invited.token.expose().to_owned()),
    })
}

/// Gives a member another role, or none.
async fn change(
    viewer: &Viewer,
    user: &ID,
    role: Option<Role>,
    tenant: Option<&ID>,
) -> Result<MemberChange, Error> {
    let may = viewer.may::<MembersWrite>().await?;
    let (tenant, user) = (tenant_or_own(&may, tenant.map(|id| id.as_str()))?, id("user_id", user)?);
    let engine = &viewer.gateway.engine;
    let changed = match role {
        Some(role) => engine.set_member_role(&may, tenant, user, Held::from(role).as_str()).await?,
        None => engine.remove_member(&may, tenant, user).await?,
    };
    let enforced = engine.enforced(&changed.change).await.into();
    Ok(MemberChange { member: changed.value.into(), enforced })
}
