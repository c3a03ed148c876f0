//! Properties of what is kept.

use crate::generate::{crowded, pattern, payload};
use crate::world::{Backend, World, property};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::TestCaseResult;
use serde_json::{Value, json};
use weir_core::Pattern;

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
