//! `[outbound]` and `[webhooks]`: requests to servers outside.

use super::validate::Check;
use super::{Duration, list};
use serde::{Deserialize, Serialize};

/// `[outbound]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Outbound {
    /// Networks that tenants' URLs may lead to although they are not public, with commas.
    pub allow_networks: String,
    /// Time between two fetches of one key set at least.
    pub key_set_interval: Duration,
    /// The age at which a key set in use is fetched again.
    pub key_set_refresh: Duration,
    /// The age up to which a key set is used that cannot be fetched again.
    pub key_set_keep: Duration,
}

impl Default for Outbound {
    fn default() -> Self {
        Self {
            allow_networks: String::new(),
            key_set_interval: Duration::seconds(30),
            key_set_refresh: Duration::seconds(300),
            key_set_keep: Duration::seconds(24 * 3600),
        }
    }
}

impl Outbound {
    /// Its breaches.
    pub(super) fn check(&self, check: &mut Check) {
        if let Err(error) = self.allow_networks.parse::<weir_outbound::Networks>() {
            check.problem("outbound.allow_networks", error);
        }
        check.duration("outbound.key_set_interval", self.key_set_interval, "1s", "1h");
        check.duration("outbound.key_set_refresh", self.key_set_refresh, "1s", "24h");
        check.duration("outbound.key_set_keep", self.key_set_keep, "1m", "30d");
    }
}

/// `[webhooks]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Webhooks {
    /// How long an endpoint may take to answer.
    pub timeout: Duration,
    /// How long after each failed attempt the next comes, with commas.
    pub retries: String,
    /// How long an endpoint may fail before it is disabled.
    pub disable_after: Duration,
    /// Attempts at once on this node.
    pub concurrency: usize,
}

impl Default for Webhooks {
    fn default() -> Self {
        Self {
            timeout: Duration::seconds(15),
            retries: "5s, 5m, 30m, 2h, 5h, 10h, 10h".into(),
            disable_after: Duration::seconds(5 * 24 * 3600),
            concurrency: 256,
        }
    }
}

impl Webhooks {
    /// The times of `retries`; `None` when one of them is none.
    #[must_use]
    pub fn schedule(&self) -> Option<Vec<Duration>> {
        list::entries(&self.retries).map(|text| text.parse().ok()).collect()
    }

    /// Its breaches.
    pub(super) fn check(&self, check: &mut Check) {
        check.duration("webhooks.timeout", self.timeout, "100ms", "1m");
        check.duration("webhooks.disable_after", self.disable_after, "1s", "90d");
        check.range("webhooks.concurrency", self.concurrency, 1, 10_000);
        let known = self.schedule().is_some_and(|times| times.len() <= 20);
        check.that(known, "webhooks.retries", || {
            format!("`{}` is not a list of up to 20 durations with commas, as in 5s, 5m, 2h", self.retries)
        });
    }
}
