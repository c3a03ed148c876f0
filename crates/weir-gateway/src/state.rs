//! What every handler can reach.

use crate::graphql;
use crate::metrics::Metrics;
use crate::ws::Dispatchers;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use weir_engine::Engine;

/// Sizes and times of the protocols.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bytes of a request body at most.
    pub body_bytes: usize,
    /// Bytes of a request head at most.
    pub header_bytes: usize,
    /// Headers of a request at most.
    pub headers: usize,
    /// Events in a batch at most.
    pub batch_events: usize,
    /// Time within which a WebSocket must authenticate.
    pub auth_timeout: Duration,
    /// Time within which a request head must arrive.
    pub header_timeout: Duration,
    /// Time within which a request body must arrive.
    pub body_timeout: Duration,
    /// Bytes of a WebSocket message at most; told to clients.
    pub frame_bytes: usize,
    /// The header in which the proxy in front names the client's address; `None`: nobody stands in front.
    pub address_header: Option<String>,
    /// Whether the built-in page is served at `/`.
    pub console: bool,
    /// Limits of GraphQL.
    pub graphql: graphql::Limits,
}

/// The gateway: shared by every request and connection.
pub struct Gateway {
    /// What it translates for.
    pub engine: Arc<Engine>,
    /// Sizes and times.
    pub settings: Settings,
    pub(crate) metrics: Metrics,
    pub(crate) dispatchers: Dispatchers,
    pub(crate) graphql: graphql::Schema,
    draining: AtomicBool,
    /// Bytes of WebSocket frames that are being worked on.
    pub(crate) frames_in_work: AtomicUsize,
}

impl Gateway {
    /// The gateway of an engine. Must be made on the runtime that will serve it.
    #[must_use]
    pub fn new(engine: Arc<Engine>, settings: Settings) -> Arc<Self> {
        let dispatchers = Dispatchers::start(&engine);
        let metrics = Metrics::new();
        let graphql = graphql::schema(&settings.graphql);
        Arc::new(Self {
            engine,
            settings,
            metrics,
            dispatchers,
            graphql,
            draining: AtomicBool::new(false),
            frames_in_work: AtomicUsize::new(0),
        })
    }

    /// From now on readiness says no and new live connections are refused.
    pub fn begin_drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }
}
