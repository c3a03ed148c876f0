//! `[alerts]`: when something is wrong, and who is told.

use super::{Duration, filled, secret};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use weir_core::Secret;
use weir_engine::alerts::Settings;

/// `[alerts]`, field by field [`Settings`], whose defaults hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs, reason = "documented in weir_engine::alerts::Settings")]
pub struct Alerts {
    pub interval: Duration,
    pub window: Duration,
    pub hold: Duration,
    pub keep: Duration,
    pub error_percent: u32,
    pub error_requests: u32,
    pub auth_failures_project: u32,
    pub auth_failures: u32,
    pub slow_consumers: u32,
    pub log_lag_percent: u32,
    pub usage_lag: Duration,
    pub storage_free_percent: u32,
    pub clock_skew: Duration,
    pub version_skew: Duration,
    pub reporting_stuck: Duration,
    pub webhook_failing: Duration,
    pub retention_percent: u32,
    pub dead_letters: u32,
    #[serde(deserialize_with = "filled")]
    pub webhook_url: Option<String>,
    #[serde(with = "secret")]
    pub webhook_secret: Option<Secret>,
    /// Several with commas.
    pub alertmanager_urls: String,
    pub resend: Duration,
    pub runbooks: String,
}

impl Default for Alerts {
    fn default() -> Self {
        let settings = Settings::default();
        Self {
            interval: settings.interval.into(),
            window: settings.window.into(),
            hold: settings.hold.into(),
            keep: settings.keep.into(),
            error_percent: settings.error_percent,
            error_requests: settings.error_requests,
            auth_failures_project: settings.auth_failures_project,
            auth_failures: settings.auth_failures,
            slow_consumers: settings.slow_consumers,
            log_lag_percent: settings.log_lag_percent,
            usage_lag: settings.usage_lag.into(),
            storage_free_percent: settings.storage_free_percent,
            clock_skew: settings.clock_skew.into(),
            version_skew: settings.version_skew.into(),
            reporting_stuck: settings.reporting_stuck.into(),
            webhook_failing: settings.webhook_failing.into(),
            retention_percent: settings.retention_percent,
            dead_letters: settings.dead_letters,
            webhook_url: settings.webhook_url,
            webhook_secret: settings.webhook_secret,
            alertmanager_urls: String::new(),
            resend: settings.resend.into(),
            runbooks: settings.runbooks,
        }
    }
}

impl Alerts {
    /// The Alertmanagers one by one.
    #[must_use]
    pub fn alertmanagers(&self) -> Vec<String> {
        let urls = self.alertmanager_urls.split(',').map(str::trim).filter(|url| !url.is_empty());
        urls.map(str::to_owned).collect()
    }

    /// As the engine takes them; `data_dir` is looked at where something is kept there.
    #[must_use]
    pub fn settings(&self, data_dir: Option<PathBuf>) -> Settings {
        Settings {
            interval: self.interval.std(),
            window: self.window.std(),
            hold: self.hold.std(),
            keep: self.keep.std(),
            error_percent: self.error_percent,
            error_requests: self.error_requests,
            auth_failures_project: self.auth_failures_project,
            auth_failures: self.auth_failures,
            slow_consumers: self.slow_consumers,
            log_lag_percent: self.log_lag_percent,
            usage_lag: self.usage_lag.std(),
            storage_free_percent: self.storage_free_percent,
            clock_skew: self.clock_skew.std(),
            version_skew: self.version_skew.std(),
            reporting_stuck: self.reporting_stuck.std(),
            webhook_failing: self.webhook_failing.std(),
            retention_percent: self.retention_percent,
            dead_letters: self.dead_letters,
            data_dir,
            webhook_url: self.webhook_url.clone(),
            webhook_secret: self.webhook_secret.clone(),
            alertmanagers: self.alertmanagers(),
            resend: self.resend.std(),
            runbooks: self.runbooks.clone(),
        }
    }
}
