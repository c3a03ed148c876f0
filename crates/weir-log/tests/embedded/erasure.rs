//! What is erased is in no file any more, and what is kept is.

use super::place;
use std::path::Path;
use weir_core::event::Headers;
use weir_core::{Clock, EventId, Payload, SystemClock};
use weir_log::embedded::{Embedded, Options};
use weir_log::{EventLog, Place, ReadQuery, Record};

fn records(word: &str, count: usize) -> Vec<Record> {
    let record = |n: usize| Record {
        id: EventId::generate(),
        dedupe: false,
        topic: format!("{word}.topic").parse().expect("a topic"),
        payload: Payload::parse(format!("\"{word} {n} {}\"", "x".repeat(200)).as_bytes()).expect("a payload"),
        kind: None,
        headers: Headers::default(),
        published_at: SystemClock.now(),
    };
    (0..count).map(record).collect()
}

/// Files below a directory in which the word stands.
fn files_with(directory: &Path, word: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in
        std::fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").path())
    {
        if entry.is_dir() {
            found.extend(files_with(&entry, word));
        } else if let Ok(bytes) = std::fs::read(&entry)
            && bytes.windows(word.len()).any(|window| window == word.as_bytes())
        {
            found.push(entry.display().to_string());
        }
    }
    found
}

async fn publish(log: &Embedded, place: &Place, word: &str) {
    for _ in 0..5 {
        log.append(place, records(word, 100)).await.expect("append");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn erased_bytes_are_in_no_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let options = Options::new(directory.path());
    let log = Embedded::open(&options).expect("open");
    let (doomed, older, kept) = (place(), place(), place());
    publish(&log, &older, "Kq7vBx2mOlderZt9").await;
    // Into tables, and opened again: there are more places than one where bytes can be.
    log.shred().await.expect("shred");
    log.close().await;
    drop(log);
    let log = Embedded::open(&options).expect("open");
    publish(&log, &doomed, "Wd4nRf8sCanaryLp3").await;
    publish(&log, &kept, "Hy6cJg1tKeptVu5").await;
    for word in ["Wd4nRf8sCanaryLp3", "Hy6cJg1tKeptVu5", "Kq7vBx2mOlderZt9"] {
        assert!(!files_with(directory.path(), word).is_empty(), "{word} was not even written");
    }
    for place in [&doomed, &older] {
        while !log.erase(place).await.expect("erase") {}
    }
    // Others go on publishing while files are rewritten.
    let (shredded, ()) = tokio::join!(log.shred(), publish(&log, &kept, "Hy6cJg1tKeptVu5"));
    shredded.expect("shred");
    assert_eq!(files_with(directory.path(), "Wd4nRf8sCanaryLp3"), [""; 0]);
    assert_eq!(files_with(directory.path(), "Kq7vBx2mOlderZt9"), [""; 0]);
    log.close().await;
    drop(log);
    let log = Embedded::open(&options).expect("open");
    let all = ReadQuery {
        after: 0,
        patterns: [">".parse().expect("a pattern")].into(),
        max_events: 5000,
        max_bytes: 64 << 20,
    };
    assert_eq!(log.read(&kept, all).await.expect("read").events.len(), 1000);
    log.close().await;
}
