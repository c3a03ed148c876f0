//! Many subscribers on a few threads: each thread polls its share of the sockets.

use super::reader::Reader;
use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

/// How the server speaks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Speech {
    /// WebSocket frames of Weir: an upgrade, a subscription, events among other frames.
    Weir,
    /// `graphql-transport-ws` with one subscription; an acknowledgement of the connection counts as ready.
    Graphql,
    /// Any WebSocket: every text is an event.
    WebSocket,
    /// Server-sent events.
    Sse,
    /// WebSocket frames from the first byte, without an upgrade.
    Bare,
}

/// What a swarm does.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) address: SocketAddr,
    pub(super) connections: usize,
    pub(super) threads: usize,
    /// Loopback addresses to connect from, so that one does not run out of ports.
    pub(super) sources: usize,
    pub(super) speech: Speech,
    /// What a connection sends first, and what after the upgrade; connection `i` takes number `i % len`.
    pub(super) hello: Vec<(Vec<u8>, Vec<u8>)>,
    /// Connections that read everything.
    pub(super) probes: usize,
}

/// Counts that all threads add to.
#[derive(Default)]
pub(super) struct Counts {
    /// Subscriptions confirmed.
    pub(super) ready: AtomicU64,
    pub(super) delivered: AtomicU64,
    pub(super) bytes: AtomicU64,
    /// Gaps, errors and wishes to reconnect.
    pub(super) notices: AtomicU64,
    /// Upgrades that the server refused (they are tried again).
    pub(super) refused: AtomicU64,
    /// Connections that broke or were closed.
    pub(super) lost_connections: AtomicU64,
    /// When the last event came, on the clock of [`events::now`].
    pub(super) last: AtomicU64,
    /// Latency counts from when this is set.
    pub(super) measuring: AtomicBool,
    pub(super) stop: AtomicBool,
    /// The last answer that refused an upgrade.
    pub(super) refusal: Mutex<String>,
}

/// What one thread, and in the end the swarm, found out.
pub(super) struct Findings {
    /// Publish to delivery, nanoseconds, at the probes.
    pub(super) latency: Histogram<u64>,
    /// Events that a probe proved missing (or out of order) by `previous`.
    pub(super) holes: u64,
    /// How connections ended: the close code, or 0 without one.
    pub(super) closes: BTreeMap<u16, u64>,
}

pub(super) struct Swarm {
    pub(super) counts: Arc<Counts>,
    threads: Vec<JoinHandle<anyhow::Result<Findings>>>,
}

impl Swarm {
    pub(super) fn start(plan: &Plan) -> anyhow::Result<Self> {
        super::machine::check_nofile(plan.connections)?;
        let counts = Arc::new(Counts::default());
        let threads = plan.threads.clamp(1, plan.connections.max(1));
        let threads = (0..threads).map(|number| {
            let (plan, counts) = (plan.clone(), Arc::clone(&counts));
            std::thread::Builder::new().spawn(move || {
                let share = (number..plan.connections).step_by(threads).collect();
                Reader::new(plan, counts, share)?.run()
            })
        });
        Ok(Self { threads: threads.collect::<io::Result<_>>()?, counts })
    }

    /// Waits until all subscriptions are confirmed.
    pub(super) fn wait_ready(&self, connections: usize, limit: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + limit;
        while self.counts.ready.load(Ordering::Relaxed) < connections as u64 {
            if Instant::now() > until || self.threads.iter().any(JoinHandle::is_finished) {
                let ready = self.counts.ready.load(Ordering::Relaxed);
                let refusal = self.counts.refusal.lock().unwrap_or_else(PoisonError::into_inner);
                anyhow::bail!("only {ready} of {connections} subscriptions were confirmed; {refusal}");
            }
            sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Begins to measure: gives the events delivered so far.
    pub(super) fn begin(&self) -> u64 {
        self.counts.measuring.store(true, Ordering::Relaxed);
        self.counts.delivered.load(Ordering::Relaxed)
    }

    /// Waits until so many events are delivered in all, or none came for `silence`. Gives the number.
    pub(super) fn wait_delivered(&self, wanted: u64, silence: Duration) -> u64 {
        let mut before = self.counts.delivered.load(Ordering::Relaxed);
        let mut changed = Instant::now();
        while before < wanted && changed.elapsed() < silence {
            sleep(Duration::from_millis(2));
            let now = self.counts.delivered.load(Ordering::Relaxed);
            if now != before {
                (before, changed) = (now, Instant::now());
            }
        }
        before
    }

    /// Seconds from a moment of the bench's clock to the last event.
    pub(super) fn seconds_since(&self, from: u64) -> f64 {
        let last = self.counts.last.load(Ordering::Relaxed).max(from);
        (last - from) as f64 / 1e9
    }

    /// Ends the threads and joins what they found.
    pub(super) fn finish(self) -> anyhow::Result<Findings> {
        self.counts.stop.store(true, Ordering::Relaxed);
        let mut all = Findings::new()?;
        for thread in self.threads {
            let found = thread.join().map_err(|_| anyhow::anyhow!("a thread of the client stopped"))??;
            all.latency.add(&found.latency)?;
            all.holes += found.holes;
            for (code, count) in found.closes {
                *all.closes.entry(code).or_default() += count;
            }
        }
        Ok(all)
    }
}

impl Findings {
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Self { latency: super::report::histogram()?, holes: 0, closes: BTreeMap::new() })
    }

    /// `4509: 3, none: 1`.
    pub(super) fn closes(&self) -> String {
        let name = |code: &u16| if *code == 0 { "none".to_owned() } else { code.to_string() };
        let parts: Vec<_> =
            self.closes.iter().map(|(code, count)| format!("{}: {count}", name(code))).collect();
        if parts.is_empty() { "none".into() } else { parts.join(", ") }
    }
}

impl Plan {
    /// One frame's or stream's subscribers of Weir: connection `i` takes topic number `i % topics`, from now on or
    /// after a cursor.
    pub(super) fn weir(
        target: &super::Target,
        connections: usize,
        sse: bool,
        topics: &[String],
        after: Option<&str>,
    ) -> anyhow::Result<Self> {
        let key = target.api_key()?;
        let endpoint = target.endpoint("/ws")?;
        let authorization = format!("Authorization: Bearer {key}\r\n");
        let hello = topics.iter().map(|topic| {
            if sse {
                let after = after.map_or_else(String::new, |cursor| format!("&after={cursor}"));
                let endpoint = target.endpoint(&format!("/sse?topic={topic}{after}"))?;
                return Ok((
                    endpoint.get(&format!("{authorization}Accept: text/event-stream\r\n")),
                    Vec::new(),
                ));
            }
            let upgrade = endpoint.upgrade(&format!("{authorization}Sec-WebSocket-Protocol: weir.v1\r\n"));
            let mut subscribe = serde_json::json!({ "type": "subscribe", "id": "1", "topics": [topic] });
            if let Some(cursor) = after {
                subscribe["after"] = cursor.into();
            }
            Ok((upgrade, super::wire::masked(super::wire::TEXT, subscribe.to_string().as_bytes())))
        });
        Ok(Self {
            address: endpoint.address,
            connections,
            threads: target.threads,
            sources: target.sources,
            speech: if sse { Speech::Sse } else { Speech::Weir },
            hello: hello.collect::<anyhow::Result<_>>()?,
            probes: 32,
        })
    }
}
