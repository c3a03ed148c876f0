//! What a tenant stores.

use super::May;
use super::permit::Permit;
use crate::retention::Kept;
use crate::{Engine, Error};
use std::collections::HashMap;
use weir_core::{ProjectId, TenantId, Timestamp};
use weir_store::{After, Amount, Page, Stored};

/// Events that are kept, and for how long at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Storage {
    /// How many, and their bytes.
    pub kept: Amount,
    /// When the oldest was accepted, once somebody looked: within seconds.
    pub oldest_at: Option<Timestamp>,
    /// The bounds that hold.
    pub bound: Kept,
}

/// What a tenant stores, in all and by project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageReport {
    /// Whose.
    pub tenant: TenantId,
    /// In all its projects.
    pub total: Storage,
    /// In some of its projects, in the order of their ids.
    pub projects: Page<(ProjectId, Storage)>,
}

impl Engine {
    /// The tenant that is meant: one's own, and for operators the named one.
    ///
    /// # Errors
    /// `NOT_FOUND` for one out of reach, `INVALID_REQUEST` when an operator names none.
    pub fn tenant_or_own<P: Permit>(
        &self,
        may: &May<P>,
        tenant: Option<TenantId>,
    ) -> Result<TenantId, Error> {
        crate::billing::whose(may, tenant)
    }

    /// What a tenant stores, as far as it was counted: some seconds ago. Three queries, whatever it is.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub async fn storage<P: Permit>(
        &self,
        may: &May<P>,
        tenant: TenantId,
        page: After<ProjectId>,
    ) -> Result<StorageReport, Error> {
        let tenant = may.tenant(tenant)?;
        let limits = self.store.tenants.get(tenant).await?.limits;
        let page = self.store.tenants.projects(tenant, page).await?;
        let stored = self.store.storage.of_tenant(tenant).await?;
        let max_age = self.settings.retention.max_age;
        let mut by_project: HashMap<ProjectId, (Amount, Option<Timestamp>)> = HashMap::new();
        for row in &stored {
            add(by_project.entry(row.project_id).or_default(), row);
        }
        let mut all = (Amount::default(), None);
        stored.iter().for_each(|row| add(&mut all, row));
        let of_tenant = Kept::of(&limits, &weir_core::ProjectLimits::default(), max_age);
        let projects = page.items.iter().map(|project| {
            let (kept, oldest_at) = by_project.get(&project.id).copied().unwrap_or_default();
            (project.id, Storage { kept, oldest_at, bound: Kept::of(&limits, &project.limits, max_age) })
        });
        Ok(StorageReport {
            tenant,
            total: Storage { kept: all.0, oldest_at: all.1, bound: of_tenant },
            projects: Page { items: projects.collect(), has_more: page.has_more },
        })
    }
}

/// Adds what one log keeps.
fn add(sum: &mut (Amount, Option<Timestamp>), row: &Stored) {
    let kept = row.kept();
    sum.0.events += kept.events;
    sum.0.bytes += kept.bytes;
    let oldest = row.oldest_at.filter(|_| kept.events > 0);
    sum.1 = match (sum.1, oldest) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    };
}
