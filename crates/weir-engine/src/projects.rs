//! Which projects this node follows: watched in the log and open in the hub while they have
//! subscribers, and for a while after, so that reconnecting clients find the ring warm.

use crate::Error;
use dashmap::DashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;
use weir_core::{Code, Position, ProjectId, TenantId};
use weir_hub::{Goodbye, Hub, Meter};
use weir_log::{EventLog, Place};

/// How long a project without subscribers stays open.
const LINGER: Duration = Duration::from_secs(120);

/// One followed project.
#[derive(Debug)]
pub(crate) struct Followed {
    pub(crate) place: Place,
    pub(crate) meter: Arc<Meter>,
    users: AtomicU32,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Closed,
    Open { epoch: u64, idle_since: Instant },
}

/// Held by a session while it has subscriptions; the project stays open as long as one exists.
#[derive(Debug)]
pub(crate) struct Use(Arc<Followed>);

impl Drop for Use {
    fn drop(&mut self) {
        self.0.users.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The followed projects of this node.
pub(crate) struct Projects {
    log: Arc<dyn EventLog>,
    hub: Hub,
    all: DashMap<ProjectId, Arc<Followed>>,
}

impl Projects {
    pub(crate) fn new(log: Arc<dyn EventLog>, hub: Hub) -> Self {
        Self { log, hub, all: DashMap::new() }
    }

    /// Opens the project if it is not open, and keeps it open while the answer lives.
    pub(crate) async fn follow(&self, place: &Place) -> Result<Use, Error> {
        // The count rises under the map's lock, so the sweep never closes what is being opened.
        let followed = {
            let entry = self.all.entry(place.project).or_insert_with(|| {
                Arc::new(Followed {
                    place: place.clone(),
                    meter: Arc::default(),
                    users: AtomicU32::new(0),
                    state: Mutex::new(State::Closed),
                })
            });
            entry.users.fetch_add(1, Ordering::AcqRel);
            Use(Arc::clone(&entry))
        };
        let mut state = followed.0.state.lock().await;
        if matches!(*state, State::Closed) {
            // The lock is held across both steps: the pump waits for it before it publishes, so the ring
            // is there before the first event that follows on the watched position.
            let at: Position = self.log.watch(place).await?;
            self.hub.open_project(place.project, at, Arc::clone(&followed.0.meter));
            *state = State::Open { epoch: at.epoch, idle_since: Instant::now() };
        }
        drop(state);
        Ok(followed)
    }

    /// The epoch under which the project is open, waiting while it is being opened. `None` when it is
    /// not followed (any more).
    pub(crate) async fn epoch(&self, project: ProjectId) -> Option<u64> {
        let followed = Arc::clone(&*self.all.get(&project)?);
        match *followed.state.lock().await {
            State::Open { epoch, .. } => Some(epoch),
            State::Closed => None,
        }
    }

    /// The feed of this project broke: its subscribers are closed with a code that makes them resume.
    pub(crate) async fn broken(&self, project: ProjectId) {
        let Some(followed) = self.all.get(&project).map(|entry| Arc::clone(&entry)) else { return };
        let mut state = followed.state.lock().await;
        *state = State::Closed;
        self.hub.close_project(project, resume_elsewhere());
    }

    /// Closes projects that nobody has used for a while.
    pub(crate) async fn sweep(&self) {
        let all: Vec<_> = self.all.iter().map(|entry| Arc::clone(&entry)).collect();
        for followed in all {
            let project = followed.place.project;
            let mut state = followed.state.lock().await;
            let State::Open { idle_since, .. } = &mut *state else {
                self.forget(project);
                continue;
            };
            if followed.users.load(Ordering::Acquire) > 0 {
                *idle_since = Instant::now();
            } else if idle_since.elapsed() > LINGER && self.forget(project) {
                *state = State::Closed;
                self.log.unwatch(project);
                self.hub.close_project(project, resume_elsewhere());
            }
        }
    }

    /// Takes the project off the map unless somebody has begun to use it. The map's lock orders this
    /// against `follow`.
    fn forget(&self, project: ProjectId) -> bool {
        self.all.remove_if(&project, |_, followed| followed.users.load(Ordering::Acquire) == 0).is_some()
    }

    /// Events delivered so far by project, for metering: (tenant, project, meter).
    pub(crate) fn meters(&self) -> Vec<(TenantId, ProjectId, Arc<Meter>)> {
        self.all
            .iter()
            .map(|entry| (entry.place.tenant, entry.place.project, Arc::clone(&entry.meter)))
            .collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }
}

fn resume_elsewhere() -> Goodbye {
    Goodbye {
        text: None,
        code: Code::EventLogUnavailable.close_code(),
        reason: "the event log was interrupted; resume with the last cursor".into(),
        discard: false,
    }
}
