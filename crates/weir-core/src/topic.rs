//! Topics and the patterns that select them. A topic is 1 to 8 tokens separated by dots, at most
//! 200 bytes; a pattern may hold `*` for one token and `>` as its last token for one or more.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The longest topic or pattern, in bytes.
pub const MAX_BYTES: usize = 200;
/// The most tokens in a topic or pattern.
pub const MAX_TOKENS: usize = 8;

/// The first token of the topics that only the server itself publishes to.
pub const SYSTEM: &str = "@weir";

/// Whether this is a topic of the server's own.
#[must_use]
pub fn is_system(topic: &str) -> bool {
    first_token(topic) == SYSTEM
}

fn first_token(text: &str) -> &str {
    text.split_once('.').map_or(text, |(first, _)| first)
}

/// Why a string is not a topic (or not a pattern), with the offending part.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTopic {
    /// Nothing at all.
    #[error("a topic needs at least one token")]
    Empty,
    /// Over [`MAX_BYTES`].
    #[error("the topic has {0} bytes; at most {MAX_BYTES} are allowed")]
    TooLong(usize),
    /// Over [`MAX_TOKENS`].
    #[error("the topic has {0} tokens; at most {MAX_TOKENS} are allowed")]
    TooDeep(usize),
    /// Two dots in a row, or a dot at an end: which token, and of what.
    #[error("token {} of `{}` is empty: no dot at the start or end, and no two in a row", .0, .1.escape_debug())]
    EmptyToken(usize, String),
    /// A character outside the alphabet, and where it is.
    #[error(
        "`{}` is not allowed in the topic `{}`: use A-Z a-z 0-9 _ - = @ , ; : and dots between tokens",
        .0.escape_debug(), .1.escape_debug()
    )]
    Character(char, String),
    /// `*` or `>` in a topic that is published to.
    #[error("`{0}` cannot be published to: `*` and `>` select topics")]
    Wildcard(String),
    /// `>` before the last token, or a wildcard inside a longer token.
    #[error("`*` must be a whole token and `>` the whole last token; got `{}`", .0.escape_debug())]
    MisplacedWildcard(String),
}

const fn allowed(byte: u8) -> bool {
    matches!(byte, b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9'
        | b'_' | b'-' | b'=' | b'@' | b',' | b';' | b':')
}

/// Checks the shape; returns whether a wildcard occurs.
fn check(text: &str) -> Result<bool, InvalidTopic> {
    if text.is_empty() {
        return Err(InvalidTopic::Empty);
    }
    if text.len() > MAX_BYTES {
        return Err(InvalidTopic::TooLong(text.len()));
    }
    let count = text.bytes().filter(|b| *b == b'.').count() + 1;
    if count > MAX_TOKENS {
        return Err(InvalidTopic::TooDeep(count));
    }
    let mut wild = false;
    for (i, token) in text.split('.').enumerate() {
        match token {
            "" => return Err(InvalidTopic::EmptyToken(i + 1, text.to_owned())),
            "*" => wild = true,
            ">" if i + 1 == count => wild = true,
            _ => check_token(token, text)?,
        }
    }
    Ok(wild)
}

fn check_token(token: &str, text: &str) -> Result<(), InvalidTopic> {
    match token.chars().find(|c| !u8::try_from(*c).is_ok_and(allowed)) {
        None => Ok(()),
        Some('*' | '>') => Err(InvalidTopic::MisplacedWildcard(text.to_owned())),
        Some(other) => Err(InvalidTopic::Character(other, text.to_owned())),
    }
}

macro_rules! text_type {
    ($name:ident) => {
        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The shared text, without a copy.
            #[must_use]
            pub fn shared(&self) -> Arc<str> {
                Arc::clone(&self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

/// A topic that can be published to. Cloning shares the text.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic(Arc<str>);

text_type!(Topic);

impl Topic {
    /// A topic of the server's own, whose name is a constant of this program.
    pub(crate) fn of_system(name: &'static str) -> Self {
        Self(name.into())
    }

    /// Whether only the server publishes here.
    #[must_use]
    pub fn is_system(&self) -> bool {
        is_system(&self.0)
    }
}

impl FromStr for Topic {
    type Err = InvalidTopic;

    fn from_str(text: &str) -> Result<Self, InvalidTopic> {
        if check(text)? {
            return Err(InvalidTopic::Wildcard(text.to_owned()));
        }
        Ok(Self(text.into()))
    }
}

/// A subscription: a topic in which `*` stands for one token and a last `>` for one or more.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pattern(Arc<str>);

text_type!(Pattern);

impl Pattern {
    /// Every topic that can be published to.
    #[must_use]
    pub fn all() -> Self {
        Self(">".into())
    }

    /// Every topic of the server's own.
    #[must_use]
    pub fn all_of_system() -> Self {
        Self(format!("{SYSTEM}.>").into())
    }

    /// Whether the pattern names the server's own topics.
    #[must_use]
    pub fn is_system(&self) -> bool {
        is_system(&self.0)
    }

    /// True when the pattern names exactly one topic.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        !self.0.split('.').any(|token| token == "*" || token == ">")
    }

    /// Whether the pattern selects `topic`. Token by token, without allocation.
    #[must_use]
    pub fn matches(&self, topic: &str) -> bool {
        if is_system(topic) && !self.is_system() {
            return false;
        }
        let mut tokens = topic.split('.');
        for wanted in self.0.split('.') {
            match (wanted, tokens.next()) {
                (_, None) => return false,
                (">", Some(_)) => return true,
                ("*", Some(_)) => {}
                (wanted, Some(token)) if wanted == token => {}
                _ => return false,
            }
        }
        tokens.next().is_none()
    }

    /// Whether every topic that `other` selects is selected by this pattern too: how a client
    /// token's permission is held against a wished subscription.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        if other.is_system() && !self.is_system() {
            return false;
        }
        let mut theirs = other.0.split('.');
        for wanted in self.0.split('.') {
            match (wanted, theirs.next()) {
                (_, None) => return false,
                (">", Some(_)) => return true,
                (_, Some(">")) => return false,
                ("*", Some(_)) => {}
                (wanted, Some(token)) if wanted == token => {}
                _ => return false,
            }
        }
        theirs.next().is_none()
    }
}

impl FromStr for Pattern {
    type Err = InvalidTopic;

    fn from_str(text: &str) -> Result<Self, InvalidTopic> {
        check(text)?;
        Ok(Self(text.into()))
    }
}

impl From<Topic> for Pattern {
    fn from(topic: Topic) -> Self {
        Self(topic.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str) -> Pattern {
        text.parse().expect("a valid pattern")
    }

    #[test]
    fn refuses_with_the_reason() {
        assert_eq!("".parse::<Topic>(), Err(InvalidTopic::Empty));
        assert_eq!("a..b".parse::<Topic>(), Err(InvalidTopic::EmptyToken(2, "a..b".into())));
        assert_eq!("a.b.".parse::<Topic>(), Err(InvalidTopic::EmptyToken(3, "a.b.".into())));
        assert_eq!("a b".parse::<Topic>(), Err(InvalidTopic::Character(' ', "a b".into())));
        assert_eq!("a.é".parse::<Topic>(), Err(InvalidTopic::Character('é', "a.é".into())));
        assert_eq!("a.*".parse::<Topic>(), Err(InvalidTopic::Wildcard("a.*".into())));
        assert_eq!("a.>.b".parse::<Pattern>(), Err(InvalidTopic::MisplacedWildcard("a.>.b".into())));
        assert_eq!("a*".parse::<Pattern>(), Err(InvalidTopic::MisplacedWildcard("a*".into())));
        assert_eq!("a".repeat(201).parse::<Topic>(), Err(InvalidTopic::TooLong(201)));
        assert_eq!("a.a.a.a.a.a.a.a.a".parse::<Topic>(), Err(InvalidTopic::TooDeep(9)));
        // In a list of patterns one has to know which is wrong, and nothing that is sent may break a line of a log.
        let error = "a\n.*".parse::<Pattern>().expect_err("a line break");
        assert!(error.to_string().starts_with(r"`\n` is not allowed in the topic `a\n.*`: use "), "{error}");
    }

    #[test]
    fn selects_by_token() {
        assert!(pattern("a.*").matches("a.b"));
        assert!(!pattern("a.*").matches("a"));
        assert!(!pattern("a.*").matches("a.b.c"));
        assert!(pattern("a.>").matches("a.b.c"));
        assert!(!pattern("a.>").matches("a"));
        assert!(pattern("*.b").matches("x.b"));
        assert!(!pattern("a").matches("ab"));
    }

    #[test]
    fn covering() {
        assert!(pattern("a.>").covers(&pattern("a.*.c")));
        assert!(pattern("a.*").covers(&pattern("a.b")));
        assert!(!pattern("a.*").covers(&pattern("a.>")));
        assert!(!pattern("a.b").covers(&pattern("a.*")));
        assert!(pattern(">").covers(&pattern(">")));
    }

    #[test]
    fn wildcards_do_not_stand_for_the_servers_own_token() {
        for all in [">", "*.>", "*.key.created", "*.*.*"] {
            assert!(!pattern(all).matches("@weir.key.created"), "{all}");
            assert!(!pattern(all).covers(&pattern("@weir.key.created")), "{all}");
            assert!(!pattern(all).covers(&pattern("@weir.>")), "{all}");
        }
        assert!(pattern("@weir.>").matches("@weir.key.created"));
        assert!(pattern("@weir.*.created").matches("@weir.key.created"));
        assert!(pattern("@weir.>").covers(&pattern("@weir.key.*")));
        assert!(Pattern::all_of_system().matches("@weir.key.created"));
        assert!(pattern(">").matches("@weird.key") && !is_system("@weird.key") && is_system("@weir"));
    }

    fn token() -> impl Strategy<Value = String> {
        prop_oneof![
            Just("a".to_owned()),
            Just(SYSTEM.to_owned()),
            Just("b".to_owned()),
            "[A-Za-z0-9_=@,;:-]{1,4}"
        ]
    }

    fn any_pattern() -> impl Strategy<Value = Pattern> {
        let part = prop_oneof![3 => token(), 1 => Just("*".to_owned())];
        (proptest::collection::vec(part, 1..4), any::<bool>()).prop_map(|(mut tokens, tail)| {
            if tail {
                tokens.push(">".into());
            }
            pattern(&tokens.join("."))
        })
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "\\PC{0,240}") {
            let _ = text.parse::<Topic>();
            let _ = text.parse::<Pattern>();
        }

        #[test]
        fn what_is_covered_is_selected(
            outer in any_pattern(),
            inner in any_pattern(),
            topic in proptest::collection::vec(token(), 1..5),
        ) {
            let topic = topic.join(".");
            if outer.covers(&inner) && inner.matches(&topic) {
                prop_assert!(outer.matches(&topic));
            }
        }

        #[test]
        fn a_topic_selects_itself(tokens in proptest::collection::vec(token(), 1..8)) {
            let topic: Topic = tokens.join(".").parse().expect("valid");
            prop_assert!(Pattern::from(topic.clone()).matches(topic.as_str()));
        }
    }
}
