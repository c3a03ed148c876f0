//! Where a reader starts: from a wish (a cursor, a sequence, a time, now) to a position in the log and,
//! where something cannot be had any more, the gap that is declared.

use crate::Error;
use serde::Serialize;
use weir_core::{Cursor, CursorKey, Position, Timestamp};
use weir_log::{EventLog, Inspection, Place};

/// Where a reader wishes to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// With what is published from now on.
    Live,
    /// With the first event that is retained.
    Earliest,
    /// After the event of this cursor.
    After(String),
    /// With this sequence.
    Sequence(u64),
    /// With the first event accepted at this time or later.
    Time(Timestamp),
}

/// Why a reader cannot have what it asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GapReason {
    /// The events are no longer retained.
    Expired,
    /// The log was made anew since the cursor was issued.
    EpochChanged,
    /// The cursor points beyond the end: the log lost events that were read before.
    AheadOfLog,
    /// Another event stands at the cursor's place: the log was restored and written on.
    Rewritten,
}

/// Events that a reader will not get, declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// Why.
    pub reason: GapReason,
    /// The first sequence that is missing or cannot be trusted.
    pub from: u64,
    /// The last one.
    pub to: u64,
}

/// A wish, resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Resolved {
    /// Read after this. A `check` of 0 says that it comes from the log itself and needs no proof.
    pub(crate) after: Position,
    /// What is missing before it.
    pub(crate) gap: Option<Gap>,
}

/// Reads a cursor of the place's project.
pub(crate) fn decode(cursors: &CursorKey, place: &Place, text: &str) -> Result<Cursor, Error> {
    Ok(cursors.decode(text, place.project)?)
}

/// Asks the log where to start.
pub(crate) async fn resolve(
    log: &dyn EventLog,
    cursors: &CursorKey,
    place: &Place,
    start: &Start,
) -> Result<Resolved, Error> {
    match start {
        Start::After(text) => {
            let position = decode(cursors, place, text)?.position;
            let found = log.inspect(place, position.sequence).await?;
            Ok(after_cursor(position, found))
        }
        Start::Sequence(wanted) => {
            let found = log.inspect(place, 0).await?;
            Ok(after_sequence(wanted.saturating_sub(1), found))
        }
        Start::Time(time) => {
            let after = log.locate(place, *time).await?;
            let found = log.inspect(place, 0).await?;
            Ok(after_sequence(after, found))
        }
        Start::Earliest => {
            let found = log.inspect(place, 0).await?;
            Ok(at(found, found.bounds.floor, None))
        }
        Start::Live => {
            let found = log.inspect(place, 0).await?;
            Ok(at(found, found.bounds.head.sequence, None))
        }
    }
}

fn at(found: Inspection, sequence: u64, gap: Option<Gap>) -> Resolved {
    Resolved { after: Position { epoch: found.bounds.head.epoch, sequence, check: 0 }, gap }
}

pub(crate) fn after_cursor(cursor: Position, found: Inspection) -> Resolved {
    let (floor, head) = (found.bounds.floor, found.bounds.head);
    if cursor.epoch != head.epoch {
        // Nothing is known of the old log; everything in the new one is new to the reader.
        let gap = Gap { reason: GapReason::EpochChanged, from: 1, to: head.sequence.max(cursor.sequence) };
        return at(found, floor, Some(gap));
    }
    if cursor.sequence > head.sequence {
        let gap = Gap { reason: GapReason::AheadOfLog, from: head.sequence + 1, to: cursor.sequence };
        return at(found, head.sequence, Some(gap));
    }
    if cursor.sequence < floor {
        let gap = Gap { reason: GapReason::Expired, from: cursor.sequence + 1, to: floor };
        return at(found, floor, Some(gap));
    }
    // At the floor itself the event is gone and cannot be compared; a check of 0 was never issued for
    // an event that could be.
    let comparable = cursor.sequence > floor && cursor.check != 0;
    if comparable && found.check != Some(cursor.check) {
        let gap = Gap { reason: GapReason::Rewritten, from: floor + 1, to: cursor.sequence };
        return at(found, cursor.sequence, Some(gap));
    }
    Resolved { after: cursor, gap: None }
}

fn after_sequence(after: u64, found: Inspection) -> Resolved {
    let (floor, head) = (found.bounds.floor, found.bounds.head.sequence);
    if after < floor {
        let gap = Gap { reason: GapReason::Expired, from: after + 1, to: floor };
        return at(found, floor, Some(gap));
    }
    // A sequence that is yet to come starts when it comes; the live path takes it from the head.
    at(found, after.min(head), None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_log::Bounds;

    fn found(floor: u64, head: u64, check: Option<u32>) -> Inspection {
        let head = Position { epoch: 9, sequence: head, check: 77 };
        Inspection { bounds: Bounds { floor, head }, check }
    }

    fn cursor(epoch: u64, sequence: u64, check: u32) -> Position {
        Position { epoch, sequence, check }
    }

    fn reason(resolved: Resolved) -> Option<(GapReason, u64, u64)> {
        resolved.gap.map(|gap| (gap.reason, gap.from, gap.to))
    }

    #[test]
    fn a_good_cursor_has_no_gap() {
        let resolved = after_cursor(cursor(9, 5, 1), found(2, 10, Some(1)));
        assert_eq!((resolved.after.sequence, reason(resolved)), (5, None));
        // Everything read, the last event since trimmed away: nothing is missing.
        let resolved = after_cursor(cursor(9, 10, 1), found(10, 10, None));
        assert_eq!((resolved.after.sequence, reason(resolved)), (10, None));
        let resolved = after_cursor(cursor(9, 0, 0), found(0, 10, None));
        assert_eq!((resolved.after.sequence, reason(resolved)), (0, None));
    }

    #[test]
    fn every_other_cursor_is_told_why() {
        let resolved = after_cursor(cursor(9, 1, 1), found(4, 10, None));
        assert_eq!((resolved.after.sequence, reason(resolved)), (4, Some((GapReason::Expired, 2, 4))));
        let resolved = after_cursor(cursor(8, 5, 1), found(0, 3, None));
        assert_eq!((resolved.after.sequence, reason(resolved)), (0, Some((GapReason::EpochChanged, 1, 5))));
        let resolved = after_cursor(cursor(9, 12, 1), found(0, 10, None));
        assert_eq!((resolved.after.sequence, reason(resolved)), (10, Some((GapReason::AheadOfLog, 11, 12))));
        let resolved = after_cursor(cursor(9, 5, 1), found(0, 10, Some(2)));
        assert_eq!((resolved.after.sequence, reason(resolved)), (5, Some((GapReason::Rewritten, 1, 5))));
        let resolved = after_cursor(cursor(9, 5, 1), found(0, 10, None));
        assert_eq!(resolved.gap.map(|gap| gap.reason), Some(GapReason::Rewritten));
    }

    #[test]
    fn sequences_before_the_floor_are_a_gap_and_beyond_the_head_wait() {
        let resolved = after_sequence(1, found(4, 10, None));
        assert_eq!((resolved.after.sequence, reason(resolved)), (4, Some((GapReason::Expired, 2, 4))));
        assert_eq!(after_sequence(50, found(4, 10, None)).after.sequence, 10);
    }
}
