//! Which of the offered forms of an answer a client wants.

use axum::http::{HeaderMap, header};

/// A form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Media {
    /// `application/json`: what every client reads. An operation that cannot be executed is a 200 with errors.
    Json,
    /// `application/graphql-response+json`: the status says whether the operation was executed.
    Response,
    /// `text/event-stream`: results one after the other.
    EventStream,
    /// `text/html`: a browser.
    Page,
}

impl Media {
    /// The content type of an answer that is one JSON object.
    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::Response => "application/graphql-response+json; charset=utf-8",
            _ => "application/json; charset=utf-8",
        }
    }
}

/// The form that the `Accept` headers like best, JSON where they like all or none. At the same quality the one that is
/// named first.
pub(super) fn preferred(headers: &HeaderMap) -> Media {
    let ranges = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut best = (0.0, Media::Json);
    for range in ranges.flat_map(|value| value.split(',')) {
        let (kind, parameters) = range.split_once(';').unwrap_or((range, ""));
        let quality =
            parameters.split(';').find_map(|one| one.trim().strip_prefix("q=")?.trim().parse::<f32>().ok());
        let quality = quality.unwrap_or(1.0);
        let media = match kind.trim().to_ascii_lowercase().as_str() {
            "application/json" | "application/*" | "*/*" => Media::Json,
            "application/graphql-response+json" => Media::Response,
            "text/event-stream" => Media::EventStream,
            "text/html" => Media::Page,
            _ => continue,
        };
        if quality > best.0 {
            best = (quality, media);
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_first_and_best() {
        let cases = [
            ("", Media::Json),
            ("*/*", Media::Json),
            ("application/json", Media::Json),
            ("application/graphql-response+json, application/json;q=0.9", Media::Response),
            ("application/json;q=0.5, application/graphql-response+json;q=0.7", Media::Response),
            ("application/graphql-response+json; charset=utf-8", Media::Response),
            ("text/event-stream", Media::EventStream),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", Media::Page),
            ("image/png", Media::Json),
            ("text/event-stream;q=0", Media::Json),
        ];
        for (value, expected) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, value.parse().expect("value"));
            assert_eq!(preferred(&headers), expected, "{value}");
        }
    }
}
