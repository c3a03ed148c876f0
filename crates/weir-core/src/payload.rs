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
        let look = Look::over(text);
        // Before the parser, which recurses.
        look.check_depth()?;
        let text = std::str::from_utf8(text).map_err(|e| InvalidPayload::NotJson(e.to_string()))?;
        check_values(text)?;
        Ok(Self(look.one_line(text.trim())))
    }

    /// Takes a value that serde already read out of a larger document: JSON by its grammar.
    ///
    /// # Errors
    /// [`InvalidPayload`] when it is nested too deep, or has a value that receivers cannot read.
    pub fn from_raw(raw: &RawValue) -> Result<Self, InvalidPayload> {
        let look = Look::over(raw.get().as_bytes());
        look.check_depth()?;
        if look.doubtful {
            check_values(raw.get())?;
        }
        Ok(Self(look.one_line(raw.get())))
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

/// JSON's grammar has numbers that no double holds (`1e999`) and halves of characters (`"\ud800"`). A raw value passes them on, and the
/// receivers' parsers refuse the event that holds them; so they are refused here.
fn check_values(text: &str) -> Result<(), InvalidPayload> {
    serde_json::from_str::<Readable>(text).map(drop).map_err(|e| InvalidPayload::NotJson(e.to_string()))
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

/// What one pass over a text tells that is JSON, or shall become it.
#[derive(Default)]
struct Look {
    /// The deepest nesting. Counted without recursion, so a bomb costs one pass; true of what is not JSON too.
    depth: usize,
    /// CR or LF stand between tokens.
    breaks: bool,
    /// [`check_values`] may have something against it. False for nearly all payloads, which spares them a second pass.
    doubtful: bool,
}

impl Look {
    fn over(text: &[u8]) -> Self {
        let mut look = Self::default();
        let (mut at, mut open) = (0, 0_usize);
        while let Some(byte) = text.get(at) {
            at += 1;
            match byte {
                b'"' => at += look.string(&text[at..]),
                b'0'..=b'9' => at += look.digits(&text[at..]),
                b'[' | b'{' => {
                    open += 1;
                    look.depth = look.depth.max(open);
                }
                b']' | b'}' => open = open.saturating_sub(1),
                b'\n' | b'\r' => look.breaks = true,
                _ => {}
            }
        }
        look
    }

    /// The bytes of a string and its closing quote, after the opening one. Half a character can only stand as an escape
    /// from `\ud800` to `\udfff`.
    fn string(&mut self, text: &[u8]) -> usize {
        let mut at = 0;
        while let Some(found) = memchr::memchr2(b'"', b'\\', &text[at..]) {
            at += found + 1;
            if text[at - 1] == b'"' {
                return at;
            }
            self.doubtful |= matches!(text[at..], [b'u', b'd' | b'D', ..]);
            // What is escaped, a quote or a backslash too.
            at = (at + 1).min(text.len());
        }
        text.len()
    }

    /// The digits after a first one. Without an exponent only more than 308 of them make a number that no double holds.
    fn digits(&mut self, text: &[u8]) -> usize {
        let more = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.doubtful |= more >= 300 || matches!(text.get(more), Some(b'e' | b'E'));
        more
    }

    const fn check_depth(&self) -> Result<(), InvalidPayload> {
        if self.depth > MAX_DEPTH { Err(InvalidPayload::TooDeep(self.depth)) } else { Ok(()) }
    }

    /// Inside a JSON string CR and LF can only stand escaped, so raw ones are white space between
    /// tokens and a space says the same.
    fn one_line(&self, text: &str) -> Bytes {
        if self.breaks {
            text.bytes().map(|b| if b == b'\n' || b == b'\r' { b' ' } else { b }).collect()
        } else {
            Bytes::copy_from_slice(text.as_bytes())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

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

    /// Text that is JSON by its grammar, with everything that may be held against it.
    fn document() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just(r#"\""#),
            Just(r"\\"),
            Just(r"\n"),
            Just(r"\ud83d\ude00"),
            Just(r"\uD800"),
            Just(r"\uDc00"),
            Just(r"\u00e9"),
            Just("[{"),
            Just("1e999"),
            Just("é"),
        ];
        let string =
            proptest::collection::vec(piece, 0..5).prop_map(|pieces| format!("\"{}\"", pieces.concat()));
        let number = prop_oneof![
            r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,5})?([eE][+-]?[0-9]{1,3})?",
            r"-?[1-9][0-9]{290,320}(\.[0-9]{1,400})?",
        ];
        let word = prop_oneof![Just("true".to_owned()), Just("false".to_owned()), Just("null".to_owned())];
        let space = || "[ \t\r\n]{0,2}";
        prop_oneof![string.clone(), number, word].prop_recursive(80, 120, 4, move |inner| {
            let pair = (string.clone(), inner.clone()).prop_map(|(name, value)| format!("{name}:{value}"));
            let nest = |inner: String| "[".repeat(16) + &inner + &"]".repeat(16);
            prop_oneof![
                inner.clone().prop_map(nest),
                (space(), inner.clone(), space()).prop_map(|(before, value, after)| before + &value + &after),
                proptest::collection::vec(inner, 0..4).prop_map(|values| format!("[{}]", values.join(","))),
                proptest::collection::vec(pair, 0..4).prop_map(|pairs| format!("{{{}}}", pairs.join(","))),
            ]
        })
    }

    fn deepest(value: &Value) -> usize {
        match value {
            Value::Array(values) => 1 + values.iter().map(deepest).max().unwrap_or(0),
            Value::Object(pairs) => 1 + pairs.values().map(deepest).max().unwrap_or(0),
            _ => 0,
        }
    }

    /// What serde_json says of a text that it reads in full, and what we make of it, both ways.
    fn holds_against_serde_json(text: &[u8]) {
        let payload = Payload::parse(text);
        let depth = match serde_json::from_slice::<Value>(text) {
            Ok(value) => Some(deepest(&value)),
            Err(_) => None,
        };
        assert_eq!(
            payload.is_ok(),
            depth.is_some_and(|depth| depth <= MAX_DEPTH),
            "{payload:?}, {depth:?} deep"
        );
        if let Ok(raw) = serde_json::from_slice::<&RawValue>(text) {
            assert_eq!(Payload::from_raw(raw), Payload::parse(raw.get().as_bytes()));
        }
        if let Ok(payload) = payload {
            assert!(!payload.as_bytes().iter().any(|byte| b"\r\n".contains(byte)), "a line break");
            assert_eq!(
                serde_json::from_slice::<Value>(payload.as_bytes()).ok(),
                serde_json::from_slice(text).ok()
            );
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged_as_serde_json_does(text in proptest::collection::vec(any::<u8>(), 0..300)) {
            holds_against_serde_json(&text);
        }

        #[test]
        fn any_json_is_judged_as_serde_json_does(text in document()) {
            holds_against_serde_json(text.as_bytes());
        }

        /// One byte in it is another, or it ends there.
        #[test]
        fn broken_json_is_judged_as_serde_json_does(text in document(), at in any::<prop::sample::Index>(), byte: Option<u8>) {
            let mut text = text.into_bytes();
            let at = at.index(text.len());
            match byte {
                Some(byte) => text[at] = byte,
                None => text.truncate(at),
            }
            holds_against_serde_json(&text);
        }
    }
}
