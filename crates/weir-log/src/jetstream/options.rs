//! How to reach NATS and how the streams are to be.

use super::api::Link;
use crate::LogError;
use async_nats::{Client, ConnectOptions, Event, ServerAddr};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// How a node proves to NATS who it is.
#[derive(Clone, Default)]
pub enum Credentials {
    /// Not at all, or by what the URL holds.
    #[default]
    None,
    /// A token.
    Token(String),
    /// A user's name and password.
    Password {
        /// The name.
        user: String,
        /// The password.
        password: String,
    },
    /// A credentials file (JWT and seed).
    File(PathBuf),
    /// An nkey seed.
    Nkey(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Token(_) => "Token(…)",
            Self::Password { .. } => "Password(…)",
            Self::File(_) => "File(…)",
            Self::Nkey(_) => "Nkey(…)",
        })
    }
}

/// What the servers' `sync_interval` is. A client cannot find it out: whoever runs the servers says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServerSync {
    /// Nobody said.
    #[default]
    Unknown,
    /// `sync_interval: always`: on stable storage before the ack.
    Always,
    /// An interval, 2 minutes by default: a power cut of all replicas loses up to that.
    Interval,
}

/// Settings of the backend.
#[derive(Clone, Debug)]
pub struct Options {
    /// Servers, `nats://host:port` or `tls://host:port`; others of the cluster are found from these.
    pub urls: Vec<String>,
    /// How to log in.
    pub credentials: Credentials,
    /// Refuse connections without TLS.
    pub require_tls: bool,
    /// A PEM file with the authorities to trust in addition to the system's.
    pub root_certificates: Option<PathBuf>,
    /// PEM files with a client certificate and its key.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
    /// Copies of each stream: 1, 3 or 5. An existing stream with more keeps them.
    pub replicas: usize,
    /// Bytes per stream (reserved up front by NATS); without, as much as the disk has. A full stream
    /// refuses appends.
    pub stream_max_bytes: Option<u64>,
    /// For how long an id that a publisher chose is remembered. All nodes must have the same.
    pub dedupe_window: Duration,
    /// How long an ack or an answer is waited for.
    pub request_timeout: Duration,
    /// Bytes of events waiting for their ack, over all streams; beyond that appends are refused.
    pub max_queued_bytes: usize,
    /// Reads under way at once; others wait.
    pub concurrent_reads: usize,
    /// What is known of the servers' syncing; decides what [`crate::Health::durability`] says.
    pub sync: ServerSync,
}

impl Options {
    /// Everything at its default, for these servers: 1 replica, 10 minutes of dedupe, 5 s time-out.
    #[must_use]
    pub fn new(urls: Vec<String>) -> Self {
        Self {
            urls,
            credentials: Credentials::None,
            require_tls: false,
            root_certificates: None,
            client_certificate: None,
            replicas: 1,
            stream_max_bytes: None,
            dedupe_window: Duration::from_secs(600),
            request_timeout: Duration::from_secs(5),
            max_queued_bytes: 64 << 20,
            concurrent_reads: 64,
            sync: ServerSync::Unknown,
        }
    }

    /// Connects; `link` is told whenever the connection is lost or made again.
    pub(super) async fn connect(&self, link: watch::Sender<Link>) -> Result<Client, LogError> {
        let said = Said::default();
        let mut options = ConnectOptions::new()
            .name("weir")
            .connection_timeout(self.request_timeout)
            .request_timeout(Some(self.request_timeout))
            .require_tls(self.require_tls)
            .subscription_capacity(4096)
            // Reconnecting is quick at first; publishers were told at once.
            .reconnect_delay_callback(|attempt| Duration::from_millis((10 << attempt.min(7)).min(1000)))
            .event_callback(move |event| {
                said.log(&event);
                link.send_if_modified(|link| match event {
                    Event::Connected => bump(&mut link.made),
                    Event::Disconnected => bump(&mut link.lost),
                    Event::SlowConsumer(_) => bump(&mut link.overrun),
                    _ => false,
                });
                std::future::ready(())
            });
        if let Some(path) = &self.root_certificates {
            options = options.add_root_certificates(path.clone());
        }
        if let Some((certificate, key)) = &self.client_certificate {
            options = options.add_client_certificate(certificate.clone(), key.clone());
        }
        options = match self.credentials.clone() {
            Credentials::None => options,
            Credentials::Token(token) => options.token(token),
            Credentials::Password { user, password } => options.user_and_password(user, password),
            Credentials::Nkey(seed) => options.nkey(seed),
            Credentials::File(path) => options.credentials_file(&path).await.map_err(|error| {
                LogError::Unavailable(format!("the credentials file {}: {error}", path.display()))
            })?,
        };
        // The error names no URL: one may hold a password.
        options.connect(&self.urls).await.map_err(|error| {
            LogError::Unavailable(format!("connecting to NATS at {}: {error}", self.places()))
        })
    }

    /// Host and port of each server.
    fn places(&self) -> String {
        let place = |url: &String| {
            url.parse::<ServerAddr>().map_or_else(
                |_| "a URL that cannot be read".to_owned(),
                |server| format!("{}:{}", server.host(), server.port()),
            )
        };
        self.urls.iter().map(place).collect::<Vec<_>>().join(", ")
    }
}

/// What the log says of the connection: its loss, why it cannot be made again (each reason once until it is), and its return.
#[derive(Default)]
struct Said(Mutex<Vec<String>>);

impl Said {
    fn log(&self, event: &Event) {
        let mut reasons = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Connected => {
                reasons.clear();
                tracing::info!("connected to NATS");
            }
            Event::Disconnected => {
                tracing::warn!("the connection to NATS is lost; it is tried again until it is back")
            }
            Event::SlowConsumer(_) | Event::LameDuckMode | Event::ServerError(_) | Event::ClientError(_) => {
                let reason = event.to_string();
                if !reasons.contains(&reason) && reasons.len() < 16 {
                    tracing::warn!("NATS: {reason}");
                    reasons.push(reason);
                }
            }
            Event::Draining | Event::Closed => {}
        }
    }
}

fn bump(count: &mut u64) -> bool {
    *count += 1;
    true
}

/// Refuses servers that lack what this backend is built on.
pub(super) fn check_server(client: &Client) -> Result<(), LogError> {
    let info = client.server_info();
    if !client.is_server_compatible(2, 12, 0) {
        return Err(LogError::Unavailable(format!(
            "the NATS server is version {}; 2.12.12, 2.14.3 or 2.15 is needed",
            info.version
        )));
    }
    if !info.jetstream {
        return Err(LogError::Unavailable("the NATS server runs without JetStream: enable it".into()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_servers_without_their_passwords() {
        let urls = ["nats://me:hidden@one:4333", "two", "nats://me:hidden@[::1"].map(str::to_owned);
        let places = Options::new(urls.to_vec()).places();
        assert_eq!(places, "one:4333, two:4222, a URL that cannot be read");
    }

    #[test]
    fn a_reason_is_said_once_until_the_connection_is_back() {
        let said = Said::default();
        let refused = Event::ClientError(async_nats::ClientError::Other("IO error".into()));
        said.log(&refused);
        said.log(&refused);
        assert_eq!(said.0.lock().expect("no panic").len(), 1);
        said.log(&Event::Connected);
        assert!(said.0.lock().expect("no panic").is_empty());
    }
}
