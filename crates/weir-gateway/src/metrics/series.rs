//! The catalogue: every series that a scrape can have. `docs/metrics.md` is generated here.

use std::fmt::Write;

/// What a series is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Only rises, until the process ends.
    Counter,
    /// Rises and falls.
    Gauge,
    /// A distribution.
    Histogram,
}

/// One series.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) labels: &'static [&'static str],
    pub(crate) help: &'static str,
}

macro_rules! catalogue {
    ($($(#[doc = $help:literal])+ $id:ident = $kind:ident $name:literal [$($label:literal),*];)+) => {
        $(pub(crate) static $id: Series = Series {
            name: $name,
            kind: Kind::$kind,
            labels: &[$($label),*],
            help: concat!($($help),+).trim_ascii_start(),
        };)+

        /// All of them, in the order in which they are shown.
        pub(crate) static SERIES: &[&Series] = &[$(&$id),+];
    };
}

catalogue! {
    /// Requests answered, by route (the router's pattern).
    HTTP_REQUESTS = Counter "weir_http_requests_total" ["transport", "route", "method", "status"];
    /// Time to answer a request. Of WebSockets and event streams: until the connection was taken over.
    HTTP_DURATION = Histogram "weir_http_request_duration_seconds" ["transport", "route"];
    /// Frames of clients on WebSockets, by kind, and whether they were refused or failed here.
    FRAMES = Counter "weir_websocket_frames_total" ["frame", "outcome"];
    /// Time to answer a frame; a subscription's replay is part of it.
    FRAME_DURATION = Histogram "weir_websocket_frame_duration_seconds" ["frame"];
    /// Operations of GraphQL, by kind, over every transport; a subscription counts when it stands, or is refused.
    OPERATIONS = Counter "weir_graphql_operations_total" ["kind", "outcome"];
    /// Time to execute a query or a mutation of GraphQL.
    OPERATION_DURATION = Histogram "weir_graphql_operation_duration_seconds" ["kind"];
    /// Errors told to callers, by their public code.
    ERRORS = Counter "weir_errors_total" ["code"];
    /// Refusals, by the limit that was reached.
    REFUSALS = Counter "weir_limit_refusals_total" ["limit"];
    /// Credentials that were presented, by what became of them: ok, or the code that was told.
    AUTHENTICATIONS = Counter "weir_authentications_total" ["outcome"];

    /// Live connections, by transport.
    CONNECTIONS = Gauge "weir_connections" ["transport"];
    /// Live connections that have authenticated, by protocol.
    SESSIONS = Gauge "weir_sessions" ["protocol"];
    /// Live connections with bytes that the kernel did not take yet.
    LAGGING = Gauge "weir_lagging_connections" [];
    /// Connections closed because they did not read fast enough.
    SLOW_CONSUMERS = Counter "weir_slow_consumers_total" [];
    /// Projects that this node follows in the event log.
    PROJECTS = Gauge "weir_followed_projects" [];
    /// Bytes of events that wait for the fullest shard.
    QUEUED = Gauge "weir_hub_queued_bytes" [];
    /// Bytes of recent events in the fullest shard, kept for resuming.
    RINGS = Gauge "weir_hub_ring_bytes" [];
    /// Events handed to the kernel for a connection.
    DELIVERED = Counter "weir_events_delivered_total" [];
    /// Bytes handed to the kernel for connections.
    DELIVERED_BYTES = Counter "weir_delivered_bytes_total" [];
    /// Kernel calls that sent events.
    SENDS = Counter "weir_hub_sends_total" [];
    /// From the acceptance of an event until a shard had sent it to all its connections that keep up. By the clock of the node that accepted it; a shard counts an event once.
    LATENCY = Histogram "weir_delivery_latency_seconds" [];
    /// Connections of a shard that an event went to at once.
    FAN_OUT = Histogram "weir_fanout_connections" [];
    /// What a shard took to send what had come.
    PASSES = Histogram "weir_hub_pass_duration_seconds" [];

    /// Events stored through this node.
    PUBLISHED = Counter "weir_events_published_total" [];
    /// Events that had been stored before under the same id.
    REPEATED = Counter "weir_events_repeated_total" [];
    /// Events refused because another one has their id.
    CONFLICTS = Counter "weir_events_conflicting_total" [];
    /// Events that the live feed brought.
    FED = Counter "weir_events_fed_total" [];
    /// Events read from history, for replay and for resuming.
    REPLAYED = Counter "weir_events_replayed_total" [];
    /// Replays that read the log now.
    REPLAYS = Gauge "weir_replays" [];
    /// Calls of the event log, and how they ended.
    LOG_CALLS = Counter "weir_log_calls_total" ["backend", "call", "outcome"];
    /// What a call of the event log took. An append ends when the events are durable.
    LOG_DURATION = Histogram "weir_log_call_duration_seconds" ["backend", "call"];
    /// Bytes of events that wait to be stored.
    LOG_QUEUED = Gauge "weir_log_queued_bytes" [];
    /// At how many waiting bytes the event log refuses more.
    LOG_QUEUE_LIMIT = Gauge "weir_log_queue_limit_bytes" [];
    /// Committed events that the live feed has still to pass on.
    LOG_LAG = Gauge "weir_log_lag_events" [];
    /// How often the live feed found a hole and read it from the log.
    LOG_HOLES = Counter "weir_log_holes_total" [];
    /// Bytes that a stream takes on one server, or the embedded log on disk.
    LOG_BYTES = Gauge "weir_log_stream_bytes" ["stream"];
    /// At how many bytes the stream refuses more, where that is set.
    LOG_MOST_BYTES = Gauge "weir_log_stream_limit_bytes" ["stream"];
    /// Events in a stream, where that is known.
    LOG_EVENTS = Gauge "weir_log_stream_events" ["stream"];
    /// Bytes free on the disk of the embedded log.
    DISK_FREE = Gauge "weir_disk_free_bytes" [];
    /// Whether the connection to NATS stands.
    NATS_UP = Gauge "weir_nats_connected" [];
    /// How often the connection to NATS was made.
    NATS_CONNECTS = Counter "weir_nats_connects_total" [];
    /// Messages to and from NATS.
    NATS_MESSAGES = Counter "weir_nats_messages_total" ["direction"];
    /// Bytes to and from NATS.
    NATS_BYTES = Counter "weir_nats_bytes_total" ["direction"];

    /// Calls of the database, and how they ended.
    DATABASE_CALLS = Counter "weir_database_calls_total" ["database", "outcome"];
    /// What a call of the database took, waiting for a connection included.
    DATABASE_DURATION = Histogram "weir_database_call_duration_seconds" ["database"];
    /// Connections to the database: busy and idle.
    DATABASE_CONNECTIONS = Gauge "weir_database_connections" ["database", "state"];
    /// Connections to the database at most.
    DATABASE_MOST = Gauge "weir_database_connections_limit" ["database"];

    /// Whether a dependency works as this node sees it: 1 or 0. What /readyz says in words.
    DEPENDENCIES = Gauge "weir_dependency_up" ["dependency"];
    /// Whether calls to a dependency are refused at once because the last ones found no answer: 1 or 0.
    BREAKERS = Gauge "weir_breaker_open" ["breaker"];
    /// Whether this node is shutting down.
    DRAINING = Gauge "weir_draining" [];
    /// Age of the confirmed state of who may do what.
    ACCESS_AGE = Gauge "weir_access_state_age_seconds" [];
    /// At which age this node stops delivering.
    ACCESS_WINDOW = Gauge "weir_access_state_window_seconds" [];
    /// Number of the last change of access that is enforced here.
    ACCESS_VERSION = Gauge "weir_access_version" [];
    /// By how much this machine's clock is ahead of the database's.
    CLOCK = Gauge "weir_clock_ahead_seconds" [];

    /// Memory of the compiled topic schemas of this node, by estimate.
    SCHEMA_BYTES = Gauge "weir_schema_cache_bytes" [];
    /// Times at which a project's compiled schemas made room for those of others.
    SCHEMAS_EVICTED = Counter "weir_schema_cache_evictions_total" [];

    /// Age of the count of published events.
    USAGE_LAG = Gauge "weir_usage_lag_seconds" [];
    /// Usage counters of this node that wait for the database.
    USAGE_UNSENT = Gauge "weir_usage_unsent" [];
    /// Age of what this node has told of its usage.
    USAGE_FLUSH_LAG = Gauge "weir_usage_flush_lag_seconds" [];
    /// Published events that this node counted in the log.
    USAGE_COUNTED = Counter "weir_usage_counted_total" [];
    /// Published events gone from the log before they were counted.
    USAGE_LOST = Counter "weir_usage_lost_total" [];
    /// Events by which counting again differed from what is billed.
    USAGE_DRIFT = Counter "weir_usage_drift_total" [];
    /// Tenants that reached a share of their limit of events, by percent.
    QUOTA_REACHED = Counter "weir_quota_thresholds_total" ["percent"];
    /// Usage reports by what became of them. Only with Stripe.
    REPORTS = Counter "weir_billing_reports_total" ["outcome"];
    /// Usage reports that are not done, on the node that reports. Only with Stripe.
    REPORTS_WAITING = Gauge "weir_billing_reports_waiting" [];
    /// Age of the oldest of them: since its hour ended. Only with Stripe.
    REPORTS_AGE = Gauge "weir_billing_oldest_report_age_seconds" [];
    /// Webhooks of the payment provider. Only with Stripe.
    PAYMENT_WEBHOOKS = Counter "weir_billing_webhooks_total" ["outcome"];
    /// Tenants that became past due. Only with Stripe.
    PAST_DUE = Counter "weir_billing_past_due_total" [];
    /// Suspensions for unpaid bills. Only with Stripe.
    SUSPENSIONS = Counter "weir_billing_suspensions_total" ["outcome"];

    /// Attempts at webhook endpoints, by whether the message was taken.
    WEBHOOKS = Counter "weir_webhook_attempts_total" ["outcome"];
    /// Messages that no endpoint took and that became dead letters.
    WEBHOOKS_DEAD = Counter "weir_webhook_messages_dead_total" [];
    /// Endpoints that were disabled because they failed for too long or are gone.
    WEBHOOKS_DISABLED = Counter "weir_webhooks_disabled_total" [];
    /// Dead letters of all tenants, on the node that looks after the installation.
    DEAD_LETTERS = Gauge "weir_dead_letters" [];

    /// Tenants that keep alerts.retention_percent or more of the bytes that they may, on the node that looks after the installation.
    FULL_TENANTS = Gauge "weir_retention_full_tenants" [];

    /// Events that the busiest tenants published through this node; `other` is all others.
    TENANT_PUBLISHED = Counter "weir_tenant_events_published_total" ["tenant"];
    /// Events delivered to connections of the busiest tenants.
    TENANT_DELIVERED = Counter "weir_tenant_events_delivered_total" ["tenant"];
    /// Requests of the busiest tenants.
    TENANT_REQUESTS = Counter "weir_tenant_requests_total" ["tenant"];
    /// Live connections of the busiest tenants.
    TENANT_CONNECTIONS = Gauge "weir_tenant_connections" ["tenant"];

    /// Spans that ended, by what became of them: exported, failed (the collector did not take them, or refused them in a batch that it took), dropped (they came faster than they were exported). Only where traces are recorded.
    SPANS = Counter "weir_trace_spans_total" ["outcome"];

    /// What runs: always 1.
    BUILD = Gauge "weir_build_info" ["version", "database", "log"];
    /// User and system processor time.
    CPU = Counter "process_cpu_seconds_total" [];
    /// Resident memory.
    RESIDENT = Gauge "process_resident_memory_bytes" [];
    /// Virtual memory.
    VIRTUAL = Gauge "process_virtual_memory_bytes" [];
    /// Open file descriptors.
    OPEN_FILES = Gauge "process_open_fds" [];
    /// File descriptors at most.
    MOST_FILES = Gauge "process_max_fds" [];
    /// Threads.
    THREADS = Gauge "process_threads" [];
    /// When the process began, in seconds since 1970.
    STARTED = Gauge "process_start_time_seconds" [];
    /// What the scrape before this one took.
    SCRAPE = Gauge "weir_last_scrape_duration_seconds" [];
}

/// The catalogue as a page of the documentation.
#[must_use]
pub fn document() -> String {
    let mut out = String::from(
        "# Metrics\n\nGenerated: what `/metrics` of a node can show. [operations.md](operations.md#metrics) says how to use it.\n\n\
         | series | kind | labels | what it is |\n| --- | --- | --- | --- |\n",
    );
    for series in SERIES {
        let kind = match series.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let labels: Vec<String> = series.labels.iter().map(|label| format!("`{label}`")).collect();
        // Writing into a String cannot fail.
        let _ = writeln!(out, "| `{}` | {kind} | {} | {} |", series.name, labels.join(" "), series.help);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_the_conventions() {
        for (at, series) in SERIES.iter().enumerate() {
            assert!(SERIES[at + 1..].iter().all(|other| other.name != series.name), "{} twice", series.name);
            assert_eq!(series.name.ends_with("_total"), series.kind == Kind::Counter, "{}", series.name);
            assert!(series.help.ends_with('.'), "{}", series.name);
        }
    }
}
