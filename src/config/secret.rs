//! Secrets among the settings: read as text, shown masked. For `#[serde(with = "secret")]`.

use serde::{Deserializer, Serialize, Serializer, de};
use std::fmt;
use weir_core::Secret;

/// Reads a secret; `""` is none. What is not a text is refused without being repeated.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
    struct Visitor;

    impl de::Visitor<'_> for Visitor {
        type Value = Option<Secret>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text in quotes")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
            Ok((!text.is_empty()).then(|| Secret::new(text)))
        }

        fn visit_i64<E: de::Error>(self, _: i64) -> Result<Self::Value, E> {
            Err(E::custom("must be a text in quotes, not a number"))
        }

        fn visit_f64<E: de::Error>(self, _: f64) -> Result<Self::Value, E> {
            Err(E::custom("must be a text in quotes, not a number"))
        }
    }

    deserializer.deserialize_any(Visitor)
}

/// Writes the mask; nothing for none.
pub fn serialize<S: Serializer>(secret: &Option<Secret>, serializer: S) -> Result<S::Ok, S::Error> {
    secret.as_ref().map(|secret| masked(secret.expose())).serialize(serializer)
}

/// Of a URL the scheme, hosts and path, where they can be told from its credentials with certainty;
/// of anything else nothing.
fn masked(text: &str) -> String {
    const MASK: &str = "[redacted]";
    let Some((scheme, rest)) = text.split_once("://") else {
        return MASK.into();
    };
    let (front, query) = rest.split_once('?').map_or((rest, None), |(front, query)| (front, Some(query)));
    // An `@` behind the `?` may close a password that holds a raw `?`.
    if query.is_some_and(|query| query.contains('@')) || !scheme.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return MASK.into();
    }
    let query = if query.is_some() { "?[redacted]" } else { "" };
    match front.rsplit_once('@') {
        Some((_, hosts)) => format!("{scheme}://{MASK}@{hosts}{query}"),
        // Without an `@`, a raw `?` in a password would leave its first half here.
        None if !query.is_empty() => format!("{scheme}://{MASK}"),
        None => format!("{scheme}://{front}"),
    }
}

#[cfg(test)]
mod tests {
    use super::masked;

    #[test]
    fn masks_all_that_may_be_secret() {
        for (secret, shown) in [
            ("canary", "[redacted]"),
            ("postgres://db:5432/weir", "postgres://db:5432/weir"),
            ("postgres://weir:canary@db:5432/weir", "postgres://[redacted]@db:5432/weir"),
            ("postgres://weir:can@ary@db/weir", "postgres://[redacted]@db/weir"),
            ("postgres://weir@db/weir?password=canary", "postgres://[redacted]@db/weir?[redacted]"),
            ("postgres://weir:canary?canary@db/weir", "[redacted]"),
            ("postgres://db/weir?user=a&password=canary", "postgres://[redacted]"),
            ("nats://canary@a:4222,nats://u:canary@b:4222", "nats://[redacted]@b:4222"),
            ("can ary://x", "[redacted]"),
        ] {
            assert_eq!(masked(secret), shown);
        }
    }
}
