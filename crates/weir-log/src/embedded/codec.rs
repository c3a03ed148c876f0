//! How keys and values are laid out on disk. Integers are big-endian, so keys sort by number.
//!
//! ```text
//!   keyspace  key                            value
//!   projects  id of the project 16           version · number 4 · tenant 16 · floor 8 · reclaimed 8 ·
//!                                            sequence 8 · check 4 · latest 8
//!   events    number 4 · sequence 8          an event, see below
//!   topics    number 4 · topic               version · sequence 8 · check 4 · published_at 8
//!   ids       number 4 · id                  version · sequence 8 · check 4 · published_at 8 · fingerprint 8
//!   expiry    published_at 8 · number 4 ·    keys of `ids` entries written together, each after its
//!             sequence 8                     length 2
//!   journal   number 8                       version · project 16 · tenant 16 · hour 8 · first 8 · last 8 · bytes 8
//!   meta      "epoch"                        version · epoch 8
//!
//!   event:    version 1 · previous 8 · latest 8 · published_at 8 · lengths of id, topic, kind 1 each
//!             (kind 0: none) · headers 1 · id · topic · kind · headers (length of name 2, of value 2,
//!             name, value) · payload
//! ```
//! `latest` is the greatest `published_at` in the project so far: it never sinks, whatever the clocks
//! did, so a time is found by binary search. An entry of the journal stands for the events of one project that a batch
//! brought, by hour; its number is how many events the log had taken with them, over all projects. A project's number is its own in this log only: short
//! keys of up to 20 bytes stand in the nodes of the store's tables, longer ones behind a pointer.

use crate::{LogError, Record, Run};
use bytes::Bytes;
use std::collections::HashMap;
use uuid::Uuid;
use weir_core::event::{Headers, check};
use weir_core::{Event, EventId, Payload, ProjectId, TenantId, Timestamp, Topic};

const VERSION: u8 = 1;
const FIXED: usize = 29;

/// The bytes of a project's number at the front of a key.
pub(super) const NUMBER: usize = 4;

pub(super) fn event_key(project: u32, sequence: u64) -> [u8; NUMBER + 8] {
    let mut key = [0; NUMBER + 8];
    key[..NUMBER].copy_from_slice(&project.to_be_bytes());
    key[NUMBER..].copy_from_slice(&sequence.to_be_bytes());
    key
}

/// The key of a topic or of an id in a project.
pub(super) fn name_key(project: u32, name: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(NUMBER + name.len());
    key.extend_from_slice(&project.to_be_bytes());
    key.extend_from_slice(name.as_bytes());
    key
}

/// The key that sorts after every name of the project.
pub(super) fn names_end(project: u32) -> Vec<u8> {
    let mut key = project.to_be_bytes().to_vec();
    key.push(0xff);
    key
}

pub(super) fn expiry_key(published_at: Timestamp, project: u32, sequence: u64) -> [u8; NUMBER + 16] {
    let mut key = [0; NUMBER + 16];
    // Flipping the sign bit makes times before 1970 sort first.
    key[..8].copy_from_slice(&(published_at.micros() ^ i64::MIN).to_be_bytes());
    key[8..].copy_from_slice(&event_key(project, sequence));
    key
}

/// The key of a journal entry.
pub(super) const fn journal_key(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

/// The number in the key of a journal entry.
pub(super) fn journal_number(key: &[u8]) -> Result<u64, LogError> {
    Fields::new(key, "journal key").u64()
}

pub(super) fn encode_run(run: &Run) -> Vec<u8> {
    let mut out = Vec::with_capacity(65);
    out.push(VERSION);
    out.extend_from_slice(run.project.uuid().as_bytes());
    out.extend_from_slice(run.tenant.uuid().as_bytes());
    out.extend_from_slice(&run.hour.micros().to_be_bytes());
    out.extend_from_slice(&run.first.to_be_bytes());
    out.extend_from_slice(&run.last.to_be_bytes());
    out.extend_from_slice(&run.bytes.to_be_bytes());
    out
}

pub(super) fn decode_run(value: &[u8]) -> Result<Run, LogError> {
    let mut fields = Fields::new(value, "journal entry");
    fields.version()?;
    let project = ProjectId::from_uuid(Uuid::from_bytes(fields.array()?));
    let tenant = TenantId::from_uuid(Uuid::from_bytes(fields.array()?));
    let (hour, first, last) = (fields.time()?, fields.u64()?, fields.u64()?);
    // Entries from before bytes were counted have none.
    let bytes = if fields.rest.is_empty() { 0 } else { fields.u64()? };
    // Sequences have no gaps here.
    let events = last.checked_sub(first).and_then(|more| more.checked_add(1));
    let events = events.ok_or_else(|| damaged("journal entry", format_args!("{last} before {first}")))?;
    Ok(Run { tenant, project, hour, first, last, events, bytes })
}

/// The time in an expiry key.
pub(super) fn expiry_time(key: &[u8]) -> Result<Timestamp, LogError> {
    Ok(Timestamp::from_micros(Fields::new(key, "expiry key").i64()? ^ i64::MIN))
}

/// What is known of a project.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ProjectState {
    /// Stands for the project in keys.
    pub number: u32,
    pub tenant: TenantId,
    /// The last sequence that is out of range.
    pub floor: u64,
    /// The last sequence whose room was given back; at most `floor`.
    pub reclaimed: u64,
    pub sequence: u64,
    pub check: u32,
    pub latest: Timestamp,
}

impl ProjectState {
    /// A project without events.
    pub const fn new(number: u32, tenant: TenantId) -> Self {
        let latest = Timestamp::from_micros(i64::MIN);
        Self { number, tenant, floor: 0, reclaimed: 0, sequence: 0, check: 0, latest }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.number.to_be_bytes());
        out.extend_from_slice(self.tenant.uuid().as_bytes());
        for number in [self.floor, self.reclaimed, self.sequence] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.extend_from_slice(&self.check.to_be_bytes());
        out.extend_from_slice(&self.latest.micros().to_be_bytes());
        out
    }

    pub fn decode(value: &[u8]) -> Result<Self, LogError> {
        let mut fields = Fields::new(value, "project");
        fields.version()?;
        Ok(Self {
            number: fields.u32()?,
            tenant: TenantId::from_uuid(Uuid::from_bytes(fields.array()?)),
            floor: fields.u64()?,
            reclaimed: fields.u64()?,
            sequence: fields.u64()?,
            check: fields.u32()?,
            latest: fields.time()?,
        })
    }
}

/// Where an event stands and when it was accepted: the newest of a topic, or the first of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub sequence: u64,
    pub check: u32,
    pub published_at: Timestamp,
}

impl Mark {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(29);
        out.push(VERSION);
        out.extend_from_slice(&self.sequence.to_be_bytes());
        out.extend_from_slice(&self.check.to_be_bytes());
        out.extend_from_slice(&self.published_at.micros().to_be_bytes());
        out
    }

    pub fn decode(value: &[u8]) -> Result<Self, LogError> {
        Self::fields(&mut Fields::new(value, "topic head"))
    }

    fn fields(fields: &mut Fields) -> Result<Self, LogError> {
        fields.version()?;
        Ok(Self { sequence: fields.u64()?, check: fields.u32()?, published_at: fields.time()? })
    }
}

/// The first use of a publisher's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IdUse {
    pub first: Mark,
    pub fingerprint: u64,
}

impl IdUse {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.first.encode();
        out.extend_from_slice(&self.fingerprint.to_be_bytes());
        out
    }

    pub fn decode(value: &[u8]) -> Result<Self, LogError> {
        let mut fields = Fields::new(value, "id");
        Ok(Self { first: Mark::fields(&mut fields)?, fingerprint: fields.u64()? })
    }
}

/// Adds a key to the value of an expiry entry.
pub(super) fn push_key(list: &mut Vec<u8>, key: &[u8]) {
    // An id has at most 128 bytes, so the length always fits.
    list.extend_from_slice(&u16::try_from(key.len()).unwrap_or(u16::MAX).to_be_bytes());
    list.extend_from_slice(key);
}

/// The keys in the value of an expiry entry.
pub(super) fn keys(list: &[u8]) -> Result<Vec<&[u8]>, LogError> {
    let mut fields = Fields::new(list, "expiry");
    let mut keys = Vec::new();
    while !fields.rest.is_empty() {
        let length = fields.u16()?;
        keys.push(fields.take(length.into())?);
    }
    Ok(keys)
}

pub(super) fn encode_epoch(epoch: u64) -> Vec<u8> {
    let mut out = vec![VERSION];
    out.extend_from_slice(&epoch.to_be_bytes());
    out
}

pub(super) fn decode_epoch(value: &[u8]) -> Result<u64, LogError> {
    let mut fields = Fields::new(value, "epoch");
    fields.version()?;
    fields.u64()
}

/// The stored form of a record whose place is not known yet; [`settle`] fills that in.
pub(super) fn encode_record(record: &Record) -> Vec<u8> {
    let kind = record.kind.as_ref().map_or("", |kind| kind.as_str());
    let headers: usize = record.headers.pairs().iter().map(|(n, v)| 4 + n.len() + v.len()).sum();
    let names = record.id.as_str().len() + record.topic.as_str().len() + kind.len();
    let mut out = Vec::with_capacity(FIXED + names + headers + record.payload.len());
    out.push(VERSION);
    out.extend_from_slice(&[0; 16]);
    out.extend_from_slice(&record.published_at.micros().to_be_bytes());
    // The types of weir-core bound all of these: 128, 200 and 128 bytes, 32 headers, 4096 bytes in them.
    let short = |length: usize| u8::try_from(length).unwrap_or(u8::MAX);
    let long = |length: usize| u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
    out.push(short(record.id.as_str().len()));
    out.push(short(record.topic.as_str().len()));
    out.push(short(kind.len()));
    out.push(short(record.headers.pairs().len()));
    out.extend_from_slice(record.id.as_str().as_bytes());
    out.extend_from_slice(record.topic.as_str().as_bytes());
    out.extend_from_slice(kind.as_bytes());
    for (name, value) in record.headers.pairs() {
        out.extend_from_slice(&long(name.len()));
        out.extend_from_slice(&long(value.len()));
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(value.as_bytes());
    }
    out.extend_from_slice(record.payload.as_bytes());
    out
}

/// Completes what [`encode_record`] left open.
pub(super) fn settle(value: &mut [u8], previous: u64, latest: Timestamp) {
    value[1..9].copy_from_slice(&previous.to_be_bytes());
    value[9..17].copy_from_slice(&latest.micros().to_be_bytes());
}

/// A stored event, looked at in place.
pub(super) struct StoredEvent<'a> {
    previous: u64,
    pub latest: Timestamp,
    published_at: Timestamp,
    id: &'a str,
    pub topic: &'a str,
    kind: &'a str,
    headers: u8,
    rest: Fields<'a>,
}

impl<'a> StoredEvent<'a> {
    pub fn parse(value: &'a [u8]) -> Result<Self, LogError> {
        let mut fields = Fields::new(value, "event");
        fields.version()?;
        let previous = fields.u64()?;
        let latest = fields.time()?;
        let published_at = fields.time()?;
        let [id, topic, kind, headers] = fields.array()?;
        Ok(Self {
            previous,
            latest,
            published_at,
            id: fields.text(id.into())?,
            topic: fields.text(topic.into())?,
            kind: fields.text(kind.into())?,
            headers,
            rest: fields,
        })
    }

    pub fn check(&self) -> Result<u32, LogError> {
        Ok(check(&self.event_id()?, self.published_at))
    }

    fn event_id(&self) -> Result<EventId, LogError> {
        self.id.parse().map_err(|error| damaged("event id", error))
    }

    /// The event, whole. `topics` shares the text of topics between the events of a page.
    pub fn event(
        mut self,
        tenant: TenantId,
        project: ProjectId,
        sequence: u64,
        topics: &mut Topics,
    ) -> Result<Event, LogError> {
        let kind = match self.kind {
            "" => None,
            kind => Some(kind.parse().map_err(|error| damaged("event type", error))?),
        };
        let mut pairs = Vec::with_capacity(self.headers.into());
        for _ in 0..self.headers {
            let (name, value) = (self.rest.u16()?, self.rest.u16()?);
            pairs.push((self.rest.text(name.into())?.to_owned(), self.rest.text(value.into())?.to_owned()));
        }
        Ok(Event {
            tenant,
            project,
            sequence,
            previous: self.previous,
            id: self.event_id()?,
            topic: topics.get(self.topic)?,
            // A copy of its own: a slice would keep the whole block of the store in memory.
            payload: Payload::stored(Bytes::copy_from_slice(self.rest.rest)),
            kind,
            headers: Headers::stored(pairs),
            published_at: self.published_at,
        })
    }
}

/// The topics of one page.
#[derive(Default)]
pub(super) struct Topics(HashMap<Box<str>, Topic>);

impl Topics {
    pub fn get(&mut self, text: &str) -> Result<Topic, LogError> {
        if let Some(topic) = self.0.get(text) {
            return Ok(topic.clone());
        }
        let topic: Topic = text.parse().map_err(|error| damaged("topic", error))?;
        self.0.insert(text.into(), topic.clone());
        Ok(topic)
    }
}

fn damaged(what: &str, why: impl std::fmt::Display) -> LogError {
    LogError::Corrupt(format!("a stored {what} cannot be read: {why}"))
}

/// Reads fields off the front of a value.
struct Fields<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Fields<'a> {
    const fn new(rest: &'a [u8], what: &'static str) -> Self {
        Self { rest, what }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], LogError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or_else(|| {
            damaged(self.what, format_args!("{length} bytes are needed, {} are left", self.rest.len()))
        })?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], LogError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    fn version(&mut self) -> Result<(), LogError> {
        match self.array()? {
            [VERSION] => Ok(()),
            [other] => Err(damaged(
                self.what,
                format_args!("format {other} is unknown; this program writes {VERSION}"),
            )),
        }
    }

    fn u16(&mut self) -> Result<u16, LogError> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, LogError> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, LogError> {
        self.array().map(u64::from_be_bytes)
    }

    fn i64(&mut self) -> Result<i64, LogError> {
        self.array().map(i64::from_be_bytes)
    }

    fn time(&mut self) -> Result<Timestamp, LogError> {
        self.i64().map(Timestamp::from_micros)
    }

    fn text(&mut self, length: usize) -> Result<&'a str, LogError> {
        std::str::from_utf8(self.take(length)?).map_err(|error| damaged(self.what, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record() -> impl Strategy<Value = Record> {
        let pairs = proptest::collection::vec(("[a-z-]{1,9}", "\\PC{0,20}"), 0..4);
        let kind = proptest::option::of("[!-~]{1,128}");
        ("[!-~]{1,128}", "[a-z]{1,9}(\\.[A-Z0-9]{1,9}){0,7}", "\\PC{0,300}", kind, pairs, any::<i64>())
            .prop_map(|(id, topic, text, kind, pairs, time)| Record {
                id: id.parse().expect("id"),
                dedupe: false,
                topic: topic.parse().expect("topic"),
                payload: Payload::stored(format!("{text:?}").into()),
                kind: kind.map(|kind| kind.parse().expect("type")),
                headers: Headers::stored(pairs),
                published_at: Timestamp::from_micros(time),
            })
    }

    proptest! {
        #[test]
        fn events_read_back(record in record(), previous: u64, latest: i64) {
            let mut value = encode_record(&record);
            settle(&mut value, previous, Timestamp::from_micros(latest));
            let stored = StoredEvent::parse(&value).expect("parse");
            prop_assert_eq!(stored.latest.micros(), latest);
            prop_assert_eq!(stored.check().expect("check"), check(&record.id, record.published_at));
            let (tenant, project) = (TenantId::new(), ProjectId::new());
            let event = stored.event(tenant, project, 7, &mut Topics::default()).expect("event");
            let Record { id, topic, payload, kind, headers, published_at, .. } = record;
            let whole =
                Event { tenant, project, sequence: 7, previous, id, topic, payload, kind, headers, published_at };
            prop_assert_eq!(event, whole);
        }

        #[test]
        fn damage_is_an_error_and_never_a_panic(
            record in record(),
            edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut value = encode_record(&record);
            for (at, byte) in edits {
                let at = at.index(value.len());
                value[at] = byte;
            }
            value.truncate(cut.index(value.len() + 1));
            if let Ok(stored) = StoredEvent::parse(&value) {
                let _ = stored.event(TenantId::new(), ProjectId::new(), 1, &mut Topics::default());
            }
            let _ = (ProjectState::decode(&value), Mark::decode(&value), IdUse::decode(&value));
            let _ = (keys(&value), decode_epoch(&value), expiry_time(&value), decode_run(&value));
        }
    }

    #[test]
    fn small_values_read_back() {
        let mark = Mark { sequence: 3, check: 4, published_at: Timestamp::from_micros(-5) };
        assert_eq!(Mark::decode(&mark.encode()).expect("mark"), mark);
        let used = IdUse { first: mark, fingerprint: 9 };
        assert_eq!(IdUse::decode(&used.encode()).expect("id"), used);
        let state =
            ProjectState { floor: 1, reclaimed: 2, sequence: 3, ..ProjectState::new(7, TenantId::new()) };
        assert_eq!(ProjectState::decode(&state.encode()).expect("project"), state);
        let (tenant, project, hour) = (TenantId::new(), ProjectId::new(), Timestamp::from_seconds(3600));
        let run = Run { tenant, project, hour, first: 5, last: 7, events: 3, bytes: 99 };
        assert_eq!(decode_run(&encode_run(&run)).expect("run"), run);
        assert_eq!(journal_number(&journal_key(9)).expect("number"), 9);
        assert!(decode_run(&encode_run(&Run { last: 4, ..run })).is_err());
        assert_eq!(decode_epoch(&encode_epoch(11)).expect("epoch"), 11);
        let mut list = Vec::new();
        push_key(&mut list, b"one");
        push_key(&mut list, b"");
        assert_eq!(keys(&list).expect("keys"), [&b"one"[..], b""]);
        assert!(matches!(Mark::decode(&[2; 40]), Err(LogError::Corrupt(_))));
    }

    #[test]
    fn expiry_keys_sort_by_time() {
        let times = [i64::MIN, -1, 0, 1, i64::MAX].map(Timestamp::from_micros);
        let keys = times.map(|time| expiry_key(time, 1, 1));
        assert!(keys.is_sorted());
        assert_eq!(keys.map(|key| expiry_time(&key).expect("time")), times);
    }
}
