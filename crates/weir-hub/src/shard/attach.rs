//! Subscriptions: joining and leaving groups, and the seam between the past and the present.

use super::Shard;
use crate::backlog::{Backlog, What};
use crate::connection::{Connection, Covered, NONE};
use crate::encode::put_text;
use crate::project::{Group, Selection};
use crate::ring::Entry;
use crate::{Attach, Attached, Conn, Message, NotCovered, Operation};
use std::sync::Arc;
use weir_core::{Pattern, Position};

impl Shard {
    pub(super) fn attach(&mut self, conn: Conn, attach: Attach) {
        let Attach { project: id, patterns, operation, after, preface, done } = attach;
        let Some(project) = self.by_id.get(&id).copied() else {
            return done(Err(NotCovered { floor: None }));
        };
        // What was published before this call belongs to the ring, and to the older subscriptions.
        self.pass(project);
        let Some(slot) = self.live_slot(conn) else { return };
        if let Some(mistake) = self.unfit(slot, project, operation.as_deref()) {
            tracing::error!(project = %id, mistake, "a connection cannot be attached: {mistake}");
            return done(Err(NotCovered { floor: None }));
        }
        if after.is_some_and(|after| self.projects[project as usize].ring.is_behind(after)) {
            let attach = Attach { project: id, patterns, operation, after, preface, done };
            self.projects[project as usize].parked.push((conn, attach));
            self.conns[slot as usize].parked = true;
            return;
        }
        let start = match self.projects[project as usize].ring.locate(after) {
            Ok(start) => start,
            Err(not_covered) => return done(Err(not_covered)),
        };
        if !self.settle(slot) {
            return self.end_slow(slot);
        }
        self.conns[slot as usize].own(&self.projects[project as usize].meter);
        if let Some(text) = preface.map(|preface| preface(start)).filter(|text| !text.is_empty()) {
            let dialect = self.conns[slot as usize].dialect;
            let mut bytes = Vec::new();
            put_text(&mut bytes, dialect, &text);
            let now = self.now;
            self.backlog(slot).push(What::Bytes { bytes: bytes.into(), event: None }, now);
        }
        let head = self.projects[project as usize].ring.head();
        if let Some(operation) = operation {
            self.attach_operation(slot, project, patterns, operation, start);
        } else if self.conns[slot as usize].group == NONE {
            self.attach_first(slot, project, patterns, start);
        } else {
            self.attach_more(slot, project, &patterns, start);
        }
        self.pump(slot);
        done(Ok(Attached { head }));
    }

    /// Why a subscription cannot be added to what a connection has; the engine asks for nothing of the kind.
    fn unfit(&self, slot: u32, project: u32, operation: Option<&Operation>) -> Option<&'static str> {
        let current = self.groups.get(self.conns[slot as usize].group as usize)?;
        let operations = self.conns[slot as usize].operations();
        if current.project != project {
            return Some("it is of another project");
        }
        match operation {
            Some(new) if operations.iter().any(|known| known.id == new.id) => Some("it has this operation"),
            new if new.is_some() == operations.is_empty() => Some("it has another kind of subscriptions"),
            _ => None,
        }
    }

    /// Decides the parked attaches that the head has reached.
    pub(super) fn release_parked(&mut self, project: u32) {
        let here = &mut self.projects[project as usize];
        let ring = &here.ring;
        let is_reached = |(_, attach): &mut (Conn, Attach)| attach.after.is_none_or(|at| !ring.is_behind(at));
        let reached: Vec<_> = here.parked.extract_if(.., is_reached).collect();
        reached.into_iter().for_each(|(conn, attach)| self.attach(conn, attach));
    }

    /// Answers the parked attaches: the position they wait for will not come.
    pub(super) fn refuse_parked(&mut self, project: u32, floor: Option<Position>) {
        for (_, attach) in std::mem::take(&mut self.projects[project as usize].parked) {
            (attach.done)(Err(NotCovered { floor }));
        }
    }

    /// Drops the parked attaches of a connection that ends.
    pub(super) fn unpark(&mut self, slot: u32) {
        let conn = &mut self.conns[slot as usize];
        if std::mem::take(&mut conn.parked) {
            let key = (slot, conn.generation);
            for (_, project) in &mut self.projects {
                project.parked.retain(|(conn, _)| (conn.slot, conn.generation) != key);
            }
        }
    }

    /// The first subscription: the connection is simply behind, at its start in the ring, and catches up.
    fn attach_first(&mut self, slot: u32, project: u32, patterns: Vec<Pattern>, start: Position) {
        self.conns[slot as usize].covered = Covered::Since(start.sequence);
        self.join_plain(slot, project, patterns);
        self.fall_back(slot, project, start);
    }

    /// Puts a connection that has just joined a group with one subscription back to its start in the ring.
    pub(super) fn fall_back(&mut self, slot: u32, project: u32, start: Position) {
        let conn = &self.conns[slot as usize];
        let group = &self.groups[conn.group as usize];
        let ring = &self.projects[project as usize].ring;
        let is_missed = |entry: &&Entry| {
            let topic = entry.message.topic.as_str();
            group.selection.copies(topic, conn.operations()).next().is_some()
        };
        let missed = ring.after(start.sequence).filter(is_missed);
        let missed: u64 = missed.map(|entry| u64::from(entry.weight)).sum();
        let mark = group.total.wrapping_sub(missed);
        if missed > 0 {
            let backlog = self.backlog(slot);
            backlog.after = start.sequence;
            backlog.mark = mark;
            backlog.granted += usize::try_from(missed).unwrap_or(usize::MAX);
        }
    }

    /// Further subscriptions: what only they select is queued; from now on one group selects for all.
    fn attach_more(&mut self, slot: u32, project: u32, patterns: &[Pattern], start: Position) {
        let old = self.patterns_of(slot);
        let conn = &self.conns[slot as usize];
        let ring = &self.projects[project as usize].ring;
        let is_missed = |entry: &&Entry| {
            let topic = entry.message.topic.as_str();
            patterns.iter().any(|pattern| pattern.matches(topic))
                && !conn.covered.includes(&old, topic, entry.sequence())
        };
        let missed: Vec<&Entry> = ring.after(start.sequence).filter(is_missed).collect();
        let granted = missed.iter().map(|entry| entry.weight as usize).sum();
        let messages: Vec<Arc<Message>> = missed.iter().map(|entry| Arc::clone(&entry.message)).collect();
        let covered = conn.covered.extend(&old, patterns, start.sequence, ring.floor().sequence);
        self.queue_messages(slot, messages, None, granted);
        self.conns[slot as usize].covered = covered;
        self.leave(slot);
        self.join_plain(slot, project, old.iter().chain(patterns).cloned().collect());
    }

    /// The patterns of a plain connection.
    fn patterns_of(&self, slot: u32) -> Arc<[Pattern]> {
        match self.groups.get(self.conns[slot as usize].group as usize).map(|group| &group.selection) {
            Some(Selection::Plain(patterns)) => Arc::clone(patterns),
            _ => Arc::default(),
        }
    }

    pub(super) fn detach(&mut self, conn: Conn, patterns: &[Pattern], done: Box<dyn FnOnce() + Send>) {
        let Some(slot) = self.live_slot(conn) else { return };
        self.pass_of(slot);
        let Some(slot) = self.live_slot(conn) else { return };
        if let Some(project) = self.project_of(slot) {
            if !self.settle(slot) {
                return self.end_slow(slot);
            }
            let old = self.patterns_of(slot);
            let left: Vec<Pattern> = old.iter().filter(|one| !patterns.contains(one)).cloned().collect();
            let conn = &mut self.conns[slot as usize];
            conn.covered = conn.covered.without(patterns);
            self.leave(slot);
            if !left.is_empty() {
                self.join_plain(slot, project, left);
            }
        }
        done();
    }

    /// The project that a connection is attached to.
    pub(super) fn project_of(&self, slot: u32) -> Option<u32> {
        let group = self.conns.get(slot as usize)?.group;
        self.groups.get(group as usize).map(|group| group.project)
    }

    fn join_plain(&mut self, slot: u32, project: u32, mut patterns: Vec<Pattern>) {
        patterns.sort_unstable();
        patterns.dedup();
        self.join(slot, project, Selection::Plain(patterns.into()));
    }

    /// Puts a connection into the group of exactly this selection, live from the ring's head on.
    pub(super) fn join(&mut self, slot: u32, project: u32, selection: Selection) {
        let here = &mut self.projects[project as usize];
        let group = match here.sets.get(&selection) {
            Some(group) => *group,
            None => {
                let group = self.groups.insert(Group {
                    project,
                    selection: selection.clone(),
                    members: Vec::new(),
                    total: 0,
                    matched: 0,
                    first: 0,
                    last: 0,
                }) as u32;
                selection.patterns().for_each(|pattern| here.index.insert(pattern, group));
                here.sets.insert(selection, group);
                group
            }
        };
        let joined = &mut self.groups[group as usize];
        let conn = &mut self.conns[slot as usize];
        conn.group = group;
        conn.member = joined.members.len() as u32;
        joined.members.push(slot);
        if let Some(backlog) = &mut conn.backlog {
            (backlog.after, backlog.copies) = (here.ring.head().sequence, 0);
            backlog.mark = joined.total;
        }
    }

    /// Takes a connection out of its group; the last one ends the group.
    pub(super) fn leave(&mut self, slot: u32) {
        let conn = &mut self.conns[slot as usize];
        let id = std::mem::replace(&mut conn.group, NONE);
        if id == NONE {
            return;
        }
        let at = conn.member;
        let group = &mut self.groups[id as usize];
        group.members.swap_remove(at as usize);
        if let Some(moved) = group.members.get(at as usize) {
            self.conns[*moved as usize].member = at;
        }
        if group.members.is_empty() {
            let group = self.groups.remove(id as usize);
            let project = &mut self.projects[group.project as usize];
            project.sets.remove(&group.selection);
            group.selection.patterns().for_each(|pattern| project.index.remove(pattern, id));
        }
    }

    /// Moves what the ring still owes a connection into its own queue, so that something else can follow.
    /// `false` when the ring has forgotten a part of it.
    #[must_use]
    pub(super) fn settle(&mut self, slot: u32) -> bool {
        let Connection { backlog, covered, group, .. } = &mut self.conns[slot as usize];
        let (Some(backlog), Some(group)) = (backlog.as_deref_mut(), self.groups.get(*group as usize)) else {
            return true;
        };
        let ring = &self.projects[group.project as usize].ring;
        if backlog.mark != group.total {
            if backlog.after < ring.floor().sequence {
                return false;
            }
            for entry in ring.after(backlog.after) {
                let copies = group.selection.copies(entry.message.topic.as_str(), covered.operations());
                let mut all = 0;
                for operation in copies {
                    all += 1;
                    if all > backlog.copies {
                        backlog.push(What::Event(Arc::clone(&entry.message), operation.cloned()), self.now);
                    }
                }
                if all > 0 {
                    backlog.copies = 0;
                }
            }
        }
        (backlog.after, backlog.copies) = (ring.head().sequence, 0);
        backlog.mark = group.total;
        true
    }

    /// Queues events that the engine asked for, without sending yet.
    pub(super) fn queue_messages(
        &mut self,
        slot: u32,
        messages: Vec<Arc<Message>>,
        operation: Option<&Arc<Operation>>,
        granted: usize,
    ) {
        let now = self.now;
        if !messages.is_empty() {
            let backlog = self.backlog(slot);
            backlog.granted += granted;
            let event = |message| What::Event(message, operation.cloned());
            messages.into_iter().for_each(|message| backlog.push(event(message), now));
        }
    }

    /// Queues a notice that everything before it is out.
    pub(super) fn queue_notice(&mut self, slot: u32) {
        let now = self.now;
        self.backlog(slot).push(What::Notice, now);
    }

    /// The backlog of a connection; a new one stands at the ring's head.
    pub(super) fn backlog(&mut self, slot: u32) -> &mut Backlog {
        let conn = &mut self.conns[slot as usize];
        let group = self.groups.get(conn.group as usize);
        let now = self.now;
        let lagging = &mut self.lagging;
        let projects = &self.projects;
        conn.backlog.get_or_insert_with(|| {
            *lagging += 1;
            let after = group.map_or(0, |group| projects[group.project as usize].ring.head().sequence);
            let mark = group.map_or(0, |group| group.total);
            Box::new(Backlog::new(after, mark, now))
        })
    }
}
