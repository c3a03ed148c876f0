//! `/v1/admin/tenants/{id}/members` and `…/invitations`.

use super::list::{List, page};
use super::{Admin, Id};
use crate::error::{ErrorBody, Failure};
use crate::extract::{RawBody, request_id};
use crate::query::{Query, cut};
use crate::rest::{Enforced, invalid};
use crate::state::Gateway;
use axum::Json;
use axum::extract::{FromRequestParts, Path, RawQuery, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::{Deserialize, Serialize};
use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;
use utoipa::ToSchema;
use weir_core::{InvitationId, Role, TenantId, Timestamp, UserId};
use weir_engine::admin::MemberWish;
use weir_engine::admin::permits::{MembersRead, MembersWrite};
use weir_engine::{Error, Invitation, Member};

/// A member of a tenant.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MemberBody {
    /// The user.
    #[schema(value_type = String, example = "usr_0190f5d2a6b07c3e8f4b1d2c3a495867")]
    user_id: UserId,
    /// The address.
    email: String,
    /// What the person is called.
    name: String,
    /// `owner`, `admin`, `developer`, `billing` or `viewer`.
    #[schema(value_type = String)]
    role: Role,
    /// True while the user is let in nowhere.
    disabled: bool,
    /// Since when the person is a member.
    #[schema(value_type = String, format = DateTime)]
    joined_at: Timestamp,
}

impl From<Member> for MemberBody {
    fn from(member: Member) -> Self {
        Self {
            user_id: member.user.id,
            email: member.user.email.to_string(),
            name: member.user.name,
            role: member.role,
            disabled: member.user.disabled_at.is_some(),
            joined_at: member.joined_at,
        }
    }
}

/// A member that was changed or removed, and where that holds already.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChangedMemberBody {
    #[serde(flatten)]
    member: MemberBody,
    /// Where it holds already.
    enforced: Enforced,
}

/// A seat that is kept for somebody.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct InvitationBody {
    /// Its id.
    #[schema(value_type = String, example = "inv_0190f5d2a6b07c3e8f4b1d2c3a495867")]
    id: InvitationId,
    /// For whom.
    email: String,
    /// What the person is called.
    name: String,
    /// The role that goes with the seat.
    #[schema(value_type = Option<String>)]
    role: Option<Role>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// From when on it cannot be accepted.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
}

impl From<Invitation> for InvitationBody {
    fn from(invitation: Invitation) -> Self {
        Self {
            id: invitation.id,
            email: invitation.email.to_string(),
            name: invitation.name,
            role: invitation.seat.map(|(_, role)| role),
            created_at: invitation.created_at,
            expires_at: invitation.expires_at,
        }
    }
}

/// A new invitation. Its token is in this answer and nowhere else.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NewInvitationBody {
    #[serde(flatten)]
    invitation: InvitationBody,
    /// Goes to the person, who sends it to `POST /v1/auth/accept`. It works once.
    invitation_token: String,
}

/// Somebody to ask in.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct InviteMember {
    /// The address.
    email: String,
    /// `owner`, `admin`, `developer`, `billing` or `viewer`.
    role: String,
    /// What the person is called; at most 128 characters.
    name: Option<String>,
}

/// Another role.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangeMember {
    /// `owner`, `admin`, `developer`, `billing` or `viewer`.
    role: String,
}

/// The tenant in the path, and the one of its things that follows.
pub(crate) struct Of<T>(TenantId, T);

impl<T: FromStr<Err: Display>> FromRequestParts<Arc<Gateway>> for Of<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, gateway: &Arc<Gateway>) -> Result<Self, Failure> {
        let request = request_id(parts);
        let fail = |error| Failure::new(error, request.clone());
        let texts = Path::<(String, String)>::from_request_parts(parts, gateway).await;
        let Path((tenant, thing)) = texts.map_err(|_| fail(invalid("id", "cannot be read from the path")))?;
        Ok(Self(read(&tenant).map_err(fail)?, read(&thing).map_err(fail)?))
    }
}

fn read<T: FromStr<Err: Display>>(text: &str) -> Result<T, Error> {
    text.parse().map_err(|error: T::Err| invalid("id", &cut(&error.to_string())))
}

/// List members.
#[utoipa::path(get, path = "/v1/admin/tenants/{id}/members", tag = "admin", extensions(("x-permission" = json!("members:read"))),
    params(("id" = String, Path, description = "The tenant"),
        ("limit" = Option<u32>, Query, description = "1 to 1000, 100 when absent", minimum = 1, maximum = 1000),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before")),
    responses((status = 200, body = List<MemberBody>), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn list(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<MembersRead>,
    Id(tenant): Id<TenantId>,
    RawQuery(query): RawQuery,
) -> Result<Json<List<MemberBody>>, Failure> {
    let query = Query::parse(query.as_deref());
    let members = async { gateway.engine.members(&admin.0, tenant, page(&query)?).await };
    let members = members.await.map_err(|error| admin.fail(error))?;
    Ok(Json(List::of(members, |member| member.user.id, MemberBody::from)))
}

/// Invite somebody.
///
/// Keeps a seat until the person takes it with the token, for 7 days unless configured otherwise. A new invitation to
/// the same address takes the place of the one before. Inviting an owner takes an owner.
#[utoipa::path(post, path = "/v1/admin/tenants/{id}/members", tag = "admin", extensions(("x-permission" = json!("members:write"))),
    params(("id" = String, Path, description = "The tenant")), request_body = InviteMember,
    responses((status = 201, body = NewInvitationBody), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn invite(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<MembersWrite>,
    Id(tenant): Id<TenantId>,
    body: RawBody,
) -> Result<(StatusCode, Json<NewInvitationBody>), Failure> {
    let wish: InviteMember = admin.read(&body)?;
    let wish = MemberWish { email: wish.email, role: wish.role, name: wish.name };
    let invited = gateway.engine.invite_member(&admin.0, tenant, wish).await;
    let invited = invited.map_err(|error| admin.fail(error))?;
    let body = NewInvitationBody {
        invitation: invited.invitation.into(),
        invitation_token: invited.token.expose().to_owned(),
    };
    Ok((StatusCode::CREATED, Json(body)))
}

/// Change a member's role.
///
/// It holds at once, for tokens that were issued and for connections that are open. Making and unmaking owners takes
/// an owner; the last one stays.
#[utoipa::path(patch, path = "/v1/admin/tenants/{id}/members/{user}", tag = "admin", extensions(("x-permission" = json!("members:write"))),
    params(("id" = String, Path, description = "The tenant"), ("user" = String, Path, description = "The user")),
    request_body = ChangeMember,
    responses((status = 200, body = ChangedMemberBody), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn change(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<MembersWrite>,
    Of(tenant, user): Of<UserId>,
    body: RawBody,
) -> Result<Json<ChangedMemberBody>, Failure> {
    let wish: ChangeMember = admin.read(&body)?;
    let changed = gateway.engine.set_member_role(&admin.0, tenant, user, &wish.role).await;
    let changed = changed.map_err(|error| admin.fail(error))?;
    let enforced = gateway.engine.enforced(&changed.change).await.into();
    Ok(Json(ChangedMemberBody { member: changed.value.into(), enforced }))
}

/// Remove a member.
///
/// The person's tokens for this tenant end at once, and so do the connections.
#[utoipa::path(delete, path = "/v1/admin/tenants/{id}/members/{user}", tag = "admin", extensions(("x-permission" = json!("members:write"))),
    params(("id" = String, Path, description = "The tenant"), ("user" = String, Path, description = "The user")),
    responses((status = 200, body = ChangedMemberBody), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn remove(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<MembersWrite>,
    Of(tenant, user): Of<UserId>,
) -> Result<Json<ChangedMemberBody>, Failure> {
    let changed = gateway.engine.remove_member(&admin.0, tenant, user).await;
    let changed = changed.map_err(|error| admin.fail(error))?;
    let enforced = gateway.engine.enforced(&changed.change).await.into();
    Ok(Json(ChangedMemberBody { member: changed.value.into(), enforced }))
}

/// List invitations.
///
/// Those that nobody has taken yet.
#[utoipa::path(get, path = "/v1/admin/tenants/{id}/invitations", tag = "admin", extensions(("x-permission" = json!("members:read"))),
    params(("id" = String, Path, description = "The tenant"),
        ("limit" = Option<u32>, Query, description = "1 to 1000, 100 when absent", minimum = 1, maximum = 1000),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before")),
    responses((status = 200, body = List<InvitationBody>), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn invitations(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<MembersRead>,
    Id(tenant): Id<TenantId>,
    RawQuery(query): RawQuery,
) -> Result<Json<List<InvitationBody>>, Failure> {
    let query = Query::parse(query.as_deref());
    let invitations = async { gateway.engine.invitations(&admin.0, tenant, page(&query)?).await };
    let invitations = invitations.await.map_err(|error| admin.fail(error))?;
    Ok(Json(List::of(invitations, |invitation| invitation.id, InvitationBody::from)))
}

/// Withdraw an invitation.
#[utoipa::path(delete, path = "/v1/admin/tenants/{id}/invitations/{invitation}", tag = "admin", extensions(("x-permission" = json!("members:write"))),
    params(("id" = String, Path, description = "The tenant"), ("invitation" = String, Path, description = "The invitation")),
    responses((status = 204), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 403, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn withdraw(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<MembersWrite>,
    Of(tenant, invitation): Of<InvitationId>,
) -> Result<StatusCode, Failure> {
    let withdrawn = gateway.engine.withdraw_invitation(&admin.0, tenant, invitation).await;
    withdrawn.map_err(|error| admin.fail(error))?;
    Ok(StatusCode::NO_CONTENT)
}
