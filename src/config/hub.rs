//! `[hub]`: live connections.

use super::mirror::mirror;
use super::validate::Check;
use super::{Bytes, Duration};

mirror! {
    /// `[hub]`, field by field [`weir_hub::Config`], whose defaults hold.
    pub struct Hub of weir_hub::Config {
        shards: usize,
        ring_bytes: Bytes,
        ring_messages: usize,
        ring_bytes_total: Bytes,
        backlog_bytes: Bytes,
        backlog_age: Duration,
        frame_bytes: Bytes,
        ping_interval: Duration,
        pong_timeout: Duration,
        sse_heartbeat: Duration,
        close_timeout: Duration,
        queue_bytes: Bytes,
    }
}

impl Hub {
    /// Its breaches.
    pub(super) fn check(&self, check: &mut Check) {
        check.range("hub.shards", self.shards, 0, 1024);
        check.range("hub.ring_bytes", self.ring_bytes, Bytes::kib(64), Bytes::mib(16 << 10));
        check.range("hub.ring_messages", self.ring_messages, 16, 1 << 24);
        check.range("hub.backlog_bytes", self.backlog_bytes, Bytes::kib(4), Bytes::mib(1 << 10));
        check.duration("hub.backlog_age", self.backlog_age, "100ms", "10m");
        check.range("hub.frame_bytes", self.frame_bytes, Bytes::kib(1), Bytes::mib(16));
        check.duration("hub.ping_interval", self.ping_interval, "1s", "10m");
        check.duration("hub.pong_timeout", self.pong_timeout, "1s", "10m");
        check.duration("hub.sse_heartbeat", self.sse_heartbeat, "1s", "10m");
        check.duration("hub.close_timeout", self.close_timeout, "100ms", "1m");
        check.range("hub.queue_bytes", self.queue_bytes, Bytes::mib(1), Bytes::mib(16 << 10));
        check.that(self.ring_bytes <= self.ring_bytes_total, "hub.ring_bytes", || {
            format!(
                "{} for one project is more than hub.ring_bytes_total = {} for all: raise that or lower this",
                self.ring_bytes, self.ring_bytes_total
            )
        });
        check.that(self.backlog_bytes <= self.ring_bytes, "hub.backlog_bytes", || {
            format!(
                "{} is more than hub.ring_bytes = {}, where the unsent events are: raise that or lower this",
                self.backlog_bytes, self.ring_bytes
            )
        });
    }
}
