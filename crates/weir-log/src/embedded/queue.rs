//! The line in front of the writer: bounded in bytes, drained in gulps.

use super::writer::Command;
use crate::LogError;
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What one turn of the writer takes at most, so that an fsync is never owed for long.
const GULP_BYTES: usize = 4 << 20;
const GULP_COMMANDS: usize = 4096;
/// How long the writer waits at most while commands keep coming. Under load the callers whose answers it just sent
/// come back one after the other; one fsync, which costs as much as several publishes, then serves all of them
/// instead of the fastest.
const GATHER: Duration = Duration::from_millis(1);
/// How often it looks meanwhile. Fewer than [`STREAM`] new ones since: it goes with what it has.
const LOOK: Duration = Duration::from_micros(50);
const STREAM: usize = 2;

#[derive(Default)]
struct Line {
    commands: VecDeque<Command>,
    bytes: usize,
    closed: bool,
    /// The writer sleeps until a command comes.
    asleep: bool,
}

/// Commands in the order of the calls. The lock guards the line only: it is never held across I/O.
pub(super) struct Queue {
    line: Mutex<Line>,
    /// Wakes the writer; callers never wait here.
    arrived: Condvar,
    limit: usize,
}

impl Queue {
    pub fn new(limit: usize) -> Self {
        Self { line: Mutex::default(), arrived: Condvar::new(), limit }
    }

    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a command in line. A command larger than the whole bound passes when nothing waits.
    pub fn push(&self, command: Command) -> Result<(), LogError> {
        let mut line = self.lock();
        if line.closed {
            return Err(LogError::Unavailable("the log is closed".into()));
        }
        let bytes = command.weight();
        if line.bytes > 0 && line.bytes + bytes > self.limit {
            return Err(LogError::Overloaded { queued: line.bytes, limit: self.limit });
        }
        line.bytes += bytes;
        line.commands.push_back(command);
        if std::mem::take(&mut line.asleep) {
            drop(line);
            self.arrived.notify_one();
        }
        Ok(())
    }

    /// Bytes in line, and how many there may be.
    pub fn load(&self) -> (u64, u64) {
        (self.lock().bytes as u64, self.limit as u64)
    }

    /// No more commands; those in line are still served.
    pub fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_one();
    }

    /// The next commands, at least one unless `idle` is false: then none when none wait.
    /// `None` when the queue is closed and empty. `last` is how many came the last time.
    pub fn take(&self, idle: bool, last: usize) -> Option<Vec<Command>> {
        let mut line = self.lock();
        // A caller on its own never waits for others.
        if last > 1 {
            line = self.gather(line);
        }
        while idle && line.commands.is_empty() && !line.closed {
            line.asleep = true;
            line = self.arrived.wait(line).unwrap_or_else(PoisonError::into_inner);
        }
        line.asleep = false;
        if line.commands.is_empty() && line.closed {
            return None;
        }
        let mut gulp = Vec::with_capacity(line.commands.len().min(GULP_COMMANDS));
        let mut bytes = 0;
        while bytes < GULP_BYTES && gulp.len() < GULP_COMMANDS {
            let Some(command) = line.commands.pop_front() else { break };
            bytes += command.weight();
            gulp.push(command);
        }
        line.bytes -= bytes;
        Some(gulp)
    }

    /// Lets the line grow while it grows fast. Looks now and then rather than being woken: under load each wake would
    /// cost more than the command that it is for.
    fn gather<'a>(&'a self, mut line: MutexGuard<'a, Line>) -> MutexGuard<'a, Line> {
        let begun = Instant::now();
        while !line.closed && line.bytes < GULP_BYTES && begun.elapsed() < GATHER {
            let seen = line.commands.len();
            drop(line);
            std::thread::sleep(LOOK);
            line = self.lock();
            if line.commands.len() < seen + STREAM {
                break;
            }
        }
        line
    }
}
