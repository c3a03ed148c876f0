//! Query parameters: repeated names, and lists of topics.

use crate::rest::invalid;
use percent_encoding::percent_decode_str;
use std::str::FromStr;
use weir_core::{Code, Pattern};
use weir_engine::{Error, Start};

/// The parameters of a query, decoded, in their order.
#[derive(Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Takes a query string apart. Bytes that are not UTF-8 become U+FFFD and fail where they are used.
    pub(crate) fn parse(query: Option<&str>) -> Self {
        let decode =
            |part: &str| percent_decode_str(&part.replace('+', " ")).decode_utf8_lossy().into_owned();
        let pairs = query.unwrap_or("").split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .map(|(n, v)| (decode(n), decode(v)))
                .collect(),
        )
    }

    /// The first value by this name; an empty one counts as absent.
    pub(crate) fn first(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, v)| n == name && !v.is_empty()).map(|(_, v)| v.as_str())
    }

    /// `Last-Event-ID` as stand-ins for `EventSource` spell it, which cannot set headers either.
    pub(crate) fn last_event_id(&self) -> Option<&str> {
        let plain = |name: &str| name.replace(['-', '_'], "").to_ascii_lowercase();
        self.0.iter().find(|(n, v)| plain(n) == "lasteventid" && !v.is_empty()).map(|(_, v)| v.as_str())
    }

    /// A value that must be of a certain form.
    pub(crate) fn parsed<T: FromStr>(&self, name: &str, form: &str) -> Result<Option<T>, Error> {
        self.first(name)
            .map(|text| {
                text.parse().map_err(|_| invalid(name, &format!("must be {form}; got `{}`", cut(text))))
            })
            .transpose()
    }

    /// The patterns of all `topics=` (comma-separated) and `topic=` (taken whole, so it may hold a comma).
    pub(crate) fn patterns(&self) -> Result<Vec<Pattern>, Error> {
        let mut patterns = Vec::new();
        for (name, value) in &self.0 {
            match name.as_str() {
                "topics" => {
                    for part in value.split(',').map(str::trim).filter(|part| !part.is_empty()) {
                        patterns.push(part.parse()?);
                    }
                }
                "topic" => patterns.push(value.parse()?),
                _ => {}
            }
        }
        Ok(patterns)
    }

    /// Where to start: at most one of `after`, `from_sequence`, `from_time`.
    pub(crate) fn start(&self) -> Result<Option<Start>, Error> {
        let after = self.first("after").map(|text| Start::After(text.to_owned()));
        let sequence = self.parsed("from_sequence", "a whole number")?.map(Start::Sequence);
        let time =
            self.parsed("from_time", "an RFC 3339 time such as 2026-01-31T12:00:00Z")?.map(Start::Time);
        one_start([after, sequence, time])
    }
}

/// At most one way to say where to start.
pub(crate) fn one_start(ways: [Option<Start>; 3]) -> Result<Option<Start>, Error> {
    let mut given = ways.into_iter().flatten();
    match (given.next(), given.next()) {
        (start, None) => Ok(start),
        _ => Err(Error::new(
            Code::InvalidRequest,
            "Give only one of `after`, `from_sequence` and `from_time`.",
        )),
    }
}

/// A value short enough to repeat in a message.
pub(crate) fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(query: &str) -> Vec<String> {
        let patterns = Query::parse(Some(query)).patterns().expect("valid");
        patterns.iter().map(|pattern| pattern.as_str().to_owned()).collect()
    }

    #[test]
    fn topics_are_lists_and_topic_is_one() {
        assert_eq!(names("topics=a,b.*&topics=c.%3E"), ["a", "b.*", "c.>"]);
        assert_eq!(names("topics=a%2Cb"), ["a", "b"]);
        assert_eq!(names("topic=a%2Cb"), ["a,b"]);
        assert!(Query::parse(Some("topics=a..b")).patterns().is_err());
    }

    #[test]
    fn one_way_to_start() {
        assert_eq!(Query::parse(Some("from_sequence=5")).start().ok().flatten(), Some(Start::Sequence(5)));
        assert!(Query::parse(Some("from_sequence=5&after=x")).start().is_err());
        assert!(Query::parse(Some("from_sequence=-1")).start().is_err());
        assert!(Query::parse(Some("from_time=tomorrow")).start().is_err());
        assert_eq!(Query::parse(None).start().ok(), Some(None));
    }
}
