//! Where a project's log is cut: the last event that goes, and what was counted up to it.
//!
//! ```text
//!    floor        mark         mark ≤ goal         goal           mark         head
//!     │────────────│────────────│─ ─ ─ ─ ─ ─ ─ ─ ─ ─ │──────────────│────────────│
//!                               └ read from here ──▶ ┘ the first event that stays
//! ```

use super::Retention;
use crate::Error;
use weir_core::{Pattern, Timestamp};
use weir_log::{LogError, Place, ReadQuery};
use weir_store::{Amount, Mark, MarkBy, Stored};

/// Bytes of events that are read for one project in one look. What goes beyond that goes at the next.
const READ_BYTES: usize = 8 << 20;
/// Events and bytes of one read.
const PAGE_EVENTS: usize = 1000;
const PAGE_BYTES: usize = 1 << 20;

/// What may stay.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    /// Events accepted at this time or later; all where there is none.
    pub before: Option<Timestamp>,
    /// The last so many bytes.
    pub bytes: u64,
}

/// Where to cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    /// Up to here; `None` where nothing goes.
    pub to: Option<Mark>,
    /// When the first event that stays was accepted.
    pub oldest_at: Option<Timestamp>,
    /// Nothing more goes for now.
    pub done: bool,
}

impl Retention {
    /// Finds what goes of a project.
    pub(super) async fn cut(&self, place: &Place, row: &Stored, bound: Bound) -> Result<Cut, Error> {
        let kept = row.kept();
        if kept.events == 0 {
            return Ok(Cut { to: None, oldest_at: None, done: true });
        }
        let aged = match (bound.before, row.oldest_at) {
            (None, _) => false,
            (Some(before), oldest) => oldest.is_none_or(|oldest| oldest < before),
        };
        if !aged && kept.bytes <= bound.bytes && row.oldest_at.is_some() {
            return Ok(Cut { to: None, oldest_at: row.oldest_at, done: true });
        }
        let floor = Mark { sequence: row.floor_sequence, up_to: row.gone };
        let mut from = floor;
        // All events up to here are too old.
        let mut old = 0;
        if let Some(before) = bound.before.filter(|_| aged) {
            old = self.log.locate(place, before).await?;
            from = self.further(from, row, MarkBy::Sequence(old)).await?;
        }
        let least = row.total.bytes.saturating_sub(bound.bytes);
        if kept.bytes > bound.bytes {
            from = self.further(from, row, MarkBy::Bytes(least)).await?;
        }
        let goes = |sequence: u64, up_to: Amount| sequence <= old || up_to.bytes < least;
        let (to, oldest_at, done) = self.read_on(place, row, from, goes).await?;
        Ok(Cut { to: (to.sequence > floor.sequence).then_some(to), oldest_at, done })
    }

    /// The mark, where it is further than `from`.
    async fn further(&self, from: Mark, row: &Stored, by: MarkBy) -> Result<Mark, Error> {
        let mark = self.store.storage.mark(row.clone(), by).await?;
        Ok(mark.filter(|mark| mark.sequence > from.sequence).unwrap_or(from))
    }

    /// Reads on from a mark as long as events go; told are the last that does, when the next was accepted, and whether
    /// there is such a next one or the end.
    async fn read_on(
        &self,
        place: &Place,
        row: &Stored,
        mut at: Mark,
        goes: impl Fn(u64, Amount) -> bool,
    ) -> Result<(Mark, Option<Timestamp>, bool), Error> {
        let (mut after, mut read) = (at.sequence, 0);
        while read < READ_BYTES {
            let query = ReadQuery {
                after,
                patterns: [Pattern::all()].into(),
                max_events: PAGE_EVENTS,
                max_bytes: PAGE_BYTES,
            };
            let page = match self.log.read(place, query).await {
                Ok(page) => page,
                // Trimmed by somebody else. What that was is not known; at the next mark the numbers are right again.
                Err(LogError::OutOfRange { floor }) if floor > after => {
                    (after, at.sequence) = (floor, floor.min(row.last_sequence));
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            for event in page.events {
                read += event.weight();
                // The server's own events are not counted; they go with those around them.
                if event.topic.is_system() {
                    continue;
                }
                // What is not counted yet stays: it would never be billed.
                if event.sequence > row.last_sequence || !goes(event.sequence, at.up_to) {
                    return Ok((at, Some(event.published_at), true));
                }
                at.sequence = event.sequence;
                at.up_to.events = (at.up_to.events + 1).min(row.total.events);
                at.up_to.bytes = at.up_to.bytes.saturating_add(event.stored_bytes()).min(row.total.bytes);
            }
            after = page.through;
            if page.at_head {
                return Ok((at, None, true));
            }
        }
        Ok((at, None, false))
    }
}
