//! Reading what was metered.

use super::May;
use super::permits::BillingRead;
use crate::{Engine, Error};
use std::time::Duration;
use weir_core::{ProjectId, TenantId};
use weir_store::UsageWindow;

const HOUR: Duration = Duration::from_secs(3600);

impl Engine {
    /// The tenant's counters of the last `hours` hours, the current one included, of one project or of all together.
    ///
    /// # Errors
    /// `NOT_FOUND` for a tenant or project out of reach.
    pub async fn usage(
        &self,
        may: &May<BillingRead>,
        tenant: TenantId,
        project: Option<ProjectId>,
        hours: u32,
    ) -> Result<Vec<UsageWindow>, Error> {
        let tenant = may.tenant(tenant)?;
        if let Some(project) = project {
            self.store.tenants.project(tenant, project).await?;
        }
        let now = self.clock.now();
        let from = weir_store::hour_of(now.minus(HOUR * hours.saturating_sub(1)));
        Ok(self.store.usage.usage(tenant, project, from, now.plus(HOUR)).await?)
    }
}
