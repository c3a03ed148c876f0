//! `kill -9` of real servers while they report usage: billed − logged = 0.

use super::{METER_EVENTS, subscribed};
use std::time::Duration;
use weir_testkit::stripe::{FakeStripe, Moment};
use weir_testkit::{Replicas, TestApp, until};

const HOUR: Duration = Duration::from_secs(3600);

async fn survives(nodes: Option<usize>) {
    let fake = FakeStripe::start().await;
    let plan = fake.metered_plan();
    let settings = fake.settings(&plan);
    let settings: Vec<_> = settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let mut app = match nodes {
        None => TestApp::start_with(&settings).await,
        Some(nodes) => TestApp::cluster_with(nodes, Replicas::One, &settings).await,
    };
    let tenant = app.tenant().await;
    let customer = subscribed(&app, &fake, &tenant, &plan.price, HOUR * 30).await;
    let mut logged = 0;
    for (round, moment) in
        [Moment::Before, Moment::After, Moment::Before, Moment::After].into_iter().enumerate()
    {
        let mut hold = fake.hold(METER_EVENTS, moment);
        let events = 10 + round as u64;
        logged += i64::try_from(events).expect("few");
        app.count_past_events(&tenant, 2 + round as u32, events).await;
        hold.reached().await;
        // The server stands between marking and settling; it is gone at once, with its lease.
        for node in &mut app.nodes {
            node.kill();
        }
        hold.release();
        for node in &mut app.nodes {
            node.restart().await;
        }
        until("the report to arrive", async || (fake.metered(&customer) >= logged).then_some(())).await;
        assert_eq!(fake.metered(&customer), logged);
    }
    // And at moments that nobody chose.
    fake.set_latency(Duration::from_millis(20));
    for round in 0..6_u32 {
        let events = 100 + u64::from(round);
        logged += i64::try_from(events).expect("few");
        app.count_past_events(&tenant, 7 + round, events).await;
        tokio::time::sleep(Duration::from_millis(u64::from(round) * 230)).await;
        let node = round as usize % app.nodes.len();
        app.nodes[node].kill();
        app.nodes[node].restart().await;
    }
    until("all reports to arrive", async || (fake.metered(&customer) >= logged).then_some(())).await;
    assert_eq!(fake.metered(&customer), logged, "billed - logged = 0");
    app.finish().await;
}

#[tokio::test]
async fn a_killed_server_reports_each_hour_once() {
    survives(None).await;
}

#[tokio::test]
async fn killed_servers_of_a_cluster_report_each_hour_once() {
    survives(Some(2)).await;
}
