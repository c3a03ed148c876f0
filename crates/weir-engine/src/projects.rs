//! Which projects this node follows: watched in the log and open in the hub while they have
//! subscribers, and for a while after, so that reconnecting clients find the ring warm.

use crate::billing::meter::Metering;
use crate::{Error, encode};
use dashmap::DashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use weir_core::{Clock, Code, CursorKey, Event, Position, ProjectId};
use weir_hub::{Goodbye, Hub, Message, Meter};
use weir_log::{EventLog, Place};

/// How long a project without subscribers stays open.
const LINGER: Duration = Duration::from_secs(120);

/// One followed project.
pub(crate) struct Followed {
    place: Place,
    meter: Arc<Meter>,
    users: AtomicU32,
    /// Opening happens once at a time; the others wait here.
    opening: tokio::sync::Mutex<()>,
    /// Orders what the feed brings against opening and closing. Never held across an await.
    stage: Mutex<Stage>,
}

enum Stage {
    Closed,
    /// Watched, but the hub has no ring yet: what the feed brings meanwhile waits here. The feed itself must
    /// never wait, since the log may need it drained before the watch comes about.
    Opening {
        waiting: Vec<Arc<Event>>,
        bytes: usize,
    },
    Open(Open),
}

struct Open {
    epoch: u64,
    /// The last sequence that the hub has. The feed may still hold items of an earlier watch.
    last: u64,
    idle_since: Instant,
}

impl Followed {
    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Held by a session while it has subscriptions; the project stays open as long as one exists.
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
    cursors: CursorKey,
    /// Bytes of events that may wait for a project to be opened.
    waiting_bytes: usize,
    metering: Arc<Metering>,
    clock: Arc<dyn Clock>,
    all: DashMap<ProjectId, Arc<Followed>>,
}

impl Projects {
    pub(crate) fn new(
        log: Arc<dyn EventLog>,
        hub: Hub,
        cursors: CursorKey,
        waiting_bytes: usize,
        metering: Arc<Metering>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { log, hub, cursors, waiting_bytes, metering, clock, all: DashMap::new() }
    }

    /// Opens the project if it is not open, and keeps it open while the answer lives.
    pub(crate) async fn follow(&self, place: &Place) -> Result<Use, Error> {
        // The count rises under the map's lock, so the sweep never closes what is being opened.
        let in_use = {
            let entry = self.all.entry(place.project).or_insert_with(|| {
                Arc::new(Followed {
                    place: place.clone(),
                    meter: self.metering.meter(place.tenant, place.project),
                    users: AtomicU32::new(0),
                    opening: tokio::sync::Mutex::new(()),
                    stage: Mutex::new(Stage::Closed),
                })
            });
            entry.users.fetch_add(1, Ordering::AcqRel);
            Use(Arc::clone(&entry))
        };
        self.ensure_open(&in_use.0).await?;
        Ok(in_use)
    }

    async fn ensure_open(&self, followed: &Followed) -> Result<(), Error> {
        let _one = followed.opening.lock().await;
        if matches!(*followed.stage(), Stage::Open(_)) {
            return Ok(());
        }
        *followed.stage() = Stage::Opening { waiting: Vec::new(), bytes: 0 };
        match self.log.watch(&followed.place).await {
            Ok(at) => self.open(followed, at),
            Err(error) => {
                *followed.stage() = Stage::Closed;
                Err(error.into())
            }
        }
    }

    /// Makes the ring, then hands over what came after the watched position.
    fn open(&self, followed: &Followed, at: Position) -> Result<(), Error> {
        let mut stage = followed.stage();
        let Stage::Opening { waiting, bytes } = std::mem::replace(&mut *stage, Stage::Closed) else {
            return Err(interrupted("the feed ended while the project was being opened"));
        };
        if bytes > self.waiting_bytes {
            self.log.unwatch(followed.place.project);
            return Err(interrupted("more arrived while the project was being opened than may wait"));
        }
        let project = followed.place.project;
        self.hub.open_project(project, at, Arc::clone(&followed.meter));
        let mut open = Open { epoch: at.epoch, last: at.sequence, idle_since: Instant::now() };
        self.publish(project, &waiting, &mut open);
        *stage = Stage::Open(open);
        Ok(())
    }

    /// Passes on what the feed brought for a project.
    pub(crate) fn deliver(&self, project: ProjectId, events: Vec<Arc<Event>>) {
        let Some(followed) = self.all.get(&project).map(|entry| Arc::clone(&entry)) else { return };
        match &mut *followed.stage() {
            Stage::Open(open) => self.publish(project, &events, open),
            Stage::Opening { waiting, bytes } => {
                *bytes += events.iter().map(|event| event.weight()).sum::<usize>();
                if *bytes <= self.waiting_bytes {
                    waiting.extend(events);
                }
            }
            Stage::Closed => {}
        }
    }

    fn publish(&self, project: ProjectId, events: &[Arc<Event>], open: &mut Open) {
        let mut new = events.iter().filter(|event| event.sequence > open.last).peekable();
        // By the clock of the node that accepted it, which may be another one.
        let age = new.peek().map_or(Duration::ZERO, |oldest| self.clock.now().since(oldest.published_at));
        let now = Instant::now();
        let born = now.checked_sub(age).unwrap_or(now);
        let messages: Arc<[Arc<Message>]> =
            new.map(|event| encode::message(event, open.epoch, &self.cursors)).collect();
        if let Some(message) = messages.last() {
            open.last = message.position.sequence;
            self.hub.publish_born(project, messages, born);
        }
    }

    /// The feed of this project broke: its subscribers are closed with a code that makes them resume.
    pub(crate) fn broken(&self, project: ProjectId) {
        if let Some(followed) = self.all.get(&project).map(|entry| Arc::clone(&entry)) {
            let mut stage = followed.stage();
            *stage = Stage::Closed;
            self.hub.close_project(project, resume_elsewhere());
        }
    }

    /// Closes projects that nobody has used for a while. Whatever is done to one happens under its lock
    /// in the map, so nobody begins to use it half-way.
    pub(crate) fn sweep(&self) {
        self.all.retain(|project, followed| {
            let mut stage = followed.stage();
            let used = followed.users.load(Ordering::Acquire) > 0;
            match &mut *stage {
                Stage::Opening { .. } => return true,
                Stage::Open(open) if used => open.idle_since = Instant::now(),
                Stage::Open(open) if open.idle_since.elapsed() > LINGER => {
                    *stage = Stage::Closed;
                    self.hub.close_project(*project, resume_elsewhere());
                }
                Stage::Open(_) => return true,
                Stage::Closed => {}
            }
            let keep = used || matches!(*stage, Stage::Open(_));
            if !keep {
                self.log.unwatch(*project);
            }
            keep
        });
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }
}

fn interrupted(why: &str) -> Error {
    let mut error =
        Error::new(Code::EventLogUnavailable, "The live feed could not be followed just now; try again.")
            .after(Duration::from_secs(1));
    error.internal = Some(why.to_owned());
    error
}

fn resume_elsewhere() -> Goodbye {
    Goodbye {
        text: None,
        code: Code::EventLogUnavailable.close_code(),
        reason: "the event log was interrupted; resume with the last cursor".into(),
        discard: false,
    }
}
