//! What a caller may do: scopes of API keys, roles of members.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// One permission of an API key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Scope {
    /// Publish events.
    #[serde(rename = "events:publish")]
    EventsPublish,
    /// Subscribe and replay.
    #[serde(rename = "events:subscribe")]
    EventsSubscribe,
    /// Read tenants, projects, keys, members, audit.
    #[serde(rename = "admin:read")]
    AdminRead,
    /// Change them.
    #[serde(rename = "admin:write")]
    AdminWrite,
    /// Read usage, plan and invoices.
    #[serde(rename = "billing:read")]
    BillingRead,
}

impl Scope {
    /// Every scope, in the order of the documentation.
    pub const ALL: [Self; 5] =
        [Self::EventsPublish, Self::EventsSubscribe, Self::AdminRead, Self::AdminWrite, Self::BillingRead];

    /// The public name: `events:publish`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EventsPublish => "events:publish",
            Self::EventsSubscribe => "events:subscribe",
            Self::AdminRead => "admin:read",
            Self::AdminWrite => "admin:write",
            Self::BillingRead => "billing:read",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A string is not a scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a scope: use events:publish, events:subscribe, admin:read, admin:write or billing:read"
)]
pub struct InvalidScope(String);

impl FromStr for Scope {
    type Err = InvalidScope;

    fn from_str(text: &str) -> Result<Self, InvalidScope> {
        Self::ALL
            .into_iter()
            .find(|scope| scope.as_str() == text)
            .ok_or_else(|| InvalidScope(text.chars().take(80).collect()))
    }
}

/// A set of scopes in one byte.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Scopes(u8);

impl Scopes {
    /// All of them.
    #[must_use]
    pub fn all() -> Self {
        Scope::ALL.into_iter().collect()
    }

    /// Whether `scope` is in the set.
    #[must_use]
    pub const fn contains(self, scope: Scope) -> bool {
        self.0 & (1 << scope as u8) != 0
    }

    /// The scopes, in the order of the documentation.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.contains(*scope))
    }

    /// True when there are none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |set, scope| set | 1 << scope as u8))
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl fmt::Display for Scopes {
    /// Space-separated, as OAuth writes scopes; [`FromStr`] reads it back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, scope) in self.iter().enumerate() {
            if i > 0 {
                f.write_str(" ")?;
            }
            f.write_str(scope.as_str())?;
        }
        Ok(())
    }
}

impl FromStr for Scopes {
    type Err = InvalidScope;

    fn from_str(text: &str) -> Result<Self, InvalidScope> {
        text.split_whitespace().map(Scope::from_str).collect()
    }
}

impl Serialize for Scopes {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Scopes {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Ok(Vec::<Scope>::deserialize(d)?.into_iter().collect())
    }
}

/// What a person may do in a tenant; `Operator` belongs to the platform's own staff.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything in the tenant, other owners included.
    Owner,
    /// Everything but owners and deletion.
    Admin,
    /// Projects, keys and events.
    Developer,
    /// Usage, plan, invoices.
    Billing,
    /// Reads, changes nothing.
    Viewer,
    /// Platform staff: crosses tenants.
    Operator,
}

impl Role {
    /// Every role, in the order of the documentation.
    pub const ALL: [Self; 6] =
        [Self::Owner, Self::Admin, Self::Developer, Self::Billing, Self::Viewer, Self::Operator];

    /// The public name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Admin => "admin",
            Self::Developer => "developer",
            Self::Billing => "billing",
            Self::Viewer => "viewer",
            Self::Operator => "operator",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A string is not a role that a member can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a role: use owner, admin, developer, billing or viewer")]
pub struct InvalidRole(String);

impl FromStr for Role {
    type Err = InvalidRole;

    /// Reads a member's role; nobody is made an operator by name.
    fn from_str(text: &str) -> Result<Self, InvalidRole> {
        Self::ALL
            .into_iter()
            .find(|role| role.as_str() == text && *role != Self::Operator)
            .ok_or_else(|| InvalidRole(text.chars().take(80).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_round_trip_as_text_and_json() {
        let set: Scopes = [Scope::EventsPublish, Scope::BillingRead].into_iter().collect();
        assert_eq!(set.to_string(), "events:publish billing:read");
        assert_eq!(set.to_string().parse(), Ok(set));
        assert_eq!(serde_json::to_string(&set).ok().as_deref(), Some(r#"["events:publish","billing:read"]"#));
        assert!(set.contains(Scope::BillingRead) && !set.contains(Scope::AdminWrite));
        assert!("events:publish root".parse::<Scopes>().is_err());
    }
}
