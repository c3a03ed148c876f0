//! From the log's feed to the hub: every event is encoded once here and handed to all shards.

use crate::encode;
use crate::engine::Engine;
use std::sync::Arc;
use std::time::Duration;
use weir_core::{Event, ProjectId};
use weir_hub::Message;
use weir_log::{Feed, FeedItem};

/// Runs until the log closes its feed.
pub(crate) async fn run(engine: Arc<Engine>, mut feed: Feed) {
    while let Some(item) = feed.recv().await {
        match item {
            FeedItem::Events { project, events } => deliver(&engine, project, &events).await,
            FeedItem::Broken { project, reason } => {
                tracing::warn!(%project, reason, "the live feed of project {project} broke: {reason}");
                engine.projects.broken(project).await;
            }
        }
    }
}

async fn deliver(engine: &Engine, project: ProjectId, events: &[Arc<Event>]) {
    // A node that cannot confirm its access state delivers nothing: it may be showing a revoked
    // key's owner what is no longer theirs. Events wait here, bounded by the feed.
    engine.access.confirmed().await;
    let Some(epoch) = engine.projects.epoch(project).await else { return };
    while engine.hub.queued_bytes() > engine.settings.hub_queue_bytes {
        // Shards that are this far behind free whole megabytes per pass; there is no event to wait for.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let messages: Arc<[Arc<Message>]> =
        events.iter().map(|event| encode::message(event, epoch, &engine.cursors)).collect();
    engine.hub.publish(project, messages);
}
