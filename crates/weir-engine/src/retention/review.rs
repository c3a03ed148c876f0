//! Looking at one tenant: what its limits leave to each of its projects.

use super::cut::Bound;
use super::{Retention, place};
use crate::Error;
use std::collections::HashMap;
use std::time::Duration;
use weir_core::{Limits, ProjectId, ProjectLimits, TenantId, Timestamp};
use weir_store::{After, MAX_PAGE, Reviewed, StoreError, Stored};

/// Everything is looked at this often, whether somebody asked or not.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// For how long, and how much of a project is kept at most; 0 is no bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Seconds.
    pub seconds: u64,
    /// Bytes of the project alone; all projects together have their tenant's.
    pub bytes: u64,
}

impl Kept {
    /// What a tenant's and a project's limits, and the installation's longest age, come to: the least of each.
    #[must_use]
    pub fn of(limits: &Limits, project: &ProjectLimits, max_age: Option<Duration>) -> Self {
        let least = |bounds: [u64; 3]| bounds.into_iter().filter(|bound| *bound > 0).min().unwrap_or(0);
        let longest = max_age.map_or(0, |age| age.as_secs().max(1));
        Self {
            seconds: least([limits.retention_seconds, project.retention_seconds.unwrap_or(0), longest]),
            bytes: least([limits.retention_bytes, project.retention_bytes.unwrap_or(0), 0]),
        }
    }
}

/// How much each of several projects keeps of a common bound, where they have more: the same for all that want more than
/// that, so that a loud one takes nothing from a quiet one. `None` where all of them fit.
#[must_use]
fn shares(bound: u64, wanted: impl IntoIterator<Item = u64>) -> Option<u64> {
    if bound == 0 {
        return None;
    }
    let mut wanted: Vec<u64> = wanted.into_iter().collect();
    wanted.sort_unstable();
    let (mut left, count) = (bound, wanted.len());
    for (number, wants) in wanted.into_iter().enumerate() {
        let share = left / (count - number) as u64;
        if wants > share {
            return Some(share);
        }
        left -= wants;
    }
    None
}

impl Retention {
    /// Enforces a tenant's limits on all its projects.
    pub(super) async fn review(&self, tenant: TenantId) -> Result<(), Error> {
        let stored = self.store.storage.of_tenant(tenant).await?;
        let limits = match self.store.tenants.get(tenant).await {
            Ok(tenant) => tenant.limits,
            // It is deleted: what it leaves is erased.
            Err(StoreError::NotFound(_)) => return self.look_later(tenant, DAY).await,
            Err(error) => return Err(error.into()),
        };
        let projects = self.limits_of_projects(tenant).await?;
        let mut rows: Vec<(Stored, Kept)> = Vec::with_capacity(stored.len());
        for row in stored {
            match projects.get(&row.project_id) {
                Some(project) => {
                    let kept = Kept::of(&limits, project, self.settings.max_age);
                    rows.push((row, kept));
                }
                None => self.later(row, DAY).await?,
            }
        }
        let wants = |(row, kept): &(Stored, Kept)| {
            let has = row.kept().bytes;
            if kept.bytes == 0 { has } else { has.min(kept.bytes) }
        };
        let share = shares(limits.retention_bytes, rows.iter().map(wants)).unwrap_or(u64::MAX);
        for (row, kept) in rows {
            let bytes = if kept.bytes == 0 { share } else { kept.bytes.min(share) };
            self.hold(row, kept.seconds, bytes).await?;
        }
        Ok(())
    }

    async fn limits_of_projects(
        &self,
        tenant: TenantId,
    ) -> Result<HashMap<ProjectId, ProjectLimits>, StoreError> {
        let (mut all, mut after) = (HashMap::new(), None);
        loop {
            let page = self.store.tenants.projects(tenant, After { after, limit: MAX_PAGE }).await?;
            after = page.items.last().map(|project| project.id);
            all.extend(page.items.into_iter().map(|project| (project.id, project.limits)));
            if !page.has_more {
                return Ok(all);
            }
        }
    }

    /// Holds one project to its age and bytes, and notes when to look again.
    async fn hold(&self, row: Stored, seconds: u64, bytes: u64) -> Result<(), Error> {
        let now = self.clock.now();
        let age = (seconds > 0).then(|| Duration::from_secs(seconds));
        let bound = Bound { before: age.map(|age| now.minus(age)), bytes };
        let place = place(&row);
        let cut = self.cut(&place, &row, bound).await?;
        let mut row = row;
        if let Some(to) = cut.to {
            // Written down first: whoever takes over after a death tells the log again.
            if !self.store.storage.raise(row.clone(), to, cut.oldest_at).await? {
                return Ok(());
            }
            self.log.trim(&place, to.sequence).await?;
            let gone = to.up_to.events.saturating_sub(row.gone.events);
            tracing::debug!(project = %row.project_id, through = to.sequence, events = gone, "events were let go");
            row.floor_sequence = to.sequence;
        }
        if !cut.done {
            return Ok(());
        }
        let ends = cut.oldest_at.zip(age).map(|(oldest, age)| oldest.plus(age));
        let next = ends.unwrap_or(Timestamp::from_micros(i64::MAX)).min(now.plus(DAY));
        let next = next.max(now.plus(Duration::from_micros(1)));
        Ok(self.store.storage.reviewed(row, Reviewed { oldest_at: cut.oldest_at, next }).await?)
    }

    /// Looks at a tenant later.
    pub(super) async fn look_later(&self, tenant: TenantId, wait: Duration) -> Result<(), Error> {
        for row in self.store.storage.of_tenant(tenant).await? {
            self.later(row, wait).await?;
        }
        Ok(())
    }

    async fn later(&self, row: Stored, wait: Duration) -> Result<(), Error> {
        let reviewed = Reviewed { oldest_at: row.oldest_at, next: self.clock.now().plus(wait) };
        Ok(self.store.storage.reviewed(row, reviewed).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use weir_core::PlanName;

    #[test]
    fn the_narrowest_bound_holds_and_none_is_none() {
        let tenant = Limits { retention_seconds: 100, retention_bytes: 0, ..Limits::of(PlanName::Free) };
        let kept = |seconds, bytes, age: u64| {
            let project = ProjectLimits {
                retention_seconds: seconds,
                retention_bytes: bytes,
                ..ProjectLimits::default()
            };
            let kept = Kept::of(&tenant, &project, (age > 0).then(|| Duration::from_secs(age)));
            (kept.seconds, kept.bytes)
        };
        assert_eq!(kept(None, None, 0), (100, 0));
        assert_eq!(kept(Some(0), Some(0), 0), (100, 0));
        assert_eq!(kept(Some(7), Some(9), 0), (7, 9));
        assert_eq!(kept(Some(700), Some(9), 50), (50, 9));
    }

    #[test]
    fn a_loud_project_takes_nothing_from_a_quiet_one() {
        assert_eq!(shares(100, [10, 20, 70]), None);
        assert_eq!(shares(100, [10, 20, 71]), Some(70));
        assert_eq!(shares(100, [10, 900, 800]), Some(45));
        assert_eq!(shares(100, [900, 900, 900]), Some(33));
        assert_eq!(shares(0, [900]), None);
        assert_eq!(shares(9, []), None);
    }

    proptest! {
        #[test]
        fn shares_fill_the_bound_and_no_more(
            bound in 1_u64..1000,
            wanted in proptest::collection::vec(0_u64..500, 1..20),
        ) {
            let kept = |share: u64| wanted.iter().map(|wants| (*wants).min(share)).sum::<u64>();
            match shares(bound, wanted.iter().copied()) {
                None => prop_assert!(kept(u64::MAX) <= bound),
                Some(share) => prop_assert!(kept(share) <= bound && kept(share + 1) > bound),
            }
        }
    }
}
