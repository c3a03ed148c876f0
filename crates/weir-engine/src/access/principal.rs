//! Who administers: a key or a person, how far it reaches, and what it may do there.

use super::Who;
use crate::Error;
use crate::limits::{Decision, Rates};
use serde_json::json;
use weir_core::{Code, Permission, Permissions, ProjectId, Scopes, TenantId};

/// How far somebody reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// One tenant; every other one looks as if it did not exist.
    Tenant(TenantId),
    /// Every tenant: the platform's own staff.
    Installation,
}

/// Somebody who administers.
#[derive(Debug)]
pub struct Principal {
    /// Which credential.
    pub who: Who,
    /// How far it reaches.
    pub reach: Reach,
    /// What it may do there.
    pub permissions: Permissions,
    /// The scopes that it may pass on to the API keys it makes.
    pub scopes: Scopes,
    /// The project that an API key belongs to.
    pub project: Option<ProjectId>,
    /// Why the tenant is suspended, if it is: only looking and paying are allowed then.
    pub(crate) suspended: Option<String>,
    /// The credential's own rate.
    pub(crate) rates: Rates,
}

impl Principal {
    /// Takes `units` of the credential's rate. `None` when it has none.
    #[must_use]
    pub fn take(&self, units: u32) -> Option<Decision> {
        self.rates.take(units)
    }

    /// The name under which the audit trail knows it: `key:key_…`.
    #[must_use]
    pub fn actor(&self) -> String {
        match &self.who {
            Who::Key(id) => format!("key:{id}"),
            Who::Member { user, .. } => format!("member:{user}"),
            Who::Client { signer, .. } => format!("client:{signer}"),
        }
    }

    /// Checks one permission.
    ///
    /// # Errors
    /// `INSUFFICIENT_SCOPE`, naming the permission and who holds it; `TENANT_SUSPENDED` when only the suspension is in
    /// the way.
    pub fn require(&self, permission: Permission) -> Result<(), Error> {
        if !self.permissions.contains(permission) {
            return Err(Error::new(
                Code::InsufficientScope,
                format!("This needs the permission `{permission}`, which the credentials do not hold."),
            )
            .with(
                json!({ "missing": permission, "scope": permission.scope(), "roles": permission.roles() }),
            ));
        }
        match &self.suspended {
            Some(reason) if !self.permissions.while_suspended().contains(permission) => Err(Error::new(
                Code::TenantSuspended,
                "The tenant is suspended: until it is resumed its people can look and pay, nothing else.",
            )
            .with(json!({ "reason": reason }))),
            _ => Ok(()),
        }
    }
}
