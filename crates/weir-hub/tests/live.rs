//! The ordinary life of connections.

#![allow(clippy::expect_used, clippy::panic)]

mod support;

use bytes::Bytes;
use std::io::Write;
use std::net::Shutdown;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};
use support::{Ear, PATIENCE, Read1, World, config, goodbye, masked, message, patterns, position};
use weir_core::Position;
use weir_hub::{Attached, ClosedBy, Config, Dialect, Goodbye, NotCovered};

#[test]
fn events_arrive_in_order_in_both_dialects() {
    let world = World::new(Config { shards: 2, ..config() });
    let (_a, a, mut ws) = world.connect(Dialect::WebSocket);
    let (_b, b, mut sse) = world.connect(Dialect::Sse);
    let (_c, c, mut narrow) = world.connect(Dialect::WebSocket);
    assert_eq!(world.attach(a, &["t.*"], None), Ok(Attached { head: position(0) }));
    world.attach(b, &["t.*"], None).expect("attached");
    world.attach(c, &["t.7", "t.*", "none"], None).expect("attached");
    for n in 1..=500_u64 {
        world.publish(vec![message(2 * n, "t.7", 100), message(2 * n + 1, "other", 100)]);
    }
    for n in 1..=500 {
        assert_eq!((ws.sequence(), sse.sequence(), narrow.sequence()), (2 * n, 2 * n, 2 * n));
    }
    world.settle();
    assert_eq!(world.delivered(), 1500);
    let stats = world.hub.stats();
    assert_eq!((stats.websocket, stats.sse, stats.delivered, stats.lagging), (2, 1, 1500, 0));
    assert!(stats.sends <= 1500, "several events may share a send, none needs two");
}

#[test]
fn what_is_published_at_once_is_sent_at_once() {
    let world = World::new(config());
    let (_ear, conn, mut client) = world.connect(Dialect::WebSocket);
    world.attach(conn, &[">"], None).expect("attached");
    let before = world.hub.stats().sends;
    world.publish((1..=200).map(|n| message(n, "a", 10)).collect());
    assert!((1..=200).all(|n| client.sequence() == n));
    world.settle();
    assert_eq!(world.hub.stats().sends - before, 1);
}

#[test]
fn a_conversation() {
    let world = World::new(config());
    let (ear, conn, mut client) = world.connect(Dialect::WebSocket);
    client.write(1, b"hello");
    ear.wait("text", |heard| (heard.texts == [Bytes::from_static(b"hello")]).then_some(()));
    world.hub.send(conn, Bytes::from_static(b"welcome"), true);
    assert_eq!(client.text(), "welcome");
    ear.wait("drained", |heard| (heard.drained == 1).then_some(()));
    client.write(9, b"there?");
    assert_eq!(client.read(), Read1::Pong(b"there?".to_vec()));
    client.write(8, &[&4000_u16.to_be_bytes()[..], b"done"].concat());
    assert_eq!(client.read(), Read1::Close(4000, String::new()));
    assert_eq!(client.read(), Read1::End);
    drop(client);
    let closed = ear.closed();
    assert_eq!((closed.by, closed.code), (ClosedBy::Client, 4000));
    assert_eq!(world.hub.stats().websocket, 0);
}

#[test]
fn bytes_read_ahead_the_preamble_and_the_greeting_come_first() {
    use std::sync::Arc;
    let world = World::new(config());
    let server = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let mut socket = std::net::TcpStream::connect(server.local_addr().expect("address")).expect("connect");
    let (accepted, _) = server.accept().expect("accept");
    let whole = masked(0x81, b"early bird");
    socket.write_all(&whole[7..]).expect("write");
    let ear = Arc::new(Ear::greeting("hello"));
    world.hub.adopt(weir_hub::NewConnection {
        socket: weir_hub::ready(accepted).expect("options"),
        dialect: Dialect::WebSocket,
        read_ahead: Bytes::copy_from_slice(&whole[..7]),
        preamble: Bytes::from_static(b"HTTP/1.1 101\r\n\r\n"),
        listener: ear.clone(),
    });
    ear.wait("text", |heard| (heard.texts == [Bytes::from_static(b"early bird")]).then_some(()));
    let mut first = [0; 23];
    std::io::Read::read_exact(&mut socket, &mut first).expect("read");
    assert_eq!(&first, b"HTTP/1.1 101\r\n\r\n\x81\x05hello");
}

#[test]
fn a_broken_protocol_ends_with_its_code() {
    let world = World::new(config());
    let cases: [(&[u8], u16); 5] = [
        (&[0x81, 0x01, b'x'], 1002),
        (&masked(0xc1, b"x"), 1002),
        (&masked(0x82, b"x"), 1003),
        (&masked(0x81, &[0xff]), 1007),
        (&[0x81, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0], 1009),
    ];
    for (bytes, code) in cases {
        let (ear, _, mut client) = world.connect(Dialect::WebSocket);
        client.socket.write_all(bytes).expect("write");
        assert!(matches!(client.read(), Read1::Close(c, _) if c == code), "{code}");
        assert_eq!(client.read(), Read1::End);
        drop(client);
        assert_eq!((ear.closed().by, ear.closed().code), (ClosedBy::Protocol, code));
    }
}

#[test]
fn a_client_that_vanishes_is_noticed() {
    let world = World::new(config());
    for dialect in [Dialect::WebSocket, Dialect::Sse] {
        let (ear, conn, client) = world.connect(dialect);
        world.attach(conn, &["a"], None).expect("attached");
        client.socket.shutdown(Shutdown::Both).expect("shutdown");
        let closed = ear.closed();
        assert_eq!((closed.by, closed.code), (ClosedBy::Client, 0));
    }
    let (ear, conn, mut client) = world.connect(Dialect::Sse);
    client.socket.write_all(b"what an event stream does not listen to").expect("write");
    world.hub.send(conn, Bytes::from_static(b": hi\n\n"), false);
    assert_eq!(client.text(), ": hi");
    drop(client);
    ear.closed();
}

#[test]
fn reading_stops_while_the_listener_has_enough() {
    let world = World::new(config());
    let ear = Ear::default();
    ear.change(|heard| heard.room = Some(3));
    let (ear, conn, mut client) = world.connect_with(Dialect::WebSocket, None, ear);
    let all: Vec<u8> = (0..10_u8).flat_map(|n| masked(0x81, &[b'0' + n])).collect();
    client.socket.write_all(&all).expect("write");
    ear.wait("three texts", |heard| (heard.texts.len() == 3).then_some(()));
    // A round trip through the shard: it would have read on by now.
    world.hub.send(conn, Bytes::from_static(b"still here"), false);
    assert_eq!(client.text(), "still here");
    let had = ear.change(|heard| {
        heard.room = Some(8);
        heard.texts.len()
    });
    assert_eq!(had, 3);
    world.hub.resume_reading(conn);
    ear.wait("eight texts", |heard| (heard.texts.len() == 8).then_some(()));
    client.write(1, b"last");
    ear.change(|heard| heard.room = None);
    world.hub.resume_reading(conn);
    let texts = ear.wait("all texts", |heard| (heard.texts.len() == 11).then(|| heard.texts.clone()));
    assert_eq!(texts.concat(), b"0123456789last");
}

#[test]
fn a_flood_behind_a_full_listener_stays_with_the_client() {
    let world = World::new(config());
    let ear = Ear::default();
    ear.change(|heard| heard.room = Some(1));
    let (ear, _, client) = world.connect_with(Dialect::WebSocket, Some(8192), ear);
    client.socket.set_write_timeout(Some(Duration::from_millis(300))).expect("timeout");
    let frame = masked(0x81, &[b'x'; 4096]);
    let mut socket = client.socket;
    let mut taken = 0;
    while socket.write_all(&frame).is_ok() {
        taken += frame.len();
        assert!(taken < 64 << 20, "the window never closes");
    }
    assert_eq!(ear.change(|heard| heard.texts.len()), 1);
}

#[test]
fn attach_answers_what_it_does_not_cover() {
    let world = World::new(Config { ring_messages: 10, ..config() });
    let (_ear, conn, mut client) = world.connect(Dialect::WebSocket);
    world.publish((1..=30).map(|n| message(2 * n, "a", 10)).collect());
    let floor = Err(NotCovered { floor: Some(position(40)) });
    assert_eq!(world.attach(conn, &["a"], Some(position(38))), floor, "before the floor");
    assert_eq!(world.attach(conn, &["a"], Some(position(43))), floor, "no such event");
    assert_eq!(world.attach(conn, &["a"], Some(position(62))), floor, "ahead of the head");
    assert_eq!(world.attach(conn, &["a"], Some(Position { check: 1, ..position(50) })), floor, "rewritten");
    assert_eq!(world.attach(conn, &["a"], Some(Position { epoch: 2, ..position(50) })), floor, "epoch");
    assert_eq!(world.attach(conn, &["a"], Some(position(54))), Ok(Attached { head: position(60) }));
    assert_eq!([client.sequence(), client.sequence(), client.sequence()], [56, 58, 60]);
    let (_ear, other, mut late) = world.connect(Dialect::Sse);
    assert!(world.attach(other, &["a"], Some(position(40))).is_ok(), "the floor itself is covered");
    assert!((0..10).all(|n| late.sequence() == 42 + 2 * n));
    world.hub.close_project(world.project, goodbye(4404, false));
    assert!(matches!(client.read(), Read1::Close(4404, _)));
    let (_ear, third, _client) = world.connect(Dialect::WebSocket);
    assert_eq!(world.attach(third, &["a"], None), Err(NotCovered { floor: None }));
}

#[test]
fn an_attach_ahead_of_the_feed_waits_for_it() {
    let world = World::new(config());
    let trusted = |sequence| Some(Position { epoch: 1, sequence, check: 0 });
    world.publish(vec![message(1, "a", 5), message(3, "a", 5)]);
    let (_ear, conn, mut client) = world.connect(Dialect::WebSocket);
    assert!(world.attach(conn, &["a"], trusted(2)).is_ok(), "between two events");
    assert_eq!(client.sequence(), 3);
    let (_ear, ahead, mut client) = world.connect(Dialect::WebSocket);
    let parked = world.begin_attach(ahead, &["a"], trusted(6));
    let (lost_ear, lost, lost_client) = world.connect(Dialect::WebSocket);
    let lost_parked = world.begin_attach(lost, &["a"], trusted(100));
    let refused = world.begin_attach(ahead, &["b"], trusted(200));
    world.publish(vec![message(5, "a", 5)]);
    world.settle();
    assert!(parked.try_recv().is_err(), "5 is not 6");
    world.publish(vec![message(6, "a", 5), message(7, "a", 5)]);
    let head = parked.recv_timeout(PATIENCE).expect("an outcome").expect("covered").head;
    assert_eq!(head, position(7));
    world.publish(vec![message(8, "a", 5)]);
    assert_eq!([client.sequence(), client.sequence()], [7, 8]);
    drop(lost_client);
    lost_ear.closed();
    assert!(lost_parked.recv_timeout(PATIENCE).is_err(), "dropped with its connection");
    world.hub.open_project(world.project, position(50), world.meter.clone());
    let floor = Some(position(50));
    assert_eq!(refused.recv_timeout(PATIENCE), Ok(Err(NotCovered { floor })));
}

#[test]
fn prefaces_stand_before_the_first_event() {
    let world = World::new(config());
    world.publish((1..=4).map(|n| message(n, "a", 10)).collect());
    for dialect in [Dialect::WebSocket, Dialect::Sse] {
        let (ear, conn, mut client) = world.connect(dialect);
        world.hub.send_messages(conn, vec![message(1, "a", 10)], true);
        world.hub.send(conn, Bytes::from_static(b"first\n\n"), false);
        let done = world.begin_attach_with(conn, &["a"], Some(position(2)), Some("subscribed after "));
        assert!(done.recv_timeout(PATIENCE).expect("an outcome").is_ok());
        world.hub.send(conn, Bytes::from_static(b"last\n\n"), false);
        assert_eq!(client.sequence(), 1);
        assert_eq!(client.text().trim(), "first");
        assert_eq!(client.text().trim(), "subscribed after 2");
        assert_eq!([client.sequence(), client.sequence()], [3, 4]);
        assert_eq!(client.text().trim(), "last");
        ear.wait("drained", |heard| (heard.drained == 1).then_some(()));
    }
    assert_eq!(world.delivered(), 6, "history before the first attach is counted with it");
}

#[test]
fn more_subscriptions_repeat_nothing() {
    let world = World::new(config());
    let (_ear, conn, mut client) = world.connect(Dialect::WebSocket);
    let topics = ["a.1", "a.2", "b.1", "c"];
    let batch = |from: u64| (from..from + 4).map(|n| message(n, topics[(n % 4) as usize], 5)).collect();
    world.publish(batch(1)); // 1 a.2, 2 b.1, 3 c, 4 a.1
    world.attach(conn, &["a.1"], Some(position(0))).expect("attached");
    assert_eq!(client.sequence(), 4);
    world.publish(batch(5)); // 5 a.2, 6 b.1, 7 c, 8 a.1
    assert_eq!(client.sequence(), 8);
    // From the start: everything that the new pattern selects and the old did not.
    world.attach(conn, &["a.*"], Some(position(0))).expect("attached");
    assert_eq!([client.sequence(), client.sequence()], [1, 5]);
    // From now on: then from the start again; nothing was sent of b before.
    world.attach(conn, &["b.1"], None).expect("attached");
    world.publish(batch(9)); // 9 a.2, 10 b.1, 11 c, 12 a.1
    assert_eq!([client.sequence(), client.sequence(), client.sequence()], [9, 10, 12]);
    world.attach(conn, &["b.1", ">"], Some(position(0))).expect("attached");
    assert_eq!([2, 3, 6, 7, 11].map(|_| client.sequence()), [2, 3, 6, 7, 11]);
    world.publish(batch(13));
    assert_eq!([13, 14, 15, 16].map(|_| client.sequence()), [13, 14, 15, 16]);
}

#[test]
fn detach_ends_only_what_it_names() {
    let world = World::new(config());
    let (_ear, conn, mut client) = world.connect(Dialect::WebSocket);
    world.attach(conn, &["a", "b", "c.*"], None).expect("attached");
    world.publish(vec![message(1, "a", 5)]);
    let (sender, done) = channel();
    world.hub.detach(conn, patterns(&["a", "c.*"]), Box::new(move || sender.send(()).expect("heard")));
    done.recv_timeout(PATIENCE).expect("detached");
    world.publish(vec![message(2, "a", 5), message(3, "b", 5), message(4, "c.d", 5)]);
    assert_eq!([client.sequence(), client.sequence()], [1, 3]);
    let (sender, done) = channel();
    world.hub.detach(conn, patterns(&["b"]), Box::new(move || sender.send(()).expect("heard")));
    done.recv_timeout(PATIENCE).expect("detached");
    world.publish(vec![message(5, "b", 5)]);
    world.attach(conn, &["b"], Some(position(4))).expect("attached");
    assert_eq!(client.sequence(), 5, "detached and attached again, it is sent");
}

#[test]
fn closing_sends_what_is_queued_unless_told_not_to() {
    let world = World::new(config());
    for discard in [false, true] {
        let (ear, conn, mut client) = world.connect_narrow(Dialect::WebSocket);
        world.hub.send_messages(conn, (1..=400).map(|n| message(n, "a", 1000)).collect(), true);
        let text = Some(Bytes::from_static(b"last words"));
        world.hub.close(conn, Goodbye { text, code: 4403, reason: "revoked".into(), discard });
        let mut events = 0;
        let text = loop {
            match client.text() {
                event if event.starts_with('e') => events += 1,
                text => break text,
            }
        };
        assert_eq!(text, "last words");
        assert_eq!(client.read(), Read1::Close(4403, "revoked".into()));
        assert_eq!(client.read(), Read1::End);
        drop(client);
        let closed = ear.closed();
        assert_eq!((closed.by, closed.code, closed.delivered), (ClosedBy::Server, 4403, events));
        assert_eq!(events == 400, !discard, "{events} events");
        let drained = ear.change(|heard| heard.drained);
        assert_eq!(drained, usize::from(!discard));
    }
    let (ear, conn, mut client) = world.connect(Dialect::Sse);
    let text = Some(Bytes::from_static(b"event: reconnect\n\n"));
    world.hub.close(conn, Goodbye { text, code: 4500, reason: String::new(), discard: false });
    assert_eq!(client.text(), "event: reconnect");
    assert_eq!(client.read(), Read1::End);
    drop(client);
    assert_eq!((ear.closed().by, ear.closed().code), (ClosedBy::Server, 0));
}

#[test]
fn a_close_that_nobody_answers_ends_in_time() {
    let world = World::new(Config { close_timeout: Duration::from_millis(200), ..config() });
    let (ear, conn, client) = world.connect(Dialect::WebSocket);
    world.hub.close(conn, goodbye(4500, false));
    assert_eq!(ear.closed().by, ClosedBy::Server);
    drop(client);
    assert_eq!(world.hub.stats().websocket, 0);
}

#[test]
fn draining_spreads_the_closes() {
    let world = World::new(Config { shards: 2, ..config() });
    let mut all: Vec<_> = (0..40).map(|_| world.connect(Dialect::WebSocket)).collect();
    let start = Instant::now();
    world.hub.drain(Duration::from_millis(800), goodbye(4500, false));
    let mut times: Vec<Duration> = Vec::new();
    for (ear, _, client) in &mut all {
        assert!(matches!(client.read(), Read1::Close(4500, _)));
        client.socket.shutdown(Shutdown::Both).ok();
        ear.closed();
        times.push(start.elapsed());
    }
    assert!(times[9] < Duration::from_millis(700), "the first go early: {:?}", times[9]);
    assert!(times[39] >= Duration::from_millis(600), "the last go late: {:?}", times[39]);
    let (ear, _, mut late) = world.connect(Dialect::WebSocket);
    assert!(matches!(late.read(), Read1::Close(4500, _)), "who comes after the drain goes at once");
    drop(late);
    ear.closed();
}

#[test]
fn silence_is_broken_and_then_ended() {
    let world = World::new(Config {
        ping_interval: Duration::from_millis(200),
        pong_timeout: Duration::from_millis(300),
        sse_heartbeat: Duration::from_millis(200),
        ..config()
    });
    let (ear, _, mut answering) = world.connect(Dialect::WebSocket);
    let (deaf_ear, _, mut deaf) = world.connect(Dialect::WebSocket);
    let (_sse_ear, _, mut sse) = world.connect(Dialect::Sse);
    for _ in 0..5 {
        assert_eq!(answering.read(), Read1::Ping);
        answering.write(10, b"");
    }
    assert_eq!(deaf.read(), Read1::Ping);
    assert_eq!(deaf.read(), Read1::Close(4508, "PONG_TIMEOUT".into()));
    assert_eq!((deaf_ear.closed().by, deaf_ear.closed().code), (ClosedBy::Timeout, 4508));
    assert_eq!((sse.text(), sse.text()), (": ".into(), ": ".into()));
    assert!(ear.change(|heard| heard.closed.is_empty()));
}

#[test]
fn shutdown_closes_what_is_left() {
    let world = World::new(Config { shards: 2, ..config() });
    let mut all: Vec<_> = (0..6).map(|_| world.connect(Dialect::WebSocket)).collect();
    world.hub.clone().shutdown();
    for (ear, _, client) in &mut all {
        assert!(matches!(client.read(), Read1::Close(1001, _)));
        let closed = ear.change(|heard| heard.closed.clone());
        assert_eq!(closed.len(), 1);
        assert_eq!(closed[0].by, ClosedBy::Server);
    }
    let server = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let socket = std::net::TcpStream::connect(server.local_addr().expect("address")).expect("connect");
    let ear = std::sync::Arc::new(Ear::default());
    world.hub.adopt(weir_hub::NewConnection {
        socket: weir_hub::ready(socket).expect("options"),
        dialect: Dialect::Sse,
        read_ahead: Bytes::new(),
        preamble: Bytes::new(),
        listener: ear.clone(),
    });
    assert_eq!(ear.closed().by, ClosedBy::Server, "who comes too late hears it");
}
