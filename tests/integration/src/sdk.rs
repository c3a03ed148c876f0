//! The Rust client against real servers: what it promises on top of the protocol.

use futures::StreamExt;
use serde_json::json;
use std::time::Duration;
use weir_client::{Client, Delivery, NewEvent, ReplayQuery, Transport};
use weir_testkit::{TestApp, within};

const EVENTS: u64 = 200;

fn client(app: &TestApp, node: usize, key: &str) -> Client {
    let address = app.nodes[node].address();
    Client::builder(format!("http://{address}")).api_key(key).build().expect("a client")
}

/// Publishes while the server dies and comes back; the subscription notices nothing but a pause.
async fn outlives_the_server(transport: Transport) {
    let mut app = TestApp::start().await;
    let tenant = app.tenant().await;
    let client = client(&app, 0, &tenant.api_key);
    let mut events = client.subscribe(["news.*"]).transport(transport).connect().await.expect("subscribed");
    let publisher = tokio::spawn({
        let client = client.clone();
        async move {
            for n in 0..EVENTS {
                let event = NewEvent::new(format!("news.{}", n % 3), &json!(n)).expect("an event");
                // The client repeats it with one id until it is acknowledged or gives up.
                while client.publish(event.clone()).await.is_err() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
    });
    let mut received = Vec::new();
    while received.len() < EVENTS as usize {
        match within("an event", events.next()).await.expect("the stream goes on").expect("no error") {
            Delivery::Event(event) => received.push(event.payload_as::<u64>().expect("a number")),
            Delivery::Gap(gap) => panic!("{gap}"),
        }
        if received.len() % 60 == 0 {
            app.nodes[0].kill();
            app.nodes[0].restart().await;
        }
    }
    publisher.await.expect("the publisher ends");
    assert_eq!(received, (0..EVENTS).collect::<Vec<u64>>());
    drop((events, client));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_subscription_outlives_the_server() {
    outlives_the_server(Transport::WebSocket).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_sse_subscription_outlives_the_server() {
    outlives_the_server(Transport::Sse).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn history_and_topics_are_read_at_another_node() {
    let app = TestApp::cluster(2).await;
    let tenant = app.tenant().await;
    let (one, two) = (client(&app, 0, &tenant.api_key), client(&app, 1, &tenant.api_key));
    let events: Vec<NewEvent> =
        (0..100).map(|n| NewEvent::new(format!("t.{}", n % 4), &json!(n)).expect("an event")).collect();
    let published = one.publish_batch(&events).await.expect("accepted");
    assert!(published.iter().all(Result::is_ok));
    let replayed: Vec<Delivery> =
        two.replay(ReplayQuery::new(["t.*"])).map(|delivery| delivery.expect("no error")).collect().await;
    let numbers: Vec<u64> = replayed
        .iter()
        .map(|delivery| match delivery {
            Delivery::Event(event) => event.payload_as().expect("a number"),
            Delivery::Gap(gap) => panic!("{gap}"),
        })
        .collect();
    assert_eq!(numbers, (0..100).collect::<Vec<u64>>());
    let topics: Vec<String> =
        two.topics().await.expect("topics").into_iter().map(|head| head.topic).collect();
    assert_eq!(topics, ["t.0", "t.1", "t.2", "t.3"]);
    drop((one, two));
    app.finish().await;
}
