//! What strangers' bytes meet first: every parser of the outside, each with what must hold whatever comes.
//!
//! `cargo fuzz` drives these functions (nightly, see README.md), and so do property tests of `tests/integration`, which compile this
//! same file: what is fuzzed cannot rot.

use serde_json::value::RawValue;
use std::sync::LazyLock;
use weir_core::event::Headers;
use weir_core::key::{KeyHasher, PresentedKey};
use weir_core::{CursorKey, EventId, Pattern, Payload, ProjectId, RootSecret, Secret, Topic};
use weir_hub::websocket::{Decoder, Item, Rules};

static ROOT: LazyLock<RootSecret> = LazyLock::new(RootSecret::generate);
/// The largest WebSocket message in these tests.
const MESSAGE: usize = 1 << 16;

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// Frames of a WebSocket, cut into pieces at every byte that is divisible by 7.
pub fn websocket(bytes: &[u8]) {
    let rules = Rules { message_bytes: MESSAGE, binary: false };
    let mut decoder = Decoder::default();
    for mut piece in bytes.split_inclusive(|byte| byte % 7 == 0) {
        loop {
            match decoder.decode(&mut piece, &rules) {
                Ok(Some(Item::Text(text))) => {
                    assert!(text.len() <= MESSAGE && std::str::from_utf8(&text).is_ok(), "a text is no text");
                }
                Ok(Some(Item::Binary(_))) => panic!("binary messages are refused"),
                // Nothing after it counts.
                Ok(Some(Item::Close(_))) => return,
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(violation) => {
                    assert!((1000..5000).contains(&violation.code), "{violation}");
                    return;
                }
            }
        }
    }
}

/// Cursors: whatever was not sealed by us is refused, and nobody gets into another project.
pub fn cursor(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let (key, project) = (CursorKey::new(&ROOT), ProjectId::new());
    assert!(key.decode(text, project).is_err(), "a cursor that nobody sealed was taken: {text}");
}

/// Topics and patterns: what is taken is written back as it came, and obeys the rules.
pub fn topic(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    if let Ok(topic) = text.parse::<Topic>() {
        assert_eq!(topic.as_str(), text);
        assert!(text.len() <= 200 && (1..=8).contains(&text.split('.').count()), "{text}");
        assert!(!text.contains(['*', '>', ' ', '\r', '\n']), "{text}");
    }
    if let Ok(pattern) = text.parse::<Pattern>() {
        assert_eq!(pattern.as_str(), text);
        assert!(pattern.covers(&pattern));
        // What it selects is selected by everything that covers it.
        assert!(!pattern.matches("a.b.c") || Pattern::all().matches("a.b.c"));
    }
}

/// API keys: none that we did not make fits.
pub fn key(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    if let Some(presented) = PresentedKey::parse(text) {
        let hasher = KeyHasher::new(&ROOT);
        let other = weir_core::key::generate(presented.id);
        let kept = PresentedKey::parse(other.expose()).map(|key| hasher.hash(&key));
        assert!(
            kept.is_none_or(|kept| !hasher.verify(&presented, &kept)),
            "a key that nobody made was taken"
        );
    }
}

/// Events: payloads, ids and headers.
pub fn event(bytes: &[u8]) {
    // Out of a request and on its own a payload is the same, and so is what is said against it.
    if let Ok(raw) = serde_json::from_slice::<&RawValue>(bytes) {
        assert_eq!(Payload::from_raw(raw), Payload::parse(raw.get().as_bytes()));
    }
    if let Ok(payload) = Payload::parse(bytes) {
        assert!(
            serde_json::from_slice::<serde_json::Value>(payload.as_bytes()).is_ok(),
            "a payload is no JSON"
        );
    }
    let Some(text) = text(bytes) else { return };
    if let Ok(id) = text.parse::<EventId>() {
        assert_eq!(id.as_str(), text);
    }
    let (name, value) = text.split_at(text.char_indices().nth(5).map_or(text.len(), |(at, _)| at));
    if let Ok(headers) = Headers::new(vec![(name.to_owned(), value.to_owned())]) {
        assert!(!headers.pairs().iter().any(|(name, _)| name.contains(['\r', '\n', ':'])), "{headers:?}");
    }
}

/// Signatures of webhooks: the first line is the header, the rest the body. None that we did not make fits.
pub fn webhook(bytes: &[u8]) {
    let at = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (header, body) = bytes.split_at(at);
    let Some(header) = text(header) else { return };
    let secrets = [Secret::new("whsec_fuzz")];
    assert!(
        weir_outbound::stripe::verify(header, body, &secrets, 1_800_000_000).is_err(),
        "a forgery was believed"
    );
}
