//! `weir bench revoke`: for how long the connections of a revoked key still get events, on one node or several.

use super::fanout::{CONNECTING, warm_up};
use super::publish::{Publisher, topics};
use super::report::{Report, histogram};
use super::requests::{Pace, Work, drive};
use super::swarm::{Plan, Swarm};
use super::{Target, events};
use anyhow::{Context, ensure};
use serde_json::{Value, json};
use std::sync::atomic::Ordering::Relaxed;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Between two revocations.
const PAUSE: Duration = Duration::from_millis(100);
/// How long the connections of revoked keys may take to be closed.
const CLOSING: Duration = Duration::from_secs(10);

#[derive(clap::Args)]
pub(super) struct Args {
    /// The nodes that clients connect to, one `--node URL` each; without any, the server under test alone.
    #[arg(long = "node")]
    nodes: Vec<String>,
    /// Subscribers, over all keys and nodes.
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// Keys that are revoked, one after the other.
    #[arg(long, default_value_t = 50)]
    keys: usize,
    /// Events per second that everybody gets meanwhile.
    #[arg(long, default_value_t = 20.0)]
    rate: f64,
    /// Bytes of each payload; at least 35.
    #[arg(long, default_value_t = 128)]
    payload: usize,
}

/// A key, and its connections on each node.
struct Holder {
    id: String,
    swarms: Vec<Swarm>,
}

/// One request and when it was asked and answered, on the clock of [`events::now`].
struct Call {
    bytes: Vec<u8>,
    asked: u64,
    answered: u64,
    answer: Value,
}

impl Work for Call {
    fn request(&mut self, _connection: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bytes);
        self.asked = events::now();
    }

    fn answer(&mut self, _connection: usize, body: &[u8]) {
        self.answered = events::now();
        self.answer = serde_json::from_slice(body).unwrap_or_default();
    }
}

/// Calls the administration of the server under test.
fn call(target: &Target, method: &str, path: &str, body: &Value) -> anyhow::Result<Call> {
    let endpoint = target.endpoint(path)?;
    let mut bytes = Vec::new();
    endpoint.send(method, Some(target.api_key()?), body.to_string().as_bytes(), &mut bytes);
    let mut call = Call { bytes, asked: 0, answered: 0, answer: Value::Null };
    let pace = Pace { connections: 1, rate: Some(1.0), duration: Duration::from_millis(10) };
    let outcome = drive(&endpoint, pace, &mut call)?;
    let example = outcome.example.unwrap_or_default();
    ensure!(outcome.ok == 1, "{method} {path} was refused: {:?} {example}", outcome.failed);
    Ok(call)
}

impl Holder {
    fn start(target: &Target, nodes: &[String], share: usize) -> anyhow::Result<Self> {
        let wish = json!({ "name": "weir bench revoke", "scopes": ["events:subscribe"] });
        let made = call(target, "POST", "/v1/admin/keys", &wish)?.answer;
        let text = |name: &str| made[name].as_str().map(str::to_owned);
        let (id, key) = (text("id").context("no key id")?, text("api_key").context("no key")?);
        let swarms = nodes.iter().map(|node| {
            let at = Target { url: node.clone(), api_key: Some(key.clone()), threads: 1, ..target.clone() };
            Swarm::start(&Plan::weir(&at, share, false, &topics(1), None)?)
        });
        let swarms = swarms.collect::<anyhow::Result<Vec<_>>>()?;
        // One key after the other: a thread for each of all at once would fight for the core.
        swarms.iter().try_for_each(|swarm| swarm.wait_ready(share, CONNECTING))?;
        Ok(Self { id, swarms })
    }

    fn closed(&self) -> u64 {
        self.swarms.iter().map(|swarm| swarm.counts.lost_connections.load(Relaxed)).sum()
    }
}

pub(super) fn run(target: &Target, args: &Args) -> anyhow::Result<Report> {
    let nodes = if args.nodes.is_empty() { vec![target.url.clone()] } else { args.nodes.clone() };
    let keys = args.keys.max(1);
    let share = (args.connections / keys / nodes.len()).max(1);
    super::machine::check_nofile(share * keys * nodes.len())?;
    let holders = (0..keys).map(|_| Holder::start(target, &nodes, share));
    let holders = holders.collect::<anyhow::Result<Vec<_>>>()?;
    let mut publisher = Publisher::new(target, topics(1), args.payload, 1)?;
    let swarms: Vec<_> = holders.iter().flat_map(|holder| &holder.swarms).collect();
    warm_up(&swarms, &mut publisher, share as u64)?;

    let duration = (PAUSE * 3) * u32::try_from(keys).unwrap_or(u32::MAX) + PAUSE;
    let pace = Pace { connections: 4, rate: Some(args.rate), duration };
    let revoked = std::thread::scope(|scope| {
        let publishing = scope.spawn(|| publisher.run(pace));
        let revoked = revoke_all(target, &holders);
        let outcome = publishing.join().map_err(|_| anyhow::anyhow!("the publisher stopped"))??;
        ensure!(outcome.failures() == 0, "events were refused: {:?}", outcome.failed);
        revoked
    })?;
    let wanted = (share * nodes.len()) as u64;
    let until = Instant::now() + CLOSING;
    while holders.iter().any(|holder| holder.closed() < wanted) && Instant::now() < until {
        sleep(Duration::from_millis(5));
    }
    report(&nodes, share, &holders, &revoked)
}

fn revoke_all(target: &Target, holders: &[Holder]) -> anyhow::Result<Vec<Call>> {
    let revoke = |holder: &Holder| {
        sleep(PAUSE);
        call(target, "DELETE", &format!("/v1/admin/keys/{}", holder.id), &json!({}))
    };
    holders.iter().map(revoke).collect()
}

fn report(nodes: &[String], share: usize, holders: &[Holder], revoked: &[Call]) -> anyhow::Result<Report> {
    let (mut last, mut answer) = (histogram()?, histogram()?);
    let mut after_answer = 0;
    for (holder, call) in holders.iter().zip(revoked) {
        answer.saturating_record(call.answered.saturating_sub(call.asked));
        for swarm in &holder.swarms {
            // All connections of the key on the node count as served until the last of them was.
            let served = swarm.counts.last.load(Relaxed);
            last.record_n(served.saturating_sub(call.asked).max(1), share as u64)?;
            after_answer = after_answer.max(served.saturating_sub(call.answered));
        }
    }
    let all_nodes = |call: &&Call| call.answer["enforced"]["nodes"] == call.answer["enforced"]["of"];
    let enforced = revoked.iter().filter(all_nodes).count();
    let closed: u64 = holders.iter().map(Holder::closed).sum();
    let connections = share * nodes.len() * holders.len();
    let mut report = Report::new("revoke");
    report.add("nodes", nodes.len(), "");
    report.add("connections", connections, "");
    report.add("keys_revoked", revoked.len(), "");
    report.add("enforced_by_all_nodes", enforced, "");
    report.add("connections_closed", closed, "");
    report.latency("revoke_to_last_delivery", &last);
    report.latency("revoke_to_answer", &answer);
    report.add("latest_delivery_after_an_answer", super::report::round(after_answer as f64 / 1e6), "ms");
    if closed < connections as u64 || enforced < revoked.len() {
        report.fail();
    }
    Ok(report)
}
