//! What a payload costs at the door, as a publish request brings it: already read out of the request by serde.
#![allow(clippy::expect_used, missing_docs)]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};
use std::hint::black_box;
use std::time::Duration;
use weir_core::Payload;

fn order(i: usize) -> Value {
    json!({ "id": i, "sku": format!("A-{i}"), "price": 12.5, "tags": ["new", "größer", null], "paid": true })
}

/// Documents of about these sizes: a long text, a list of objects, and arrays within arrays.
fn documents() -> Vec<(String, Box<RawValue>)> {
    let mut all = Vec::new();
    for bytes in [128, 1024, 16 << 10] {
        let flat = json!({ "text": "x".repeat(bytes - 11) });
        let orders = json!({ "orders": (0..(bytes / 83).max(1)).map(order).collect::<Vec<_>>() });
        let nested: Value = (0..60).fold(order(bytes), |inner, i| json!([i, inner]));
        let nested = json!(vec![nested; (bytes / 512).max(1)]);
        for (shape, value) in [("text", flat), ("objects", orders), ("nested", nested)] {
            let raw = to_raw_value(&value).expect("JSON");
            all.push((format!("{shape} {}", raw.get().len()), raw));
        }
    }
    all
}

fn payloads(c: &mut Criterion) {
    let mut group = c.benchmark_group("payload");
    for (name, raw) in documents() {
        group.throughput(Throughput::Bytes(raw.get().len() as u64));
        group.bench_function(BenchmarkId::new("from a request", &name), |b| {
            b.iter(|| Payload::from_raw(black_box(&raw)).expect("a payload"));
        });
        group.bench_function(BenchmarkId::new("on its own", &name), |b| {
            b.iter(|| Payload::parse(black_box(raw.get().as_bytes())).expect("a payload"));
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = payloads
}
criterion_main!(benches);
