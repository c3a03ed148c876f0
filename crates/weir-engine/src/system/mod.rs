//! The server's own events (`@weir.…`): what happens to a project's keys, connections, limits and webhooks, in the
//! project's own log, where every subscriber and webhook of it can take them.
//!
//! ```text
//!   a change of the database ─── in its transaction ──▶ system_events ─┐
//!   Engine::system().emit() ───────────────────────────▶ (outbox)      ├─ one node at a time ──▶ log of the project(s)
//!   connections opened and closed ──▶ connections.rs, in memory ────────── each node ──────────▶ log of the project
//! ```
//! Nothing here is on the way of a publish or a delivery. Walks over the log pass these events over, so they are nobody's
//! usage; nothing limits them but the bounds here.

mod connections;

use crate::Error;
use connections::Connections;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval, timeout};
use weir_core::event::Headers;
use weir_core::{Clock, EventId, NodeId, Payload, ProjectId, SystemTopic, TenantId, Timestamp};
use weir_log::{EventLog, Place, Record};
use weir_store::{After, Store, StoreError, WaitingEvent};

/// Between two looks when nobody says that there is something.
const EVERY: Duration = Duration::from_secs(1);
/// How long a node that says nothing keeps its turn.
const LEASE: Duration = Duration::from_secs(10);
/// Events that are taken from the outbox at once, and how many of them of one tenant.
const BATCH: u32 = 500;
const OF_ONE: u32 = 50;
/// An event that the log did not take for so long is given up.
const KEEP: Duration = Duration::from_secs(24 * 3600);
/// How long the last events of a node that stops may take.
const LAST: Duration = Duration::from_secs(2);

/// Publishes the server's own events.
pub struct System {
    store: Store,
    log: Arc<dyn EventLog>,
    clock: Arc<dyn Clock>,
    node: NodeId,
    wake: Notify,
    connections: Connections,
}

impl System {
    pub(crate) fn new(
        store: Store,
        log: Arc<dyn EventLog>,
        clock: Arc<dyn Clock>,
        node: NodeId,
    ) -> Arc<Self> {
        let (wake, connections) = (Notify::new(), Connections::default());
        Arc::new(Self { store, log, clock, node, wake, connections })
    }

    /// Publishes an event about a project, or with `None` in every project of the tenant: soon, in the order of the calls,
    /// and once it is noted, whatever dies. Subscribers may see it twice, with the same id, after a crash of more than
    /// the dedupe window. The payload must be an object; it is what subscribers get.
    ///
    /// # Errors
    /// `DATABASE_UNAVAILABLE`; then nothing is published.
    pub async fn emit(
        &self,
        tenant: TenantId,
        project: Option<ProjectId>,
        topic: SystemTopic,
        payload: Value,
    ) -> Result<(), Error> {
        let now = self.clock.now();
        if !self.store.system_events.note(tenant, project, topic, payload, now).await? {
            tracing::warn!(%tenant, %topic, "{topic} is not told to {tenant}: too many events wait for its log");
        }
        self.wake.notify_one();
        Ok(())
    }

    /// Something was noted: looks before the next time comes.
    pub(crate) fn look(&self) {
        self.wake.notify_one();
    }

    /// Publishes what waits, for ever.
    pub(crate) async fn keep_telling(self: Arc<Self>) {
        let mut failing = false;
        let mut tick = interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = self.wake.notified() => {}
            }
            let (told, flushed) = tokio::join!(self.tell(), self.connections.flush(&*self.log, &*self.clock));
            match told.and(flushed) {
                Err(error) if !failing => {
                    let cause = error.internal.unwrap_or(error.message);
                    tracing::warn!(cause, "the server's own events cannot be published: {cause}");
                    failing = true;
                }
                Ok(()) if failing => {
                    tracing::info!("the server's own events can be published again");
                    failing = false;
                }
                _ => {}
            }
        }
    }

    /// Publishes what this node alone knows.
    pub(crate) async fn finish(&self) {
        if !matches!(timeout(LAST, self.connections.flush(&*self.log, &*self.clock)).await, Ok(Ok(()))) {
            tracing::warn!("the last events about connections of this node could not be published");
        }
    }

    async fn tell(&self) -> Result<(), Error> {
        loop {
            let waiting = self.store.system_events.waiting(OF_ONE, BATCH).await?;
            if waiting.is_empty() || !self.store.system_events.take_turn_to_tell(self.node, LEASE).await? {
                return Ok(());
            }
            let (mut sent, mut failed) = (Vec::new(), None);
            let mut stuck: HashSet<TenantId> = HashSet::new();
            for event in waiting {
                // What comes later is not told before what came first.
                if stuck.contains(&event.tenant) {
                    continue;
                }
                match self.publish(&event).await {
                    Ok(()) => sent.push(event.id),
                    Err(error) if self.clock.now().since(event.at) > KEEP => {
                        tracing::error!(
                            %error, tenant = %event.tenant, topic = %event.topic,
                            "{} is not told to {}: the log did not take it for {KEEP:?}", event.topic, event.tenant
                        );
                        sent.push(event.id);
                    }
                    Err(error) => {
                        stuck.insert(event.tenant);
                        failed = Some(error);
                    }
                }
            }
            let progress = !sent.is_empty();
            self.store.system_events.sent(sent).await?;
            match failed {
                Some(error) if !progress => return Err(error),
                _ => {}
            }
        }
    }

    async fn publish(&self, event: &WaitingEvent) -> Result<(), Error> {
        let id = format!("sys_{}", event.id.simple()).parse().map_err(Error::internal)?;
        let payload: Value = serde_json::from_str(&event.payload).map_err(Error::internal)?;
        let record = record(id, event.topic, event.at, &payload)?;
        for place in self.places(event).await? {
            // The same id at every attempt: the log takes it once.
            self.log.append(&place, vec![record.clone()]).await?;
        }
        Ok(())
    }

    /// Where it is published. Nowhere when tenant or project are gone.
    async fn places(&self, event: &WaitingEvent) -> Result<Vec<Place>, Error> {
        let tenant = match self.store.tenants.get(event.tenant).await {
            Ok(tenant) => tenant,
            Err(StoreError::NotFound(_)) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let place = |project| Place { tenant: tenant.id, project, stream: Arc::from(tenant.stream.as_str()) };
        if let Some(project) = event.project {
            return match self.store.tenants.project(tenant.id, project).await {
                Ok(project) => Ok(vec![place(project.id)]),
                Err(StoreError::NotFound(_)) => Ok(Vec::new()),
                Err(error) => Err(error.into()),
            };
        }
        let (mut places, mut page) = (Vec::new(), After::first(weir_store::MAX_PAGE));
        loop {
            let found = self.store.tenants.projects(tenant.id, page).await?;
            places.extend(found.items.iter().map(|project| place(project.id)));
            page.after = found.items.last().map(|project| project.id);
            if !found.has_more {
                return Ok(places);
            }
        }
    }
}

/// An event of the server's own as the log takes it.
fn record(id: EventId, topic: SystemTopic, at: Timestamp, payload: &Value) -> Result<Record, Error> {
    let payload = Payload::parse(json!(payload).to_string().as_bytes()).map_err(Error::internal)?;
    let kind = topic.as_str().trim_start_matches('@').parse().map_err(Error::internal)?;
    Ok(Record {
        id,
        dedupe: true,
        topic: topic.topic(),
        payload,
        kind: Some(kind),
        headers: Headers::default(),
        published_at: at,
    })
}
