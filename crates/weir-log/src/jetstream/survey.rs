//! A look at NATS servers that changes nothing: what they are, and how what they keep is kept. For `weir doctor`.

use super::api::Link;
use super::options::Options;
use crate::LogError;
use serde::Deserialize;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use weir_core::{Clock, SystemClock, Timestamp};

/// What was found.
#[derive(Clone, Debug)]
pub struct Survey {
    /// The version of the server that answered.
    pub version: String,
    /// Whether it runs JetStream.
    pub jetstream: bool,
    /// The name of its cluster, if it is in one.
    pub cluster: Option<String>,
    /// How many servers it names.
    pub servers: usize,
    /// How long an answer takes.
    pub round_trip: Duration,
    /// The streams that it keeps; none before the first event.
    pub streams: Vec<Kept>,
    /// Its clock, and ours at that moment; known once there is a stream.
    pub clock: Option<(Timestamp, Timestamp)>,
}

/// How a stream is kept.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Its name.
    pub name: String,
    /// Whether it is on disk.
    pub on_disk: bool,
    /// On how many servers.
    pub replicas: usize,
    /// How many bytes it has.
    pub bytes: u64,
    /// How many it may have; `None` is as many as fit.
    pub max_bytes: Option<u64>,
}

#[derive(Deserialize)]
struct Listed {
    #[serde(default)]
    streams: Option<Vec<Info>>,
}

#[derive(Deserialize)]
struct Info {
    config: Config,
    state: State,
    #[serde(default)]
    ts: Option<String>,
}

#[derive(Deserialize)]
struct Config {
    name: String,
    storage: String,
    num_replicas: usize,
    max_bytes: i64,
}

#[derive(Deserialize)]
struct State {
    bytes: u64,
}

/// Versions from which on the servers do not lose what they acknowledged, by their release line.
const SOUND: [(u64, u64, u64); 3] = [(2, 12, 12), (2, 14, 3), (2, 15, 0)];

impl Survey {
    /// Whether this version is one to rely on: 2.12.12, 2.14.3, 2.15 or newer.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let mut parts = self.version.split(['.', '-', '+']).map(|part| part.parse::<u64>().unwrap_or(0));
        let [major, minor, patch] = std::array::from_fn(|_| parts.next().unwrap_or(0));
        let newest = SOUND.iter().max().copied().unwrap_or_default();
        (major, minor) >= (newest.0, newest.1)
            || SOUND.iter().any(|sound| (major, minor) == (sound.0, sound.1) && patch >= sound.2)
    }
}

/// Looks.
///
/// # Errors
/// [`LogError::Unavailable`] when no server answers or the credentials are refused.
pub async fn survey(options: &Options) -> Result<Survey, LogError> {
    let (link, _seen) = watch::channel(Link::default());
    let client = options.connect(link).await?;
    let info = client.server_info();
    let mut found = Survey {
        version: info.version.clone(),
        jetstream: info.jetstream,
        cluster: info.cluster.clone().filter(|name| !name.is_empty()),
        servers: info.connect_urls.len().max(1),
        round_trip: Duration::ZERO,
        streams: Vec::new(),
        clock: None,
    };
    if !info.jetstream {
        return Ok(found);
    }
    let begun = Instant::now();
    let answer = client.request("$JS.API.STREAM.LIST", "".into()).await;
    let answer = answer.map_err(|error| LogError::Unavailable(format!("asking JetStream: {error}")))?;
    found.round_trip = begun.elapsed();
    let now = SystemClock.now();
    let listed: Listed = serde_json::from_slice(&answer.payload)
        .map_err(|error| LogError::Unavailable(format!("JetStream's list of streams: {error}")))?;
    for stream in listed.streams.into_iter().flatten() {
        if let Some(theirs) = stream.ts.and_then(|text| text.parse().ok()) {
            found.clock = Some((theirs, now));
        }
        found.streams.push(Kept {
            name: stream.config.name,
            on_disk: stream.config.storage == "file",
            replicas: stream.config.num_replicas,
            bytes: stream.state.bytes,
            max_bytes: u64::try_from(stream.config.max_bytes).ok().filter(|most| *most > 0),
        });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_versions_to_rely_on() {
        let is_sound = |version: &str| {
            let survey = Survey {
                version: version.to_owned(),
                jetstream: true,
                cluster: None,
                servers: 1,
                round_trip: Duration::ZERO,
                streams: Vec::new(),
                clock: None,
            };
            survey.is_sound()
        };
        for good in ["2.12.12", "2.12.13", "2.14.3", "2.15.0", "2.15.1-RC.2", "2.16.0", "3.0.0"] {
            assert!(is_sound(good), "{good}");
        }
        for bad in ["2.9.10", "2.12.11", "2.13.9", "2.14.2", "1.99.99", "nonsense"] {
            assert!(!is_sound(bad), "{bad}");
        }
    }
}
