//! Secrets: a string that does not print itself, and the root from which the server's keys derive.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt;

/// A secret text. `Debug` and `Display` show `[redacted]`; there is no `Serialize`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself: name every call site's reason.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// HMAC-SHA256 of `parts`, each preceded by its length.
#[must_use]
pub fn mac(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    // HMAC takes keys of any length, so this constructor cannot fail for 32 bytes.
    #[allow(clippy::expect_used)]
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes any key length");
    for part in parts {
        mac.update(&(part.len() as u64).to_le_bytes());
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// The installation's one root secret: 32 random bytes, the same on every node. Keys for separate
/// purposes derive from it, so one leaked purpose does not open another.
#[derive(Clone)]
pub struct RootSecret([u8; 32]);

impl RootSecret {
    /// A new random root.
    #[must_use]
    pub fn generate() -> Self {
        Self(rand::random())
    }

    /// Reads 64 hex digits.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.len() != 64 || !text.is_ascii() {
            return None;
        }
        let mut bytes = [0; 32];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).ok()?;
        }
        Some(Self(bytes))
    }

    /// As 64 hex digits, for the place where it is kept.
    #[must_use]
    pub fn to_hex(&self) -> Secret {
        use fmt::Write;
        let mut text = String::with_capacity(64);
        for byte in self.0 {
            let _ = write!(text, "{byte:02x}");
        }
        Secret(text)
    }

    /// The key for one purpose (HMAC-SHA256 of the purpose under the root).
    #[must_use]
    pub fn derive(&self, purpose: &str) -> [u8; 32] {
        mac(&self.0, &[purpose.as_bytes()])
    }
}

impl fmt::Debug for RootSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_prints() {
        let secret = Secret::new("canary");
        assert_eq!(format!("{secret} {secret:?}"), "[redacted] [redacted]");
        assert_eq!(format!("{:?}", RootSecret::generate()), "[redacted]");
    }

    #[test]
    fn roots_round_trip_and_purposes_differ() {
        let root = RootSecret::generate();
        let again = RootSecret::from_hex(root.to_hex().expose()).expect("hex");
        assert_eq!(root.derive("cursor"), again.derive("cursor"));
        assert_ne!(root.derive("cursor"), root.derive("api-key"));
        assert!(RootSecret::from_hex("zz").is_none());
    }
}
