//! Tenants: making, changing, suspending.

use super::May;
use super::permits::{TenantDelete, TenantRead, TenantWrite, TenantsManage};
use crate::access::Reach;
use crate::{Engine, Error};
use weir_core::{PlanName, TenantId};
use weir_store::{
    AccessChange, After, Changed, NewTenant, Overrides, Page, StoreError, Tenant, TenantStatus,
};

/// A tenant to make.
#[derive(Clone, Debug)]
pub struct TenantWish {
    /// Its name, unique in the installation.
    pub name: String,
    /// What it bought.
    pub plan: PlanName,
    /// In which limits it differs from the plan.
    pub overrides: Overrides,
    /// Whether it begins on trial.
    pub trial: bool,
}

/// What to change about a tenant; `None` stays as it is.
#[derive(Clone, Debug, Default)]
pub struct TenantChange {
    /// Another name.
    pub name: Option<String>,
    /// Another plan.
    pub plan: Option<PlanName>,
    /// Other deviations from the plan, in the place of all those before.
    pub overrides: Option<Overrides>,
}

impl Engine {
    /// The tenants within reach: all for operators, one's own for everybody else.
    ///
    /// # Errors
    /// `DATABASE_UNAVAILABLE`.
    pub async fn tenants(&self, may: &May<TenantRead>, page: After<TenantId>) -> Result<Page<Tenant>, Error> {
        match may.principal().reach {
            Reach::Installation => Ok(self.store.directory.tenants(page).await?),
            Reach::Tenant(own) if page.after.is_some_and(|after| after >= own) => {
                Ok(Page { items: Vec::new(), has_more: false })
            }
            Reach::Tenant(own) => {
                let items = vec![self.store.tenants.get(own).await?];
                Ok(Page { items, has_more: false })
            }
        }
    }

    /// One tenant.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub async fn tenant(&self, may: &May<TenantRead>, id: TenantId) -> Result<Tenant, Error> {
        Ok(self.store.tenants.get(may.tenant(id)?).await?)
    }

    /// Makes a tenant.
    ///
    /// # Errors
    /// `CONFLICT` when the name is taken; `INVALID_REQUEST`.
    pub async fn create_tenant(&self, may: &May<TenantsManage>, wish: TenantWish) -> Result<Tenant, Error> {
        let new = NewTenant {
            id: TenantId::new(),
            name: wish.name,
            plan: wish.plan,
            overrides: wish.overrides,
            status: if wish.trial { TenantStatus::Trial } else { TenantStatus::Active },
        };
        Ok(self.store.tenants.create(new, may.by(&*self.clock)).await?)
    }

    /// Changes a tenant. Its name is its own business; plan and limits are the platform's.
    ///
    /// # Errors
    /// `NOT_FOUND`, `CONFLICT` when the name is taken, `INSUFFICIENT_SCOPE`.
    pub async fn change_tenant(
        &self,
        may: &May<TenantWrite>,
        id: TenantId,
        change: TenantChange,
    ) -> Result<(Tenant, Option<AccessChange>), Error> {
        let id = may.tenant(id)?;
        let mut tenant = self.store.tenants.get(id).await?;
        let replan = change.plan.is_some() || change.overrides.is_some();
        if replan {
            may.also::<TenantsManage>()?;
        }
        if let Some(name) = change.name {
            tenant = self.store.tenants.rename(id, name, may.by(&*self.clock)).await?;
        }
        if !replan {
            return Ok((tenant, None));
        }
        let plan = change.plan.unwrap_or(tenant.plan);
        let overrides = change.overrides.unwrap_or(tenant.overrides);
        let changed = self.store.tenants.set_plan(id, plan, overrides, may.by(&*self.clock)).await?;
        Ok((changed.value, Some(changed.change)))
    }

    /// Suspends a tenant: everything it has open ends, and until it is resumed its people can only look and pay.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub async fn suspend_tenant(
        &self,
        may: &May<TenantsManage>,
        id: TenantId,
        reason: String,
    ) -> Result<Changed<Tenant>, Error> {
        if reason.trim().is_empty() {
            return Err(
                StoreError::Invalid("a suspension needs a `reason` that its people can read".into()).into()
            );
        }
        self.set_status(may, id, TenantStatus::Suspended, Some(reason)).await
    }

    /// Ends a suspension.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub async fn resume_tenant(
        &self,
        may: &May<TenantsManage>,
        id: TenantId,
    ) -> Result<Changed<Tenant>, Error> {
        self.set_status(may, id, TenantStatus::Active, None).await
    }

    /// Deletes a tenant with all that it has: its keys are revoked, its people are let in no more, everything it has open
    /// ends. What it used is still billed, and its audit trail stays.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub async fn delete_tenant(
        &self,
        may: &May<TenantDelete>,
        id: TenantId,
    ) -> Result<Changed<Tenant>, Error> {
        Ok(self.store.tenants.delete(may.tenant(id)?, may.by(&*self.clock)).await?)
    }

    async fn set_status(
        &self,
        may: &May<TenantsManage>,
        id: TenantId,
        status: TenantStatus,
        reason: Option<String>,
    ) -> Result<Changed<Tenant>, Error> {
        let id = may.tenant(id)?;
        Ok(self.store.tenants.set_status(id, status, reason, may.by(&*self.clock)).await?)
    }
}
