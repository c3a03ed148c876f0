//! Figures, not checks: `cargo test --release -p weir-log --test jetstream figures -- --ignored --nocapture`.

use super::{options, place_on, stream_name};
use std::sync::Arc;
use std::time::{Duration, Instant};
use weir_core::event::Headers;
use weir_core::{EventId, Pattern, Payload, Timestamp};
use weir_log::jetstream::JetStream;
use weir_log::jetstream::server::{NatsCluster, NatsServer, ServerConfig};
use weir_log::{EventLog, FeedItem, Place, ReadQuery, Record};

const SPAN: Duration = Duration::from_secs(3);

fn record() -> Record {
    Record {
        id: EventId::generate(),
        dedupe: false,
        topic: "orders.created".parse().expect("a topic"),
        payload: Payload::parse(format!("\"{}\"", "x".repeat(198)).as_bytes()).expect("a payload"),
        kind: None,
        headers: Headers::default(),
        published_at: weir_core::Clock::now(&weir_core::SystemClock),
    }
}

/// Acks per second with so many appends of one record under way.
async fn acks(log: &Arc<JetStream>, place: &Place, under_way: usize) {
    let started = Instant::now();
    let tasks: Vec<_> = (0..under_way)
        .map(|_| {
            let (log, place) = (Arc::clone(log), place.clone());
            tokio::spawn(async move {
                let mut times = Vec::new();
                while started.elapsed() < SPAN {
                    let sent = Instant::now();
                    log.append(&place, vec![record()]).await.expect("append");
                    times.push(sent.elapsed());
                }
                times
            })
        })
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.expect("a publisher"));
    }
    let rate = times.len() as f64 / started.elapsed().as_secs_f64();
    println!("{under_way:>5} in flight: {rate:>8.0} acks/s  {}", spread(times));
}

fn spread(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    format!("p50 {:?} p99 {:?}", at(0.5), at(0.99))
}

/// From the call of append to the feed's item, at a steady rate.
async fn latency(log: &Arc<JetStream>, place: &Place, rate: u32) {
    let Some(mut feed) = log.feed() else { return };
    log.watch(place).await.expect("watch");
    let (publisher, place) = (Arc::clone(log), place.clone());
    let total = rate * SPAN.as_secs() as u32;
    let publishing = tokio::spawn(async move {
        let mut tick = tokio::time::interval(Duration::from_secs(1) / rate);
        for _ in 0..total {
            tick.tick().await;
            drop(publisher.append(&place, vec![record()]));
        }
    });
    let mut times = Vec::new();
    while times.len() < total as usize {
        if let Some(FeedItem::Events { events, .. }) = feed.recv().await {
            let now: Timestamp = weir_core::Clock::now(&weir_core::SystemClock);
            times.extend(events.iter().map(|event| now.since(event.published_at)));
        }
    }
    publishing.await.expect("the publisher");
    println!("feed at {rate}/s: {}", spread(times));
}

async fn replay(log: &Arc<JetStream>, place: &Place) {
    let started = Instant::now();
    let (mut after, mut count) = (0, 0);
    loop {
        let query =
            ReadQuery { after, patterns: [Pattern::all()].into(), max_events: 1000, max_bytes: 4 << 20 };
        let page = log.read(place, query).await.expect("read");
        (after, count) = (page.through, count + page.events.len());
        if page.at_head || started.elapsed() > SPAN {
            break;
        }
    }
    println!("replay: {:.0} events/s ({count})", count as f64 / started.elapsed().as_secs_f64());
}

async fn measure(urls: Vec<String>, replicas: usize) {
    println!("R{replicas}, sync_interval: always, 200 B");
    let log = JetStream::connect(options(urls, replicas)).await.expect("connect");
    let place = place_on(&stream_name());
    latency(&log, &place, 1000).await;
    log.unwatch(place.project);
    for under_way in [1, 16, 256, 1024] {
        acks(&log, &place, under_way).await;
    }
    replay(&log, &place).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures for half a minute"]
async fn figures() {
    let server = NatsServer::start(ServerConfig::default()).await.expect("a server");
    measure(vec![server.url()], 1).await;
    drop(server);
    let cluster = NatsCluster::start(3).await.expect("a cluster");
    measure(cluster.urls(), 3).await;
}
