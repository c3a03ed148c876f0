//! `kill -9`: of nodes and of NATS servers.

use super::{Load, Report, cycles};
use rand::RngExt;
use std::time::{Duration, Instant};
use weir_testkit::{Replicas, TestApp};

/// A random moment, not a wait for one.
async fn some_time() {
    tokio::time::sleep(Duration::from_millis(rand::rng().random_range(30..300))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_server_killed_while_publishing_keeps_what_it_acknowledged() {
    let mut app = TestApp::start().await;
    let tenant = app.tenant().await;
    let load = Load::start(&app, &tenant).await;
    let mut report = Report::new("kill", "embedded");
    let mut slowest = Duration::ZERO;
    for _ in 0..cycles() {
        some_time().await;
        app.nodes[0].kill();
        let begun = Instant::now();
        app.nodes[0].restart().await;
        slowest = slowest.max(begun.elapsed());
        report.cycles += 1;
    }
    report.fact("slowest_start_ms", u64::try_from(slowest.as_millis()).unwrap_or(u64::MAX));
    load.conclude(&app, &tenant, report).await.conclude();
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_and_brokers_killed_while_publishing_lose_nothing_acknowledged() {
    let mut app = TestApp::cluster(2).await;
    let tenant = app.tenant().await;
    let load = Load::start(&app, &tenant).await;
    let mut report = Report::new("kill", "jetstream");
    for cycle in 0..cycles() {
        some_time().await;
        match cycle % 3 {
            2 => app.kill_log().await,
            node => {
                app.nodes[node].kill();
                app.nodes[node].restart().await;
            }
        }
        report.cycles += 1;
    }
    load.conclude(&app, &tenant, report).await.conclude();
    app.finish().await;
}

/// The whole product on three NATS servers with three copies of each event: whichever of them dies, also the leader.
#[tokio::test(flavor = "multi_thread")]
async fn three_copies_outlive_any_server() {
    let mut app = TestApp::cluster_with(2, Replicas::Three, &[]).await;
    let tenant = app.tenant().await;
    let load = Load::start(&app, &tenant).await;
    let mut report = Report::new("kill", "jetstream-r3");
    for cycle in 0..super::long_cycles() + 2 {
        load.progress(20).await;
        app.kill_log_server(cycle % 3).await;
        report.cycles += 1;
    }
    load.progress(20).await;
    load.conclude(&app, &tenant, report).await.conclude();
    app.finish().await;
}
