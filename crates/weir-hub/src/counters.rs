//! What a shard counts, readable from other threads.

use crate::Stats;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use weir_core::Histogram;

/// Gauges and counts of one shard. Only the shard writes most of them.
pub struct Counters {
    /// Adopted and not gone yet, those on their way to the shard included.
    pub connections: AtomicUsize,
    /// Weight of published messages that the shard has not passed on yet.
    pub queued_bytes: AtomicUsize,
    pub websocket: AtomicU64,
    pub sse: AtomicU64,
    pub delivered: AtomicU64,
    pub bytes: AtomicU64,
    pub sends: AtomicU64,
    pub slow_consumers: AtomicU64,
    pub lagging: AtomicU64,
    pub ring_bytes: AtomicU64,
    /// From an event's birth until a pass had sent it to everybody here who keeps up.
    pub latency: Histogram,
    /// What a pass took that sent anything.
    pub passes: Histogram,
    /// To how many connections of the shard an event went at once.
    pub fan_out: Histogram,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            connections: AtomicUsize::default(),
            queued_bytes: AtomicUsize::default(),
            websocket: AtomicU64::default(),
            sse: AtomicU64::default(),
            delivered: AtomicU64::default(),
            bytes: AtomicU64::default(),
            sends: AtomicU64::default(),
            slow_consumers: AtomicU64::default(),
            lagging: AtomicU64::default(),
            ring_bytes: AtomicU64::default(),
            latency: Histogram::of_seconds(),
            passes: Histogram::of_seconds(),
            fan_out: Histogram::of_numbers(),
        }
    }
}

impl Counters {
    pub fn add_to(&self, stats: &mut Stats) {
        stats.websocket += self.websocket.load(Relaxed);
        stats.sse += self.sse.load(Relaxed);
        stats.delivered += self.delivered.load(Relaxed);
        stats.bytes += self.bytes.load(Relaxed);
        stats.sends += self.sends.load(Relaxed);
        stats.slow_consumers += self.slow_consumers.load(Relaxed);
        stats.lagging += self.lagging.load(Relaxed);
        stats.queued_bytes = stats.queued_bytes.max(self.queued_bytes.load(Relaxed) as u64);
        stats.ring_bytes = stats.ring_bytes.max(self.ring_bytes.load(Relaxed));
        stats.latency.add(&self.latency.read());
        stats.passes.add(&self.passes.read());
        stats.fan_out.add(&self.fan_out.read());
    }
}
