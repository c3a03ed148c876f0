//! The one thread that writes. Each turn it takes all that waits, gives every record its place, writes
//! one batch, waits for the disk, answers, and offers the events to the feed. While it waits for the
//! disk the next batch gathers.

use super::codec::{self, IdUse, Mark, ProjectState};
use super::feeder::{Feeder, Offer};
use super::queue::Queue;
use super::recent::Recent;
use super::reclaim::Reclaim;
use super::spent::Spent;
use super::storage::{Storage, failed};
use crate::{Appended, LogError, Outcome, Place, Record, Run};
use fjall::{OwnedWriteBatch, PersistMode};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use uuid::Uuid;
use weir_core::{Event, Position, ProjectId, TenantId, Timestamp, Topic};

/// How many projects and topics the writer keeps at hand (twice, see [`Recent`]).
const PROJECTS: usize = 20_000;
const TOPICS: usize = 100_000;

/// Room that must be free for old events to be removed.
const ROOM_TO_RECLAIM: u64 = 8 << 20;

type Answer<T> = oneshot::Sender<Result<T, LogError>>;

/// A record with everything that can be computed without knowing its place.
pub(super) struct Prepared {
    record: Record,
    value: Vec<u8>,
    check: u32,
    /// What it counts for in what is stored.
    bytes: u64,
    /// Only for records with `dedupe`.
    fingerprint: u64,
}

impl Prepared {
    pub fn new(record: Record) -> Self {
        Self {
            value: codec::encode_record(&record),
            check: weir_core::event::check(&record.id, record.published_at),
            bytes: record.stored_bytes(),
            fingerprint: if record.dedupe { record.fingerprint() } else { 0 },
            record,
        }
    }
}

/// What the writer is asked to do.
pub(super) enum Command {
    Append { place: Place, records: Vec<Prepared>, answer: Answer<Vec<Outcome>> },
    Trim { place: Place, through: u64, answer: Answer<()> },
    Erase { place: Place, answer: Answer<bool> },
}

impl Command {
    /// Bytes it occupies while it waits.
    pub fn weight(&self) -> usize {
        match self {
            // The value and the record it was made from.
            Self::Append { records, .. } => {
                256 + records.iter().map(|prepared| 2 * prepared.value.len() + 256).sum::<usize>()
            }
            Self::Trim { .. } | Self::Erase { .. } => 256,
        }
    }
}

/// An answer that waits for the disk. Dropped without being paid it tells the caller that the log
/// stopped.
enum Owed {
    Append(Answer<Vec<Outcome>>, Vec<Outcome>),
    Trim(Answer<()>),
    Erase(Answer<bool>, bool),
}

impl Owed {
    fn pay(self) {
        // A caller that went away has no use for its answer.
        match self {
            Self::Append(answer, outcomes) => drop(answer.send(Ok(outcomes))),
            Self::Trim(answer) => drop(answer.send(Ok(()))),
            Self::Erase(answer, done) => drop(answer.send(Ok(done))),
        }
    }
}

/// A topic's newest event, and the turn in which it was last changed.
struct TopicHead {
    mark: Mark,
    turn: u64,
}

/// A project that is changed in this turn.
struct Touched {
    before: u64,
    /// Its new events by hour, for the journal.
    runs: Vec<Run>,
    /// Its new events, if the feed wants them.
    events: Option<Vec<Arc<Event>>>,
}

pub(super) struct Writer {
    storage: Arc<Storage>,
    feeder: Arc<Feeder>,
    problem: watch::Sender<Option<String>>,
    dedupe_window: Duration,
    min_free_bytes: u64,
    projects: Recent<ProjectId, ProjectState>,
    topics: Recent<(u32, Topic), TopicHead>,
    reclaim: Reclaim,
    spent: Spent,
    numbers: Numbers,
    /// Events taken so far, over all projects: the number of the last entry of the journal.
    appended: u64,
    turn: u64,
}

/// What one turn collects.
struct Turn {
    batch: OwnedWriteBatch,
    touched: HashMap<ProjectId, Touched>,
    topics: Vec<(u32, Topic)>,
    ids: HashMap<Vec<u8>, IdUse>,
    /// When the newest record with an id of its publisher's was accepted.
    latest: Timestamp,
    owed: Vec<Owed>,
}

impl Writer {
    pub fn new(
        storage: Arc<Storage>,
        feeder: Arc<Feeder>,
        problem: watch::Sender<Option<String>>,
        options: &super::Options,
    ) -> Result<Self, LogError> {
        let (reclaim, numbers) = survey(&storage)?;
        let last = storage.journal.last_key_value().map(|entry| entry.key());
        let last = last.transpose().map_err(|error| failed("read", &error))?;
        Ok(Self {
            appended: last.map_or(Ok(0), |key| codec::journal_number(&key))?,
            numbers,
            reclaim,
            spent: Spent::default(),
            storage,
            feeder,
            problem,
            dedupe_window: options.dedupe_window,
            min_free_bytes: options.min_free_bytes,
            projects: Recent::new(PROJECTS),
            topics: Recent::new(TOPICS),
            turn: 0,
        })
    }

    /// Works until the queue is closed and empty.
    pub fn run(mut self, queue: &Queue) {
        let mut last = 0;
        while let Some(commands) = queue.take(self.is_idle(), last) {
            last = commands.len();
            if self.problem.borrow().is_some() {
                // Dropping the commands refuses them; see `Owed`.
                continue;
            }
            let done = self.turn(commands).and_then(|()| self.reclaim_some());
            if let Err(error) = done {
                last = 0;
                tracing::error!(%error, "the event log refuses appends until the process is started again");
            }
        }
        self.feeder.close();
    }

    fn is_idle(&self) -> bool {
        !(self.reclaim.has_work() && self.has_room_to_reclaim()) || self.problem.borrow().is_some()
    }

    /// Giving room back takes some first; without any it waits for others to make it.
    fn has_room_to_reclaim(&self) -> bool {
        self.storage.room().is_ok_and(|room| room > ROOM_TO_RECLAIM)
    }

    /// One batch. After an error nothing is written any more: nobody knows what is on the disk, and
    /// an fsync that failed once can succeed later without having written what it lost.
    fn turn(&mut self, commands: Vec<Command>) -> Result<(), LogError> {
        if commands.is_empty() {
            return Ok(());
        }
        self.turn += 1;
        self.projects.age();
        self.topics.age();
        let mut turn = Turn {
            batch: self.storage.db.batch().durability(Some(PersistMode::SyncData)),
            touched: HashMap::new(),
            topics: Vec::new(),
            ids: HashMap::new(),
            latest: Timestamp::from_micros(i64::MIN),
            owed: Vec::with_capacity(commands.len()),
        };
        let mut commands = commands.into_iter();
        let offers = self.write(&mut turn, &mut commands).inspect_err(|error| {
            // Before the answers are dropped: whoever finds one gone looks here for the reason.
            self.problem.send_replace(Some(format!("{error}; start the process again to recover")));
        })?;
        for owed in turn.owed {
            owed.pay();
        }
        self.feeder.offer(self.storage.epoch, offers);
        self.spent.look(&self.storage);
        Ok(())
    }

    /// Places every command and commits the batch.
    fn write(
        &mut self,
        turn: &mut Turn,
        commands: &mut impl Iterator<Item = Command>,
    ) -> Result<Vec<Offer>, LogError> {
        let full = self.full();
        for command in commands {
            match command {
                Command::Append { answer, .. } if full.is_some() => {
                    drop(answer.send(Err(full.clone().unwrap_or(LogError::Full(String::new())))));
                }
                Command::Append { place, records, answer } => {
                    self.place(turn, &place, records, answer)?;
                }
                // Trims are let through on a full disk: they are what makes room.
                Command::Trim { place, through, answer } => {
                    self.trim(turn, &place, through)?;
                    turn.owed.push(Owed::Trim(answer));
                }
                Command::Erase { place, answer } => {
                    let done = self.erase(turn, &place)?;
                    turn.owed.push(Owed::Erase(answer, done));
                }
            }
        }
        if turn.touched.is_empty() {
            // Repetitions, and what was refused: a full disk is not even asked to sync.
            return Ok(Vec::new());
        }
        let offers = self.finish(turn)?;
        let batch = std::mem::replace(&mut turn.batch, self.storage.db.batch());
        batch.commit().map_err(|error| failed("write", &error))?;
        Ok(offers)
    }

    /// The error for appends when the disk has less room than must stay free. Asked before each batch:
    /// a batch that fails half-way would end the log, one that is not begun costs nothing.
    fn full(&self) -> Option<LogError> {
        match self.storage.room() {
            Ok(room) if room < self.min_free_bytes => Some(LogError::Full(format!(
                "{room} bytes are free on the disk, {} must stay free: trim events or add space",
                self.min_free_bytes
            ))),
            // Without an answer the write itself will tell.
            _ => None,
        }
    }

    fn place(
        &mut self,
        turn: &mut Turn,
        place: &Place,
        records: Vec<Prepared>,
        answer: Answer<Vec<Outcome>>,
    ) -> Result<(), LogError> {
        let state = self.state(place)?;
        let number = state.number;
        if state.tenant != place.tenant {
            let refusal = format!("{} belongs to another tenant than {}", place.project, place.tenant);
            drop(answer.send(Err(LogError::Corrupt(refusal))));
            return Ok(());
        }
        let mut outcomes = Vec::with_capacity(records.len());
        for record in records {
            outcomes.push(self.append(turn, place, number, record)?);
        }
        turn.owed.push(Owed::Append(answer, outcomes));
        Ok(())
    }

    fn append(
        &mut self,
        turn: &mut Turn,
        place: &Place,
        number: u32,
        new: Prepared,
    ) -> Result<Outcome, LogError> {
        let Prepared { record, mut value, check, bytes, fingerprint } = new;
        let id = record.dedupe.then(|| codec::name_key(number, record.id.as_str()));
        if let Some(id) = &id
            && let Some(used) = self.id_use(turn, id)?
            && record.published_at.since(used.first.published_at) < self.dedupe_window
        {
            let repetition = used.fingerprint == fingerprint;
            return Ok(if repetition { self.appended(used.first, true) } else { Outcome::Conflict });
        }
        let state = self.state(place)?;
        let before = state.sequence;
        state.sequence += 1;
        state.check = check;
        state.latest = state.latest.max(record.published_at);
        let (floor, latest) = (state.floor, state.latest);
        let mark = Mark { sequence: before + 1, check, published_at: record.published_at };
        let previous = self.advance_topic(turn, number, &record.topic, mark)?;
        let previous = if previous > floor { previous } else { 0 };
        codec::settle(&mut value, previous, latest);
        turn.batch.insert(&self.storage.events, codec::event_key(number, mark.sequence), value);
        if let Some(id) = id {
            turn.latest = turn.latest.max(record.published_at);
            turn.ids.insert(id, IdUse { first: mark, fingerprint });
        }
        let touched = self.touch(turn, place.project, before);
        // The server's own events are nobody's usage.
        if !record.topic.is_system() {
            note(&mut touched.runs, place, mark, bytes);
        }
        if let Some(events) = &mut touched.events {
            events.push(Arc::new(event(place, mark.sequence, previous, record)));
        }
        Ok(self.appended(mark, false))
    }

    fn appended(&self, at: Mark, duplicate: bool) -> Outcome {
        let position = Position { epoch: self.storage.epoch, sequence: at.sequence, check: at.check };
        Outcome::Appended(Appended { position, published_at: at.published_at, duplicate })
    }

    /// Makes `mark` the newest of its topic; the sequence of the one before, or 0.
    fn advance_topic(
        &mut self,
        turn: &mut Turn,
        project: u32,
        topic: &Topic,
        mark: Mark,
    ) -> Result<u64, LogError> {
        let key = (project, topic.clone());
        let head = self.topics.get(&key, || {
            let stored = self.storage.topics.get(codec::name_key(project, topic.as_str()));
            let stored = stored.map_err(|error| failed("read", &error))?;
            let mark = stored.map(|value| Mark::decode(&value)).transpose()?;
            let nothing = Mark { sequence: 0, check: 0, published_at: Timestamp::default() };
            Ok(TopicHead { mark: mark.unwrap_or(nothing), turn: 0 })
        })?;
        let previous = head.mark.sequence;
        head.mark = mark;
        if head.turn != self.turn {
            head.turn = self.turn;
            turn.topics.push(key);
        }
        Ok(previous)
    }

    /// The first use of an id, in this turn or before.
    fn id_use(&self, turn: &Turn, id: &[u8]) -> Result<Option<IdUse>, LogError> {
        if let Some(used) = turn.ids.get(id) {
            return Ok(Some(*used));
        }
        let stored = self.storage.ids.get(id).map_err(|error| failed("read", &error))?;
        stored.map(|value| IdUse::decode(&value)).transpose()
    }

    fn state(&mut self, place: &Place) -> Result<&mut ProjectState, LogError> {
        self.projects.get(&place.project, || {
            let stored = self.storage.projects.get(place.project.uuid().as_bytes());
            let stored = stored.map_err(|error| failed("read", &error))?;
            let state = stored.map(|value| ProjectState::decode(&value)).transpose()?;
            state.map_or_else(|| self.numbers.next(place.tenant), Ok)
        })
    }

    fn touch<'a>(&self, turn: &'a mut Turn, project: ProjectId, before: u64) -> &'a mut Touched {
        turn.touched.entry(project).or_insert_with(|| Touched {
            before,
            runs: Vec::new(),
            events: self.feeder.wants(project).then(Vec::new),
        })
    }

    fn trim(&mut self, turn: &mut Turn, place: &Place, through: u64) -> Result<(), LogError> {
        let state = self.state(place)?;
        let floor = through.min(state.sequence);
        if state.tenant == place.tenant && floor > state.floor {
            state.floor = floor;
            let head = state.sequence;
            self.touch(turn, place.project, head);
            self.reclaim.add(place.project);
        }
        Ok(())
    }

    /// Forgets all events of a project and some of its ids; whether nothing is left. What is below the floor is given
    /// back after this batch and the next ones.
    fn erase(&mut self, turn: &mut Turn, place: &Place) -> Result<bool, LogError> {
        let stored = self.storage.projects.get(place.project.uuid().as_bytes());
        if stored.map_err(|error| failed("read", &error))?.is_none() {
            return Ok(true);
        }
        self.trim(turn, place, u64::MAX)?;
        let state = *self.state(place)?;
        if state.tenant != place.tenant {
            return Ok(true);
        }
        let ids = self.reclaim.forget_ids_of(&self.storage, &mut turn.batch, state.number)?;
        Ok(ids == 0 && state.reclaimed == state.floor && !self.reclaim.works_on(place.project))
    }

    /// Adds what changed besides the events, and tells what to offer to the feed.
    fn finish(&mut self, turn: &mut Turn) -> Result<Vec<Offer>, LogError> {
        for key in turn.topics.drain(..) {
            let head = self.topics.get(&key, || Err(missing("topic")))?;
            let name = codec::name_key(key.0, key.1.as_str());
            turn.batch.insert(&self.storage.topics, name, head.mark.encode());
        }
        let mut written = Vec::new();
        for (id, used) in turn.ids.drain() {
            codec::push_key(&mut written, &id);
            turn.batch.insert(&self.storage.ids, id, used.encode());
        }
        let mut offers = Vec::with_capacity(turn.touched.len());
        for (project, touched) in turn.touched.drain() {
            for run in &touched.runs {
                self.appended += run.events;
                let key = codec::journal_key(self.appended);
                turn.batch.insert(&self.storage.journal, key, codec::encode_run(run));
            }
            let state = self.projects.get(&project, || Err(missing("project")))?;
            turn.batch.insert(&self.storage.projects, project.uuid().as_bytes(), state.encode());
            if !written.is_empty() {
                let key = codec::expiry_key(turn.latest, state.number, state.sequence);
                turn.batch.insert(&self.storage.expiry, key, std::mem::take(&mut written));
                self.reclaim.ids_were_written(turn.latest);
            }
            let head = self.storage.head(Some(state));
            offers.push(Offer { project, before: touched.before, head, events: touched.events });
        }
        Ok(offers)
    }

    /// Gives back a bounded amount of room.
    fn reclaim_some(&mut self) -> Result<(), LogError> {
        if !self.has_room_to_reclaim() {
            return Ok(());
        }
        let storage = &self.storage;
        let projects = &mut self.projects;
        let done = self.reclaim.step(storage, self.dedupe_window, |project| {
            projects.get(&project, || {
                let stored = storage.projects.get(project.uuid().as_bytes());
                let stored = stored.map_err(|error| failed("read", &error))?;
                ProjectState::decode(&stored.ok_or_else(|| missing("project"))?)
            })
        });
        done.inspect_err(|error| {
            self.problem.send_replace(Some(format!("{error}; start the process again to recover")));
        })
    }
}

/// The numbers that stand for projects in keys, given out in order.
struct Numbers(u32);

impl Numbers {
    fn next(&mut self, tenant: TenantId) -> Result<ProjectState, LogError> {
        self.0 = self.0.checked_add(1).ok_or_else(|| LogError::Full("4294967295 projects".into()))?;
        Ok(ProjectState::new(self.0, tenant))
    }
}

/// Looks through the projects once, when the log is opened: which trims are unfinished, and which
/// numbers are taken.
fn survey(storage: &Storage) -> Result<(Reclaim, Numbers), LogError> {
    let (mut reclaim, mut numbers) = (Reclaim::default(), Numbers(0));
    for entry in storage.projects.iter() {
        let (key, value) = entry.into_inner().map_err(|error| failed("read", &error))?;
        let state = ProjectState::decode(&value)?;
        numbers.0 = numbers.0.max(state.number);
        if state.reclaimed < state.floor {
            let id = Uuid::from_slice(&key)
                .map_err(|_| LogError::Corrupt("a project has a malformed key".into()))?;
            reclaim.add(ProjectId::from_uuid(id));
        }
    }
    Ok((reclaim, numbers))
}

/// Adds one event to what a batch brings of a project.
fn note(runs: &mut Vec<Run>, place: &Place, at: Mark, bytes: u64) {
    let hour = at.published_at.hour();
    match runs.last_mut() {
        Some(run) if run.hour == hour && run.last + 1 == at.sequence => {
            (run.last, run.events, run.bytes) = (at.sequence, run.events + 1, run.bytes + bytes);
        }
        _ => {
            let (first, last) = (at.sequence, at.sequence);
            let Place { tenant, project, .. } = *place;
            runs.push(Run { tenant, project, hour, first, last, events: 1, bytes });
        }
    }
}

fn missing(what: &str) -> LogError {
    LogError::Corrupt(format!("a {what} that was just used is missing"))
}

fn event(place: &Place, sequence: u64, previous: u64, record: Record) -> Event {
    let Record { id, topic, payload, kind, headers, published_at, dedupe: _ } = record;
    let (tenant, project) = (place.tenant, place.project);
    Event { tenant, project, sequence, previous, id, topic, payload, kind, headers, published_at }
}
