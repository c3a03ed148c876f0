//! Properties of what is kept.

use crate::generate::{crowded, pattern, payload};
use crate::retention;
use crate::world::{Backend, World, property};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::TestCaseResult;
use reqwest::Method;
use serde_json::{Value, json};
use weir_core::Pattern;
use weir_testkit::{Answer, Behaviour, Delivery, Receiver, until};

/// Events, one by one or as a batch, and whether the servers are then killed.
fn durable() -> impl Strategy<Value = (Vec<(String, Value)>, bool, bool)> {
    (vec((crowded(), payload()), 1..8), any::<bool>(), prop::bool::weighted(0.1))
}

property!(
    /// Feature: realtime-saas-platform, Property 29: For any published event, the system should persist
    /// events using NATS JetStream for durability
    event_persistence,
    durable(),
    persists
);

async fn persists(
    world: &mut World,
    (events, batch, kill): (Vec<(String, Value)>, bool, bool),
) -> TestCaseResult {
    let (tenant, case) = world.fresh();
    let tenant = tenant.clone();
    let bodies: Vec<Value> = events
        .iter()
        .map(|(topic, payload)| json!({"topic": format!("{case}.{topic}"), "payload": payload}))
        .collect();
    let api = world.app.api(&tenant.api_key);
    let mut acknowledged = Vec::new();
    if batch {
        let mut answer = api.post("/v1/events/batch", &json!({"events": bodies})).await.expect(201);
        if let Value::Array(results) = answer["results"].take() {
            acknowledged = results;
        }
    } else {
        for body in &bodies {
            acknowledged.push(api.post("/v1/events", body).await.expect(201));
        }
    }
    prop_assert_eq!(acknowledged.len(), bodies.len());
    if world.backend == Backend::Cluster {
        // The nodes keep nothing of their own: all there is, is in JetStream (and PostgreSQL).
        prop_assert_eq!(world.app.data_files(), vec![]);
    }
    if kill {
        for node in &mut world.app.nodes {
            node.kill();
        }
        world.app.kill_log().await;
        for node in &mut world.app.nodes {
            node.restart().await;
        }
    }
    let kept = world.app.api_at(1, &tenant.api_key).replay(&format!("{case}.>"), None).await;
    prop_assert_eq!(kept.len(), acknowledged.len());
    for ((kept, answer), body) in kept.iter().zip(&acknowledged).zip(&bodies) {
        for field in ["id", "topic", "sequence", "cursor", "published_at"] {
            prop_assert_eq!(&kept[field], &answer[field]);
        }
        prop_assert_eq!(&kept["payload"], &body["payload"]);
    }
    Ok(())
}

/// How a replay says where it starts.
#[derive(Clone, Copy, Debug)]
enum From {
    Cursor,
    Sequence,
    Time,
}

#[derive(Clone, Debug)]
struct Replay {
    topics: Vec<String>,
    patterns: Vec<String>,
    from: From,
    at: Index,
    limit: usize,
}

fn replay() -> impl Strategy<Value = Replay> {
    let from = prop_oneof![Just(From::Cursor), Just(From::Sequence), Just(From::Time)];
    (vec(crowded(), 1..16), vec(pattern(), 1..4), from, any::<Index>(), 1..10_usize)
        .prop_map(|(topics, patterns, from, at, limit)| Replay { topics, patterns, from, at, limit })
}

property!(
    /// Feature: realtime-saas-platform, Property 30: For any event replay request, the system should provide
    /// cursor-based replay from specific timestamps or sequences
    cursor_based_replay,
    replay(),
    replays
);

async fn replays(world: &mut World, replay: Replay) -> TestCaseResult {
    let (tenant, case) = world.fresh();
    let mut published = Vec::new();
    for (n, topic) in replay.topics.iter().enumerate() {
        let api = world.app.api_at(n, &tenant.api_key);
        published.push(api.publish(&format!("{case}.{topic}"), &json!(n)).await);
    }
    let start = &published[replay.at.index(published.len())];
    // From the start on: a cursor stands behind its event, a sequence and a time include theirs.
    let sequence = start["sequence"].as_u64().unwrap_or_default();
    let number = sequence.to_string();
    let time = start["published_at"].as_str().unwrap_or_default();
    let begin = match replay.from {
        From::Cursor => ("after", start["cursor"].as_str().unwrap_or_default()),
        From::Sequence => ("from_sequence", number.as_str()),
        From::Time => ("from_time", time),
    };
    let included = |event: &Value| match replay.from {
        From::Cursor => event["sequence"].as_u64() > Some(sequence),
        From::Sequence => event["sequence"].as_u64() >= Some(sequence),
        From::Time => event["published_at"].as_str() >= Some(time),
    };
    let patterns: Vec<String> = replay.patterns.iter().map(|pattern| format!("{case}.{pattern}")).collect();
    let parsed: Vec<Pattern> = patterns.iter().map(|pattern| pattern.parse().expect("a pattern")).collect();
    let expected: Vec<u64> = published
        .iter()
        .filter(|event| included(event))
        .filter(|event| parsed.iter().any(|p| p.matches(event["topic"].as_str().unwrap_or_default())))
        .filter_map(|event| event["sequence"].as_u64())
        .collect();

    let (topics, limit) = (patterns.join(","), replay.limit.to_string());
    let mut received = Vec::new();
    let mut begin = (begin.0, begin.1.to_owned());
    for node in 0.. {
        let query = [("topics", topics.as_str()), ("limit", &limit), (begin.0, &begin.1)];
        let page = world.app.api_at(node, &tenant.api_key).get("/v1/events", &query).await.expect(200);
        let events = page["data"].as_array().cloned().unwrap_or_default();
        prop_assert!(events.len() <= replay.limit);
        prop_assert!(page["gap"].is_null(), "{}", page);
        received.extend(events.iter().filter_map(|event| event["sequence"].as_u64()));
        begin = ("after", page["next_cursor"].as_str().unwrap_or_default().to_owned());
        if page["has_more"] != json!(true) {
            break;
        }
    }
    prop_assert_eq!(received, expected);
    // The last cursor is a place to go on from: nothing comes twice.
    let query = [("topics", topics.as_str()), (begin.0, &begin.1)];
    let rest = world.app.api(&tenant.api_key).get("/v1/events", &query).await.expect(200);
    prop_assert_eq!(&rest["data"], &json!([]));
    Ok(())
}

property!(
    /// Feature: realtime-saas-platform, Property 31: For any storage limit reached, the system should
    /// implement retention policies and cleanup procedures
    retention_policy_enforcement,
    retention::case(),
    retention::lets_go
);

/// Events on a few topics, which of them the endpoint refuses, and whether order matters to it.
fn refused() -> impl Strategy<Value = (Vec<(u8, bool)>, bool)> {
    (vec((0..3_u8, prop::bool::weighted(0.4)), 1..10), any::<bool>())
}

property!(
    /// Feature: realtime-saas-platform, Property 32: For any failed event processing, events should be routed
    /// to dead letter queues
    dead_letter_routing,
    refused(),
    buries,
    // Each attempt is a transaction, and on SQLite all wait in one line: a slow disk must not close the access window.
    &[("WEIR_RETENTION_INTERVAL", "1m"), ("WEIR_LIMITS_ACCESS_WINDOW", "30s")]
);

/// What an endpoint refuses is a dead letter with all that it was; what it takes is none; and what it takes later, in the
/// order of its topics, is gone from there.
async fn buries(world: &mut World, (events, ordered): (Vec<(u8, bool)>, bool)) -> TestCaseResult {
    let (tenant, case) = world.fresh();
    let (api, other) = (world.app.api(&tenant.api_key), world.app.api_at(1, &tenant.api_key));
    let receiver = Receiver::start().await;
    receiver.always(Behaviour::AsTold);
    let wish = json!({ "url": receiver.url(), "topics": [format!("{case}.>")], "ordered": ordered });
    let hook = api.post("/v1/admin/webhooks", &wish).await.expect(201);
    let id = hook["id"].as_str().unwrap_or_default();
    let mut published = Vec::new();
    for (n, (topic, fail)) in events.iter().enumerate() {
        let payload = json!({ "n": n, "fail": fail });
        published.push(other.publish(&format!("{case}.{topic}"), &payload).await);
    }
    let failing: Vec<&Value> =
        published.iter().zip(&events).filter(|(_, (_, fail))| *fail).map(|(answer, _)| answer).collect();
    let good = events.len() - failing.len();
    receiver.took("the good ones", |taken| numbers(taken).len() == good).await;
    let query = [("webhook_id", id), ("limit", "100")];
    let letters = until("the others to be dead letters", async || {
        let page = other.get("/v1/admin/dead-letters", &query).await.expect(200);
        let letters = page["data"].as_array()?.clone();
        (letters.len() >= failing.len()).then_some(letters)
    })
    .await;
    prop_assert_eq!(letters.len(), failing.len());
    for letter in &letters {
        let of = failing.iter().find(|answer| answer["id"] == letter["event_id"]);
        prop_assert!(of.is_some(), "{} was not to fail", letter);
        for field in ["topic", "sequence", "cursor"] {
            prop_assert_eq!(Some(&letter[field]), of.map(|of| &of[field]));
        }
        prop_assert_eq!((&letter["attempts"], &letter["reason"]), (&json!(3), &json!("exhausted")));
        let path = format!("/v1/admin/dead-letters/{}", letter["id"].as_str().unwrap_or_default());
        let whole = api.get(&path, &[]).await.expect(200);
        prop_assert_eq!(&whole["event"]["payload"]["fail"], &json!(true));
    }
    receiver.always(Behaviour::Status(200));
    let before = receiver.came().len();
    let redrive = json!({ "webhook_id": id });
    let (one, two) = tokio::join!(
        api.post("/v1/admin/dead-letters/redrive", &redrive),
        other.post("/v1/admin/dead-letters/redrive", &redrive)
    );
    let count = |answer: Answer| answer.expect(200)["redriven"].as_u64().unwrap_or_default();
    prop_assert_eq!(count(one) + count(two), failing.len() as u64, "each once");
    until("no dead letters to be left", async || {
        let page = api.get("/v1/admin/dead-letters", &query).await.expect(200);
        (page["data"] == json!([])).then_some(())
    })
    .await;
    let again = receiver.came().split_off(before);
    prop_assert_eq!(again.len(), failing.len(), "one effect");
    for topic in 0..3 {
        let name = json!(format!("{case}.{topic}"));
        let of_topic: Vec<_> = again.iter().filter(|one| one.body["topic"] == name).cloned().collect();
        prop_assert!(numbers(&of_topic).is_sorted(), "{:?}", numbers(&of_topic));
    }
    Answer::of(api.request(Method::DELETE, &format!("/v1/admin/webhooks/{id}"))).await.expect(200);
    Ok(())
}

/// The numbers of the events, without repetitions.
fn numbers(deliveries: &[Delivery]) -> Vec<u64> {
    let mut numbers: Vec<u64> = Vec::new();
    for one in deliveries {
        let number = one.body["payload"]["n"].as_u64().unwrap_or_default();
        if !numbers.contains(&number) {
            numbers.push(number);
        }
    }
    numbers
}
