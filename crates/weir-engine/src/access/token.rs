//! Reading a client token: a JWT (RFC 7519) in the compact form of RFC 7515, signed by the tenant.

use super::Claims;
use super::signing::VerifyingKey;
use crate::Error;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use std::time::Duration;
use weir_core::{Code, Pattern, ProjectId, SigningKeyId, Timestamp};
use weir_store::SigningAlgorithm;

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Extensions that a reader must understand; none is.
    crit: Option<IgnoredAny>,
}

/// A token taken apart. Nothing that it says is true before a key says so.
pub(crate) struct Token<'a> {
    algorithm: SigningAlgorithm,
    /// The key that it names.
    pub(crate) kid: String,
    message: &'a [u8],
    payload: Vec<u8>,
    signature: Vec<u8>,
}

/// What this server reads of a token. Typed, so that `"exp": "tomorrow"` is an error and not an absence.
#[derive(Deserialize)]
pub(super) struct Said {
    /// The tenant's name for the user.
    pub(super) sub: Option<String>,
    exp: NumericDate,
    nbf: Option<NumericDate>,
    /// Not held against the clock; but a token that does not know its own form is refused.
    #[allow(dead_code, reason = "read for its type")]
    iat: Option<NumericDate>,
    aud: Option<Audience>,
    #[serde(default)]
    subscribe: Vec<Pattern>,
    #[serde(default)]
    publish: Vec<Pattern>,
}

/// Seconds since 1970, perhaps with a fraction, which is cut off.
pub(crate) struct NumericDate(i64);

impl NumericDate {
    /// The time, and some more.
    pub(crate) fn after(&self, leeway: Duration) -> Timestamp {
        Timestamp::from_seconds(self.0).plus(leeway)
    }
}

impl<'de> Deserialize<'de> for NumericDate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = serde_json::Number::deserialize(deserializer)?;
        // A conversion from a float stays at the greatest integer instead of running over.
        #[allow(clippy::cast_possible_truncation)]
        let seconds = number.as_i64().or_else(|| number.as_f64().map(|seconds| seconds.floor() as i64));
        seconds.map(Self).ok_or_else(|| serde::de::Error::custom("a time must be a number of seconds"))
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Audience {
    /// Whom the token is for.
    pub(crate) fn names(&self) -> &[String] {
        match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::Many(names) => names,
        }
    }
}

impl<'a> Token<'a> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// `INVALID_TOKEN`, saying what it is not.
    pub(crate) fn read(text: &'a str, limit: usize) -> Result<Self, Error> {
        if text.len() > limit {
            return Err(refused(format!("The token has {} bytes; the limit is {limit}.", text.len())));
        }
        if text.starts_with("weir_") {
            return Err(refused(
                "This is an API key: send it in a header. In a URL only client tokens and tickets are taken.",
            ));
        }
        let not_a_jwt = || refused("The token is not a JWT.");
        let decode = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| not_a_jwt());
        let (message, signature) = text.rsplit_once('.').ok_or_else(not_a_jwt)?;
        let (header, payload) = message.split_once('.').ok_or_else(not_a_jwt)?;
        let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| not_a_jwt())?;
        let (payload, signature) = (decode(payload)?, decode(signature)?);
        if header.crit.is_some() {
            return Err(refused("The token's header has `crit`: extensions of JWT are not understood here."));
        }
        let algorithm = SigningAlgorithm::parse(&header.alg).ok_or_else(|| {
            let names: Vec<_> = SigningAlgorithm::ALL.iter().map(|known| known.as_str()).collect();
            refused(format!("The token's `alg` is not one of {}.", names.join(", ")))
        })?;
        let kid = header.kid.ok_or_else(|| {
            refused(
                "The token's header names no `kid`: set it to the signing key's id (`sig_…`), or to the name of a key in the project's key sets.",
            )
        })?;
        Ok(Self { algorithm, kid, message: message.as_bytes(), payload, signature })
    }

    /// The signing key that it names, unless it names a key of a set.
    ///
    /// # Errors
    /// `INVALID_TOKEN` for what begins like a signing key's id and is none.
    pub(super) fn signing_key(&self) -> Result<Option<SigningKeyId>, Error> {
        if !self.kid.starts_with("sig_") {
            return Ok(None);
        }
        let id = self.kid.parse();
        id.map(Some).map_err(|error| refused(format!("The token's `kid` cannot be used: {error}.")))
    }

    /// The one project that it names, before anything is known to be true: to find the keys that can say so.
    ///
    /// # Errors
    /// `INVALID_TOKEN` when there is none, or more than one.
    pub(super) fn project(&self) -> Result<ProjectId, Error> {
        #[derive(Deserialize)]
        struct Addressed {
            aud: Option<Audience>,
        }
        let said: Addressed = serde_json::from_slice(&self.payload).map_err(|error| misshapen(&error))?;
        let names = said.aud.as_ref().map_or(&[][..], Audience::names);
        let mut projects = names.iter().filter_map(|name| name.parse().ok());
        match (projects.next(), projects.next()) {
            (Some(project), None) => Ok(project),
            _ => Err(refused(
                "The token's `kid` is no signing key (`sig_…`). For a key of a key set, `aud` must name the project (`prj_…`), one and no more.",
            )),
        }
    }

    /// Whether a key that the token names takes its algorithm.
    pub(super) fn is_for(&self, key: &VerifyingKey) -> bool {
        key.algorithm() == self.algorithm
    }

    /// What it says, if this key signed it.
    ///
    /// # Errors
    /// `INVALID_TOKEN`.
    pub(super) fn verify(&self, key: &VerifyingKey) -> Result<Said, Error> {
        serde_json::from_slice(self.signed_by(key)?).map_err(|error| misshapen(&error))
    }

    /// The payload as it stands, if this key signed it.
    ///
    /// # Errors
    /// `INVALID_TOKEN`.
    pub(crate) fn signed_by(&self, key: &VerifyingKey) -> Result<&[u8], Error> {
        if !self.is_for(key) {
            return Err(refused(format!(
                "The token is signed with {}; its key is for {}.",
                self.algorithm.as_str(),
                key.algorithm().as_str()
            )));
        }
        if !key.verify(self.message, &self.signature) {
            return Err(refused("The token's signature does not fit its signing key."));
        }
        Ok(&self.payload)
    }
}

impl Said {
    /// Holds times and audience against what they must be.
    ///
    /// # Errors
    /// `INVALID_TOKEN` for another project's token or one that is not valid yet, `EXPIRED_TOKEN`.
    pub(super) fn hold(self, project: ProjectId, now: Timestamp, leeway: Duration) -> Result<Claims, Error> {
        let named = |audience: &Audience| audience.names().iter().any(|name| *name == project.to_string());
        if self.aud.as_ref().is_some_and(|audience| !named(audience)) {
            return Err(refused(format!("The token's `aud` does not name the project `{project}`.")));
        }
        if self.nbf.is_some_and(|from| Timestamp::from_seconds(from.0) > now.plus(leeway)) {
            return Err(refused("The token is not valid yet (`nbf`)."));
        }
        if Timestamp::from_seconds(self.exp.0).plus(leeway) <= now {
            return Err(Error::new(Code::ExpiredToken, "The token has expired (`exp`): sign a new one."));
        }
        Ok(Claims { sub: self.sub, exp: self.exp.0, subscribe: self.subscribe, publish: self.publish })
    }
}

fn misshapen(error: &serde_json::Error) -> Error {
    refused(format!(
        "The token's claims are not as documented (numeric `exp`; `subscribe` and `publish` lists of patterns): {error}."
    ))
}

pub(super) fn refused(message: impl Into<String>) -> Error {
    Error::new(Code::InvalidToken, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
    use aws_lc_rs::hmac;
    use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
    use aws_lc_rs::signature::KeyPair;
    use base64::prelude::BASE64_STANDARD;
    use serde_json::{Value, json};

    const NOW: i64 = 1_800_000_000;
    const SECRET: &[u8] = b"a secret of thirty-two bytes....";

    fn with_header(header: &Value, claims: &Value, secret: &[u8]) -> String {
        let encode = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", encode(header), encode(claims));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
        format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(tag))
    }

    fn sign(claims: &Value) -> String {
        with_header(&json!({ "alg": "HS256", "kid": SigningKeyId::new() }), claims, SECRET)
    }

    fn judge(text: &str, key: &VerifyingKey, project: ProjectId) -> Result<Claims, (Code, String)> {
        let said = Token::read(text, 4096).and_then(|token| token.verify(key));
        let claims =
            said.and_then(|said| said.hold(project, Timestamp::from_seconds(NOW), Duration::from_secs(30)));
        claims.map_err(|error| (error.code, error.message))
    }

    fn check(claims: &Value, project: ProjectId) -> Result<Claims, Code> {
        judge(&sign(claims), &VerifyingKey::secret(SECRET), project).map_err(|(code, _)| code)
    }

    #[test]
    fn a_good_token_says_what_it_allows() {
        let project = ProjectId::new();
        let claims = json!({ "sub": "u1", "exp": NOW + 60, "nbf": NOW, "iat": NOW - 5, "aud": ["x", project],
            "subscribe": ["a.*"], "publish": [], "iss": "https://id.example.com", "name": "Ada" });
        let claims = check(&claims, project).expect("valid");
        assert_eq!((claims.sub.as_deref(), claims.subscribe.len()), (Some("u1"), 1));
        // A fraction of a second is a number too.
        assert_eq!(check(&json!({ "exp": 1_800_000_060.9 }), project).expect("valid").exp, NOW + 60);
    }

    #[test]
    fn an_expired_token_is_told_apart() {
        let project = ProjectId::new();
        assert_eq!(check(&json!({ "exp": NOW - 31 }), project), Err(Code::ExpiredToken));
        assert_eq!(check(&json!({ "exp": -1e300 }), project), Err(Code::ExpiredToken));
        assert!(check(&json!({ "exp": NOW - 29 }), project).is_ok(), "within the leeway");
    }

    #[test]
    fn an_expiry_that_is_missing_or_no_number_is_refused() {
        for claims in [
            json!({}),
            json!({ "exp": "9999999999" }),
            json!({ "exp": null }),
            json!({ "exp": [NOW + 60] }),
            json!({ "exp": true }),
        ] {
            assert_eq!(check(&claims, ProjectId::new()), Err(Code::InvalidToken), "{claims}");
        }
    }

    #[test]
    fn a_token_that_is_not_valid_yet_is_refused() {
        let project = ProjectId::new();
        assert_eq!(check(&json!({ "exp": NOW + 60, "nbf": NOW + 31 }), project), Err(Code::InvalidToken));
        assert_eq!(check(&json!({ "exp": NOW + 60, "nbf": "0" }), project), Err(Code::InvalidToken));
        assert_eq!(check(&json!({ "exp": NOW + 60, "iat": "0" }), project), Err(Code::InvalidToken));
        assert!(check(&json!({ "exp": NOW + 60, "nbf": NOW + 29 }), project).is_ok(), "within the leeway");
    }

    #[test]
    fn a_token_for_another_audience_is_refused() {
        let project = ProjectId::new();
        for aud in [json!(ProjectId::new()), json!(["a", "b"]), json!(""), json!([]), json!(7)] {
            let claims = json!({ "exp": NOW + 60, "aud": aud });
            assert_eq!(check(&claims, project), Err(Code::InvalidToken), "{claims}");
        }
    }

    #[test]
    fn topics_that_are_not_lists_of_patterns_are_refused() {
        for subscribe in [json!(["a..b"]), json!("a"), json!([1]), json!({ "a": 1 })] {
            let claims = json!({ "exp": NOW + 60, "subscribe": subscribe });
            assert_eq!(check(&claims, ProjectId::new()), Err(Code::InvalidToken), "{claims}");
        }
    }

    #[test]
    fn the_algorithm_is_the_keys_and_not_the_tokens() {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).expect("a pair");
        let der: PublicKeyX509Der<'_> = pair.public_key().as_der().expect("DER");
        let pem = format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----",
            BASE64_STANDARD.encode(der.as_ref())
        );
        let key = VerifyingKey::public(&pem, None).expect("a key");
        let (project, claims) = (ProjectId::new(), json!({ "exp": NOW + 60 }));
        let id = SigningKeyId::new();
        // Signed with what everybody knows of an RSA key, as if it were a secret.
        for public in [pem.as_bytes(), der.as_ref(), pair.public_key().as_ref()] {
            let token = with_header(&json!({ "alg": "HS256", "kid": id }), &claims, public);
            let (code, message) = judge(&token, &key, project).expect_err("alg confusion");
            assert!(code == Code::InvalidToken && message.contains("its key is for RS256"), "{message}");
            let relabelled = with_header(&json!({ "alg": "RS256", "kid": id }), &claims, public);
            assert!(judge(&relabelled, &key, project).is_err());
        }
        let hs256 = VerifyingKey::secret(SECRET);
        for alg in ["none", "None", "", "hs256", "HS512", "RS256", "PS256", "ES256", "EdDSA", "HS256 "] {
            let token = with_header(&json!({ "alg": alg, "kid": id }), &claims, SECRET);
            assert_eq!(
                judge(&token, &hs256, project).map_err(|(code, _)| code),
                Err(Code::InvalidToken),
                "{alg}"
            );
            let (unsigned, _) = token.rsplit_once('.').expect("three parts");
            assert!(judge(&format!("{unsigned}."), &hs256, project).is_err(), "{alg}");
        }
        let token = with_header(&json!({ "alg": "HS256", "kid": id }), &claims, b"another secret");
        assert!(judge(&token, &hs256, project).is_err());
    }

    #[test]
    fn what_is_no_token_is_refused_in_words() {
        let good = sign(&json!({ "exp": NOW + 60 }));
        let extended = json!({ "alg": "HS256", "kid": "sig_x", "crit": ["b64"], "b64": false });
        let twice = BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","alg":"none","kid":"a"}"#);
        for (text, words) in [
            ("", "not a JWT"),
            ("x", "not a JWT"),
            ("a.b", "not a JWT"),
            (&format!("{good}.x"), "not a JWT"),
            (&format!("{good}="), "not a JWT"),
            (&format!("{twice}.e30.AA"), "not a JWT"),
            ("weir_live_abc", "API key"),
            (&with_header(&json!({ "alg": "HS256" }), &json!({}), SECRET), "no `kid`"),
            (&with_header(&extended, &json!({}), SECRET), "`crit`"),
            (&sign(&json!({ "exp": NOW, "sub": "x".repeat(4096) })), "the limit is 4096"),
        ] {
            let error = Token::read(text, 4096).err().unwrap_or_else(|| panic!("taken: {text}"));
            assert!(error.code == Code::InvalidToken && error.message.contains(words), "{text}: {error}");
        }
        let strange = with_header(&json!({ "alg": "HS256", "kid": "sig_strange" }), &json!({}), SECRET);
        assert!(Token::read(&strange, 4096).expect("a token").signing_key().is_err());
    }

    #[test]
    fn a_key_set_is_found_by_the_one_project_that_the_token_is_for() {
        let (one, two) = (ProjectId::new(), ProjectId::new());
        let project = |aud: Value| {
            let token =
                with_header(&json!({ "alg": "RS256", "kid": "2026-11" }), &json!({ "aud": aud }), SECRET);
            let token = Token::read(&token, 4096).expect("a token");
            assert_eq!(token.signing_key().expect("no signing key"), None);
            token.project().map_err(|error| error.code)
        };
        assert_eq!(project(json!(one)), Ok(one));
        assert_eq!(project(json!(["https://api.example.com", one])), Ok(one));
        for bad in [json!(null), json!([]), json!("x"), json!([one, two]), json!({ "a": 1 })] {
            assert_eq!(project(bad), Err(Code::InvalidToken));
        }
    }
}
