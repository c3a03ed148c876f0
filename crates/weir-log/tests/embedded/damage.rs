//! Bytes of the store's files that are not what was written.

use super::place;
use std::fs;
use std::path::Path;
use weir_core::event::Headers;
use weir_core::{Clock, EventId, Payload, ProjectId, SystemClock};
use weir_log::embedded::{Embedded, Options, rescue};
use weir_log::{EventLog, LogError, Place, ReadQuery, Record};

/// Enough for several blocks of the store, which hold 16 KiB.
const EVENTS: u64 = 200;

/// An event that does not get small when it is compressed.
fn noise() -> Record {
    let noise: String = (0..16).map(|_| ProjectId::new().to_string()).collect();
    Record {
        id: EventId::generate(),
        dedupe: false,
        topic: "t".parse().expect("a topic"),
        payload: Payload::parse(format!("\"{noise}\"").as_bytes()).expect("a payload"),
        kind: None,
        headers: Headers::default(),
        published_at: SystemClock.now(),
    }
}

async fn read(log: &Embedded, place: &Place, after: u64) -> Result<weir_log::Page, LogError> {
    let patterns = [">".parse().expect("a pattern")].into();
    log.read(place, ReadQuery { after, patterns, max_events: 1000, max_bytes: 1 << 20 }).await
}

/// Puts everything into tables, merges them, and turns over bytes in the middle of the events' one.
fn hurt(directory: &Path) {
    let home = directory.join("log");
    let store = fjall::Database::builder(&home).open().expect("the store");
    let events = store.keyspace("events", fjall::KeyspaceCreateOptions::default).expect("events");
    events.rotate_memtable_and_wait().expect("flushed");
    events.major_compact().expect("merged");
    let tables = events.path().join("tables");
    drop((events, store));
    let sizes = fs::read_dir(tables).expect("tables").map(|table| table.expect("a table").path());
    let table = sizes.max_by_key(|path| fs::metadata(path).expect("a size").len()).expect("a table");
    let mut bytes = fs::read(&table).expect("a table");
    let middle = bytes.len() / 2;
    bytes[middle..middle + 8].iter_mut().for_each(|byte| *byte = !*byte);
    fs::write(table, bytes).expect("hurt");
}

#[tokio::test]
async fn a_damaged_block_is_named_and_left_behind_with_its_files() {
    let directory = tempfile::tempdir().expect("a directory");
    let options = Options::new(directory.path());
    let (hurt_place, other) = (place(), place());
    let log = Embedded::open(&options).expect("open");
    log.append(&hurt_place, (0..EVENTS).map(|_| noise()).collect()).await.expect("append");
    log.append(&other, vec![noise()]).await.expect("append");
    log.close().await;
    drop(log);
    hurt(directory.path());

    let log = Embedded::open(&options).expect("open");
    let before = read(&log, &hurt_place, 0).await.expect("what stands before").through;
    let named = read(&log, &hurt_place, before).await.expect_err("damage").to_string();
    let words: Vec<&str> = named.split(' ').collect();
    let at = words.iter().position(|word| *word == "to").expect("events A to B");
    let (first, last): (u64, u64) = (words[at - 1].parse().expect("A"), words[at + 1].parse().expect("B"));
    assert_eq!(first, before + 1, "{named}");
    assert!(read(&log, &hurt_place, last - 1).await.is_err() && last < EVENTS);
    assert_eq!(read(&log, &hurt_place, last).await.expect("the rest").through, EVENTS);
    log.close().await;
    drop(log);

    // What can be read is no reason to copy.
    assert_eq!(rescue(&options, &hurt_place, first - 1).expect("looked"), None);
    let aside = rescue(&options, &hurt_place, last).expect("copied").expect("there is damage");
    assert!(aside.join("keyspaces").exists(), "{}", aside.display());
    let log = Embedded::open(&options).expect("open");
    log.trim(&hurt_place, last).await.expect("trim");
    assert!(matches!(read(&log, &hurt_place, 0).await, Err(LogError::OutOfRange { floor }) if floor == last));
    assert_eq!(read(&log, &hurt_place, last).await.expect("the rest").through, EVENTS);
    assert_eq!(read(&log, &other, 0).await.expect("all").events.len(), 1);
    log.append(&hurt_place, vec![noise()]).await.expect("append");
    // Merges everything.
    log.shred().await.expect("nothing is damaged");
    assert_eq!(read(&log, &hurt_place, last).await.expect("the rest").through, EVENTS + 1);
    log.close().await;
}
