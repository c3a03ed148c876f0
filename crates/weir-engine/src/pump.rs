//! From the log's feed to the hub: every event is encoded once and handed to all shards.

use crate::engine::Engine;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use weir_log::{Feed, FeedItem};

/// Runs until the log closes its feed.
pub(crate) async fn run(engine: Arc<Engine>, mut feed: Feed) {
    while let Some(item) = feed.recv().await {
        // A node that cannot confirm its access state delivers nothing: it may be showing a revoked
        // key's owner what is no longer theirs. Events wait, bounded by the feed.
        engine.access.confirmed().await;
        match item {
            FeedItem::Events { project, events } => {
                while engine.hub.queued_bytes() > engine.settings.hub_queue_bytes {
                    // Shards that are this far behind free megabytes per pass; nothing tells when.
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                engine.figures.fed.fetch_add(events.len() as u64, Ordering::Relaxed);
                let spans = engine.traces().fan_out(engine.node, &events);
                engine.projects.deliver(project, events);
                drop(spans);
                engine.webhooks.wake(project);
            }
            FeedItem::Broken { project, reason } => {
                tracing::warn!(%project, reason, "the live feed of project {project} broke: {reason}");
                engine.projects.broken(project);
            }
        }
    }
}
