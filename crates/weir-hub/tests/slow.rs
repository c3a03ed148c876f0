//! Readers that do not keep up: bounded, told why, and nobody else notices.

#![allow(clippy::expect_used, clippy::panic)]

mod support;

use bytes::Bytes;
use std::io::Write;
use std::time::Duration;
use support::{Client, Read1, World, config, masked, message, position};
use weir_hub::{ClosedBy, Config, Dialect};

/// Reads events until something else comes; they must follow on each other.
fn events_until_end(client: &mut Client) -> (u64, Read1) {
    let mut last = 0;
    loop {
        match client.read() {
            Read1::Text(text) => {
                assert_eq!(support::sequence_of(&text), last + 1);
                last += 1;
            }
            other => return (last, other),
        }
    }
}

/// Publishes in batches and reads them on a healthy connection, so that the shard makes many passes.
fn publish_and_read(world: &World, healthy: &mut Client, count: u64, size: usize) {
    for first in (1..=count).step_by(10) {
        world.publish((first..first + 10).map(|n| message(n, "a", size)).collect());
        (first..first + 10).for_each(|n| assert_eq!(healthy.sequence(), n));
    }
}

#[test]
fn a_slow_reader_is_closed_and_others_get_all() {
    let world = World::new(Config { backlog_bytes: 200_000, ..config() });
    let (slow_ear, slow, mut slow_client) = world.connect_narrow(Dialect::WebSocket);
    let (_ear, healthy, mut healthy_client) = world.connect(Dialect::WebSocket);
    world.attach(slow, &["a"], None).expect("attached");
    world.attach(healthy, &["a"], None).expect("attached");
    publish_and_read(&world, &mut healthy_client, 1000, 1000);
    assert_eq!(world.hub.stats().slow_consumers, 1);
    let (events, end) = events_until_end(&mut slow_client);
    assert_eq!(end, Read1::Close(4509, "SLOW_CONSUMER".into()));
    assert!(events < 1000);
    assert_eq!(slow_client.read(), Read1::End);
    drop(slow_client);
    let closed = slow_ear.closed();
    assert_eq!((closed.by, closed.code, closed.delivered), (ClosedBy::SlowConsumer, 4509, events));
    world.settle();
    assert_eq!(world.delivered(), 1000 + events, "the meter counts what was delivered, no more");
    assert_eq!(world.hub.stats().delivered, 1000 + events);
    // The client comes back where it was.
    let (_ear, again, mut client) = world.connect(Dialect::WebSocket);
    world.attach(again, &["a"], Some(position(events))).expect("attached");
    (events + 1..=1000).for_each(|n| assert_eq!(client.sequence(), n));
}

#[test]
fn a_slow_event_stream_is_dropped() {
    let world = World::new(Config { backlog_bytes: 200_000, ..config() });
    let (slow_ear, slow, mut slow_client) = world.connect_narrow(Dialect::Sse);
    let (_ear, healthy, mut healthy_client) = world.connect(Dialect::WebSocket);
    world.attach(slow, &["a"], None).expect("attached");
    world.attach(healthy, &["a"], None).expect("attached");
    publish_and_read(&world, &mut healthy_client, 1000, 1000);
    let closed = slow_ear.closed();
    assert_eq!((closed.by, closed.code), (ClosedBy::SlowConsumer, 0));
    let (events, end) = events_until_end(&mut slow_client);
    assert_eq!(end, Read1::End);
    assert!(events >= closed.delivered);
}

#[test]
fn what_the_ring_forgot_cannot_be_sent() {
    let world = World::new(Config { ring_messages: 50, backlog_bytes: 1 << 30, ..config() });
    let (ear, slow, mut slow_client) = world.connect_narrow(Dialect::WebSocket);
    let (_ear, healthy, mut healthy_client) = world.connect(Dialect::WebSocket);
    world.attach(slow, &["a"], None).expect("attached");
    world.attach(healthy, &["a"], None).expect("attached");
    publish_and_read(&world, &mut healthy_client, 1000, 1000);
    let (events, end) = events_until_end(&mut slow_client);
    assert_eq!(end, Read1::Close(4509, "SLOW_CONSUMER".into()));
    assert!(events < 1000);
    drop(slow_client);
    assert_eq!(ear.closed().by, ClosedBy::SlowConsumer);
}

#[test]
fn a_reader_that_stands_still_is_closed_in_time() {
    let world = World::new(Config {
        backlog_age: Duration::from_millis(300),
        close_timeout: Duration::from_millis(300),
        ..config()
    });
    let (ear, conn, client) = world.connect_narrow(Dialect::WebSocket);
    let (other_ear, other, mut other_client) = world.connect_narrow(Dialect::WebSocket);
    world.attach(conn, &["a"], None).expect("attached");
    world.attach(other, &["a"], None).expect("attached");
    world.publish((1..=400).map(|n| message(n, "a", 1000)).collect());
    (1..=400).for_each(|n| assert_eq!(other_client.sequence(), n));
    assert_eq!(ear.closed().by, ClosedBy::SlowConsumer);
    assert!(other_ear.change(|heard| heard.closed.is_empty()));
    drop(client);
}

#[test]
fn a_reader_that_catches_up_is_live_again() {
    let world = World::new(Config { backlog_bytes: 64 << 20, ..config() });
    for dialect in [Dialect::WebSocket, Dialect::Sse] {
        let before = world.delivered();
        let (ear, conn, mut client) = world.connect_narrow(dialect);
        let head = world.attach(conn, &["a", "b.>"], None).expect("attached").head.sequence;
        world.publish((head + 1..=head + 3000).map(|n| message(n, "a", 500)).collect());
        world.settle();
        assert!(ear.change(|heard| heard.closed.is_empty()));
        // Texts and a further subscription find their place between the events of the past and the future.
        world.hub.send(conn, Bytes::from_static(b"between\n\n"), true);
        world.attach(conn, &["c"], Some(position(head))).expect("attached");
        world.publish(vec![message(head + 3001, "c", 5), message(head + 3002, "none", 5)]);
        world.publish(vec![message(head + 3003, "b.1.2", 5)]);
        (1..=3000).for_each(|n| assert_eq!(client.sequence(), head + n));
        assert_eq!(client.text().trim(), "between");
        assert_eq!([client.sequence(), client.sequence()], [head + 3001, head + 3003]);
        ear.wait("drained", |heard| (heard.drained == 1).then_some(()));
        world.publish(vec![message(head + 3004, "a", 5)]);
        assert_eq!(client.sequence(), head + 3004);
        world.settle();
        assert_eq!(world.delivered() - before, 3003);
        drop(client);
        assert_eq!(ear.closed().delivered, 3003);
    }
}

#[test]
fn a_long_way_to_catch_up_is_granted() {
    // What a client asks to be replayed may exceed what it may fall behind.
    let world = World::new(Config { backlog_bytes: 100_000, ..config() });
    world.publish((1..=5000).map(|n| message(n, "a", 500)).collect());
    let (_ear, conn, mut client) = world.connect_narrow(Dialect::WebSocket);
    world.attach(conn, &["a"], Some(position(0))).expect("attached");
    world.publish(vec![message(5001, "a", 500)]);
    (1..=5001).for_each(|n| assert_eq!(client.sequence(), n));
    let (_ear, more, mut client) = world.connect_narrow(Dialect::WebSocket);
    world.attach(more, &["b"], None).expect("attached");
    world.attach(more, &["*"], Some(position(0))).expect("attached");
    (1..=5001).for_each(|n| assert_eq!(client.sequence(), n));
}

#[test]
fn texts_and_pongs_to_a_reader_that_does_not_read_are_bounded() {
    let world = World::new(Config { backlog_bytes: 50_000, ..config() });
    let (ear, conn, mut client) = world.connect_narrow(Dialect::WebSocket);
    while ear.change(|heard| heard.closed.is_empty()) && world.hub.stats().slow_consumers == 0 {
        world.hub.send(conn, Bytes::from(vec![b'x'; 1000]), false);
        world.settle();
    }
    let end = loop {
        match client.read() {
            Read1::Text(text) => assert_eq!(text.len(), 1000),
            other => break other,
        }
    };
    assert_eq!(end, Read1::Close(4509, "SLOW_CONSUMER".into()));
    let (ear, _, mut client) = world.connect_narrow(Dialect::WebSocket);
    client.socket.set_write_timeout(Some(Duration::from_millis(500))).expect("timeout");
    let pings: Vec<u8> = (0..100).flat_map(|_| masked(0x89, &[b'?'; 125])).collect();
    while client.socket.write_all(&pings).is_ok() && world.hub.stats().slow_consumers < 2 {}
    assert_eq!(world.hub.stats().slow_consumers, 2);
    drop(client);
    assert_eq!(ear.closed().by, ClosedBy::SlowConsumer);
}

#[test]
fn all_rings_together_are_bounded() {
    let world = World::new(Config { ring_bytes_total: 1 << 20, ..config() });
    let old = weir_core::ProjectId::new();
    world.hub.open_project(old, position(0), std::sync::Arc::default());
    world.hub.publish(old, (1..=500).map(|n| message(n, "a", 1000)).collect());
    let (_ear, conn, mut client) = world.connect(Dialect::WebSocket);
    world.attach(conn, &["a"], None).expect("attached");
    publish_and_read(&world, &mut client, 3000, 1000);
    world.settle();
    let held = world.hub.stats().ring_bytes;
    assert!((600_000..=1 << 20).contains(&held), "{held}");
    let floor = world.attach(conn, &["b"], Some(position(1))).expect_err("forgotten").floor;
    assert!(floor.is_some_and(|floor| floor.sequence > 1500), "{floor:?}");
}
