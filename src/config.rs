//! The settings: one struct, its defaults, and where its values come from.
//!
//! Later wins: the defaults below ← `weir.toml` ← the environment (`WEIR_A_B` for `a.b`, or
//! `WEIR_A_B_FILE` naming a file that holds the value). `weir.toml` in the root of the repository documents
//! every setting; a test holds it equal to the defaults.

mod alerts;
mod load;
mod secret;
mod share;
mod units;
mod validate;

pub use alerts::Alerts;
pub use load::{Loaded, load};
pub use share::Share;
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

/// `[hub]`, field by field [`weir_hub::Config`], whose defaults hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs, reason = "documented in weir_hub::Config")]
pub struct Hub {
    pub shards: usize,
    pub ring_bytes: Bytes,
    pub ring_messages: usize,
    pub ring_bytes_total: Bytes,
    pub backlog_bytes: Bytes,
    pub backlog_age: Duration,
    pub frame_bytes: Bytes,
    pub ping_interval: Duration,
    pub pong_timeout: Duration,
    pub sse_heartbeat: Duration,
    pub close_timeout: Duration,
    pub queue_bytes: Bytes,
}

impl Default for Hub {
    fn default() -> Self {
        weir_hub::Config::default().into()
    }
}

impl From<weir_hub::Config> for Hub {
    fn from(hub: weir_hub::Config) -> Self {
        Self {
            shards: hub.shards,
            ring_bytes: hub.ring_bytes.into(),
            ring_messages: hub.ring_messages,
            ring_bytes_total: hub.ring_bytes_total.into(),
            backlog_bytes: hub.backlog_bytes.into(),
            backlog_age: hub.backlog_age.into(),
            frame_bytes: hub.frame_bytes.into(),
            ping_interval: hub.ping_interval.into(),
            pong_timeout: hub.pong_timeout.into(),
            sse_heartbeat: hub.sse_heartbeat.into(),
            close_timeout: hub.close_timeout.into(),
            queue_bytes: hub.queue_bytes.into(),
        }
    }
}

impl From<&Hub> for weir_hub::Config {
    fn from(hub: &Hub) -> Self {
        Self {
            shards: hub.shards,
            ring_bytes: hub.ring_bytes.size(),
            ring_messages: hub.ring_messages,
            ring_bytes_total: hub.ring_bytes_total.size(),
            backlog_bytes: hub.backlog_bytes.size(),
            backlog_age: hub.backlog_age.std(),
            frame_bytes: hub.frame_bytes.size(),
            ping_interval: hub.ping_interval.std(),
            pong_timeout: hub.pong_timeout.std(),
            sse_heartbeat: hub.sse_heartbeat.std(),
            close_timeout: hub.close_timeout.std(),
            queue_bytes: hub.queue_bytes.size(),
            ..Self::default()
        }
    }
}

/// `[limits]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// An HTTP request's body.
    pub body_bytes: Bytes,
    /// All headers of a request.
    pub header_bytes: Bytes,
    /// Number of headers of a request.
    pub headers: usize,
    /// Events of one batch.
    pub batch_events: usize,
    /// Time for a WebSocket to authenticate.
    pub auth_timeout: Duration,
    /// Time for a request's head to arrive.
    pub header_timeout: Duration,
    /// Time for a request's body to arrive.
    pub body_timeout: Duration,
    /// New live connections per second; 0 is unlimited.
    pub new_connections_per_second: u32,
    /// Events of one replay page.
    pub replay_page_events: usize,
    /// Bytes of one replay page.
    pub replay_page_bytes: Bytes,
    /// Replays that read the log at once, all tenants together.
    pub concurrent_replays: usize,
    /// Memory for compiled topic schemas.
    pub schema_cache_bytes: Bytes,
    /// Length of a client token.
    pub jwt_bytes: usize,
    /// Difference of clocks that is forgiven in a client token's times.
    pub jwt_leeway: Duration,
    /// How long a ticket can be used.
    pub ticket_lifetime: Duration,
    /// How long a node delivers without confirming who may still receive.
    pub access_window: Duration,
    /// How long the answer to a change of access waits for the nodes.
    pub enforce_wait: Duration,
    /// How long a stopping node waits for its connections.
    pub drain: Duration,
    /// Over how much of that it spreads the closing.
    pub drain_spread: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: Bytes::mib(1),
            header_bytes: Bytes::kib(16),
            headers: 64,
            batch_events: 100,
            auth_timeout: Duration::seconds(5),
            header_timeout: Duration::seconds(10),
            body_timeout: Duration::seconds(30),
            new_connections_per_second: 500,
            replay_page_events: 1000,
            replay_page_bytes: Bytes::mib(4),
            concurrent_replays: 64,
            schema_cache_bytes: Bytes::mib(128),
            jwt_bytes: 4096,
            jwt_leeway: Duration::seconds(30),
            ticket_lifetime: Duration::seconds(30),
            access_window: Duration::seconds(5),
            enforce_wait: Duration::seconds(2),
            drain: Duration::seconds(30),
            drain_spread: Duration::seconds(20),
        }
    }
}

/// `[auth]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// How long an access token is good.
    pub access_token_lifetime: Duration,
    /// How long a refresh token is good.
    pub refresh_token_lifetime: Duration,
    /// How long an invitation can be accepted.
    pub invitation_lifetime: Duration,
    /// Attempts to sign in as one person, per minute; 0 is unlimited.
    pub attempts_per_email: u32,
    /// Attempts to sign in from one address, per minute; 0 is unlimited.
    pub attempts_per_address: u32,
    /// The header in which the proxy in front names the client's address.
    #[serde(deserialize_with = "filled")]
    pub address_header: Option<String>,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            access_token_lifetime: Duration::seconds(15 * 60),
            refresh_token_lifetime: Duration::seconds(30 * 86_400),
            invitation_lifetime: Duration::seconds(7 * 86_400),
            attempts_per_email: 10,
            attempts_per_address: 60,
            address_header: None,
        }
    }
}

/// `[billing]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Billing {
    /// How long the log ranges and batches behind a number of usage are kept.
    pub explain_for: Duration,
    /// Whether closed hours are counted again in the event log.
    pub recount: bool,
}

impl Default for Billing {
    fn default() -> Self {
        Self { explain_for: Duration::seconds(35 * 24 * 3600), recount: true }
    }
}

/// `[oidc]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Oidc {
    /// What the provider calls itself, a URL; without it there is none.
    #[serde(deserialize_with = "filled")]
    pub issuer: Option<String>,
    /// What it calls Weir.
    #[serde(deserialize_with = "filled")]
    pub client_id: Option<String>,
    /// How it knows Weir.
    #[serde(with = "secret")]
    pub client_secret: Option<Secret>,
    /// Where it sends browsers back to.
    #[serde(deserialize_with = "filled")]
    pub redirect_url: Option<String>,
}

/// `[stripe]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Stripe {
    /// The account's secret or restricted key; none is local invoices only.
    #[serde(with = "secret")]
    pub secret_key: Option<Secret>,
    /// The signing secrets of the webhook endpoint, with commas.
    #[serde(with = "secret")]
    pub webhook_secrets: Option<Secret>,
    /// The metered price that tenants subscribe at.
    #[serde(deserialize_with = "filled")]
    pub price: Option<String>,
    /// Where Stripe is.
    pub api_base: String,
    /// Meter events sent in a second.
    pub events_per_second: u32,
    /// Between the first failed payment and the suspension.
    pub grace: Duration,
    /// Suspensions for unpaid bills in ten minutes.
    pub suspension_brake: u32,
}

impl Default for Stripe {
    fn default() -> Self {
        Self {
            secret_key: None,
            webhook_secrets: None,
            price: None,
            api_base: weir_outbound::stripe::API_BASE.to_owned(),
            events_per_second: weir_engine::billing::stripe::DEFAULT_RATE,
            grace: Duration::seconds(7 * 24 * 3600),
            suspension_brake: 10,
        }
    }
}

impl Stripe {
    /// The webhook secrets one by one.
    #[must_use]
    pub fn secrets(&self) -> Vec<Secret> {
        let all = self.webhook_secrets.as_ref().map(Secret::expose).unwrap_or_default();
        all.split(',').map(str::trim).filter(|one| !one.is_empty()).map(Secret::new).collect()
    }
}

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
        let texts = self.retries.split(',').map(str::trim).filter(|text| !text.is_empty());
        texts.map(|text| text.parse().ok()).collect()
    }
}

/// `[graphql]`, field by field [`weir_gateway::graphql::Limits`], whose defaults hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs, reason = "documented in weir_gateway::graphql::Limits")]
pub struct Graphql {
    pub query_bytes: Bytes,
    pub tokens: usize,
    pub depth: usize,
    pub cost: usize,
    pub aliases: usize,
    pub directives: usize,
    pub subscriptions: usize,
    pub introspection: bool,
    pub explorer: bool,
}

impl Default for Graphql {
    fn default() -> Self {
        let limits = weir_gateway::graphql::Limits::default();
        Self {
            query_bytes: limits.query_bytes.into(),
            tokens: limits.tokens,
            depth: limits.depth,
            cost: limits.cost,
            aliases: limits.aliases,
            directives: limits.directives,
            subscriptions: limits.subscriptions,
            introspection: limits.introspection,
            explorer: limits.explorer,
        }
    }
}

impl From<&Graphql> for weir_gateway::graphql::Limits {
    fn from(graphql: &Graphql) -> Self {
        Self {
            query_bytes: graphql.query_bytes.size(),
            tokens: graphql.tokens,
            depth: graphql.depth,
            cost: graphql.cost,
            aliases: graphql.aliases,
            directives: graphql.directives,
            subscriptions: graphql.subscriptions,
            introspection: graphql.introspection,
            explorer: graphql.explorer,
        }
    }
}

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
