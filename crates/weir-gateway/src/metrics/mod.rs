//! Metrics for Prometheus. Requests and frames are counted as they are answered; everything else is counted by whoever
//! does it, and only read here when somebody scrapes.
//!
//! `series.rs` is the catalogue of what there is, `sources.rs` says where each value comes from, `text.rs` and
//! `protobuf.rs` write it. How many series there can be is bounded: labels are routes, codes and other closed lists, and
//! tenants are named only as far as the setting allows.

mod page;
mod process;
mod protobuf;
pub(crate) mod requests;
pub(crate) mod series;
mod sources;
mod text;
pub(crate) mod told;

use crate::state::Gateway;
use axum::http::{HeaderMap, Method, header};
use requests::{FRAMES, Kinds, OPERATIONS, Requests};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};
use text::Dialect;
use weir_engine::EngineHealth;

/// What this node counts itself.
pub(crate) struct Metrics {
    requests: Requests,
    /// Frames of WebSockets.
    pub(crate) frames: Kinds,
    /// Operations of GraphQL.
    pub(crate) operations: Kinds,
    started: SystemTime,
    /// Nanoseconds that the last scrape took.
    last_scrape: AtomicU64,
}

/// How a scrape is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Text(Dialect),
    Protobuf,
}

impl Format {
    /// What the scraper likes best of what is offered here.
    pub(crate) fn wanted(headers: &HeaderMap) -> Self {
        let accept = headers.get_all(header::ACCEPT);
        let mut best = (0.0, Self::Text(Dialect::Prometheus));
        for range in accept.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','))
        {
            let mut parts = range.split(';').map(str::trim);
            let format = match parts.next() {
                Some("application/vnd.google.protobuf") => Self::Protobuf,
                Some("application/openmetrics-text") => Self::Text(Dialect::OpenMetrics),
                Some("text/plain") => Self::Text(Dialect::Prometheus),
                _ => continue,
            };
            if format == Self::Protobuf && !range.contains("io.prometheus.client.MetricFamily") {
                continue;
            }
            let weight = parts.find_map(|part| part.strip_prefix("q=")?.parse().ok()).unwrap_or(1.0);
            if weight > best.0 {
                best = (weight, format);
            }
        }
        best.1
    }

    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Self::Text(Dialect::OpenMetrics) => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text(Dialect::Prometheus) => "text/plain; version=0.0.4; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            requests: Requests::default(),
            frames: Kinds::new(&FRAMES),
            operations: Kinds::new(&OPERATIONS),
            started: SystemTime::now(),
            last_scrape: AtomicU64::new(0),
        }
    }

    /// Counts one answered request. The route is the router's pattern.
    pub(crate) fn request(&self, route: &str, method: &Method, status: u16, took: Duration) {
        self.requests.count(route, method, status, took);
    }

    fn last_scrape(&self) -> Duration {
        Duration::from_nanos(self.last_scrape.load(Relaxed))
    }

    /// One scrape.
    pub(crate) fn scrape(&self, gateway: &Gateway, health: &EngineHealth, format: Format) -> Vec<u8> {
        let begun = Instant::now();
        let page = self.page(gateway, health);
        let written = match format {
            Format::Text(dialect) => text::write(&page, dialect).into_bytes(),
            Format::Protobuf => protobuf::write(&page),
        };
        self.last_scrape.store(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX), Relaxed);
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scraper_gets_what_it_likes_best() {
        let wanted = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().expect("a header"));
            Format::wanted(&headers)
        };
        let native = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,\
            application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        assert_eq!(wanted(native), Format::Protobuf);
        let usual = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
            text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert_eq!(wanted(usual), Format::Text(Dialect::OpenMetrics));
        for plain in [
            "*/*",
            "text/html, text/plain;q=0.2",
            "application/vnd.google.protobuf;proto=other",
            "nonsense;;q=x",
        ] {
            assert_eq!(wanted(plain), Format::Text(Dialect::Prometheus), "{plain}");
        }
        assert_eq!(Format::wanted(&HeaderMap::new()), Format::Text(Dialect::Prometheus));
    }
}
