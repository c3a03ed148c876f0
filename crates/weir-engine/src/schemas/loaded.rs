//! The schemas that this node has in memory: one cell for each project that somebody publishes to here. Callers
//! share the cell, so what changes in it holds for requests and connections that were let in before.

use super::check::{InForce, ProjectSchemas, Steps};
use super::compile::{LOADING, apart, compile, parse};
use crate::Error;
use arc_swap::ArcSwapOption;
use dashmap::DashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};
use weir_core::{Code, Pattern, Payload, ProjectId, TenantId, Topic};
use weir_store::{AccessChange, AccessChangeKind, Store, TopicSchema};

/// A project's schemas as this node knows them.
#[derive(Debug)]
pub(crate) struct Cell {
    tenant: TenantId,
    project: ProjectId,
    /// `None` when the project has no schemas.
    now: ArcSwapOption<ProjectSchemas>,
    /// Whether the store may say something else.
    stale: AtomicBool,
    /// Whether a change is known that could not be looked up in time: nothing is taken until it has been.
    late: AtomicBool,
    /// One look-up at a time; who waits finds it done.
    turn: Mutex<()>,
}

/// A change that takes longer to look up holds up its own project only.
const PATIENCE: Duration = Duration::from_secs(1);

impl Cell {
    /// Checks a payload against the schemas of its topic.
    ///
    /// # Errors
    /// As [`ProjectSchemas::check`]; `OVERLOADED` while a change could not be looked up yet.
    pub(crate) fn check(&self, topic: &Topic, payload: &Payload, left: &mut Steps) -> Result<(), Error> {
        if self.late.load(Ordering::Acquire) {
            let message = "The project's schemas have changed and are not ready yet. Try again shortly.";
            return Err(Error::new(Code::Overloaded, message).after(PATIENCE));
        }
        self.now.load().as_ref().map_or(Ok(()), |schemas| schemas.check(topic, payload, left))
    }

    /// Looks the schemas up if they may have changed.
    async fn refresh(&self, store: &Store) -> Result<(), Error> {
        while self.stale.load(Ordering::Acquire) {
            let _turn = self.turn.lock().await;
            // Before the query: a change that is announced meanwhile asks for another one.
            if !self.stale.swap(false, Ordering::AcqRel) {
                break;
            }
            match self.look_up(store).await {
                Ok(schemas) => self.now.store(schemas),
                Err(error) => {
                    self.stale.store(true, Ordering::Release);
                    return Err(error);
                }
            }
        }
        self.late.store(false, Ordering::Release);
        Ok(())
    }

    async fn look_up(&self, store: &Store) -> Result<Option<Arc<ProjectSchemas>>, Error> {
        let stored = store.schemas.in_force(self.tenant, self.project).await?;
        if stored.is_empty() {
            return Ok(None);
        }
        let before = self.now.load_full();
        // A version never changes, so what is compiled is good for ever.
        let (mut ready, mut new) = (Vec::with_capacity(stored.len()), Vec::new());
        for schema in stored {
            let known = before.iter().flat_map(|before| before.0.iter());
            match known.into_iter().find(|old| old.pattern == schema.pattern && old.version == schema.version)
            {
                Some(known) => ready.push(Arc::clone(known)),
                None => new.push(schema),
            }
        }
        for schema in new {
            ready.push(make_ready(schema, self.project).await);
        }
        ready.sort_by_cached_key(|schema| (generality(&schema.pattern), schema.pattern.to_string()));
        Ok(Some(Arc::new(ProjectSchemas(ready))))
    }
}

async fn make_ready(stored: TopicSchema, project: ProjectId) -> Arc<InForce> {
    let TopicSchema { pattern, version, document, .. } = stored;
    let work = move || parse(&document).and_then(|schema| compile(&schema));
    let ready = apart(&LOADING, work).await.and_then(|ready| ready);
    if let Err(error) = &ready {
        tracing::error!(%project, %pattern, version, "a stored schema cannot be used: {error}");
    }
    Arc::new(InForce { pattern, version, ready: ready.ok() })
}

/// Token by token, names before `*` before `>`: the order in which schemas are held against a payload.
fn generality(pattern: &Pattern) -> Vec<u8> {
    let rank = |token: &str| match token {
        "*" => 1,
        ">" => 2,
        _ => 0,
    };
    pattern.as_str().split('.').map(rank).collect()
}

/// The cells of this node.
pub(crate) struct Loaded {
    store: Store,
    cells: DashMap<ProjectId, Arc<Cell>>,
    /// Cells whose change is known and not looked up.
    noted: std::sync::Mutex<Vec<Arc<Cell>>>,
}

impl Loaded {
    pub(crate) fn new(store: Store) -> Self {
        Self { store, cells: DashMap::new(), noted: std::sync::Mutex::default() }
    }

    /// The project's schemas, looked up if they are not in memory.
    pub(crate) async fn of(&self, tenant: TenantId, project: ProjectId) -> Result<Arc<Cell>, Error> {
        // In the list before it is filled: a change from here on finds it.
        let cell = Arc::clone(&self.cells.entry(project).or_insert_with(|| {
            Arc::new(Cell {
                tenant,
                project,
                now: ArcSwapOption::empty(),
                stale: AtomicBool::new(true),
                late: AtomicBool::new(false),
                turn: Mutex::new(()),
            })
        }));
        cell.refresh(&self.store).await?;
        Ok(cell)
    }

    /// Takes note of a change, without waiting for anything.
    pub(crate) fn note(&self, change: &AccessChange) {
        match change.kind {
            AccessChangeKind::SchemaSet | AccessChangeKind::SchemaRemoved => {}
            AccessChangeKind::Unknown => return self.note_all(),
            _ => return,
        }
        let Ok(project) = change.subject.parse::<ProjectId>() else { return };
        if let Some(cell) = self.cells.get(&project) {
            cell.stale.store(true, Ordering::Release);
            self.noted().push(Arc::clone(&cell));
        }
    }

    /// As if every project's schemas had changed: where changes may have been missed.
    pub(crate) fn note_all(&self) {
        for cell in &self.cells {
            cell.stale.store(true, Ordering::Release);
            self.noted().push(Arc::clone(&cell));
        }
    }

    fn noted(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Cell>>> {
        self.noted.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Looks up what was noted. Afterwards this node takes nothing any more that the changes refuse.
    ///
    /// # Errors
    /// `DATABASE_UNAVAILABLE`; what was noted stays so.
    pub(crate) async fn catch_up(&self) -> Result<(), Error> {
        let noted = std::mem::take(&mut *self.noted());
        // In tasks: what takes too long goes on when nobody waits for it any more.
        let tasks: Vec<_> = noted
            .into_iter()
            .map(|cell| {
                let (task, store) = (Arc::clone(&cell), self.store.clone());
                (cell, tokio::spawn(async move { task.refresh(&store).await }))
            })
            .collect();
        let deadline = Instant::now() + PATIENCE;
        let mut outcome = Ok(());
        for (cell, mut task) in tasks {
            match timeout_at(deadline, &mut task).await {
                Ok(Ok(Ok(()))) => continue,
                Ok(Ok(Err(error))) => outcome = Err(error),
                Ok(Err(_)) | Err(_) => cell.late.store(true, Ordering::Release),
            }
            self.noted().push(cell);
        }
        outcome
    }

    /// Forgets projects that nobody publishes to any more.
    pub(crate) fn sweep(&self) {
        self.cells.retain(|_, cell| Arc::strong_count(cell) > 1);
    }
}
