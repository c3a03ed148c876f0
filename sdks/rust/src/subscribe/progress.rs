//! What was handed over so far: where to resume, what to leave out, what is missing.
//!
//! One project has one order, so "seen" is one number. And because every event names the one before it
//! on its topic, one number also proves that nothing is missing: an event whose `previous` is beyond the
//! last one seen had a predecessor, on a topic that is subscribed to, that never came.

use crate::{Event, Gap, GapReason, Start};
use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};

/// How many ids are remembered for the case that the log begins anew.
const RECENT: usize = 1024;

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Hand it over.
    New,
    /// It was handed over before.
    Seen,
    /// An event before it is missing: resume, the log has it.
    Hole,
    /// It is missing even after resuming: hand over the gap, then the event.
    Lost(Gap),
}

pub(crate) struct Progress {
    start: Start,
    /// The last sequence handed over in the present order.
    last: Option<u64>,
    /// Whether everything between `last` and the next event must be among what arrives.
    unbroken: bool,
    /// The event at which a hole was found already.
    hole: Option<u64>,
    hasher: RandomState,
    /// Hashes of the last ids of the present order.
    recent: VecDeque<u64>,
    /// Hashes of the last ids of the order before, whose sequences mean nothing any more.
    former: HashSet<u64>,
}

impl Progress {
    pub(crate) fn new(start: Start) -> Self {
        Self {
            start,
            last: None,
            unbroken: false,
            hole: None,
            hasher: RandomState::new(),
            recent: VecDeque::new(),
            former: HashSet::new(),
        }
    }

    /// Where the next connection begins.
    pub(crate) const fn start(&self) -> &Start {
        &self.start
    }

    /// The server says where the subscription stands. Counts only until the first event: from then on the
    /// events themselves say it. True when it counted.
    pub(crate) fn at(&mut self, cursor: &str) -> bool {
        if self.last.is_none() {
            self.start = Start::After(cursor.to_owned());
        }
        self.last.is_none()
    }

    pub(crate) fn judge(&mut self, event: &Event) -> Verdict {
        if self.last.is_some_and(|last| event.sequence <= last) {
            return Verdict::Seen;
        }
        let hash = self.hasher.hash_one(&event.id);
        let missing = self.last.filter(|last| self.unbroken && event.previous > *last);
        if missing.is_some() && self.hole.replace(event.sequence) != Some(event.sequence) {
            return Verdict::Hole;
        }
        self.last = Some(event.sequence);
        self.unbroken = true;
        self.hole = None;
        self.start = Start::After(event.cursor.clone());
        if self.former.contains(&hash) {
            return Verdict::Seen;
        }
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(hash);
        missing.map_or(Verdict::New, |last| {
            Verdict::Lost(Gap { reason: GapReason::Missing, from: Some(last + 1), to: Some(event.previous) })
        })
    }

    /// The server declared a gap.
    pub(crate) fn gap(&mut self, gap: &Gap) {
        self.unbroken = false;
        if !gap.reason.same_order() {
            self.last = None;
            self.former = self.recent.drain(..).collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::value::RawValue;

    fn event(sequence: u64, previous: u64) -> Event {
        Event {
            id: format!("e{sequence}"),
            topic: "t".into(),
            sequence,
            previous,
            cursor: format!("c{sequence}"),
            published_at: String::new(),
            kind: None,
            headers: Default::default(),
            payload: RawValue::from_string("1".into()).expect("JSON"),
        }
    }

    #[test]
    fn repeats_are_left_out_and_the_cursor_follows() {
        let mut progress = Progress::new(Start::Default);
        assert!(progress.at("c4"));
        assert_eq!(progress.start(), &Start::After("c4".into()));
        assert_eq!(progress.judge(&event(5, 4)), Verdict::New);
        assert_eq!(progress.judge(&event(7, 3)), Verdict::New);
        assert_eq!(progress.judge(&event(5, 4)), Verdict::Seen);
        assert!(!progress.at("c9"));
        assert_eq!(progress.start(), &Start::After("c7".into()));
    }

    #[test]
    fn a_hole_is_resumed_once_and_then_declared() {
        let mut progress = Progress::new(Start::Default);
        assert_eq!(progress.judge(&event(5, 4)), Verdict::New);
        assert_eq!(progress.judge(&event(8, 6)), Verdict::Hole);
        assert_eq!(progress.start(), &Start::After("c5".into()));
        // Resuming brings the missing one: all is well.
        assert_eq!(progress.judge(&event(6, 5)), Verdict::New);
        assert_eq!(progress.judge(&event(8, 6)), Verdict::New);
        // Resuming does not: the loss is declared.
        assert_eq!(progress.judge(&event(12, 10)), Verdict::Hole);
        let gap = Gap { reason: GapReason::Missing, from: Some(9), to: Some(10) };
        assert_eq!(progress.judge(&event(12, 10)), Verdict::Lost(gap));
        assert_eq!(progress.judge(&event(13, 12)), Verdict::New);
    }

    #[test]
    fn an_expired_gap_keeps_the_order_and_another_epoch_does_not() {
        let gap = |reason| Gap { reason, from: None, to: None };
        let mut progress = Progress::new(Start::Default);
        assert_eq!(progress.judge(&event(5, 4)), Verdict::New);
        progress.gap(&gap(GapReason::Expired));
        assert_eq!(progress.judge(&event(5, 4)), Verdict::Seen);
        assert_eq!(progress.judge(&event(90, 80)), Verdict::New);

        progress.gap(&gap(GapReason::EpochChanged));
        let mut published_again = event(1, 0);
        published_again.id = "e90".into();
        assert_eq!(progress.judge(&published_again), Verdict::Seen);
        assert_eq!(progress.judge(&event(2, 1)), Verdict::New);
    }
}
