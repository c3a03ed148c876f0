//! Properties of event streams.

use crate::generate::{below, name, payload};
use crate::world::{World, property};
use futures::future::join_all;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use reqwest::Method;
use serde_json::{Value, json};
use weir_testkit::{CONNECTIONS, Sse, until};

/// How an event stream shows who it is.
#[derive(Clone, Copy, Debug)]
enum Entry {
    Bearer,
    ApiKeyHeader,
    TokenHeader,
    TokenQuery,
    Ticket,
}

fn entry() -> impl Strategy<Value = Entry> {
    prop_oneof![
        Just(Entry::Bearer),
        Just(Entry::ApiKeyHeader),
        Just(Entry::TokenHeader),
        Just(Entry::TokenQuery),
        Just(Entry::Ticket),
    ]
}

property!(
    /// Feature: realtime-saas-platform, Property 11: For any valid authentication credentials, SSE
    /// connections should be established as persistent HTTP connections for event streaming
    sse_establishment,
    (entry(), 0..2_usize, 1..4_usize),
    establishes
);

async fn establishes(world: &mut World, (entry, node, events): (Entry, usize, usize)) -> TestCaseResult {
    let (tenant, case) = world.fresh();
    let all = format!("{case}.>");
    let token = tenant.token(&[&all], &[]);
    let api = world.app.nodes[node % world.app.nodes.len()].api();
    let request = api.request(Method::GET, "/sse").query(&[("topics", &all)]);
    let request = match entry {
        Entry::Bearer => request.bearer_auth(&tenant.api_key),
        Entry::ApiKeyHeader => request.header("x-api-key", &tenant.api_key),
        Entry::TokenHeader => request.bearer_auth(&token),
        Entry::TokenQuery => request.query(&[("token", &token)]),
        Entry::Ticket => {
            let ticket = world.app.api_at(node + 1, &tenant.api_key).ticket().await;
            request.query(&[("ticket", ticket)])
        }
    };
    let mut stream = Sse::open(request).await;
    prop_assert_eq!(stream.headers.get("cache-control").and_then(|v| v.to_str().ok()), Some("no-store"));
    prop_assert_eq!(stream.headers.get("x-accel-buffering").and_then(|v| v.to_str().ok()), Some("no"));
    // Persistent: one response carries one event after the other.
    for n in 0..events {
        world.app.api(&tenant.api_key).publish(&format!("{case}.x"), &json!(n)).await;
        prop_assert_eq!(&stream.event().await["payload"], &json!(n));
    }
    Ok(())
}

property!(
    /// Feature: realtime-saas-platform, Property 12: For any event published to subscribed topics, SSE
    /// delivery should use proper Server-Sent Events formatting
    sse_formatting,
    (0..2_usize, vec((below(), payload(), option::of(name())), 1..5)),
    formats
);

async fn formats(
    world: &mut World,
    (node, events): (usize, Vec<(String, Value, Option<String>)>),
) -> TestCaseResult {
    let (tenant, case) = world.fresh();
    let mut stream = world.app.sse_at(node, &tenant.api_key, &format!("{case}.>"), None).await;
    for (topic, payload, kind) in events {
        let mut body = json!({"topic": format!("{case}.{topic}"), "payload": payload});
        if let Some(kind) = kind {
            body["type"] = json!(kind);
        }
        let accepted = world.app.api(&tenant.api_key).post("/v1/events", &body).await.expect(201);
        let block = stream.data().await;
        // Exactly an id line and one data line: no event name, so that `onmessage` fires.
        let names: Vec<&str> = block.fields.iter().map(|(name, _)| name.as_str()).collect();
        prop_assert_eq!(names, ["id", "data"]);
        prop_assert_eq!(block.field("id"), accepted["cursor"].as_str());
        let event = block.json().unwrap_or_default();
        for field in ["id", "topic", "sequence", "cursor", "published_at"] {
            prop_assert_eq!(&event[field], &accepted[field]);
        }
        prop_assert_eq!(&event["payload"], &body["payload"]);
        prop_assert_eq!(event.get("type"), body.get("type"));
    }
    Ok(())
}

property!(
    /// Feature: realtime-saas-platform, Property 13: For any tenant, SSE connections should be limited
    /// according to per-tenant connection quotas
    sse_quotas,
    (1..6_usize, 1..10_usize),
    limits_streams
);

async fn limits_streams(world: &mut World, (limit, attempts): (usize, usize)) -> TestCaseResult {
    let (tenant, case) = world.fresh();
    world.app.set_limits(tenant, &json!({"connections": limit})).await;
    let topic = format!("{case}.x");
    let request = |node: usize| {
        let api = world.app.api_at(node, &tenant.api_key);
        api.request(Method::GET, "/sse").query(&[("topics", &topic)])
    };
    let answers = join_all((0..attempts).map(|node| Sse::attempt(request(node)))).await;
    let (mut open, mut refused) = (Vec::new(), 0);
    for answer in answers {
        match answer {
            Ok(stream) => open.push(stream),
            Err(why) => {
                prop_assert!(why.starts_with("429") && why.contains("PROJECT_LIMIT_EXCEEDED"), "{}", why);
                refused += 1;
            }
        }
    }
    prop_assert_eq!((open.len(), refused), (attempts.min(limit), attempts.saturating_sub(limit)));
    // Another tenant's streams are counted for themselves.
    let neighbour = world.app.sse_at(attempts, &world.tenants[1].api_key, &topic, None).await;
    drop((open, neighbour));
    world.nothing_open().await;
    Ok(())
}

property!(
    /// Feature: realtime-saas-platform, Property 14: For any SSE client disconnection, the system should
    /// clean up resources and update connection counts accurately
    sse_cleanup,
    vec(any::<bool>(), 1..8),
    cleans_up
);

async fn cleans_up(world: &mut World, stay: Vec<bool>) -> TestCaseResult {
    let (tenant, case) = world.fresh();
    let topic = format!("{case}.x");
    counted(world, 0).await;
    let mut open = Vec::new();
    for n in 0..stay.len() {
        open.push(world.app.sse_at(n, &tenant.api_key, &topic, None).await);
    }
    counted(world, stay.len()).await;
    // Those that stay are not disturbed by those that go.
    let mut stays = stay.iter();
    open.retain(|_| *stays.next().unwrap_or(&false));
    counted(world, open.len()).await;
    world.app.api(&tenant.api_key).publish(&topic, &json!("still here")).await;
    for stream in &mut open {
        prop_assert_eq!(&stream.event().await["payload"], &json!("still here"));
    }
    drop(open);
    counted(world, 0).await;
    Ok(())
}

/// Waits until all nodes together count this many event streams.
async fn counted(world: &World, expected: usize) {
    until(&format!("{expected} event streams to be counted"), async || {
        let mut counted = 0.0;
        for node in &world.app.nodes {
            counted += node.metrics().await.sum(CONNECTIONS, &["transport=\"sse\""])?;
        }
        (counted == expected as f64).then_some(())
    })
    .await;
}
