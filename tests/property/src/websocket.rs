//! Properties of WebSocket connections.

use crate::generate::{crowded, pattern, payload};
use crate::world::{World, property};
use futures::future::join_all;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use serde_json::{Value, json};
use weir_core::Pattern;
use weir_testkit::Ws;

/// How a WebSocket shows who it is.
#[derive(Clone, Copy, Debug)]
enum Entry {
    KeyHeader,
    TokenHeader,
    TokenQuery,
    Ticket,
    KeyFrame,
    TokenFrame,
}

fn entry() -> impl Strategy<Value = Entry> {
    prop_oneof![
        Just(Entry::KeyHeader),
        Just(Entry::TokenHeader),
        Just(Entry::TokenQuery),
        Just(Entry::Ticket),
        Just(Entry::KeyFrame),
        Just(Entry::TokenFrame),
    ]
}

property!(
    /// Feature: realtime-saas-platform, Property 6: For any valid authentication credentials, WebSocket
    /// connections should be accepted and enable event streaming
    websocket_establishment,
    (entry(), 0..2_usize, crowded(), payload()),
    establishes
);

async fn establishes(
    world: &mut World,
    (entry, node, topic, payload): (Entry, usize, String, Value),
) -> TestCaseResult {
    let (tenant, case) = world.fresh();
    let all = format!("{case}.>");
    let token = tenant.token(&[&all], &[&all]);
    let (query, header, frame) = match entry {
        Entry::KeyHeader => (String::new(), Some(&tenant.api_key), None),
        Entry::TokenHeader => (String::new(), Some(&token), None),
        Entry::TokenQuery => (format!("?token={token}"), None, None),
        // Made at one node, used at the other.
        Entry::Ticket => {
            (format!("?ticket={}", world.app.api_at(node + 1, &tenant.api_key).ticket().await), None, None)
        }
        Entry::KeyFrame => (String::new(), None, Some(&tenant.api_key)),
        Entry::TokenFrame => (String::new(), None, Some(&token)),
    };
    let bearer = header.map(|key| format!("Bearer {key}"));
    let headers: Vec<(&str, &str)> = bearer.iter().map(|value| ("authorization", value.as_str())).collect();
    let mut ws = match Ws::attempt(&world.app.ws_url(node, &query), &headers).await {
        Ok(ws) => ws,
        Err(refusal) => return Err(TestCaseError::fail(format!("not accepted: {refusal:?}"))),
    };
    if let Some(token) = frame {
        ws.send(&json!({"type": "connect", "token": token})).await;
    }
    let connected = ws.expect("connected").await;
    prop_assert!(connected["connection_id"].as_str().is_some_and(|id| id.starts_with("con_")));

    ws.subscribe(&[&all], None).await;
    let answer =
        ws.ask(json!({"type": "publish", "topic": format!("{case}.{topic}"), "payload": payload})).await;
    prop_assert_eq!(&answer["type"], "published");
    let event = ws.event().await;
    prop_assert_eq!(&event["sequence"], &answer["sequence"]);
    prop_assert_eq!(&event["payload"], &payload);
    ws.close().await;
    Ok(())
}

property!(
    /// Feature: realtime-saas-platform, Property 7: For any event published to subscribed topics, all
    /// connected WebSocket clients should receive the event in real-time
    real_time_delivery,
    (vec(vec(pattern(), 1..4), 1..6), vec(crowded(), 1..16)),
    delivers
);

async fn delivers(world: &mut World, (clients, topics): (Vec<Vec<String>>, Vec<String>)) -> TestCaseResult {
    let (tenant, case) = world.fresh();
    let mut sockets = Vec::new();
    for (n, patterns) in clients.iter().enumerate() {
        let own: Vec<String> = patterns.iter().map(|pattern| format!("{case}.{pattern}")).collect();
        let mut ws = world.app.ws_at(n, &tenant.api_key).await;
        let mut names: Vec<&str> = own.iter().map(String::as_str).collect();
        let end = format!("{case}.end");
        names.push(&end);
        ws.subscribe(&names, None).await;
        let patterns: Vec<Pattern> = names.iter().map(|name| name.parse().expect("a pattern")).collect();
        sockets.push((ws, patterns));
    }
    let mut published = Vec::new();
    for (n, topic) in topics.iter().map(String::as_str).chain(["end"]).enumerate() {
        let topic = format!("{case}.{topic}");
        let answer = world.app.api_at(n, &tenant.api_key).publish(&topic, &json!(n)).await;
        published.push((topic, answer["sequence"].as_u64().expect("a sequence"), n));
    }
    prop_assert!(published.is_sorted_by_key(|(_, sequence, _)| *sequence));
    for (mut ws, patterns) in sockets {
        // Each client gets what it asked for, once, in the project's one order, and nothing else.
        for (topic, sequence, n) in published.iter().filter(|(t, ..)| patterns.iter().any(|p| p.matches(t))) {
            let event = ws.event().await;
            prop_assert_eq!(&event["sequence"], &json!(sequence));
            prop_assert_eq!(&event["topic"], &json!(topic));
            prop_assert_eq!(&event["payload"], &json!(n));
        }
        ws.close().await;
    }
    Ok(())
}

/// Events published before the drop, while the client is away, and after its return.
fn outage() -> impl Strategy<Value = (usize, usize, usize, bool)> {
    (1..6_usize, 0..12_usize, 0..4_usize, any::<bool>())
}

property!(
    /// Feature: realtime-saas-platform, Property 9: For any network-induced connection drop, the system
    /// should handle reconnection gracefully with proper error messaging
    graceful_reconnection,
    outage(),
    reconnects
);

async fn reconnects(
    world: &mut World,
    (before, away, after, orderly): (usize, usize, usize, bool),
) -> TestCaseResult {
    let (tenant, case) = world.fresh();
    let topic = format!("{case}.news");
    let publisher = world.app.api(&tenant.api_key);
    let mut ws = world.app.ws_at(0, &tenant.api_key).await;
    let mut cursor = ws.subscribe(&[&topic], None).await["cursor"].clone();
    let mut received = Vec::new();
    for n in 0..before {
        publisher.publish(&topic, &json!(n)).await;
        let event = ws.event().await;
        cursor = event["cursor"].clone();
        received.push(event["payload"].clone());
    }
    // Without a close frame the socket just breaks, as a network does it.
    match orderly {
        true => ws.close().await,
        false => drop(ws),
    }
    for n in before..before + away {
        publisher.publish(&topic, &json!(n)).await;
    }
    let mut ws = world.app.ws_at(1, &tenant.api_key).await;
    let answer = ws.subscribe(&[&topic], cursor.as_str()).await;
    prop_assert_eq!(&answer["recovered"], &json!(true));
    for n in before + away..before + away + after {
        publisher.publish(&topic, &json!(n)).await;
    }
    while received.len() < before + away + after {
        received.push(ws.event().await["payload"].clone());
    }
    prop_assert_eq!(received, (0..before + away + after).map(Value::from).collect::<Vec<Value>>());

    // A cursor that was not issued here is refused by name, and the connection goes on.
    let forged = format!("{}A", &cursor.as_str().unwrap_or_default()[1..]);
    let refused =
        ws.ask(json!({"type": "subscribe", "topics": [format!("{case}.other")], "after": forged})).await;
    prop_assert_eq!(&refused["type"], "error");
    prop_assert_eq!(&refused["error"]["code"], "INVALID_CURSOR");
    prop_assert!(refused["error"]["message"].as_str().is_some_and(|text| !text.is_empty()));
    ws.send(&json!({"type": "ping"})).await;
    ws.expect("pong").await;
    ws.close().await;
    Ok(())
}

/// Connections that the tenant and the project may have, and how many come at once.
fn quotas() -> impl Strategy<Value = (u32, Option<u32>, u32)> {
    (1..6_u32, proptest::option::of(1..6_u32), 1..10_u32)
}

property!(
    /// Feature: realtime-saas-platform, Property 8: For any tenant and project, WebSocket connections should
    /// be limited according to configured quotas
    connection_limits,
    quotas(),
    limits_connections
);

async fn limits_connections(
    world: &mut World,
    (of_tenant, of_project, attempts): (u32, Option<u32>, u32),
) -> TestCaseResult {
    let (tenant, _) = world.fresh();
    world.app.set_limits(tenant, &json!({"connections": of_tenant})).await;
    world.app.set_project_limits(tenant, &json!({"connections": of_project})).await;
    let limit = of_project.map_or(of_tenant, |of_project| of_project.min(of_tenant));
    let connect = async |node: u32| {
        let bearer = format!("Bearer {}", tenant.api_key);
        let url = world.app.ws_url(node as usize, "");
        let mut ws = Ws::attempt(&url, &[("authorization", &bearer)]).await.expect("the upgrade comes first");
        let first = ws.next().await.expect("a frame");
        (ws, first)
    };
    // Over all nodes together there are as many as the limit allows, and no more.
    let mut open = Vec::new();
    for (mut ws, first) in join_all((0..attempts).map(connect)).await {
        if first["type"] == "connected" {
            open.push(ws);
            continue;
        }
        prop_assert_eq!(&first["error"]["code"], "PROJECT_LIMIT_EXCEEDED");
        let of =
            if first["error"]["details"]["what"] == "connections" { Some(of_tenant) } else { of_project };
        prop_assert_eq!(&first["error"]["details"]["limit"], &json!(of));
        prop_assert_eq!(ws.end().await.1.code, Some(4530));
    }
    prop_assert_eq!(open.len(), attempts.min(limit) as usize);
    // Where one goes another may come, on the other node too.
    if let Some(ws) = open.pop() {
        ws.close().await;
        let (ws, first) = connect(attempts).await;
        prop_assert_eq!(&first["type"], "connected");
        open.push(ws);
    }
    for ws in open {
        ws.close().await;
    }
    world.nothing_open().await;
    Ok(())
}

/// Connections that are open when the tenant is suspended: at which nodes.
fn open_connections() -> impl Strategy<Value = Vec<usize>> {
    vec(0..2_usize, 0..6)
}

property!(
    /// Feature: realtime-saas-platform, Property 10: For any suspended tenant, all WebSocket connections for
    /// that tenant should be immediately terminated
    suspension,
    (open_connections(), 0..2_usize),
    suspends
);

async fn suspends(world: &mut World, (open, at): (Vec<usize>, usize)) -> TestCaseResult {
    let (tenant, case) = world.fresh();
    let (topic, other) = (format!("{case}.x"), &world.tenants[1]);
    let mut bystander = world.app.ws_at(at, &other.api_key).await;
    bystander.subscribe(&[&topic], None).await;
    let token = tenant.token(&[&topic], &[]);
    let mut doomed = Vec::new();
    for (n, node) in open.iter().enumerate() {
        let credential = if n % 2 == 0 { &tenant.api_key } else { &token };
        let mut ws = world.app.ws_at(*node, credential).await;
        ws.subscribe(&[&topic], None).await;
        doomed.push(ws);
    }
    let operator = world.app.api_at(at, &world.staff().await.operator);
    let path = format!("/v1/admin/tenants/{}", tenant.tenant_id);
    let suspended = operator.post(&format!("{path}/suspend"), &json!({"reason": "unpaid"})).await.expect(200);
    let nodes = world.app.nodes.len();
    let enforced = json!({"nodes": nodes, "of": nodes, "connections_closed": open.len()});
    prop_assert_eq!(&suspended["enforced"], &enforced);
    for mut ws in doomed {
        let (frames, ended) = ws.end().await;
        prop_assert_eq!(ended.code, Some(4402));
        prop_assert!(frames.iter().all(|frame| frame["type"] != "event"), "{:?}", frames);
    }
    // Nobody comes back, by whatever node, and nobody else notices.
    for node in 0..nodes {
        for credential in [&tenant.api_key, &token] {
            let bearer = format!("Bearer {credential}");
            let back = Ws::attempt(&world.app.ws_url(node, ""), &[("authorization", &bearer)]).await;
            prop_assert_eq!(back.map(drop).map_err(|refusal| refusal.0), Err(403));
        }
    }
    world.app.api_at(at, &other.api_key).publish(&topic, &json!("goes on")).await;
    prop_assert_eq!(&bystander.event().await["payload"], "goes on");
    bystander.close().await;
    operator.post(&format!("{path}/resume"), &json!({})).await.expect(200);
    world.app.api_at(at, &tenant.api_key).publish(&topic, &json!("back")).await;
    Ok(())
}
