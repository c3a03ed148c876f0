//! The tokens of people who signed in: access tokens, which are JWTs of this installation's own, and random ones, of
//! which only hashes are kept.

use crate::Error;
use aws_lc_rs::hmac;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};
use weir_core::{Code, RootSecret, Secret, TenantId, Timestamp, UserId};
use weir_store::sign_ins::TokenHash;

/// What the token of an invitation begins with.
pub(crate) const INVITATION_PREFIX: &str = "wit_";
/// What a refresh token begins with.
pub(crate) const REFRESH_PREFIX: &str = "wrt_";

/// The `kid` and the `iss` of access tokens.
const WEIR: &str = "weir";

/// Who an access token says somebody is. What that person may do is looked up at each use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identified {
    /// Who.
    pub(crate) sub: UserId,
    /// Where; `None` for the installation's operators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tenant: Option<TenantId>,
    /// The user's session version when it was issued: another one ends the token.
    pub(crate) ver: i64,
    /// When it ends, seconds since 1970.
    pub(crate) exp: i64,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    iat: i64,
    #[serde(flatten)]
    who: Identified,
}

/// Makes and reads access tokens: JWTs, signed with HS256 under a key of the installation.
pub(crate) struct AccessTokens {
    key: hmac::Key,
    /// What every one of them begins with: the header is always the same, so no token chooses how it is verified.
    head: String,
}

impl AccessTokens {
    pub(crate) fn new(root: &RootSecret) -> Self {
        let header = json!({ "alg": "HS256", "kid": WEIR, "typ": "JWT" });
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, &root.derive("access-token")),
            head: format!("{}.", BASE64_URL_SAFE_NO_PAD.encode(header.to_string())),
        }
    }

    /// Whether a token claims to be one of these.
    pub(crate) fn claims(&self, token: &str) -> bool {
        token.starts_with(&self.head)
    }

    pub(crate) fn issue(&self, who: Identified, now: Timestamp) -> Result<Secret, Error> {
        let claims = Claims { iss: WEIR.to_owned(), iat: now.seconds(), who };
        let claims = serde_json::to_vec(&claims).map_err(Error::internal)?;
        let message = format!("{}{}", self.head, BASE64_URL_SAFE_NO_PAD.encode(claims));
        let tag = hmac::sign(&self.key, message.as_bytes());
        Ok(Secret::new(format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(tag))))
    }

    /// Verifies signature and time.
    ///
    /// # Errors
    /// `INVALID_TOKEN`, `EXPIRED_TOKEN`.
    pub(crate) fn read(&self, token: &str, now: Timestamp) -> Result<Identified, Error> {
        let who = self.verify(token).ok_or_else(not_ours)?;
        if Timestamp::from_seconds(who.exp) <= now {
            return Err(Error::new(
                Code::ExpiredToken,
                "The access token has expired: get a new one with the refresh token.",
            ));
        }
        Ok(who)
    }

    fn verify(&self, token: &str) -> Option<Identified> {
        let (message, tag) = token.rsplit_once('.')?;
        let tag = BASE64_URL_SAFE_NO_PAD.decode(tag).ok()?;
        hmac::verify(&self.key, message.as_bytes(), &tag).ok()?;
        let claims = BASE64_URL_SAFE_NO_PAD.decode(message.strip_prefix(&self.head)?).ok()?;
        let claims: Claims = serde_json::from_slice(&claims).ok()?;
        (claims.iss == WEIR).then_some(claims.who)
    }
}

pub(crate) fn not_ours() -> Error {
    Error::new(Code::InvalidToken, "The access token is not one that this installation issued, or has ended.")
}

/// A new random token: 32 random bytes in hex after a prefix that scanners and people recognize.
fn random(prefix: &str) -> Secret {
    use std::fmt::Write;
    let bytes: [u8; 32] = rand::random();
    let mut text = String::from(prefix);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    Secret::new(text)
}

/// The token of a new invitation, and what is kept of it.
///
/// # Errors
/// Never, unless the program is at fault.
pub fn invitation_token() -> Result<(Secret, TokenHash), Error> {
    random_and_hash(INVITATION_PREFIX)
}

/// A new random token, and what is kept of it.
pub(crate) fn random_and_hash(prefix: &str) -> Result<(Secret, TokenHash), Error> {
    let token = random(prefix);
    let hash = hash(prefix, &token);
    Ok((token, hash.ok_or_else(|| Error::internal("a new token is not of its own form"))?))
}

/// How a random token is looked up; enough, because it is random. `None` when the text cannot be one.
pub(crate) fn hash(prefix: &str, token: &Secret) -> Option<TokenHash> {
    let text = token.expose();
    let hex = text.strip_prefix(prefix)?;
    (hex.len() == 64).then(|| Sha256::digest(text.as_bytes()).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonwebtoken::{Algorithm, EncodingKey};
    use serde_json::Value;

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

    fn who() -> Identified {
        Identified { sub: UserId::new(), tenant: Some(TenantId::new()), ver: 3, exp: NOW.seconds() + 60 }
    }

    #[test]
    fn reads_what_it_issued_until_it_ends() {
        let root = RootSecret::generate();
        let tokens = AccessTokens::new(&root);
        let who = who();
        let token = tokens.issue(who.clone(), NOW).expect("issues");
        assert!(tokens.claims(token.expose()));
        // Another node of the same installation.
        let again = AccessTokens::new(&root);
        assert_eq!(again.read(token.expose(), NOW).expect("reads"), who);
        let late = Timestamp::from_seconds(who.exp);
        assert_eq!(tokens.read(token.expose(), late).expect_err("late").code, Code::ExpiredToken);
        let other = AccessTokens::new(&RootSecret::generate());
        assert_eq!(other.read(token.expose(), NOW).expect_err("foreign").code, Code::InvalidToken);
        let operator = Identified { tenant: None, ..who };
        let token = tokens.issue(operator.clone(), NOW).expect("issues");
        assert_eq!(tokens.read(token.expose(), NOW).expect("reads"), operator);
    }

    #[test]
    fn changed_and_foreign_tokens_are_refused() {
        let root = RootSecret::generate();
        let tokens = AccessTokens::new(&root);
        let token = tokens.issue(who(), NOW).expect("issues");
        let text = token.expose();
        for at in 0..text.len() - 1 {
            let mut changed = text.as_bytes().to_vec();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).expect("ascii");
            if changed != text {
                assert!(tokens.read(&changed, NOW).is_err(), "at {at}");
            }
        }
        // Signed with the right key, but not as access tokens are. The other side of the format is not ours.
        let key = EncodingKey::from_secret(&root.derive("access-token"));
        let sign = |algorithm: Algorithm, kid: &str, claims: &Value| {
            let header = json!({ "alg": algorithm, "kid": kid, "typ": "JWT" });
            let encode = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
            let message = format!("{}.{}", encode(&header), encode(claims));
            let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, algorithm).expect("signs");
            format!("{message}.{signature}")
        };
        let good = json!({"iss": "weir", "iat": 1, "sub": UserId::new(), "ver": 1, "exp": NOW.seconds() + 9});
        assert!(tokens.read(&sign(Algorithm::HS256, WEIR, &good), NOW).is_ok());
        for (field, value) in [
            ("iss", json!("other")),
            ("sub", json!("ten_1")),
            ("exp", json!("9999999999")),
            ("exp", Value::Null),
            ("ver", Value::Null),
            ("tenant", json!("x")),
        ] {
            let mut bad = good.clone();
            bad[field] = value;
            let error = tokens.read(&sign(Algorithm::HS256, WEIR, &bad), NOW).expect_err(field);
            assert_eq!(error.code, Code::InvalidToken, "{field}");
        }
        for (algorithm, kid) in [(Algorithm::HS512, WEIR), (Algorithm::HS256, "other")] {
            assert!(tokens.read(&sign(algorithm, kid, &good), NOW).is_err(), "{algorithm:?} {kid}");
        }
    }

    #[test]
    fn random_tokens_have_one_form() {
        let token = random("wrt_");
        assert_eq!(token.expose().len(), 4 + 64);
        assert!(hash("wrt_", &token).is_some());
        assert_ne!(hash("wrt_", &token), hash("wrt_", &random("wrt_")));
        assert!(hash("wit_", &token).is_none());
        assert!(hash("wrt_", &Secret::new("wrt_1")).is_none());
    }
}
