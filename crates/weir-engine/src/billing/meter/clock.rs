//! The database's clock, as a node knows it between two looks.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;
use weir_core::Timestamp;

/// The last time that the database told, and how long ago that was by a clock that never jumps. Behind the true one by
/// what an answer takes on its way, never ahead of it.
pub(super) struct DatabaseClock(Mutex<(Timestamp, Instant)>);

impl DatabaseClock {
    pub fn new(told: Timestamp) -> Self {
        Self(Mutex::new((told, Instant::now())))
    }

    /// The database has just said what time it is.
    pub fn set(&self, told: Timestamp) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (told, Instant::now());
    }

    pub fn now(&self) -> Timestamp {
        let (told, at) = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.plus(at.elapsed())
    }
}
