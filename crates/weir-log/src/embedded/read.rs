//! Reads: each looks at one snapshot, so floor, head and events belong together.

use super::codec::{self, Mark, ProjectState, StoredEvent, Topics};
use super::storage::{Storage, failed};
use crate::walk::Runs;
use crate::{Bounds, Inspection, LogError, Milestone, Page, Place, ReadQuery, TopicHead, Walked};
use fjall::{Readable, Snapshot};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use weir_core::{Position, Timestamp, Topic};

/// How many stored events, and bytes of them, one page looks at: a pattern that selects little must
/// not hold a thread for the length of the log.
const SCAN_EVENTS: usize = 20_000;
const SCAN_BYTES: usize = 16 << 20;
/// How many entries of the journal one walk looks at.
const WALK_ENTRIES: usize = 4096;
/// How many events that cannot be read are looked at to find the last of them.
const LOST_LOOKS: usize = 10_000;

impl Storage {
    /// The project as this tenant may see it: another tenant's project does not exist for it.
    fn seen(&self, at: &Snapshot, place: &Place) -> Result<Option<ProjectState>, LogError> {
        Ok(self.project(at, place.project)?.filter(|state| state.tenant == place.tenant))
    }

    pub fn page(&self, place: &Place, query: &ReadQuery) -> Result<Page, LogError> {
        let at = self.snapshot();
        let state = self.seen(&at, place)?;
        let mut page = Page { events: Vec::new(), through: query.after, at_head: true };
        let Some(state) = state else { return Ok(page) };
        if query.after < state.floor {
            return Err(LogError::OutOfRange { floor: state.floor });
        }
        if query.after < state.sequence {
            let filled = self.fill(&at, place, &state, query, &mut page);
            // What stands before damage is given first.
            if page.through == query.after {
                filled?;
            }
            page.at_head = page.through == state.sequence;
        }
        Ok(page)
    }

    fn fill(
        &self,
        at: &Snapshot,
        place: &Place,
        state: &ProjectState,
        query: &ReadQuery,
        page: &mut Page,
    ) -> Result<(), LogError> {
        let mut filling =
            Filling { place, state, query, page, topics: Topics::default(), weight: 0, looked: (0, 0) };
        let first = codec::event_key(state.number, query.after + 1);
        let last = codec::event_key(state.number, state.sequence);
        for entry in at.range(&self.events, first..=last) {
            // The store looks ahead, and fails before it is where it cannot read.
            let Ok((key, value)) = entry.into_inner() else { break };
            if sequence_of(&key)? != filling.next() {
                break;
            }
            if filling.take(&value)? {
                return Ok(());
            }
        }
        loop {
            let next = filling.next();
            let value = at.get(&self.events, codec::event_key(state.number, next));
            let value = value.map_err(|error| self.unreadable(at, place, state, next, &error))?;
            if filling.take(&value.ok_or_else(|| missing(place, next, state))?)? {
                return Ok(());
            }
        }
    }

    /// What the store cannot read from an event on, with the numbers that an operator needs to let go of it. Events lie in
    /// blocks, which are whole or not at all, so neighbours are lost together.
    fn unreadable(
        &self,
        at: &Snapshot,
        place: &Place,
        state: &ProjectState,
        first: u64,
        error: &fjall::Error,
    ) -> LogError {
        let lost = |sequence: &u64| at.get(&self.events, codec::event_key(state.number, *sequence)).is_err();
        let last = (first..=state.sequence).take(LOST_LOOKS).take_while(lost).last();
        match (failed("read", error), last) {
            (LogError::Corrupt(why), Some(last)) if last > first => {
                LogError::Corrupt(format!("events {first} to {last} of {}: {why}", place.project))
            }
            (error, _) => named(error, place, first),
        }
    }

    /// The last committed position of the project.
    pub fn committed_head(&self, place: &Place) -> Result<Position, LogError> {
        Ok(self.head(self.seen(&self.snapshot(), place)?.as_ref()))
    }

    pub fn inspection(&self, place: &Place, sequence: u64) -> Result<Inspection, LogError> {
        let at = self.snapshot();
        let state = self.seen(&at, place)?;
        let bounds = Bounds { floor: state.map_or(0, |s| s.floor), head: self.head(state.as_ref()) };
        let retained = |state: &ProjectState| sequence > state.floor && sequence <= state.sequence;
        let check = match state.filter(retained) {
            None => None,
            Some(state) => {
                let check = self.event(&at, state.number, sequence, |stored| stored.check());
                let check = check.map_err(|error| named(error, place, sequence))?;
                Some(check.ok_or_else(|| missing(place, sequence, &state))?)
            }
        };
        Ok(Inspection { bounds, check })
    }

    /// Looks at one stored event.
    fn event<T>(
        &self,
        at: &Snapshot,
        project: u32,
        sequence: u64,
        look: impl FnOnce(StoredEvent) -> Result<T, LogError>,
    ) -> Result<Option<T>, LogError> {
        let key = codec::event_key(project, sequence);
        let value = at.get(&self.events, key).map_err(|error| failed("read", &error))?;
        value.map(|value| look(StoredEvent::parse(&value)?)).transpose()
    }

    /// Binary search: sequences have no gaps here and `latest` never sinks.
    pub fn located(&self, place: &Place, time: Timestamp) -> Result<u64, LogError> {
        let at = self.snapshot();
        let Some(state) = self.seen(&at, place)? else { return Ok(0) };
        // Invariant: everything up to `before` is earlier; everything after `last` is not.
        let (mut before, mut last) = (state.floor, state.sequence);
        while before < last {
            let middle = before + (last - before).div_ceil(2);
            let latest = self.event(&at, state.number, middle, |stored| Ok(stored.latest));
            let latest = latest.map_err(|error| named(error, place, middle))?;
            let latest = latest.ok_or_else(|| missing(place, middle, &state))?;
            if latest < time {
                before = middle;
            } else {
                last = middle - 1;
            }
        }
        Ok(before)
    }

    /// What the journal says after a milestone. The first entry after a hole tells how many events it stands for itself, so
    /// what is lost before it is known.
    pub fn walk(&self, after: Option<Milestone>) -> Result<Walked, LogError> {
        let at = self.snapshot();
        let last = at.last_key_value(&self.journal).map(|entry| entry.key());
        let last = last.transpose().map_err(|error| failed("read", &error))?;
        let head = last.map_or(Ok(0), |key| codec::journal_number(&key))?;
        let Some(after) = after.filter(|after| after.epoch == self.epoch) else {
            return Ok(Walked::ends(self.epoch, 0, head));
        };
        self.walked.fetch_max(after.number.min(head), Ordering::Relaxed);
        let mut walked = Walked::ends(self.epoch, after.number, head);
        let mut runs = Runs::default();
        let Some(next) = after.number.checked_add(1) else { return Ok(walked) };
        for entry in at.range(&self.journal, codec::journal_key(next)..).take(WALK_ENTRIES) {
            let (key, value) = entry.into_inner().map_err(|error| failed("read", &error))?;
            let (number, run) = (codec::journal_number(&key)?, codec::decode_run(&value)?);
            // An entry that begins before the milestone cannot be: milestones are what this function returned.
            walked.lost += number.saturating_sub(walked.through.number).saturating_sub(run.events);
            walked.through.number = number;
            runs.add(run);
        }
        walked.runs = runs.into_vec();
        Ok(walked)
    }

    pub fn topic_heads(
        &self,
        place: &Place,
        after: Option<&Topic>,
        limit: usize,
    ) -> Result<Vec<TopicHead>, LogError> {
        let at = self.snapshot();
        let Some(state) = self.seen(&at, place)? else { return Ok(Vec::new()) };
        let mut start = codec::name_key(state.number, after.map_or("", Topic::as_str));
        if after.is_some() {
            start.push(0);
        }
        let (mut heads, mut topics) = (Vec::new(), Topics::default());
        for entry in at.range(&self.topics, start..codec::names_end(state.number)) {
            if heads.len() >= limit {
                break;
            }
            let (key, value) = entry.into_inner().map_err(|error| failed("read", &error))?;
            let Mark { sequence, check, published_at } = Mark::decode(&value)?;
            if sequence > state.floor {
                let head = Position { epoch: self.epoch, sequence, check };
                heads.push(TopicHead { topic: topics.get(name_of(&key)?)?, head, published_at });
            }
        }
        Ok(heads)
    }
}

/// A page that is being filled.
struct Filling<'a> {
    place: &'a Place,
    state: &'a ProjectState,
    query: &'a ReadQuery,
    page: &'a mut Page,
    topics: Topics,
    weight: usize,
    /// Events that were looked at, and their bytes.
    looked: (usize, usize),
}

impl Filling<'_> {
    /// The event that belongs next.
    const fn next(&self) -> u64 {
        self.page.through + 1
    }

    /// Takes it; whether that is enough.
    fn take(&mut self, value: &[u8]) -> Result<bool, LogError> {
        let (sequence, query) = (self.next(), self.query);
        let named = |error| named(error, self.place, sequence);
        let stored = StoredEvent::parse(value).map_err(named)?;
        if query.patterns.iter().any(|pattern| pattern.matches(stored.topic)) {
            let event = stored.event(self.place.tenant, self.place.project, sequence, &mut self.topics);
            let event = event.map_err(named)?;
            self.weight += event.weight();
            if !self.page.events.is_empty() && self.weight > query.max_bytes {
                return Ok(true);
            }
            self.page.events.push(Arc::new(event));
        }
        self.page.through = sequence;
        self.looked = (self.looked.0 + 1, self.looked.1 + value.len());
        let full = self.page.events.len() >= query.max_events.max(1);
        let looked = self.looked.0 >= SCAN_EVENTS || self.looked.1 >= SCAN_BYTES;
        Ok(full || looked || sequence == self.state.sequence)
    }
}

/// Damage with its place: what an operator needs to let go of it.
fn named(error: LogError, place: &Place, sequence: u64) -> LogError {
    match error {
        LogError::Corrupt(why) => LogError::Corrupt(format!("event {sequence} of {}: {why}", place.project)),
        other => other,
    }
}

/// A hole in what must be without holes.
fn missing(place: &Place, sequence: u64, state: &ProjectState) -> LogError {
    let (floor, head) = (state.floor, state.sequence);
    LogError::Corrupt(format!("event {sequence} of {} is missing between {floor} and {head}", place.project))
}

/// The sequence in the key of an event.
pub(super) fn sequence_of(key: &[u8]) -> Result<u64, LogError> {
    let bytes = key.get(codec::NUMBER..).and_then(|rest| rest.try_into().ok());
    bytes.map(u64::from_be_bytes).ok_or_else(|| LogError::Corrupt("an event has a malformed key".into()))
}

/// The name in the key of a topic.
fn name_of(key: &[u8]) -> Result<&str, LogError> {
    let text = key.get(codec::NUMBER..).and_then(|rest| std::str::from_utf8(rest).ok());
    text.ok_or_else(|| LogError::Corrupt("a topic has a malformed key".into()))
}
