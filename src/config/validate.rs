//! The rules that values must keep beyond their form: how they are checked, and those that are of no one section. Each
//! breach names the setting, its value, the limit and the fix.

use super::{Config, Duration, Problem};
use std::fmt::Display;
use weir_core::{RootSecret, Secret};

/// Collects breaches.
pub(super) struct Check(Vec<Problem>);

impl Check {
    pub(super) fn problem(&mut self, setting: &str, message: impl Into<String>) {
        self.0.push(Problem { setting: setting.into(), message: message.into() });
    }

    pub(super) fn that(&mut self, holds: bool, setting: &str, message: impl FnOnce() -> String) {
        if !holds {
            self.problem(setting, message());
        }
    }

    pub(super) fn range<T: PartialOrd + Display>(&mut self, setting: &str, value: T, least: T, most: T) {
        self.that(least <= value && value <= most, setting, || {
            format!("{value} is outside of what works: use {least} to {most}")
        });
    }

    pub(super) fn duration(&mut self, setting: &str, value: Duration, least: &str, most: &str) {
        if let (Ok(least), Ok(most)) = (least.parse(), most.parse()) {
            self.range(setting, value, least, most);
        }
    }

    pub(super) fn url(&mut self, setting: &str, url: Option<&Secret>, schemes: &[&str], without: &str) {
        let Some(url) = url else { return };
        let known = url.expose().split(',').all(|one| {
            schemes.iter().any(|s| one.trim().strip_prefix(s).is_some_and(|rest| !rest.is_empty()))
        });
        // The value may hold a password, so it is not repeated.
        self.that(known, setting, || {
            format!(
                "the URL does not start with {}: correct it, or leave it empty for {without}",
                schemes.join(" or ")
            )
        });
    }
}

impl Config {
    /// All breaches; none in a configuration that can be used.
    #[must_use]
    pub fn validate(&self) -> Vec<Problem> {
        let mut check = Check(Vec::new());
        self.check_addresses(&mut check);
        self.database.check(&mut check);
        self.nats.check(&mut check);
        self.log.check(&mut check);
        self.retention.check(&mut check);
        self.check_what_goes_together(&mut check);
        self.hub.check(&mut check);
        self.webhooks.check(&mut check);
        self.limits.check(&mut check);
        self.graphql.check(&mut check);
        self.auth.check(&mut check);
        self.oidc.check(&mut check);
        self.outbound.check(&mut check);
        self.metrics.check(&mut check);
        self.billing.check(&mut check);
        self.stripe.check(&mut check);
        self.alerts.check(&mut check);
        self.telemetry.check(&mut check);
        check.0
    }

    /// What is allowed but seldom meant.
    pub(super) fn warnings(&self) -> Vec<String> {
        match (self.on_postgres(), self.nats.url.is_some()) {
            (false, true) => vec![
                "nats.url is set and database.url names no PostgreSQL: this node keeps tenants and keys in its own SQLite \
                 file, so it must stay the only node"
                    .into(),
            ],
            (true, false) => vec![
                "database.url names a PostgreSQL and nats.url is not set: this node keeps events in its own embedded log, so \
                 it must stay the only node"
                    .into(),
            ],
            _ => Vec::new(),
        }
    }

    /// Whether nothing is kept in `data_dir`.
    #[must_use]
    pub fn is_distributed(&self) -> bool {
        self.on_postgres() && self.nats.url.is_some()
    }

    fn on_postgres(&self) -> bool {
        self.database.url.as_ref().is_some_and(|url| url.expose().starts_with("postgres"))
    }

    fn check_addresses(&self, check: &mut Check) {
        check.that(self.listen != self.ops_listen || self.listen.port() == 0, "ops_listen", || {
            format!("{} is also `listen`: give the two different ports", self.ops_listen)
        });
        check.that(!self.data_dir.as_os_str().is_empty(), "data_dir", || {
            "is empty: name the directory for the embedded database and log".into()
        });
        if let Some(key) = &self.secret_key {
            check.that(RootSecret::from_hex(key.expose()).is_some(), "secret_key", || {
                format!(
                    "has {} characters and must be 64 hex digits: make one with `openssl rand -hex 32`",
                    key.expose().chars().count()
                )
            });
        }
        if let Some(url) = &self.public_url {
            let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
            check.that(
                host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '?', '#'])),
                "public_url",
                || format!("`{url}` is not scheme and host alone: write it like https://events.example.com"),
            );
        }
    }

    /// What one section demands of another.
    fn check_what_goes_together(&self, check: &mut Check) {
        check.that(
            self.database.migration_url.is_none() || self.on_postgres(),
            "database.migration_url",
            || "is for PostgreSQL, which database.url does not name: remove it".into(),
        );
        let (log, age) = (&self.log, self.retention.max_age);
        check.that(age.is_zero() || log.dedupe_window <= age, "log.dedupe_window", || {
            format!(
                "{} is longer than retention.max_age = {age}, and what is gone is not recognised: raise that or lower this",
                log.dedupe_window
            )
        });
        let (after, window) = (self.retention.erase_after, self.limits.access_window);
        check.that(after.std() > window.std(), "retention.erase_after", || {
            format!(
                "{after} is no longer than limits.access_window = {window}, in which a node may still take events: raise it"
            )
        });
    }
}
