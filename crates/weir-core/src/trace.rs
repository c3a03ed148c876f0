//! Trace context as the W3C has it (<https://www.w3.org/TR/trace-context/>): which trace something belongs to, so that
//! whoever handles it next can go on with that trace. It is carried, not made: spans are `tracing`'s, and the binary's
//! subscriber records them.
//!
//! Two targets are all that the crates and the subscriber agree upon. A [`ROOT`] begins a trace, continues
//! somebody else's or names its parent; whoever makes it has asked whether that trace is recorded. A [`PART`] lies within
//! the span that the thread is in; the subscriber leaves it out where there is none. So what is not sampled has no spans at all.

use std::fmt::{self, Write};
use std::str::FromStr;
use std::sync::Arc;

/// The name of the first header, and of the event header that carries it.
pub const TRACEPARENT: &str = "traceparent";
/// The name of the second one.
pub const TRACESTATE: &str = "tracestate";

/// The target of spans that are made only when they are recorded.
pub const ROOT: &str = "weir::trace::root";
/// The target of spans that are left out when there is none around them.
pub const PART: &str = "weir::trace::part";

/// A number as an attribute of a span. Unsigned ones end as text there.
#[must_use]
pub fn number(value: impl TryInto<i64>) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}

/// Bytes of a `tracestate` that is passed on; a longer one is dropped, as the specification allows.
const STATE_BYTES: usize = 512;
/// The flags of version 00, level 2: sampled, and a random trace id.
const KNOWN_FLAGS: u8 = 0b11;
const SAMPLED: u8 = 0b01;

/// A place in a trace.
#[derive(Clone, PartialEq, Eq)]
pub struct TraceContext {
    trace: [u8; 16],
    span: [u8; 8],
    flags: u8,
    state: Option<Arc<str>>,
}

/// Why a text is no `traceparent`. Whoever gets one goes on as if there were none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a traceparent: use 00-<32 hex digits>-<16 hex digits>-<2 hex digits>, lower case, ids not zero")]
pub struct InvalidTraceParent;

impl TraceContext {
    /// From ids that a tracer made.
    #[must_use]
    pub fn new(trace: [u8; 16], span: [u8; 8], sampled: bool, state: Option<&str>) -> Self {
        let flags = if sampled { SAMPLED } else { 0 };
        Self { trace, span, flags, state: None }.with_state(state)
    }

    /// From the two headers; `None` without a usable first one.
    #[must_use]
    pub fn read(traceparent: Option<&str>, tracestate: Option<&str>) -> Option<Self> {
        let context: Self = traceparent?.trim().parse().ok()?;
        Some(context.with_state(tracestate))
    }

    fn with_state(mut self, state: Option<&str>) -> Self {
        let usable = |text: &&str| {
            (1..=STATE_BYTES).contains(&text.len()) && text.bytes().all(|b| matches!(b, b'\t' | 0x20..=0x7e))
        };
        self.state = state.map(str::trim).filter(usable).map(Into::into);
        self
    }

    /// The id of the trace.
    #[must_use]
    pub const fn trace(&self) -> [u8; 16] {
        self.trace
    }

    /// The id of the span that is the parent of what comes next.
    #[must_use]
    pub const fn span(&self) -> [u8; 8] {
        self.span
    }

    /// Whether the trace is being recorded.
    #[must_use]
    pub const fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The value of `traceparent`.
    #[must_use]
    pub fn traceparent(&self) -> String {
        self.to_string()
    }

    /// The value of `tracestate`, where there is one.
    #[must_use]
    pub fn tracestate(&self) -> Option<&str> {
        self.state.as_deref()
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("00-")?;
        self.trace.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_char('-')?;
        self.span.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        write!(f, "-{:02x}", self.flags)
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for TraceContext {
    type Err = InvalidTraceParent;

    fn from_str(text: &str) -> Result<Self, InvalidTraceParent> {
        let bytes = text.as_bytes();
        let at = |place: usize| bytes.get(place) == Some(&b'-');
        let [version] = hex(bytes.get(0..2))?;
        // A later version may say more after what this one knows, never less.
        let length = if version == 0 { bytes.len() == 55 } else { bytes.len() == 55 || at(55) };
        if version == 0xff || !length || !(at(2) && at(35) && at(52)) {
            return Err(InvalidTraceParent);
        }
        let (trace, span) = (hex(bytes.get(3..35))?, hex(bytes.get(36..52))?);
        let [flags] = hex(bytes.get(53..55))?;
        if trace == [0; 16] || span == [0; 8] {
            return Err(InvalidTraceParent);
        }
        Ok(Self { trace, span, flags: flags & KNOWN_FLAGS, state: None })
    }
}

/// Lower-case hexadecimal digits, exactly as many as the array needs.
fn hex<const N: usize>(digits: Option<&[u8]>) -> Result<[u8; N], InvalidTraceParent> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Ok(byte - b'0'),
        b'a'..=b'f' => Ok(byte - b'a' + 10),
        _ => Err(InvalidTraceParent),
    };
    let digits = digits.filter(|digits| digits.len() == 2 * N).ok_or(InvalidTraceParent)?;
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn what_is_read_is_what_is_written() {
        let context = TraceContext::read(Some(GOOD), Some("vendor=1,other=a b")).expect("good");
        assert_eq!((context.traceparent().as_str(), context.is_sampled()), (GOOD, true));
        assert_eq!(context.tracestate(), Some("vendor=1,other=a b"));
        let unsampled: TraceContext = GOOD.replace("-01", "-00").parse().expect("good");
        assert!(!unsampled.is_sampled());
        // Flags that this version does not know are not passed on; a later version's beginning is understood.
        let later = format!("{}-more", GOOD.replace("00-0a", "cc-0a").replace("-01", "-ff"));
        assert_eq!(later.parse::<TraceContext>().expect("good").traceparent(), GOOD.replace("-01", "-03"));
    }

    #[test]
    fn anything_else_is_as_if_there_were_none() {
        let cut = &GOOD[..54];
        for bad in [
            "",
            "00",
            cut,
            &format!("{GOOD}-x"),
            &format!("{GOOD}x"),
            &GOOD.to_uppercase(),
            &GOOD.replace("00-", "ff-"),
            &GOOD.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            &GOOD.replace("b7ad6b7169203331", &"0".repeat(16)),
            &GOOD.replace('-', "_"),
            &GOOD.replace("0a", "0é"),
        ] {
            assert_eq!(TraceContext::read(Some(bad), None), None, "{bad}");
        }
        let state = |text: &str| TraceContext::read(Some(GOOD), Some(text)).and_then(|c| c.state);
        assert_eq!(state(""), None);
        assert_eq!(state("a=\u{7f}"), None);
        assert_eq!(state(&"a".repeat(513)), None);
    }
}
