//! Operations: several subscriptions on one connection, each in its own words and from its own start.

#![allow(clippy::expect_used, clippy::panic)]

mod support;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, channel};
use support::{Client, PATIENCE, Read1, World, config, goodbye, message, patterns, position};
use weir_core::Position;
use weir_hub::{Attach, Attached, ClosedBy, Config, Conn, Dialect, Message, NotCovered, Operation, Shape};

/// Shows an event as its key and its body.
struct Tag {
    key: String,
    rendered: Arc<AtomicUsize>,
}

impl Shape for Tag {
    fn key(&self) -> &str {
        &self.key
    }

    fn render(&self, message: &Message, out: &mut Vec<u8>) {
        self.rendered.fetch_add(1, Relaxed);
        out.extend_from_slice(self.key.as_bytes());
        out.extend_from_slice(&message.body);
    }
}

fn operation(dialect: Dialect, id: u32, key: &str, rendered: &Arc<AtomicUsize>) -> Arc<Operation> {
    let (before, after) = match dialect {
        Dialect::WebSocket => ("", ""),
        Dialect::Sse => ("event: next\ndata: ", "\n\n"),
    };
    Arc::new(Operation {
        id,
        prefix: format!("{before}{id}>").into(),
        suffix: format!("<{after}").into(),
        shape: Arc::new(Tag { key: key.into(), rendered: Arc::clone(rendered) }),
    })
}

/// An operation whose shape nobody counts.
fn tagged(dialect: Dialect, id: u32) -> Arc<Operation> {
    operation(dialect, id, "t", &Arc::default())
}

fn begin(
    world: &World,
    conn: Conn,
    operation: &Arc<Operation>,
    topics: &[&str],
    after: Option<Position>,
) -> Receiver<Result<Attached, NotCovered>> {
    let (sender, receiver) = channel();
    let attach = Attach {
        project: world.project,
        patterns: patterns(topics),
        operation: Some(Arc::clone(operation)),
        after,
        preface: Some(Box::new(|_| Vec::new())),
        done: Box::new(move |outcome| {
            sender.send(outcome).ok();
        }),
    };
    world.hub.attach(conn, attach);
    receiver
}

fn attach(world: &World, conn: Conn, operation: &Arc<Operation>, topics: &[&str], after: Option<Position>) {
    let outcome = begin(world, conn, operation, topics, after).recv_timeout(PATIENCE).expect("an outcome");
    outcome.expect("attached");
}

fn end(world: &World, conn: Conn, id: u32) {
    let (sender, done) = channel();
    world.hub.detach_operation(conn, id, Box::new(move || sender.send(()).expect("heard")));
    done.recv_timeout(PATIENCE).expect("ended");
}

/// The operation and the sequence of a text.
fn parse(text: &str) -> (u32, u64) {
    let text = text.strip_prefix("event: next\ndata: ").unwrap_or(text);
    let inner = text.strip_suffix('<').unwrap_or_else(|| panic!("a whole event: {text}"));
    let (id, event) = inner.split_once('>').expect("an operation");
    let sequence = event.trim_start_matches(char::is_alphabetic).split(':').next().expect("a sequence");
    (id.parse().expect("a number"), sequence.parse().expect("a number"))
}

fn next(client: &mut Client) -> (u32, u64) {
    parse(&client.text())
}

#[test]
fn overlapping_operations_each_hear_of_an_event() {
    for dialect in [Dialect::WebSocket, Dialect::Sse] {
        let world = World::new(config());
        let (_ear, conn, mut client) = world.connect(dialect);
        let (_plain_ear, plain, mut plain_client) = world.connect(dialect);
        attach(&world, conn, &tagged(dialect, 7), &["a.*", "a.1"], None);
        attach(&world, conn, &tagged(dialect, 8), &["a.1", "b"], None);
        world.attach(plain, &["a.*", "a.1"], None).expect("attached");
        let topics = ["a.1", "a.2", "b", "c", "a.1"];
        world.publish(topics.iter().zip(1..).map(|(topic, n)| message(n, topic, 20)).collect());
        let heard: Vec<_> = (0..6).map(|_| next(&mut client)).collect();
        assert_eq!(heard, [(7, 1), (8, 1), (7, 2), (8, 3), (7, 5), (8, 5)]);
        assert_eq!([1, 2, 5].map(|_| plain_client.sequence()), [1, 2, 5]);
        world.settle();
        assert_eq!(world.delivered(), 9, "each copy is a delivery");
    }
}

#[test]
fn a_shape_is_rendered_once_for_all_who_asked_for_it() {
    let world = World::new(config());
    let (one, other) = (Arc::default(), Arc::default());
    let mut clients = Vec::new();
    for n in 0..40 {
        let dialect = if n % 4 == 0 { Dialect::Sse } else { Dialect::WebSocket };
        let (ear, conn, client) = world.connect(dialect);
        let (key, rendered) = if n % 2 == 0 { ("even", &one) } else { ("odd", &other) };
        attach(&world, conn, &operation(dialect, n, key, rendered), &["a"], None);
        clients.push((ear, client, key, n));
    }
    for n in 1..=5 {
        world.publish(vec![message(n, "a", 1000)]);
        for (_, client, key, id) in &mut clients {
            let text = client.text();
            assert_eq!(parse(&text), (*id, n));
            assert!(text.contains(&format!("{id}>{key}{n}:")), "{text}");
        }
    }
    assert_eq!([one, other].map(|rendered| rendered.load(Relaxed)), [5, 5]);
}

#[test]
fn every_operation_has_its_own_start_and_seam() {
    for dialect in [Dialect::WebSocket, Dialect::Sse] {
        let world = World::new(config());
        world.publish((1..=6).map(|n| message(n, "a", 10)).collect());
        let (ear, conn, mut client) = world.connect(dialect);
        attach(&world, conn, &tagged(dialect, 1), &["a"], Some(position(4)));
        assert_eq!([next(&mut client), next(&mut client)], [(1, 5), (1, 6)]);
        // History from the log for the second, while the first is live.
        let second = tagged(dialect, 2);
        let page = (1..=3).map(|n| message(n, "a", 10)).collect();
        world.hub.send_to_operation(conn, Arc::clone(&second), page, true);
        ear.wait("drained", |heard| (heard.drained == 1).then_some(()));
        world.publish(vec![message(7, "a", 10)]);
        attach(&world, conn, &second, &["a"], Some(position(3)));
        attach(&world, conn, &tagged(dialect, 3), &["a"], None);
        world.publish(vec![message(8, "a", 10)]);
        let mut heard: HashMap<u32, Vec<u64>> = HashMap::new();
        for _ in 0..3 + 1 + 4 + 3 {
            let (id, sequence) = next(&mut client);
            heard.entry(id).or_default().push(sequence);
        }
        assert_eq!(heard[&1], [7, 8]);
        assert_eq!(heard[&2], [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(heard[&3], [8]);
        world.settle();
        assert_eq!(world.delivered(), 13);
    }
}

#[test]
fn completing_one_leaves_the_others_alone() {
    for dialect in [Dialect::WebSocket, Dialect::Sse] {
        let world = World::new(Config { backlog_bytes: 64 << 20, ..config() });
        let (ear, conn, mut client) = world.connect_narrow(dialect);
        for id in 1..=3 {
            attach(&world, conn, &tagged(dialect, id), &["a"], None);
        }
        world.publish((1..=500).map(|n| message(n, "a", 1000)).collect());
        world.settle();
        assert_eq!(world.hub.stats().lagging, 1);
        end(&world, conn, 2);
        end(&world, conn, 2);
        world.hub.send(conn, Bytes::from_static(b"9>1:complete<\n\n"), false);
        world.publish((501..=600).map(|n| message(n, "a", 1000)).collect());
        // The name is free again.
        attach(&world, conn, &tagged(dialect, 2), &["a"], None);
        world.publish(vec![message(601, "a", 1000)]);
        let mut heard: HashMap<u32, Vec<u64>> = HashMap::new();
        let mut completed = false;
        while heard.get(&3).and_then(|all| all.last()) != Some(&601) {
            let text = client.text();
            if text.contains("complete") {
                completed = true;
                assert!(heard.get(&2).is_none_or(|all| all.len() < 500), "its backlog was dropped");
                heard.remove(&2);
            } else {
                let (id, sequence) = parse(&text);
                assert!(id != 2 || !completed || sequence == 601, "{sequence} came after the end");
                heard.entry(id).or_default().push(sequence);
            }
        }
        while !heard.contains_key(&2) {
            let (id, sequence) = next(&mut client);
            heard.entry(id).or_default().push(sequence);
        }
        let all: Vec<u64> = (1..=601).collect();
        assert_eq!((&heard[&1], &heard[&3], &heard[&2]), (&all, &all, &vec![601]));
        for id in 1..=3 {
            end(&world, conn, id);
        }
        world.publish(vec![message(602, "a", 5)]);
        world.hub.send(conn, Bytes::from_static(b"still here\n\n"), false);
        assert_eq!(client.text().trim(), "still here");
        // A connection without operations may begin anew, even otherwise.
        world.attach(conn, &["a"], Some(position(601))).expect("attached");
        assert_eq!(client.sequence(), 602);
        drop(client);
        ear.closed();
    }
}

#[test]
fn one_that_waits_for_the_feed_can_be_completed() {
    let world = World::new(config());
    let (_ear, conn, mut client) = world.connect(Dialect::WebSocket);
    let trusted = Some(Position { epoch: 1, sequence: 5, check: 0 });
    let ended = begin(&world, conn, &tagged(Dialect::WebSocket, 1), &["a"], trusted);
    let kept = begin(&world, conn, &tagged(Dialect::WebSocket, 2), &["a"], trusted);
    end(&world, conn, 1);
    assert!(ended.recv_timeout(PATIENCE).is_err(), "forgotten");
    world.publish((4..=6).map(|n| message(n, "a", 5)).collect());
    assert!(kept.recv_timeout(PATIENCE).expect("an outcome").is_ok());
    assert_eq!(next(&mut client), (2, 6));
}

#[test]
fn operations_and_plain_subscriptions_do_not_mix() {
    let world = World::new(config());
    let (_ear, conn, _client) = world.connect(Dialect::WebSocket);
    attach(&world, conn, &tagged(Dialect::WebSocket, 1), &["a"], None);
    let refused = Err(NotCovered { floor: None });
    assert_eq!(world.attach(conn, &["b"], None), refused);
    let twice = begin(&world, conn, &tagged(Dialect::WebSocket, 1), &["b"], None);
    assert_eq!(twice.recv_timeout(PATIENCE), Ok(refused));
    let (_ear, plain, _client) = world.connect(Dialect::WebSocket);
    world.attach(plain, &["a"], None).expect("attached");
    let mixed = begin(&world, plain, &tagged(Dialect::WebSocket, 1), &["b"], None);
    assert_eq!(mixed.recv_timeout(PATIENCE), Ok(refused));
}

#[test]
fn one_that_lags_is_live_again_for_all_its_operations() {
    for dialect in [Dialect::WebSocket, Dialect::Sse] {
        let world = World::new(Config { backlog_bytes: 64 << 20, ..config() });
        let (ear, conn, mut client) = world.connect_narrow(dialect);
        let topics: [&[&str]; 3] = [&["a", "b"], &["b", "c"], &[">"]];
        for (id, topics) in topics.iter().enumerate() {
            attach(&world, conn, &tagged(dialect, id as u32), topics, None);
        }
        let topic = |n: u64| ["a", "b", "c", "d"][(n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 62) as usize];
        world.publish((1..=3000).map(|n| message(n, topic(n), (n % 700) as usize)).collect());
        world.settle();
        let expected = |id: usize| (1..=3000).filter(move |n| id == 2 || topics[id].contains(&topic(*n)));
        let all = (0..3).map(|id| expected(id).count()).sum();
        let mut heard = [const { Vec::new() }; 3];
        for _ in 0..all {
            let (id, sequence) = next(&mut client);
            heard[id as usize].push(sequence);
        }
        for (id, heard) in heard.iter().enumerate() {
            assert_eq!(*heard, expected(id).collect::<Vec<_>>(), "operation {id}");
        }
        world.publish(vec![message(3001, "d", 5)]);
        assert_eq!(next(&mut client), (2, 3001));
        world.settle();
        assert_eq!(world.delivered(), all as u64 + 1);
        assert_eq!(world.hub.stats().lagging, 0);
        drop(client);
        assert_eq!(ear.closed().delivered, all as u64 + 1);
    }
}

#[test]
fn closing_while_behind_sends_or_discards_what_is_owed() {
    for discard in [false, true] {
        let world = World::new(Config { backlog_bytes: 64 << 20, ..config() });
        let (ear, conn, mut client) = world.connect_narrow(Dialect::WebSocket);
        for id in [1, 2] {
            attach(&world, conn, &tagged(Dialect::WebSocket, id), &["a"], None);
        }
        world.publish((1..=300).map(|n| message(n, "a", 1000)).collect());
        world.settle();
        world.hub.close(conn, goodbye(4403, discard));
        let mut heard = [0, 0];
        let end = loop {
            match client.read() {
                Read1::Text(text) => {
                    let (id, sequence) = parse(&text);
                    let before = &mut heard[id as usize - 1];
                    assert_eq!(sequence, *before + 1);
                    *before = sequence;
                }
                end => break end,
            }
        };
        assert_eq!(end, Read1::Close(4403, "bye".into()));
        assert_eq!(heard == [300, 300], !discard, "{heard:?}");
        drop(client);
        assert_eq!(ear.closed().delivered, heard.iter().sum::<u64>());
    }
}

#[test]
fn one_that_is_too_far_behind_is_closed_with_all_its_operations() {
    let world = World::new(Config { backlog_bytes: 200_000, ..config() });
    let (ear, conn, mut client) = world.connect_narrow(Dialect::WebSocket);
    for id in 1..=10 {
        attach(&world, conn, &tagged(Dialect::WebSocket, id), &["a"], None);
    }
    // Ten copies count as ten.
    for n in 1..=60 {
        world.publish(vec![message(n, "a", 1000)]);
    }
    while client.read() != Read1::Close(4509, "SLOW_CONSUMER".into()) {}
    drop(client);
    assert_eq!(ear.closed().by, ClosedBy::SlowConsumer);
}

/// What an operation should hear and what it heard.
struct Modelled {
    expected: Vec<u64>,
    wish: &'static [&'static str],
    lives: bool,
    heard: Vec<u64>,
}

/// Random beginnings, ends and events on a connection that is behind most of the time: every operation
/// hears of what it selects from its start on, in order, each once, and up to its end.
#[test]
fn operations_come_and_go_on_a_slow_connection() {
    const TOPICS: [&str; 3] = ["a.1", "a.2", "b"];
    const WISHES: [&[&str]; 4] = [&["a.*"], &["a.1", "b"], &[">"], &["b"]];
    let topic = |n: u64| TOPICS[(n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize % 3];
    for seed in 0..10 {
        let mut rng = StdRng::seed_from_u64(seed);
        let dialect = if seed % 2 == 0 { Dialect::WebSocket } else { Dialect::Sse };
        let world = World::new(Config { backlog_bytes: 64 << 20, ..config() });
        let (_ear, conn, mut client) = world.connect_narrow(dialect);
        let mut operations: Vec<Modelled> = Vec::new();
        let mut head = 0_u64;
        for _ in 0..400 {
            match rng.random_range(0..10) {
                0 => {
                    let wish = WISHES[rng.random_range(0..WISHES.len())];
                    let start = rng.random_range(head.saturating_sub(100)..=head);
                    let selects = |n: &u64| patterns(wish).iter().any(|one| one.matches(topic(*n)));
                    attach(
                        &world,
                        conn,
                        &tagged(dialect, operations.len() as u32),
                        wish,
                        Some(position(start)),
                    );
                    let expected = (start + 1..=head).filter(selects).collect();
                    operations.push(Modelled { expected, wish, lives: true, heard: Vec::new() });
                }
                1 if !operations.is_empty() => {
                    let id = rng.random_range(0..operations.len());
                    end(&world, conn, id as u32);
                    operations[id].lives = false;
                }
                2..6 => {
                    let count = rng.random_range(1..20);
                    let batch = head + 1..=head + count;
                    world.publish(
                        batch.clone().map(|n| message(n, topic(n), (n * 37 % 900) as usize)).collect(),
                    );
                    for Modelled { expected, wish, .. } in operations.iter_mut().filter(|one| one.lives) {
                        let wish = patterns(wish);
                        expected.extend(batch.clone().filter(|n| wish.iter().any(|p| p.matches(topic(*n)))));
                    }
                    head += count;
                }
                _ => {
                    let unheard = operations
                        .iter()
                        .filter(|one| one.lives)
                        .map(|one| one.expected.len() - one.heard.len());
                    for _ in 0..unheard.sum::<usize>().min(rng.random_range(0..40)) {
                        let (id, sequence) = next(&mut client);
                        operations[id as usize].heard.push(sequence);
                    }
                }
            }
        }
        world.settle();
        world.hub.send(conn, Bytes::from_static(b"the end\n\n"), false);
        loop {
            let text = client.text();
            if text.trim() == "the end" {
                break;
            }
            let (id, sequence) = parse(&text);
            operations[id as usize].heard.push(sequence);
        }
        for (id, Modelled { expected, lives, heard, .. }) in operations.iter().enumerate() {
            let count = if *lives { expected.len() } else { heard.len().min(expected.len()) };
            assert_eq!(*heard, expected[..count], "seed {seed}, operation {id}, alive: {lives}");
        }
    }
}
