//! Users.

use super::columns::{columns, tenant_columns, user_columns};
use super::database::{Scope, Tx};
use super::value::{Row, args};
use super::{Sql, tenants};
use crate::people::{Email, Identity, Membership, NewUser, People, Standing, User, UserChanged};
use crate::{AccessChangeKind, After, By, MAX_PAGE, Page, Reply, StoreError};
use serde_json::{Value, json};
use uuid::Uuid;
use weir_core::{Secret, TenantId, UserId};

pub fn user(row: &Row) -> Result<User, StoreError> {
    let issuer: Option<String> = row.get("u_oidc_issuer")?;
    let subject: Option<String> = row.get("u_oidc_subject")?;
    Ok(User {
        id: row.get("u_id")?,
        email: row.get("u_email")?,
        name: row.get("u_name")?,
        password_hash: row.get::<Option<String>>("u_password_hash")?.map(Secret::new),
        identity: issuer.zip(subject).map(|(issuer, subject)| Identity { issuer, subject }),
        operator: row.get("u_operator")?,
        session_version: row.get("u_session_version")?,
        created_at: row.get("u_created_at")?,
        disabled_at: row.get("u_disabled_at")?,
    })
}

pub fn check_display_name(name: &str) -> Result<(), StoreError> {
    let length = name.chars().count();
    if length <= 128 && !name.chars().any(char::is_control) {
        return Ok(());
    }
    Err(StoreError::Invalid(format!(
        "a person's name has at most 128 characters and no control characters; this one has {length} characters"
    )))
}

impl Tx {
    /// Makes a user and its entry in the installation's chain.
    pub async fn insert_user(&mut self, new: NewUser, by: &By) -> Result<User, StoreError> {
        check_display_name(&new.name)?;
        let (issuer, subject) = new.identity.map_or((None, None), |id| (Some(id.issuer), Some(id.subject)));
        // Exposed to be kept: it is a hash.
        let password_hash = new.password_hash.map(|hash| hash.expose().to_owned());
        let row = self
            .fetch_optional(
                concat!(
                    "INSERT INTO users (id, email, name, password_hash, oidc_issuer, oidc_subject, operator,
                                        session_version, created_at)
                     VALUES ($1, $2, $3, $4, $5, $6, $7, 1, $8) ON CONFLICT (email) DO NOTHING RETURNING ",
                    user_columns!("")
                ),
                args![
                    new.id,
                    new.email.clone(),
                    new.name,
                    password_hash,
                    issuer,
                    subject,
                    new.operator,
                    by.at
                ],
            )
            .await?;
        let row = row.ok_or_else(|| {
            StoreError::Conflict(format!("there is a user with the address {} already", new.email))
        })?;
        let user = user(&row)?;
        let details = json!({ "email": user.email.as_str(), "operator": user.operator });
        self.record(None, "user.create", user.id, details, by).await?;
        Ok(user)
    }

    /// Ends a change to a user that is made already: its entry in the installation's chain, and the announcement in
    /// every tenant of the user. What was issued before has ended, so nothing of it is kept.
    pub async fn finish_user(
        &mut self,
        row: &Row,
        kind: AccessChangeKind,
        details: Value,
        by: &By,
    ) -> Result<UserChanged, StoreError> {
        let user = user(row)?;
        self.execute("DELETE FROM refresh_tokens WHERE user_id = $1", args![user.id]).await?;
        self.record(None, kind.as_str(), user.id, details.clone(), by).await?;
        let tenants = self
            .fetch_all(
                "SELECT tenant_id FROM memberships WHERE user_id = $1 ORDER BY tenant_id",
                args![user.id],
            )
            .await?;
        let tenants: Vec<TenantId> =
            tenants.iter().map(|row| row.get("tenant_id")).collect::<Result<_, _>>()?;
        let changes = self.change_access_in(&tenants, kind, user.id, details, by).await?;
        Ok(UserChanged { user, changes })
    }

    /// Locks the user's row until the commit and reads it.
    pub async fn lock_user(&mut self, id: UserId) -> Result<User, StoreError> {
        let row = self
            .fetch(
                "user",
                concat!("UPDATE users SET name = name WHERE id = $1 RETURNING ", user_columns!("")),
                args![id],
            )
            .await?;
        user(&row)
    }

    /// Sets a password and ends what was issued under the old one.
    pub async fn replace_password(
        &mut self,
        id: UserId,
        hash: &Secret,
        by: &By,
    ) -> Result<UserChanged, StoreError> {
        let row = self
            .fetch(
                "user",
                concat!(
                    "UPDATE users SET password_hash = $2, session_version = session_version + 1
                     WHERE id = $1 RETURNING ",
                    user_columns!("")
                ),
                // Exposed to be kept: it is a hash.
                args![id, hash.expose().to_owned()],
            )
            .await?;
        self.finish_user(&row, AccessChangeKind::UserPassword, json!({}), by).await
    }
}

const STANDING: &str = concat!(
    "SELECT ",
    user_columns!("u."),
    ", m.role AS m_role, ",
    tenant_columns!("t."),
    " FROM users u LEFT JOIN memberships m ON m.user_id = u.id AND m.tenant_id = $2
      LEFT JOIN tenants t ON t.id = m.tenant_id AND t.deleted_at IS NULL
      WHERE u.id = $1"
);

impl People for Sql {
    fn create(&self, new: NewUser, by: By) -> Reply<'_, User> {
        self.call(async move {
            let mut tx = self.database.begin(Scope::Operator).await?;
            let user = tx.insert_user(new, &by).await?;
            tx.commit().await?;
            Ok(user)
        })
    }

    fn user(&self, id: UserId) -> Reply<'_, User> {
        const READ: &str = concat!("SELECT ", user_columns!(""), " FROM users WHERE id = $1");
        self.call(async move {
            let row = self.database.fetch_optional(Scope::Operator, READ, args![id]).await?;
            user(&row.ok_or(StoreError::NotFound("user"))?)
        })
    }

    fn by_email(&self, email: Email) -> Reply<'_, Option<User>> {
        const READ: &str = concat!("SELECT ", user_columns!(""), " FROM users WHERE email = $1");
        self.call(async move {
            let row = self.database.fetch_optional(Scope::Operator, READ, args![email]).await?;
            row.as_ref().map(user).transpose()
        })
    }

    fn by_identity(&self, identity: Identity) -> Reply<'_, Option<User>> {
        const READ: &str =
            concat!("SELECT ", user_columns!(""), " FROM users WHERE oidc_issuer = $1 AND oidc_subject = $2");
        self.call(async move {
            let args = args![identity.issuer, identity.subject];
            let row = self.database.fetch_optional(Scope::Operator, READ, args).await?;
            row.as_ref().map(user).transpose()
        })
    }

    fn users(&self, page: After<UserId>) -> Reply<'_, Page<User>> {
        const LIST: &str =
            concat!("SELECT ", user_columns!(""), " FROM users WHERE id > $1 ORDER BY id LIMIT $2");
        self.call(async move {
            let after = page.after.map_or(Uuid::nil(), UserId::uuid);
            let args = args![after, page.fetch_limit()];
            let rows = self.database.fetch_all(Scope::Operator, LIST, args).await?;
            Ok(Page::cut(rows.iter().map(user).collect::<Result<_, _>>()?, &page))
        })
    }

    fn standing(&self, id: UserId, tenant: Option<TenantId>) -> Reply<'_, Option<Standing>> {
        self.call(async move {
            let row = self.database.fetch_optional(Scope::Operator, STANDING, args![id, tenant]).await?;
            let Some(row) = row else { return Ok(None) };
            let role = row.get::<Option<_>>("m_role")?;
            let member = role.map(|role| Ok::<_, StoreError>((role, tenants::tenant(&row)?))).transpose()?;
            Ok(Some(Standing { user: user(&row)?, member }))
        })
    }

    fn memberships(&self, id: UserId) -> Reply<'_, Vec<Membership>> {
        const LIST: &str = "SELECT m.tenant_id, t.name, m.role FROM memberships m
             JOIN tenants t ON t.id = m.tenant_id
             WHERE m.user_id = $1 AND t.deleted_at IS NULL ORDER BY m.tenant_id LIMIT $2";
        self.call(async move {
            let args = args![id, i64::from(MAX_PAGE)];
            let rows = self.database.fetch_all(Scope::Operator, LIST, args).await?;
            let membership = |row: &Row| {
                Ok(Membership {
                    tenant_id: row.get("tenant_id")?,
                    tenant_name: row.get("name")?,
                    role: row.get("role")?,
                })
            };
            rows.iter().map(membership).collect()
        })
    }

    fn set_password(&self, id: UserId, hash: Secret, by: By) -> Reply<'_, UserChanged> {
        self.call(async move {
            let mut tx = self.database.begin(Scope::Operator).await?;
            let changed = tx.replace_password(id, &hash, &by).await?;
            tx.commit().await?;
            Ok(changed)
        })
    }

    fn rehash(&self, id: UserId, old: Secret, new: Secret) -> Reply<'_, ()> {
        self.call(async move {
            let mut tx = self.database.begin(Scope::Operator).await?;
            // Not over a password that was changed meanwhile.
            tx.execute(
                "UPDATE users SET password_hash = $3 WHERE id = $1 AND password_hash = $2",
                // Exposed to be kept: these are hashes.
                args![id, old.expose().to_owned(), new.expose().to_owned()],
            )
            .await?;
            tx.commit().await
        })
    }

    fn link(&self, id: UserId, identity: Identity, by: By) -> Reply<'_, User> {
        self.call(async move {
            let mut tx = self.database.begin(Scope::Operator).await?;
            let known = tx.lock_user(id).await?;
            if known.identity.as_ref().is_some_and(|known| *known != identity) {
                return Err(StoreError::Conflict(format!("{id} is somebody else at the provider already")));
            }
            let row = tx
                .fetch(
                    "user",
                    concat!(
                        "UPDATE users SET oidc_issuer = $2, oidc_subject = $3 WHERE id = $1 RETURNING ",
                        user_columns!("")
                    ),
                    args![id, identity.issuer.clone(), identity.subject],
                )
                .await?;
            tx.record(None, "user.link", id, json!({ "issuer": identity.issuer }), &by).await?;
            tx.commit().await?;
            user(&row)
        })
    }

    fn set_operator(&self, id: UserId, operator: bool, by: By) -> Reply<'_, UserChanged> {
        self.call(async move {
            let mut tx = self.database.begin(Scope::Operator).await?;
            let row = tx
                .fetch(
                    "user",
                    concat!(
                        "UPDATE users SET operator = $2, session_version = session_version + 1
                         WHERE id = $1 RETURNING ",
                        user_columns!("")
                    ),
                    args![id, operator],
                )
                .await?;
            let details = json!({ "operator": operator });
            let changed = tx.finish_user(&row, AccessChangeKind::UserOperator, details, &by).await?;
            tx.commit().await?;
            Ok(changed)
        })
    }

    fn set_disabled(&self, id: UserId, disabled: bool, by: By) -> Reply<'_, UserChanged> {
        self.call(async move {
            let mut tx = self.database.begin(Scope::Operator).await?;
            let row = tx
                .fetch(
                    "user",
                    concat!(
                        "UPDATE users SET disabled_at = $2, session_version = session_version + 1
                         WHERE id = $1 RETURNING ",
                        user_columns!("")
                    ),
                    args![id, disabled.then_some(by.at)],
                )
                .await?;
            let details = json!({ "disabled": disabled });
            let changed = tx.finish_user(&row, AccessChangeKind::UserDisabled, details, &by).await?;
            tx.commit().await?;
            Ok(changed)
        })
    }
}
