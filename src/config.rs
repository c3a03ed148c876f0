//! The settings: one struct, its defaults, and where its values come from.
//!
//! Later wins: the defaults below ← `weir.toml` ← the environment (`WEIR_A_B` for `a.b`, or
//! `WEIR_A_B_FILE` naming a file that holds the value). `weir.toml` in the root of the repository documents
//! every setting; a test holds it equal to the defaults.
//!
//! Each section has a file, alone or with those that belong to it: what can be set, what holds when nothing is, and which values
//! work.

mod alerts;
mod auth;
mod billing;
mod hub;
mod limits;
mod list;
mod load;
mod mirror;
mod outbound;
mod secret;
mod share;
mod storage;
mod telemetry;
mod units;
mod validate;

pub use alerts::Alerts;
pub use auth::{Auth, Oidc};
pub use billing::{Billing, Stripe};
pub use hub::Hub;
pub use limits::{Graphql, Limits};
pub use load::{Loaded, load};
pub use outbound::{Outbound, Webhooks};
pub use share::Share;
pub use storage::{Database, Log, Nats, NatsSync, Retention};
pub use telemetry::{LogFormat, Metrics, Telemetry};
pub use units::{Bytes, Duration};

use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use weir_core::Secret;

/// Everything that can be set. Printing it (`Debug`, `Serialize`) never shows a secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Where `/healthz`, `/readyz` and `/metrics` answer.
    pub ops_listen: SocketAddr,
    /// Where the embedded database and log live.
    pub data_dir: PathBuf,
    /// The address by which clients reach this installation, for links and hints.
    #[serde(deserialize_with = "filled")]
    pub public_url: Option<String>,
    /// The root secret, 64 hex digits; without it one is made once and kept in the database.
    #[serde(with = "secret")]
    pub secret_key: Option<Secret>,
    /// The metadata database.
    pub database: Database,
    /// The NATS servers, when they keep the events.
    pub nats: Nats,
    /// The event log, whichever keeps it.
    pub log: Log,
    /// How long events are kept.
    pub retention: Retention,
    /// The hub: live connections.
    pub hub: Hub,
    /// Limits of this node. Limits of a tenant belong to its plan.
    pub limits: Limits,
    /// How people sign in.
    pub auth: Auth,
    /// The OpenID provider where they may sign in, too.
    pub oidc: Oidc,
    /// Requests to servers outside.
    pub outbound: Outbound,
    /// `[webhooks]`
    pub webhooks: Webhooks,
    /// The payment provider.
    pub stripe: Stripe,
    /// GraphQL.
    pub graphql: Graphql,
    /// `[billing]`
    pub billing: Billing,
    /// When something is wrong, and who is told.
    pub alerts: Alerts,
    /// Logs and traces.
    pub telemetry: Telemetry,
    /// Metrics.
    pub metrics: Metrics,
    /// The built-in pages.
    pub console: Console,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            ops_listen: SocketAddr::from(([127, 0, 0, 1], 8081)),
            data_dir: "./weir-data".into(),
            public_url: None,
            secret_key: None,
            database: Database::default(),
            nats: Nats::default(),
            log: Log::default(),
            retention: Retention::default(),
            hub: Hub::default(),
            limits: Limits::default(),
            auth: Auth::default(),
            oidc: Oidc::default(),
            outbound: Outbound::default(),
            webhooks: Webhooks::default(),
            stripe: Stripe::default(),
            graphql: Graphql::default(),
            billing: Billing::default(),
            alerts: Alerts::default(),
            telemetry: Telemetry::default(),
            metrics: Metrics::default(),
            console: Console::default(),
        }
    }
}

impl Config {
    /// The settings as TOML with every secret masked: for `weir doctor` and bug reports.
    #[must_use]
    pub fn redacted(&self) -> String {
        toml::to_string_pretty(self).unwrap_or_else(|error| format!("# not printable: {error}\n"))
    }
}

/// `[console]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Console {
    /// Whether `/` and `/docs` serve the built-in pages.
    pub enabled: bool,
}

impl Default for Console {
    fn default() -> Self {
        Self { enabled: true }
    }
}

/// Something wrong with a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The setting (`limits.drain`), environment variable or file.
    pub setting: String,
    /// What is wrong: the value, the limit, the fix. Never a secret's value.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.setting, self.message)
    }
}

/// Everything that is wrong with the settings, at least one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration cannot be used")?;
        self.0.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl std::error::Error for Problems {}

/// An optional text in which nothing is the same as `""`.
fn filled<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: From<String>,
{
    let text = String::deserialize(deserializer)?;
    Ok((!text.is_empty()).then(|| text.into()))
}
