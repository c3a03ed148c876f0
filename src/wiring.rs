//! From settings to running parts: a URL's scheme chooses the backend.

use crate::config::{Config, NatsSync};
use anyhow::Context;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use weir_core::{RootSecret, SystemClock};
use weir_engine::access::KeySetTimes;
use weir_engine::billing::stripe;
use weir_engine::people::OidcSettings;
use weir_engine::{Engine, Parts, Traces};
use weir_gateway::Gateway;
use weir_hub::Hub;
use weir_log::EventLog;
use weir_log::embedded::{self, Embedded};
use weir_log::jetstream::{self, JetStream};
use weir_outbound::stripe::Stripe;
use weir_outbound::{Outbound, Policy};
use weir_store::{Brake, Store, Wall};

/// Everything of a node that runs.
pub struct Node {
    /// The metadata.
    pub store: Store,
    /// The product.
    pub engine: Arc<Engine>,
    /// The protocols.
    pub gateway: Arc<Gateway>,
    /// The embedded log, where there is one: its failure ends the process.
    pub embedded: Option<Arc<Embedded>>,
}

/// Starts every part of a node, on the current runtime.
///
/// # Errors
/// What cannot be opened, and where it was looked for.
pub async fn start(config: &Config, traces: Traces) -> anyhow::Result<Node> {
    let store = open_store(config).await?;
    if let Wall::Bypassed { role } = store.wall().await? {
        tracing::warn!(
            role,
            "the database role {role} passes row-level security; `weir doctor` says what to do"
        );
    }
    let root = root_secret(config, &store).await?;
    let (log, embedded) = open_log(config).await?;
    let hub = Hub::start(config.hub.clone().into()).context("the hub's threads cannot be started")?;
    let clock = Arc::new(SystemClock);
    let outbound = outbound(config)?;
    let parts = Parts {
        store: store.clone(),
        log,
        hub,
        clock,
        outbound,
        stripe: stripe(config)?,
        root,
        settings: engine_settings(config, traces),
    };
    let engine = Engine::start(parts).await?;
    let gateway = Gateway::new(Arc::clone(&engine), gateway_settings(config));
    Ok(Node { store, engine, gateway, embedded })
}

/// Opens the database that the settings name.
pub async fn open_store(config: &Config) -> anyhow::Result<Store> {
    let options = weir_store::Options {
        max_connections: config.database.max_connections,
        acquire_timeout: config.database.acquire_timeout.std(),
        call_timeout: config.database.call_timeout.std(),
        auto_migrate: config.database.auto_migrate,
        migration_url: config.database.migration_url.clone(),
    };
    if let Some(url) = &config.database.url {
        return weir_store::open(url.expose(), options)
            .await
            .context("the database of database.url cannot be opened");
    }
    private_dir(&config.data_dir)?;
    let url = format!("sqlite://{}", config.data_dir.join("weir.db").display());
    let place = || format!("the database in {} cannot be opened", config.data_dir.display());
    weir_store::open(&url, options).await.with_context(place)
}

/// The data directory holds secrets: nobody else reads it.
fn private_dir(path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.with_context(|| format!("data_dir {} cannot be made", path.display()))
}

/// The installation's root secret: given, or made once and kept in the database.
pub async fn root_secret(config: &Config, store: &Store) -> anyhow::Result<RootSecret> {
    match &config.secret_key {
        Some(key) => RootSecret::from_hex(key.expose()).context("secret_key must be 64 hex digits"),
        None => Ok(store.root_secret().await?),
    }
}

/// Opens the event log that the settings name.
pub async fn open_log(config: &Config) -> anyhow::Result<(Arc<dyn EventLog>, Option<Arc<Embedded>>)> {
    if let Some(urls) = &config.nats.url {
        let log = JetStream::connect(nats_options(config, urls.expose())).await;
        return Ok((log.context("the event log of nats.url cannot be reached")?, None));
    }
    private_dir(&config.data_dir)?;
    let options = embedded_options(config);
    let place = || format!("the event log in {} cannot be opened", config.data_dir.display());
    let log = Embedded::open(&options).with_context(place)?;
    Ok((Arc::clone(&log) as Arc<dyn EventLog>, Some(log)))
}

/// How the embedded log is kept.
pub fn embedded_options(config: &Config) -> embedded::Options {
    embedded::Options {
        dedupe_window: config.log.dedupe_window.std(),
        queue_bytes: config.log.queue_bytes.size(),
        cache_bytes: config.log.cache_bytes.0,
        min_free_bytes: config.log.min_free_bytes.0,
        ..embedded::Options::new(config.data_dir.join("log"))
    }
}

/// How the servers of `urls` are reached.
pub fn nats_options(config: &Config, urls: &str) -> jetstream::Options {
    let nats = &config.nats;
    let credentials = match (&nats.credentials_file, &nats.token, &nats.user) {
        (Some(file), _, _) => jetstream::Credentials::File(file.clone()),
        (_, Some(token), _) => jetstream::Credentials::Token(token.expose().to_owned()),
        (_, _, Some(user)) => jetstream::Credentials::Password {
            user: user.clone(),
            password: nats
                .password
                .as_ref()
                .map_or_else(String::new, |password| password.expose().to_owned()),
        },
        _ => jetstream::Credentials::None,
    };
    jetstream::Options {
        credentials,
        replicas: nats.replicas as usize,
        stream_max_bytes: (nats.stream_max_bytes.0 > 0).then_some(nats.stream_max_bytes.0),
        dedupe_window: config.log.dedupe_window.std(),
        request_timeout: nats.request_timeout.std(),
        max_queued_bytes: config.log.queue_bytes.size(),
        concurrent_reads: config.limits.concurrent_replays,
        require_tls: nats.require_tls,
        root_certificates: nats.root_certificates_file.clone(),
        client_certificate: nats.client_certificate_file.clone().zip(nats.client_key_file.clone()),
        sync: match nats.sync {
            NatsSync::Unknown => jetstream::ServerSync::Unknown,
            NatsSync::Always => jetstream::ServerSync::Always,
            NatsSync::Interval => jetstream::ServerSync::Interval,
        },
        ..jetstream::Options::new(urls.split(',').map(|url| url.trim().to_owned()).collect())
    }
}

/// The client for URLs that tenants configure.
fn outbound(config: &Config) -> anyhow::Result<Outbound> {
    let allow = config.outbound.allow_networks.parse().map_err(anyhow::Error::msg);
    let policy = Policy::Public { allow: allow.context("outbound.allow_networks")? };
    Outbound::new(policy).context("requests to other servers cannot be made")
}

/// Over how long the brake counts suspensions.
const BRAKE_WINDOW: Duration = Duration::from_secs(600);

/// How billing through Stripe is set up, where it is.
fn stripe(config: &Config) -> anyhow::Result<Option<stripe::Settings>> {
    let (Some(key), Some(price)) = (&config.stripe.secret_key, &config.stripe.price) else { return Ok(None) };
    let client =
        Stripe::new(&config.stripe.api_base, key.clone()).context("stripe.api_base cannot be called")?;
    Ok(Some(stripe::Settings {
        client,
        price: price.clone(),
        webhook_secrets: config.stripe.secrets(),
        grace: config.stripe.grace.std(),
        brake: Brake { most: config.stripe.suspension_brake, within: BRAKE_WINDOW },
        rate: config.stripe.events_per_second,
        public_url: config.public_url.clone(),
    }))
}

fn engine_settings(config: &Config, traces: Traces) -> weir_engine::Settings {
    let limits = &config.limits;
    weir_engine::Settings {
        traces,
        replay_page_events: limits.replay_page_events,
        replay_page_bytes: limits.replay_page_bytes.size(),
        concurrent_replays: limits.concurrent_replays,
        access_window: limits.access_window.std(),
        enforce_wait: limits.enforce_wait.std(),
        new_connections_per_second: limits.new_connections_per_second,
        schema_cache_bytes: limits.schema_cache_bytes.size(),
        jwt_bytes: limits.jwt_bytes,
        jwt_leeway: limits.jwt_leeway.std(),
        key_sets: KeySetTimes {
            interval: config.outbound.key_set_interval.std(),
            refresh: config.outbound.key_set_refresh.std(),
            keep: config.outbound.key_set_keep.std(),
        },
        ticket_lifetime: limits.ticket_lifetime.std(),
        hub_queue_bytes: config.hub.queue_bytes.size(),
        meter: weir_engine::billing::MeterSettings {
            explain_for: config.billing.explain_for.std(),
            recount: config.billing.recount,
        },
        retention: weir_engine::RetentionSettings {
            interval: config.retention.interval.std(),
            max_age: Some(config.retention.max_age.std()).filter(|age| !age.is_zero()),
            erase_after: config.retention.erase_after.std(),
            shred_interval: config.retention.shred_interval.std(),
        },
        people: people_settings(config),
        shown_tenants: config.metrics.tenants,
        alerts: weir_engine::alerts::Settings {
            // Who keeps everything elsewhere has nothing on this disk that could fill it.
            data_dir: (!config.is_distributed()).then(|| config.data_dir.clone()),
            ..config.alerts.clone().into()
        },
        webhooks: weir_engine::webhooks::Settings {
            timeout: config.webhooks.timeout.std(),
            retries: config
                .webhooks
                .schedule()
                .unwrap_or_default()
                .into_iter()
                .map(|time| time.std())
                .collect(),
            disable_after: config.webhooks.disable_after.std(),
            concurrency: config.webhooks.concurrency,
        },
    }
}

fn people_settings(config: &Config) -> weir_engine::people::Settings {
    let (auth, oidc) = (&config.auth, &config.oidc);
    let provider = oidc.issuer.as_ref().zip(oidc.client_id.as_ref()).zip(oidc.redirect_url.as_ref());
    weir_engine::people::Settings {
        access_token_lifetime: auth.access_token_lifetime.std(),
        refresh_token_lifetime: auth.refresh_token_lifetime.std(),
        invitation_lifetime: auth.invitation_lifetime.std(),
        attempts_per_email: auth.attempts_per_email,
        attempts_per_address: auth.attempts_per_address,
        oidc: provider.map(|((issuer, client_id), redirect_url)| OidcSettings {
            issuer: issuer.clone(),
            client_id: client_id.clone(),
            client_secret: oidc.client_secret.clone(),
            redirect_url: redirect_url.clone(),
        }),
    }
}

fn gateway_settings(config: &Config) -> weir_gateway::Settings {
    let limits = &config.limits;
    weir_gateway::Settings {
        body_bytes: limits.body_bytes.size(),
        header_bytes: limits.header_bytes.size(),
        headers: limits.headers,
        batch_events: limits.batch_events,
        auth_timeout: limits.auth_timeout.std(),
        header_timeout: limits.header_timeout.std(),
        body_timeout: limits.body_timeout.std(),
        frame_bytes: config.hub.frame_bytes.size(),
        address_header: config.auth.address_header.clone(),
        console: config.console.enabled,
        graphql: config.graphql.clone().into(),
    }
}
