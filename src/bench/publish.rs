//! `weir bench publish`: acknowledged events per second.

use super::endpoint::Endpoint;
use super::process::Stopwatch;
use super::report::{Report, round};
use super::requests::{Outcome, Pace, Work, drive};
use super::{Target, events};
use anyhow::Context;
use std::time::Duration;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Kept-alive connections.
    #[arg(long, default_value_t = 256)]
    connections: usize,
    /// Events per request: 1 uses the single call, more the batch call.
    #[arg(long, default_value_t = 1)]
    batch: usize,
    /// Bytes of each payload; at least 35.
    #[arg(long, default_value_t = 128)]
    payload: usize,
    /// Topics to spread over.
    #[arg(long, default_value_t = 1)]
    topics: usize,
    /// Requests per second; as many as possible, if not given.
    #[arg(long)]
    rate: Option<f64>,
    /// Seconds.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
}

/// Publishes events, topic by topic in turn.
pub(super) struct Publisher {
    endpoint: Endpoint,
    key: Option<String>,
    topics: Vec<String>,
    payload: usize,
    batch: usize,
    next: usize,
    /// Whether the payload alone is the body: what a plain pub/sub endpoint takes.
    raw: bool,
    body: String,
    /// The last answer.
    answer: Vec<u8>,
}

impl Publisher {
    pub(super) fn new(
        target: &Target,
        topics: Vec<String>,
        payload: usize,
        batch: usize,
    ) -> anyhow::Result<Self> {
        let path = if batch > 1 { "/v1/events/batch" } else { "/v1/events" };
        Ok(Self {
            endpoint: target.endpoint(path)?,
            key: Some(target.api_key()?.to_owned()),
            topics,
            payload,
            batch,
            next: 0,
            raw: false,
            body: String::new(),
            answer: Vec::new(),
        })
    }

    /// Posts bare payloads to any URL.
    pub(super) fn raw(url: &str, payload: usize) -> anyhow::Result<Self> {
        let endpoint = Endpoint::parse(url)?;
        let (body, topics) = (String::new(), vec![String::new()]);
        Ok(Self {
            endpoint,
            key: None,
            topics,
            payload,
            batch: 1,
            next: 0,
            raw: true,
            body,
            answer: Vec::new(),
        })
    }

    pub(super) fn run(&mut self, pace: Pace) -> anyhow::Result<Outcome> {
        drive(&self.endpoint.clone(), pace, self)
    }

    /// Publishes one event and waits for its acknowledgement.
    pub(super) fn one(&mut self) -> anyhow::Result<()> {
        let outcome =
            self.run(Pace { connections: 1, rate: Some(1.0), duration: Duration::from_millis(100) })?;
        let example = outcome.example.unwrap_or_default();
        anyhow::ensure!(outcome.ok == 1, "the server did not take an event: {:?} {example}", outcome.failed);
        Ok(())
    }

    /// The cursor of the event that was published last.
    pub(super) fn cursor(&self) -> anyhow::Result<String> {
        let answer: serde_json::Value = serde_json::from_slice(&self.answer)?;
        Ok(answer["cursor"].as_str().context("the answer to a publish has no cursor")?.to_owned())
    }

    fn event(&mut self) {
        let topic = &self.topics[self.next % self.topics.len()];
        self.next += 1;
        events::body(topic, self.payload, &mut self.body);
    }
}

impl Work for Publisher {
    fn request(&mut self, _connection: usize, out: &mut Vec<u8>) {
        self.body.clear();
        if self.raw {
            self.body = events::payload(self.payload);
        } else if self.batch == 1 {
            self.event();
        } else {
            self.body.push_str("{\"events\":[");
            for i in 0..self.batch {
                if i > 0 {
                    self.body.push(',');
                }
                self.event();
            }
            self.body.push_str("]}");
        }
        self.endpoint.post(self.key.as_deref(), self.body.as_bytes(), out);
    }

    fn answer(&mut self, _connection: usize, body: &[u8]) {
        self.answer.clear();
        self.answer.extend_from_slice(body);
    }
}

/// The topics `bench.0`, `bench.1`, …; a single one is `bench`.
pub(super) fn topics(count: usize) -> Vec<String> {
    if count <= 1 { vec!["bench".into()] } else { (0..count).map(|n| format!("bench.{n}")).collect() }
}

pub(super) fn run(target: &Target, args: &Args) -> anyhow::Result<Report> {
    let mut publisher = Publisher::new(target, topics(args.topics), args.payload, args.batch)?;
    publisher.one()?;
    let watch = Stopwatch::start(target.process(&publisher.endpoint));
    let pace = Pace {
        connections: args.connections,
        rate: args.rate,
        duration: Duration::from_secs_f64(args.seconds),
    };
    let outcome = publisher.run(pace)?;
    let acknowledged = outcome.ok * args.batch as u64;
    let mut report = Report::new("publish");
    report.add("connections", args.connections, "");
    report.add("events_per_request", args.batch, "");
    report.add("payload", args.payload, "bytes");
    report.add("acknowledged", acknowledged, "events");
    report.add("rate", round(acknowledged as f64 / outcome.seconds), "events/s");
    let per_million = watch.seconds().map(|cpu| round(cpu / (acknowledged as f64 / 1e6)));
    report.add_some("server_cpu_per_million", per_million, "s");
    report.latency("latency", &outcome.latency);
    report.failures(&outcome);
    Ok(report)
}
