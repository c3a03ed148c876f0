//! The embedded log against the suite, and what only it promises: crash, full disk, one process.

// Clippy takes only functions marked as tests for tests.
#![allow(clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use weir_core::clock::{Clock, ManualClock};
use weir_core::{ProjectId, TenantId, Timestamp};
use weir_log::conformance::Backend;
use weir_log::embedded::{Embedded, Options};
use weir_log::{EventLog, Place};

mod crash;
mod damage;
mod erasure;
mod limits;

struct EmbeddedLog {
    log: Arc<Embedded>,
    options: Options,
    clock: ManualClock,
    _directory: TempDir,
}

fn place() -> Place {
    Place { tenant: TenantId::new(), project: ProjectId::new(), stream: "EVENTS".into() }
}

impl Backend for EmbeddedLog {
    const MODEL_PASSES: bool = true;

    async fn open() -> Self {
        let directory = TempDir::new().expect("a directory");
        let options = Options::new(directory.path().join("data"));
        let log = Embedded::open(&options).expect("open");
        let clock = ManualClock::new(Timestamp::from_seconds(1_700_000_000));
        Self { log, options, clock, _directory: directory }
    }

    fn log(&self) -> Arc<dyn EventLog> {
        self.log.clone()
    }

    async fn reopen(self) -> Self {
        let Self { log, options, clock, _directory } = self;
        log.close().await;
        assert_eq!(Arc::strong_count(&log), 1, "the suite let go of the log");
        drop(log);
        let log = Embedded::open(&options).expect("open again");
        Self { log, options, clock, _directory }
    }

    fn place(&self) -> Place {
        place()
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    async fn pass(&self, time: Duration) {
        self.clock.advance(time);
    }

    fn dedupe_window(&self) -> Duration {
        self.options.dedupe_window
    }
}

weir_log::conformance!(EmbeddedLog);
