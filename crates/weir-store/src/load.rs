//! How the database does, as its callers see it.

use crate::StoreError;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use weir_core::{Distribution, Histogram};

/// A look at the store that asks the database nothing.
#[derive(Clone, Debug)]
pub struct Load {
    /// `sqlite` or `postgres`.
    pub database: &'static str,
    /// Seconds that calls took, waiting for a connection included.
    pub calls: Distribution,
    /// Calls that did what was asked, since the start.
    pub done: u64,
    /// Calls to which the database's answer was no: not found, in conflict, invalid.
    pub refused: u64,
    /// Calls that found no database, or a slow one.
    pub unavailable: u64,
    /// Whether calls are refused at once, since the last ones found no answer; `None` where that is never done.
    pub breaker_open: Option<bool>,
    /// Connections that are open, and those of them that nobody uses.
    pub connections: (u32, u32),
    /// Connections at most.
    pub max_connections: u32,
}

/// What became of calls.
#[derive(Debug)]
pub(crate) struct Calls {
    took: Histogram,
    done: AtomicU64,
    refused: AtomicU64,
    unavailable: AtomicU64,
}

impl Default for Calls {
    fn default() -> Self {
        let zero = AtomicU64::default;
        Self { took: Histogram::of_seconds(), done: zero(), refused: zero(), unavailable: zero() }
    }
}

impl Calls {
    pub(crate) fn note<T>(&self, took: Duration, outcome: &Result<T, StoreError>) {
        self.took.observe(took);
        let counter = match outcome {
            Ok(_) => &self.done,
            Err(error) if error.is_transient() => &self.unavailable,
            Err(_) => &self.refused,
        };
        counter.fetch_add(1, Relaxed);
    }

    /// A call that was not even made.
    pub(crate) fn skipped(&self) {
        self.unavailable.fetch_add(1, Relaxed);
    }

    /// What was noted; the connections are for who has them.
    pub(crate) fn load(&self, database: &'static str) -> Load {
        Load {
            database,
            calls: self.took.read(),
            done: self.done.load(Relaxed),
            refused: self.refused.load(Relaxed),
            unavailable: self.unavailable.load(Relaxed),
            breaker_open: None,
            connections: (0, 0),
            max_connections: 0,
        }
    }
}
