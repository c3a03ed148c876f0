//! Where each value comes from: the parts of the node are looked at when somebody scrapes.

use super::page::Page;
use super::process::{Process, unix};
use super::requests::SUBSCRIPTION;
use super::{Metrics, series, told};
use crate::state::Gateway;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use weir_core::Code;
use weir_engine::EngineHealth;
use weir_engine::billing::stripe::Counts;
use weir_engine::figures::Operation;

/// What is told of credentials that are not known.
const CREDENTIALS: [Code; 5] =
    [Code::Unauthenticated, Code::InvalidApiKey, Code::ExpiredApiKey, Code::InvalidToken, Code::ExpiredToken];
/// The label of tenants that have no series of their own.
const OTHERS: &str = "other";

impl Metrics {
    /// All that there is to say now.
    pub(super) fn page(&self, gateway: &Gateway, health: &EngineHealth) -> Page {
        let mut page = Page::new();
        self.requests(&mut page);
        callers(&mut page, gateway);
        hub(&mut page, gateway);
        log(&mut page, gateway);
        database(&mut page, gateway);
        node(&mut page, gateway, health);
        usage(&mut page, gateway);
        webhooks(&mut page, gateway);
        tenants(&mut page, gateway);
        traces(&mut page, gateway);
        self.process(&mut page, gateway);
        page
    }

    fn requests(&self, page: &mut Page) {
        for (route, requests) in self.requests.all() {
            let transport = requests.transport;
            for (method, status, count) in requests.answers() {
                let status = status.to_string();
                page.add(&series::HTTP_REQUESTS, &[transport, &route, method, &status], count);
            }
            page.add(&series::HTTP_DURATION, &[transport, &route], requests.took());
        }
        for (frame, took, ends) in self.frames.all() {
            for (outcome, count) in ends {
                page.add(&series::FRAMES, &[frame, outcome], count);
            }
            page.add(&series::FRAME_DURATION, &[frame], took);
        }
        for (kind, took, ends) in self.operations.all() {
            for (outcome, count) in ends {
                page.add(&series::OPERATIONS, &[kind, outcome], count);
            }
            if kind != SUBSCRIPTION {
                page.add(&series::OPERATION_DURATION, &[kind], took);
            }
        }
    }

    fn process(&self, page: &mut Page, gateway: &Gateway) {
        let (database, log) = (gateway.engine.store_load().database, gateway.engine.log_system().as_str());
        page.add(&series::BUILD, &[env!("CARGO_PKG_VERSION"), database, log], 1_u64);
        let now = Process::read();
        let values = [
            (&series::CPU, now.cpu_seconds),
            (&series::RESIDENT, now.resident_bytes),
            (&series::VIRTUAL, now.virtual_bytes),
            (&series::OPEN_FILES, now.open_files),
            (&series::MOST_FILES, now.most_files),
            (&series::THREADS, now.threads),
            (&series::STARTED, Some(unix(self.started))),
            (&series::SCRAPE, Some(self.last_scrape().as_secs_f64())),
        ];
        for (series, value) in values {
            if let Some(value) = value {
                page.add(series, &[], value);
            }
        }
    }
}

fn callers(page: &mut Page, gateway: &Gateway) {
    for (code, count) in told::codes() {
        page.add(&series::ERRORS, &[code.as_str()], count);
    }
    for (limit, count) in told::refusals() {
        page.add(&series::REFUSALS, &[limit], count);
    }
    let figures = gateway.engine.figures();
    page.add(&series::AUTHENTICATIONS, &["ok"], figures.admitted());
    for (code, count) in figures.refused().filter(|(code, count)| *count > 0 || CREDENTIALS.contains(code)) {
        page.add(&series::AUTHENTICATIONS, &[code.as_str()], count);
    }
}

fn hub(page: &mut Page, gateway: &Gateway) {
    let hub = gateway.engine.hub().stats();
    let (_, projects) = gateway.engine.load();
    let sessions = gateway.engine.sessions();
    page.add(&series::CONNECTIONS, &["ws"], hub.websocket);
    page.add(&series::CONNECTIONS, &["sse"], hub.sse);
    for protocol in ["ws", "sse", "graphql_ws", "graphql_sse"] {
        page.add(&series::SESSIONS, &[protocol], sessions.get(protocol).copied().unwrap_or_default());
    }
    page.add(&series::PROJECTS, &[], projects as u64);
    page.add(&series::LAGGING, &[], hub.lagging);
    page.add(&series::SLOW_CONSUMERS, &[], hub.slow_consumers);
    page.add(&series::QUEUED, &[], hub.queued_bytes);
    page.add(&series::RINGS, &[], hub.ring_bytes);
    page.add(&series::DELIVERED, &[], hub.delivered);
    page.add(&series::DELIVERED_BYTES, &[], hub.bytes);
    page.add(&series::SENDS, &[], hub.sends);
    page.add(&series::LATENCY, &[], hub.latency);
    page.add(&series::FAN_OUT, &[], hub.fan_out);
    page.add(&series::PASSES, &[], hub.passes);
}

fn log(page: &mut Page, gateway: &Gateway) {
    let (figures, load) = (gateway.engine.log_figures(), gateway.engine.log_load());
    let (stored, repeated, conflicting) = figures.published();
    page.add(&series::PUBLISHED, &[], stored);
    page.add(&series::REPEATED, &[], repeated);
    page.add(&series::CONFLICTS, &[], conflicting);
    page.add(&series::FED, &[], gateway.engine.figures().fed());
    page.add(&series::REPLAYED, &[], figures.replayed());
    page.add(&series::REPLAYS, &[], gateway.engine.gauges().replays);
    let backend = gateway.engine.log_system().as_str();
    for (call, operation) in [("append", Operation::Append), ("read", Operation::Read)] {
        for (outcome, count) in figures.outcomes(operation) {
            page.add(&series::LOG_CALLS, &[backend, call, outcome], count);
        }
        page.add(&series::LOG_DURATION, &[backend, call], figures.took(operation));
    }
    page.add(&series::LOG_QUEUED, &[], load.queued_bytes);
    page.add(&series::LOG_QUEUE_LIMIT, &[], load.queue_limit);
    page.add(&series::LOG_LAG, &[], load.lag);
    page.add(&series::LOG_HOLES, &[], load.holes);
    for stream in &load.streams {
        page.add(&series::LOG_BYTES, &[&stream.name], stream.bytes);
        if let Some(most) = stream.max_bytes {
            page.add(&series::LOG_MOST_BYTES, &[&stream.name], most);
        }
        if let Some(events) = stream.events {
            page.add(&series::LOG_EVENTS, &[&stream.name], events);
        }
    }
    if let Some(free) = load.disk_free {
        page.add(&series::DISK_FREE, &[], free);
    }
    if let Some(link) = load.link {
        page.add(&series::NATS_UP, &[], link.connected);
        page.add(&series::NATS_CONNECTS, &[], link.connects);
        for (direction, (messages, bytes)) in [("received", link.received), ("sent", link.sent)] {
            page.add(&series::NATS_MESSAGES, &[direction], messages);
            page.add(&series::NATS_BYTES, &[direction], bytes);
        }
    }
}

fn database(page: &mut Page, gateway: &Gateway) {
    let load = gateway.engine.store_load();
    let name = load.database;
    for (outcome, count) in [("ok", load.done), ("refused", load.refused), ("unavailable", load.unavailable)]
    {
        page.add(&series::DATABASE_CALLS, &[name, outcome], count);
    }
    page.add(&series::DATABASE_DURATION, &[name], load.calls);
    let (open, idle) = load.connections;
    page.add(&series::DATABASE_CONNECTIONS, &[name, "busy"], u64::from(open.saturating_sub(idle)));
    page.add(&series::DATABASE_CONNECTIONS, &[name, "idle"], u64::from(idle));
    page.add(&series::DATABASE_MOST, &[name], u64::from(load.max_connections));
}

fn node(page: &mut Page, gateway: &Gateway, health: &EngineHealth) {
    let dependencies =
        [("database", &health.database), ("event_log", &health.event_log), ("access", &health.access)];
    for (name, problem) in dependencies {
        page.add(&series::DEPENDENCIES, &[name], problem.is_none());
    }
    if let Some(open) = gateway.engine.store_load().breaker_open {
        page.add(&series::BREAKERS, &["database"], open);
    }
    if let Some((appends, reads)) = gateway.engine.log_load().breakers_open {
        page.add(&series::BREAKERS, &["log_append"], appends);
        page.add(&series::BREAKERS, &["log_read"], reads);
    }
    page.add(&series::DRAINING, &[], gateway.is_draining());
    let gauges = gateway.engine.gauges();
    let (age, window) = gauges.access_age;
    page.add(&series::ACCESS_AGE, &[], age.as_secs_f64());
    page.add(&series::ACCESS_WINDOW, &[], window.as_secs_f64());
    page.add(&series::ACCESS_VERSION, &[], gauges.access_version as f64);
    page.add(&series::CLOCK, &[], gauges.clock_ahead);
    let (bytes, evicted) = gauges.schemas;
    page.add(&series::SCHEMA_BYTES, &[], bytes as u64);
    page.add(&series::SCHEMAS_EVICTED, &[], evicted);
}

fn usage(page: &mut Page, gateway: &Gateway) {
    let state = gateway.engine.meter_state();
    page.add(&series::USAGE_LAG, &[], state.lag.as_secs_f64());
    page.add(&series::USAGE_UNSENT, &[], state.unsent);
    page.add(&series::USAGE_FLUSH_LAG, &[], state.flush_lag.as_secs_f64());
    page.add(&series::USAGE_COUNTED, &[], state.counted);
    page.add(&series::USAGE_LOST, &[], state.lost);
    page.add(&series::USAGE_DRIFT, &[], state.drift);
    for (percent, count) in gateway.engine.allowances().reached().read() {
        page.add(&series::QUOTA_REACHED, &[&percent.to_string()], count);
    }
    if let Some(stripe) = gateway.engine.stripe() {
        payments(page, &stripe.counts);
    }
}

fn payments(page: &mut Page, counts: &Counts) {
    let read = |counter: &AtomicU64| counter.load(Relaxed);
    let reports = [
        ("sent", &counts.sent),
        ("ambiguous", &counts.ambiguous),
        ("refused", &counts.refused),
        ("adjustment", &counts.adjustments),
    ];
    for (outcome, counter) in reports {
        page.add(&series::REPORTS, &[outcome], read(counter));
    }
    page.add(&series::REPORTS_WAITING, &[], read(&counts.waiting));
    page.add(&series::REPORTS_AGE, &[], read(&counts.oldest_age));
    for (outcome, counter) in [("taken", &counts.webhooks), ("forged", &counts.forged)] {
        page.add(&series::PAYMENT_WEBHOOKS, &[outcome], read(counter));
    }
    page.add(&series::PAST_DUE, &[], read(&counts.past_due));
    for (outcome, counter) in [("suspended", &counts.suspended), ("braked", &counts.braked)] {
        page.add(&series::SUSPENSIONS, &[outcome], read(counter));
    }
}

fn webhooks(page: &mut Page, gateway: &Gateway) {
    let counts = &gateway.engine.webhooks().counts;
    for (outcome, counter) in [("taken", &counts.delivered), ("failed", &counts.failed)] {
        page.add(&series::WEBHOOKS, &[outcome], counter.load(Relaxed));
    }
    page.add(&series::WEBHOOKS_DEAD, &[], counts.dead.load(Relaxed));
    page.add(&series::WEBHOOKS_DISABLED, &[], counts.disabled.load(Relaxed));
    let gauges = gateway.engine.gauges();
    if let Some(letters) = gauges.dead_letters {
        page.add(&series::DEAD_LETTERS, &[], letters);
    }
    if let Some(tenants) = gauges.full_tenants {
        page.add(&series::FULL_TENANTS, &[], tenants);
    }
}

fn traces(page: &mut Page, gateway: &Gateway) {
    let Some(spans) = gateway.engine.traces().spans() else { return };
    for (outcome, count) in
        [("exported", spans.exported), ("failed", spans.failed), ("dropped", spans.dropped)]
    {
        page.add(&series::SPANS, &[outcome], count);
    }
}

fn tenants(page: &mut Page, gateway: &Gateway) {
    for line in gateway.engine.tenant_lines() {
        let tenant = line.tenant.map_or_else(|| OTHERS.to_owned(), |tenant| tenant.to_string());
        page.add(&series::TENANT_PUBLISHED, &[&tenant], line.counts.published);
        page.add(&series::TENANT_DELIVERED, &[&tenant], line.counts.delivered);
        page.add(&series::TENANT_REQUESTS, &[&tenant], line.counts.requests);
        page.add(&series::TENANT_CONNECTIONS, &[&tenant], line.connections);
    }
}
