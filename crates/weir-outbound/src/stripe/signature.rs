//! The signature of a webhook: `t=<seconds>,v1=<hex>`, an HMAC-SHA256 of `<seconds>.<body>` under the endpoint's secret.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use weir_core::Secret;

/// How far a webhook's time may be from ours, in seconds, before and after.
pub const TOLERANCE_SECONDS: i64 = 300;
/// More signatures than a rotation of secrets makes are not looked at.
const MOST_SIGNATURES: usize = 16;

/// Why a webhook is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSignature {
    /// The header is not of the documented form.
    #[error("the header `Stripe-Signature` is not of the form t=…,v1=…")]
    Malformed,
    /// None of the signatures is one of our secrets'.
    #[error("no signature fits the body and any secret of stripe.webhook_secrets")]
    Mismatch,
    /// It was signed too long ago, or ahead of our time.
    #[error("it was signed {0} s from now, and {TOLERANCE_SECONDS} s is the most: check the clock")]
    Outdated(i64),
}

/// Holds a body, byte for byte as it came, against its signature. `now` in seconds since 1970. Several secrets are for
/// their rotation.
///
/// # Errors
/// As [`InvalidSignature`] says.
pub fn verify(header: &str, body: &[u8], secrets: &[Secret], now: i64) -> Result<(), InvalidSignature> {
    let mut time = None;
    let mut signatures = Vec::new();
    for part in header.split(',') {
        match part.trim().split_once('=').ok_or(InvalidSignature::Malformed)? {
            ("t", text) if time.is_none() => time = Some(text),
            ("t", _) => return Err(InvalidSignature::Malformed),
            ("v1", text) if signatures.len() < MOST_SIGNATURES => signatures.push(bytes(text)),
            // Other schemes are for other readers; Stripe's test mode sends `v0`.
            _ => {}
        }
    }
    let time = time.ok_or(InvalidSignature::Malformed)?;
    let seconds: i64 = time.parse().map_err(|_| InvalidSignature::Malformed)?;
    if signatures.is_empty() {
        return Err(InvalidSignature::Malformed);
    }
    let fits = |secret: &Secret| {
        // HMAC takes keys of any length.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()) else { return false };
        mac.update(time.as_bytes());
        mac.update(b".");
        mac.update(body);
        // Each comparison takes the same time whatever differs.
        signatures.iter().flatten().any(|signature| mac.clone().verify_slice(signature).is_ok())
    };
    if !secrets.iter().any(fits) {
        return Err(InvalidSignature::Mismatch);
    }
    let distance = seconds.saturating_sub(now);
    if distance.unsigned_abs() > TOLERANCE_SECONDS.unsigned_abs() {
        return Err(InvalidSignature::Outdated(distance));
    }
    Ok(())
}

/// 32 bytes from 64 hex digits.
fn bytes(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Made with the official Python library: generate_signature_header(body, "whsec_one", 1790000000).
    const BODY: &[u8] = br#"{"id": "evt_1", "object": "event"}"#;
    const SIGNED: &str = "t=1790000000,v1=3e3138ccb54a7cf66fbb528b61fb3d2c38d2bdd8caf3f91056e12545645bffad";

    fn secrets(names: &[&str]) -> Vec<Secret> {
        names.iter().map(|name| Secret::new(*name)).collect()
    }

    #[test]
    fn a_signature_fits_its_body_its_secret_and_its_time() {
        let now = 1_790_000_000;
        let check = |header: &str, body: &[u8], names: &[&str], at| verify(header, body, &secrets(names), at);
        assert_eq!(check(SIGNED, BODY, &["whsec_one"], now), Ok(()));
        assert_eq!(check(SIGNED, BODY, &["whsec_two", "whsec_one"], now), Ok(()), "while secrets rotate");
        let two = format!("{SIGNED},v1={}", "0".repeat(64));
        assert_eq!(check(&two, BODY, &["whsec_one"], now), Ok(()), "any of the signatures");
        for (names, body) in [
            (&["whsec_two"][..], BODY),
            (&[][..], BODY),
            (&["whsec_one"][..], br#"{"id":"evt_1","object":"event"}"#),
            (&["whsec_one"][..], b""),
        ] {
            assert_eq!(check(SIGNED, body, names, now), Err(InvalidSignature::Mismatch));
        }
        let moved = SIGNED.replace("t=1790000000", "t=1790000001");
        assert_eq!(check(&moved, BODY, &["whsec_one"], now), Err(InvalidSignature::Mismatch));
        for (at, expected) in [
            (now + 300, Ok(())),
            (now - 300, Ok(())),
            (now + 301, Err(InvalidSignature::Outdated(-301))),
            (now - 301, Err(InvalidSignature::Outdated(301))),
            (now - 90 * 86_400, Err(InvalidSignature::Outdated(90 * 86_400))),
        ] {
            assert_eq!(check(SIGNED, BODY, &["whsec_one"], at), expected);
        }
    }

    #[test]
    fn what_is_no_signature_is_malformed() {
        for header in [
            "",
            "t=1790000000",
            "v1=00",
            "t=,v1=00",
            "t=x,v1=00",
            "t=1,t=2,v1=00",
            "nonsense",
            "t=1790000000,v0=00",
        ] {
            let outcome = verify(header, BODY, &secrets(&["whsec_one"]), 1_790_000_000);
            assert_eq!(outcome, Err(InvalidSignature::Malformed), "{header}");
        }
        for digits in ["00".to_owned(), "zz".repeat(32), "é".repeat(32), "0".repeat(65)] {
            let header = format!("t=1790000000,v1={digits}");
            let outcome = verify(&header, BODY, &secrets(&["whsec_one"]), 1_790_000_000);
            assert_eq!(outcome, Err(InvalidSignature::Mismatch), "{header}");
        }
    }
}
