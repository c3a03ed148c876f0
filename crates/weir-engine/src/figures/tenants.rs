//! Which tenants are shown by name. There may be tens of thousands, and a time series for each would be a burden to
//! whoever keeps them: the busiest have series of their own, all others share one.
//!
//! Counters must never fall, so what is counted goes to the series that its tenant has at that moment, once and for all:
//! a tenant that comes to be shown begins at what it does from then on, and one that is shown no more takes its series
//! with it. With no more tenants than there is room for, each one's counters are exact.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use weir_core::{ProjectId, TenantId};

/// Half of what a tenant did is forgotten in this time when the busiest are chosen.
const HALF_LIFE: Duration = Duration::from_secs(60);
/// Between two choices where somebody would have to go.
const CHOICE: Duration = Duration::from_secs(30);
/// By how much busier a newcomer must be than who goes for it: two that are alike must not take turns.
const MARGIN: f64 = 2.0;
/// How long a tenant is shown that does nothing.
const IDLE: Duration = Duration::from_secs(600);

/// What one project or tenant did, ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events stored.
    pub published: u64,
    /// Events handed to connections.
    pub delivered: u64,
    /// Requests to HTTP interfaces.
    pub requests: u64,
}

impl Counts {
    const fn is_zero(&self) -> bool {
        self.published == 0 && self.delivered == 0 && self.requests == 0
    }

    fn add(&mut self, more: &Self) {
        self.published += more.published;
        self.delivered += more.delivered;
        self.requests += more.requests;
    }

    /// What came since `before`; all of it when it began anew meanwhile.
    fn since(&self, before: &Self) -> Self {
        let more = |now: u64, before: u64| if now < before { now } else { now - before };
        Self {
            published: more(self.published, before.published),
            delivered: more(self.delivered, before.delivered),
            requests: more(self.requests, before.requests),
        }
    }

    fn weight(&self) -> f64 {
        (self.published + self.delivered + self.requests) as f64
    }
}

/// What a project has done and has now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Activity {
    pub tenant: TenantId,
    pub project: ProjectId,
    pub counts: Counts,
    pub connections: u64,
}

/// One line of what is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TenantLine {
    /// Whose; `None` for all others together.
    pub tenant: Option<TenantId>,
    /// What was counted while it was shown.
    pub counts: Counts,
    /// Live connections now.
    pub connections: u64,
}

/// The choice, and what was counted for it.
#[derive(Debug)]
pub(crate) struct Tenants {
    most: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    seen: HashMap<(TenantId, ProjectId), Counts>,
    heat: HashMap<TenantId, f64>,
    shown: HashMap<TenantId, Shown>,
    others: Counts,
    looked: Option<Instant>,
    chosen: Option<Instant>,
}

#[derive(Debug)]
struct Shown {
    counts: Counts,
    active: Instant,
}

impl Tenants {
    /// Shows so many by name at most.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, state: Mutex::default() }
    }

    /// Takes what all projects have done, and says what is shown now.
    pub(crate) fn look(&self, all: Vec<Activity>) -> Vec<TenantLine> {
        self.look_at(all, Instant::now())
    }

    fn look_at(&self, all: Vec<Activity>, now: Instant) -> Vec<TenantLine> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let news = state.news(all, now);
        state.let_go(&news, now);
        state.choose(self.most, &news, now);
        let mut others = (Counts::default(), 0);
        for (tenant, (counts, connections)) in &news {
            match state.shown.get_mut(tenant) {
                Some(shown) => shown.counts.add(counts),
                None => {
                    others.0.add(counts);
                    others.1 += connections;
                }
            }
        }
        state.others.add(&others.0);
        let line = |(tenant, shown): (&TenantId, &Shown)| TenantLine {
            tenant: Some(*tenant),
            counts: shown.counts,
            connections: news.get(tenant).map_or(0, |(_, connections)| *connections),
        };
        let mut lines: Vec<TenantLine> = state.shown.iter().map(line).collect();
        lines.sort_by_key(|line| line.tenant);
        lines.push(TenantLine { tenant: None, counts: state.others, connections: others.1 });
        lines
    }

    /// A tenant is gone.
    pub(crate) fn forget(&self, tenant: TenantId) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.shown.remove(&tenant);
        state.heat.remove(&tenant);
    }
}

/// What tenants did since the last look, and their connections now.
type News = HashMap<TenantId, (Counts, u64)>;

impl State {
    fn news(&mut self, all: Vec<Activity>, now: Instant) -> News {
        let mut news = News::new();
        let mut seen = HashMap::with_capacity(all.len());
        for Activity { tenant, project, counts, connections } in all {
            let before = self.seen.get(&(tenant, project)).copied().unwrap_or_default();
            let of = news.entry(tenant).or_default();
            of.0.add(&counts.since(&before));
            of.1 += connections;
            seen.insert((tenant, project), counts);
        }
        self.seen = seen;
        let passed = self.looked.replace(now).map_or(Duration::ZERO, |last| now.duration_since(last));
        let kept = 0.5_f64.powf(passed.as_secs_f64() / HALF_LIFE.as_secs_f64());
        self.heat.retain(|_, heat| {
            *heat *= kept;
            *heat > 0.01
        });
        for (tenant, (counts, connections)) in &news {
            let weight = counts.weight() + *connections as f64;
            if weight > 0.0 {
                *self.heat.entry(*tenant).or_default() += weight;
            }
        }
        news
    }

    /// Who has done nothing for long is shown no more.
    fn let_go(&mut self, news: &News, now: Instant) {
        for (tenant, shown) in &mut self.shown {
            if news.get(tenant).is_some_and(|(counts, connections)| !counts.is_zero() || *connections > 0) {
                shown.active = now;
            }
        }
        self.shown.retain(|_, shown| now.duration_since(shown.active) < IDLE);
    }

    fn choose(&mut self, most: usize, news: &News, now: Instant) {
        // Only who does something now: the busiest of yesterday would be shown and not be there.
        let is_there = |tenant: &TenantId| {
            news.get(tenant).is_some_and(|(counts, connections)| !counts.is_zero() || *connections > 0)
        };
        let hidden = |(tenant, _): &(&TenantId, &f64)| !self.shown.contains_key(tenant) && is_there(tenant);
        let mut candidates: Vec<(TenantId, f64)> =
            self.heat.iter().filter(hidden).map(|(tenant, heat)| (*tenant, *heat)).collect();
        candidates.sort_by(|(one, warm), (other, warmer)| warmer.total_cmp(warm).then(one.cmp(other)));
        let mut candidates = candidates.into_iter();
        let room = most.saturating_sub(self.shown.len());
        for (tenant, _) in candidates.by_ref().take(room) {
            self.show(tenant, now);
        }
        if self.chosen.is_some_and(|last| now.duration_since(last) < CHOICE) {
            return;
        }
        self.chosen = Some(now);
        for (tenant, heat) in candidates {
            let warmth = |tenant: &TenantId| self.heat.get(tenant).copied().unwrap_or_default();
            let coldest = self.shown.keys().map(|tenant| (warmth(tenant), *tenant));
            match coldest.min_by(|one, other| one.0.total_cmp(&other.0)) {
                Some((cold, who)) if heat > cold * MARGIN => {
                    self.shown.remove(&who);
                    self.show(tenant, now);
                }
                _ => return,
            }
        }
    }

    fn show(&mut self, tenant: TenantId, now: Instant) {
        self.shown.insert(tenant, Shown { counts: Counts::default(), active: now });
    }
}

#[cfg(test)]
#[path = "tenants_tests.rs"]
mod tests;
