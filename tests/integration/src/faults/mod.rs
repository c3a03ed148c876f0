//! The fault suite: real servers that are killed, stopped, cut off, filled up and lied to while publishers and readers work.
//!
//! Each scenario ends in a [`Report`], which is written as JSON into the target folder and fails the test unless nothing was
//! lost, doubled, put in another order or left out without a word. `make test-faults` runs it long, `make test` short.
//! What a machine cannot do (loop devices, `strace`, …) is skipped, and said.

mod behaviour;
mod clock;
mod damage;
mod disk;
mod drain;
mod herd;
mod kill;
mod load;
mod partition;
mod pause;
mod power;
mod report;
mod restore;

pub use clock::TurnedClock;
use load::Load;
use report::Report;

/// Cycles per scenario and backend: few in every run, many in `make test-faults`.
fn cycles() -> usize {
    std::env::var("WEIR_TEST_CYCLES").ok().and_then(|text| text.parse().ok()).unwrap_or(5)
}

/// The same for scenarios whose cycles take seconds.
fn long_cycles() -> usize {
    cycles().div_ceil(5)
}
