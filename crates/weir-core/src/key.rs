//! API keys: `weir_<32 hex of the key id>_<32 random base-62 characters><6 of checksum>`.
//!
//! The random part has 190 bits, so a keyed SHA-256 of it is as good as a slow hash and costs less
//! than a microsecond. The checksum lets a secret scanner, and the server before any look-up, tell a
//! real key from a look-alike.

use crate::secret::{Secret, mac};
use crate::{KeyId, RootSecret};
use rand::RngExt;
use subtle::ConstantTimeEq;
use uuid::Uuid;

const PREFIX: &str = "weir_";
const ID_LEN: usize = 32;
const SECRET_LEN: usize = 32;
const CHECK_LEN: usize = 6;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The keyed hash of an API key's secret, as stored.
pub type KeyHash = [u8; 32];

/// Hashes and checks API keys under a key derived from the installation's root.
#[derive(Clone)]
pub struct KeyHasher([u8; 32]);

impl KeyHasher {
    /// The hasher of this installation.
    #[must_use]
    pub fn new(root: &RootSecret) -> Self {
        Self(root.derive("api-key"))
    }

    /// The hash to store for a key.
    #[must_use]
    pub fn hash(&self, key: &PresentedKey<'_>) -> KeyHash {
        mac(&self.0, &[key.id.uuid().as_bytes(), key.secret.as_bytes()])
    }

    /// Whether a presented key is the one whose hash is stored; compares in constant time.
    #[must_use]
    pub fn verify(&self, key: &PresentedKey<'_>, stored: &KeyHash) -> bool {
        self.hash(key).ct_eq(stored).into()
    }
}

/// A key as a caller presents it: well formed and with a right checksum, not yet verified.
#[derive(Clone, Copy)]
pub struct PresentedKey<'a> {
    /// Which key it claims to be.
    pub id: KeyId,
    secret: &'a str,
}

impl<'a> PresentedKey<'a> {
    /// Takes a key apart. `None` when it is not of the form, or its checksum is wrong.
    #[must_use]
    pub fn parse(text: &'a str) -> Option<Self> {
        let rest = text.strip_prefix(PREFIX)?;
        if rest.len() != ID_LEN + 1 + SECRET_LEN + CHECK_LEN || !rest.is_ascii() {
            return None;
        }
        let (id, tail) = rest.split_at(ID_LEN);
        let (secret, check) = tail.strip_prefix('_')?.split_at(SECRET_LEN);
        // One spelling per key: a UUID could be written in capitals as well.
        let canonical = id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !canonical || check != checksum(&text[..text.len() - CHECK_LEN]) {
            return None;
        }
        let id = KeyId::from_uuid(Uuid::try_parse(id).ok()?);
        Some(Self { id, secret })
    }
}

/// Makes a key for this id: the full text, shown to its owner once.
#[must_use]
pub fn generate(id: KeyId) -> Secret {
    let mut rng = rand::rng();
    let secret: String = (0..SECRET_LEN).map(|_| char::from(ALPHABET[rng.random_range(0..62)])).collect();
    let body = format!("{PREFIX}{}_{secret}", id.uuid().simple());
    let check = checksum(&body);
    Secret::new(body + &check)
}

fn checksum(text: &str) -> String {
    let mut rest = crc32fast::hash(text.as_bytes());
    let mut digits = [b'0'; CHECK_LEN];
    for digit in digits.iter_mut().rev() {
        *digit = ALPHABET[(rest % 62) as usize];
        rest /= 62;
    }
    digits.iter().map(|d| char::from(*d)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_generated_key_verifies_and_no_other_does() {
        let hasher = KeyHasher::new(&RootSecret::generate());
        let (one, two) = (KeyId::new(), KeyId::new());
        let (key_one, key_two) = (generate(one), generate(two));
        let parsed = PresentedKey::parse(key_one.expose()).expect("well formed");
        let other = PresentedKey::parse(key_two.expose()).expect("well formed");
        let stored = hasher.hash(&parsed);
        assert_eq!(parsed.id, one);
        assert!(hasher.verify(&parsed, &stored));
        assert!(!hasher.verify(&other, &stored));
        let elsewhere = KeyHasher::new(&RootSecret::generate());
        assert!(!elsewhere.verify(&parsed, &stored));
    }

    #[test]
    fn one_changed_character_fails_the_checksum() {
        let key = generate(KeyId::new());
        let text = key.expose();
        for at in 5..text.len() {
            let mut bytes = text.as_bytes().to_vec();
            bytes[at] = if bytes[at] == b'a' { b'b' } else { b'a' };
            let changed = String::from_utf8(bytes).expect("ascii");
            if changed != text {
                assert!(PresentedKey::parse(&changed).is_none(), "at {at}");
            }
        }
    }

    #[test]
    fn a_key_has_one_spelling() {
        let key = generate(KeyId::from_uuid(Uuid::from_u128(0xabcd)));
        let (id, secret) = key.expose().rsplit_once('_').expect("two parts");
        let body = format!("{}_{}", id.replace("abcd", "ABCD"), &secret[..SECRET_LEN]);
        let respelled = format!("{body}{}", checksum(&body));
        assert!(PresentedKey::parse(&respelled).is_none());
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "\\PC{0,90}") {
            let _ = PresentedKey::parse(&text);
            let _ = PresentedKey::parse(&format!("weir_{text}"));
        }
    }
}
