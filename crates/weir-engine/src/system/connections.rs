//! Events about connections: in this node's memory until the next second, so many per second as the project wants, and a
//! number in the place of the others. A crowd that comes back costs a project what its limit says, and others nothing.

use super::{System, record};
use crate::{Caller, Error, Who};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use weir_core::{Clock, ConnectionId, EventId, ProjectId, SystemTopic};
use weir_log::{EventLog, Place, Record};

/// Events about connections that wait on one node, of all projects together.
const MAX_WAITING: usize = 20_000;
/// Events that are appended at once.
const BATCH: usize = 500;

/// What waits.
#[derive(Default)]
pub(super) struct Connections(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    events: usize,
    by_project: HashMap<ProjectId, Of>,
}

/// Of one project.
struct Of {
    place: Place,
    records: Vec<Record>,
    /// Opened and closed connections without an event each.
    omitted: (u64, u64),
}

impl Connections {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, caller: &Caller, topic: SystemTopic, make: impl FnOnce() -> Result<Record, Error>) {
        let Some(limit) = caller.project_limits.connection_events_per_second.filter(|limit| *limit > 0)
        else {
            return;
        };
        let mut waiting = self.waiting();
        let full = waiting.events >= MAX_WAITING;
        let of = waiting.by_project.entry(caller.place.project).or_insert_with(|| Of {
            place: caller.place.clone(),
            records: Vec::new(),
            omitted: (0, 0),
        });
        let made = (!full && of.records.len() < limit as usize).then(make);
        match made {
            Some(Ok(record)) => {
                of.records.push(record);
                waiting.events += 1;
            }
            _ if topic == SystemTopic::ConnectionOpened => of.omitted.0 += 1,
            _ => of.omitted.1 += 1,
        }
    }

    /// Publishes what waits. What the log does not take goes on waiting, within the same bounds.
    pub(super) async fn flush(&self, log: &dyn EventLog, clock: &dyn Clock) -> Result<(), Error> {
        let projects: Vec<ProjectId> = self.waiting().by_project.keys().copied().collect();
        let mut failed = None;
        for project in projects {
            if let Err(error) = self.flush_project(project, log, clock).await {
                failed = Some(error);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn flush_project(
        &self,
        project: ProjectId,
        log: &dyn EventLog,
        clock: &dyn Clock,
    ) -> Result<(), Error> {
        let taken = {
            let mut waiting = self.waiting();
            let of = waiting.by_project.remove(&project);
            waiting.events -= of.as_ref().map_or(0, |of| of.records.len());
            of
        };
        let Some(mut of) = taken else { return Ok(()) };
        if of.omitted != (0, 0) {
            let told = json!({ "opened": of.omitted.0, "closed": of.omitted.1 });
            let topic = SystemTopic::ConnectionOmitted;
            of.records.push(record(EventId::generate(), topic, clock.now(), &told)?);
            of.omitted = (0, 0);
        }
        while !of.records.is_empty() {
            let batch = of.records[..of.records.len().min(BATCH)].to_vec();
            let count = batch.len();
            if let Err(error) = log.append(&of.place, batch).await {
                self.put_back(project, of);
                return Err(error.into());
            }
            of.records.drain(..count);
        }
        Ok(())
    }

    /// Before what came meanwhile.
    fn put_back(&self, project: ProjectId, mut of: Of) {
        let mut waiting = self.waiting();
        waiting.events += of.records.len();
        if let Some(newer) = waiting.by_project.remove(&project) {
            of.records.extend(newer.records);
            of.omitted = newer.omitted;
        }
        waiting.by_project.insert(project, of);
    }
}

impl System {
    /// A connection was opened.
    pub(crate) fn connected(&self, caller: &Caller, id: ConnectionId) {
        self.note_connection(caller, id, SystemTopic::ConnectionOpened);
    }

    /// A connection ended.
    pub(crate) fn disconnected(&self, caller: &Caller, id: ConnectionId) {
        self.note_connection(caller, id, SystemTopic::ConnectionClosed);
    }

    fn note_connection(&self, caller: &Caller, id: ConnectionId, topic: SystemTopic) {
        self.connections.add(caller, topic, || {
            let told = json!({ "connection_id": id, "who": who(caller) });
            record(EventId::generate(), topic, self.clock.now(), &told)
        });
    }
}

fn who(caller: &Caller) -> Value {
    match &caller.who {
        Who::Key(key) => json!({ "key_id": key }),
        Who::Member { user, .. } => json!({ "user_id": user }),
        Who::Client { signer, subject, .. } => {
            json!({ "signing_key_id": signer, "subject": subject.as_deref() })
        }
    }
}
