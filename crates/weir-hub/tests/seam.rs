//! The seam between the past and the present: cut anywhere, come back, miss nothing and see nothing twice.

#![allow(clippy::expect_used, clippy::panic)]

mod support;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::thread;
use support::{Ear, PATIENCE, World, config, message, position};
use weir_core::Position;
use weir_hub::{Config, Conn, Dialect, Message};

const CYCLES: u64 = 1000;
const TOPICS: [&str; 4] = ["a.1", "a.2", "b", "c"];

fn topic_of(sequence: u64) -> &'static str {
    TOPICS[(sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 62) as usize]
}

/// The log: everything that was published, from sequence 1.
type Log = RwLock<Vec<Arc<Message>>>;

/// Publishes as fast as the hub takes it, as far as `until` allows, so that history stays small.
fn publish_on(world: &World, log: &Log, until: &AtomicU64, stop: &AtomicBool) {
    let mut rng = StdRng::seed_from_u64(1);
    while !stop.load(Ordering::Relaxed) {
        let first = log.read().expect("log").len() as u64 + 1;
        if first > until.load(Ordering::Relaxed) || world.hub.queued_bytes() > 1 << 20 {
            thread::yield_now();
            continue;
        }
        let batch: Vec<_> =
            (first..first + rng.random_range(1..20)).map(|n| message(n, topic_of(n), 40)).collect();
        // First the log, then the feed: as it is in the engine.
        log.write().expect("log").extend(batch.iter().cloned());
        world.publish(batch);
    }
}

/// Subscribes as the engine does: history from the log until the ring covers the rest.
fn subscribe(world: &World, log: &Log, ear: &Ear, conn: Conn, topics: &[&str], mut after: u64) -> u64 {
    let patterns = support::patterns(topics);
    let mut start = position(after);
    loop {
        match world.attach(conn, topics, Some(start)) {
            Ok(attached) => return attached.head.sequence,
            Err(not_covered) => assert!(not_covered.floor.is_some_and(|floor| floor.sequence != after)),
        }
        let page: Vec<_> = log.read().expect("log")[after as usize..].iter().take(300).cloned().collect();
        after += page.len() as u64;
        // Just read, so there is nothing to compare; the feed may not have come so far.
        start = Position { check: 0, ..position(after) };
        let matching = page.into_iter().filter(|m| patterns.iter().any(|p| p.matches(m.topic.as_str())));
        let before = ear.change(|heard| heard.drained);
        world.hub.send_messages(conn, matching.collect(), true);
        ear.wait("drained", |heard| (heard.drained > before).then_some(()));
    }
}

#[test]
fn a_thousand_cuts_miss_nothing_and_repeat_nothing() {
    let world = Arc::new(World::new(Config { shards: 2, ring_messages: 700, ..config() }));
    let log: Arc<Log> = Arc::default();
    let (until, stop) = (Arc::new(AtomicU64::new(2000)), Arc::new(AtomicBool::new(false)));
    let publisher = {
        let (world, log, until, stop) = (world.clone(), log.clone(), until.clone(), stop.clone());
        thread::spawn(move || publish_on(&world, &log, &until, &stop))
    };
    let mut rng = StdRng::seed_from_u64(2);
    let mut at = 0;
    for cycle in 0..CYCLES {
        let dialect = if rng.random() { Dialect::WebSocket } else { Dialect::Sse };
        let (ear, conn, mut client) = world.connect(dialect);
        subscribe(&world, &log, &ear, conn, &["a.*", "c"], at);
        for _ in 0..rng.random_range(0..300) {
            let sequence = client.sequence();
            let expected = (at + 1..).find(|n| topic_of(*n) != "b").expect("one more");
            assert_eq!(sequence, expected, "cycle {cycle}");
            at = sequence;
        }
        until.store(at + 2000, Ordering::Relaxed);
    }
    stop.store(true, Ordering::Relaxed);
    publisher.join().expect("publisher");
}

#[test]
fn subscriptions_one_after_the_other_are_complete_and_single() {
    let world = Arc::new(World::new(Config { ring_messages: 3000, ..config() }));
    let log: Arc<Log> = Arc::default();
    let (until, stop) = (Arc::new(AtomicU64::new(1000)), Arc::new(AtomicBool::new(false)));
    let publisher = {
        let (world, log, until, stop) = (world.clone(), log.clone(), until.clone(), stop.clone());
        thread::spawn(move || publish_on(&world, &log, &until, &stop))
    };
    // A start is an event of the ring, so there must be some.
    while log.read().expect("log").len() < 500 {
        thread::yield_now();
    }
    for cycle in 0..200 {
        let (_ear, conn, mut client) = world.connect(Dialect::WebSocket);
        let start = log.read().expect("log").len() as u64 - 200;
        // All from the same start, without waiting between them.
        let steps: [&[&str]; 4] = [&["b"], &["a.1", "b"], &["a.*"], &[">"]];
        let answers: Vec<_> =
            steps.iter().map(|step| world.begin_attach(conn, step, Some(position(start)))).collect();
        let mut head = 0;
        for answer in answers {
            head = answer.recv_timeout(PATIENCE).expect("an outcome").expect("covered").head.sequence;
            until.store(head + 1000, Ordering::Relaxed);
        }
        let end = head + 100;
        let mut missing: HashSet<u64> = (start + 1..=end).collect();
        while !missing.is_empty() {
            let sequence = client.sequence();
            assert!(sequence > end || missing.remove(&sequence), "cycle {cycle}: {sequence} came twice");
        }
    }
    stop.store(true, Ordering::Relaxed);
    publisher.join().expect("publisher");
}
