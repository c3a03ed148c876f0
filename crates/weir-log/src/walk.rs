//! Walking over everything that was appended, of all projects together: how usage is counted.
//!
//! ```text
//!   a stream's own order   1  2  3  4  5  6  7  8  9  10  11  12 │ (next append, of whichever project)
//!   project A              ●     ●  ●        ●         ●         │
//!   project B                 ●        ●  ●     ●  ●       ●     │
//!                             after = 2 ┘                through = 12 = head
//! ```
//! One walk answers what stands after a milestone, as runs: rows of events of one project whose hours are equal.
//! Walking on from `through` again and again meets every event exactly once, whatever happens between.

use bytes::Bytes;
use std::collections::HashMap;
use weir_core::{ProjectId, TenantId, Timestamp};

/// A place in the order in which events were appended to a stream, over all its projects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Milestone {
    /// Which incarnation of the log.
    pub epoch: u64,
    /// The event with this number is the last one before it; 0 before the first.
    pub number: u64,
}

/// Events of one project that follow on each other there, accepted in the same hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Whose.
    pub tenant: TenantId,
    /// Of which project.
    pub project: ProjectId,
    /// The start of the hour in which they were accepted, by the clocks of the nodes that did.
    pub hour: Timestamp,
    /// The project's sequence of the first.
    pub first: u64,
    /// The project's sequence of the last.
    pub last: u64,
    /// How many.
    pub events: u64,
    /// Their [`Event::stored_bytes`](weir_core::Event::stored_bytes) together.
    pub bytes: u64,
}

/// Something that stands in the log and is no event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Poison {
    /// Whose, by where it stands.
    pub tenant: TenantId,
    /// Of which project, by where it stands.
    pub project: ProjectId,
    /// The topic under which it stands.
    pub topic: String,
    /// Its place.
    pub sequence: u64,
    /// What it says.
    pub body: Bytes,
}

/// What a walk found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walked {
    /// What was appended after the asked milestone, up to and including `through`. Of each project in order.
    pub runs: Vec<Run>,
    /// Where to walk on.
    pub through: Milestone,
    /// The last number that was given out before the walk began. `through` has reached it: nothing is left that was
    /// acknowledged by then. It is less than the asked number only when the log lost its end.
    pub head: u64,
    /// Events in between that are not in the log any more: what they were and whose cannot be said.
    pub lost: u64,
    /// What stands in between and is no event: nobody is shown it, and only a walk tells of it.
    pub poison: Vec<Poison>,
}

impl Walked {
    /// Only where the order stands.
    pub(crate) const fn ends(epoch: u64, number: u64, head: u64) -> Self {
        Self { runs: Vec::new(), through: Milestone { epoch, number }, head, lost: 0, poison: Vec::new() }
    }

    /// Whether everything that was acknowledged before the walk began has been walked over.
    #[must_use]
    pub const fn at_head(&self) -> bool {
        self.through.number >= self.head
    }
}

/// Gathers events in the log's order into runs.
#[derive(Default)]
pub(crate) struct Runs {
    all: Vec<Run>,
    /// The last run of each project.
    last: HashMap<ProjectId, usize>,
}

impl Runs {
    /// Adds what follows.
    pub fn add(&mut self, next: Run) {
        let last = self.last.get(&next.project).and_then(|place| self.all.get_mut(*place));
        match last {
            Some(run) if run.hour == next.hour && run.tenant == next.tenant => {
                run.last = next.last;
                run.events += next.events;
                run.bytes = run.bytes.saturating_add(next.bytes);
            }
            _ => {
                self.last.insert(next.project, self.all.len());
                self.all.push(next);
            }
        }
    }

    pub fn into_vec(self) -> Vec<Run> {
        self.all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_end_where_the_hour_changes() {
        let (tenant, projects) = (TenantId::new(), [ProjectId::new(), ProjectId::new()]);
        let mut runs = Runs::default();
        for (sequence, (project, hour)) in (1..).zip([(0, 1), (1, 1), (0, 1), (0, 2), (1, 1), (0, 1)]) {
            let hour = Timestamp::from_seconds(hour * 3600);
            runs.add(Run {
                tenant,
                project: projects[project],
                hour,
                first: sequence,
                last: sequence,
                events: 1,
                bytes: sequence,
            });
        }
        let runs = runs.into_vec();
        let told: Vec<_> = runs.iter().map(|run| (run.first, run.last, run.events, run.bytes)).collect();
        assert_eq!(told, [(1, 3, 2, 4), (2, 5, 2, 7), (4, 4, 1, 4), (6, 6, 1, 6)]);
    }
}
