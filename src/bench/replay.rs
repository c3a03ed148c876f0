//! `weir bench replay`: readers that page through the log, again and again.

use super::Target;
use super::endpoint::Endpoint;
use super::process::Stopwatch;
use super::report::{Report, round};
use super::requests::{Outcome, Pace, Work, drive};
use memchr::memmem;
use std::time::Duration;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Readers, each with a connection of its own.
    #[arg(long, default_value_t = 2)]
    connections: usize,
    /// Events per page.
    #[arg(long, default_value_t = 1000)]
    page: usize,
    /// Topic or pattern to read.
    #[arg(long, default_value = ">")]
    topic: String,
    /// Seconds.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
}

/// Each connection reads from the beginning to the end, then again.
pub(super) struct Pages {
    endpoint: Endpoint,
    key: String,
    query: String,
    cursors: Vec<Option<String>>,
    pub(super) events: u64,
    bytes: u64,
    gaps: u64,
}

impl Pages {
    pub(super) fn new(target: &Target, connections: usize, topic: &str, page: usize) -> anyhow::Result<Self> {
        Ok(Self {
            endpoint: target.endpoint("/v1/events")?,
            key: target.api_key()?.to_owned(),
            query: format!("topic={}&limit={page}", topic.replace('>', "%3E")),
            cursors: vec![None; connections],
            events: 0,
            bytes: 0,
            gaps: 0,
        })
    }

    pub(super) fn run(&mut self, duration: Duration) -> anyhow::Result<Outcome> {
        let pace = Pace { connections: self.cursors.len(), rate: None, duration };
        drive(&self.endpoint.clone(), pace, self)
    }
}

impl Work for Pages {
    fn request(&mut self, connection: usize, out: &mut Vec<u8>) {
        let after = self.cursors[connection].as_ref().map(|cursor| format!("&after={cursor}"));
        let query = format!("{}{}", self.query, after.unwrap_or_default());
        self.endpoint.get_with(&query, &self.key, out);
    }

    fn answer(&mut self, connection: usize, body: &[u8]) {
        self.bytes += body.len() as u64;
        self.events += memmem::find_iter(body, b"\"previous\":").count() as u64;
        let tail = String::from_utf8_lossy(&body[body.len().saturating_sub(512)..]);
        self.gaps += u64::from(tail.contains("\"gap\":{"));
        self.cursors[connection] = if tail.contains("\"has_more\":true") {
            tail.rsplit_once("\"next_cursor\":\"")
                .and_then(|(_, rest)| Some(rest.split_once('"')?.0.to_owned()))
        } else {
            None
        };
    }
}

pub(super) fn run(target: &Target, args: &Args) -> anyhow::Result<Report> {
    let mut pages = Pages::new(target, args.connections, &args.topic, args.page)?;
    let watch = Stopwatch::start(target.process(&pages.endpoint));
    let outcome = pages.run(Duration::from_secs_f64(args.seconds))?;
    let mut report = Report::new("replay");
    report.add("readers", args.connections, "");
    report.add("pages", outcome.ok, "");
    report.add("events", pages.events, "");
    report.add("gaps", pages.gaps, "");
    report.add("rate", round(pages.events as f64 / outcome.seconds), "events/s");
    report.add("throughput", round(pages.bytes as f64 / outcome.seconds / 1e6), "MB/s");
    let per_million = watch.seconds().map(|cpu| round(cpu / (pages.events.max(1) as f64 / 1e6)));
    report.add_some("server_cpu_per_million", per_million, "s");
    report.latency("page", &outcome.latency);
    report.failures(&outcome);
    Ok(report)
}
