//! The rules that values must keep beyond their form. Each breach names the setting, its value, the
//! limit and the fix.

use super::{Bytes, Config, Duration, Problem};
use std::fmt::Display;
use weir_core::{RootSecret, Secret};

struct Check(Vec<Problem>);

impl Check {
    fn problem(&mut self, setting: &str, message: impl Into<String>) {
        self.0.push(Problem { setting: setting.into(), message: message.into() });
    }

    fn that(&mut self, holds: bool, setting: &str, message: impl FnOnce() -> String) {
        if !holds {
            self.problem(setting, message());
        }
    }

    fn range<T: PartialOrd + Display>(&mut self, setting: &str, value: T, least: T, most: T) {
        self.that(least <= value && value <= most, setting, || {
            format!("{value} is outside of what works: use {least} to {most}")
        });
    }

    fn duration(&mut self, setting: &str, value: Duration, least: &str, most: &str) {
        if let (Ok(least), Ok(most)) = (least.parse(), most.parse()) {
            self.range(setting, value, least, most);
        }
    }

    fn url(&mut self, setting: &str, url: Option<&Secret>, schemes: &[&str], without: &str) {
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
        self.check_storage(&mut check);
        self.check_hub(&mut check);
        self.check_webhooks(&mut check);
        self.check_limits(&mut check);
        self.check_auth(&mut check);
        self.check_oidc(&mut check);
        if let Err(error) = self.outbound.allow_networks.parse::<weir_outbound::Networks>() {
            check.problem("outbound.allow_networks", error);
        }
        check.range("metrics.tenants", self.metrics.tenants, 0, 1000);
        check.duration("billing.explain_for", self.billing.explain_for, "1d", "400d");
        self.check_stripe(&mut check);
        self.check_alerts(&mut check);
        let outbound = &self.outbound;
        check.duration("outbound.key_set_interval", outbound.key_set_interval, "1s", "1h");
        check.duration("outbound.key_set_refresh", outbound.key_set_refresh, "1s", "24h");
        check.duration("outbound.key_set_keep", outbound.key_set_keep, "1m", "30d");
        self.check_traces(&mut check);
        if let Err(error) = tracing_subscriber::EnvFilter::try_new(&self.telemetry.log_level) {
            check.problem(
                "telemetry.log_level",
                format!("`{}` is not a filter ({error}): use a level such as info", self.telemetry.log_level),
            );
        }
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

    fn check_traces(&self, check: &mut Check) {
        let telemetry = &self.telemetry;
        if let Some(endpoint) = &telemetry.otlp_endpoint {
            let known = ["http://", "https://"].iter().any(|scheme| endpoint.starts_with(scheme));
            check.that(known, "telemetry.otlp_endpoint", || {
                "is no http:// or https:// URL: name the collector's OTLP port for HTTP, most often 4318"
                    .into()
            });
        }
        if let Some(headers) = &telemetry.otlp_headers {
            check.that(crate::telemetry::headers(headers).is_some(), "telemetry.otlp_headers", || {
                "is not `name=value` with commas between, values percent-encoded".into()
            });
        }
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

    fn check_oidc(&self, check: &mut Check) {
        let oidc = &self.oidc;
        let web = |url: &str| url.starts_with("https://") || url.starts_with("http://");
        let urls = [("oidc.issuer", &oidc.issuer), ("oidc.redirect_url", &oidc.redirect_url)];
        for (setting, url) in urls {
            check.that(url.as_deref().is_none_or(web), setting, || {
                format!(
                    "`{}` is not the URL of a web page: begin it with https://",
                    url.as_deref().unwrap_or_default()
                )
            });
        }
        if oidc.issuer.is_none() {
            return;
        }
        for (setting, value) in
            [("oidc.client_id", &oidc.client_id), ("oidc.redirect_url", &oidc.redirect_url)]
        {
            check.that(value.is_some(), setting, || {
                "is not set, but oidc.issuer is: set it as the provider has it, or remove oidc.issuer".into()
            });
        }
    }

    fn check_storage(&self, check: &mut Check) {
        let database = &self.database;
        check.url(
            "database.url",
            database.url.as_ref(),
            &["postgres://", "postgresql://", "sqlite://"],
            "SQLite in data_dir",
        );
        let postgres = &["postgres://", "postgresql://"];
        check.url("database.migration_url", database.migration_url.as_ref(), postgres, "database.url");
        check.that(database.migration_url.is_none() || self.on_postgres(), "database.migration_url", || {
            "is for PostgreSQL, which database.url does not name: remove it".into()
        });
        check.range("database.max_connections", database.max_connections, 1, 1000);
        check.duration("database.acquire_timeout", database.acquire_timeout, "100ms", "1m");
        check.duration("database.call_timeout", database.call_timeout, "100ms", "5m");

        let nats = &self.nats;
        check.url("nats.url", nats.url.as_ref(), &["nats://", "tls://"], "the embedded log");
        check.that([1, 3, 5].contains(&nats.replicas), "nats.replicas", || {
            format!(
                "{} copies cannot be kept: use 1, 3 or 5 (three survive the loss of one server)",
                nats.replicas
            )
        });
        check.duration("nats.request_timeout", nats.request_timeout, "100ms", "1m");
        check.that(nats.user.is_some() == nats.password.is_some(), "nats.user", || {
            "user and password belong together: set both or neither".into()
        });
        let ways = [nats.credentials_file.is_some(), nats.user.is_some(), nats.token.is_some()];
        check.that(ways.into_iter().filter(|set| *set).count() <= 1, "nats.credentials_file", || {
            "more than one of credentials_file, user and token is set: keep the one that the servers expect".into()
        });
        check.that(
            nats.client_certificate_file.is_some() == nats.client_key_file.is_some(),
            "nats.client_key_file",
            || "client_certificate_file and client_key_file belong together: set both or neither".into(),
        );
        let (log, age) = (&self.log, self.retention.max_age);
        check.duration("log.dedupe_window", log.dedupe_window, "1s", "24h");
        check.that(age.is_zero() || log.dedupe_window <= age, "log.dedupe_window", || {
            format!(
                "{} is longer than retention.max_age = {age}, and what is gone is not recognised: raise that or lower this",
                log.dedupe_window
            )
        });
        let retention = &self.retention;
        check.duration("retention.interval", retention.interval, "100ms", "1h");
        check.duration("retention.erase_after", retention.erase_after, "5s", "365d");
        check.duration("retention.shred_interval", retention.shred_interval, "0s", "30d");
        let (after, window) = (retention.erase_after, self.limits.access_window);
        check.that(after.std() > window.std(), "retention.erase_after", || {
            format!(
                "{after} is no longer than limits.access_window = {window}, in which a node may still take events: raise it"
            )
        });
        check.range("log.queue_bytes", log.queue_bytes, Bytes::mib(1), Bytes::mib(16 << 10));
        check.range("log.cache_bytes", log.cache_bytes, Bytes::mib(1), Bytes::mib(64 << 10));
        check.range("log.min_free_bytes", log.min_free_bytes, Bytes::mib(32), Bytes::mib(1 << 20));
    }

    fn check_stripe(&self, check: &mut Check) {
        let stripe = &self.stripe;
        let set = stripe.secret_key.is_some();
        let together =
            "belongs with stripe.secret_key: set secret_key, webhook_secrets and price, or none of them";
        check.that(set == stripe.price.is_some(), "stripe.price", || together.into());
        check.that(set != stripe.secrets().is_empty(), "stripe.webhook_secrets", || together.into());
        if let Some(key) = &stripe.secret_key {
            let known = ["sk_", "rk_"].iter().any(|prefix| key.expose().starts_with(prefix));
            check.that(known, "stripe.secret_key", || {
                "is not a secret or restricted key of Stripe: those begin with sk_ or rk_".into()
            });
        }
        if let Some(price) = &stripe.price {
            check.that(price.starts_with("price_"), "stripe.price", || {
                format!("`{price}` is not the id of a price: those begin with price_")
            });
        }
        let base = stripe.api_base.as_str();
        let secure = base.starts_with("https://")
            || ["http://127.0.0.1:", "http://localhost:", "http://[::1]:"]
                .iter()
                .any(|local| base.starts_with(local));
        check.that(secure, "stripe.api_base", || {
            format!("`{base}` would send the key in clear: use https, or http on this machine for tests")
        });
        check.range("stripe.events_per_second", stripe.events_per_second, 1, 10_000);
        check.duration("stripe.grace", stripe.grace, "0s", "90d");
        check.range("stripe.suspension_brake", stripe.suspension_brake, 0, 100_000);
    }

    fn check_alerts(&self, check: &mut Check) {
        let alerts = &self.alerts;
        check.duration("alerts.interval", alerts.interval, "100ms", "1m");
        check.duration("alerts.window", alerts.window, "1s", "1h");
        check.that(alerts.window >= alerts.interval, "alerts.window", || {
            format!("{} is shorter than alerts.interval = {}: raise it", alerts.window, alerts.interval)
        });
        check.duration("alerts.hold", alerts.hold, "500ms", "1d");
        check.that(alerts.hold.std() >= alerts.interval.std() * 4, "alerts.hold", || {
            format!(
                "{} is less than four times alerts.interval = {}: what goes on would be taken to be over",
                alerts.hold, alerts.interval
            )
        });
        check.duration("alerts.keep", alerts.keep, "1h", "400d");
        check.range("alerts.error_percent", alerts.error_percent, 1, 100);
        check.range("alerts.error_requests", alerts.error_requests, 1, 1_000_000);
        check.range("alerts.auth_failures_project", alerts.auth_failures_project, 1, 1_000_000);
        check.range("alerts.auth_failures", alerts.auth_failures, 1, 1_000_000);
        check.range("alerts.slow_consumers", alerts.slow_consumers, 1, 1_000_000);
        check.range("alerts.log_lag_percent", alerts.log_lag_percent, 1, 100);
        check.duration("alerts.usage_lag", alerts.usage_lag, "5s", "1d");
        check.range("alerts.storage_free_percent", alerts.storage_free_percent, 1, 90);
        check.duration("alerts.clock_skew", alerts.clock_skew, "10ms", "1h");
        check.duration("alerts.version_skew", alerts.version_skew, "0s", "7d");
        check.duration("alerts.reporting_stuck", alerts.reporting_stuck, "1m", "30d");
        check.duration("alerts.webhook_failing", alerts.webhook_failing, "1s", "7d");
        check.range("alerts.retention_percent", alerts.retention_percent, 1, 99);
        check.range("alerts.dead_letters", alerts.dead_letters, 1, 10_000);
        check.duration("alerts.resend", alerts.resend, "500ms", "10m");
        let urls = alerts.alertmanagers().into_iter().map(|url| ("alerts.alertmanager_urls", url));
        for (setting, url) in urls.chain(alerts.webhook_url.clone().map(|url| ("alerts.webhook_url", url))) {
            let web = url.starts_with("https://") || url.starts_with("http://");
            check.that(web, setting, || format!("`{url}` is not a URL: begin it with https:// or http://"));
        }
        if let Some(secret) = &alerts.webhook_secret {
            check.that(weir_outbound::webhook::is_secret(secret), "alerts.webhook_secret", || {
                "is not `whsec_` and at least 16 bytes in base64: make one with `echo whsec_$(openssl rand -base64 24)`"
                    .into()
            });
        }
    }

    fn check_webhooks(&self, check: &mut Check) {
        let webhooks = &self.webhooks;
        check.duration("webhooks.timeout", webhooks.timeout, "100ms", "1m");
        check.duration("webhooks.disable_after", webhooks.disable_after, "1s", "90d");
        check.range("webhooks.concurrency", webhooks.concurrency, 1, 10_000);
        let known = webhooks.schedule().is_some_and(|times| times.len() <= 20);
        check.that(known, "webhooks.retries", || {
            format!(
                "`{}` is not a list of up to 20 durations with commas, as in 5s, 5m, 2h",
                webhooks.retries
            )
        });
    }

    fn check_hub(&self, check: &mut Check) {
        let hub = &self.hub;
        check.range("hub.shards", hub.shards, 0, 1024);
        check.range("hub.ring_bytes", hub.ring_bytes, Bytes::kib(64), Bytes::mib(16 << 10));
        check.range("hub.ring_messages", hub.ring_messages, 16, 1 << 24);
        check.range("hub.backlog_bytes", hub.backlog_bytes, Bytes::kib(4), Bytes::mib(1 << 10));
        check.duration("hub.backlog_age", hub.backlog_age, "100ms", "10m");
        check.range("hub.frame_bytes", hub.frame_bytes, Bytes::kib(1), Bytes::mib(16));
        check.duration("hub.ping_interval", hub.ping_interval, "1s", "10m");
        check.duration("hub.pong_timeout", hub.pong_timeout, "1s", "10m");
        check.duration("hub.sse_heartbeat", hub.sse_heartbeat, "1s", "10m");
        check.duration("hub.close_timeout", hub.close_timeout, "100ms", "1m");
        check.range("hub.queue_bytes", hub.queue_bytes, Bytes::mib(1), Bytes::mib(16 << 10));
        check.that(hub.ring_bytes <= hub.ring_bytes_total, "hub.ring_bytes", || {
            format!(
                "{} for one project is more than hub.ring_bytes_total = {} for all: raise that or lower this",
                hub.ring_bytes, hub.ring_bytes_total
            )
        });
        check.that(hub.backlog_bytes <= hub.ring_bytes, "hub.backlog_bytes", || {
            format!(
                "{} is more than hub.ring_bytes = {}, where the unsent events are: raise that or lower this",
                hub.backlog_bytes, hub.ring_bytes
            )
        });
    }

    fn check_auth(&self, check: &mut Check) {
        let auth = &self.auth;
        check.duration("auth.access_token_lifetime", auth.access_token_lifetime, "1m", "24h");
        check.duration("auth.refresh_token_lifetime", auth.refresh_token_lifetime, "5m", "365d");
        check.that(
            auth.access_token_lifetime < auth.refresh_token_lifetime,
            "auth.refresh_token_lifetime",
            || {
                format!(
                    "{} is not longer than auth.access_token_lifetime = {}: nobody could refresh",
                    auth.refresh_token_lifetime, auth.access_token_lifetime
                )
            },
        );
        check.duration("auth.invitation_lifetime", auth.invitation_lifetime, "1m", "90d");
        check.range("auth.attempts_per_email", auth.attempts_per_email, 0, 100_000);
        check.range("auth.attempts_per_address", auth.attempts_per_address, 0, 1_000_000);
        if let Some(name) = &auth.address_header {
            let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
            check.that(plain, "auth.address_header", || {
                format!("`{name}` is not the name of a header: write it like X-Forwarded-For")
            });
        }
    }

    fn check_limits(&self, check: &mut Check) {
        let limits = &self.limits;
        check.range("limits.body_bytes", limits.body_bytes, Bytes::kib(1), Bytes::mib(64));
        check.range("limits.header_bytes", limits.header_bytes, Bytes::kib(8), Bytes::mib(1));
        check.range("limits.headers", limits.headers, 16, 1024);
        check.range("limits.batch_events", limits.batch_events, 1, 1000);
        let graphql = &self.graphql;
        check.range("graphql.query_bytes", graphql.query_bytes, Bytes::kib(1), Bytes::mib(1));
        check.range("graphql.tokens", graphql.tokens, 100, 20_000);
        check.range("graphql.depth", graphql.depth, 3, 20);
        check.range("graphql.cost", graphql.cost, 10, 10_000);
        check.range("graphql.aliases", graphql.aliases, 0, 1_000);
        check.range("graphql.directives", graphql.directives, 0, 1_000);
        check.range("graphql.subscriptions", graphql.subscriptions, 1, 1_000);
        check.duration("limits.auth_timeout", limits.auth_timeout, "100ms", "1m");
        check.duration("limits.header_timeout", limits.header_timeout, "100ms", "1m");
        check.duration("limits.body_timeout", limits.body_timeout, "100ms", "10m");
        check.range("limits.new_connections_per_second", limits.new_connections_per_second, 0, 1_000_000);
        check.range("limits.replay_page_events", limits.replay_page_events, 1, 1000);
        check.range("limits.replay_page_bytes", limits.replay_page_bytes, Bytes::kib(256), Bytes::mib(64));
        check.range("limits.concurrent_replays", limits.concurrent_replays, 1, 4096);
        check.range(
            "limits.schema_cache_bytes",
            limits.schema_cache_bytes,
            Bytes::mib(1),
            Bytes::mib(1 << 20),
        );
        check.range("limits.jwt_bytes", limits.jwt_bytes, 256, limits.header_bytes.size());
        check.duration("limits.jwt_leeway", limits.jwt_leeway, "0s", "5m");
        check.duration("limits.ticket_lifetime", limits.ticket_lifetime, "1s", "10m");
        check.duration("limits.access_window", limits.access_window, "1s", "1m");
        check.duration("limits.enforce_wait", limits.enforce_wait, "0s", "1m");
        check.duration("limits.drain", limits.drain, "0s", "1h");
        check.that(limits.drain_spread <= limits.drain, "limits.drain_spread", || {
            format!(
                "{} is longer than limits.drain = {}: lower it, or wait longer for connections",
                limits.drain_spread, limits.drain
            )
        });
    }
}
