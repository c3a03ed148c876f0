//! Users: the people who sign in.

use crate::{AccessChange, After, By, Page, Reply, StoreError, Tenant};
use std::fmt;
use std::str::FromStr;
use weir_core::{Role, Secret, TenantId, Timestamp, UserId};

/// An e-mail address as Weir keeps it: in lower case, so that one mailbox has one spelling.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Email(String);

impl Email {
    /// The address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Email {
    type Err = StoreError;

    /// Whether mail arrives there, only mail can tell; this refuses what is certainly no address.
    fn from_str(text: &str) -> Result<Self, StoreError> {
        let address = text.trim().to_lowercase();
        let good = address.len() <= 254
            && !address.chars().any(|c| c.is_whitespace() || c.is_control())
            && address.split_once('@').is_some_and(|(local, domain)| {
                !local.is_empty() && !domain.is_empty() && !domain.contains('@')
            });
        if good {
            return Ok(Self(address));
        }
        let shown: String = text.chars().take(80).collect();
        Err(StoreError::Invalid(format!(
            "`{shown}` is not an e-mail address such as ada@example.com, of at most 254 bytes"
        )))
    }
}

impl fmt::Display for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who somebody is to an OpenID provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The provider.
    pub issuer: String,
    /// Its name for the person; unlike the e-mail address it never changes.
    pub subject: String,
}

/// A person who can sign in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The id.
    pub id: UserId,
    /// The address, unique in the installation.
    pub email: Email,
    /// What the person is called; may be empty.
    pub name: String,
    /// The password's hash, a PHC string; `None` for who signs in through a provider only.
    pub password_hash: Option<Secret>,
    /// Who that is to the OpenID provider.
    pub identity: Option<Identity>,
    /// Whether this is platform staff.
    pub operator: bool,
    /// Grows when everything that the user was issued ends at once.
    pub session_version: i64,
    /// When the user was made.
    pub created_at: Timestamp,
    /// From when on nothing of the user is taken.
    pub disabled_at: Option<Timestamp>,
}

/// A user to make.
#[derive(Clone, Debug)]
pub struct NewUser {
    /// The id.
    pub id: UserId,
    /// The address.
    pub email: Email,
    /// What the person is called: at most 128 characters, none of them control characters.
    pub name: String,
    /// The password's hash.
    pub password_hash: Option<Secret>,
    /// Who that is to the OpenID provider.
    pub identity: Option<Identity>,
    /// Whether this is platform staff.
    pub operator: bool,
}

/// A tenant that a user is a member of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The tenant.
    pub tenant_id: TenantId,
    /// The tenant's name.
    pub tenant_name: String,
    /// The role there.
    pub role: Role,
}

/// A user, and how it stands in one tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The user.
    pub user: User,
    /// The role in the tenant that was asked about, and the tenant; `None` when the user is no member.
    pub member: Option<(Role, Tenant)>,
}

/// A change to a user, announced in each tenant that it is a member of.
#[derive(Clone, Debug)]
pub struct UserChanged {
    /// The user as it is now.
    pub user: User,
    /// The announcements.
    pub changes: Vec<AccessChange>,
}

/// Users. Every change writes its audit entry in the installation's chain in the same transaction; one that touches what
/// somebody may do is announced in every tenant that the user is a member of.
pub trait People: Send + Sync {
    /// Makes a user. `Conflict` when the address is taken.
    fn create(&self, user: NewUser, by: By) -> Reply<'_, User>;

    /// Reads a user.
    fn user(&self, user: UserId) -> Reply<'_, User>;

    /// The user with this address.
    fn by_email(&self, email: Email) -> Reply<'_, Option<User>>;

    /// The user whom the provider knows under this name.
    fn by_identity(&self, identity: Identity) -> Reply<'_, Option<User>>;

    /// All users.
    fn users(&self, page: After<UserId>) -> Reply<'_, Page<User>>;

    /// A user and how it stands in a tenant, in one query: all that deciding on a request of a member takes.
    fn standing(&self, user: UserId, tenant: Option<TenantId>) -> Reply<'_, Option<Standing>>;

    /// The tenants that a user is a member of, the first [`crate::MAX_PAGE`].
    fn memberships(&self, user: UserId) -> Reply<'_, Vec<Membership>>;

    /// Sets a new password, and ends everything that the user was issued before.
    fn set_password(&self, user: UserId, password_hash: Secret, by: By) -> Reply<'_, UserChanged>;

    /// Replaces the hash of the same password by a dearer one.
    fn rehash(&self, user: UserId, old: Secret, new: Secret) -> Reply<'_, ()>;

    /// Records who the user is to the OpenID provider. `Conflict` when it is somebody else there already.
    fn link(&self, user: UserId, identity: Identity, by: By) -> Reply<'_, User>;

    /// Makes or unmakes platform staff, and ends everything that the user was issued before.
    fn set_operator(&self, user: UserId, operator: bool, by: By) -> Reply<'_, UserChanged>;

    /// Disables a user, which ends everything that it was issued, or lets it in again.
    fn set_disabled(&self, user: UserId, disabled: bool, by: By) -> Reply<'_, UserChanged>;
}
