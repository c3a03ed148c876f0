//! Nodes that are cut off from what they stand on, in all three ways: told, not told, and slowly.

use super::{Load, Report, long_cycles};
use std::time::Duration;
use weir_testkit::{State, TestApp};

/// Wires are cut, go dead and are slow, of one node or of all, to the log or the database or both.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_are_cut_off_lose_nothing() {
    let settings = [
        ("WEIR_LIMITS_ACCESS_WINDOW", "2s"),
        ("WEIR_NATS_REQUEST_TIMEOUT", "1s"),
        ("WEIR_DATABASE_CALL_TIMEOUT", "1s"),
    ];
    let app = TestApp::cluster_over_links(2, &settings).await;
    let tenant = app.tenant().await;
    let load = Load::start(&app, &tenant).await;
    let mut report = Report::new("partition", "jetstream");
    let slow = State::Slow(Duration::from_millis(20));
    for _ in 0..long_cycles() {
        for (state, ms) in [(State::Cut, 600), (State::Dead, 1_500), (slow, 600)] {
            load.progress(20).await;
            app.links[0].log.set(state);
            tokio::time::sleep(Duration::from_millis(ms)).await;
            app.links[0].log.set(State::Up);
            load.progress(20).await;
            app.links[1].set(state);
            tokio::time::sleep(Duration::from_millis(ms)).await;
            app.links[1].set(State::Up);
            report.cycles += 2;
        }
        load.progress(20).await;
        // Nobody reaches anything, for longer than the access window.
        app.links.iter().for_each(|links| links.set(State::Dead));
        tokio::time::sleep(Duration::from_secs(3)).await;
        app.links.iter().for_each(|links| links.set(State::Up));
        report.cycles += 1;
    }
    load.progress(20).await;
    load.conclude(&app, &tenant, report).await.conclude();
    app.finish().await;
}
