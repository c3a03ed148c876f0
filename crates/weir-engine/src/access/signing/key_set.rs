//! A set of public keys, as identity providers publish them (JWKS, RFC 7517).

use super::key::{Jwk, Thumbprint, VerifyingKey};
use serde::Deserialize;
use serde_json::value::RawValue;

/// Bytes of a document at most.
pub(crate) const MAX_BYTES: usize = 64 << 10;
/// Keys in it at most.
const MAX_KEYS: usize = 100;

#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow)]
    keys: Vec<&'a RawValue>,
}

/// Keys by the names that tokens call them.
pub(crate) struct KeySet(Vec<(String, VerifyingKey)>);

impl KeySet {
    /// Reads a document. Keys that cannot be used are passed over: providers publish keys for other ends beside.
    ///
    /// # Errors
    /// In words, when there is no key to use, or too much of it.
    pub(crate) fn parse(document: &[u8]) -> Result<Self, String> {
        if document.len() > MAX_BYTES {
            return Err(format!("the key set has {} bytes; the limit is {MAX_BYTES}", document.len()));
        }
        let document: Document<'_> = serde_json::from_slice(document)
            .map_err(|error| format!("the key set is not a JWKS: {error}"))?;
        if document.keys.len() > MAX_KEYS {
            return Err(format!("the key set has {} keys; the limit is {MAX_KEYS}", document.keys.len()));
        }
        let (mut usable, mut reason) = (Vec::new(), "it is empty".to_owned());
        for (number, text) in document.keys.iter().enumerate() {
            let key = serde_json::from_str::<Jwk>(text.get()).map_err(|error| error.to_string());
            match key.and_then(|jwk| Ok((VerifyingKey::jwk(&jwk, None)?, jwk.kid.ok_or("it has no `kid`")?)))
            {
                Ok((key, kid)) => usable.push((kid, key)),
                Err(why) => reason = format!("key {}: {why}", number + 1),
            }
        }
        if usable.is_empty() {
            return Err(format!("the key set has no key that can be used: {reason}"));
        }
        Ok(Self(usable))
    }

    /// The keys of this name; two may share one in different algorithms.
    pub(crate) fn named<'a>(&'a self, kid: &'a str) -> impl Iterator<Item = &'a VerifyingKey> {
        self.0.iter().filter(move |(name, _)| name == kid).map(|(_, key)| key)
    }

    /// Whether it lists this key, under any name.
    pub(crate) fn contains(&self, key: Thumbprint) -> bool {
        self.0.iter().any(|(_, known)| known.thumbprint() == Some(key))
    }

    /// Whether the other set lists every key of this one.
    pub(crate) fn is_within(&self, other: &Self) -> bool {
        self.0.iter().all(|(_, key)| key.thumbprint().is_none_or(|key| other.contains(key)))
    }
}
