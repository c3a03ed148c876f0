//! Stuck readers share the ring: they cost next to nothing each. Alone in its process, for it reads
//! the process's memory.

#![allow(clippy::expect_used, clippy::panic)]

mod support;

use support::{World, config, message};
use weir_hub::{Config, Dialect};

/// Resident bytes of this process.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("statm");
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("pages") * 4096
}

#[test]
fn two_hundred_stuck_readers_share_one_ring() {
    // Neither bytes nor age close them: only the ring bounds what they cost.
    let world = World::new(Config {
        ring_bytes: 2 << 20,
        backlog_bytes: 1 << 30,
        backlog_age: std::time::Duration::from_secs(600),
        ..config()
    });
    let mut stuck = Vec::new();
    for n in 0..200 {
        let dialect = if n % 2 == 0 { Dialect::WebSocket } else { Dialect::Sse };
        let (ear, conn, client) = world.connect_narrow(dialect);
        world.attach(conn, &["a"], None).expect("attached");
        stuck.push((ear, client));
    }
    let (_ear, healthy, mut client) = world.connect(Dialect::WebSocket);
    world.attach(healthy, &["a"], None).expect("attached");
    let before = resident();
    for first in (1..=30_000).step_by(100) {
        world.publish((first..first + 100).map(|n| message(n, "a", 1000)).collect());
        (first..first + 100).for_each(|n| assert_eq!(client.sequence(), n));
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 16 << 20, "30 MB to 200 stuck readers took {grown} bytes");
    assert!(world.hub.stats().ring_bytes <= 2 << 20);
}
