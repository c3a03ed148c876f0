//! The audit trail: reading, checking, exporting.

use super::May;
use super::permits::AuditRead;
use crate::access::Reach;
use crate::{Engine, Error};
use futures::Stream;
use futures::stream::try_unfold;
use std::sync::Arc;
use weir_core::TenantId;
use weir_store::audit::{Entry, Filter, Verification};
use weir_store::{After, MAX_PAGE, Page};

/// The chain that is meant: one's own tenant's, and for operators the named one's or the installation's own.
fn chain(may: &May<AuditRead>, tenant: Option<TenantId>) -> Result<Option<TenantId>, Error> {
    match (tenant, may.principal().reach) {
        (Some(tenant), _) => may.tenant(tenant).map(Some),
        (None, Reach::Tenant(own)) => Ok(Some(own)),
        (None, Reach::Installation) => Ok(None),
    }
}

impl Engine {
    /// Entries of a chain, oldest first.
    ///
    /// # Errors
    /// `NOT_FOUND` for a tenant out of reach; `DATABASE_UNAVAILABLE`.
    pub async fn audit(
        &self,
        may: &May<AuditRead>,
        tenant: Option<TenantId>,
        filter: Filter,
        page: After<i64>,
    ) -> Result<Page<Entry>, Error> {
        Ok(self.store.audit.list(chain(may, tenant)?, filter, page).await?)
    }

    /// Checks a whole chain.
    ///
    /// # Errors
    /// As [`Engine::audit`].
    pub async fn verify_audit(
        &self,
        may: &May<AuditRead>,
        tenant: Option<TenantId>,
    ) -> Result<Verification, Error> {
        Ok(self.store.audit.verify(chain(may, tenant)?).await?)
    }

    /// A whole chain, page by page as it is taken.
    ///
    /// # Errors
    /// As [`Engine::audit`]; in the stream `DATABASE_UNAVAILABLE`.
    pub fn export_audit(
        self: &Arc<Self>,
        may: &May<AuditRead>,
        tenant: Option<TenantId>,
    ) -> Result<impl Stream<Item = Result<Vec<Entry>, Error>> + Send + use<>, Error> {
        let (engine, chain) = (Arc::clone(self), chain(may, tenant)?);
        Ok(try_unfold(Some(0), move |after| {
            let engine = Arc::clone(&engine);
            async move {
                let Some(after) = after else { return Ok(None) };
                let page = After { after: Some(after), limit: MAX_PAGE };
                let page = engine.store.audit.list(chain, Filter::default(), page).await?;
                let next = page.items.last().filter(|_| page.has_more).map(|last| last.sequence);
                Ok(Some((page.items, next)))
            }
        }))
    }
}
