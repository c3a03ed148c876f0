//! Prometheus metrics: requests as they happen, everything else read at the scrape.

use crate::state::Gateway;
use axum::http::Method;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use weir_engine::billing::MeterState;
use weir_engine::billing::stripe::Counts;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    route: String,
    method: String,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    route: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Transport {
    transport: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

type Outcomes = Family<Outcome, Counter<u64, AtomicU64>>;

type NewHistogram = fn() -> Histogram;

/// The metrics of one node.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Request, Counter>,
    durations: Family<Route, Histogram, NewHistogram>,
    connections: Family<Transport, Gauge>,
    sessions: Gauge,
    projects: Gauge,
    lagging: Gauge,
    queued: Gauge,
    rings: Gauge,
    delivered: Counter<u64, AtomicU64>,
    bytes: Counter<u64, AtomicU64>,
    sends: Counter<u64, AtomicU64>,
    slow: Counter<u64, AtomicU64>,
    usage: Usage,
    reports: Outcomes,
    reports_waiting: Gauge,
    payment_webhooks: Outcomes,
    suspensions: Outcomes,
}

/// How metering does.
#[derive(Default)]
struct Usage {
    lag: Gauge<f64, AtomicU64>,
    unsent: Gauge,
    counted: Counter<u64, AtomicU64>,
    lost: Counter<u64, AtomicU64>,
    drift: Counter<u64, AtomicU64>,
}

impl Usage {
    fn register(&self, r: &mut Registry) {
        r.register("weir_usage_lag_seconds", "Age of the count of published events", self.lag.clone());
        r.register("weir_usage_unsent", "Usage counters that wait for the database", self.unsent.clone());
        r.register("weir_usage_counted", "Published events that this node counted", self.counted.clone());
        r.register(
            "weir_usage_lost",
            "Published events gone from the log before they were counted",
            self.lost.clone(),
        );
        r.register(
            "weir_usage_drift",
            "Events by which counting again differed from what is billed",
            self.drift.clone(),
        );
    }

    fn set(&self, state: &MeterState) {
        use std::sync::atomic::Ordering::Relaxed;
        self.lag.set(state.lag.as_secs_f64());
        self.unsent.set(i64::try_from(state.unsent).unwrap_or(i64::MAX));
        self.counted.inner().store(state.counted, Relaxed);
        self.lost.inner().store(state.lost, Relaxed);
        self.drift.inner().store(state.drift, Relaxed);
    }
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let durations: NewHistogram = || Histogram::new(exponential_buckets(0.0005, 2.0, 14));
        let mut metrics = Self {
            registry: Registry::default(),
            requests: Family::default(),
            durations: Family::new_with_constructor(durations),
            connections: Family::default(),
            sessions: Gauge::default(),
            projects: Gauge::default(),
            lagging: Gauge::default(),
            queued: Gauge::default(),
            rings: Gauge::default(),
            delivered: Counter::default(),
            bytes: Counter::default(),
            sends: Counter::default(),
            slow: Counter::default(),
            usage: Usage::default(),
            reports: Family::default(),
            reports_waiting: Gauge::default(),
            payment_webhooks: Family::default(),
            suspensions: Family::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let r = &mut self.registry;
        r.register("weir_http_requests", "Requests by route, method and status", self.requests.clone());
        r.register("weir_http_request_duration_seconds", "Time to answer, by route", self.durations.clone());
        r.register("weir_connections", "Live connections by transport", self.connections.clone());
        r.register("weir_sessions", "Authenticated live connections", self.sessions.clone());
        r.register("weir_followed_projects", "Projects with an open live feed", self.projects.clone());
        r.register("weir_lagging_connections", "Connections with unsent bytes", self.lagging.clone());
        r.register("weir_hub_queued_bytes", "Bytes of messages waiting for shards", self.queued.clone());
        r.register("weir_hub_ring_bytes", "Bytes of recent messages kept for resuming", self.rings.clone());
        r.register(
            "weir_events_delivered",
            "Events handed to the kernel for a connection",
            self.delivered.clone(),
        );
        r.register("weir_delivered_bytes", "Bytes handed to the kernel for connections", self.bytes.clone());
        r.register("weir_hub_sends", "Kernel calls that sent events", self.sends.clone());
        r.register("weir_slow_consumers", "Connections closed because they did not read", self.slow.clone());
        self.usage.register(r);
        r.register("weir_billing_reports", "Usage reports by what became of them", self.reports.clone());
        r.register(
            "weir_billing_reports_waiting",
            "Usage reports that are not done, on the node that reports",
            self.reports_waiting.clone(),
        );
        r.register(
            "weir_billing_webhooks",
            "Webhooks of the payment provider",
            self.payment_webhooks.clone(),
        );
        r.register("weir_billing_suspensions", "Suspensions for unpaid bills", self.suspensions.clone());
    }

    /// Counts one answered request. Routes are the router's patterns, so their number is bounded.
    pub(crate) fn request(&self, route: &str, method: &Method, status: u16, took: Duration) {
        let method = match method.as_str() {
            known @ ("GET" | "POST" | "PUT" | "DELETE" | "PATCH" | "HEAD" | "OPTIONS") => known,
            _ => "other",
        };
        let labels = Request { route: route.to_owned(), method: method.to_owned(), status };
        self.requests.get_or_create(&labels).inc();
        self.durations.get_or_create(&Route { route: route.to_owned() }).observe(took.as_secs_f64());
    }

    fn read_billing(&self, counts: &Counts) {
        use std::sync::atomic::Ordering::Relaxed;
        let set = |family: &Outcomes, outcome, count: &AtomicU64| {
            family.get_or_create(&Outcome { outcome }).inner().store(count.load(Relaxed), Relaxed);
        };
        set(&self.reports, "sent", &counts.sent);
        set(&self.reports, "ambiguous", &counts.ambiguous);
        set(&self.reports, "refused", &counts.refused);
        set(&self.reports, "adjustment", &counts.adjustments);
        set(&self.payment_webhooks, "taken", &counts.webhooks);
        set(&self.payment_webhooks, "forged", &counts.forged);
        set(&self.suspensions, "suspended", &counts.suspended);
        set(&self.suspensions, "braked", &counts.braked);
        self.reports_waiting.set(i64::try_from(counts.waiting.load(Relaxed)).unwrap_or(i64::MAX));
    }

    /// The exposition text.
    pub(crate) fn text(&self, gateway: &Gateway) -> String {
        use std::sync::atomic::Ordering::Relaxed;
        let hub = gateway.engine.hub().stats();
        let (sessions, projects) = gateway.engine.load();
        let gauge = |gauge: &Gauge, value: u64| gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        gauge(&self.connections.get_or_create(&Transport { transport: "ws" }), hub.websocket);
        gauge(&self.connections.get_or_create(&Transport { transport: "sse" }), hub.sse);
        gauge(&self.sessions, sessions as u64);
        gauge(&self.projects, projects as u64);
        gauge(&self.lagging, hub.lagging);
        gauge(&self.queued, hub.queued_bytes);
        gauge(&self.rings, hub.ring_bytes);
        self.delivered.inner().store(hub.delivered, Relaxed);
        self.bytes.inner().store(hub.bytes, Relaxed);
        self.sends.inner().store(hub.sends, Relaxed);
        self.slow.inner().store(hub.slow_consumers, Relaxed);
        self.usage.set(&gateway.engine.meter_state());
        if let Some(stripe) = gateway.engine.stripe() {
            self.read_billing(&stripe.counts);
        }
        let mut out = String::new();
        // Writing into a String cannot fail.
        let _ = text::encode(&mut out, &self.registry);
        out
    }
}
