//! `[database]`, `[nats]`, `[log]` and `[retention]`: where tenants and events are kept, and for how long.

use super::validate::Check;
use super::{Bytes, Duration, filled, secret};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use weir_core::Secret;

/// `[database]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Database {
    /// `postgres://…` or `sqlite://…`; none is SQLite in `data_dir`. Secret, since it may hold a password.
    #[serde(with = "secret")]
    pub url: Option<Secret>,
    /// Connections of this node's pool.
    pub max_connections: u32,
    /// How long a request waits for one of them.
    pub acquire_timeout: Duration,
    /// How long a call may take in all.
    pub call_timeout: Duration,
    /// Whether a starting node brings the schema up to date.
    pub auto_migrate: bool,
    /// With which `postgres://…` to do so, where the tables' owner is another than who works with them.
    #[serde(with = "secret")]
    pub migration_url: Option<Secret>,
}

impl Default for Database {
    fn default() -> Self {
        Self {
            url: None,
            max_connections: 16,
            acquire_timeout: Duration::seconds(5),
            call_timeout: Duration::seconds(10),
            auto_migrate: true,
            migration_url: None,
        }
    }
}

impl Database {
    /// Its breaches.
    pub(super) fn check(&self, check: &mut Check) {
        check.url(
            "database.url",
            self.url.as_ref(),
            &["postgres://", "postgresql://", "sqlite://"],
            "SQLite in data_dir",
        );
        let postgres = &["postgres://", "postgresql://"];
        check.url("database.migration_url", self.migration_url.as_ref(), postgres, "database.url");
        check.range("database.max_connections", self.max_connections, 1, 1000);
        check.duration("database.acquire_timeout", self.acquire_timeout, "100ms", "1m");
        check.duration("database.call_timeout", self.call_timeout, "100ms", "5m");
    }
}

/// `[nats]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Nats {
    /// `nats://…`, several with commas; none is the embedded log. Secret, since it may hold a password.
    #[serde(with = "secret")]
    pub url: Option<Secret>,
    /// Copies of each event, for streams that are made from now on.
    pub replicas: u32,
    /// What the servers' `sync_interval` is, which they do not tell.
    pub sync: NatsSync,
    /// Size at which a stream takes no more events; 0 is no bound.
    pub stream_max_bytes: Bytes,
    /// How long a call to NATS may take.
    pub request_timeout: Duration,
    /// Refuse connections without TLS.
    pub require_tls: bool,
    /// Authorities to trust beside the system's, PEM.
    #[serde(deserialize_with = "filled")]
    pub root_certificates_file: Option<PathBuf>,
    /// This node's certificate, PEM, with `client_key_file`.
    #[serde(deserialize_with = "filled")]
    pub client_certificate_file: Option<PathBuf>,
    /// The key of that certificate, PEM.
    #[serde(deserialize_with = "filled")]
    pub client_key_file: Option<PathBuf>,
    /// A NATS `.creds` file.
    #[serde(deserialize_with = "filled")]
    pub credentials_file: Option<PathBuf>,
    /// User name, with `password`.
    #[serde(deserialize_with = "filled")]
    pub user: Option<String>,
    /// Password of `user`.
    #[serde(with = "secret")]
    pub password: Option<Secret>,
    /// Token, instead of user and password.
    #[serde(with = "secret")]
    pub token: Option<Secret>,
}

impl Default for Nats {
    fn default() -> Self {
        Self {
            url: None,
            replicas: 1,
            sync: NatsSync::Unknown,
            stream_max_bytes: Bytes(0),
            request_timeout: Duration::seconds(5),
            require_tls: false,
            root_certificates_file: None,
            client_certificate_file: None,
            client_key_file: None,
            credentials_file: None,
            user: None,
            password: None,
            token: None,
        }
    }
}

impl Nats {
    /// Its breaches.
    pub(super) fn check(&self, check: &mut Check) {
        check.url("nats.url", self.url.as_ref(), &["nats://", "tls://"], "the embedded log");
        check.that([1, 3, 5].contains(&self.replicas), "nats.replicas", || {
            format!(
                "{} copies cannot be kept: use 1, 3 or 5 (three survive the loss of one server)",
                self.replicas
            )
        });
        check.duration("nats.request_timeout", self.request_timeout, "100ms", "1m");
        check.that(self.user.is_some() == self.password.is_some(), "nats.user", || {
            "user and password belong together: set both or neither".into()
        });
        let ways = [self.credentials_file.is_some(), self.user.is_some(), self.token.is_some()];
        check.that(ways.into_iter().filter(|set| *set).count() <= 1, "nats.credentials_file", || {
            "more than one of credentials_file, user and token is set: keep the one that the servers expect".into()
        });
        check.that(
            self.client_certificate_file.is_some() == self.client_key_file.is_some(),
            "nats.client_key_file",
            || "client_certificate_file and client_key_file belong together: set both or neither".into(),
        );
    }
}

/// What is known of the NATS servers' `sync_interval`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NatsSync {
    /// Nothing.
    Unknown,
    /// `always`: stored before the acknowledgement.
    Always,
    /// An interval: a power cut of all servers loses up to that.
    Interval,
}

/// `[log]`. Whether an acknowledgement waits for stable storage is not a setting: it always does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// How long a repeated event id is recognised.
    pub dedupe_window: Duration,
    /// Bytes of events that may wait to be written.
    pub queue_bytes: Bytes,
    /// Embedded: bytes of recently read events kept in memory.
    pub cache_bytes: Bytes,
    /// Embedded: disk space below which publishing is refused.
    pub min_free_bytes: Bytes,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            dedupe_window: Duration::seconds(600),
            queue_bytes: Bytes::mib(64),
            cache_bytes: Bytes::mib(64),
            min_free_bytes: Bytes::mib(256),
        }
    }
}

impl Log {
    /// Its breaches.
    pub(super) fn check(&self, check: &mut Check) {
        check.duration("log.dedupe_window", self.dedupe_window, "1s", "24h");
        check.range("log.queue_bytes", self.queue_bytes, Bytes::mib(1), Bytes::mib(16 << 10));
        check.range("log.cache_bytes", self.cache_bytes, Bytes::mib(1), Bytes::mib(64 << 10));
        check.range("log.min_free_bytes", self.min_free_bytes, Bytes::mib(32), Bytes::mib(1 << 20));
    }
}

/// `[retention]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// How often a node looks for what is to go.
    pub interval: Duration,
    /// Age at which events go whatever a plan says; 0 is no bound.
    pub max_age: Duration,
    /// How long after its deletion a project is erased.
    pub erase_after: Duration,
    /// How often the embedded log's files are rewritten without what was erased.
    pub shred_interval: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            interval: Duration::seconds(10),
            max_age: Duration::seconds(0),
            erase_after: Duration::seconds(60),
            shred_interval: Duration::seconds(3600),
        }
    }
}

impl Retention {
    /// Its breaches.
    pub(super) fn check(&self, check: &mut Check) {
        check.duration("retention.interval", self.interval, "100ms", "1h");
        check.duration("retention.erase_after", self.erase_after, "5s", "365d");
        check.duration("retention.shred_interval", self.shred_interval, "0s", "30d");
    }
}
