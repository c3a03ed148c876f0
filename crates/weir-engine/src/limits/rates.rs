//! The rates that a caller's requests keep: of its credential, its project and its tenant.

use super::{Decision, Gcra, Rate};
use std::sync::Arc;

/// Limiters that all have to agree. Each is shared by everything on this node that it is the limit of.
#[derive(Clone, Debug)]
pub struct Rates {
    /// Of the credential.
    pub credential: Arc<Gcra>,
    /// Of the project; unlimited unless it has a limit of its own.
    pub project: Arc<Gcra>,
    /// Of the tenant.
    pub tenant: Arc<Gcra>,
}

impl Rates {
    /// The credential's own rate, and no other.
    #[must_use]
    pub fn of(credential: Arc<Gcra>) -> Self {
        let unlimited = Arc::new(Gcra::new(Rate { per_second: 0 }));
        Self { credential, project: Arc::clone(&unlimited), tenant: unlimited }
    }

    /// Takes `units` of every rate, or of none. The answer is the tightest one's; `None` when nothing is limited.
    #[must_use]
    pub fn take(&self, units: u32) -> Option<Decision> {
        let all = [("credential", &self.credential), ("project", &self.project), ("tenant", &self.tenant)];
        let mut tightest: Option<Decision> = None;
        for (n, (whose, limiter)) in all.iter().enumerate() {
            let Some(decision) = limiter.take(units) else { continue };
            let decision = Decision { whose, ..decision };
            if !decision.allowed {
                for (_, taken) in &all[..n] {
                    taken.give_back(units);
                }
                return Some(decision);
            }
            if tightest.is_none_or(|other| decision.remaining < other.remaining) {
                tightest = Some(decision);
            }
        }
        tightest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(credential: u32, project: u32, tenant: u32) -> Rates {
        let limiter = |per_second| Arc::new(Gcra::new(Rate { per_second }));
        Rates { credential: limiter(credential), project: limiter(project), tenant: limiter(tenant) }
    }

    #[test]
    fn the_tightest_speaks_and_a_refusal_costs_nothing() {
        let rates = rates(100, 0, 3);
        let first = rates.take(1).expect("limited");
        assert_eq!((first.whose, first.limit, first.remaining), ("tenant", 3, 2));
        assert!(rates.take(2).expect("limited").allowed);
        let refused = rates.take(1).expect("limited");
        assert_eq!((refused.whose, refused.allowed), ("tenant", false));
        let left = rates.credential.take(1).expect("limited").remaining;
        assert!(left >= 96, "the refused request was not charged to the credential: {left} of 100 are left");
    }

    #[test]
    fn without_limits_there_is_nothing_to_say() {
        assert_eq!(rates(0, 0, 0).take(u32::MAX), None);
        let project = rates(0, 5, 0).take(1).expect("limited");
        assert_eq!((project.whose, project.limit), ("project", 5));
    }
}
