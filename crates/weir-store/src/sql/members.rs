//! Members of tenants, and invitations.

use super::Sql;
use super::columns::{columns, invitation_columns, user_columns};
use super::database::{Scope, Tx};
use super::value::{Row, args};
use crate::members::{Invitation, Joined, Joining, Member, Members, NewInvitation};
use crate::people::User;
use crate::sign_ins::TokenHash;
use crate::{AccessChangeKind, After, By, Changed, Page, Reply, StoreError};
use serde_json::json;
use uuid::Uuid;
use weir_core::{InvitationId, Role, TenantId, Timestamp, UserId};

fn member(row: &Row) -> Result<Member, StoreError> {
    Ok(Member {
        user: super::people::user(row)?,
        role: row.get("m_role")?,
        joined_at: row.get("m_created_at")?,
    })
}

fn invitation(row: &Row) -> Result<Invitation, StoreError> {
    let (tenant, role) = (row.get::<Option<_>>("i_tenant_id")?, row.get::<Option<_>>("i_role")?);
    Ok(Invitation {
        id: row.get("i_id")?,
        email: row.get("i_email")?,
        name: row.get("i_name")?,
        seat: tenant.zip(role),
        operator: row.get("i_operator")?,
        created_at: row.get("i_created_at")?,
        expires_at: row.get("i_expires_at")?,
    })
}

const MEMBER: &str = concat!(
    "SELECT ",
    user_columns!("u."),
    ", m.role AS m_role, m.created_at AS m_created_at
      FROM memberships m JOIN users u ON u.id = m.user_id
      WHERE m.tenant_id = $1 AND m.user_id = $2"
);

impl Tx {
    /// Locks the tenant's row until the commit, and reads a member. Whoever changes a tenant's members holds that row,
    /// so what is true of all of them stays true.
    async fn lock_member(
        &mut self,
        tenant: TenantId,
        user: UserId,
        role: Role,
    ) -> Result<Member, StoreError> {
        self.lock_members(tenant).await?;
        let member = member(&self.fetch("member", MEMBER, args![tenant, user]).await?)?;
        if member.role == role {
            return Ok(member);
        }
        Err(StoreError::Conflict(format!("{user} has another role meanwhile: {}", member.role)))
    }

    async fn lock_members(&mut self, tenant: TenantId) -> Result<(), StoreError> {
        self.hold_tenant(tenant).await
    }

    /// Refuses to go on when nobody but `user` is an owner who can sign in.
    async fn keep_an_owner(&mut self, tenant: TenantId, user: UserId) -> Result<(), StoreError> {
        let other = self
            .fetch_optional(
                "SELECT m.user_id FROM memberships m JOIN users u ON u.id = m.user_id
                 WHERE m.tenant_id = $1 AND m.role = $2 AND m.user_id <> $3 AND u.disabled_at IS NULL LIMIT 1",
                args![tenant, Role::Owner, user],
            )
            .await?;
        other.map(drop).ok_or_else(|| {
            StoreError::Conflict(format!(
                "{user} is the tenant's last owner: make somebody else an owner first"
            ))
        })
    }

    /// Makes a user, whose row is locked, a member.
    async fn insert_member(
        &mut self,
        (tenant, role): (TenantId, Role),
        user: User,
        by: &By,
    ) -> Result<Changed<Member>, StoreError> {
        self.lock_members(tenant).await?;
        let made = self
            .execute(
                "INSERT INTO memberships (tenant_id, user_id, role, created_at) VALUES ($1, $2, $3, $4)
                 ON CONFLICT (tenant_id, user_id) DO NOTHING",
                args![tenant, user.id, role, by.at],
            )
            .await?;
        if made == 0 {
            return Err(already_a_member(&user));
        }
        let details = json!({ "email": user.email.as_str(), "role": role });
        let change = self.change_access(tenant, AccessChangeKind::MemberJoined, user.id, details, by).await?;
        Ok(Changed { value: Member { user, role, joined_at: by.at }, change })
    }

    /// The user who takes an invitation, made or locked.
    async fn joining(
        &mut self,
        joining: Joining,
        invitation: &Invitation,
        by: &By,
    ) -> Result<Joined, StoreError> {
        let (user, changes) = match joining {
            Joining::New(new) => (self.insert_user(new, by).await?, Vec::new()),
            Joining::Known(id) => (self.lock_user(id).await?, Vec::new()),
            Joining::Password(..) if invitation.seat.is_some() => {
                return Err(StoreError::Invalid("an invitation to a tenant sets nobody's password".into()));
            }
            Joining::Password(id, hash) => {
                let changed = self.replace_password(id, &hash, by).await?;
                (changed.user, changed.changes)
            }
        };
        if user.email != invitation.email {
            return Err(StoreError::Invalid(format!(
                "the invitation {} is for somebody else",
                invitation.id
            )));
        }
        Ok(Joined { user, seat: invitation.seat, changes })
    }
}

fn already_a_member(user: &User) -> StoreError {
    StoreError::Conflict(format!("{} is a member already: change the role instead", user.email))
}

impl Members for Sql {
    fn members(&self, tenant: TenantId, page: After<UserId>) -> Reply<'_, Page<Member>> {
        const LIST: &str = concat!(
            "SELECT ",
            user_columns!("u."),
            ", m.role AS m_role, m.created_at AS m_created_at
              FROM memberships m JOIN users u ON u.id = m.user_id
              WHERE m.tenant_id = $1 AND m.user_id > $2 ORDER BY m.user_id LIMIT $3"
        );
        self.call(async move {
            let after = page.after.map_or(Uuid::nil(), UserId::uuid);
            let args = args![tenant, after, page.fetch_limit()];
            let rows = self.database.fetch_all(tenant, LIST, args).await?;
            Ok(Page::cut(rows.iter().map(member).collect::<Result<_, _>>()?, &page))
        })
    }

    fn member(&self, tenant: TenantId, user: UserId) -> Reply<'_, Member> {
        self.call(async move {
            let row = self.database.fetch_optional(tenant, MEMBER, args![tenant, user]).await?;
            member(&row.ok_or(StoreError::NotFound("member"))?)
        })
    }

    fn join(&self, tenant: TenantId, user: UserId, role: Role, by: By) -> Reply<'_, Changed<Member>> {
        self.call(async move {
            let mut tx = self.database.begin(tenant).await?;
            let user = tx.lock_user(user).await?;
            let changed = tx.insert_member((tenant, role), user, &by).await?;
            tx.commit().await?;
            Ok(changed)
        })
    }

    fn set_role(
        &self,
        tenant: TenantId,
        user: UserId,
        (from, role): (Role, Role),
        by: By,
    ) -> Reply<'_, Changed<Member>> {
        self.call(async move {
            let mut tx = self.database.begin(tenant).await?;
            let mut value = tx.lock_member(tenant, user, from).await?;
            if value.role == Role::Owner && role != Role::Owner {
                tx.keep_an_owner(tenant, user).await?;
            }
            tx.execute(
                "UPDATE memberships SET role = $3 WHERE tenant_id = $1 AND user_id = $2",
                args![tenant, user, role],
            )
            .await?;
            let details = json!({ "from": value.role, "to": role });
            let change = tx.change_access(tenant, AccessChangeKind::MemberRole, user, details, &by).await?;
            tx.commit().await?;
            value.role = role;
            Ok(Changed { value, change })
        })
    }

    fn remove(&self, tenant: TenantId, user: UserId, from: Role, by: By) -> Reply<'_, Changed<Member>> {
        self.call(async move {
            let mut tx = self.database.begin(tenant).await?;
            let value = tx.lock_member(tenant, user, from).await?;
            if value.role == Role::Owner {
                tx.keep_an_owner(tenant, user).await?;
            }
            tx.execute("DELETE FROM memberships WHERE tenant_id = $1 AND user_id = $2", args![tenant, user])
                .await?;
            let details = json!({ "role": value.role });
            let change =
                tx.change_access(tenant, AccessChangeKind::MemberRemoved, user, details, &by).await?;
            tx.commit().await?;
            Ok(Changed { value, change })
        })
    }

    fn invite(&self, new: NewInvitation, by: By) -> Reply<'_, Invitation> {
        self.call(async move {
            let wish = new.invitation;
            super::people::check_display_name(&wish.name)?;
            let tenant = wish.seat.map(|(tenant, _)| tenant);
            let mut tx = self.database.begin(tenant.map_or(Scope::Operator, Scope::Tenant)).await?;
            match tenant {
                Some(tenant) => {
                    let member = tx
                        .fetch_optional(
                            concat!(
                                "SELECT ",
                                user_columns!("u."),
                                " FROM memberships m JOIN users u ON u.id = m.user_id
                                  WHERE m.tenant_id = $1 AND u.email = $2"
                            ),
                            args![tenant, wish.email.clone()],
                        )
                        .await?;
                    if let Some(row) = member {
                        return Err(already_a_member(&super::people::user(&row)?));
                    }
                }
                // Without a tenant nothing keeps two apart: NULLs are never equal.
                None => {
                    tx.execute(
                        "DELETE FROM invitations WHERE tenant_id IS NULL AND email = $1",
                        args![wish.email.clone()],
                    )
                    .await?;
                }
            }
            let row = tx
                .fetch(
                    "tenant",
                    concat!(
                        "INSERT INTO invitations (id, hash, email, name, tenant_id, role, operator, created_at, expires_at)
                         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
                         ON CONFLICT (tenant_id, email) DO UPDATE SET id = excluded.id, hash = excluded.hash,
                             name = excluded.name, role = excluded.role, created_at = excluded.created_at,
                             expires_at = excluded.expires_at
                         RETURNING ",
                        invitation_columns!("")
                    ),
                    args![
                        wish.id,
                        new.hash,
                        wish.email,
                        wish.name,
                        tenant,
                        wish.seat.map(|(_, role)| role),
                        wish.operator,
                        wish.created_at,
                        wish.expires_at
                    ],
                )
                .await?;
            let made = invitation(&row)?;
            let role = made.seat.map(|(_, role)| role);
            let details =
                json!({ "email": made.email.as_str(), "role": role, "expires_at": made.expires_at });
            tx.record(tenant, "member.invite", made.id, details, &by).await?;
            tx.commit().await?;
            Ok(made)
        })
    }

    fn invitations(&self, tenant: TenantId, page: After<InvitationId>) -> Reply<'_, Page<Invitation>> {
        const LIST: &str = concat!(
            "SELECT ",
            invitation_columns!(""),
            " FROM invitations WHERE tenant_id = $1 AND id > $2 ORDER BY id LIMIT $3"
        );
        self.call(async move {
            let after = page.after.map_or(Uuid::nil(), InvitationId::uuid);
            let args = args![tenant, after, page.fetch_limit()];
            let rows = self.database.fetch_all(tenant, LIST, args).await?;
            Ok(Page::cut(rows.iter().map(invitation).collect::<Result<_, _>>()?, &page))
        })
    }

    fn withdraw(&self, tenant: TenantId, id: InvitationId, by: By) -> Reply<'_, ()> {
        self.call(async move {
            let mut tx = self.database.begin(tenant).await?;
            let row = tx
                .fetch(
                    "invitation",
                    concat!(
                        "DELETE FROM invitations WHERE tenant_id = $1 AND id = $2 RETURNING ",
                        invitation_columns!("")
                    ),
                    args![tenant, id],
                )
                .await?;
            let details = json!({ "email": invitation(&row)?.email.as_str() });
            tx.record(tenant, "member.withdraw", id, details, &by).await?;
            tx.commit().await
        })
    }

    fn invitation(&self, hash: TokenHash, now: Timestamp) -> Reply<'_, Option<Invitation>> {
        const READ: &str = concat!(
            "SELECT ",
            invitation_columns!(""),
            " FROM invitations WHERE hash = $1 AND expires_at > $2"
        );
        self.call(async move {
            let row = self.database.fetch_optional(Scope::Operator, READ, args![hash, now]).await?;
            row.as_ref().map(invitation).transpose()
        })
    }

    fn accept(&self, hash: TokenHash, joining: Joining, by: By) -> Reply<'_, Option<Joined>> {
        const TAKE: &str = concat!(
            "DELETE FROM invitations WHERE hash = $1 AND expires_at > $2 RETURNING ",
            invitation_columns!("")
        );
        self.call(async move {
            let mut tx = self.database.begin(Scope::Operator).await?;
            let Some(row) = tx.fetch_optional(TAKE, args![hash, by.at]).await? else { return Ok(None) };
            let invitation = invitation(&row)?;
            let mut joined = tx.joining(joining, &invitation, &by).await?;
            if let Some(seat) = invitation.seat {
                let member = tx.insert_member(seat, joined.user.clone(), &by).await?;
                joined.changes.push(member.change);
            }
            tx.commit().await?;
            Ok(Some(joined))
        })
    }
}
