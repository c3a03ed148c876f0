//! A project as a shard sees it: recent messages, and the groups of connections that want them.

use crate::index::Index;
use crate::ring::Ring;
use crate::{Attach, Conn, Message, Meter};
use std::collections::HashMap;
use std::sync::Arc;
use weir_core::{Pattern, ProjectId};

/// An open project.
pub struct Project {
    pub id: ProjectId,
    pub ring: Ring,
    pub meter: Arc<Meter>,
    pub index: Index,
    /// Groups by their sorted patterns.
    pub sets: HashMap<Arc<[Pattern]>, u32>,
    /// Published, and not yet in the ring or sent, with their weight.
    pub pending: Vec<(Arc<[Arc<Message>]>, usize)>,
    /// Attaches from a position that the head has not reached yet.
    pub parked: Vec<(Conn, Attach)>,
}

/// Connections of one project with the same patterns.
pub struct Group {
    /// Its project's place in the shard.
    pub project: u32,
    pub patterns: Arc<[Pattern]>,
    /// The members' slots.
    pub members: Vec<u32>,
    /// The weight of all messages ever sent to it. Only differences mean something.
    pub total: u64,
    /// Of the messages of this pass: how many are for this group, and where their list begins.
    pub matched: u32,
    pub first: u32,
    /// The last message counted, plus one: two patterns may match the same.
    pub last: u32,
}

impl Group {
    /// Whether one of the patterns selects the topic.
    pub fn matches(&self, topic: &str) -> bool {
        self.patterns.iter().any(|pattern| pattern.matches(topic))
    }
}
