//! An event's payload: any JSON value, checked once at the door and carried as text ever after.

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// The deepest nesting of arrays and objects that is accepted. Deeper values break the parsers of
/// common clients.
pub const MAX_DEPTH: usize = 64;

/// JSON text on one line (no raw CR or LF, so it can stand in an SSE `data:` line as it is).
#[derive(Clone, PartialEq, Eq)]
pub struct Payload(Bytes);

/// Why a text is not a payload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPayload {
    /// Not JSON.
    #[error("the payload is not JSON: {0}")]
    NotJson(String),
    /// Nested beyond [`MAX_DEPTH`].
    #[error("the payload is nested {0} levels deep; at most {MAX_DEPTH} are allowed")]
    TooDeep(usize),
    /// Over the limit that applies to the caller.
    #[error("the payload has {size} bytes; the limit is {limit}")]
    TooLarge {
        /// Bytes of the payload.
        size: usize,
        /// The limit, in bytes.
        limit: usize,
    },
}

impl Payload {
    /// Takes JSON text that came from outside.
    ///
    /// # Errors
    /// [`InvalidPayload`] when it is not JSON or nested too deep.
    pub fn parse(text: &[u8]) -> Result<Self, InvalidPayload> {
        // Before the parser, which recurses.
        check_depth(text)?;
        let text = std::str::from_utf8(text).map_err(|e| InvalidPayload::NotJson(e.to_string()))?;
        check_values(text)?;
        Ok(Self(one_line(text.trim())))
    }

    /// Takes a value that serde already read out of a larger document.
    ///
    /// # Errors
    /// [`InvalidPayload`] when it is nested too deep, or has a value that receivers cannot read.
    pub fn from_raw(raw: &RawValue) -> Result<Self, InvalidPayload> {
        check_depth(raw.get().as_bytes())?;
        check_values(raw.get())?;
        Ok(Self(one_line(raw.get())))
    }

    /// Takes back what a log stored: it was checked when it went in.
    #[must_use]
    pub const fn stored(text: Bytes) -> Self {
        Self(text)
    }

    /// The JSON text.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The JSON text, shared.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        self.0.clone()
    }

    /// Bytes of the JSON text: what size limits count.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Never true: even `null` is four bytes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Checks the size.
    ///
    /// # Errors
    /// [`InvalidPayload::TooLarge`] above `limit` bytes.
    pub const fn fits(&self, limit: usize) -> Result<(), InvalidPayload> {
        if self.0.len() > limit {
            return Err(InvalidPayload::TooLarge { size: self.0.len(), limit });
        }
        Ok(())
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Payloads are a tenant's property: their size may be logged, their content never.
        write!(f, "Payload({} bytes)", self.0.len())
    }
}

/// Inside a JSON string CR and LF can only stand escaped, so raw ones are white space between
/// tokens and a space says the same.
fn one_line(text: &str) -> Bytes {
    if text.bytes().any(|b| b == b'\n' || b == b'\r') {
        text.bytes().map(|b| if b == b'\n' || b == b'\r' { b' ' } else { b }).collect()
    } else {
        Bytes::copy_from_slice(text.as_bytes())
    }
}

/// JSON's grammar has numbers that no double holds (`1e999`) and halves of characters (`"\ud800"`). A raw value passes them on, and the
/// receivers' parsers refuse the event that holds them; so they are refused here.
fn check_values(text: &str) -> Result<(), InvalidPayload> {
    serde_json::from_str::<Readable>(text).map(drop).map_err(|e| InvalidPayload::NotJson(e.to_string()))
}

fn check_depth(text: &[u8]) -> Result<(), InvalidPayload> {
    match depth(text) {
        depth if depth > MAX_DEPTH => Err(InvalidPayload::TooDeep(depth)),
        _ => Ok(()),
    }
}

/// Any value, read in full and kept nowhere. What serde ignores it does not read.
struct Readable;

impl<'de> Deserialize<'de> for Readable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Readable {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Self, A::Error> {
        while values.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> Result<Self, A::Error> {
        while pairs.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
    }
}

/// The deepest nesting, counted without recursion so a bomb costs one pass.
fn depth(text: &[u8]) -> usize {
    let (mut now, mut most, mut in_string, mut escaped) = (0_usize, 0_usize, false, false);
    for byte in text {
        match (in_string, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_string = !in_string,
            (false, b'[' | b'{') => {
                now += 1;
                most = most.max(now);
            }
            (false, b']' | b'}') => now = now.saturating_sub(1),
            _ => {}
        }
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keeps_the_text_on_one_line() {
        let payload = Payload::parse(b" {\n \"a\": \"x\\ny\",\r\n \"b\": 1 }\n").expect("valid");
        assert_eq!(payload.as_bytes(), b"{  \"a\": \"x\\ny\",   \"b\": 1 }");
    }

    #[test]
    fn refuses_bombs_and_garbage() {
        let bomb = "[".repeat(30_000);
        assert_eq!(Payload::parse(bomb.as_bytes()), Err(InvalidPayload::TooDeep(30_000)));
        assert!(matches!(Payload::parse(b"{\"a\":"), Err(InvalidPayload::NotJson(_))));
        assert!(matches!(Payload::parse(b"\"\xff\""), Err(InvalidPayload::NotJson(_))));
        assert!(matches!(Payload::parse(b""), Err(InvalidPayload::NotJson(_))));
        assert!(Payload::parse(b"\"[[[[{{{{\"").is_ok());
    }

    /// Every one of these is JSON by its grammar, and would stop the receivers of its topic.
    #[test]
    fn refuses_what_receivers_cannot_read() {
        for text in ["6e6363", "[-1e999]", r#"{"a":{"b":[1,2e400]}}"#, r#""\ud800""#, r#"{"\udc00":1}"#] {
            assert!(matches!(Payload::parse(text.as_bytes()), Err(InvalidPayload::NotJson(_))), "{text}");
            let raw: &RawValue = serde_json::from_str(text).expect("JSON by its grammar");
            assert!(matches!(Payload::from_raw(raw), Err(InvalidPayload::NotJson(_))), "{text}");
        }
        for text in ["1e308", "1e-999", "123456789012345678901234567890", r#"["\ud83d\ude00",null,true,-1]"#]
        {
            assert_eq!(Payload::parse(text.as_bytes()).expect(text).as_bytes(), text.as_bytes());
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(payload) = Payload::parse(&text) {
                prop_assert!(!payload.as_bytes().contains(&b'\n'));
                prop_assert!(serde_json::from_slice::<serde_json::Value>(payload.as_bytes()).is_ok());
            }
        }
    }
}
