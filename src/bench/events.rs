//! The events that the bench publishes, and what its probes read out of them.

use memchr::memmem;
use std::fmt::Write;
use std::sync::OnceLock;
use std::time::Instant;

/// Added to every time stamp, so that it always has as many digits.
const STAMP: u64 = 1_000_000_000_000_000;

/// Nanoseconds since the bench began; publisher and subscribers share this clock.
pub(super) fn now() -> u64 {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    let nanos = BEGAN.get_or_init(Instant::now).elapsed().as_nanos();
    u64::try_from(nanos).unwrap_or(u64::MAX)
}

/// A payload of `bytes` bytes (at least 35) with the time in it.
pub(super) fn payload(bytes: usize) -> String {
    let mut text = format!("{{\"t\":{},\"pad\":\"", STAMP + now());
    let pad = bytes.saturating_sub(text.len() + 2);
    text.extend(std::iter::repeat_n('x', pad));
    text.push_str("\"}");
    text
}

/// The body that publishes one.
pub(super) fn body(topic: &str, bytes: usize, out: &mut String) {
    // Writing into a String cannot fail.
    let _ = write!(out, "{{\"topic\":\"{topic}\",\"payload\":{}}}", payload(bytes));
}

/// What a probe reads in an event.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reading {
    /// When it was published, on the clock of [`now`].
    pub(super) published: Option<u64>,
    pub(super) sequence: Option<u64>,
    pub(super) previous: Option<u64>,
}

impl Reading {
    pub(super) fn of(text: &[u8]) -> Self {
        Self {
            published: number(text, b"\"t\":").and_then(|stamp| stamp.checked_sub(STAMP)),
            sequence: number(text, b"\"sequence\":"),
            previous: number(text, b"\"previous\":"),
        }
    }
}

fn number(text: &[u8], name: &[u8]) -> Option<u64> {
    let digits = &text[memmem::find(text, name)? + name.len()..];
    let end = digits.iter().position(|b| !b.is_ascii_digit()).unwrap_or(digits.len());
    std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_has_its_size_and_gives_its_time_back() {
        let before = now();
        let text = payload(128);
        assert_eq!(text.len(), 128);
        let event = format!("{{\"sequence\":7,\"previous\":3,\"payload\":{text}}}");
        let reading = Reading::of(event.as_bytes());
        assert_eq!((reading.sequence, reading.previous), (Some(7), Some(3)));
        assert!((before..=now()).contains(&reading.published.expect("stamped")));
    }
}
