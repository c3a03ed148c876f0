//! `[alerts]`: when something is wrong, and who is told.

use super::mirror::mirror;
use super::validate::Check;
use super::{Duration, filled, list, secret};
use weir_core::Secret;

mirror! {
    /// `[alerts]`, field by field [`weir_engine::alerts::Settings`], whose defaults hold.
    pub struct Alerts of weir_engine::alerts::Settings {
        interval: Duration,
        window: Duration,
        hold: Duration,
        keep: Duration,
        error_percent: u32,
        error_requests: u32,
        auth_failures_project: u32,
        auth_failures: u32,
        slow_consumers: u32,
        log_lag_percent: u32,
        usage_lag: Duration,
        storage_free_percent: u32,
        clock_skew: Duration,
        version_skew: Duration,
        reporting_stuck: Duration,
        webhook_failing: Duration,
        retention_percent: u32,
        dead_letters: u32,
        #[serde(deserialize_with = "filled")]
        webhook_url: Option<String>,
        #[serde(with = "secret")]
        webhook_secret: Option<Secret>,
        #[serde(with = "list")]
        alertmanager_urls: Vec<String>,
        resend: Duration,
        runbooks: String,
    }
}

impl Alerts {
    /// Its breaches.
    pub(super) fn check(&self, check: &mut Check) {
        check.duration("alerts.interval", self.interval, "100ms", "1m");
        check.duration("alerts.window", self.window, "1s", "1h");
        check.that(self.window >= self.interval, "alerts.window", || {
            format!("{} is shorter than alerts.interval = {}: raise it", self.window, self.interval)
        });
        check.duration("alerts.hold", self.hold, "500ms", "1d");
        check.that(self.hold.std() >= self.interval.std() * 4, "alerts.hold", || {
            format!(
                "{} is less than four times alerts.interval = {}: what goes on would be taken to be over",
                self.hold, self.interval
            )
        });
        check.duration("alerts.keep", self.keep, "1h", "400d");
        check.range("alerts.error_percent", self.error_percent, 1, 100);
        check.range("alerts.error_requests", self.error_requests, 1, 1_000_000);
        check.range("alerts.auth_failures_project", self.auth_failures_project, 1, 1_000_000);
        check.range("alerts.auth_failures", self.auth_failures, 1, 1_000_000);
        check.range("alerts.slow_consumers", self.slow_consumers, 1, 1_000_000);
        check.range("alerts.log_lag_percent", self.log_lag_percent, 1, 100);
        check.duration("alerts.usage_lag", self.usage_lag, "5s", "1d");
        check.range("alerts.storage_free_percent", self.storage_free_percent, 1, 90);
        check.duration("alerts.clock_skew", self.clock_skew, "10ms", "1h");
        check.duration("alerts.version_skew", self.version_skew, "0s", "7d");
        check.duration("alerts.reporting_stuck", self.reporting_stuck, "1m", "30d");
        check.duration("alerts.webhook_failing", self.webhook_failing, "1s", "7d");
        check.range("alerts.retention_percent", self.retention_percent, 1, 99);
        check.range("alerts.dead_letters", self.dead_letters, 1, 10_000);
        check.duration("alerts.resend", self.resend, "500ms", "10m");
        let urls = self.alertmanager_urls.iter().map(|url| ("alerts.alertmanager_urls", url));
        for (setting, url) in urls.chain(self.webhook_url.iter().map(|url| ("alerts.webhook_url", url))) {
            let web = url.starts_with("https://") || url.starts_with("http://");
            check.that(web, setting, || format!("`{url}` is not a URL: begin it with https:// or http://"));
        }
        if let Some(secret) = &self.webhook_secret {
            check.that(weir_outbound::webhook::is_secret(secret), "alerts.webhook_secret", || {
                "is not `whsec_` and at least 16 bytes in base64: make one with `echo whsec_$(openssl rand -base64 24)`"
                    .into()
            });
        }
    }
}
