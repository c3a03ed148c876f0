//! What the rest of the program counts for alerts. Counting costs an addition; what it means is decided elsewhere.

use dashmap::DashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use weir_core::{ProjectId, TenantId};

/// Projects whose refused credentials are told apart, between two looks. Those of further ones count for the installation
/// only: whoever guesses cannot fill the memory.
const PROJECTS: usize = 10_000;

/// What happened on this node since it started.
#[derive(Default)]
pub(crate) struct Signals {
    requests: AtomicU64,
    failures: AtomicU64,
    refused: AtomicU64,
    published: AtomicU64,
    refused_of: DashMap<(TenantId, ProjectId), u64>,
}

impl Signals {
    /// Counts an answered request.
    pub(crate) fn request(&self, failed: bool) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if failed {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts credentials that were refused, and whose they had been or pretend to be, where that is known.
    pub(crate) fn refused(&self, place: Option<(TenantId, ProjectId)>) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        let Some(place) = place else { return };
        if let Some(mut count) = self.refused_of.get_mut(&place) {
            *count += 1;
        } else if self.refused_of.len() < PROJECTS {
            *self.refused_of.entry(place).or_default() += 1;
        }
    }

    /// Counts events that were acknowledged here.
    pub(crate) fn published(&self, events: usize) {
        self.published.fetch_add(events as u64, Ordering::Relaxed);
    }

    /// Requests so far, and how many of them failed.
    pub(crate) fn requests(&self) -> (u64, u64) {
        (self.requests.load(Ordering::Relaxed), self.failures.load(Ordering::Relaxed))
    }

    /// Refused credentials so far.
    pub(crate) fn refusals(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Acknowledged events so far.
    pub(crate) fn published_events(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }

    /// Refused credentials by project since this was asked last.
    pub(super) fn take_refusals(&self) -> Vec<((TenantId, ProjectId), u64)> {
        let places: Vec<_> = self.refused_of.iter().map(|entry| *entry.key()).collect();
        places.into_iter().filter_map(|place| self.refused_of.remove(&place)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_apart_by_project_up_to_a_bound() {
        let signals = Signals::default();
        let known = (TenantId::new(), ProjectId::new());
        signals.refused(Some(known));
        signals.refused(Some(known));
        signals.refused(None);
        for _ in 0..2 * PROJECTS {
            signals.refused(Some((TenantId::new(), ProjectId::new())));
        }
        assert_eq!(signals.refusals(), 3 + 2 * PROJECTS as u64);
        let taken = signals.take_refusals();
        assert_eq!(taken.len(), PROJECTS);
        assert!(taken.contains(&(known, 2)));
        assert!(signals.take_refusals().is_empty());
    }
}
