//! Commands, one after the other.

use super::{Key, MAX_COMMANDS, Shard};
use crate::command::{Arrival, Command};
use crate::connection::{Connection, Covered, NONE, Owner, Phase};
use crate::encode::{put_text, weight};
use crate::project::{Pending, Project};
use crate::ring::Ring;
use crate::shard::close::Farewell;
use crate::websocket::{Opcode, put_frame};
use crate::{ClosedBy, Conn, Dialect, Goodbye, Message, Meter, NewConnection, Operation};
use bytes::Bytes;
use mio::{Interest, Token};
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use weir_core::{Position, ProjectId};

impl Shard {
    /// Handles what is waiting; true when there may be more.
    pub(super) fn handle_commands(&mut self) -> bool {
        for _ in 0..MAX_COMMANDS {
            match self.inbox.try_recv() {
                Ok(command) => self.handle(command),
                Err(_) => return false,
            }
        }
        true
    }

    pub(super) fn handle(&mut self, command: Command) {
        match command {
            Command::Adopt(arrival) => self.adopt(arrival),
            Command::Send { conn, bytes, binary, notify } => self.send(conn, &bytes, binary, notify),
            Command::SendMessages { conn, messages, operation, notify } => {
                self.send_messages(conn, messages, operation.as_ref(), notify);
            }
            Command::Attach { conn, attach } => self.attach(conn, *attach),
            Command::Detach { conn, patterns, done } => self.detach(conn, &patterns, done),
            Command::DetachOperation { conn, id, done } => self.detach_operation(conn, id, done),
            Command::ResumeReading(conn) => self.resume_reading(conn),
            Command::Close(conn, goodbye) => self.close(conn, &goodbye),
            Command::OpenProject { project, at, meter } => self.open_project(project, at, meter),
            Command::CloseProject(project, goodbye) => self.close_project(project, &goodbye),
            Command::Publish { project, pending } => self.publish(project, pending),
            Command::Drain { over, goodbye } => self.begin_drain(over, *goodbye),
            Command::Shutdown => self.stopping = true,
        }
    }

    /// The slot of a connection that is not closing yet. One that is only ending may still be answered.
    pub(super) fn live_slot(&self, conn: Conn) -> Option<u32> {
        let tenant = self.conns.get(conn.slot as usize)?;
        (tenant.generation == conn.generation && tenant.phase != Phase::Closing).then_some(conn.slot)
    }

    fn adopt(&mut self, arrival: Arrival) {
        let Some(new) = arrival.take() else { return };
        let NewConnection { socket, dialect, read_ahead, preamble, listener } = *new;
        let slot = self.conns.insert(Connection {
            socket,
            listener: Arc::clone(&listener),
            generation: self.next_generation,
            group: NONE,
            member: 0,
            active: self.now,
            deadline: 0,
            covered: Covered::Since(0),
            owner: Owner::Unknown(0),
            delivered: 0,
            backlog: None,
            inbound: None,
            code: 0,
            by: ClosedBy::Client,
            dialect,
            phase: Phase::Open,
            pinged: false,
            paused: false,
            parked: false,
            waiting: false,
        }) as u32;
        let key = (slot, self.next_generation);
        self.next_generation = self.next_generation.wrapping_add(1);
        self.gauge(dialect).fetch_add(1, Relaxed);
        if self.register(key).is_err() {
            return self.remove(slot);
        }
        let greeting = listener.opened(Conn { shard: self.number, slot, generation: key.1 });
        self.greet(slot, &preamble, greeting.as_deref());
        if let Some(goodbye) = self.draining.as_ref().filter(|d| d.is_over()).map(|d| d.goodbye.clone()) {
            return self.begin_close(slot, &Farewell::from(&goodbye));
        }
        if !read_ahead.is_empty() && self.is_current(key) && dialect == Dialect::WebSocket {
            self.receive(slot, &read_ahead);
        }
    }

    /// Writes a connection's first words.
    fn greet(&mut self, slot: u32, preamble: &[u8], greeting: Option<&[u8]>) {
        let mut out = std::mem::take(&mut self.write_buffer);
        out.clear();
        out.extend_from_slice(preamble);
        if let Some(text) = greeting {
            put_text(&mut out, self.conns[slot as usize].dialect, text);
        }
        if !out.is_empty() {
            self.put(slot, &out, false);
        }
        self.give_back(out);
    }

    /// Listens to both directions at once and for good: edges cost nothing while nothing changes, and no
    /// call to the kernel is needed when a connection falls behind or catches up.
    fn register(&mut self, (slot, generation): Key) -> io::Result<()> {
        let token = Token((generation as usize) << 32 | slot as usize);
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut self.conns[slot as usize].socket, token, interest)
    }

    fn send(&mut self, conn: Conn, bytes: &Bytes, binary: bool, notify: bool) {
        let Some(slot) = self.live_slot(conn) else { return };
        let mut out = std::mem::take(&mut self.write_buffer);
        out.clear();
        match self.conns[slot as usize].dialect {
            Dialect::WebSocket if binary => put_frame(&mut out, Opcode::Binary, bytes),
            dialect => put_text(&mut out, dialect, bytes),
        }
        self.put(slot, &out, notify);
        self.give_back(out);
    }

    fn send_messages(
        &mut self,
        conn: Conn,
        messages: Vec<Arc<Message>>,
        operation: Option<&Arc<Operation>>,
        notify: bool,
    ) {
        let Some(slot) = self.live_slot(conn) else { return };
        let limit = self.config.backlog_bytes;
        if self.conns[slot as usize].backlog.as_ref().is_some_and(|backlog| backlog.queued() > limit) {
            return self.end_slow(slot);
        }
        // What the ring still owes comes before.
        if !self.settle(slot) {
            return self.end_slow(slot);
        }
        let granted = messages.iter().map(|message| weight(message)).sum();
        self.queue_messages(slot, messages, operation, granted);
        if notify {
            self.queue_notice(slot);
        }
        self.pump(slot);
    }

    fn resume_reading(&mut self, conn: Conn) {
        let Some(slot) = self.live_slot(conn) else { return };
        let conn = &mut self.conns[slot as usize];
        if !std::mem::replace(&mut conn.paused, false) {
            return;
        }
        conn.active = self.now;
        let held = conn.take_held();
        self.receive(slot, &held);
        // The edge that told of what came meanwhile is gone.
        self.again(slot);
    }

    fn close(&mut self, conn: Conn, goodbye: &Goodbye) {
        let key = (conn.slot, conn.generation);
        if !self.is_current(key) {
            return;
        }
        if !goodbye.discard {
            self.pass_of(conn.slot);
        }
        if self.is_current(key) {
            self.begin_close(conn.slot, &Farewell::from(goodbye));
        }
    }

    fn open_project(&mut self, id: ProjectId, at: Position, meter: Arc<Meter>) {
        let Some(&slot) = self.by_id.get(&id) else {
            let project = Project {
                id,
                ring: Ring::new(at),
                meter,
                index: crate::index::Index::default(),
                sets: HashMap::new(),
                pending: Vec::new(),
                parked: Vec::new(),
            };
            let slot = self.projects.insert(project) as u32;
            self.by_id.insert(id, slot);
            return;
        };
        self.pass(slot);
        for member in self.members_of(slot) {
            self.conns[member as usize].own(&meter);
        }
        let project = &mut self.projects[slot as usize];
        project.meter = meter;
        if project.ring.head() != at {
            self.ring_bytes -= project.ring.bytes();
            project.ring = Ring::new(at);
            self.refuse_parked(slot, Some(at));
            self.end_overrun(slot);
        }
    }

    fn close_project(&mut self, id: ProjectId, goodbye: &Goodbye) {
        let Some(slot) = self.by_id.get(&id).copied() else { return };
        self.pass(slot);
        self.refuse_parked(slot, None);
        let farewell = Farewell::from(goodbye);
        for member in self.members_of(slot) {
            let words = self.conns[member as usize].listener.interrupted();
            let text = words.as_deref().or(farewell.text);
            self.begin_close(member, &Farewell { text, ..farewell });
        }
        self.by_id.remove(&id);
        let project = self.projects.remove(slot as usize);
        self.ring_bytes -= project.ring.bytes();
    }

    /// The slots of all connections attached to a project.
    pub(super) fn members_of(&self, project: u32) -> Vec<u32> {
        let groups = self.projects[project as usize].sets.values();
        groups.flat_map(|group| &self.groups[*group as usize].members).copied().collect()
    }

    fn publish(&mut self, id: ProjectId, new: Pending) {
        let Some(&slot) = self.by_id.get(&id) else {
            self.counters.queued_bytes.fetch_sub(new.weight, Relaxed);
            return;
        };
        let pending = &mut self.projects[slot as usize].pending;
        if pending.is_empty() {
            self.dirty.push(slot);
        }
        pending.push(new);
    }
}
