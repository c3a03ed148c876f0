//! Reading: pages, ends, positions in time, topics.
//!
//! What can be had from any replica comes from there in batches; what must be the latest (the head, a
//! floor) is asked of the leader. A replica may lag, so "there is no more" is only believed up to what
//! the leader knew before.

use super::api::{BATCH, Batch, LAG_PAUSE, Wanted};
use super::floors::Floor;
use super::message::Stored;
use super::stream::{Known, Layout, Stream};
use super::{Core, api::Api};
use crate::{Bounds, Inspection, LogError, Page, Place, ReadQuery, TopicHead};
use futures::TryStreamExt;
use serde_json::json;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use weir_core::{Event, Position, Timestamp, Topic};

/// How often a replica that seems to lag is asked again.
const LAG_RETRIES: usize = 100;

impl Stream {
    /// The project's newest message, as the leader knows it.
    pub async fn newest(&self, place: &Place) -> Result<Option<Stored>, LogError> {
        let subject = self.layout.subject(place, ">");
        self.api.leader_get(&self.layout.name, Wanted::Last(&subject)).await
    }

    /// Up to `count` messages from `from` on whose subjects match.
    pub async fn messages(
        &self,
        from: u64,
        subject: &str,
        count: usize,
        bytes: usize,
    ) -> Result<Batch, LogError> {
        let body = json!({
            "seq": from, "next_by_subj": subject, "batch": count.clamp(1, BATCH), "max_bytes": bytes.max(1),
        });
        self.api.batch_get(&self.layout.name, &body).await
    }

    /// The newest sequence at or before `up_to` on each of the subjects that has one.
    pub async fn sequences_before(
        &self,
        known: Known,
        mut subjects: Vec<String>,
        up_to: u64,
    ) -> Result<HashMap<String, u64>, LogError> {
        if up_to == 0 || subjects.is_empty() {
            return Ok(HashMap::new());
        }
        let name = &self.layout.name;
        let mut found = self.api.last_of_each(name, &subjects, up_to).await?;
        if found.is_empty() && known.replicas > 1 {
            // Either there is nothing or the replica has not come as far as `up_to`: a message that is
            // known to stand there tells which.
            if let Some(witness) = self.api.leader_get(name, Wanted::At(up_to)).await? {
                subjects.truncate(BATCH - 1);
                subjects.push(witness.subject);
                for _ in 0..LAG_RETRIES {
                    found = self.api.last_of_each(name, &subjects, up_to).await?;
                    if found.iter().any(|message| message.sequence == up_to) {
                        break;
                    }
                    tokio::time::sleep(LAG_PAUSE).await;
                }
            }
        }
        Ok(found.into_iter().map(|message| (message.subject, message.sequence)).collect())
    }

    /// Makes events of those `messages` that `keep` wants. The messages are all that their subjects
    /// hold after `after`, so only the first of each subject needs a look at what is before.
    pub async fn events(
        &self,
        known: Known,
        after: u64,
        messages: Vec<Stored>,
        keep: impl Fn(&Stored) -> bool,
    ) -> Result<Vec<Event>, LogError> {
        let mut kept: Vec<(Stored, Option<u64>)> = Vec::with_capacity(messages.len());
        let mut last: HashMap<String, u64> = HashMap::new();
        let mut unknown = Vec::new();
        for message in messages {
            // Of those that nobody wants too: a later one may follow on them.
            let previous = last.insert(message.subject.clone(), message.sequence);
            if !keep(&message) {
                continue;
            }
            if previous.is_none() {
                unknown.push(message.subject.clone());
            }
            kept.push((message, previous));
        }
        let before = self.sequences_before(known, unknown, after).await?;
        let event = |(message, previous): (Stored, Option<u64>)| {
            let previous = previous.or_else(|| before.get(&message.subject).copied()).unwrap_or(0);
            message.event(&self.layout, previous)
        };
        Ok(kept.into_iter().filter_map(event).collect())
    }
}

/// Where a message stands; without a check when it is not an event.
fn position(layout: &Layout, epoch: u64, message: Stored) -> Position {
    let sequence = message.sequence;
    message.event(layout, 0).map_or(Position { epoch, sequence, check: 0 }, |event| event.position(epoch))
}

impl Core {
    /// Both ends of a project's log.
    pub async fn bounds(&self, stream: &Stream, known: Known, place: &Place) -> Result<Bounds, LogError> {
        // The floor first: it is never beyond a head that was read later.
        let floor = self.floors.get(place.project).await?.through;
        let head = match stream.newest(place).await? {
            Some(message) => position(&stream.layout, known.epoch, message),
            None => Position { epoch: known.epoch, sequence: floor, check: 0 },
        };
        Ok(Bounds { floor, head })
    }

    pub async fn read(&self, place: &Place, query: ReadQuery) -> Result<Page, LogError> {
        let stream = self.stream(&place.stream)?;
        let known = stream.known().await?;
        let head = stream.newest(place).await?.map_or(0, |message| message.sequence);
        if head <= query.after {
            self.check_floor(place, query.after).await?;
            return Ok(Page { events: Vec::new(), through: query.after, at_head: true });
        }
        let (subject, count) = match &*query.patterns {
            [pattern] => (stream.layout.subject(place, pattern.as_str()), query.max_events),
            _ => (stream.layout.subject(place, ">"), BATCH),
        };
        let batch = stream.messages(query.after + 1, &subject, count, query.max_bytes).await?;
        let (messages, through, at_head) = reach(&stream, known, query.after, head, &subject, batch).await?;
        let wanted = |message: &Stored| {
            let topic = stream.layout.split(&message.subject).map_or("", |(_, _, topic)| topic);
            query.patterns.iter().any(|pattern| pattern.matches(topic))
        };
        let events = stream.events(known, query.after, messages, wanted).await?;
        // Read last: a page from which a trim had already taken something is out of range then.
        let floor = self.check_floor(place, query.after).await?;
        Ok(cut(events, &query, floor, through, at_head))
    }

    async fn check_floor(&self, place: &Place, after: u64) -> Result<Floor, LogError> {
        let floor = self.floors.get(place.project).await?;
        if after < floor.through { Err(LogError::OutOfRange { floor: floor.through }) } else { Ok(floor) }
    }

    pub async fn inspect(&self, place: &Place, sequence: u64) -> Result<Inspection, LogError> {
        let stream = self.stream(&place.stream)?;
        let known = stream.known().await?;
        let (bounds, message) = tokio::try_join!(self.bounds(&stream, known, place), async {
            match sequence {
                0 => Ok(None),
                _ => self.api.leader_get(&stream.layout.name, Wanted::At(sequence)).await,
            }
        })?;
        let check = message
            .filter(|message| {
                sequence > bounds.floor && message.project(&stream.layout) == Some(place.project)
            })
            .and_then(|message| message.event(&stream.layout, 0))
            .map(|event| event.check());
        Ok(Inspection { bounds, check })
    }

    /// Halves the log again and again: about 2 log₂(n) small requests, however long it is.
    pub async fn locate(&self, place: &Place, time: Timestamp) -> Result<u64, LogError> {
        let stream = self.stream(&place.stream)?;
        stream.known().await?;
        let floor = self.floors.get(place.project).await?.through;
        let accepted = |message: Stored| message.event(&stream.layout, 0).map(|event| event.published_at);
        let Some(newest) = stream.newest(place).await? else { return Ok(floor) };
        let head = newest.sequence;
        if accepted(newest).is_none_or(|at| at < time) {
            return Ok(head);
        }
        let subject = stream.layout.subject(place, ">");
        // Everything up to `low` is earlier; `found` is not, and nothing between `high` and it is there.
        let (mut low, mut high, mut found) = (floor, head, head);
        while low < high {
            let middle = low + (high - low) / 2;
            let next = self.api.leader_get(&stream.layout.name, Wanted::Next(middle + 1, &subject)).await?;
            match next.map(|message| (message.sequence, accepted(message))) {
                Some((sequence, Some(at))) if at >= time => (found, high) = (sequence.min(found), middle),
                Some((sequence, _)) => low = sequence,
                None => high = middle,
            }
        }
        Ok(found.saturating_sub(1))
    }

    pub async fn topics(
        &self,
        place: &Place,
        after: Option<&Topic>,
        limit: usize,
    ) -> Result<Vec<TopicHead>, LogError> {
        let stream = self.stream(&place.stream)?;
        let known = stream.known().await?;
        let names = topic_names(&self.api, &stream, place, after).await?;
        // Asked after the names, so each of them has a message up to here.
        let bounds = self.bounds(&stream, known, place).await?;
        let mut heads = Vec::new();
        let names: Vec<Topic> = names.into_iter().collect();
        for chunk in names.chunks(limit.clamp(1, BATCH)) {
            let subjects: Vec<String> =
                chunk.iter().map(|topic| stream.layout.subject(place, topic.as_str())).collect();
            let mut events = newest_events(&stream, known, &subjects, bounds.head.sequence).await?;
            events.retain(|event| event.sequence > bounds.floor);
            events.sort_by(|a, b| a.topic.cmp(&b.topic));
            heads.extend(events.into_iter().map(|event| TopicHead {
                head: event.position(known.epoch),
                published_at: event.published_at,
                topic: event.topic,
            }));
            if heads.len() >= limit {
                break;
            }
        }
        heads.truncate(limit);
        Ok(heads)
    }
}

/// How far the answer of a replica reaches, given where the head was before it was asked.
pub(super) async fn reach(
    stream: &Stream,
    known: Known,
    after: u64,
    head: u64,
    subject: &str,
    batch: Batch,
) -> Result<(Vec<Stored>, u64, bool), LogError> {
    let mut messages = batch.messages;
    let last = messages.last().map_or(after, |message| message.sequence);
    if batch.pending > 0 || last >= head {
        return Ok((messages, last, batch.pending == 0 && last == head));
    }
    if known.replicas == 1 {
        return Ok((messages, head, true));
    }
    match stream.api.leader_get(&stream.layout.name, Wanted::Next(last + 1, subject)).await? {
        Some(next) if next.sequence <= head => {
            // The replica lags. What the leader gave keeps the caller going.
            let through = if messages.is_empty() { next.sequence } else { last };
            if messages.is_empty() {
                messages.push(next);
            }
            Ok((messages, through, false))
        }
        _ => Ok((messages, head, true)),
    }
}

/// Keeps as much as the query allows.
fn cut(events: Vec<Event>, query: &ReadQuery, floor: Floor, through: u64, at_head: bool) -> Page {
    let total = events.len();
    let mut bytes = 0;
    let mut kept: Vec<Arc<Event>> = Vec::with_capacity(total.min(query.max_events));
    for mut event in events {
        bytes += event.weight();
        if kept.len() == query.max_events.max(1) || (bytes > query.max_bytes && !kept.is_empty()) {
            break;
        }
        event.previous = floor.previous(event.sequence, event.previous);
        kept.push(Arc::new(event));
    }
    match kept.last().map(|event| event.sequence) {
        Some(last) if kept.len() < total => Page { events: kept, through: last, at_head: false },
        _ => Page { events: kept, through, at_head },
    }
}

async fn topic_names(
    api: &Api,
    stream: &Stream,
    place: &Place,
    after: Option<&Topic>,
) -> Result<BTreeSet<Topic>, LogError> {
    api.check_connected()?;
    let failed = |error: async_nats::jetstream::stream::InfoError| {
        LogError::Unavailable(format!("listing the subjects of {}: {error}", stream.layout.name))
    };
    let handle = api
        .context
        .get_stream_no_info(&*stream.layout.name)
        .await
        .map_err(|error| LogError::Unavailable(error.to_string()))?;
    let mut subjects = handle.info_with_subjects(stream.layout.subject(place, ">")).await.map_err(failed)?;
    let mut names = BTreeSet::new();
    while let Some((subject, _)) = subjects.try_next().await.map_err(failed)? {
        let topic = stream.layout.split(&subject).and_then(|(_, _, topic)| topic.parse::<Topic>().ok());
        names.extend(topic.filter(|topic| after.is_none_or(|after| topic > after)));
    }
    Ok(names)
}

/// The newest event of each subject. A replica that lags answers with fewer and is asked again.
async fn newest_events(
    stream: &Stream,
    known: Known,
    subjects: &[String],
    up_to: u64,
) -> Result<Vec<Event>, LogError> {
    let retries = if known.replicas > 1 { LAG_RETRIES } else { 0 };
    let mut found = stream.api.last_of_each(&stream.layout.name, subjects, up_to).await?;
    for _ in 0..retries {
        if found.len() >= subjects.len() {
            break;
        }
        tokio::time::sleep(LAG_PAUSE).await;
        found = stream.api.last_of_each(&stream.layout.name, subjects, up_to).await?;
    }
    Ok(found.into_iter().filter_map(|message| message.event(&stream.layout, 0)).collect())
}
