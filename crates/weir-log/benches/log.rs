//! What the embedded log does on this machine: durable appends with many callers, batches, replay, and
//! beside them the floor, one `fdatasync` of as many bytes as a batch has.
//!
//! `cargo bench -p weir-log`. The directory is `WEIR_BENCH_DIR`, else the system's temporary one: point it
//! at the disk that matters (a tmpfs has no fsync).
#![allow(missing_docs, clippy::expect_used)]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use weir_core::event::Headers;
use weir_core::{Clock, EventId, Payload, ProjectId, SystemClock, TenantId, Topic};
use weir_log::embedded::{Embedded, Options};
use weir_log::{EventLog, Place, ReadQuery, Record};

const TOPICS: u64 = 1000;

struct Fixture {
    runtime: Runtime,
    log: Arc<Embedded>,
    place: Place,
    topics: Arc<[Topic]>,
    payload: Payload,
    directory: TempDir,
}

impl Fixture {
    fn new() -> Self {
        let directory = match std::env::var_os("WEIR_BENCH_DIR") {
            Some(path) => TempDir::new_in(path),
            None => TempDir::new(),
        };
        let directory = directory.expect("a directory");
        let runtime = Runtime::new().expect("a runtime");
        let entered = runtime.enter();
        let log = Embedded::open(&Options::new(directory.path().join("log"))).expect("open");
        drop(entered);
        let place = Place { tenant: TenantId::new(), project: ProjectId::new(), stream: "EVENTS".into() };
        let topics = (0..TOPICS).map(|i| format!("room.{i}").parse().expect("a topic")).collect();
        let payload = Payload::parse(format!("{{\"text\":\"{}\"}}", "x".repeat(100)).as_bytes());
        Self { runtime, log, place, topics, payload: payload.expect("a payload"), directory }
    }

    fn record(&self, i: u64) -> Record {
        record(&self.topics, &self.payload, i)
    }
}

fn record(topics: &[Topic], payload: &Payload, i: u64) -> Record {
    Record {
        id: EventId::generate(),
        dedupe: false,
        topic: topics[usize::try_from(i % TOPICS).expect("small")].clone(),
        payload: payload.clone(),
        kind: None,
        headers: Headers::default(),
        published_at: SystemClock.now(),
    }
}

/// `count` appends of one record, `callers` at a time.
fn append_singly(fixture: &Fixture, callers: u64, count: u64) -> Duration {
    let next = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let callers: Vec<_> = (0..callers)
        .map(|_| {
            let (log, place) = (fixture.log.clone(), fixture.place.clone());
            let (topics, payload, next) = (fixture.topics.clone(), fixture.payload.clone(), next.clone());
            fixture.runtime.spawn(async move {
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    if i >= count {
                        break;
                    }
                    log.append(&place, vec![record(&topics, &payload, i)]).await.expect("append");
                }
            })
        })
        .collect();
    fixture.runtime.block_on(async {
        for caller in callers {
            caller.await.expect("caller");
        }
    });
    start.elapsed()
}

fn appends(c: &mut Criterion) {
    let fixture = Fixture::new();
    let mut group = c.benchmark_group("append");
    group.sample_size(10).measurement_time(Duration::from_secs(5)).warm_up_time(Duration::from_secs(1));
    group.throughput(Throughput::Elements(1));
    for callers in [1, 256, 1024] {
        group.bench_function(BenchmarkId::new("callers", callers), |b| {
            b.iter_custom(|count| append_singly(&fixture, callers, count));
        });
    }
    group.throughput(Throughput::Elements(100));
    group.bench_function("batch of 100, 8 callers", |b| {
        b.iter_custom(|count| append_batches(&fixture, count));
    });
    group.finish();
    fixture.runtime.block_on(fixture.log.close());
}

fn append_batches(fixture: &Fixture, count: u64) -> Duration {
    let start = Instant::now();
    let callers: Vec<_> = (0..8_u64)
        .map(|caller| {
            let (log, place) = (fixture.log.clone(), fixture.place.clone());
            let (topics, payload) = (fixture.topics.clone(), fixture.payload.clone());
            let share = count / 8 + u64::from(caller < count % 8);
            fixture.runtime.spawn(async move {
                for i in 0..share {
                    let records = (0..100).map(|j| record(&topics, &payload, i * 100 + j)).collect();
                    log.append(&place, records).await.expect("append");
                }
            })
        })
        .collect();
    fixture.runtime.block_on(async {
        for caller in callers {
            caller.await.expect("caller");
        }
    });
    start.elapsed()
}

fn replay(c: &mut Criterion) {
    const EVENTS: u64 = 300_000;
    let fixture = Fixture::new();
    let mut group = c.benchmark_group("replay");
    for start in (0..EVENTS).step_by(1000) {
        let records = (start..start + 1000).map(|i| fixture.record(i)).collect();
        fixture.runtime.block_on(fixture.log.append(&fixture.place, records)).expect("append");
    }
    group.sample_size(10).measurement_time(Duration::from_secs(5));
    for (name, pattern, found) in
        [("everything", ">", EVENTS), ("one topic of 1000", "room.7", EVENTS / TOPICS)]
    {
        group.throughput(Throughput::Elements(EVENTS));
        group.bench_function(name, |b| {
            b.iter(|| assert_eq!(fixture.runtime.block_on(read_all(&fixture, pattern)), found));
        });
    }
    group.finish();
    fixture.runtime.block_on(fixture.log.close());
}

async fn read_all(fixture: &Fixture, pattern: &str) -> u64 {
    let patterns: Arc<[_]> = [pattern.parse().expect("a pattern")].into();
    let (mut after, mut count) = (0, 0);
    loop {
        let query = ReadQuery { after, patterns: patterns.clone(), max_events: 1000, max_bytes: 1 << 20 };
        let page = fixture.log.read(&fixture.place, query).await.expect("read");
        count += page.events.len() as u64;
        after = page.through;
        if page.at_head {
            return count;
        }
    }
}

/// What no log on this disk can beat: bytes like those of a batch, then `fdatasync`.
fn floor(c: &mut Criterion) {
    let fixture = Fixture::new();
    let mut group = c.benchmark_group("floor");
    for events in [1, 128, 512] {
        let mut file = File::create(fixture.directory.path().join("floor")).expect("a file");
        file.set_len(1 << 30).expect("room");
        let bytes = vec![7; events * 250];
        group.throughput(Throughput::Elements(events as u64));
        group.bench_function(BenchmarkId::new("fdatasync, events", events), |b| {
            b.iter(|| {
                file.write_all(&bytes).expect("write");
                file.sync_data().expect("sync");
            });
        });
    }
    group.finish();
}

criterion_group!(benches, floor, appends, replay);
criterion_main!(benches);
