//! Client tokens: JWTs that a tenant signs for its end users (RFC 7519, HS256 of RFC 7518).

use super::Claims;
use crate::Error;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use std::time::Duration;
use weir_core::{Code, Pattern, ProjectId, SigningKeyId, Timestamp};

/// What this server reads of a token. Typed, so that `"exp": "tomorrow"` is an error and not an absence.
#[derive(Deserialize)]
struct Raw {
    sub: Option<String>,
    exp: i64,
    nbf: Option<i64>,
    aud: Option<Audience>,
    #[serde(default)]
    subscribe: Vec<Pattern>,
    #[serde(default)]
    publish: Vec<Pattern>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Audience {
    fn names(&self, project: &str) -> bool {
        match self {
            Self::One(name) => name == project,
            Self::Many(names) => names.iter().any(|name| name == project),
        }
    }
}

/// Which key a token says it was signed with.
pub(super) fn signer(token: &str, limit: usize) -> Result<SigningKeyId, Error> {
    if token.len() > limit {
        return Err(refused(format!("The token has {} bytes; the limit is {limit}.", token.len())));
    }
    if token.starts_with("weir_") {
        return Err(refused(
            "This is an API key: send it in a header. In a URL only client tokens and tickets are taken.",
        ));
    }
    let header = jsonwebtoken::decode_header(token).map_err(|_| refused("The token is not a JWT."))?;
    if header.alg != Algorithm::HS256 {
        return Err(refused(format!(
            "The token is signed with {:?}; this project's keys sign with HS256.",
            header.alg
        )));
    }
    let kid = header.kid.ok_or_else(|| {
        refused("The token's header names no `kid`: set it to the signing key's id (`sig_…`).")
    })?;
    kid.parse().map_err(|error| refused(format!("The token's `kid` cannot be used: {error}.")))
}

/// Verifies signature, times and audience.
pub(super) fn verify(
    token: &str,
    secret: &[u8],
    project: ProjectId,
    now: Timestamp,
    leeway: Duration,
) -> Result<Claims, Error> {
    let mut rules = Validation::new(Algorithm::HS256);
    // Times and audience are checked below, by the server's own clock and with words of our own.
    rules.validate_exp = false;
    rules.validate_aud = false;
    rules.set_required_spec_claims::<&str>(&[]);
    let raw = jsonwebtoken::decode::<Raw>(token, &DecodingKey::from_secret(secret), &rules)
        .map_err(|error| explain(&error))?
        .claims;
    if raw.aud.is_some_and(|audience| !audience.names(&project.to_string())) {
        return Err(refused(format!("The token's `aud` does not name the project `{project}`.")));
    }
    if raw.nbf.is_some_and(|from| Timestamp::from_seconds(from) > now.plus(leeway)) {
        return Err(refused("The token is not valid yet (`nbf`)."));
    }
    if Timestamp::from_seconds(raw.exp).plus(leeway) <= now {
        return Err(Error::new(Code::ExpiredToken, "The token has expired (`exp`): sign a new one."));
    }
    Ok(Claims { sub: raw.sub, exp: raw.exp, subscribe: raw.subscribe, publish: raw.publish })
}

fn explain(error: &jsonwebtoken::errors::Error) -> Error {
    use jsonwebtoken::errors::ErrorKind;
    match error.kind() {
        ErrorKind::InvalidSignature => refused("The token's signature does not fit its signing key."),
        ErrorKind::Json(cause) => refused(format!(
            "The token's claims are not as documented (numeric `exp`; `subscribe` and `publish` lists of patterns): {cause}."
        )),
        _ => refused("The token is not a JWT that this server accepts."),
    }
}

fn refused(message: impl Into<String>) -> Error {
    Error::new(Code::InvalidToken, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonwebtoken::{EncodingKey, Header};
    use serde_json::{Value, json};

    const NOW: i64 = 1_800_000_000;

    fn sign(claims: &Value) -> String {
        let header = Header { kid: Some(SigningKeyId::new().to_string()), ..Header::new(Algorithm::HS256) };
        jsonwebtoken::encode(&header, claims, &EncodingKey::from_secret(b"secret")).expect("signs")
    }

    fn check(claims: &Value, project: ProjectId) -> Result<Claims, Code> {
        let now = Timestamp::from_seconds(NOW);
        verify(&sign(claims), b"secret", project, now, Duration::from_secs(30)).map_err(|error| error.code)
    }

    #[test]
    fn a_good_token_says_what_it_allows() {
        let project = ProjectId::new();
        let claims =
            json!({"sub": "u1", "exp": NOW + 60, "aud": project, "subscribe": ["a.*"], "publish": []});
        let claims = check(&claims, project).expect("valid");
        assert_eq!((claims.sub.as_deref(), claims.subscribe.len()), (Some("u1"), 1));
    }

    #[test]
    fn times_audience_and_types_are_held() {
        let project = ProjectId::new();
        assert_eq!(check(&json!({"exp": NOW - 31}), project), Err(Code::ExpiredToken));
        assert!(check(&json!({"exp": NOW - 29}), project).is_ok());
        for bad in [
            json!({}),
            json!({"exp": "9999999999"}),
            json!({"exp": NOW + 60, "nbf": NOW + 60}),
            json!({"exp": NOW + 60, "aud": ProjectId::new()}),
            json!({"exp": NOW + 60, "subscribe": ["a..b"]}),
            json!({"exp": NOW + 60, "subscribe": "a"}),
        ] {
            assert_eq!(check(&bad, project), Err(Code::InvalidToken), "{bad}");
        }
    }

    #[test]
    fn other_algorithms_keys_and_shapes_are_refused() {
        let token = sign(&json!({"exp": NOW + 60}));
        let now = Timestamp::from_seconds(NOW);
        let other =
            verify(&token, b"other", ProjectId::new(), now, Duration::ZERO).map_err(|error| error.code);
        assert_eq!(other, Err(Code::InvalidToken));
        assert!(signer(&token, 4096).is_ok());
        assert!(signer(&token, 10).is_err());
        // {"alg":"none"} and HS512 must not pass as HS256.
        for head in ["eyJhbGciOiJub25lIn0", "eyJhbGciOiJIUzUxMiJ9"] {
            let rest = token.split_once('.').map_or("", |(_, rest)| rest);
            assert!(signer(&format!("{head}.{rest}"), 4096).is_err());
        }
        assert!(signer("x", 4096).is_err());
    }
}
