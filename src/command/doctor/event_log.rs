//! The event log: NATS as it is, or the embedded one.

use super::database::compare;
use super::finding::Finding;
use crate::config::{Config, NatsSync};
use crate::wiring;
use std::time::Duration;
use weir_log::jetstream::{self, Survey};

const CHECK: &str = "event log";

pub async fn check(config: &Config) -> Vec<Finding> {
    match &config.nats.url {
        Some(urls) => nats(config, urls.expose()).await,
        None => embedded(config).await,
    }
}

async fn embedded(config: &Config) -> Vec<Finding> {
    if !config.data_dir.join("log").exists() {
        return vec![Finding::good(CHECK, "embedded in data_dir, made at the first start")];
    }
    let (log, _) = match wiring::open_log(config).await {
        Ok(opened) => opened,
        // Only one process can have it, so this is what a healthy running node looks like from outside.
        Err(error) if format!("{error:#}").contains("another process") => {
            return vec![Finding::good(CHECK, "in use by a running node; its /readyz says how it is")];
        }
        Err(error) => {
            return vec![Finding::bad(
                CHECK,
                format!("{error:#}"),
                "see that data_dir can be read and written; a damaged log is put back from a backup",
            )];
        }
    };
    let problem = log.health().await.problem;
    let _ = tokio::time::timeout(Duration::from_secs(5), log.close()).await;
    vec![match problem {
        Some(problem) => {
            Finding::bad(CHECK, problem, "mend what it names; a damaged log is put back from a backup")
        }
        None => Finding::good(CHECK, "embedded; acks are synced to this disk"),
    }]
}

async fn nats(config: &Config, urls: &str) -> Vec<Finding> {
    let survey = match jetstream::survey(&wiring::nats_options(config, urls)).await {
        Ok(survey) => survey,
        Err(error) => {
            return vec![Finding::bad(
                CHECK,
                error.to_string(),
                "see that nats.url is right, the servers run, and the credentials are theirs",
            )];
        }
    };
    let mut findings = vec![server(&survey)];
    if !survey.jetstream {
        findings.push(Finding::bad(
            CHECK,
            "the server runs without JetStream",
            "add a `jetstream { store_dir: …, sync_interval: always }` section to its configuration",
        ));
        return findings;
    }
    findings.push(sync(config));
    findings.extend(streams(config, &survey));
    if let Some((theirs, ours)) = survey.clock {
        findings.push(compare("clock", "the NATS server's", ours, theirs, survey.round_trip));
    }
    findings
}

fn server(survey: &Survey) -> Finding {
    let cluster = match &survey.cluster {
        Some(name) => format!("in cluster {name}, {} servers known", survey.servers),
        None => "alone".to_owned(),
    };
    let (version, round_trip) = (&survey.version, survey.round_trip.as_secs_f64() * 1_000.0);
    let found = format!("NATS {version}, {cluster}, answers in {round_trip:.1} ms");
    if survey.is_sound() {
        Finding::good(CHECK, found)
    } else {
        let advice = "use 2.12.12, 2.14.3, 2.15 or newer: older ones lost acknowledged events in tests";
        Finding::bad(CHECK, found, advice)
    }
}

fn sync(config: &Config) -> Finding {
    const CHECK: &str = "durability";
    match config.nats.sync {
        NatsSync::Always => Finding::good(CHECK, "acks are on stable storage, as nats.sync says"),
        NatsSync::Interval => Finding::warning(
            CHECK,
            "acks are in the servers' page cache: a power cut of all of them loses up to the interval (2 minutes by default)",
            "set `sync_interval: always` in their jetstream section, and nats.sync = \"always\" here",
        ),
        NatsSync::Unknown => Finding::warning(
            CHECK,
            "the servers do not tell whether acks are synced; with their default a power cut of all of them loses up to 2 minutes",
            "set `sync_interval: always` in their jetstream section, and nats.sync = \"always\" here",
        ),
    }
}

fn streams(config: &Config, survey: &Survey) -> Vec<Finding> {
    const CHECK: &str = "streams";
    let mut findings = Vec::new();
    for stream in &survey.streams {
        let name = &stream.name;
        if !stream.on_disk {
            findings.push(Finding::bad(
                CHECK,
                format!("{name} is kept in memory only"),
                "Weir makes its streams on disk: this one was made by somebody else; move its events and delete it",
            ));
        }
        let wanted = config.nats.replicas as usize;
        if stream.replicas < wanted {
            findings.push(Finding::warning(
                CHECK,
                format!("{name} has {} copies, nats.replicas is {wanted}", stream.replicas),
                format!(
                    "`nats stream edit {name} --replicas {wanted}`: a stream keeps what it was made with"
                ),
            ));
        }
        if let Some(most) = stream.max_bytes.filter(|most| stream.bytes > most / 100 * 85) {
            findings.push(Finding::warning(
                CHECK,
                format!("{name} has {} of {most} bytes", stream.bytes),
                "raise nats.stream_max_bytes or keep less: a full stream takes no events",
            ));
        }
    }
    if survey.servers == 1 && survey.cluster.is_none() && config.nats.replicas == 1 {
        findings.push(Finding::warning(
            CHECK,
            "events are on one server: while it is away nothing can be published, and its disk is the only copy",
            "run three servers with nats.replicas = 3",
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::good(
            CHECK,
            format!("{}, on disk, {} copies", survey.streams.len(), config.nats.replicas),
        ));
    }
    findings
}
