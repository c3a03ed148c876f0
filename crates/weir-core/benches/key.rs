//! What an API key costs when nothing is cached: taking it apart, and checking it against its stored hash.
#![allow(clippy::expect_used, missing_docs)]

use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::time::Duration;
use weir_core::key::{KeyHasher, PresentedKey, generate};
use weir_core::{KeyId, RootSecret};

fn keys(c: &mut Criterion) {
    let hasher = KeyHasher::new(&RootSecret::generate());
    let (key, other) = (generate(KeyId::new()), generate(KeyId::new()));
    let (text, other) = (key.expose(), other.expose());
    let stored = hasher.hash(&PresentedKey::parse(text).expect("well formed"));
    let accepts = |text: &str| PresentedKey::parse(text).is_some_and(|key| hasher.verify(&key, &stored));

    // The last character belongs to the checksum: a look-alike is refused before any hash is made.
    let end = if text.ends_with('0') { "1" } else { "0" };
    let look_alike = format!("{}{end}", &text[..text.len() - 1]);
    assert!(accepts(text) && !accepts(other) && PresentedKey::parse(&look_alike).is_none());

    let mut group = c.benchmark_group("api key");
    group.bench_function("parse", |b| b.iter(|| PresentedKey::parse(black_box(text)).is_some()));
    group.bench_function("parse and verify", |b| b.iter(|| accepts(black_box(text))));
    group.bench_function("refuse another's", |b| b.iter(|| accepts(black_box(other))));
    group.bench_function("refuse a look-alike", |b| b.iter(|| accepts(black_box(&look_alike))));
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = keys
}
criterion_main!(benches);
