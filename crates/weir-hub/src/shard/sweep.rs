//! Everything that happens with time: pings, heartbeats, time-outs, draining.
//!
//! No connection has a timer. Each tick looks at the next few connections, so that all are seen once in a
//! while: times are kept to within that while, and a thousand that came together do not ping together.

use super::{Key, Shard};
use crate::connection::Phase;
use crate::shard::close::Farewell;
use crate::websocket::{Opcode, put_head};
use crate::{Config, Dialect, Goodbye};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Milliseconds between two ticks.
const TICK: u32 = 100;
/// The longest time in which all connections are looked at, in milliseconds.
const MAX_ROUND: u32 = 1000;

/// Times in milliseconds.
pub(super) struct Times {
    backlog_age: u32,
    ping_interval: u32,
    pong_timeout: u32,
    sse_heartbeat: u32,
    pub close_timeout: u32,
    /// In which all connections are looked at.
    round: u32,
}

impl Times {
    pub fn new(config: &Config) -> Self {
        // Beyond i32 a difference of wrapping times could not be told from the past.
        let millis = |time: Duration| i32::try_from(time.as_millis()).unwrap_or(i32::MAX).unsigned_abs();
        let mut times = Self {
            backlog_age: millis(config.backlog_age),
            ping_interval: millis(config.ping_interval),
            pong_timeout: millis(config.pong_timeout),
            sse_heartbeat: millis(config.sse_heartbeat),
            close_timeout: millis(config.close_timeout),
            round: 0,
        };
        let all = [times.backlog_age, times.pong_timeout, times.sse_heartbeat, times.close_timeout];
        let shortest = all.into_iter().fold(times.ping_interval, u32::min);
        times.round = (shortest / 8).clamp(TICK, MAX_ROUND);
        times
    }
}

/// Connections that are closed little by little.
pub(super) struct Draining {
    started: u32,
    over: u32,
    pub goodbye: Goodbye,
    /// Who was here when it began.
    queue: Vec<Key>,
    closed: usize,
}

impl Draining {
    /// True when everybody has been closed: newcomers go at once.
    pub const fn is_over(&self) -> bool {
        self.closed == usize::MAX
    }
}

/// Whether a wrapping time has come.
const fn has_come(time: u32, now: u32) -> bool {
    now.wrapping_sub(time) <= i32::MAX as u32
}

impl Shard {
    /// How long the shard may sleep: for ever when there is nobody to look after.
    pub(super) fn until_tick(&self) -> Option<Duration> {
        let idle = self.conns.is_empty() && self.draining.as_ref().is_none_or(Draining::is_over);
        let passed = self.now.wrapping_sub(self.last_tick).min(TICK);
        (!idle).then(|| Duration::from_millis(u64::from(TICK - passed)))
    }

    /// Does what is due.
    pub(super) fn tick(&mut self) {
        self.look_at_clock();
        self.counters.lagging.store(self.lagging, Relaxed);
        self.counters.ring_bytes.store(self.ring_bytes as u64, Relaxed);
        let passed = self.now.wrapping_sub(self.last_tick);
        if passed < TICK {
            return;
        }
        self.last_tick = self.now;
        let all = self.conns.capacity();
        let share = (all as u64 * u64::from(passed)).div_ceil(u64::from(self.times.round));
        for _ in 0..share.min(all as u64) {
            self.swept = if self.swept + 1 < all { self.swept + 1 } else { 0 };
            self.look_after(self.swept as u32);
        }
        self.drain_some();
    }

    /// Does what is due for one connection, if there is one in the slot.
    fn look_after(&mut self, slot: u32) {
        let now = self.now;
        let Some(conn) = self.conns.get_mut(slot as usize) else { return };
        match (&conn.backlog, conn.phase) {
            (_, Phase::Closing) => {
                if has_come(conn.deadline, now) {
                    self.remove(slot);
                }
            }
            (_, Phase::Ending) => {}
            (Some(backlog), Phase::Open) => {
                // A ping would have to queue behind what is unsent: the age of that is the test of life.
                conn.deadline = now.wrapping_add(self.times.pong_timeout);
                if now.wrapping_sub(backlog.due) > self.times.backlog_age {
                    self.end_slow(slot);
                }
            }
            (None, Phase::Open) => match conn.dialect {
                Dialect::WebSocket => self.keep_websocket(slot),
                Dialect::Sse if now.wrapping_sub(conn.active) >= self.times.sse_heartbeat => {
                    self.put(slot, b": \n\n", false);
                }
                Dialect::Sse => {}
            },
        }
    }

    fn keep_websocket(&mut self, slot: u32) {
        let conn = &mut self.conns[slot as usize];
        if conn.paused {
            // Its pongs are not read either.
            conn.active = self.now;
            conn.pinged = false;
        } else if conn.pinged {
            if has_come(conn.deadline, self.now) {
                self.end_silent(slot);
            }
        } else if self.now.wrapping_sub(conn.active) >= self.times.ping_interval {
            conn.pinged = true;
            conn.deadline = self.now.wrapping_add(self.times.pong_timeout);
            let mut ping = Vec::with_capacity(2);
            put_head(&mut ping, Opcode::Ping, 0);
            self.put(slot, &ping, false);
        }
    }

    /// Starts to close everybody.
    pub(super) fn begin_drain(&mut self, over: Duration, goodbye: Goodbye) {
        let queue = self.conns.iter().map(|(slot, conn)| (slot as u32, conn.generation)).collect();
        let over = i32::try_from(over.as_millis()).unwrap_or(i32::MAX).unsigned_abs();
        self.draining = Some(Draining { started: self.now, over, goodbye, queue, closed: 0 });
        self.drain_some();
    }

    /// Closes as many as the time that has passed asks for; at the end those who came since, too.
    fn drain_some(&mut self) {
        let Some(mut draining) = self.draining.take_if(|draining| !draining.is_over()) else { return };
        let passed = self.now.wrapping_sub(draining.started);
        let all = draining.queue.len();
        let ended = passed >= draining.over;
        let due = if ended { all } else { all * passed as usize / draining.over as usize };
        let farewell = Farewell::from(&draining.goodbye);
        for key in &draining.queue[draining.closed..due] {
            if self.is_current(*key) && self.conns[key.0 as usize].phase == Phase::Open {
                self.begin_close(key.0, &farewell);
            }
        }
        draining.closed = due;
        if ended {
            let open = self.conns.iter().filter(|(_, conn)| conn.phase == Phase::Open);
            let late: Vec<u32> = open.map(|(slot, _)| slot as u32).collect();
            late.into_iter().for_each(|slot| self.begin_close(slot, &farewell));
            draining.queue = Vec::new();
            draining.closed = usize::MAX;
        }
        self.draining = Some(draining);
    }
}
