//! Dead letters: what could not be delivered or read.

use super::permits::{DeadLettersRead, DeadLettersWrite};
use super::{May, Permit};
use crate::access::Reach;
use crate::billing::whose;
use crate::{Engine, Error};
use weir_core::{DeadLetterId, TenantId};
use weir_store::dead_letters::{DeadLetter, DeadLetterFilter, DeadLetterTotals, MAX_REDRIVEN, Redriven};
use weir_store::{After, Page, StoreError};

impl Engine {
    /// The dead letters of a tenant, of a project or a webhook alone where it is named, without what they say; and how
    /// many the tenant has.
    ///
    /// # Errors
    /// `INVALID_REQUEST` when an operator names nothing; `NOT_FOUND`; `DATABASE_UNAVAILABLE`.
    pub async fn dead_letters(
        &self,
        may: &May<DeadLettersRead>,
        tenant: Option<TenantId>,
        filter: DeadLetterFilter,
        page: After<DeadLetterId>,
    ) -> Result<(Page<DeadLetter>, DeadLetterTotals), Error> {
        let tenant = self.whose_letters(may, tenant, filter).await?;
        let letters = self.store.dead_letters.list(tenant, filter, page).await?;
        Ok((letters, self.store.dead_letters.totals(tenant).await?))
    }

    /// One dead letter, with what it says.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub async fn dead_letter(
        &self,
        may: &May<DeadLettersRead>,
        id: DeadLetterId,
    ) -> Result<DeadLetter, Error> {
        let tenant = self.tenant_of_letter(may, id).await?;
        Ok(self.store.dead_letters.get(tenant, id).await?)
    }

    /// Sets a dead letter on its way again. Doing it again changes nothing.
    ///
    /// # Errors
    /// `CONFLICT` when it cannot be: it is no event, or its webhook was deleted. `NOT_FOUND`.
    pub async fn redrive(&self, may: &May<DeadLettersWrite>, id: DeadLetterId) -> Result<DeadLetter, Error> {
        let tenant = self.tenant_of_letter(may, id).await?;
        let redriven = self.store.dead_letters.redrive(tenant, id, may.by(&*self.clock)).await?;
        self.webhooks.look();
        Ok(redriven)
    }

    /// Sets many on their way again, those first that stand first in the log.
    ///
    /// # Errors
    /// As [`Engine::dead_letters`].
    pub async fn redrive_all(
        &self,
        may: &May<DeadLettersWrite>,
        tenant: Option<TenantId>,
        filter: DeadLetterFilter,
        limit: Option<u32>,
    ) -> Result<Redriven, Error> {
        let tenant = self.whose_letters(may, tenant, filter).await?;
        let (limit, by) = (limit.unwrap_or(MAX_REDRIVEN), may.by(&*self.clock));
        let redriven = self.store.dead_letters.redrive_all(tenant, filter, limit, by).await?;
        self.webhooks.look();
        Ok(redriven)
    }

    /// Drops a dead letter.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub async fn drop_dead_letter(&self, may: &May<DeadLettersWrite>, id: DeadLetterId) -> Result<(), Error> {
        let tenant = self.tenant_of_letter(may, id).await?;
        Ok(self.store.dead_letters.drop_letter(tenant, id, may.by(&*self.clock)).await?)
    }

    async fn whose_letters<P: Permit>(
        &self,
        may: &May<P>,
        tenant: Option<TenantId>,
        filter: DeadLetterFilter,
    ) -> Result<TenantId, Error> {
        if let Some(project) = filter.project {
            let tenant = self.tenant_of_project(may, project).await?;
            self.store.tenants.project(tenant, project).await?;
            return Ok(tenant);
        }
        whose(may, tenant)
    }

    async fn tenant_of_letter<P: Permit>(&self, may: &May<P>, id: DeadLetterId) -> Result<TenantId, Error> {
        match may.principal().reach {
            Reach::Tenant(own) => Ok(own),
            Reach::Installation => {
                let found = self.store.dead_letters.tenant_of(id).await?;
                Ok(found.ok_or(StoreError::NotFound("dead letter"))?)
            }
        }
    }
}
