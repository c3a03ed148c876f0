//! A project as a shard sees it: recent messages, and the groups of connections that want them.

use crate::index::Index;
use crate::operation::{Operation, Want};
use crate::ring::Ring;
use crate::{Attach, Conn, Message, Meter};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;
use weir_core::{Pattern, ProjectId};

/// An open project.
pub struct Project {
    pub id: ProjectId,
    pub ring: Ring,
    pub meter: Arc<Meter>,
    pub index: Index,
    /// Groups by what they select.
    pub sets: HashMap<Selection, u32>,
    /// Published, and not yet in the ring or sent.
    pub pending: Vec<Pending>,
    /// Attaches from a position that the head has not reached yet.
    pub parked: Vec<(Conn, Attach)>,
}

/// Messages that were published together.
pub struct Pending {
    pub messages: Arc<[Arc<Message>]>,
    pub weight: usize,
    /// When the oldest of them came into the world.
    pub born: Instant,
}

/// What the operations of a connection want, in their order. Behind a thin pointer: that of a plain
/// selection is wide already.
#[derive(PartialEq, Eq, Hash)]
pub struct Wants(pub Box<[Want]>);

/// What a connection is subscribed to.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Selection {
    /// Events as they are, each once. Sorted.
    Plain(Arc<[Pattern]>),
    /// Events as each of its operations wants them.
    Operations(Arc<Wants>),
}

impl Selection {
    /// All patterns.
    pub fn patterns(&self) -> impl Iterator<Item = &Pattern> {
        let (plain, wants) = match self {
            Self::Plain(patterns) => (&patterns[..], &[][..]),
            Self::Operations(wants) => (&[][..], &wants.0[..]),
        };
        plain.iter().chain(wants.iter().flat_map(|want| want.patterns.iter()))
    }

    /// What a connection with these operations gets of an event with this topic: once as it is, or once
    /// for each operation that selects it.
    pub fn copies<'a>(
        &'a self,
        topic: &'a str,
        operations: &'a [Arc<Operation>],
    ) -> impl Iterator<Item = Option<&'a Arc<Operation>>> {
        let (plain, wants) = match self {
            Self::Plain(patterns) => (patterns.iter().any(|pattern| pattern.matches(topic)), &[][..]),
            Self::Operations(wants) => (false, &wants.0[..]),
        };
        let selecting = wants.iter().zip(operations).filter(|(want, _)| want.matches(topic));
        plain.then_some(None).into_iter().chain(selecting.map(|(_, operation)| Some(operation)))
    }
}

/// Connections of one project with the same selection.
pub struct Group {
    /// Its project's place in the shard.
    pub project: u32,
    pub selection: Selection,
    /// The members' slots.
    pub members: Vec<u32>,
    /// The weight of all messages ever sent to it. Only differences mean something.
    pub total: u64,
    /// Of this pass: how many copies of messages are for each member, and where their list begins.
    pub matched: u32,
    pub first: u32,
    /// The last message counted, plus one: two patterns may match the same.
    pub last: u32,
}

impl Group {
    /// How many copies of an event that the index found for it are for each member.
    pub fn copies(&self, topic: &str) -> u32 {
        match &self.selection {
            Selection::Plain(_) => 1,
            Selection::Operations(wants) => wants.0.iter().filter(|want| want.matches(topic)).count() as u32,
        }
    }
}
