//! `weir bench fanout`: many subscribers of one topic.

use super::endpoint::Endpoint;
use super::process::Stopwatch;
use super::publish::{Publisher, topics};
use super::report::{Report, round};
use super::requests::Pace;
use super::swarm::{Plan, Speech, Swarm};
use super::{Target, events, floor};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Subscribers.
    #[arg(long, default_value_t = 1000)]
    connections: usize,
    /// Events published per second.
    #[arg(long, default_value_t = 10.0)]
    rate: f64,
    /// Bytes of each payload; at least 35.
    #[arg(long, default_value_t = 128)]
    payload: usize,
    /// Seconds of publishing.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Subscribe through server-sent events.
    #[arg(long)]
    sse: bool,
    /// Measure the machine's floor with frames of the same size right after, and print the ratio.
    #[arg(long)]
    floor: bool,
    /// Subscribe to any WebSocket (`ws://…`) or event stream (`http://…` with --sse) instead of Weir.
    #[arg(long, requires = "raw_publish_url")]
    raw_url: Option<String>,
    /// Publish by POST of the bare payload to this URL.
    #[arg(long, requires = "raw_url")]
    raw_publish_url: Option<String>,
}

/// How long connecting may take in all: servers limit new connections per second.
pub(super) const CONNECTING: Duration = Duration::from_secs(180);
/// Without a delivery for so long, what is missing counts as lost.
pub(super) const SILENCE: Duration = Duration::from_secs(5);

/// The same before measuring, where a missing delivery only means another try.
const QUIET: Duration = Duration::from_secs(2);

impl Args {
    fn plan(&self, target: &Target) -> anyhow::Result<Plan> {
        let Some(url) = &self.raw_url else {
            return Plan::weir(target, self.connections, self.sse, &topics(1), None);
        };
        let endpoint = Endpoint::parse(url)?;
        let hello =
            if self.sse { endpoint.get("Accept: text/event-stream\r\n") } else { endpoint.upgrade("") };
        Ok(Plan {
            address: endpoint.address,
            connections: self.connections,
            threads: target.threads,
            sources: target.sources,
            speech: if self.sse { Speech::Sse } else { Speech::WebSocket },
            hello: vec![(hello, Vec::new())],
            probes: 32,
        })
    }
}

/// Sends events through everything until one reaches all its receivers in each swarm: then caches are
/// warm and nobody is still being subscribed, which an event stream's head does not tell.
pub(super) fn warm_up(swarms: &[&Swarm], publisher: &mut Publisher, receivers: u64) -> anyhow::Result<()> {
    const ATTEMPTS: usize = 5;
    let mut reached = 0;
    for _ in 0..ATTEMPTS {
        let before: Vec<_> = swarms.iter().map(|swarm| swarm.counts.delivered.load(Relaxed)).collect();
        publisher.one()?;
        let counts = swarms.iter().zip(before);
        let counts = counts.map(|(swarm, before)| swarm.wait_delivered(before + receivers, QUIET) - before);
        reached = counts.min().unwrap_or(0);
        if reached >= receivers {
            return Ok(());
        }
    }
    anyhow::bail!("an event reached only {reached} of its {receivers} subscribers, {ATTEMPTS} times")
}

pub(super) fn run(target: &Target, args: &Args) -> anyhow::Result<Report> {
    let plan = args.plan(target)?;
    let mut publisher = match &args.raw_publish_url {
        Some(url) => Publisher::raw(url, args.payload)?,
        None => Publisher::new(target, topics(1), args.payload, 1)?,
    };
    let process = target
        .server_pid
        .map(super::Process::new)
        .or_else(|| super::Process::listening_on(plan.address.port()));
    let connections = args.connections as u64;
    let swarm = Swarm::start(&plan)?;
    swarm.wait_ready(args.connections, CONNECTING)?;
    warm_up(&[&swarm], &mut publisher, connections)?;

    let (before, bytes, began) = (swarm.begin(), swarm.counts.bytes.load(Relaxed), events::now());
    let watch = Stopwatch::start(process);
    // A few connections, so that a slow acknowledgement does not hold back the rate.
    let pace =
        Pace { connections: 8, rate: Some(args.rate), duration: Duration::from_secs_f64(args.seconds) };
    let outcome = publisher.run(pace)?;
    let expected = outcome.ok * connections;
    let delivered = swarm.wait_delivered(before + expected, SILENCE) - before;
    let cpu = watch.seconds();
    let seconds = swarm.seconds_since(began);
    let frame = (swarm.counts.bytes.load(Relaxed) - bytes) as f64 / delivered.max(1) as f64;
    let (closed, notices) = (swarm.counts.lost_connections.load(Relaxed), swarm.counts.notices.load(Relaxed));
    let findings = swarm.finish()?;

    let mut report = Report::new("fanout");
    report.add("subscribers", connections, "");
    report.add("published", outcome.ok, "events");
    report.add("rate_wanted", args.rate, "events/s");
    report.add("frame", round(frame), "bytes");
    report.add("delivered", delivered, "");
    report.add("lost", expected.saturating_sub(delivered), "");
    report.add("holes_seen_by_probes", findings.holes, "");
    report.add("closed_connections", closed, "");
    report.add("close_codes", findings.closes(), "");
    report.add("notices", notices, "");
    report.add("deliveries_per_second", round(delivered as f64 / seconds.max(1e-9)), "/s");
    let per_million = cpu.map(|cpu| cpu / (delivered.max(1) as f64 / 1e6));
    report.add_some("server_cpu_per_million", per_million.map(round), "s");
    report.add_some("server_rss", process.and_then(super::Process::rss), "bytes");
    report.latency("publish_to_delivery", &findings.latency);
    report.latency("acknowledgement", &outcome.latency);
    report.failures(&outcome);
    if delivered < expected || findings.holes > 0 {
        report.fail();
    }
    if args.floor {
        let bare = floor::Args {
            connections: args.connections,
            rate: args.rate,
            frame: frame as usize,
            seconds: args.seconds.min(10.0),
            server_core: None,
        };
        let bare = floor::measure(target, &bare)?;
        report.add("floor_cpu_per_million", round(bare.cpu_per_million), "s");
        let ratio = per_million.map(|cpu| round(cpu / bare.cpu_per_million));
        report.add_some("times_the_floor", ratio, "");
    }
    Ok(report)
}
