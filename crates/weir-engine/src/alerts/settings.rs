//! When something is wrong, and who is told.

use std::path::PathBuf;
use std::time::Duration;
use weir_core::Secret;

/// When something is wrong, and who is told. The meaning of each is in `weir.toml`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Between two looks.
    pub interval: Duration,
    /// Over how long failures are counted.
    pub window: Duration,
    /// How long after it was seen last something is over.
    pub hold: Duration,
    /// How long alerts are kept that are over.
    pub keep: Duration,
    /// Failed requests within the window, in percent.
    pub error_percent: u32,
    /// Requests within the window below which the share says nothing.
    pub error_requests: u32,
    /// Refused credentials within the window that belong to one project.
    pub auth_failures_project: u32,
    /// Refused credentials within the window in all.
    pub auth_failures: u32,
    /// Connections closed as slow within the window.
    pub slow_consumers: u32,
    /// How full the hub's queue is, in percent.
    pub log_lag_percent: u32,
    /// How far the count of published events is behind.
    pub usage_lag: Duration,
    /// Free space on the disk of `data_dir`, in percent.
    pub storage_free_percent: u32,
    /// How far a node's clock is off.
    pub clock_skew: Duration,
    /// For how long nodes run different programs.
    pub version_skew: Duration,
    /// For how long usage waits to be reported.
    pub reporting_stuck: Duration,
    /// For how long an endpoint takes nothing.
    pub webhook_failing: Duration,
    /// What one tenant keeps, in percent of the bytes that it may.
    pub retention_percent: u32,
    /// Dead letters of one tenant.
    pub dead_letters: u32,
    /// The disk to look at; `None` when nothing is kept on one.
    pub data_dir: Option<PathBuf>,
    /// Who is told by webhook.
    pub webhook_url: Option<String>,
    /// With which its messages are signed: `whsec_…`.
    pub webhook_secret: Option<Secret>,
    /// Base URLs of the Alertmanagers that are told.
    pub alertmanager_urls: Vec<String>,
    /// Between two messages to them about what goes on.
    pub resend: Duration,
    /// Where the runbooks are.
    pub runbooks: String,
}

/// What `weir.toml` says when it says nothing.
impl Default for Settings {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(5),
            window: Duration::from_secs(60),
            hold: Duration::from_secs(120),
            keep: Duration::from_secs(30 * 24 * 3600),
            error_percent: 5,
            error_requests: 50,
            auth_failures_project: 100,
            auth_failures: 500,
            slow_consumers: 50,
            log_lag_percent: 80,
            usage_lag: Duration::from_secs(60),
            storage_free_percent: 15,
            clock_skew: Duration::from_secs(1),
            version_skew: Duration::from_secs(15 * 60),
            reporting_stuck: Duration::from_secs(2 * 3600),
            webhook_failing: Duration::from_secs(15 * 60),
            retention_percent: 80,
            dead_letters: 1_000,
            data_dir: None,
            webhook_url: None,
            webhook_secret: None,
            alertmanager_urls: Vec::new(),
            resend: Duration::from_secs(30),
            runbooks: "docs/runbooks.md".to_owned(),
        }
    }
}

/// What happened once is told to be over after so many hold times.
const EVENT_HOLDS: u32 = 5;
/// What concerns the installation is looked at every so many looks.
pub(super) const INSTALLATION_EVERY: u32 = 6;

impl Settings {
    /// How long something that happened, rather than is, stays open.
    pub(super) fn hold_of_events(&self) -> Duration {
        self.hold * EVENT_HOLDS
    }

    /// How long something stays open that is looked for more rarely.
    pub(super) fn hold_of_installation(&self) -> Duration {
        self.hold.max(self.interval * INSTALLATION_EVERY * 4)
    }
}
