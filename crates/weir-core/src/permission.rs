//! The one table of who may do what: for each permission the roles that hold it and the scope of an API key that
//! grants it. `docs/permissions.md` is generated here; the gateway's extractors name its rows.

use crate::{Role, Scope, Scopes};
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;

macro_rules! permissions {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal, $scope:expr, [$($role:ident)*];)+) => {
        /// Something that can be allowed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Permission {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Permission {
            /// Every permission, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The public name: `keys:write`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The scope with which an API key holds it; `None` when no key does.
            #[must_use]
            pub const fn scope(self) -> Option<Scope> {
                match self { $(Self::$variant => $scope,)+ }
            }

            /// The roles that hold it.
            #[must_use]
            pub const fn roles(self) -> &'static [Role] {
                match self { $(Self::$variant => &[$(Role::$role,)*],)+ }
            }

            /// What it allows, for the documentation.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+),)+ }
            }
        }
    };
}

permissions! {
    /// Publish events to the project's topics.
    EventsPublish = "events:publish", Some(Scope::EventsPublish), [Owner Admin Developer];
    /// Subscribe to, replay and list the project's topics.
    EventsSubscribe = "events:subscribe", Some(Scope::EventsSubscribe), [Owner Admin Developer Viewer];
    /// See the tenant: plan, limits, status.
    TenantRead = "tenant:read", Some(Scope::AdminRead), [Owner Admin Developer Billing Viewer Operator];
    /// Rename the tenant.
    TenantWrite = "tenant:write", Some(Scope::AdminWrite), [Owner Admin Operator];
    /// Delete the tenant, with all that it has.
    TenantDelete = "tenant:delete", None, [Owner Operator];
    /// Create tenants, list all of them, change their plan and limits, suspend, resume.
    TenantsManage = "tenants:manage", None, [Operator];
    /// See projects.
    ProjectsRead = "projects:read", Some(Scope::AdminRead), [Owner Admin Developer Billing Viewer Operator];
    /// Create, change and delete projects.
    ProjectsWrite = "projects:write", Some(Scope::AdminWrite), [Owner Admin Developer Operator];
    /// See API keys and signing keys; never their secrets.
    KeysRead = "keys:read", Some(Scope::AdminRead), [Owner Admin Developer Viewer Operator];
    /// Create, rotate and revoke API keys and signing keys.
    KeysWrite = "keys:write", Some(Scope::AdminWrite), [Owner Admin Developer Operator];
    /// See members and their roles.
    MembersRead = "members:read", Some(Scope::AdminRead), [Owner Admin Developer Billing Viewer Operator];
    /// Add and remove members and change their roles, owners excepted.
    MembersWrite = "members:write", Some(Scope::AdminWrite), [Owner Admin Operator];
    /// Make and unmake owners.
    OwnersWrite = "owners:write", None, [Owner Operator];
    /// See live connections.
    ConnectionsRead = "connections:read", Some(Scope::AdminRead), [Owner Admin Developer Viewer Operator];
    /// End live connections.
    ConnectionsWrite = "connections:write", Some(Scope::AdminWrite), [Owner Admin Developer Operator];
    /// See topic schemas.
    SchemasRead = "schemas:read", Some(Scope::AdminRead), [Owner Admin Developer Viewer Operator];
    /// Set and remove topic schemas.
    SchemasWrite = "schemas:write", Some(Scope::AdminWrite), [Owner Admin Developer Operator];
    /// See webhooks and their attempts; never their secrets.
    WebhooksRead = "webhooks:read", Some(Scope::AdminRead), [Owner Admin Developer Viewer Operator];
    /// Create, change, rotate, try, replay and delete webhooks.
    WebhooksWrite = "webhooks:write", Some(Scope::AdminWrite), [Owner Admin Developer Operator];
    /// See dead letters and what they say.
    DeadLettersRead = "dead-letters:read", Some(Scope::AdminRead), [Owner Admin Developer Viewer Operator];
    /// Set dead letters on their way again, and drop them.
    DeadLettersWrite = "dead-letters:write", Some(Scope::AdminWrite), [Owner Admin Developer Operator];
    /// Read, export and verify the audit trail.
    AuditRead = "audit:read", Some(Scope::AdminRead), [Owner Admin Operator];
    /// See alerts.
    AlertsRead = "alerts:read", Some(Scope::AdminRead), [Owner Admin Developer Billing Viewer Operator];
    /// Acknowledge alerts.
    AlertsWrite = "alerts:write", Some(Scope::AdminWrite), [Owner Admin Developer Operator];
    /// See usage, plan, invoices.
    BillingRead = "billing:read", Some(Scope::BillingRead), [Owner Admin Billing Viewer Operator];
    /// Choose a plan, set a spend cap, pay.
    BillingWrite = "billing:write", None, [Owner Billing Operator];
}

/// What stays allowed while the tenant is suspended: looking, and paying.
const WHILE_SUSPENDED: &[Permission] = &[
    Permission::TenantRead,
    Permission::ProjectsRead,
    Permission::KeysRead,
    Permission::MembersRead,
    Permission::ConnectionsRead,
    Permission::SchemasRead,
    Permission::WebhooksRead,
    Permission::DeadLettersRead,
    Permission::AuditRead,
    Permission::AlertsRead,
    Permission::BillingRead,
    Permission::BillingWrite,
];

/// A set of permissions.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Permissions(u64);

impl Permissions {
    /// What a role may do.
    #[must_use]
    pub fn of_role(role: Role) -> Self {
        Permission::ALL.iter().copied().filter(|permission| permission.roles().contains(&role)).collect()
    }

    /// What an API key with these scopes may do.
    #[must_use]
    pub fn of_scopes(scopes: Scopes) -> Self {
        let granted =
            |permission: &Permission| permission.scope().is_some_and(|scope| scopes.contains(scope));
        Permission::ALL.iter().copied().filter(granted).collect()
    }

    /// What of this remains while the tenant is suspended.
    #[must_use]
    pub fn while_suspended(self) -> Self {
        WHILE_SUSPENDED.iter().copied().filter(|permission| self.contains(*permission)).collect()
    }

    /// The set as a number, for keeping it.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The set of a number that [`bits`](Self::bits) gave.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Whether `permission` is in the set.
    #[must_use]
    pub const fn contains(self, permission: Permission) -> bool {
        self.0 & (1 << permission as u64) != 0
    }

    /// The permissions, in the order of the documentation.
    pub fn iter(self) -> impl Iterator<Item = Permission> {
        Permission::ALL.iter().copied().filter(move |permission| self.contains(*permission))
    }
}

impl FromIterator<Permission> for Permissions {
    fn from_iter<I: IntoIterator<Item = Permission>>(permissions: I) -> Self {
        Self(permissions.into_iter().fold(0, |set, permission| set | 1 << permission as u64))
    }
}

impl fmt::Debug for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Permission {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Permission {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let name = String::deserialize(d)?;
        let known = Self::ALL.iter().copied().find(|permission| permission.as_str() == name);
        known.ok_or_else(|| serde::de::Error::custom("not a permission"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_fit_the_set() {
        assert!(Permission::ALL.len() <= 64);
        for (i, permission) in Permission::ALL.iter().enumerate() {
            assert!(Permission::ALL[i + 1..].iter().all(|other| other.as_str() != permission.as_str()));
            assert!(!permission.meaning().trim().is_empty());
        }
    }

    #[test]
    fn only_owners_and_operators_touch_owners_and_nobody_but_operators_crosses_tenants() {
        for role in Role::ALL {
            let held = Permissions::of_role(role);
            assert_eq!(held.contains(Permission::OwnersWrite), matches!(role, Role::Owner | Role::Operator));
            assert_eq!(held.contains(Permission::TenantDelete), matches!(role, Role::Owner | Role::Operator));
            assert_eq!(held.contains(Permission::TenantsManage), role == Role::Operator);
            assert!(!held.while_suspended().contains(Permission::KeysWrite));
        }
        // An API key never decides about owners or money.
        let all = Permissions::of_scopes(Scopes::all());
        for permission in [Permission::OwnersWrite, Permission::BillingWrite, Permission::TenantDelete] {
            assert!(!all.contains(permission));
        }
    }

    #[test]
    fn a_viewer_changes_nothing() {
        let held = Permissions::of_role(Role::Viewer);
        assert!(held.iter().all(|permission| !permission.as_str().ends_with(":write")));
        assert!(!held.contains(Permission::EventsPublish));
    }
}
