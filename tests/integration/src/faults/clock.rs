//! Clocks that jump. Order, deduplication and resuming go by sequences and by clocks that only go forward.

use super::{Load, Report, long_cycles};
use std::path::Path;
use weir_testkit::TestApp;

const LIBRARIES: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
];

fn library() -> Option<&'static str> {
    let found = LIBRARIES.into_iter().find(|path| Path::new(path).exists());
    if found.is_none() {
        eprintln!("SKIPPED: jumping clocks were not tried here: libfaketime is not installed");
    }
    found
}

/// The wall clock of the node goes an hour ahead, two hours back, three months back, and right again, under load.
async fn jumps(app: TestApp, backend: &'static str, offset: &Path) {
    let tenant = app.tenant().await;
    let load = Load::start(&app, &tenant).await;
    let mut report = Report::new("clock-jumps", backend);
    for _ in 0..long_cycles() {
        for jump in ["+1h", "-1h", "-90d", "+0"] {
            load.progress(30).await;
            std::fs::write(offset, jump).expect("the clock is set");
            report.cycles += 1;
        }
    }
    load.progress(30).await;
    load.conclude(&app, &tenant, report).await.conclude();
    app.finish().await;
}

fn settings<'a>(library: &'a str, offset: &'a str) -> [(&'a str, &'a str); 4] {
    [
        ("LD_PRELOAD", library),
        ("FAKETIME_TIMESTAMP_FILE", offset),
        ("FAKETIME_CACHE_DURATION", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
    ]
}

fn clock() -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::TempDir::new().expect("a folder");
    let file = folder.path().join("offset");
    std::fs::write(&file, "+0").expect("a clock");
    (folder, file)
}

#[tokio::test(flavor = "multi_thread")]
async fn clock_jumps_change_nothing_in_an_embedded_server() {
    let Some(library) = library() else { return };
    let (_folder, offset) = clock();
    let app = TestApp::start_with(&settings(library, &offset.display().to_string())).await;
    jumps(app, "embedded", &offset).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clock_jumps_change_nothing_in_a_cluster() {
    let Some(library) = library() else { return };
    let (_folder, offset) = clock();
    let app =
        TestApp::cluster_on(2, Default::default(), &settings(library, &offset.display().to_string())).await;
    jumps(app, "jetstream", &offset).await;
}
