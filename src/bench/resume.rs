//! `weir bench resume`: everybody comes back at once and wants what was missed.

use super::fanout::{CONNECTING, SILENCE, warm_up};
use super::process::Stopwatch;
use super::publish::{Publisher, topics};
use super::report::{Report, round};
use super::swarm::{Plan, Swarm};
use super::{Target, events};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Clients that come back.
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// Events that each of them missed, at most 100.
    #[arg(long, default_value_t = 20)]
    missed: usize,
    /// Bytes of each payload; at least 35.
    #[arg(long, default_value_t = 128)]
    payload: usize,
    /// Come back through server-sent events.
    #[arg(long)]
    sse: bool,
}

pub(super) fn run(target: &Target, args: &Args) -> anyhow::Result<Report> {
    // One subscriber that stays: the project's recent events are in memory, as when a node still serves others.
    let keeper = Swarm::start(&Plan::weir(target, 1, false, &topics(1), None)?)?;
    keeper.wait_ready(1, CONNECTING)?;
    let mut one = Publisher::new(target, topics(1), args.payload, 1)?;
    warm_up(&[&keeper], &mut one, 1)?;
    let cursor = one.cursor()?;
    let missed = args.missed.clamp(1, 100);
    Publisher::new(target, topics(1), args.payload, missed)?.one()?;

    let plan = Plan::weir(target, args.connections, args.sse, &topics(1), Some(&cursor))?;
    let watch = Stopwatch::start(target.process(&target.endpoint("")?));
    let began = events::now();
    let swarm = Swarm::start(&plan)?;
    let expected = (args.connections * missed) as u64;
    let delivered = swarm.wait_delivered(expected, SILENCE);
    let (cpu, seconds) = (watch.seconds(), swarm.seconds_since(began));
    let refused = swarm.counts.refused.load(std::sync::atomic::Ordering::Relaxed);
    let findings = swarm.finish()?;
    keeper.finish()?;

    let mut report = Report::new("resume");
    report.add("clients", args.connections, "");
    report.add("transport", if args.sse { "sse" } else { "websocket" }, "");
    report.add("missed_by_each", missed, "events");
    report.add("delivered", delivered, "");
    report.add("lost", expected.saturating_sub(delivered), "");
    report.add("holes_seen_by_probes", findings.holes, "");
    report.add("refused_and_tried_again", refused, "");
    report.add("all_have_all_after", round(seconds), "s");
    report.add_some("cpu_per_client", cpu.map(|cpu| round(cpu * 1e6 / args.connections as f64)), "us");
    if delivered < expected || findings.holes > 0 {
        report.fail();
    }
    Ok(report)
}
