//! `weir bench connections`: what an idle subscriber costs.

use super::fanout::CONNECTING;
use super::process::{Process, Stopwatch};
use super::publish::topics;
use super::report::{Report, round};
use super::swarm::{Plan, Swarm};
use super::{Target, events};
use anyhow::Context;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::sleep;
use std::time::Duration;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Connections, each subscribed to one topic.
    #[arg(long, default_value_t = 1000)]
    connections: usize,
    /// Topics to spread over.
    #[arg(long, default_value_t = 1)]
    topics: usize,
    /// Connect through server-sent events.
    #[arg(long)]
    sse: bool,
    /// Seconds to stay connected; the server's pings and heartbeats show in the CPU time.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
}

pub(super) fn run(target: &Target, args: &Args) -> anyhow::Result<Report> {
    let count = args.connections;
    let process = target
        .process(&target.endpoint("")?)
        .context("the server's process was not found on this machine: give --server-pid")?;
    let rss = || process.rss().context("the server's memory cannot be read");
    // A first connection pays for what is made once: caches, the project's state.
    one(target, args.sse)?;
    let before = rss()?;
    let (watch, began) = (Stopwatch::start(Some(process)), events::now());
    let swarm = Swarm::start(&Plan::weir(target, count, args.sse, &topics(args.topics), None)?)?;
    swarm.wait_ready(count, CONNECTING)?;
    let (connecting, seconds) = (watch.seconds(), (events::now() - began) as f64 / 1e9);
    sleep(Duration::from_secs_f64(args.seconds));
    let during = rss()?;
    let idle = watch.seconds().zip(connecting).map(|(all, first)| (all - first) / args.seconds);
    let (refused, lost) = (swarm.counts.refused.load(Relaxed), swarm.counts.lost_connections.load(Relaxed));
    let findings = swarm.finish()?;
    sleep(Duration::from_secs(1));

    let mut report = Report::new("connections");
    report.add("connections", count, "");
    report.add("transport", if args.sse { "sse" } else { "websocket" }, "");
    report.add("connect_time", round(seconds), "s");
    report.add("refused_and_tried_again", refused, "");
    report.add("lost", lost, "");
    report.add("close_codes", findings.closes(), "");
    report.add("rss_before", before, "bytes");
    report.add("rss_connected", during, "bytes");
    report.add("rss_per_connection", round(during.saturating_sub(before) as f64 / count as f64), "bytes");
    report.add_some("rss_after_closing", Process::rss(process), "bytes");
    report.add_some("cpu_per_accept", connecting.map(|cpu| round(cpu * 1e6 / count as f64)), "us");
    report.add_some("cpu_when_idle", idle.map(|cpu| round(cpu * 100.0)), "% of a core");
    if lost > 0 {
        report.fail();
    }
    Ok(report)
}

fn one(target: &Target, sse: bool) -> anyhow::Result<()> {
    let swarm = Swarm::start(&Plan::weir(target, 1, sse, &topics(1), None)?)?;
    swarm.wait_ready(1, Duration::from_secs(10))?;
    swarm.finish().map(drop)
}
