//! One look at the nodes, and what happened between two.

use super::histogram::Buckets;
use futures::future::join_all;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use weir_core::Timestamp;
use weir_outbound::{Outbound, Request};

/// A node that takes longer counts as away.
const PATIENCE: Duration = Duration::from_secs(4);

/// What a node says at `/overview`; what it does not say is nothing, so that nodes of other versions can be watched.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Node {
    pub node: String,
    pub version: String,
    pub started_at: Timestamp,
    pub now: Timestamp,
    pub websocket: u64,
    pub sse: u64,
    pub projects: u64,
    pub lagging: u64,
    pub slow_consumers: u64,
    pub published: u64,
    pub delivered: u64,
    pub bytes: u64,
    pub requests: u64,
    pub failures: u64,
    pub refused: u64,
    pub queued_bytes: u64,
    pub queue_limit: u64,
    pub usage_lag_ms: u64,
    pub tenants: Vec<Tenant>,
    pub nodes: Option<Vec<Seen>>,
    pub alerts: Option<Vec<Alert>>,
}

/// A tenant on a node.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Tenant {
    pub tenant: String,
    pub connections: u64,
    pub delivered: u64,
}

/// A node as the database knows it.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Seen {
    pub id: String,
    pub version: String,
    pub started_at: Timestamp,
    pub seen_at: Timestamp,
}

/// An open alert.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Alert {
    pub id: String,
    pub tenant_id: Option<String>,
    pub condition: String,
    pub subject: String,
    pub severity: String,
    pub message: String,
    pub first_seen_at: Timestamp,
    pub occurrences: u64,
    pub acknowledged_at: Option<Timestamp>,
}

/// One look.
#[derive(Debug)]
pub struct Sample {
    pub at: Instant,
    /// What was asked, in order, and what came of it.
    pub nodes: Vec<(String, Result<Node, String>)>,
    /// Times of `POST /v1/events`.
    pub publishing: Buckets,
    /// Times from publishing to delivering, where the nodes tell.
    pub delivering: Buckets,
}

impl Sample {
    /// Looks at all nodes at once.
    pub async fn take(outbound: &Outbound, urls: &[String]) -> Self {
        let looks = join_all(urls.iter().map(|url| look(outbound, url))).await;
        let (mut publishing, mut delivering) = (Buckets::default(), Buckets::default());
        let nodes = urls.iter().cloned().zip(looks).map(|(url, look)| {
            let node = look.map(|(node, metrics)| {
                publishing.add(&Buckets::read(&metrics, |name, labels| {
                    name == "weir_http_request_duration_seconds" && labels.contains("route=\"/v1/events\"")
                }));
                delivering.add(&Buckets::read(&metrics, |name, _| {
                    name.starts_with("weir_") && name.contains("deliver") && name.ends_with("_seconds")
                }));
                node
            });
            (url, node)
        });
        let nodes = nodes.collect();
        Self { at: Instant::now(), nodes, publishing, delivering }
    }

    /// Those that answered.
    pub fn answered(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter_map(|(_, node)| node.as_ref().ok())
    }

    /// Whether any did.
    pub fn reached(&self) -> bool {
        self.answered().next().is_some()
    }

    /// Why none did.
    pub fn failure(&self) -> anyhow::Error {
        let why = self.nodes.iter().find_map(|(url, node)| Some((url, node.as_ref().err()?)));
        let (url, cause) =
            why.map_or(("", "no node was named"), |(url, cause)| (url.as_str(), cause.as_str()));
        anyhow::anyhow!("{url} cannot be read: {cause}; --ops names the `ops_listen` of a node that runs")
    }

    /// A number of all nodes together.
    pub fn sum(&self, of: impl Fn(&Node) -> u64) -> u64 {
        self.answered().map(of).sum()
    }
}

async fn look(outbound: &Outbound, url: &str) -> Result<(Node, String), String> {
    let base = url.trim_end_matches('/');
    let get = async |path: &str| {
        let answer =
            outbound.send(Request::get(format!("{base}{path}")).timeout(PATIENCE).at_most(64 << 20)).await;
        let answer = answer.map_err(|error| error.to_string())?;
        if !answer.status.is_success() {
            return Err(format!("{path} answered with status {}", answer.status.as_u16()));
        }
        Ok(answer.body)
    };
    let node = get("/overview").await?;
    let node = serde_json::from_slice(&node).map_err(|error| format!("/overview: {error}"))?;
    // Without its times a node can still be shown.
    let metrics = get("/metrics").await.unwrap_or_default();
    Ok((node, String::from_utf8_lossy(&metrics).into_owned()))
}

/// What happened in a second, between two looks.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Rates {
    pub published: f64,
    pub delivered: f64,
    pub bytes: f64,
    pub requests: f64,
    pub failures: f64,
    pub refused: f64,
    pub slow_consumers: f64,
    /// Milliseconds within which half, and 99 of 100, were done.
    pub publish_ms: Option<(f64, f64)>,
    pub deliver_ms: Option<(f64, f64)>,
    /// Deliveries of tenants.
    pub tenants: BTreeMap<String, f64>,
}

impl Rates {
    /// Between two looks. Of a node that was not there, or started anew, nothing.
    pub fn between(before: &Sample, now: &Sample) -> Self {
        let seconds = now.at.saturating_duration_since(before.at).as_secs_f64().max(0.001);
        let pairs: Vec<(&Node, &Node)> = now
            .answered()
            .filter_map(|node| Some((before.answered().find(|old| old.node == node.node)?, node)))
            .collect();
        let rate = |of: fn(&Node) -> u64| {
            let grown = |(old, new): &(&Node, &Node)| per(of(new).saturating_sub(of(old)), seconds);
            pairs.iter().map(grown).sum()
        };
        let mut tenants = BTreeMap::new();
        for (old, new) in &pairs {
            for tenant in &new.tenants {
                let known = old.tenants.iter().find(|known| known.tenant == tenant.tenant);
                let grown =
                    tenant.delivered.saturating_sub(known.map_or(tenant.delivered, |known| known.delivered));
                *tenants.entry(tenant.tenant.clone()).or_insert(0.0) += per(grown, seconds);
            }
        }
        let times = |now: &Buckets, before: &Buckets| {
            Some((now.quantile_since(before, 0.5)?, now.quantile_since(before, 0.99)?))
        };
        Self {
            published: rate(|node| node.published),
            delivered: rate(|node| node.delivered),
            bytes: rate(|node| node.bytes),
            requests: rate(|node| node.requests),
            failures: rate(|node| node.failures),
            refused: rate(|node| node.refused),
            slow_consumers: rate(|node| node.slow_consumers),
            publish_ms: times(&now.publishing, &before.publishing),
            deliver_ms: times(&now.delivering, &before.delivering),
            tenants,
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "for people to read")]
fn per(count: u64, seconds: f64) -> f64 {
    count as f64 / seconds
}
