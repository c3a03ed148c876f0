//! Servers and connections that fail: nothing acknowledged is lost, nothing is stored twice, and the
//! feed passes on every event once, in order.

use super::{options, place_on, stream_name};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};
use weir_core::event::Headers;
use weir_core::{Event, Payload, ProjectId};
use weir_log::jetstream::server::{NatsCluster, NatsServer, ServerConfig};
use weir_log::jetstream::{JetStream, Options};
use weir_log::{EventLog, Feed, FeedItem, LogError, Outcome, Place, ReadQuery, Record};

const PATIENCE: Duration = Duration::from_secs(30);

fn record(id: &str, dedupe: bool) -> Record {
    Record {
        id: id.parse().expect("an id"),
        dedupe,
        topic: format!("t.{}", id.len() % 3).parse().expect("a topic"),
        payload: Payload::parse(format!("\"{id}\"").as_bytes()).expect("a payload"),
        kind: None,
        headers: Headers::default(),
        published_at: weir_core::Clock::now(&weir_core::SystemClock),
    }
}

/// Reads everything; waits while the log is unavailable.
async fn read_all(log: &JetStream, place: &Place) -> Vec<Arc<Event>> {
    let deadline = Instant::now() + PATIENCE;
    let (mut events, mut after) = (Vec::new(), 0);
    loop {
        let query = ReadQuery {
            after,
            patterns: [weir_core::Pattern::all()].into(),
            max_events: 500,
            max_bytes: 1 << 20,
        };
        match log.read(place, query).await {
            Ok(page) => {
                events.extend(page.events);
                after = page.through;
                if page.at_head {
                    return events;
                }
            }
            Err(error) if error.is_transient() && Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Appends until it is acknowledged; only a record with `dedupe` may be tried again.
async fn insist(log: &JetStream, place: &Place, record: Record) -> u64 {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match log.append(place, vec![record.clone()]).await {
            Ok(outcomes) => match outcomes[0] {
                Outcome::Appended(appended) => return appended.position.sequence,
                Outcome::Conflict => panic!("a repetition was taken for another event"),
            },
            Err(error) if error.is_transient() && Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Publishes `count` records from 8 tasks, insisting on each; answers id → sequence.
fn publish(
    log: &Arc<JetStream>,
    place: &Place,
    count: usize,
) -> tokio::task::JoinHandle<BTreeMap<String, u64>> {
    let (log, place) = (Arc::clone(log), place.clone());
    tokio::spawn(async move {
        let tasks: Vec<_> = (0..8)
            .map(|task| {
                let (log, place) = (Arc::clone(&log), place.clone());
                tokio::spawn(async move {
                    let mut acked = Vec::new();
                    for number in (task..count).step_by(8) {
                        let id = format!("id-{number}");
                        let sequence = insist(&log, &place, record(&id, true)).await;
                        acked.push((id, sequence));
                    }
                    acked
                })
            })
            .collect();
        let mut acked = BTreeMap::new();
        for task in tasks {
            acked.extend(task.await.expect("a publisher"));
        }
        acked
    })
}

/// Takes from the feed until the event with the last sequence has come.
async fn follow(feed: &mut Feed, project: ProjectId, last: u64) -> Vec<Arc<Event>> {
    let mut taken: Vec<Arc<Event>> = Vec::new();
    while taken.last().is_none_or(|event| event.sequence < last) {
        match tokio::time::timeout(PATIENCE, feed.recv()).await.expect("the feed went silent") {
            Some(FeedItem::Events { project: whose, events }) if whose == project => taken.extend(events),
            other => panic!("{other:?}"),
        }
    }
    taken
}

fn assert_stored_once(events: &[Arc<Event>], acked: &BTreeMap<String, u64>) {
    let mut stored: HashMap<&str, u64> = HashMap::new();
    for event in events {
        assert!(stored.insert(event.id.as_str(), event.sequence).is_none(), "{} is stored twice", event.id);
    }
    for (id, sequence) in acked {
        assert_eq!(stored.get(id.as_str()), Some(sequence), "{id} was acknowledged");
    }
}

async fn connect(urls: Vec<String>, replicas: usize) -> Arc<JetStream> {
    let patient = Options { dedupe_window: Duration::from_secs(600), ..options(urls, replicas) };
    JetStream::connect(Options { request_timeout: Duration::from_secs(2), ..patient }).await.expect("connect")
}

/// `kill -9` of the only server in the midst of publishing, twice, and a start on the same files.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_loses_nothing() {
    let mut server = NatsServer::start(ServerConfig::default()).await.expect("a server");
    let log = connect(vec![server.url()], 1).await;
    let place = place_on(&stream_name());
    let mut feed = log.feed().expect("the feed");
    log.watch(&place).await.expect("watch");
    let publishing = publish(&log, &place, 3000);
    for _ in 0..2 {
        follow_some(&mut feed, 300).await;
        server.kill().expect("kill");
        server.restart().expect("restart");
        server.wait().await.expect("ready again");
    }
    let acked = publishing.await.expect("publishers");
    assert_eq!(acked.len(), 3000);
    assert_stored_once(&read_all(&log, &place).await, &acked);
    assert!(log.health().await.problem.is_none());
}

async fn follow_some(feed: &mut Feed, count: usize) {
    let mut seen = 0;
    while seen < count {
        match tokio::time::timeout(PATIENCE, feed.recv()).await.expect("the feed went silent") {
            Some(FeedItem::Events { events, .. }) => seen += events.len(),
            other => panic!("{other:?}"),
        }
    }
}

/// One node follows while another publishes and the follower's server dies: what the node missed is
/// read from the stream.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_feed_that_was_cut_off_misses_nothing() {
    let mut cluster = NatsCluster::start(3).await.expect("a cluster");
    let stream = stream_name();
    let place = place_on(&stream);
    let writer = connect(cluster.urls(), 3).await;
    insist(&writer, &place, record("first", true)).await;
    let leader = cluster.leader(&stream).await.expect("a leader");
    let victim = (leader + 1) % 3;
    let others = |keep: usize| cluster.servers[keep].url();
    let reader = connect(vec![others(victim), others(leader)], 3).await;
    let mut feed = reader.feed().expect("the feed");
    let from = reader.watch(&place).await.expect("watch");
    let publishing = publish(&writer, &place, 4000);
    follow_some(&mut feed, 200).await;
    cluster.servers[victim].kill().expect("kill");
    let acked = publishing.await.expect("publishers");
    cluster.servers[victim].restart().expect("restart");
    let stored = read_all(&writer, &place).await;
    assert_stored_once(&stored, &acked);
    let expected: Vec<_> = stored.iter().filter(|event| event.sequence > from.sequence).collect();
    let rest = follow(&mut feed, place.project, expected[expected.len() - 1].sequence).await;
    let tail = &expected[expected.len() - rest.len()..];
    assert!(rest.iter().eq(tail.iter().copied()), "the feed is not the log");
}

/// `kill -9` of the stream's leader in the midst of publishing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_leader_loses_nothing() {
    let mut cluster = NatsCluster::start(3).await.expect("a cluster");
    let stream = stream_name();
    let place = place_on(&stream);
    let log = connect(cluster.urls(), 3).await;
    let mut feed = log.feed().expect("the feed");
    let from = log.watch(&place).await.expect("watch");
    let publishing = publish(&log, &place, 4000);
    follow_some(&mut feed, 500).await;
    let leader = cluster.leader(&stream).await.expect("a leader");
    cluster.servers[leader].kill().expect("kill");
    let acked = publishing.await.expect("publishers");
    assert_eq!(acked.len(), 4000);
    let stored = read_all(&log, &place).await;
    assert_stored_once(&stored, &acked);
    assert_eq!(stored[0].sequence, from.sequence + 1);
    let rest = follow(&mut feed, place.project, stored[stored.len() - 1].sequence).await;
    assert!(rest.iter().eq(&stored[stored.len() - rest.len()..]), "the feed is not the log");
}

/// A frozen server answers nothing: appends fail in time and say that the outcome is unknown.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_server_is_unavailable() {
    let server = NatsServer::start(ServerConfig::default()).await.expect("a server");
    let log = connect(vec![server.url()], 1).await;
    let place = place_on(&stream_name());
    insist(&log, &place, record("before", true)).await;
    server.freeze().expect("freeze");
    let started = Instant::now();
    let frozen = log.append(&place, vec![record("frozen", true)]).await;
    assert!(matches!(frozen, Err(LogError::Unavailable(_))), "{frozen:?}");
    // With an id it is sent a second time, for one more time-out.
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    assert!(log.health().await.problem.is_some());
    server.thaw().expect("thaw");
    insist(&log, &place, record("frozen", true)).await;
    assert_eq!(read_all(&log, &place).await.len(), 2, "the repetition was stored again");
}

/// Without a connection appends fail at once instead of waiting for one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_connection_appends_fail_at_once() {
    let mut server = NatsServer::start(ServerConfig::default()).await.expect("a server");
    let log = connect(vec![server.url()], 1).await;
    let place = place_on(&stream_name());
    insist(&log, &place, record("before", true)).await;
    server.kill().expect("kill");
    let deadline = Instant::now() + PATIENCE;
    while log.health().await.problem.is_none() {
        assert!(Instant::now() < deadline, "the loss was not noticed");
        tokio::task::yield_now().await;
    }
    let started = Instant::now();
    let refused = log.append(&place, vec![record("late", false)]).await;
    assert!(matches!(refused, Err(LogError::Unavailable(_))), "{refused:?}");
    assert!(started.elapsed() < Duration::from_millis(500), "{:?}", started.elapsed());
}

/// A stream that was deleted and made anew has another epoch, and its feed says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_made_anew_breaks_the_feed() {
    let server = NatsServer::start(ServerConfig::default()).await.expect("a server");
    let log = connect(vec![server.url()], 1).await;
    let stream = stream_name();
    let place = place_on(&stream);
    insist(&log, &place, record("old", true)).await;
    let mut feed = log.feed().expect("the feed");
    let before = log.watch(&place).await.expect("watch");
    let admin = async_nats::jetstream::new(async_nats::connect(server.url()).await.expect("connect"));
    admin.delete_stream(&*stream).await.expect("delete");
    match tokio::time::timeout(PATIENCE, feed.recv()).await.expect("the feed went silent") {
        Some(FeedItem::Broken { project, .. }) => assert_eq!(project, place.project),
        other => panic!("{other:?}"),
    }
    let after = log.watch(&place).await.expect("watch");
    assert_ne!(after.epoch, before.epoch);
    assert_eq!((after.sequence, after.check), (0, 0));
    insist(&log, &place, record("new", true)).await;
    assert_eq!(follow(&mut feed, place.project, 1).await.len(), 1);
}

/// A stream with a size limit refuses what does not fit and keeps what it has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_stream_says_so() {
    let server = super::single().await;
    let small = Options { stream_max_bytes: Some(4096), ..options(vec![server.url()], 1) };
    let log = JetStream::connect(small).await.expect("connect");
    let place = place_on(&stream_name());
    let mut stored = 0;
    let refused = loop {
        match log.append(&place, vec![record(&format!("id-{stored}"), false)]).await {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 100, "4096 bytes hold {stored} events");
    };
    assert!(matches!(refused, LogError::Full(_)), "{refused:?}");
    assert_eq!(read_all(&log, &place).await.len(), stored);
}

/// A tenant that fills a shared stream takes nobody's history: what does not fit is refused, and the room that its own
/// trim makes comes at once, however long ids are remembered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_fills_a_shared_stream_evicts_nobody() {
    let server = super::single().await;
    let window = Duration::from_secs(100);
    let small =
        Options { stream_max_bytes: Some(40_000), dedupe_window: window, ..options(vec![server.url()], 1) };
    let log = JetStream::connect(small).await.expect("connect");
    let stream = stream_name();
    let (quiet, loud) = (place_on(&stream), place_on(&stream));
    for number in 0..5 {
        insist(&log, &quiet, record(&format!("id-{number}"), false)).await;
    }
    let kept = read_all(&log, &quiet).await;
    let mut stored = 0;
    while log.append(&loud, vec![record(&format!("id-{stored}"), false)]).await.is_ok() {
        stored += 1;
        assert!(stored < 1000, "40,000 bytes hold {stored} events");
    }
    let refused = log.append(&quiet, vec![record("late", false)]).await;
    assert!(
        matches!(&refused, Err(LogError::Full(reason)) if reason.contains(&*stream)),
        "it names what is full: {refused:?}"
    );
    assert_eq!(read_all(&log, &quiet).await, kept);
    let all = read_all(&log, &loud).await;
    assert_eq!(all.len(), stored);
    log.trim(&loud, all[stored / 2].sequence).await.expect("trim");
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = log.append(&quiet, vec![record("late", false)]).await {
        assert!(matches!(error, LogError::Full(_)), "{error:?}");
        assert!(Instant::now() < deadline, "the room did not come back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(read_all(&log, &quiet).await[..5], kept);
}

/// A stream with an age of its own from before, by hand or by an earlier version, drops nothing any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_streams_own_age_is_taken_away() {
    let server = super::single().await;
    let stream = stream_name();
    let place = place_on(&stream);
    let log = connect(vec![server.url()], 1).await;
    insist(&log, &place, record("old", false)).await;
    let admin = async_nats::jetstream::new(async_nats::connect(server.url()).await.expect("connect"));
    let info = admin.get_stream(&*stream).await.expect("the stream").cached_info().clone();
    let aged = async_nats::jetstream::stream::Config { max_age: Duration::from_secs(3600), ..info.config };
    admin.update_stream(aged).await.expect("update");
    let log = connect(vec![server.url()], 1).await;
    insist(&log, &place, record("new", false)).await;
    let info = admin.get_stream(&*stream).await.expect("the stream").cached_info().clone();
    assert_eq!(info.config.max_age, Duration::ZERO);
    assert_eq!(read_all(&log, &place).await.len(), 2);
}

fn files_with(directory: &std::path::Path, word: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).expect("a directory").flatten().map(|entry| entry.path()) {
        if entry.is_dir() {
            found.extend(files_with(&entry, word));
        } else if std::fs::read(&entry).is_ok_and(|b| b.windows(word.len()).any(|w| w == word.as_bytes())) {
            found.push(entry.display().to_string());
        }
    }
    found
}

/// Erased events are overwritten in the server's files, between those of others that stay.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn erased_bytes_are_in_no_file_of_the_server() {
    let server = NatsServer::start(ServerConfig::default()).await.expect("a server");
    let log = connect(vec![server.url()], 1).await;
    let stream = stream_name();
    let (doomed, kept) = (place_on(&stream), place_on(&stream));
    let with = |word: &str, number: u32| Record {
        payload: Payload::parse(format!("\"{word}{number}\"").as_bytes()).expect("a payload"),
        ..record(&format!("{word}-{number}"), true)
    };
    for number in 0..200 {
        insist(&log, &doomed, with("Wd4nRf8sCanary", number)).await;
        insist(&log, &kept, with("Hy6cJg1tKept", number)).await;
    }
    assert!(!files_with(server.directory(), "Wd4nRf8sCanary").is_empty(), "not even written");
    let before = read_all(&log, &kept).await;
    while !log.erase(&doomed).await.expect("erase") {}
    log.shred().await.expect("shred");
    assert_eq!(files_with(server.directory(), "Wd4nRf8sCanary"), [""; 0]);
    assert!(!files_with(server.directory(), "Hy6cJg1tKept").is_empty());
    assert_eq!(read_all(&log, &kept).await, before);
}

/// A trim on one node holds at once on another, and the room comes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trim_holds_on_every_node_and_frees_room() {
    let server = super::single().await;
    let brief = Options { dedupe_window: Duration::from_millis(200), ..options(vec![server.url()], 1) };
    let one = JetStream::connect(brief.clone()).await.expect("connect");
    let two = JetStream::connect(brief).await.expect("connect");
    let stream = stream_name();
    let (place, other) = (place_on(&stream), place_on(&stream));
    for number in 0..20 {
        insist(&one, &place, record(&format!("id-{number}"), false)).await;
        insist(&one, &other, record(&format!("id-{number}"), false)).await;
    }
    let events = read_all(&two, &place).await;
    one.trim(&place, events[14].sequence).await.expect("trim");
    let floor = two.inspect(&place, 0).await.expect("inspect").bounds.floor;
    assert_eq!(floor, events[14].sequence);
    let admin = async_nats::jetstream::new(async_nats::connect(server.url()).await.expect("connect"));
    let handle = admin.get_stream(&*stream).await.expect("the stream");
    let deadline = Instant::now() + PATIENCE;
    while handle.get_info().await.expect("info").state.messages != 25 {
        assert!(Instant::now() < deadline, "the room was not reclaimed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(read_all(&two, &other).await.len(), 20);
    assert_eq!(handle.get_info().await.expect("info").state.consumer_count, 0);
}

/// What finds no stream is not refused: the stream is made anew, and the calls are stored in their order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_takes_waits_in_its_order() {
    let server = super::single().await;
    let log = connect(vec![server.url()], 1).await;
    let stream = stream_name();
    let (place, other) = (place_on(&stream), place_on(&stream));
    insist(&log, &place, record("old", true)).await;
    let admin = async_nats::jetstream::new(async_nats::connect(server.url()).await.expect("connect"));
    admin.delete_stream(&*stream).await.expect("delete");
    // More than makes a batch, with and without ids that their publisher chose.
    let appends: Vec<_> = (0..100)
        .map(|number| {
            let place = if number % 4 == 0 { &other } else { &place };
            log.append(place, vec![record(&format!("id-{number:03}"), number % 3 == 0)])
        })
        .collect();
    for outcome in futures::future::join_all(appends).await {
        assert!(matches!(outcome.expect("append")[0], Outcome::Appended(appended) if !appended.duplicate));
    }
    for (place, expected) in [(&place, 75), (&other, 25)] {
        let ids: Vec<String> = read_all(&log, place).await.iter().map(|e| e.id.as_str().to_owned()).collect();
        assert!(ids.len() == expected && ids.is_sorted(), "{ids:?}");
    }
}

/// The leader dies, and nothing is published again by hand: what finds no leader waits for the next one, and what was on its
/// way to the old one is sent again by its id. It is never taken for somebody else's repetition.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publish_survives_the_death_of_the_leader() {
    let mut cluster = NatsCluster::start(3).await.expect("a cluster");
    let stream = stream_name();
    let place = place_on(&stream);
    let first = connect(cluster.urls(), 3).await;
    insist(&first, &place, record("first", true)).await;
    let leader = cluster.leader(&stream).await.expect("a leader");
    // An election takes up to nine seconds, and this machine may be busy: patience is twice this.
    let patient = Options { request_timeout: Duration::from_secs(15), ..options(Vec::new(), 3) };
    let urls = vec![cluster.servers[(leader + 1) % 3].url()];
    let log = JetStream::connect(Options { urls, dedupe_window: Duration::from_secs(600), ..patient })
        .await
        .expect("connect");
    insist(&log, &place, record("second", true)).await;
    cluster.servers[leader].kill().expect("kill");
    let appends: Vec<_> =
        (0..50).map(|number| log.append(&place, vec![record(&format!("id-{number:03}"), true)])).collect();
    for outcome in futures::future::join_all(appends).await {
        assert!(matches!(outcome.expect("append")[0], Outcome::Appended(appended) if !appended.duplicate));
    }
    let stored = read_all(&log, &place).await;
    let ids: Vec<_> = stored.iter().skip(2).map(|event| event.id.as_str()).collect();
    assert!(ids.len() == 50 && ids.is_sorted(), "{ids:?}");
}
