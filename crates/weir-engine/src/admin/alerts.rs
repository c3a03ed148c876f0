//! Alerts: reading them, and saying that somebody looks after one.

use super::May;
use super::permits::{AlertsRead, AlertsWrite};
use crate::access::Reach;
use crate::{Engine, Error};
use weir_core::{AlertId, TenantId};
use weir_store::alerts::{Alert, AlertFilter};
use weir_store::{After, Page};

/// Whose alerts are within reach; `None` is everybody's and the installation's own.
fn within<P: super::Permit>(may: &May<P>) -> Option<TenantId> {
    match may.principal().reach {
        Reach::Tenant(own) => Some(own),
        Reach::Installation => None,
    }
}

impl Engine {
    /// Alerts within reach, newest first.
    ///
    /// # Errors
    /// `NOT_FOUND` for a tenant out of reach; `DATABASE_UNAVAILABLE`.
    pub async fn list_alerts(
        &self,
        may: &May<AlertsRead>,
        filter: AlertFilter,
        page: After<AlertId>,
    ) -> Result<Page<Alert>, Error> {
        let tenant = filter.tenant.map(|tenant| may.tenant(tenant)).transpose()?;
        Ok(self.store.alerts.alerts(within(may), AlertFilter { tenant, ..filter }, page).await?)
    }

    /// Notes that somebody looks after an alert.
    ///
    /// # Errors
    /// `NOT_FOUND` for one out of reach; `CONFLICT` when it is over; `DATABASE_UNAVAILABLE`.
    pub async fn acknowledge_alert(&self, may: &May<AlertsWrite>, id: AlertId) -> Result<Alert, Error> {
        Ok(self.store.alerts.acknowledge(within(may), id, may.by(&*self.clock)).await?)
    }

    /// What to do first about an alert, and where its runbook is.
    #[must_use]
    pub fn advice(&self, alert: &Alert) -> (&'static str, String) {
        let fix = crate::alerts::Condition::parse(&alert.condition).map_or("", crate::alerts::Condition::fix);
        (fix, self.alerts.runbook(&alert.condition))
    }
}
