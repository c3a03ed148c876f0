//! What the engine counts for those who watch it. Whoever does the work adds to a counter; everything else is read when
//! somebody looks, so that being watched costs the work nothing.

mod log;
mod log_spans;
mod tenants;

pub(crate) use log::ObservedLog;
pub use log::{LogFigures, Operation};
pub(crate) use tenants::{Activity, Tenants};
pub use tenants::{Counts, TenantLine};

use crate::engine::Engine;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use weir_core::{Code, TenantId};
use weir_log::Load;

/// The shares of a limit of events whose reaching is told, in percent.
pub const THRESHOLDS: [u32; 3] = [50, 80, 100];

/// How often tenants reached each of [`THRESHOLDS`].
#[derive(Debug, Default)]
pub struct Reached([AtomicU64; THRESHOLDS.len()]);

impl Reached {
    /// One more did.
    pub(crate) fn add(&self, percent: u32) {
        if let Some(at) = THRESHOLDS.iter().position(|one| *one == percent) {
            self.0[at].fetch_add(1, Relaxed);
        }
    }

    /// Each share in percent, and how often it was reached.
    pub fn read(&self) -> impl Iterator<Item = (u32, u64)> {
        THRESHOLDS.iter().zip(&self.0).map(|(percent, counter)| (*percent, counter.load(Relaxed)))
    }
}

/// Counters of one node.
#[derive(Debug, Default)]
pub struct Figures {
    /// Credentials that were known.
    admitted: AtomicU64,
    /// Credentials that were not, by what was told: the places of [`Code::ALL`].
    refused: Codes,
    /// Events that the live feed brought.
    pub(crate) fed: AtomicU64,
}

/// A counter for each public code.
#[derive(Debug)]
pub struct Codes(Box<[AtomicU64]>);

impl Default for Codes {
    fn default() -> Self {
        Self(Code::ALL.iter().map(|_| AtomicU64::new(0)).collect())
    }
}

impl Codes {
    /// Counts one.
    pub fn add(&self, code: Code) {
        if let Some(counter) = Code::ALL.iter().position(|one| *one == code).and_then(|at| self.0.get(at)) {
            counter.fetch_add(1, Relaxed);
        }
    }

    /// Every code, those never counted included: a rate sees the first one only if there was a zero before.
    pub fn read(&self) -> impl Iterator<Item = (Code, u64)> {
        Code::ALL.iter().zip(&self.0).map(|(code, counter)| (*code, counter.load(Relaxed)))
    }
}

impl Figures {
    /// Notes what became of credentials.
    pub(crate) fn authenticated<T>(&self, outcome: &Result<T, crate::Error>) {
        match outcome {
            Ok(_) => {
                self.admitted.fetch_add(1, Relaxed);
            }
            Err(error) => self.refused.add(error.code),
        }
    }

    /// Credentials that were known.
    #[must_use]
    pub fn admitted(&self) -> u64 {
        self.admitted.load(Relaxed)
    }

    /// Credentials that were not, by what was told.
    pub fn refused(&self) -> impl Iterator<Item = (Code, u64)> {
        self.refused.read()
    }

    /// Events that the live feed brought.
    #[must_use]
    pub fn fed(&self) -> u64 {
        self.fed.load(Relaxed)
    }
}

/// Gauges of a node that only the engine can read.
#[derive(Clone, Copy, Debug)]
pub struct Gauges {
    /// How old the confirmed state of access is, and how old it may be.
    pub access_age: (Duration, Duration),
    /// The number of the last change of access that is enforced here.
    pub access_version: i64,
    /// Replays that read the log now.
    pub replays: u64,
    /// By how many seconds this machine's clock is ahead of the database's.
    pub clock_ahead: f64,
    /// Dead letters of all tenants; `None` on nodes that do not look after the installation.
    pub dead_letters: Option<u64>,
    /// Tenants that keep nearly as much as they may; `None` on nodes that do not look after the installation.
    pub full_tenants: Option<u64>,
    /// Bytes of compiled schemas, by estimate, and how often a project's made room for others.
    pub schemas: (usize, u64),
}

impl Engine {
    /// What was counted.
    #[must_use]
    pub const fn figures(&self) -> &Figures {
        &self.figures
    }

    /// What the event log was asked, and how it answered.
    #[must_use]
    pub fn log_figures(&self) -> &LogFigures {
        &self.log_figures
    }

    /// What the event log has to do.
    #[must_use]
    pub fn log_load(&self) -> Load {
        self.log.load()
    }

    /// What keeps the events.
    #[must_use]
    pub fn log_system(&self) -> weir_log::System {
        self.log.system()
    }

    /// How the database does.
    #[must_use]
    pub fn store_load(&self) -> weir_store::Load {
        self.store.load()
    }

    /// The tenants with the most to do, and all others together.
    #[must_use]
    pub fn tenant_lines(&self) -> Vec<TenantLine> {
        self.tenants.look(self.metering.activity())
    }

    /// Live sessions by protocol.
    #[must_use]
    pub fn sessions(&self) -> BTreeMap<&'static str, u64> {
        self.sessions.by_protocol()
    }

    /// What only the engine can read.
    #[must_use]
    pub fn gauges(&self) -> Gauges {
        let (local, database) = (self.clock.now(), self.metering.now());
        Gauges {
            access_age: self.access.age(),
            access_version: self.access.version(),
            replays: self.replays.in_use(),
            clock_ahead: (local.micros() as f64 - database.micros() as f64) / 1e6,
            dead_letters: self.alerts.dead_letters(),
            full_tenants: self.alerts.full_tenants(),
            schemas: self.access.schema_memory(),
        }
    }

    /// A tenant is gone: nothing of it is shown any more.
    pub(crate) fn forget_figures(&self, tenant: TenantId) {
        self.tenants.forget(tenant);
    }
}
