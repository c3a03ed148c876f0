//! Alerts: what is wrong, found here, kept in the database, told to people.
//!
//! ```text
//!   requests, credentials ──▶ signals ─┐
//!   health, clocks, disk, billing ─────┼─▶ node ─────────┐
//!                                      │                 ├─▶ reporter ──▶ database: one open row for each
//!   database, once for all nodes ──────┴─▶ installation ─┘                condition and subject
//!                                                                              │
//!                            webhook, Alertmanager ◀── telling ◀───────────────┘
//! ```
//! Every node looks at itself; the one that has the turn also looks at what concerns the installation, ends what nobody
//! sees any more, and tells. While the database is away nodes tell Alertmanager themselves what they see. Nothing waits
//! for any of it.

mod alertmanager;
mod condition;
mod found;
mod installation;
mod levels;
mod message;
mod node;
mod reporter;
mod settings;
mod signals;
mod telling;
mod tenants;
mod undelivered;
mod watch;
mod window;

pub use condition::Condition;
pub use settings::Settings;
pub(crate) use signals::Signals;

use crate::Error;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;
use weir_outbound::{Outbound, Policy};
use weir_store::alerts::Sighting;

/// The alerts of one node.
pub(crate) struct Alerts {
    settings: Settings,
    /// Reaches what the operator named.
    outbound: Outbound,
    pub(crate) signals: Arc<Signals>,
    /// Whether this node looks after the installation.
    has_turn: AtomicBool,
    /// What this node sees and the database does not know, because it is away.
    unstored: Mutex<Vec<Sighting>>,
    /// Wakes whoever tells.
    changed: Notify,
    /// Tellings that failed since the start.
    failed_tellings: AtomicU64,
    /// Dead letters of all tenants at the last look of a node that has the turn.
    dead_letters: AtomicU64,
    /// Tenants that keep nearly as much as they may, at that look.
    full_tenants: AtomicU64,
}

impl Alerts {
    /// Alerts with these settings.
    ///
    /// # Errors
    /// When requests cannot be made at all, such as for want of root certificates.
    pub(crate) fn new(settings: Settings) -> Result<Self, Error> {
        Ok(Self {
            settings,
            outbound: Outbound::new(Policy::Trusted).map_err(Error::internal)?,
            signals: Arc::default(),
            has_turn: AtomicBool::new(false),
            unstored: Mutex::default(),
            changed: Notify::new(),
            failed_tellings: AtomicU64::new(0),
            dead_letters: AtomicU64::new(0),
            full_tenants: AtomicU64::new(0),
        })
    }

    fn unstored(&self) -> Vec<Sighting> {
        self.unstored.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_unstored(&self, seen: Vec<Sighting>) {
        *self.unstored.lock().unwrap_or_else(PoisonError::into_inner) = seen;
    }

    fn has_turn(&self) -> bool {
        self.has_turn.load(Ordering::Acquire)
    }

    /// Dead letters of all tenants; `None` on nodes that do not look after the installation.
    pub(crate) fn dead_letters(&self) -> Option<u64> {
        self.has_turn().then(|| self.dead_letters.load(Ordering::Relaxed))
    }

    /// Tenants that keep nearly as much as they may; `None` on nodes that do not look after the installation.
    pub(crate) fn full_tenants(&self) -> Option<u64> {
        self.has_turn().then(|| self.full_tenants.load(Ordering::Relaxed))
    }

    /// Where the runbook of a condition is.
    pub(crate) fn runbook(&self, condition: &str) -> String {
        format!("{}#{condition}", self.settings.runbooks)
    }

    /// Notes that somebody could not be told.
    fn failed_telling(&self) {
        self.failed_tellings.fetch_add(1, Ordering::Relaxed);
    }
}
