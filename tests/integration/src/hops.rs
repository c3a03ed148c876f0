//! One client hops between all transports with one cursor while the nodes that serve it are killed and restarted: what it
//! receives is the log, in order, each event once.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reqwest::Method;
use reqwest::header::ACCEPT;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use weir_testkit::{Answer, Api, EVENT_STREAM, Graphql, Node, Sse, Tenant, TestApp, Ws};

const HOPS: usize = 250;
const RESTARTS: usize = 6;

/// Where a node is reached; it may be down.
#[derive(Clone)]
struct Place {
    api: Api,
    ws: String,
    graphql: String,
}

/// Reads up to `wanted` events after the cursor over a transport of the dice's choice; fewer when the node goes away.
async fn hop(place: &Place, tenant: &Tenant, dice: &mut StdRng, cursor: &str, wanted: usize) -> Vec<Value> {
    let mut events = Vec::new();
    match dice.random_range(0..6) {
        0 => {
            let bearer = format!("Bearer {}", tenant.api_key);
            let Ok(mut ws) = Ws::attempt(&place.ws, &[("authorization", &bearer)]).await else {
                return events;
            };
            ws.send(&json!({"type": "subscribe", "id": "1", "topics": ["news.>"], "after": cursor})).await;
            while events.len() < wanted {
                match ws.next().await {
                    Ok(frame) if frame["type"] == "event" => events.push(frame),
                    Ok(frame) => assert_ne!(frame["type"], "gap", "{frame}"),
                    Err(_) => break,
                }
            }
        }
        1 => {
            let request = place.api.request(Method::GET, "/sse").query(&[("topics", "news.>")]);
            let Ok(mut stream) = Sse::attempt(request.header("last-event-id", cursor)).await else {
                return events;
            };
            while events.len() < wanted {
                match stream.next().await {
                    Some(block) if block.is_message() => events.extend(block.json()),
                    Some(block) => assert_ne!(block.field("event"), Some("gap"), "{block:?}"),
                    None => break,
                }
            }
        }
        2 => {
            let Ok(mut graphql) = Graphql::attempt(&place.graphql, &tenant.api_key).await else {
                return events;
            };
            graphql.stream("1", &["news.>"], Some(cursor)).await;
            while events.len() < wanted {
                let Ok(mut message) = graphql.next().await else { break };
                if message["type"] != "next" {
                    break; // The log is out of reach, or the node ends: an error that says to try again.
                }
                events.push(message["payload"]["data"]["eventStream"].take());
            }
        }
        3 => {
            let body = json!({"query": EVENT_STREAM, "variables": {"topics": ["news.>"], "after": cursor}});
            let request =
                place.api.request(Method::POST, "/graphql").header(ACCEPT, "text/event-stream").json(&body);
            let Ok(mut stream) = Sse::attempt(request).await else { return events };
            while events.len() < wanted {
                let Some(block) = stream.next().await else { break };
                let Some(mut data) = block.json() else { continue };
                if data.get("errors").is_some() {
                    break;
                }
                events.push(data["data"]["eventStream"].take());
            }
        }
        4 => {
            let query = [("topics", "news.>"), ("after", cursor), ("limit", &wanted.to_string())];
            let request = place.api.request(Method::GET, "/v1/events").query(&query);
            let Ok(mut page) = Answer::attempt(request).await else { return events };
            if page.status == 200 {
                assert_eq!(page.body["gap"], Value::Null);
                events.append(page.body["data"].as_array_mut().expect("data"));
            }
        }
        _ => {
            let query = "query($after: String, $first: Int) { events(filter: {topics: [\"news.>\"]}, after: $after, first: $first) {
                edges { node { id sequence cursor payload } } gap { reason } } }";
            let body = json!({"query": query, "variables": {"after": cursor, "first": wanted}});
            let request = place.api.request(Method::POST, "/graphql").json(&body);
            let Ok(mut page) = Answer::attempt(request).await else { return events };
            if page.status == 200 && page.body.get("errors").is_none() {
                let page = &mut page.body["data"]["events"];
                assert_eq!(page["gap"], Value::Null);
                let edges = page["edges"].as_array_mut().expect("edges");
                events.extend(edges.iter_mut().map(|edge| edge["node"].take()));
            }
        }
    }
    assert!(events.iter().all(|event| event["__typename"] != "Gap"), "{events:?}");
    events
}

/// Publishes until told to stop, each event until it is acknowledged.
async fn publish(places: Vec<Place>, stop: Arc<AtomicBool>) {
    let mut n = 0_usize;
    while !stop.load(Ordering::Relaxed) {
        let topic = if n.is_multiple_of(4) { "other".to_owned() } else { format!("news.{}", n % 3) };
        let event = json!({"topic": topic, "payload": n, "id": format!("event-{n}")});
        for attempt in n.. {
            let request = places[attempt % places.len()].api.request(Method::POST, "/v1/events").json(&event);
            if Answer::attempt(request).await.is_ok_and(|answer| answer.status == 201) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        n += 1;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Kills and stops nodes in turn, while the client hops, and starts them again at the same addresses.
async fn restart(mut nodes: Vec<Node>, hopped: Arc<AtomicUsize>) -> Vec<Node> {
    for n in 0..RESTARTS {
        while hopped.load(Ordering::Relaxed) < HOPS * (n + 1) / (RESTARTS + 2) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let count = nodes.len();
        let node = &mut nodes[n % count];
        match n % 3 {
            0 => node.stop().await,
            _ => node.kill(),
        }
        node.restart().await;
    }
    nodes
}

async fn hops(mut app: TestApp) {
    let tenant = app.tenant().await;
    let start = app.api(&tenant.api_key).publish("news.0", &json!("start")).await;
    let start = start["cursor"].as_str().expect("a cursor").to_owned();
    let place = |node: usize| Place {
        api: app.api_at(node, &tenant.api_key),
        ws: app.ws_url(node, ""),
        graphql: app.graphql_url(node, ""),
    };
    let places: Vec<Place> = (0..app.nodes.len()).map(place).collect();
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    let mut dice = StdRng::seed_from_u64(seed);

    let (stop, hopped) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let publisher = tokio::spawn(publish(places.clone(), Arc::clone(&stop)));
    let (nodes, done) = (std::mem::take(&mut app.nodes), AtomicBool::new(false));
    let restarter = async {
        let nodes = restart(nodes, Arc::clone(&hopped)).await;
        done.store(true, Ordering::Relaxed);
        nodes
    };
    let (mut received, mut cursor): (Vec<Value>, String) = (Vec::new(), start.clone());
    let client = async {
        while hopped.load(Ordering::Relaxed) < HOPS || !done.load(Ordering::Relaxed) {
            let place = &places[dice.random_range(0..places.len())];
            let wanted = dice.random_range(1..12);
            let events = hop(place, &tenant, &mut dice, &cursor, wanted).await;
            if events.is_empty() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            } else {
                hopped.fetch_add(1, Ordering::Relaxed);
            }
            received.extend(events);
            if let Some(last) = received.last() {
                cursor = last["cursor"].as_str().expect("a cursor").to_owned();
            }
        }
    };
    let (nodes, ()) = tokio::join!(restarter, client);
    app.nodes = nodes;
    stop.store(true, Ordering::Relaxed);
    publisher.await.expect("the publisher ends");
    received.extend(app.api(&tenant.api_key).replay("news.>", Some(&cursor)).await);

    let logged = app.api(&tenant.api_key).replay("news.>", Some(&start)).await;
    let place = |event: &Value| (event["sequence"].as_u64(), event["id"].clone(), event["payload"].clone());
    let (received, logged): (Vec<_>, Vec<_>) =
        (received.iter().map(place).collect(), logged.iter().map(place).collect());
    assert!(received.len() > HOPS, "only {} events", received.len());
    let differs = received.iter().zip(&logged).position(|(got, want)| got != want);
    assert_eq!(differs.map(|at| (&received[at], &logged[at])), None, "seed {seed}");
    assert_eq!(received.len(), logged.len(), "seed {seed}");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_cursor_serves_all_transports_while_the_node_restarts() {
    hops(TestApp::start().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_cursor_serves_all_transports_while_nodes_restart() {
    hops(TestApp::cluster(2).await).await;
}
