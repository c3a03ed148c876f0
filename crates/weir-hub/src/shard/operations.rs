//! Operations: subscriptions of one connection that come and go without disturbing each other.

use super::Shard;
use crate::connection::{Covered, NONE};
use crate::operation::Want;
use crate::project::{Selection, Wants};
use crate::{Conn, Message, Operation};
use std::sync::Arc;
use weir_core::{Pattern, Position};

impl Shard {
    /// Adds an operation. The first of a connection finds what it missed in the ring, a further one in the
    /// queue; from then on all are served from the same place in the ring.
    pub(super) fn attach_operation(
        &mut self,
        slot: u32,
        project: u32,
        patterns: Vec<Pattern>,
        operation: Arc<Operation>,
        start: Position,
    ) {
        let want = Want { patterns: patterns.into(), shape: Arc::clone(&operation.shape) };
        let conn = &self.conns[slot as usize];
        let mut operations = conn.operations().to_vec();
        operations.push(Arc::clone(&operation));
        let mut wants = self.wants_of(slot);
        wants.push(want.clone());
        if conn.group == NONE {
            self.conns[slot as usize].covered = Covered::Operations(Box::new(operations.into()));
            self.join(slot, project, Selection::Operations(Arc::new(Wants(wants.into()))));
            return self.fall_back(slot, project, start);
        }
        let ring = &self.projects[project as usize].ring;
        let missed = ring.after(start.sequence).filter(|entry| want.matches(entry.message.topic.as_str()));
        let (messages, weights): (Vec<Arc<Message>>, Vec<usize>) =
            missed.map(|entry| (Arc::clone(&entry.message), entry.weight as usize)).unzip();
        self.queue_messages(slot, messages, Some(&operation), weights.iter().sum());
        self.leave(slot);
        self.conns[slot as usize].covered = Covered::Operations(Box::new(operations.into()));
        self.join(slot, project, Selection::Operations(Arc::new(Wants(wants.into()))));
    }

    /// Ends one operation. What was published before and is still to be passed on finds it gone.
    pub(super) fn detach_operation(&mut self, conn: Conn, id: u32, done: Box<dyn FnOnce() + Send>) {
        let Some(slot) = self.live_slot(conn) else { return };
        if self.conns[slot as usize].parked {
            let is_its = |(owner, attach): &(Conn, crate::Attach)| {
                *owner == conn && attach.operation.as_ref().is_some_and(|operation| operation.id == id)
            };
            self.projects.iter_mut().for_each(|(_, project)| project.parked.retain(|one| !is_its(one)));
        }
        if !self.settle(slot) {
            return self.end_slow(slot);
        }
        if let Some(backlog) = self.conns[slot as usize].backlog.as_deref_mut() {
            backlog.forget(id);
        }
        self.leave_operation(slot, id);
        self.pump(slot);
        done();
    }

    /// Moves a connection to the group of its other operations.
    fn leave_operation(&mut self, slot: u32, id: u32) {
        let mut operations = self.conns[slot as usize].operations().to_vec();
        let Some(at) = operations.iter().position(|operation| operation.id == id) else { return };
        let mut wants = self.wants_of(slot);
        let project = self.project_of(slot);
        operations.remove(at);
        wants.remove(at);
        self.leave(slot);
        let Some(project) = project.filter(|_| !wants.is_empty()) else {
            self.conns[slot as usize].covered = Covered::Since(0);
            return;
        };
        self.conns[slot as usize].covered = Covered::Operations(Box::new(operations.into()));
        self.join(slot, project, Selection::Operations(Arc::new(Wants(wants.into()))));
    }

    /// What the operations of a connection want, in their order.
    fn wants_of(&self, slot: u32) -> Vec<Want> {
        match self.groups.get(self.conns[slot as usize].group as usize).map(|group| &group.selection) {
            Some(Selection::Operations(wants)) => wants.0.to_vec(),
            _ => Vec::new(),
        }
    }
}
