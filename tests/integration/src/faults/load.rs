//! Publishers and readers that go on whatever happens, and what they have to say afterwards.

use super::Report;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use weir_testkit::{Answer, Api, Tenant, TestApp, Ws};

const PUBLISHERS: usize = 4;
/// How long everything may take to be well again after the last fault, on a loaded machine.
const RECOVERY: Duration = Duration::from_secs(60);
/// An answer that takes longer is not waited for: a server that was killed while frozen sends none.
const ANSWER: Duration = Duration::from_secs(15);

/// Tells the events of one load from those of another on the same project.
static RUNS: AtomicU64 = AtomicU64::new(0);

/// What publishers were told: the sequence by (publisher, number).
pub type Acked = BTreeMap<(usize, u64), u64>;

/// What a reader saw.
enum Seen {
    Event {
        sequence: u64,
        id: String,
    },
    /// It was told that something is missing.
    Gap,
}

/// A running load on all nodes.
pub struct Load {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    last: Arc<AtomicU64>,
    acked: Arc<Mutex<Acked>>,
    publishers: Vec<JoinHandle<()>>,
    readers: Vec<JoinHandle<Vec<Seen>>>,
}

impl Load {
    /// Publishers at all nodes in turn, and a reader that begins at each.
    pub async fn start(app: &TestApp, tenant: &Tenant) -> Self {
        Self::start_on(app, tenant, app.nodes.len()).await
    }

    /// The same, with publishers only at the first `nodes`; readers everywhere.
    pub async fn start_on(app: &TestApp, tenant: &Tenant, nodes: usize) -> Self {
        let (stop, last) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (count, acked) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(Acked::new())));
        let run = RUNS.fetch_add(1, Ordering::Relaxed) << 32;
        let begin = app.api(&tenant.api_key).publish("begin", &json!(null)).await;
        let cursor = begin["cursor"].as_str().expect("a cursor").to_owned();
        let apis: Vec<Api> = (0..nodes).map(|node| app.api_at(node, &tenant.api_key)).collect();
        let publishers = (0..PUBLISHERS)
            .map(|n| {
                let told = (Arc::clone(&acked), Arc::clone(&count));
                tokio::spawn(publish(apis.clone(), n, run, Arc::clone(&stop), told))
            })
            .collect();
        let urls: Vec<String> = (0..app.nodes.len()).map(|node| app.ws_url(node, "")).collect();
        let readers = (0..urls.len())
            .map(|n| {
                let (mut urls, key, cursor) = (urls.clone(), tenant.api_key.clone(), cursor.clone());
                urls.rotate_left(n);
                tokio::spawn(read(urls, key, cursor, Arc::clone(&last)))
            })
            .collect();
        Self { stop, count, last, acked, publishers, readers }
    }

    /// Waits until this many more events were acknowledged.
    pub async fn progress(&self, events: u64) {
        let target = self.count.load(Ordering::Relaxed) + events;
        let deadline = Instant::now() + RECOVERY;
        while self.count.load(Ordering::Relaxed) < target {
            assert!(Instant::now() < deadline, "nothing was acknowledged for {RECOVERY:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Stops the publishers, each after its last event was acknowledged; gives what they were told.
    pub async fn stop_publishing(&mut self) -> Acked {
        self.stop.store(true, Ordering::Relaxed);
        for publisher in self.publishers.drain(..) {
            let ended = tokio::time::timeout(RECOVERY, publisher).await;
            ended.expect("publishers end once all is well").expect("a publisher ends");
        }
        self.told()
    }

    fn told(&self) -> Acked {
        self.acked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends it at once, and gives what was acknowledged until then.
    pub async fn abandon(self) -> Acked {
        for publisher in &self.publishers {
            publisher.abort();
        }
        self.readers.iter().for_each(JoinHandle::abort);
        for publisher in self.publishers {
            // It was cut off; only what it was told counts.
            let _ = publisher.await;
        }
        let acked = self.acked;
        let told = acked.lock().unwrap_or_else(PoisonError::into_inner);
        told.clone()
    }

    /// Ends the load and holds log and readers against what was acknowledged.
    pub async fn conclude(mut self, app: &TestApp, tenant: &Tenant, mut report: Report) -> Report {
        let acked = self.stop_publishing().await;
        let kept = app.api(&tenant.api_key).replay_patiently("t.*", RECOVERY).await;
        check_log(&kept, &acked, &mut report);
        let sequences: Vec<u64> = kept.iter().filter_map(|event| event["sequence"].as_u64()).collect();
        self.last.store(sequences.last().copied().unwrap_or(1), Ordering::Relaxed);
        for reader in self.readers {
            let seen = tokio::time::timeout(RECOVERY, reader).await;
            let seen = seen.expect("readers reach the end").expect("a reader ends");
            check_reader(&sequences, &seen, &mut report);
        }
        report
    }
}

/// Holds the log against what was acknowledged.
pub fn check_log(kept: &[Value], acked: &Acked, report: &mut Report) {
    let mut places: HashMap<(usize, u64), u64> = HashMap::new();
    let mut latest: HashMap<usize, u64> = HashMap::new();
    let mut before = 0;
    for event in kept {
        let Some(name) = event["id"].as_str().and_then(parse) else { continue };
        let sequence = event["sequence"].as_u64().expect("a sequence");
        report.duplicated += usize::from(places.insert(name, sequence).is_some());
        // Each publisher waits for an acknowledgement before it goes on.
        let in_turn = latest.insert(name.0, name.1).is_none_or(|earlier| earlier < name.1);
        report.reordered += usize::from(sequence <= before || !in_turn);
        before = sequence;
    }
    report.acked += acked.len();
    report.lost += acked.iter().filter(|(name, sequence)| places.get(name) != Some(sequence)).count();
}

fn check_reader(kept: &[u64], seen: &[Seen], report: &mut Report) {
    let (mut ids, mut sequences) = (HashSet::new(), HashSet::new());
    let (mut before, mut told) = (0, false);
    for seen in seen {
        match seen {
            Seen::Event { sequence, id } => {
                report.duplicated += usize::from(!ids.insert(id));
                report.reordered += usize::from(*sequence <= before);
                before = *sequence;
                sequences.insert(*sequence);
            }
            Seen::Gap => told = true,
        }
    }
    let missed = kept.iter().filter(|sequence| !sequences.contains(sequence)).count();
    // Nothing in these scenarios is trimmed, so even a declared gap is one too many.
    report.undeclared_gaps += missed;
    assert!(!told, "a reader was told of a gap in a log that has none");
}

fn parse(id: &str) -> Option<(usize, u64)> {
    let (publisher, number) = id.strip_prefix('p')?.split_once('-')?;
    Some((publisher.parse().ok()?, number.parse().ok()?))
}

/// Publishes numbered events until told to stop, each again with the same id until it is acknowledged.
async fn publish(
    apis: Vec<Api>,
    publisher: usize,
    first: u64,
    stop: Arc<AtomicBool>,
    (acked, count): (Arc<Mutex<Acked>>, Arc<AtomicU64>),
) {
    let mut attempts = publisher;
    for n in first.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let event =
            json!({"topic": format!("t.{publisher}"), "payload": n, "id": format!("p{publisher}-{n}")});
        loop {
            attempts += 1;
            let request = apis[attempts % apis.len()].request(Method::POST, "/v1/events").json(&event);
            match Answer::attempt(request.timeout(ANSWER)).await {
                Ok(answer) if answer.status == 201 => {
                    let sequence = answer.body["sequence"].as_u64().expect("a sequence");
                    acked.lock().unwrap_or_else(PoisonError::into_inner).insert((publisher, n), sequence);
                    count.fetch_add(1, Ordering::Relaxed);
                    break;
                }
                Ok(answer) => {
                    assert_eq!(answer.status, 503, "{}", answer.body);
                    assert!(answer.header("retry-after").is_some(), "{}", answer.body);
                }
                Err(_) => {}
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Follows everything over WebSockets, resuming by cursor wherever a node answers, until the event `last` has come.
async fn read(urls: Vec<String>, key: String, mut cursor: String, last: Arc<AtomicU64>) -> Vec<Seen> {
    let bearer = format!("Bearer {key}");
    let mut seen = Vec::new();
    let mut newest = 0;
    for attempt in 0.. {
        let url = &urls[attempt % urls.len()];
        let Ok(mut ws) = Ws::attempt(url, &[("authorization", &bearer)]).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        ws.send(&json!({"type": "subscribe", "id": "1", "topics": ["t.*"], "after": cursor})).await;
        loop {
            let end = last.load(Ordering::Relaxed);
            if end != 0 && newest >= end {
                return seen;
            }
            // The wait ends now and then to look whether there is more to come.
            let Ok(next) = tokio::time::timeout(Duration::from_millis(100), ws.next()).await else {
                continue;
            };
            let Ok(frame) = next else { break };
            match frame["type"].as_str() {
                Some("event") => {
                    newest = frame["sequence"].as_u64().expect("a sequence");
                    cursor = frame["cursor"].as_str().expect("a cursor").to_owned();
                    seen.push(Seen::Event { sequence: newest, id: frame["id"].to_string() });
                }
                Some("gap") => seen.push(Seen::Gap),
                Some("error") => break,
                _ => {}
            }
        }
    }
    seen
}
