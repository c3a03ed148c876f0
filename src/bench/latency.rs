//! `weir bench latency`: from publish to delivery, at a rate.

use super::Target;
use super::fanout::{CONNECTING, SILENCE, warm_up};
use super::process::Stopwatch;
use super::publish::{Publisher, topics};
use super::report::{Report, round};
use super::requests::Pace;
use super::swarm::{Plan, Swarm};
use std::time::Duration;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Subscribers; every one of them measures.
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Events published per second.
    #[arg(long, default_value_t = 1000.0)]
    rate: f64,
    /// Kept-alive connections that publish.
    #[arg(long, default_value_t = 64)]
    publishers: usize,
    /// Bytes of each payload; at least 35.
    #[arg(long, default_value_t = 128)]
    payload: usize,
    /// Seconds.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Subscribe through server-sent events.
    #[arg(long)]
    sse: bool,
}

pub(super) fn run(target: &Target, args: &Args) -> anyhow::Result<Report> {
    let mut plan = Plan::weir(target, args.connections, args.sse, &topics(1), None)?;
    plan.probes = args.connections;
    let mut publisher = Publisher::new(target, topics(1), args.payload, 1)?;
    let swarm = Swarm::start(&plan)?;
    swarm.wait_ready(args.connections, CONNECTING)?;
    warm_up(&[&swarm], &mut publisher, args.connections as u64)?;
    let before = swarm.begin();
    let watch = Stopwatch::start(target.process(&target.endpoint("")?));
    let duration = Duration::from_secs_f64(args.seconds);
    let outcome = publisher.run(Pace { connections: args.publishers, rate: Some(args.rate), duration })?;
    let expected = outcome.ok * args.connections as u64;
    let delivered = swarm.wait_delivered(before + expected, SILENCE) - before;
    let cpu = watch.seconds();
    let findings = swarm.finish()?;

    let mut report = Report::new("latency");
    report.add("subscribers", args.connections, "");
    report.add("rate_wanted", args.rate, "events/s");
    report.add("rate", round(outcome.ok as f64 / outcome.seconds), "events/s");
    report.add("delivered", delivered, "");
    report.add("lost", expected.saturating_sub(delivered), "");
    report.add("holes_seen_by_probes", findings.holes, "");
    report.latency("publish_to_delivery", &findings.latency);
    report.latency("acknowledgement", &outcome.latency);
    report.add_some("server_cpu", cpu.map(|cpu| round(cpu / outcome.seconds * 100.0)), "% of a core");
    report.failures(&outcome);
    if delivered < expected || findings.holes > 0 {
        report.fail();
    }
    Ok(report)
}
