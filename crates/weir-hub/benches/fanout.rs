//! What a pass costs before the kernel is asked: finding the groups of a topic, and joining events.

#![allow(clippy::expect_used, missing_docs)]

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use weir_core::{Pattern, Position};
use weir_hub::parts::{Index, put_event};
use weir_hub::{Dialect, Message, Meter};

fn index(count: u32, pattern: impl Fn(u32) -> String) -> Index {
    let mut index = Index::default();
    for group in 0..count {
        index.insert(&pattern(group).parse().expect("a pattern"), group);
    }
    index
}

fn found(index: &Index, topic: &str) -> usize {
    let mut count = 0;
    index.route(black_box(topic), |group| {
        black_box(group);
        count += 1;
    });
    count
}

fn routing(c: &mut Criterion) {
    let cases = [
        ("1 group", index(1, |_| "orders.created".into()), "orders.created", 1),
        ("10k groups, own topic", index(10_000, |n| format!("user.{n}.inbox")), "user.7777.inbox", 1),
        ("10k groups, own wildcard", index(10_000, |n| format!("user.{n}.*")), "user.7777.inbox", 1),
        ("10k groups, none matches", index(10_000, |n| format!("user.{n}.>")), "orders.created", 0),
    ];
    let mut group = c.benchmark_group("route");
    for (name, index, topic, expected) in &cases {
        assert_eq!(found(index, topic), *expected);
        group.bench_function(*name, |b| b.iter(|| found(index, topic)));
    }
    let all = index(10_000, |n| if n % 2 == 0 { "orders.created".into() } else { "orders.*".into() });
    group.throughput(Throughput::Elements(10_000));
    group.bench_function("10k groups, all match", |b| b.iter(|| found(&all, "orders.created")));
    group.finish();

    let pattern: Pattern = "user.5.*".parse().expect("a pattern");
    c.bench_function("join and leave an index of 10k wildcards", |b| {
        b.iter_batched_ref(
            || index(10_000, |n| format!("user.{n}.*")),
            |index| {
                index.insert(&pattern, 20_000);
                index.remove(&pattern, 20_000);
            },
            BatchSize::LargeInput,
        );
    });
}

fn message() -> Message {
    Message {
        position: Position { epoch: 1, sequence: 1, check: 0 },
        topic: "orders.created".parse().expect("a topic"),
        ws_prefix: Bytes::from(vec![b'p'; 20]),
        sse_prefix: Bytes::from(vec![b'p'; 80]),
        body: Bytes::from(vec![b'b'; 300]),
        marks: [0; 8],
    }
}

fn joining(c: &mut Criterion) {
    let message = message();
    let mut group = c.benchmark_group("join 32 events of 320 B");
    group.throughput(Throughput::Elements(32));
    for dialect in [Dialect::WebSocket, Dialect::Sse] {
        let mut out = Vec::new();
        group.bench_function(format!("{dialect:?}"), |b| {
            b.iter(|| {
                out.clear();
                (0..32).for_each(|_| put_event(&mut out, dialect, black_box(&message)));
                black_box(out.len())
            });
        });
    }
    group.finish();
}

/// What counting costs a delivery, at its dearest: an event alone in its pass, so that nothing is shared.
fn metering(c: &mut Criterion) {
    let message = message();
    let meter = Meter::default();
    let mut group = c.benchmark_group("one delivery");
    for counted in [false, true] {
        let mut out = Vec::new();
        group.bench_function(if counted { "metered" } else { "not metered" }, |b| {
            b.iter(|| {
                out.clear();
                put_event(&mut out, Dialect::WebSocket, black_box(&message));
                if counted {
                    meter.delivered.fetch_add(black_box(1), Relaxed);
                    meter.bytes.fetch_add(out.len() as u64, Relaxed);
                }
                black_box(out.len())
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = routing, joining, metering
}
criterion_main!(benches);
