//! Messages that nobody took, kept in their order until they are sent again or have waited for too long.
//!
//! A stream that was just made has no leader that every server knows, and one whose leader died has none for some seconds.
//! The server says so of each message (nobody listens, so nothing was stored), and sending it again is safe. A message that
//! found no ack in time may be stored; only one that the stream knows by its id is sent again.

use super::publish::Queued;
use crate::LogError;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use tokio::time::Instant;

/// How long the first pause is; each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(25);
/// The longest pause. Who has come so far looks whether the stream is still there.
const LONGEST_PAUSE: Duration = Duration::from_millis(400);

/// What waits to be sent again.
pub(super) struct Held {
    /// By the token of the flight that they were in.
    messages: BTreeMap<u64, Vec<Queued>>,
    /// When to send again.
    again: Option<Instant>,
    next_pause: Duration,
}

impl Held {
    pub const fn new() -> Self {
        Self { messages: BTreeMap::new(), again: None, next_pause: FIRST_PAUSE }
    }

    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// When something may be sent again; `None` while there is no pause.
    pub const fn again(&self) -> Option<Instant> {
        self.again
    }

    /// Whether the pauses have become so long that the stream should be looked up.
    pub fn is_lasting(&self) -> bool {
        self.next_pause >= LONGEST_PAUSE
    }

    /// Begins a pause in which nothing is sent, unless there is one.
    pub fn pause(&mut self) {
        if self.again.is_none() {
            self.again = Some(Instant::now() + self.next_pause);
            self.next_pause = (self.next_pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Keeps what may still wait of a flight, and fails the rest with `error`.
    pub fn keep(&mut self, token: u64, messages: Vec<Queued>, error: &LogError) {
        let now = Instant::now();
        let (kept, over): (Vec<_>, Vec<_>) = messages.into_iter().partition(|m| m.may_wait(now));
        over.into_iter().for_each(|message| message.fail(error));
        if !kept.is_empty() {
            self.messages.insert(token, kept);
            self.pause();
        }
    }

    /// The flight `token` was stored. What was in line before it, of the same project, can no longer be stored in its turn.
    pub fn stored(&mut self, token: u64, messages: &[Queued]) {
        self.next_pause = FIRST_PAUSE;
        for earlier in self.messages.range_mut(..token).map(|(_, earlier)| earlier) {
            let overtaken = |m: &mut Queued| messages.iter().any(|stored| stored.project() == m.project());
            for message in earlier.extract_if(.., overtaken) {
                message.fail(&LogError::Unavailable(
                    "the stream had no leader for a moment and then stored a later event first; the outcome is unknown"
                        .into(),
                ));
            }
        }
        self.messages.retain(|_, messages| !messages.is_empty());
    }

    /// Puts everything back in line, in front, once the pause is over; how many that are. `None` during the pause.
    pub fn release(&mut self, line: &mut VecDeque<Queued>) -> Option<usize> {
        if self.again.is_some_and(|again| again > Instant::now()) {
            return None;
        }
        self.again = None;
        let mut released = 0;
        for message in
            std::mem::take(&mut self.messages).into_values().rev().flat_map(|m| m.into_iter().rev())
        {
            line.push_front(message);
            released += 1;
        }
        Some(released)
    }

    /// Fails everything.
    pub fn fail(&mut self, error: &LogError) {
        self.again = None;
        std::mem::take(&mut self.messages).into_values().flatten().for_each(|message| message.fail(error));
    }
}
