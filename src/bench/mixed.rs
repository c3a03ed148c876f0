//! `weir bench mixed`: subscribers on both transports, a steady publisher and readers of history, together.

use super::fanout::{CONNECTING, SILENCE, warm_up};
use super::process::Stopwatch;
use super::publish::{Publisher, topics};
use super::replay::Pages;
use super::report::{Report, round};
use super::requests::Pace;
use super::swarm::{Plan, Swarm};
use super::{Target, events};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Subscribers, half through WebSocket and half through server-sent events.
    #[arg(long, default_value_t = 1000)]
    connections: usize,
    /// Topics; subscribers and events are spread over them.
    #[arg(long, default_value_t = 10)]
    topics: usize,
    /// Events published per second, over all topics.
    #[arg(long, default_value_t = 500.0)]
    rate: f64,
    /// Readers of history.
    #[arg(long, default_value_t = 1)]
    readers: usize,
    /// Bytes of each payload; at least 35.
    #[arg(long, default_value_t = 128)]
    payload: usize,
    /// Seconds.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
}

pub(super) fn run(target: &Target, args: &Args) -> anyhow::Result<Report> {
    // Whole rounds over the topics: then every event has the same number of receivers.
    let per_topic = (args.connections / 2 / args.topics.max(1)).max(1);
    let half = per_topic * args.topics.max(1);
    let names = topics(args.topics);
    let swarms = [false, true].map(|sse| -> anyhow::Result<Swarm> {
        let swarm = Swarm::start(&Plan::weir(target, half, sse, &names, None)?)?;
        swarm.wait_ready(half, CONNECTING)?;
        Ok(swarm)
    });
    let [websocket, sse] = swarms;
    let swarms = [("websocket", websocket?), ("sse", sse?)];
    let mut publisher = Publisher::new(target, names, args.payload, 1)?;
    let mut pages = Pages::new(target, args.readers, ">", 1000)?;
    warm_up(&swarms.each_ref().map(|(_, swarm)| swarm), &mut publisher, per_topic as u64)?;

    let before = swarms.each_ref().map(|(_, swarm)| swarm.begin());
    let (watch, began) = (Stopwatch::start(target.process(&target.endpoint("")?)), events::now());
    let duration = Duration::from_secs_f64(args.seconds);
    let (published, read) = std::thread::scope(|scope| {
        let reading = scope.spawn(|| (args.readers > 0).then(|| pages.run(duration)).transpose());
        let published = publisher.run(Pace { connections: 32, rate: Some(args.rate), duration });
        (published, reading.join())
    });
    let published = published?;
    let read = read.map_err(|_| anyhow::anyhow!("the readers stopped"))??;

    let mut report = Report::new("mixed");
    report.add("subscribers", half * 2, "");
    report.add("published", published.ok, "events");
    let expected = published.ok * per_topic as u64;
    for ((name, swarm), before) in swarms.into_iter().zip(before) {
        let delivered = swarm.wait_delivered(before + expected, SILENCE) - before;
        let (seconds, closed) = (swarm.seconds_since(began), swarm.counts.lost_connections.load(Relaxed));
        let findings = swarm.finish()?;
        report.add(format!("{name}_delivered"), delivered, "");
        report.add(format!("{name}_lost"), expected.saturating_sub(delivered), "");
        report.add(format!("{name}_holes_seen_by_probes"), findings.holes, "");
        report.add(format!("{name}_closed_connections"), closed, "");
        report.add(format!("{name}_rate"), round(delivered as f64 / seconds.max(1e-9)), "/s");
        report.latency(&format!("{name}_delivery"), &findings.latency);
        if delivered < expected || findings.holes > 0 {
            report.fail();
        }
    }
    if let Some(read) = read {
        report.add("replayed", pages.events, "events");
        report.add("replay_rate", round(pages.events as f64 / read.seconds), "events/s");
        report.latency("replay_page", &read.latency);
    }
    let cpu = watch.seconds().map(|cpu| round(cpu / published.seconds * 100.0));
    report.add_some("server_cpu", cpu, "% of a core");
    report.latency("acknowledgement", &published.latency);
    report.failures(&published);
    Ok(report)
}
