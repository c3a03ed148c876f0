//! Signing webhooks the way of [Standard Webhooks](https://www.standardwebhooks.com): an HMAC-SHA256 of
//! `<id>.<seconds>.<body>` under the bytes of the secret, in base64 behind `v1,`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use weir_core::Secret;

/// What secrets begin with.
pub const PREFIX: &str = "whsec_";
/// Random bytes of a secret.
const BYTES: usize = 24;
/// Bytes that a secret has at least which somebody else made.
const LEAST_BYTES: usize = 16;

/// A new secret: `whsec_` and 24 random bytes in base64.
#[must_use]
pub fn secret(random: [u8; BYTES]) -> Secret {
    Secret::new(format!("{PREFIX}{}", STANDARD.encode(random)))
}

/// The bytes of a secret; `None` for one that does not begin with `whsec_`, or is not base64 after it.
fn key(secret: &Secret) -> Option<Vec<u8>> {
    // Exposed to sign with it.
    STANDARD.decode(secret.expose().strip_prefix(PREFIX)?).ok()
}

/// Whether messages can be signed with this: `whsec_` and at least 16 bytes in base64.
#[must_use]
pub fn is_secret(secret: &Secret) -> bool {
    key(secret).is_some_and(|key| key.len() >= LEAST_BYTES)
}

/// The value of `webhook-signature`: a signature for each secret, apart by spaces. A receiver takes any.
#[must_use]
pub fn signature(id: &str, seconds: i64, body: &[u8], secrets: &[Secret]) -> String {
    let signed = secrets.iter().filter_map(|secret| {
        let key = key(secret)?;
        // HMAC takes keys of any length.
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).ok()?;
        mac.update(format!("{id}.{seconds}.").as_bytes());
        mac.update(body);
        Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
    });
    signed.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification.
    #[test]
    fn signs_as_the_specification_does() {
        let secret = Secret::new("whsec_plJ3nmyCDGBKInavdOK15jsl");
        let body = br#"{"event_type":"ping","data":{"success":true}}"#;
        let signed = signature("msg_loFOjxBNrRLzqYUf", 1_731_705_121, body, std::slice::from_ref(&secret));
        assert_eq!(signed, "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=");
        let both = signature("msg_loFOjxBNrRLzqYUf", 1_731_705_121, body, &[super::secret([7; 24]), secret]);
        assert!(both.ends_with(&format!(" {signed}")) && both.matches("v1,").count() == 2);
    }

    #[test]
    fn secrets_are_of_the_documented_form() {
        let secret = secret([255; 24]);
        assert_eq!(secret.expose(), format!("whsec_{}", "/".repeat(32)));
        assert!(is_secret(&secret));
        for bad in
            ["plain", "whsec_", "whsec_?", "whsec_MfKQ9r8GKYqrTwjUPD8=", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]
        {
            let bad = Secret::new(bad);
            assert!(!is_secret(&bad), "{bad:?}");
        }
        assert_eq!(signature("id", 1, b"", &[Secret::new("plain")]), "", "nothing to sign with");
    }
}
