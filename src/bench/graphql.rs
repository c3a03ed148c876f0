//! `weir bench graphql`: what `eventStream` costs beside the same events over `/ws`, in turns on one server; and how long
//! the server takes to refuse operations that are bombs.

use super::endpoint::Endpoint;
use super::fanout::{CONNECTING, SILENCE, warm_up};
use super::process::Stopwatch;
use super::publish::{Publisher, topics};
use super::report::{Report, histogram, round};
use super::requests::{Outcome, Pace, Work, drive};
use super::swarm::{Plan, Speech, Swarm};
use super::wire::{TEXT, masked};
use super::{Process, Target};
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use std::time::Duration;

/// The fields that an event's frame on `/ws` has.
const STREAM: &str = "subscription($topics: [String!]!) { eventStream(topics: $topics) { \
    ... on EventMessage { topic id sequence previous cursor published_at payload } ... on Gap { reason from to } } }";

#[derive(clap::Args)]
pub(super) struct Args {
    /// Subscribers of each kind, one kind at a time.
    #[arg(long, default_value_t = 1000)]
    connections: usize,
    /// Events published per second.
    #[arg(long, default_value_t = 10.0)]
    rate: f64,
    /// Bytes of each payload; at least 35.
    #[arg(long, default_value_t = 128)]
    payload: usize,
    /// Seconds of publishing, in each turn.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Turns of each kind.
    #[arg(long, default_value_t = 3)]
    turns: usize,
    /// Refusals measured for each kind of bomb; 0 leaves them out.
    #[arg(long, default_value_t = 200)]
    bombs: usize,
}

/// What the turns of one kind came to.
struct Kind {
    cpu: Option<f64>,
    delivered: u64,
    expected: u64,
    holes: u64,
    latency: Histogram<u64>,
}

impl Kind {
    fn new() -> anyhow::Result<Self> {
        Ok(Self { cpu: Some(0.0), delivered: 0, expected: 0, holes: 0, latency: histogram()? })
    }

    fn cpu_per_million(&self) -> Option<f64> {
        self.cpu.map(|cpu| cpu / (self.delivered.max(1) as f64 / 1e6))
    }

    fn turn(&mut self, target: &Target, plan: &Plan, args: &Args) -> anyhow::Result<()> {
        let connections = args.connections as u64;
        let mut publisher = Publisher::new(target, topics(1), args.payload, 1)?;
        let process =
            target.server_pid.map(Process::new).or_else(|| Process::listening_on(plan.address.port()));
        let swarm = Swarm::start(plan)?;
        swarm.wait_ready(args.connections, CONNECTING)?;
        warm_up(&[&swarm], &mut publisher, connections)?;
        let (before, watch) = (swarm.begin(), Stopwatch::start(process));
        let pace =
            Pace { connections: 8, rate: Some(args.rate), duration: Duration::from_secs_f64(args.seconds) };
        let expected = publisher.run(pace)?.ok * connections;
        self.delivered += swarm.wait_delivered(before + expected, SILENCE) - before;
        self.expected += expected;
        self.cpu = self.cpu.zip(watch.seconds()).map(|(all, turn)| all + turn);
        let findings = swarm.finish()?;
        self.holes += findings.holes;
        self.latency.add(&findings.latency)?;
        Ok(())
    }
}

fn graphql_plan(target: &Target, connections: usize) -> anyhow::Result<Plan> {
    let endpoint = target.endpoint("/graphql")?;
    let init = json!({ "type": "connection_init", "payload": { "token": target.api_key()? } });
    let payload = json!({ "query": STREAM, "variables": { "topics": topics(1) } });
    let subscribe = json!({ "id": "1", "type": "subscribe", "payload": payload });
    let mut words = masked(TEXT, init.to_string().as_bytes());
    words.extend(masked(TEXT, subscribe.to_string().as_bytes()));
    Ok(Plan {
        address: endpoint.address,
        connections,
        threads: target.threads,
        sources: target.sources,
        speech: Speech::Graphql,
        hello: vec![(endpoint.upgrade("Sec-WebSocket-Protocol: graphql-transport-ws\r\n"), words)],
        probes: 32,
    })
}

/// Operations that would cost their reader much more than their writer.
fn bombs() -> Vec<(&'static str, String)> {
    let doubling: String =
        (0..60).map(|n| format!("fragment F{n} on Query {{ ...F{} ...F{} }} ", n + 1, n + 1)).collect();
    let cycle: String =
        (0..50).map(|n| format!("fragment F{n} on Query {{ ...F{} }} ", (n + 1) % 50)).collect();
    let aliases: String = (0..400).map(|n| format!("a{n}: topics ")).collect();
    vec![
        ("depth", format!("{}{}", "{a".repeat(10_000), "}".repeat(10_000))),
        ("aliases", format!("{{ {aliases} }}")),
        ("directives", format!("{{ topics {} {{ __typename }} }}", "@skip(if: false) ".repeat(300))),
        ("doubling_fragments", format!("{{ ...F0 }} {doubling} fragment F60 on Query {{ __typename }}")),
        ("fragment_cycle", format!("{{ ...F0 }} {cycle}")),
        ("fields", format!("{{ {} }}", "__typename ".repeat(1_900))),
        ("unknown_fields", format!("{{ {} }}", "nothing_of_that_name ".repeat(450))),
        ("a_megabyte", format!("{{ a(b: \"{}\") }}", "x".repeat((1 << 20) - 200))),
    ]
}

/// Sends one text again and again.
struct Bomb<'a> {
    endpoint: Endpoint,
    key: &'a str,
    body: Vec<u8>,
    executed: bool,
}

impl Work for Bomb<'_> {
    fn request(&mut self, _connection: usize, out: &mut Vec<u8>) {
        self.endpoint.post(Some(self.key), &self.body, out);
    }

    fn answer(&mut self, _connection: usize, body: &[u8]) {
        let answer: Value = serde_json::from_slice(body).unwrap_or_default();
        self.executed |= answer.get("data").is_some() || answer.get("errors").is_none();
    }
}

/// Refusals of one bomb, one after the other on one connection.
fn refuse(target: &Target, text: &str, times: usize) -> anyhow::Result<(Outcome, Option<f64>)> {
    let endpoint = target.endpoint("/graphql")?;
    let body = json!({ "query": text }).to_string().into_bytes();
    let mut bomb = Bomb { endpoint: endpoint.clone(), key: target.api_key()?, body, executed: false };
    let watch = Stopwatch::start(target.process(&endpoint));
    // A rate, so that the number is what was asked for.
    let pace = Pace {
        connections: 1,
        rate: Some(100.0),
        duration: Duration::from_secs_f64(times as f64 / 100.0 - 0.005),
    };
    let outcome = drive(&endpoint, pace, &mut bomb)?;
    anyhow::ensure!(!bomb.executed, "a bomb was executed: {:.80}", text);
    let refused = outcome.ok + outcome.failures();
    Ok((outcome, watch.seconds().map(|cpu| cpu * 1e3 / refused.max(1) as f64)))
}

pub(super) fn run(target: &Target, args: &Args) -> anyhow::Result<Report> {
    let plain = Plan::weir(target, args.connections, false, &topics(1), None)?;
    let graphql = graphql_plan(target, args.connections)?;
    let (mut over_ws, mut over_graphql) = (Kind::new()?, Kind::new()?);
    for _ in 0..args.turns.max(1) {
        over_ws.turn(target, &plain, args)?;
        over_graphql.turn(target, &graphql, args)?;
    }
    let mut report = Report::new("graphql");
    report.add("subscribers", args.connections, "");
    report.add("rate_wanted", args.rate, "events/s");
    report.add("turns", args.turns.max(1), "");
    for (name, kind) in [("ws", &over_ws), ("event_stream", &over_graphql)] {
        report.add(format!("{name}_delivered"), kind.delivered, "");
        report.add(format!("{name}_lost"), kind.expected.saturating_sub(kind.delivered), "");
        report.add(format!("{name}_holes"), kind.holes, "");
        let cpu = kind.cpu_per_million().map(round);
        report.add_some(&format!("{name}_cpu_per_million"), cpu, "s");
        report.latency(&format!("{name}_publish_to_delivery"), &kind.latency);
        if kind.delivered < kind.expected || kind.holes > 0 {
            report.fail();
        }
    }
    let ratio = over_graphql.cpu_per_million().zip(over_ws.cpu_per_million());
    let ratio = ratio.filter(|(_, ws)| *ws > 0.0).map(|(graphql, ws)| round(graphql / ws));
    report.add_some("event_stream_times_ws", ratio, "");
    if args.bombs > 0 {
        for (name, text) in bombs() {
            let (outcome, cpu) = refuse(target, &text, args.bombs)?;
            let at = |quantile| round(outcome.latency.value_at_quantile(quantile) as f64 / 1e6);
            report.add(format!("refused_{name}_p50"), at(0.5), "ms");
            report.add(format!("refused_{name}_p99"), at(0.99), "ms");
            report.add_some(&format!("refused_{name}_cpu"), cpu.map(round), "ms");
        }
    }
    Ok(report)
}
