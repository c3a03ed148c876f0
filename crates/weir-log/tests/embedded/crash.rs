//! Real processes and real failures: killed at any moment, refused by the operating system. A child is
//! this test binary again, told by an environment variable which part to play.

use super::place;
use futures::FutureExt;
use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use weir_core::event::Headers;
use weir_core::{Clock, Event, EventId, Payload, ProjectId, SystemClock, TenantId};
use weir_log::conformance::Walker;
use weir_log::embedded::{Embedded, Options};
use weir_log::{EventLog, LogError, Outcome, Place, ReadQuery, Record};

const DIRECTORY: &str = "WEIR_LOG_TEST_DIRECTORY";
const PLACE: &str = "WEIR_LOG_TEST_PLACE";
const CYCLES: usize = 60;
const CALLERS: usize = 16;

/// This binary, about to play the named part.
fn part(program: &mut Command, name: &str, directory: &Path, place: &Place) -> Child {
    program
        .args(["--exact", name, "--nocapture", "--ignored", "--test-threads=1"])
        .env(DIRECTORY, directory)
        .env(PLACE, format!("{} {}", place.tenant, place.project))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("start a child")
}

/// What the parent told this child; nothing when a human runs the ignored tests.
fn told() -> Option<(Options, Place)> {
    let directory = std::env::var_os(DIRECTORY)?;
    let ids = std::env::var(PLACE).ok()?;
    let (tenant, project) = ids.split_once(' ')?;
    let tenant: TenantId = tenant.parse().ok()?;
    let project: ProjectId = project.parse().ok()?;
    Some((Options::new(directory), Place { tenant, project, stream: "EVENTS".into() }))
}

fn named(id: &str) -> Record {
    Record {
        id: id.parse().expect("an id"),
        dedupe: true,
        topic: "t".parse().expect("a topic"),
        payload: Payload::parse(format!("\"{id}\"").as_bytes()).expect("a payload"),
        kind: None,
        headers: Headers::default(),
        published_at: SystemClock.now(),
    }
}

/// Appends from several tasks and prints `id sequence` of each ack, until it is killed or refused.
async fn append_and_tell(log: &Embedded, place: &Place, size: usize) -> LogError {
    let one = |caller: usize| async move {
        let filler = "x".repeat(size);
        for i in 0.. {
            let id = format!("{}-{caller}-{i}", std::process::id());
            let record = Record {
                payload: Payload::parse(format!("\"{filler}\"").as_bytes()).expect("a payload"),
                ..named(&id)
            };
            match log.append(place, vec![record]).await {
                Ok(outcomes) => tell(&id, &outcomes),
                Err(error) => return error,
            }
        }
        unreachable!("the loop has no end")
    };
    let callers = futures::future::join_all((0..CALLERS).map(one)).await;
    callers.into_iter().next().expect("a caller")
}

fn tell(id: &str, outcomes: &[Outcome]) {
    let [Outcome::Appended(appended)] = outcomes else { panic!("{outcomes:?}") };
    // One write for each line, so a kill leaves no half line but the last.
    let line = format!("ACK {id} {}\n", appended.position.sequence);
    std::io::stdout().lock().write_all(line.as_bytes()).expect("the parent listens");
}

async fn everything(log: &Embedded, place: &Place) -> Vec<std::sync::Arc<Event>> {
    let (mut after, mut events) = (0, Vec::new());
    loop {
        let query = ReadQuery {
            after,
            patterns: [">".parse().expect("a pattern")].into(),
            max_events: 10_000,
            max_bytes: 16 << 20,
        };
        let page = log.read(place, query).await.expect("read");
        events.extend(page.events);
        if page.at_head {
            return events;
        }
        after = page.through;
    }
}

/// All that was told stands where it was told, once, and the order has no hole.
async fn check(log: &Embedded, place: &Place, told: &HashMap<String, u64>) -> usize {
    let events = everything(log, place).await;
    let places: HashMap<&str, u64> = events.iter().map(|e| (e.id.as_str(), e.sequence)).collect();
    assert_eq!(places.len(), events.len(), "an event is there twice");
    for (id, sequence) in told {
        assert_eq!(places.get(id.as_str()), Some(sequence), "{id} was acknowledged");
    }
    let sequences: Vec<u64> = events.iter().map(|event| event.sequence).collect();
    assert_eq!(sequences, (1..=events.len() as u64).collect::<Vec<_>>());
    let previous: Vec<u64> = events.iter().map(|event| event.previous).collect();
    assert_eq!(previous, (0..events.len() as u64).collect::<Vec<_>>(), "all on one topic");
    let head = log.inspect(place, 0).await.expect("inspect").bounds.head;
    assert_eq!(head.sequence, events.len() as u64);
    assert_eq!(head.check, events.last().map_or(0, |event| event.check()));
    events.len()
}

#[tokio::test]
#[ignore = "a part that another test plays in a process of its own"]
async fn part_append_until_killed() {
    let Some((options, place)) = told() else { return };
    let log = Embedded::open(&options).expect("open");
    println!("OPEN");
    append_and_tell(&log, &place, 100).await;
}

/// Killed at random moments, from before the log exists: nothing acknowledged is lost, nothing is there
/// twice, and a publisher that repeats what it is unsure of doubles nothing.
#[tokio::test(flavor = "multi_thread")]
async fn survives_being_killed() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("log");
    let place = place();
    let (mut acked, mut slowest, mut unsure) = (HashMap::new(), Duration::ZERO, HashSet::new());
    let mut walker = Walker::default();
    for cycle in 0..CYCLES {
        let program = std::env::current_exe().expect("this binary");
        let mut child = part(&mut Command::new(program), "crash::part_append_until_killed", &path, &place);
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let (opened, open) = mpsc::channel();
        let reader = std::thread::spawn(move || {
            collect(lines.inspect(|line| {
                if line.as_ref().is_ok_and(|line| line.contains("OPEN")) {
                    let _ = opened.send(());
                }
            }))
        });
        // Every third child is killed on its way up, the others at work.
        if cycle % 3 > 0 {
            let _ = open.recv_timeout(Duration::from_secs(30));
        }
        std::thread::sleep(Duration::from_millis(rand::random_range(0..60)));
        child.kill().expect("kill");
        child.wait().expect("wait");
        let told = reader.join().expect("reader");
        unsure.extend(told.keys().take(3).cloned());
        acked.extend(told);
        // Every cycle's child recovers; looking closely each time would only test this test.
        if cycle % 6 == 5 {
            let start = Instant::now();
            let log = Embedded::open(&Options::new(&path)).expect("open after the kill");
            slowest = slowest.max(start.elapsed());
            let count = check(&log, &place, &acked).await;
            // From where it stood before the kills: each event is met once, and none of them twice.
            walker.walk(&*log, &place.stream).await;
            assert_eq!((walker.count(&place), walker.lost), (count as u64, 0));
            repeat(&log, &place, &unsure, &acked).await;
            assert_eq!(everything(&log, &place).await.len(), count, "a repetition was stored");
            log.close().await;
        }
    }
    assert!(acked.len() > CYCLES, "only {} acks in {CYCLES} cycles: the test tests nothing", acked.len());
    println!("{} acked events over {CYCLES} kills; slowest reopen {slowest:?}", acked.len());
}

fn collect(lines: impl Iterator<Item = std::io::Result<String>>) -> HashMap<String, u64> {
    let mut told = HashMap::new();
    for line in lines.map_while(Result::ok) {
        let mut words = line.split(' ').skip_while(|word| *word != "ACK").skip(1);
        if let (Some(id), Some(Ok(sequence))) = (words.next(), words.next().map(str::parse)) {
            told.insert(id.to_owned(), sequence);
        }
    }
    told
}

/// Publishes again under the same ids, as a publisher does that did not hear the answer.
async fn repeat(log: &Embedded, place: &Place, ids: &HashSet<String>, acked: &HashMap<String, u64>) {
    for id in ids {
        let payload = Payload::parse(format!("\"{}\"", "x".repeat(100)).as_bytes()).expect("a payload");
        let record = Record { payload, ..named(id) };
        let outcomes = log.append(place, vec![record]).await.expect("append");
        let [Outcome::Appended(appended)] = outcomes[..] else { panic!("{outcomes:?}") };
        assert!(appended.duplicate);
        assert_eq!(Some(&appended.position.sequence), acked.get(id));
    }
}

#[tokio::test]
#[ignore = "a part that another test plays in a process of its own"]
async fn part_append_until_refused() {
    let Some((options, place)) = told() else { return };
    let log = Embedded::open(&options).expect("open");
    let mut problem = log.problem();
    let error = append_and_tell(&log, &place, 20_000).await;
    assert!(matches!(error, LogError::Unavailable(_)), "{error:?}");
    // It stays refused, says so, and goes on serving reads.
    problem.wait_for(Option::is_some).await.expect("the log is there");
    let reason = log.health().await.problem.expect("a problem");
    assert!(reason.contains("start the process again"), "{reason}");
    let later = log.append(&place, vec![named("later")]).await;
    assert!(matches!(later, Err(LogError::Unavailable(_))), "{later:?}");
    assert!(!everything(&log, &place).await.iter().any(|event| event.id.as_str() == "later"));
    println!("REFUSED");
}

/// The operating system refuses a write in the midst of a batch (here at a limit on file sizes, as a
/// full disk or a dying one would): no ack is lost, none is given that does not hold, nothing is retried.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_write_ends_the_appends() {
    let directory = tempfile::tempdir().expect("a directory");
    let (path, place) = (directory.path().join("log"), place());
    let log = Embedded::open(&Options::new(&path)).expect("open");
    log.append(&place, vec![named("first")]).await.expect("append");
    log.close().await;
    drop(log);
    let program = std::env::current_exe().expect("this binary");
    let mut shell = Command::new("sh");
    // Blocks of 512 or 1024 bytes: 2 or 4 MB. The signal must be ignored for the error to arrive.
    shell.args(["-c", "trap '' XFSZ; ulimit -f 4096; exec \"$@\"", "sh"]).arg(program);
    let mut child = part(&mut shell, "crash::part_append_until_refused", &path, &place);
    let lines: Vec<String> =
        BufReader::new(child.stdout.take().expect("its output")).lines().map_while(Result::ok).collect();
    let status = child.wait().expect("wait");
    assert!(status.success() && lines.iter().any(|line| line == "REFUSED"), "{status}: {:?}", lines.last());
    let mut acked = collect(lines.into_iter().map(Ok));
    acked.insert("first".into(), 1);
    assert!(acked.len() > 20, "only {} acks", acked.len());
    let log = Embedded::open(&Options::new(&path)).expect("open after the failure");
    check(&log, &place, &acked).await;
    log.append(&place, vec![named("later")]).await.expect("it works again");
    log.close().await;
}

/// A second opener is told who has the directory; the first one is not disturbed.
#[tokio::test]
async fn one_process_a_directory() {
    let directory = tempfile::tempdir().expect("a directory");
    let options = Options::new(directory.path());
    let log = Embedded::open(&options).expect("open");
    match Embedded::open(&options) {
        Err(LogError::Unavailable(reason)) => assert!(reason.contains("another process uses"), "{reason}"),
        other => panic!("{:?}", other.map(|_| ())),
    }
    let generated = Record { id: EventId::generate(), dedupe: false, ..named("x") };
    log.append(&place(), vec![generated]).await.expect("append");
    log.close().await;
    drop(log);
    Embedded::open(&options).expect("open once it is free").close().await;
}

/// Readers that lost patience leave work behind; a log that is closed waits for it, so that its directory is free.
#[tokio::test(flavor = "multi_thread")]
async fn closed_and_dropped_is_free() {
    let directory = tempfile::tempdir().expect("a directory");
    let (options, place) = (Options::new(directory.path()), place());
    for round in 0..20 {
        let log = Embedded::open(&options).unwrap_or_else(|error| panic!("round {round}: {error:?}"));
        if round == 0 {
            let filler = |i| Record { payload: payload_of(10_000), ..named(&format!("f{i}")) };
            log.append(&place, (0..1_000).map(filler).collect()).await.expect("append");
        }
        for _ in 0..8 {
            let patterns = [">".parse().expect("a pattern")].into();
            let query = ReadQuery { after: 0, patterns, max_events: 1_000, max_bytes: 64 << 20 };
            // Seldom it is done at once; most of the time it is left to itself.
            drop(log.read(&place, query).now_or_never());
        }
        log.close().await;
        drop(log);
    }
}

/// A payload of that many bytes.
fn payload_of(bytes: usize) -> Payload {
    Payload::parse(format!("\"{}\"", "x".repeat(bytes - 2)).as_bytes()).expect("a payload")
}
