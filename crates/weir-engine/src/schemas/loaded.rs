//! The schemas that this node has in memory: one cell for each project that somebody publishes to here. Callers
//! share the cell, so what changes in it holds for requests and connections that were let in before. What was used least
//! lately makes room when all together take too much, and is compiled again for the next publish, which waits for it.

use super::check::{InForce, ProjectSchemas};
use super::compile::{LOADING, apart, compile, parse};
use super::memory::Memory;
use crate::Error;
use arc_swap::ArcSwapOption;
use dashmap::DashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout_at};
use weir_core::{Code, Pattern, ProjectId, TenantId};
use weir_store::{AccessChange, AccessChangeKind, Store, TopicSchema};

/// What a node has of a project that has schemas.
#[derive(Debug)]
enum InMemory {
    Ready(ProjectSchemas),
    /// They made room for others, and are compiled again for the next publish.
    Evicted,
}

/// What a publish is held against: the project's schemas, if it has any.
pub(crate) type AtHand<'a> = Result<Option<&'a ProjectSchemas>, Error>;

type Waiting = Box<dyn FnOnce(AtHand<'_>) + Send>;

/// A project's schemas as this node knows them.
pub(crate) struct Cell {
    tenant: TenantId,
    project: ProjectId,
    /// Where it belongs to.
    loaded: Weak<Loaded>,
    memory: Arc<Memory>,
    /// `None` when the project has no schemas.
    now: ArcSwapOption<InMemory>,
    /// When they were used last.
    used: AtomicU64,
    /// Whether the store may say something else.
    stale: AtomicBool,
    /// Whether a change is known that could not be looked up in time: nothing is taken until it has been.
    late: AtomicBool,
    /// One look-up at a time; who waits finds it done. What is evicted is so with the turn held.
    turn: Mutex<()>,
    /// Publishes that came while the schemas were evicted, in their order.
    waiting: std::sync::Mutex<Vec<Waiting>>,
}

impl fmt::Debug for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cell").field("project", &self.project).field("now", &self.now).finish_non_exhaustive()
    }
}

/// A change that takes longer to look up holds up its own project only.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long evicted schemas are looked up before publishes are refused because there is no database.
const LOOK_UP: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(200);

impl Cell {
    fn new(loaded: &Arc<Loaded>, tenant: TenantId, project: ProjectId) -> Self {
        Self {
            tenant,
            project,
            loaded: Arc::downgrade(loaded),
            memory: Arc::clone(&loaded.memory),
            now: ArcSwapOption::empty(),
            used: AtomicU64::new(0),
            stale: AtomicBool::new(true),
            late: AtomicBool::new(false),
            turn: Mutex::new(()),
            waiting: std::sync::Mutex::default(),
        }
    }

    /// Calls `work` with what payloads are held against: here and now, or in the order of the calls once it is compiled
    /// again after it was evicted. With an error while a change could not be looked up yet, or when there is no database.
    pub(crate) fn with(self: &Arc<Self>, work: impl FnOnce(AtHand<'_>) + Send + 'static) {
        match self.now.load().as_deref() {
            None => return work(self.settled().map(|()| None)),
            Some(InMemory::Ready(schemas)) => {
                self.touch();
                return work(self.settled().map(|()| Some(schemas)));
            }
            Some(InMemory::Evicted) => {}
        }
        let first = {
            let mut waiting = self.waiting();
            // It is there again only when nobody waits, so whoever comes now comes behind them.
            if !self.is_evicted() {
                drop(waiting);
                return self.with(work);
            }
            waiting.push(Box::new(work));
            waiting.len() == 1
        };
        if first && let Some(loaded) = self.loaded.upgrade() {
            let cell = Arc::clone(self);
            let runtime = loaded.runtime.clone();
            runtime.spawn(async move { cell.reload(&loaded).await });
        }
    }

    /// Nothing is taken while a change could not be looked up.
    fn settled(&self) -> Result<(), Error> {
        if self.late.load(Ordering::Acquire) {
            let message = "The project's schemas have changed and are not ready yet. Try again shortly.";
            return Err(Error::new(Code::Overloaded, message).after(PATIENCE));
        }
        Ok(())
    }

    fn touch(&self) {
        self.used.store(self.memory.tick(), Ordering::Relaxed);
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_evicted(&self) -> bool {
        matches!(self.now.load().as_deref(), Some(InMemory::Evicted))
    }

    /// What can be freed by evicting it.
    fn bytes(&self) -> usize {
        match self.now.load().as_deref() {
            Some(InMemory::Ready(schemas)) => schemas.bytes(),
            _ => 0,
        }
    }

    /// Makes room. Returns how many bytes it makes: none of what is being looked up.
    fn evict(&self) -> usize {
        let Ok(_turn) = self.turn.try_lock() else { return 0 };
        let bytes = self.bytes();
        if bytes > 0 {
            self.now.store(Some(Arc::new(InMemory::Evicted)));
            self.memory.note_evicted();
        }
        bytes
    }

    /// Looks the schemas up if they may have changed. What is evicted is looked up when it is used.
    async fn refresh(self: &Arc<Self>, loaded: &Loaded) -> Result<(), Error> {
        while self.stale.load(Ordering::Acquire) {
            let _turn = self.turn.lock().await;
            // Before the query: a change that is announced meanwhile asks for another one.
            if self.is_evicted() || !self.stale.swap(false, Ordering::AcqRel) {
                break;
            }
            match self.look_up(&loaded.store).await {
                Ok(schemas) => self.now.store(schemas),
                Err(error) => {
                    self.stale.store(true, Ordering::Release);
                    return Err(error);
                }
            }
            self.touch();
            loaded.make_room(self);
        }
        self.late.store(false, Ordering::Release);
        Ok(())
    }

    /// Compiles what was evicted, and lets those go that wait for it.
    async fn reload(self: Arc<Self>, loaded: &Loaded) {
        let turn = self.turn.lock().await;
        if !self.is_evicted() {
            return;
        }
        let deadline = Instant::now() + LOOK_UP;
        loop {
            self.stale.store(false, Ordering::Release);
            match self.look_up(&loaded.store).await {
                // A change was announced meanwhile.
                Ok(_) if self.stale.load(Ordering::Acquire) => {}
                Ok(schemas) => {
                    self.install(schemas);
                    break;
                }
                Err(error) if Instant::now() >= deadline => {
                    self.stale.store(true, Ordering::Release);
                    let waiting = std::mem::take(&mut *self.waiting());
                    waiting.into_iter().for_each(|work| work(Err(error.clone())));
                    break;
                }
                Err(error) => {
                    tracing::debug!(project = %self.project, "schemas cannot be looked up yet: {error}");
                    sleep(LOOK_AGAIN).await;
                }
            }
        }
        self.touch();
        loaded.make_room(&self);
        drop(turn);
    }

    /// Lets those go that wait, and then everybody.
    fn install(&self, schemas: Option<Arc<InMemory>>) {
        loop {
            let waiting = {
                let mut waiting = self.waiting();
                if waiting.is_empty() {
                    self.now.store(schemas);
                    return;
                }
                std::mem::take(&mut *waiting)
            };
            for work in waiting {
                work(self.settled().map(|()| match schemas.as_deref() {
                    Some(InMemory::Ready(schemas)) => Some(schemas),
                    _ => None,
                }));
            }
        }
    }

    async fn look_up(&self, store: &Store) -> Result<Option<Arc<InMemory>>, Error> {
        let stored = store.schemas.in_force(self.tenant, self.project).await?;
        if stored.is_empty() {
            return Ok(None);
        }
        let before = self.now.load_full();
        let known = match before.as_deref() {
            Some(InMemory::Ready(schemas)) => schemas.0.as_slice(),
            _ => &[],
        };
        // A version never changes, so what is compiled is good for ever.
        let (mut ready, mut new) = (Vec::with_capacity(stored.len()), Vec::new());
        for schema in stored {
            match known.iter().find(|old| old.pattern == schema.pattern && old.version == schema.version) {
                Some(known) => ready.push(Arc::clone(known)),
                None => new.push(schema),
            }
        }
        for schema in new {
            ready.push(make_ready(schema, self.project, &self.memory).await);
        }
        ready.sort_by_cached_key(|schema| (generality(&schema.pattern), schema.pattern.to_string()));
        Ok(Some(Arc::new(InMemory::Ready(ProjectSchemas(ready)))))
    }
}

async fn make_ready(stored: TopicSchema, project: ProjectId, memory: &Arc<Memory>) -> Arc<InForce> {
    let TopicSchema { pattern, version, document, .. } = stored;
    let work = move || parse(&document).and_then(|schema| compile(&schema));
    let ready = apart(&LOADING, work).await.and_then(|ready| ready);
    if let Err(error) = &ready {
        tracing::error!(%project, %pattern, version, "a stored schema cannot be used: {error}");
    }
    let ready = ready.ok();
    let held = memory.hold(ready.as_ref());
    Arc::new(InForce { pattern, version, ready, held })
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
    memory: Arc<Memory>,
    runtime: Handle,
    cells: DashMap<ProjectId, Arc<Cell>>,
    /// Cells whose change is known and not looked up.
    noted: std::sync::Mutex<Vec<Arc<Cell>>>,
    /// Room is made by one at a time.
    making_room: std::sync::Mutex<()>,
}

impl Loaded {
    /// With room for so many bytes of compiled schemas, by estimate. Call within the runtime.
    pub(crate) fn new(store: Store, room: usize) -> Arc<Self> {
        Arc::new(Self {
            store,
            memory: Arc::new(Memory::new(room)),
            runtime: Handle::current(),
            cells: DashMap::new(),
            noted: std::sync::Mutex::default(),
            making_room: std::sync::Mutex::default(),
        })
    }

    /// The project's schemas, looked up if they were never.
    pub(crate) async fn of(
        self: &Arc<Self>,
        tenant: TenantId,
        project: ProjectId,
    ) -> Result<Arc<Cell>, Error> {
        // In the list before it is filled: a change from here on finds it.
        let new = || Arc::new(Cell::new(self, tenant, project));
        let cell = Arc::clone(&self.cells.entry(project).or_insert_with(new));
        cell.refresh(self).await?;
        Ok(cell)
    }

    /// Evicts what was used least lately until the rest is within the limit, but not `keep`, which somebody waits for.
    fn make_room(&self, keep: &Arc<Cell>) {
        if self.memory.over() == 0 {
            return;
        }
        let _one = self.making_room.lock().unwrap_or_else(PoisonError::into_inner);
        let over = self.memory.over();
        if over == 0 {
            return;
        }
        let mut oldest: Vec<(u64, Arc<Cell>)> = self
            .cells
            .iter()
            .filter(|cell| !Arc::ptr_eq(cell, keep) && cell.bytes() > 0)
            .map(|cell| (cell.used.load(Ordering::Relaxed), Arc::clone(&cell)))
            .collect();
        oldest.sort_unstable_by_key(|(used, _)| *used);
        // More than is needed, so that not every project that comes next has to look at all others.
        let mut left = over + self.memory.limit() / 8;
        for (_, cell) in oldest {
            left = left.saturating_sub(cell.evict());
            if left == 0 {
                return;
            }
        }
    }

    /// Bytes of compiled schemas, by estimate, and how often a project's were evicted.
    pub(crate) fn memory(&self) -> (usize, u64) {
        (self.memory.held(), self.memory.evicted())
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
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks up what was noted. Afterwards this node takes nothing any more that the changes refuse.
    ///
    /// # Errors
    /// `DATABASE_UNAVAILABLE`; what was noted stays so.
    pub(crate) async fn catch_up(self: &Arc<Self>) -> Result<(), Error> {
        let noted = std::mem::take(&mut *self.noted());
        // In tasks: what takes too long goes on when nobody waits for it any more.
        let tasks: Vec<_> = noted
            .into_iter()
            .map(|cell| {
                let (task, loaded) = (Arc::clone(&cell), Arc::clone(self));
                (cell, tokio::spawn(async move { task.refresh(&loaded).await }))
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
