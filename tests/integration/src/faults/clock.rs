//! Clocks that jump. Order, deduplication and resuming go by sequences and by clocks that only go forward.

use super::{Load, Report, long_cycles};
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use weir_testkit::TestApp;

const LIBRARIES: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
];

/// The wall clock of servers that are started with its settings; their other clocks go on undisturbed.
pub struct TurnedClock {
    library: &'static str,
    file: PathBuf,
    _folder: TempDir,
}

impl TurnedClock {
    /// One that is right so far; `None`, and a word about it, where libfaketime is not installed.
    pub fn new() -> Option<Self> {
        let Some(library) = LIBRARIES.into_iter().find(|path| Path::new(path).exists()) else {
            eprintln!("SKIPPED: jumping clocks were not tried here: libfaketime is not installed");
            return None;
        };
        let folder = TempDir::new().expect("a folder");
        let clock = Self { library, file: folder.path().join("offset"), _folder: folder };
        clock.turn("+0");
        Some(clock)
    }

    /// Turns it: `+1h`, `-90d`, and `+0` for the right time. Servers see it within a second.
    pub fn turn(&self, offset: &str) {
        std::fs::write(&self.file, offset).expect("the clock is set");
    }

    /// What a server is started with.
    pub fn settings(&self) -> [(String, String); 4] {
        [
            ("LD_PRELOAD", self.library.to_owned()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.display().to_string()),
            ("FAKETIME_CACHE_DURATION", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
    }
}

/// The wall clock of the node goes an hour ahead, two hours back, three months back, and right again, under load.
async fn jumps(app: TestApp, backend: &'static str, clock: &TurnedClock) {
    let tenant = app.tenant().await;
    let load = Load::start(&app, &tenant).await;
    let mut report = Report::new("clock-jumps", backend);
    for _ in 0..long_cycles() {
        for jump in ["+1h", "-1h", "-90d", "+0"] {
            load.progress(30).await;
            clock.turn(jump);
            report.cycles += 1;
        }
    }
    load.progress(30).await;
    load.conclude(&app, &tenant, report).await.conclude();
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clock_jumps_change_nothing_in_an_embedded_server() {
    let Some(clock) = TurnedClock::new() else { return };
    let settings = clock.settings();
    let settings = settings.each_ref().map(|(name, value)| (name.as_str(), value.as_str()));
    let app = TestApp::start_with(&settings).await;
    jumps(app, "embedded", &clock).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clock_jumps_change_nothing_in_a_cluster() {
    let Some(clock) = TurnedClock::new() else { return };
    let settings = clock.settings();
    let settings = settings.each_ref().map(|(name, value)| (name.as_str(), value.as_str()));
    let app = TestApp::cluster_on(2, Default::default(), &settings).await;
    jumps(app, "jetstream", &clock).await;
}
