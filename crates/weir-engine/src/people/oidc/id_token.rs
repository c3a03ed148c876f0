//! What a provider's ID token says, and whether it is meant for us.

use crate::access::{Audience, KeySet, NumericDate, Token};
use serde::Deserialize;
use std::time::Duration;
use weir_core::Timestamp;
use weir_store::Email;
use weir_store::people::Identity;

/// Bytes of an ID token at most.
const MAX_BYTES: usize = 16 << 10;
/// What a subject has at most, by OpenID Connect.
const SUBJECT_BYTES: usize = 255;
/// What a name has at most here.
const NAME_LENGTH: usize = 128;

/// What a token has to say.
pub(super) struct Expected<'a> {
    pub(super) issuer: &'a str,
    pub(super) client_id: &'a str,
    pub(super) nonce: &'a str,
    pub(super) now: Timestamp,
    pub(super) leeway: Duration,
}

/// Who somebody is, as the provider says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Verified {
    pub(super) identity: Identity,
    /// The address, if the provider has verified it.
    pub(super) email: Option<Email>,
    pub(super) name: String,
}

/// Why a token is not taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error("it names a key that the provider does not list")]
    UnknownKey,
    #[error("{0}")]
    Because(&'static str),
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    azp: Option<String>,
    exp: NumericDate,
    #[allow(dead_code, reason = "read for its type")]
    iat: NumericDate,
    nonce: Option<String>,
    email: Option<String>,
    email_verified: Option<Flag>,
    name: Option<String>,
}

/// Some providers write it as text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Flag {
    Is(bool),
    Said(String),
}

impl Flag {
    fn is_true(&self) -> bool {
        match self {
            Self::Is(value) => *value,
            Self::Said(text) => text == "true",
        }
    }
}

impl Expected<'_> {
    /// Who a token says somebody is, if a listed key signed it and it is meant for this sign-in.
    pub(super) fn verify(&self, text: &str, keys: &KeySet) -> Result<Verified, Refused> {
        let because = |why| Err(Refused::Because(why));
        let unreadable = Refused::Because("it cannot be read");
        let Ok(token) = Token::read(text, MAX_BYTES) else { return Err(unreadable) };
        let mut named = keys.named(&token.kid).peekable();
        if named.peek().is_none() {
            return Err(Refused::UnknownKey);
        }
        let Some(payload) = named.find_map(|key| token.signed_by(key).ok()) else {
            return because("its signature does not fit the key that it names");
        };
        let Ok(claims) = serde_json::from_slice::<Claims>(payload) else { return Err(unreadable) };
        if claims.iss != self.issuer {
            return because("another issuer made it");
        }
        let audience = claims.aud.names();
        let ours = audience.iter().any(|name| name == self.client_id);
        let party = claims.azp.as_deref().or((audience.len() == 1).then_some(self.client_id));
        if !ours || party != Some(self.client_id) {
            return because("it is meant for another client");
        }
        if claims.exp.after(self.leeway) <= self.now {
            return because("it has expired");
        }
        if claims.nonce.as_deref() != Some(self.nonce) {
            return because("it was made for another sign-in (`nonce`)");
        }
        if claims.sub.is_empty() || claims.sub.len() > SUBJECT_BYTES {
            return because("its `sub` names nobody");
        }
        let verified = claims.email_verified.as_ref().is_some_and(Flag::is_true);
        let name = claims.name.unwrap_or_default();
        Ok(Verified {
            identity: Identity { issuer: claims.iss, subject: claims.sub },
            email: claims.email.filter(|_| verified).and_then(|email| email.parse().ok()),
            name: name.chars().filter(|letter| !letter.is_control()).take(NAME_LENGTH).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
    use base64::Engine;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;
    use serde_json::{Value, json};

    const NOW: i64 = 1_800_000_000;

    fn encode(bytes: impl AsRef<[u8]>) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }

    struct Signer(EcdsaKeyPair);

    impl Signer {
        fn new() -> Self {
            Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a pair"))
        }

        fn keys(&self) -> KeySet {
            let (x, y) = self.0.public_key().as_ref()[1..].split_at(32);
            let jwk = json!({ "kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y), "kid": "k" });
            KeySet::parse(json!({ "keys": [jwk] }).to_string().as_bytes()).expect("a set")
        }

        fn sign(&self, kid: &str, claims: &Value) -> String {
            let header = json!({ "alg": "ES256", "kid": kid });
            let message = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
            let signature = self.0.sign(&SystemRandom::new(), message.as_bytes()).expect("signs");
            format!("{message}.{}", encode(signature))
        }
    }

    fn expected() -> Expected<'static> {
        Expected {
            issuer: "https://id.test",
            client_id: "weir",
            nonce: "n",
            now: Timestamp::from_seconds(NOW),
            leeway: Duration::from_secs(30),
        }
    }

    fn claims() -> Value {
        json!({ "iss": "https://id.test", "sub": "ada", "aud": "weir", "exp": NOW + 60, "iat": NOW, "nonce": "n",
            "email": "Ada@Acme.test", "email_verified": true, "name": "Ada\u{7}" })
    }

    #[test]
    fn a_good_token_says_who_somebody_is() {
        let signer = Signer::new();
        let verified = expected().verify(&signer.sign("k", &claims()), &signer.keys()).expect("is taken");
        assert_eq!(verified.identity.subject, "ada");
        assert_eq!(verified.email.map(|email| email.to_string()).as_deref(), Some("ada@acme.test"));
        assert_eq!(verified.name, "Ada");
        for flag in [json!(false), json!("false"), Value::Null] {
            let mut claims = claims();
            claims["email_verified"] = flag;
            let verified = expected().verify(&signer.sign("k", &claims), &signer.keys()).expect("is taken");
            assert_eq!(verified.email, None, "an address counts only if it was verified");
        }
        let mut many = claims();
        many["aud"] = json!(["weir", "other"]);
        many["azp"] = json!("weir");
        assert!(expected().verify(&signer.sign("k", &many), &signer.keys()).is_ok());
    }

    #[test]
    fn everything_else_is_refused() {
        let (signer, other) = (Signer::new(), Signer::new());
        let keys = signer.keys();
        for (field, value) in [
            ("iss", json!("https://id.test/")),
            ("sub", json!("")),
            ("sub", json!("x".repeat(256))),
            ("aud", json!("other")),
            ("aud", json!(["weir", "other"])),
            ("azp", json!("other")),
            ("exp", json!(NOW - 31)),
            ("exp", json!("9999999999")),
            ("iat", Value::Null),
            ("nonce", json!("m")),
            ("nonce", Value::Null),
        ] {
            let mut bad = claims();
            bad[field] = value;
            let refused = expected().verify(&signer.sign("k", &bad), &keys).expect_err(field);
            assert_ne!(refused, Refused::UnknownKey, "{field}");
        }
        assert_eq!(expected().verify(&signer.sign("l", &claims()), &keys), Err(Refused::UnknownKey));
        assert!(matches!(expected().verify(&other.sign("k", &claims()), &keys), Err(Refused::Because(_))));
        let none = format!("{}.{}.", encode(r#"{"alg":"none","kid":"k"}"#), encode(claims().to_string()));
        assert!(matches!(expected().verify(&none, &keys), Err(Refused::Because(_))));
    }
}
