//! The fan-out: what was published since the last pass, joined per group, one send per connection.

use super::Shard;
use crate::backlog::{Backlog, What};
use crate::connection::Connection;
use crate::counters::Counters;
use crate::encode::{put_enclosed, put_event, weight};
use crate::operation::{Operation, Want};
use crate::project::{Pending, Selection};
use crate::{Dialect, Message, Meter};
use bytes::Bytes;
use std::collections::BinaryHeap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

/// Messages of one slice: it must fit the ring, where those who fall behind look for the rest.
const SLICE_MESSAGES: usize = 1024;
/// Bytes of one slice, and so about what a joined buffer holds at most.
const SLICE_BYTES: usize = 256 << 10;
/// Pairs of a message and a group in one slice.
const SLICE_PAIRS: usize = 1 << 18;

/// Lists that are used again in every pass.
#[derive(Default)]
pub(super) struct Pass {
    slice: Vec<Arc<Message>>,
    /// Which message is for which group, once for each copy, in the order of the messages.
    pairs: Vec<(u32, u32)>,
    /// The groups that occur in `pairs`.
    touched: Vec<u32>,
    /// Message numbers, those of one group next to each other.
    sets: Vec<u32>,
    /// The joined events of the last set, for each dialect.
    joined: [Joined; 2],
    rendered: Rendered,
    slow: Vec<u32>,
    gone: Vec<u32>,
}

/// Events joined to one buffer.
#[derive(Default)]
struct Joined {
    bytes: Vec<u8>,
    /// Where each event ends.
    ends: Vec<usize>,
}

impl Joined {
    fn fill(&mut self, dialect: Dialect, run: &Run<'_>) {
        for number in run.set {
            put_event(&mut self.bytes, dialect, &run.slice[*number as usize]);
            self.ends.push(self.bytes.len());
        }
    }

    /// The same for one connection with operations.
    fn enclose(&mut self, dialect: Dialect, operations: &[Arc<Operation>], rendered: &Rendered) {
        self.clear();
        let mut start = 0;
        for (operation, end) in &rendered.copies {
            let middle = &rendered.bytes[start..*end];
            put_enclosed(&mut self.bytes, dialect, &operations[*operation], middle);
            self.ends.push(self.bytes.len());
            start = *end;
        }
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

/// Events as the shapes of a group with operations show them: the same for all its members.
#[derive(Default)]
struct Rendered {
    bytes: Vec<u8>,
    /// Which operation each copy is for, and where it ends.
    copies: Vec<(usize, usize)>,
}

impl Rendered {
    fn fill(&mut self, wants: &[Want], run: &Run<'_>) {
        self.bytes.clear();
        self.copies.clear();
        for numbers in run.set.chunk_by(|one, next| one == next) {
            let message = &run.slice[numbers[0] as usize];
            for (operation, want) in wants.iter().enumerate() {
                if want.matches(message.topic.as_str()) {
                    want.shape.render(message, &mut self.bytes);
                    self.copies.push((operation, self.bytes.len()));
                }
            }
        }
    }
}

/// What is sent to one group.
struct Run<'a> {
    slice: &'a [Arc<Message>],
    /// Which of the slice, one after the other; more than once if there are more copies.
    set: &'a [u32],
    /// The ring's head before the slice.
    before: u64,
    /// The group's total before the slice.
    total: u64,
    now: u32,
}

impl Run<'_> {
    /// The weight of the first `count` copies of the set.
    fn weight_of(&self, count: usize) -> u64 {
        self.set[..count].iter().map(|number| weight(&self.slice[*number as usize]) as u64).sum()
    }

    /// Sends to a connection that keeps up; `false` when it does no longer.
    fn send(&self, conn: &mut Connection, joined: &Joined, sent: &mut Sent) -> io::Result<bool> {
        let written = conn.write(&joined.bytes)?;
        sent.sends += 1;
        sent.bytes += written as u64;
        if conn.dialect == Dialect::Sse {
            conn.active = self.now;
        }
        if written == joined.bytes.len() {
            conn.delivered += self.set.len() as u64;
            sent.events += self.set.len() as u64;
            sent.event_bytes += written as u64;
            return Ok(true);
        }
        let whole = joined.ends.partition_point(|end| *end <= written);
        let whole_bytes = whole.checked_sub(1).map_or(0, |last| joined.ends[last]);
        conn.delivered += whole as u64;
        sent.events += whole as u64;
        sent.event_bytes += whole_bytes as u64;
        // The rest of an event that was cut is kept; what follows on it will come from the ring.
        let started = whole + usize::from(whole_bytes < written);
        let (begun, rest) = self.set.split_at(started);
        // Of a message with more copies to come, those that were begun are remembered.
        let cut = rest.first().filter(|next| begun.last() == Some(*next));
        let copies = begun.iter().rev().take_while(|number| Some(*number) == cut).count();
        let after = begun[..started - copies].last();
        let after = after.map_or(self.before, |number| self.slice[*number as usize].position.sequence);
        let mark = self.total.wrapping_add(self.weight_of(started));
        let mut backlog = Box::new(Backlog::new(after, mark, self.now));
        backlog.copies = copies as u32;
        if started > whole {
            let end = joined.ends[whole];
            let bytes = Bytes::copy_from_slice(&joined.bytes[written..end]);
            let event = Some((end - whole_bytes) as u32);
            backlog.tear(What::Bytes { bytes, event }, self.now);
        }
        conn.backlog = Some(backlog);
        Ok(false)
    }
}

/// What was handed to the kernel.
#[derive(Default)]
struct Sent {
    events: u64,
    /// Bytes of whole events.
    event_bytes: u64,
    bytes: u64,
    sends: u64,
}

impl Sent {
    fn count(&self, meter: &Meter, counters: &Counters) {
        meter.delivered.fetch_add(self.events, Relaxed);
        meter.bytes.fetch_add(self.event_bytes, Relaxed);
        counters.delivered.fetch_add(self.events, Relaxed);
        counters.bytes.fetch_add(self.bytes, Relaxed);
        counters.sends.fetch_add(self.sends, Relaxed);
    }
}

impl Shard {
    /// Delivers everything that is pending.
    pub(super) fn pass_dirty(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for project in dirty.drain(..) {
            self.pass(project);
        }
        self.dirty = dirty;
    }

    /// Delivers what is pending for the project of a connection.
    pub(super) fn pass_of(&mut self, slot: u32) {
        if let Some(project) = self.project_of(slot) {
            self.pass(project);
        }
    }

    /// Delivers what is pending for a project.
    pub(super) fn pass(&mut self, project: u32) {
        let Some(here) = self.projects.get_mut(project as usize) else { return };
        if here.pending.is_empty() {
            return;
        }
        let begun = Instant::now();
        let delivered = self.counters.delivered.load(Relaxed);
        let mut pending = std::mem::take(&mut here.pending);
        let mut pass = std::mem::take(&mut self.pass);
        let mut bytes = 0;
        for message in pending.iter().flat_map(|pending| pending.messages.iter()) {
            let copies = self.take_in(project, message, &mut pass);
            bytes += weight(message) * copies as usize;
            let full = pass.slice.len() >= SLICE_MESSAGES.min(self.config.ring_messages)
                || bytes >= SLICE_BYTES.min(self.config.ring_bytes / 2)
                || pass.pairs.len() >= SLICE_PAIRS;
            if full {
                self.deliver(project, &mut pass);
                bytes = 0;
            }
        }
        self.deliver(project, &mut pass);
        self.pass = pass;
        self.measure(&pending, begun, delivered);
        let weight = pending.drain(..).map(|pending| pending.weight).sum();
        self.counters.queued_bytes.fetch_sub(weight, Relaxed);
        if let Some(here) = self.projects.get_mut(project as usize) {
            here.pending = pending;
        }
        self.bound_rings();
        self.release_parked(project);
    }

    /// Notes what a pass did, once for all its messages and connections.
    fn measure(&self, pending: &[Pending], begun: Instant, delivered_before: u64) {
        let counters = &self.counters;
        let delivered = counters.delivered.load(Relaxed) - delivered_before;
        let messages = pending.iter().map(|pending| pending.messages.len() as u64).sum();
        counters.fan_out.observe_shares(delivered, messages);
        if delivered == 0 {
            return;
        }
        let now = Instant::now();
        counters.passes.observe(now.saturating_duration_since(begun));
        for Pending { messages, born, .. } in pending {
            counters.latency.observe_for(now.saturating_duration_since(*born), messages.len() as u64);
        }
    }

    /// Finds the groups of a message; returns the most copies that one connection gets, at least one.
    fn take_in(&mut self, project: u32, message: &Arc<Message>, pass: &mut Pass) -> u32 {
        let here = &self.projects[project as usize];
        let last = pass.slice.last().map_or_else(|| here.ring.head(), |last| last.position);
        if message.position.epoch != last.epoch || message.position.sequence <= last.sequence {
            let position = message.position;
            tracing::warn!(project = %here.id, ?position, ?last, "a message that does not follow is ignored");
            return 1;
        }
        let number = pass.slice.len() as u32;
        let mut most = 1;
        let groups = &mut self.groups;
        here.index.route(message.topic.as_str(), |id| {
            let group = &mut groups[id as usize];
            if group.last == number + 1 {
                return;
            }
            if group.matched == 0 {
                pass.touched.push(id);
            }
            let copies = group.copies(message.topic.as_str());
            most = most.max(copies);
            group.last = number + 1;
            group.matched += copies;
            pass.pairs.extend(std::iter::repeat_n((id, number), copies as usize));
        });
        pass.slice.push(Arc::clone(message));
        most
    }

    /// Puts a slice into the ring and sends it to everybody it is for.
    fn deliver(&mut self, project: u32, pass: &mut Pass) {
        let here = &mut self.projects[project as usize];
        let before = here.ring.head().sequence;
        let held = here.ring.bytes();
        for message in &pass.slice {
            let (messages, bytes) = (self.config.ring_messages, self.config.ring_bytes);
            here.ring.push(Arc::clone(message), self.now, messages, bytes);
        }
        self.ring_bytes = self.ring_bytes - held + here.ring.bytes();
        self.sort_pairs(pass);
        let mut previous: &[u32] = &[];
        for id in &pass.touched {
            let group = &mut self.groups[*id as usize];
            let first = group.first as usize;
            let set = &pass.sets[first..first + group.matched as usize];
            (group.matched, group.last) = (0, 0);
            let run = Run { slice: &pass.slice, set, before, total: group.total, now: self.now };
            let is_plain = match &group.selection {
                Selection::Plain(_) => true,
                Selection::Operations(wants) => {
                    pass.rendered.fill(&wants.0, &run);
                    false
                }
            };
            if set != previous || !is_plain {
                pass.joined.iter_mut().for_each(Joined::clear);
                previous = if is_plain { set } else { &[] };
            }
            group.total = group.total.wrapping_add(run.weight_of(set.len()));
            let mut sent = Sent::default();
            for member in &group.members {
                let conn = &mut self.conns[*member as usize];
                if let Some(backlog) = conn.backlog.as_deref_mut() {
                    if backlog.mark == run.total {
                        // The first message that it misses is in this slice.
                        backlog.after = before;
                    }
                    if backlog.behind(group.total) > self.config.backlog_bytes {
                        pass.slow.push(*member);
                    }
                    continue;
                }
                let joined = &mut pass.joined[usize::from(conn.dialect == Dialect::Sse)];
                if !is_plain {
                    joined.enclose(conn.dialect, conn.operations(), &pass.rendered);
                } else if joined.bytes.is_empty() {
                    joined.fill(conn.dialect, &run);
                }
                match run.send(conn, joined, &mut sent) {
                    Ok(true) => {}
                    Ok(false) => self.lagging += 1,
                    Err(_) => pass.gone.push(*member),
                }
            }
            sent.count(&self.projects[project as usize].meter, &self.counters);
        }
        self.finish(pass);
    }

    /// Sorts the pairs by group without comparing: each group knows how many it has.
    fn sort_pairs(&mut self, pass: &mut Pass) {
        let mut first = 0;
        for id in &pass.touched {
            let group = &mut self.groups[*id as usize];
            group.first = first;
            first += group.matched;
            group.matched = 0;
        }
        pass.sets.clear();
        pass.sets.resize(pass.pairs.len(), 0);
        for (id, number) in &pass.pairs {
            let group = &mut self.groups[*id as usize];
            pass.sets[(group.first + group.matched) as usize] = *number;
            group.matched += 1;
        }
    }

    /// Ends those who are too slow or gone: not before, the members of a group must not change meanwhile.
    fn finish(&mut self, pass: &mut Pass) {
        pass.slice.clear();
        pass.pairs.clear();
        pass.touched.clear();
        pass.joined.iter_mut().for_each(Joined::clear);
        for slot in pass.gone.drain(..) {
            self.remove(slot);
        }
        for slot in pass.slow.drain(..) {
            self.end_slow(slot);
        }
    }

    /// Keeps all rings together under their bound: the rings whose oldest message is oldest lose a
    /// quarter first, until an eighth is free, so that this is seldom needed.
    fn bound_rings(&mut self) {
        let most = self.config.ring_bytes_total;
        if self.ring_bytes <= most {
            return;
        }
        let aged = |id: usize, ring: &crate::ring::Ring, now: u32| {
            ring.oldest().map(|at| (now.wrapping_sub(at), id))
        };
        let now = self.now;
        let mut oldest: BinaryHeap<(u32, usize)> =
            self.projects.iter().filter_map(|(id, project)| aged(id, &project.ring, now)).collect();
        while self.ring_bytes > most - most / 8 {
            let Some((_, id)) = oldest.pop() else { return };
            let ring = &mut self.projects[id].ring;
            self.ring_bytes -= ring.shrink();
            oldest.extend(aged(id, ring, now));
        }
    }
}
