//! Permissions as types.

use super::Held;
use crate::access::{Principal, Reach};
use crate::{Engine, Error};
use std::marker::PhantomData;
use std::sync::Arc;
use weir_core::{Clock, Permission, ProjectId, RequestId, TenantId};
use weir_store::By;

/// A permission as a type.
pub trait Permit: Send + Sync + 'static {
    /// Which one.
    const PERMISSION: Permission;
}

macro_rules! permits {
    ($($name:ident),* $(,)?) => {
        /// One type for each permission of the table.
        pub mod permits {
            use super::{Permission, Permit};
            $(
                #[doc = concat!("[`Permission::", stringify!($name), "`].")]
                #[derive(Clone, Copy, Debug)]
                pub enum $name {}

                impl Permit for $name {
                    const PERMISSION: Permission = Permission::$name;
                }
            )*
        }
    };
}
permits! {
    TenantRead, TenantWrite, TenantDelete, TenantsManage, ProjectsRead, ProjectsWrite, KeysRead, KeysWrite, MembersRead, MembersWrite,
    OwnersWrite, ConnectionsRead, ConnectionsWrite, SchemasRead, SchemasWrite, AuditRead, BillingRead, BillingWrite,
    AlertsRead, AlertsWrite,
    WebhooksRead, WebhooksWrite, DeadLettersRead, DeadLettersWrite,
}

/// Proof that somebody holds the permission `P`, in one request.
#[derive(Debug)]
pub struct May<P> {
    principal: Arc<Principal>,
    request: RequestId,
    held: Option<Held>,
    permit: PhantomData<fn() -> P>,
}

impl<P: Permit> May<P> {
    /// Checks the permission.
    ///
    /// # Errors
    /// See [`Principal::require`].
    pub fn check(principal: Arc<Principal>, request: RequestId) -> Result<Self, Error> {
        principal.require(P::PERMISSION)?;
        Ok(Self { principal, request, held: None, permit: PhantomData })
    }

    /// The same, for a request that named an idempotency key: what is changed is changed under it.
    #[must_use]
    pub fn under(self, held: Option<Held>) -> Self {
        Self { held, ..self }
    }

    /// Checks a further permission of the same principal, where what is asked decides which are needed.
    ///
    /// # Errors
    /// See [`Principal::require`].
    pub fn also<Q: Permit>(&self) -> Result<May<Q>, Error> {
        May::check(Arc::clone(&self.principal), self.request.clone()).map(|may| may.under(self.held))
    }

    /// Who it is.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// In which request.
    #[must_use]
    pub const fn request(&self) -> &RequestId {
        &self.request
    }

    /// This tenant, if it is within reach.
    ///
    /// # Errors
    /// `NOT_FOUND`, the same as for a tenant that does not exist.
    pub fn tenant(&self, id: TenantId) -> Result<TenantId, Error> {
        match self.principal.reach {
            Reach::Tenant(own) if own != id => Err(Error::not_found("tenant")),
            _ => Ok(id),
        }
    }

    /// Who makes a change now, for the audit trail.
    pub(crate) fn by(&self, clock: &dyn Clock) -> By {
        let by = By::new(self.principal.actor(), clock.now());
        By { request_id: Some(self.request.clone()), claim: self.held.map(|held| held.claim), ..by }
    }
}

impl Engine {
    /// The tenant of a project. Whoever reaches one tenant is taken to mean that one: the store finds nothing of
    /// another's there.
    pub(crate) async fn tenant_of_project<P: Permit>(
        &self,
        may: &May<P>,
        project: ProjectId,
    ) -> Result<TenantId, Error> {
        match may.principal.reach {
            Reach::Tenant(own) => Ok(own),
            Reach::Installation => {
                let found = self.store.directory.project(project).await?;
                Ok(found.ok_or_else(|| Error::not_found("project"))?.tenant_id)
            }
        }
    }
}
