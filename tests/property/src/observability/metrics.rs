//! What is collected is exposed to Prometheus: exactly, and for any work.

use crate::generate::crowded;
use crate::world::{World, property};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestCaseResult};
use reqwest::Method;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use weir_testkit::prometheus::promtool;
use weir_testkit::{Answer, Metrics, TestApp, Ws, until};

/// How long a shard may take to count what it has sent, on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// Tenants that are shown by name, as `world.rs` sets it.
const SHOWN: usize = 2;

/// Something that somebody does.
#[derive(Clone, Debug)]
enum Step {
    /// Publishes over REST; some ids repeat.
    Publish { topic: String, id: Option<u8> },
    /// Publishes on a WebSocket.
    Say(String),
    /// Publishes where nothing can be published.
    Nonsense,
    /// Comes with a key that is none.
    Stranger,
    /// Asks for what does not exist, at an address that nobody has asked for before.
    Wander,
}

fn step() -> impl Strategy<Value = (usize, Step)> {
    let step = prop_oneof![
        4 => (crowded(), proptest::option::weighted(0.4, 0..2_u8)).prop_map(|(topic, id)| Step::Publish { topic, id }),
        3 => crowded().prop_map(Step::Say),
        1 => Just(Step::Nonsense),
        1 => Just(Step::Stranger),
        1 => Just(Step::Wander),
    ];
    (0..2_usize, step)
}

/// One case: whose work, at which nodes somebody listens, and what is done at which node.
fn work() -> impl Strategy<Value = (usize, Vec<usize>, Vec<(usize, Step)>)> {
    (0..3_usize, vec(0..2_usize, 1..4), vec(step(), 1..10))
}

/// What one node should count more.
type Expected = BTreeMap<(&'static str, &'static [&'static str]), f64>;

const STORED: (&str, &[&str]) = ("weir_events_published_total", &[]);
const REPEATED: (&str, &[&str]) = ("weir_events_repeated_total", &[]);
const CREATED: (&str, &[&str]) = ("weir_http_requests_total", &["route=\"/v1/events\"", "status=\"201\""]);
const BAD: (&str, &[&str]) = ("weir_http_requests_total", &["route=\"/v1/events\"", "status=\"400\""]);
const NOT_FOUND: (&str, &[&str]) = ("weir_http_requests_total", &["route=\"unmatched\"", "status=\"404\""]);
const INVALID_TOPIC: (&str, &[&str]) = ("weir_errors_total", &["code=\"INVALID_TOPIC\""]);
const STRANGERS: (&str, &[&str]) = ("weir_authentications_total", &["outcome=\"INVALID_API_KEY\""]);
const SAID: (&str, &[&str]) = ("weir_websocket_frames_total", &["frame=\"publish\"", "outcome=\"ok\""]);
const SUBSCRIBED: (&str, &[&str]) =
    ("weir_websocket_frames_total", &["frame=\"subscribe\"", "outcome=\"ok\""]);
const DELIVERED: (&str, &[&str]) = ("weir_events_delivered_total", &[]);

property!(
    /// Feature: realtime-saas-platform, Property 27: For any collected metrics, the system should expose
    /// Prometheus-compatible metrics for monitoring
    prometheus_metrics_exposure,
    work(),
    exposes
);

async fn exposes(
    world: &mut World,
    (whose, listeners, steps): (usize, Vec<usize>, Vec<(usize, Step)>),
) -> TestCaseResult {
    let (_, case) = world.fresh();
    let (app, nodes) = (&world.app, world.app.nodes.len());
    let key = &world.tenants[whose].api_key;
    let before = scrape(app).await;
    let mut expected: Vec<Expected> = vec![Expected::new(); nodes];
    let mut more = |node: usize, what| *expected[node % nodes].entry(what).or_default() += 1.0;
    let mut ears: Vec<Ws> = Vec::new();
    for node in &listeners {
        let mut ear = app.ws_at(*node, key).await;
        ear.subscribe(&[&format!("{case}.>")], None).await;
        more(*node, SUBSCRIBED);
        ears.push(ear);
    }
    let mut known = BTreeSet::new();
    for (number, (node, step)) in steps.iter().enumerate() {
        let api = app.api_at(*node, key);
        match step {
            Step::Publish { topic, id } => {
                // The same id is the same event.
                let (topic, id) = match id {
                    Some(id) => (format!("{case}.same"), format!("{case}-{id}")),
                    None => (format!("{case}.{topic}"), format!("{case}-own-{number}")),
                };
                let event = json!({"topic": topic, "payload": 1, "id": id});
                let answer = answered(async || api.post("/v1/events", &event).await).await;
                prop_assert_eq!(answer.status, 201, "{}", answer.body);
                more(*node, CREATED);
                more(*node, if known.insert(id) { STORED } else { REPEATED });
            }
            Step::Say(topic) => {
                let ear = &mut ears[number % listeners.len()];
                let frame = json!({"type": "publish", "topic": format!("{case}.{topic}"), "payload": number});
                let answer = ear.ask(frame).await;
                prop_assert_eq!(&answer["type"], "published", "{}", answer);
                known.insert(format!("{case}-said-{number}"));
                more(listeners[number % listeners.len()], SAID);
                more(listeners[number % listeners.len()], STORED);
            }
            Step::Nonsense => {
                let event = json!({"topic": "no topic", "payload": 1});
                let answer = answered(async || api.post("/v1/events", &event).await).await;
                prop_assert_eq!(answer.status, 400);
                more(*node, BAD);
                more(*node, INVALID_TOPIC);
            }
            Step::Stranger => {
                let stranger = format!("weir_{}_{}", "0".repeat(32), "0".repeat(38));
                let api = app.api_at(*node, &stranger);
                let answer = answered(async || api.get("/v1/topics", &[]).await).await;
                prop_assert_eq!(answer.status, 401);
                more(*node, STRANGERS);
            }
            Step::Wander => {
                let answer = Answer::of(api.request(Method::GET, &format!("/{case}/{number}"))).await;
                prop_assert_eq!(answer.status, 404);
                more(*node, NOT_FOUND);
            }
        }
    }
    for ear in &mut ears {
        for _ in 0..known.len() {
            ear.event().await;
        }
    }
    for node in &listeners {
        *expected[node % nodes].entry(DELIVERED).or_default() += known.len() as f64;
    }
    let after = settled(app, &before, &expected).await?;
    for (before, after) in before.iter().zip(&after) {
        rises(before, after)?;
        bounded(world, after, &case)?;
    }
    let read = promtool(&["check", "metrics"], after[0].text());
    prop_assert!(read.status.success() && read.stdout.is_empty(), "promtool: {:?}", read);
    for ear in ears {
        ear.close().await;
    }
    Ok(())
}

/// A loaded machine may hold a node up for so long that it refuses requests for a moment.
async fn answered(mut ask: impl AsyncFnMut() -> Answer) -> Answer {
    until("an answer", async || {
        let answer = ask().await;
        (answer.status != 503).then_some(answer)
    })
    .await
}

async fn scrape(app: &TestApp) -> Vec<Metrics> {
    let mut all = Vec::new();
    for node in &app.nodes {
        all.push(node.metrics().await);
    }
    all
}

/// Waits until every node counts what was done there. It never counts more, not even for a moment.
async fn settled(
    app: &TestApp,
    before: &[Metrics],
    expected: &[Expected],
) -> Result<Vec<Metrics>, TestCaseError> {
    let begun = Instant::now();
    let keys =
        [STORED, REPEATED, CREATED, BAD, NOT_FOUND, INVALID_TOPIC, STRANGERS, SAID, SUBSCRIBED, DELIVERED];
    loop {
        let after = scrape(app).await;
        let mut open = Vec::new();
        for ((before, after), expected) in before.iter().zip(&after).zip(expected) {
            for key in keys {
                let wanted = expected.get(&key).copied().unwrap_or_default();
                let count = |metrics: &Metrics| metrics.sum(key.0, key.1).unwrap_or_default();
                let found = count(after) - count(before);
                prop_assert!(found <= wanted, "{key:?}: {found} counted, {wanted} done");
                if found < wanted {
                    open.push(format!("{key:?}: {found} of {wanted}"));
                }
            }
        }
        if open.is_empty() {
            return Ok(after);
        }
        prop_assert!(begun.elapsed() < PATIENCE, "not counted after {:?}: {:?}", PATIENCE, open);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Nothing that only rises has fallen, and a histogram's parts agree.
fn rises(before: &Metrics, after: &Metrics) -> TestCaseResult {
    let kinds = after.kinds();
    let cumulative = |name: &str| {
        let histogram = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        kinds.get(name).is_some_and(|kind| kind == "counter")
            || histogram.is_some_and(|of| kinds.get(of).is_some_and(|kind| kind == "histogram"))
    };
    let now: BTreeMap<_, f64> =
        after.samples().into_iter().map(|sample| ((sample.name, sample.labels), sample.value)).collect();
    for sample in before.samples().into_iter().filter(|sample| cumulative(&sample.name)) {
        let tenants = sample.labels.contains_key("tenant");
        match now.get(&(sample.name.clone(), sample.labels.clone())) {
            Some(value) => prop_assert!(*value >= sample.value, "{:?} fell to {}", sample, value),
            // Others may have become busier.
            None => prop_assert!(tenants, "{:?} vanished", sample),
        }
    }
    for ((name, labels), count) in &now {
        let Some(of) =
            name.strip_suffix("_count").filter(|of| kinds.get(*of).is_some_and(|k| k == "histogram"))
        else {
            continue;
        };
        let mut all = labels.clone();
        all.insert("le".to_owned(), "+Inf".to_owned());
        prop_assert_eq!(now.get(&(format!("{of}_bucket"), all)), Some(count), "{}", name);
    }
    Ok(())
}

/// Nobody's words become labels, and no more tenants are named than may be.
fn bounded(world: &World, after: &Metrics, case: &str) -> TestCaseResult {
    for theirs in [format!("{case}/"), format!("{case}.")] {
        prop_assert!(!after.text().contains(&theirs), "{} is in a label", theirs);
    }
    for tenant in &world.tenants {
        prop_assert!(!after.text().contains(&tenant.project_id));
        let secret = tenant.api_key.rsplit('_').next().unwrap_or_default();
        prop_assert!(!after.text().contains(secret));
    }
    let named: BTreeSet<String> =
        after.samples().into_iter().filter_map(|mut sample| sample.labels.remove("tenant")).collect();
    let known =
        |name: &String| name == "other" || world.tenants.iter().any(|tenant| tenant.tenant_id == *name);
    prop_assert!(named.iter().all(known) && named.contains("other"), "{:?}", named);
    prop_assert!(named.len() <= SHOWN + 1, "{:?}", named);
    Ok(())
}
