//! One look at a node and what it knows of the others, for `weir top`.

use crate::engine::Engine;
use serde::Serialize;
use std::time::Duration;
use tokio::time::timeout;
use weir_core::{NodeId, TenantId, Timestamp};
use weir_store::After;
use weir_store::alerts::{Alert, AlertFilter, AlertStates};

/// What the database does not tell in time is left out.
const PATIENCE: Duration = Duration::from_secs(2);
/// Tenants and alerts that are listed at most.
const MOST: u32 = 50;

/// A node now. Counters count from its start.
#[derive(Debug, Serialize)]
pub struct Overview {
    /// Which node.
    pub node: NodeId,
    /// Its program.
    pub version: &'static str,
    /// Since when it runs.
    pub started_at: Timestamp,
    /// Now, by its own clock.
    pub now: Timestamp,
    /// Live WebSockets.
    pub websocket: u64,
    /// Live event streams.
    pub sse: u64,
    /// Projects with an open feed.
    pub projects: u64,
    /// Connections with unsent bytes.
    pub lagging: u64,
    /// Connections closed as slow.
    pub slow_consumers: u64,
    /// Events acknowledged here.
    pub published: u64,
    /// Events handed to connections.
    pub delivered: u64,
    /// Bytes handed to connections.
    pub bytes: u64,
    /// Requests answered.
    pub requests: u64,
    /// Those that failed on our side.
    pub failures: u64,
    /// Credentials refused.
    pub refused: u64,
    /// Bytes of events that wait for the hub's threads.
    pub queued_bytes: u64,
    /// How many may.
    pub queue_limit: u64,
    /// How far the count of published events is behind, in milliseconds.
    pub usage_lag_ms: u64,
    /// The tenants with the most connections and deliveries.
    pub tenants: Vec<TenantLoad>,
    /// The nodes that run; `None` when the database does not say.
    pub nodes: Option<Vec<NodeSeen>>,
    /// Open alerts, newest first; `None` when the database does not say.
    pub alerts: Option<Vec<Alert>>,
}

/// What a tenant does on a node.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct TenantLoad {
    /// Who.
    pub tenant: TenantId,
    /// Live connections.
    pub connections: u64,
    /// Events handed to them since the node's start.
    pub delivered: u64,
}

/// A node that runs.
#[derive(Debug, Serialize)]
pub struct NodeSeen {
    /// Which.
    pub id: NodeId,
    /// Its program; empty when it does not say.
    pub version: String,
    /// Since when it runs.
    pub started_at: Timestamp,
    /// Its last sign of life, by the database's clock.
    pub seen_at: Timestamp,
}

impl Engine {
    /// One look.
    pub async fn overview(&self) -> Overview {
        let stats = self.hub.stats();
        let (requests, failures) = self.alerts.signals.requests();
        let state = self.meter_state();
        let (nodes, alerts) =
            tokio::join!(timeout(PATIENCE, self.nodes_seen()), timeout(PATIENCE, self.open_alerts()));
        Overview {
            node: self.node,
            version: env!("CARGO_PKG_VERSION"),
            started_at: self.started_at,
            now: self.clock.now(),
            websocket: stats.websocket,
            sse: stats.sse,
            projects: self.projects.len() as u64,
            lagging: stats.lagging,
            slow_consumers: stats.slow_consumers,
            published: self.alerts.signals.published_events(),
            delivered: stats.delivered,
            bytes: stats.bytes,
            requests,
            failures,
            refused: self.alerts.signals.refusals(),
            queued_bytes: stats.queued_bytes,
            queue_limit: self.settings.hub_queue_bytes as u64,
            usage_lag_ms: u64::try_from(state.lag.as_millis()).unwrap_or(u64::MAX),
            tenants: self.busiest(),
            nodes: nodes.ok().flatten(),
            alerts: alerts.ok().flatten(),
        }
    }

    fn busiest(&self) -> Vec<TenantLoad> {
        let mut loads: std::collections::HashMap<TenantId, TenantLoad> = std::collections::HashMap::new();
        for (tenant, _, meter) in self.meters() {
            let load = loads.entry(tenant).or_insert(TenantLoad { tenant, connections: 0, delivered: 0 });
            load.delivered += meter.delivered.load(std::sync::atomic::Ordering::Relaxed);
        }
        for load in loads.values_mut() {
            load.connections = self.sessions.count(load.tenant) as u64;
        }
        let mut loads: Vec<_> = loads.into_values().collect();
        // Those with connections and those that were delivered most; which of them are busy now the reader sees from
        // two looks.
        loads.sort_by_key(|load| std::cmp::Reverse((load.delivered, load.connections)));
        loads.truncate(MOST as usize);
        loads
    }

    async fn nodes_seen(&self) -> Option<Vec<NodeSeen>> {
        let versions = self.store.alerts.node_versions().await.ok()?;
        let live = self.store.nodes.live().await.ok()?;
        let version = |id| versions.iter().find(|(node, _)| *node == id).map(|(_, version)| version.clone());
        let seen = |node: weir_store::Node| NodeSeen {
            version: version(node.id).unwrap_or_default(),
            id: node.id,
            started_at: node.started_at,
            seen_at: node.seen_at,
        };
        Some(live.into_iter().map(seen).collect())
    }

    async fn open_alerts(&self) -> Option<Vec<Alert>> {
        let open = AlertFilter { states: Some(AlertStates::Open), ..AlertFilter::default() };
        Some(self.store.alerts.alerts(None, open, After::first(MOST)).await.ok()?.items)
    }
}
