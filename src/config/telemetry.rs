//! `[telemetry]` and `[metrics]`: what a node tells of itself.

use super::validate::Check;
use super::{Share, filled, secret};
use serde::{Deserialize, Serialize};
use weir_core::Secret;

/// `[telemetry]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Telemetry {
    /// How log lines look.
    pub log_format: LogFormat,
    /// Which log lines appear: a level, or directives such as `info,weir_log=debug`.
    pub log_level: String,
    /// Where traces go, OTLP over HTTP; none is no traces.
    #[serde(deserialize_with = "filled")]
    pub otlp_endpoint: Option<String>,
    /// Headers of the requests there, `name=value` with commas. Secret, since credentials stand there.
    #[serde(with = "secret")]
    pub otlp_headers: Option<Secret>,
    /// How many of the traces that begin here are recorded.
    pub sampling: Share,
    /// What this service is called there.
    #[serde(deserialize_with = "filled")]
    pub service_name: Option<String>,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            log_format: LogFormat::Auto,
            log_level: "info".into(),
            otlp_endpoint: None,
            otlp_headers: None,
            sampling: Share::percent(10),
            service_name: None,
        }
    }
}

impl Telemetry {
    /// Its breaches.
    pub(super) fn check(&self, check: &mut Check) {
        if let Some(endpoint) = &self.otlp_endpoint {
            let known = ["http://", "https://"].iter().any(|scheme| endpoint.starts_with(scheme));
            check.that(known, "telemetry.otlp_endpoint", || {
                "is no http:// or https:// URL: name the collector's OTLP port for HTTP, most often 4318"
                    .into()
            });
        }
        if let Some(headers) = &self.otlp_headers {
            check.that(crate::telemetry::headers(headers).is_some(), "telemetry.otlp_headers", || {
                "is not `name=value` with commas between, values percent-encoded".into()
            });
        }
        if let Err(error) = tracing_subscriber::EnvFilter::try_new(&self.log_level) {
            check.problem(
                "telemetry.log_level",
                format!("`{}` is not a filter ({error}): use a level such as info", self.log_level),
            );
        }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Pretty on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Pretty,
    /// One object a line.
    Json,
}

/// `[metrics]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// Tenants that have series of their own at most; all others share one.
    pub tenants: usize,
}

impl Default for Metrics {
    fn default() -> Self {
        Self { tenants: 20 }
    }
}

impl Metrics {
    /// Its breaches.
    pub(super) fn check(&self, check: &mut Check) {
        check.range("metrics.tenants", self.tenants, 0, 1000);
    }
}
