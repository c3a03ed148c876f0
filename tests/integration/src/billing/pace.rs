//! The figure of the specification: the hour of 10,000 tenants is reported within a minute at Stripe's rates.
//!
//! Everything is real but the waiting: the worker with its outbox in a database, and HTTP to a Stripe that takes 1,000
//! meter events a second, one at a time for each customer, and answers after 120 ms. While the worker waits for its pace or for
//! Stripe, the clock jumps; while it waits for the database, the clock runs.

use super::METER_EVENTS;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, pause, resume, sleep};
use weir_core::{Clock, NodeId, TenantId, Timestamp};
use weir_engine::billing::stripe::{DEFAULT_RATE, Settings, StripeBilling};
use weir_store::{Metric, Outbox, Reply, Report, ReportCount, ReportKey, Settled};
use weir_testkit::Billed;

const TENANTS: usize = 10_000;
const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);
/// What Stripe takes to answer.
const LATENCY: Duration = Duration::from_millis(120);

/// An outbox that stops the clock from the mark of a round to its settlement: all that is waited for in between is then
/// passed over. Its own work takes the time that it takes.
struct Timed(Arc<dyn Outbox>);

impl Outbox for Timed {
    fn begin_reports(&self, reports: Vec<(ReportKey, bool)>, now: Timestamp) -> Reply<'_, ()> {
        Box::pin(async move {
            let begun = self.0.begin_reports(reports, now).await;
            pause();
            begun
        })
    }

    fn settle_reports(&self, settled: Vec<Settled>) -> Reply<'_, ()> {
        resume();
        self.0.settle_reports(settled)
    }

    fn take_turn(&self, node: NodeId, lease: Duration) -> Reply<'_, bool> {
        self.0.take_turn(node, lease)
    }

    fn write_reports(&self, metric: Metric, from: Timestamp, until: Timestamp) -> Reply<'_, u64> {
        self.0.write_reports(metric, from, until)
    }

    fn due_reports(&self, limit: u32) -> Reply<'_, (Timestamp, Vec<Report>)> {
        self.0.due_reports(limit)
    }

    fn reject_report(&self, key: ReportKey, note: String) -> Reply<'_, bool> {
        self.0.reject_report(key, note)
    }

    fn arrived(&self, tenant: TenantId, metric: Metric, window_start: Timestamp) -> Reply<'_, i64> {
        self.0.arrived(tenant, metric, window_start)
    }

    fn adjustments(&self, tenant: TenantId, from: Timestamp, until: Timestamp) -> Reply<'_, Vec<Report>> {
        self.0.adjustments(tenant, from, until)
    }

    fn open_reports(&self) -> Reply<'_, Vec<ReportCount>> {
        self.0.open_reports()
    }
}

/// Lets the clock of database and Stripe go on with the runtime's.
fn go_on(billed: &Billed) -> tokio::task::JoinHandle<()> {
    let (clock, begin, begun) = (Arc::clone(&billed.clock), billed.clock.now(), Instant::now());
    tokio::spawn(async move {
        loop {
            sleep(Duration::from_millis(5)).await;
            clock.set(begin.plus(begun.elapsed()));
        }
    })
}

async fn an_hour_is_reported(billed: Billed, database: &str) {
    let first = billed.subscriber(&billed.node()).await;
    let mut used = vec![first.clone()];
    used.extend(billed.subscribers_like(&first, TENANTS - 1).await);
    let used: Vec<_> = used.into_iter().zip((1..=997).cycle()).collect();
    billed.publish_each(&used).await;
    billed.clock.advance(HOUR);
    billed.close_hours().await;
    billed.fake.set_latency(LATENCY);
    billed.fake.forget_recorded();

    let mut store = billed.store.clone();
    store.outbox = Arc::new(Timed(store.outbox));
    let settings = Settings { rate: DEFAULT_RATE, ..billed.settings() };
    let node = StripeBilling::new(store, NodeId::new(), settings);
    let clock = go_on(&billed);
    let begun = Instant::now();
    let sent = node.report_usage().await.expect("reports");
    let took = begun.elapsed();
    clock.abort();

    println!("{database}: {sent} reports in {took:?} of the simulated clock");
    assert_eq!(sent, TENANTS as u64);
    assert!(took < MINUTE, "{database}: {took:?}");
    // Faster than its pace allows would mean that nothing was waited for.
    let least = Duration::from_secs_f64(TENANTS as f64 / f64::from(DEFAULT_RATE)) - MINUTE / 60;
    assert!(took > least, "{database}: {took:?}");
    let asked = billed.fake.recorded();
    let asked = asked.iter().filter(|one| one.path == METER_EVENTS).map(|one| one.status);
    assert_eq!(asked.collect::<Vec<_>>(), vec![200; TENANTS], "no attempt is wasted");
    let mut billed_of = HashMap::new();
    for event in billed.fake.meter_events() {
        *billed_of.entry(event.customer).or_insert(0) += event.value;
    }
    for (subscriber, events) in &used {
        let logged = billed.logged(subscriber).await;
        assert_eq!(logged, i64::try_from(*events).expect("few"));
        assert_eq!(billed_of[&subscriber.customer] - logged, 0, "billed - logged");
    }
    assert_eq!(billed.store.outbox.open_reports().await.expect("reads"), []);
}

#[tokio::test]
async fn the_hour_of_ten_thousand_tenants_is_reported_within_a_minute_from_sqlite() {
    an_hour_is_reported(Billed::sqlite().await, "SQLite").await;
}

#[tokio::test]
async fn the_hour_of_ten_thousand_tenants_is_reported_within_a_minute_from_postgresql() {
    an_hour_is_reported(Billed::postgres().await, "PostgreSQL").await;
}
