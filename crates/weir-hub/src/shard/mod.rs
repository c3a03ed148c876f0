//! One thread that owns its connections: waits for the kernel or a command, does what is to be done,
//! and waits again. Nothing in it is shared but the mailbox and the counters.

mod attach;
mod close;
mod commands;
mod operations;
mod pass;
mod pump;
mod read;
mod sweep;

use crate::Config;
use crate::command::Command;
use crate::connection::Connection;
use crate::counters::Counters;
use crate::project::{Group, Project};
use mio::{Events, Poll, Token, Waker};
use pass::Pass;
use pump::Part;
use slab::Slab;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::AcqRel;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use sweep::{Draining, Times};
use weir_core::ProjectId;

/// The token of the waker; connections have their generation and slot.
const WAKER: Token = Token(usize::MAX);
/// Commands handled before the sockets get their turn again.
const MAX_COMMANDS: usize = 4096;
/// Bytes read at once.
const READ_BYTES: usize = 16 << 10;

/// The way to a shard.
pub struct Mailbox {
    sender: Sender<Command>,
    waker: Waker,
    awake: Arc<AtomicBool>,
    pub counters: Arc<Counters>,
}

impl Mailbox {
    /// Leaves a command, and wakes the shard if it sleeps. A shard that has ended gets nothing.
    pub fn post(&self, command: Command) {
        if self.sender.send(command).is_ok() && !self.awake.swap(true, AcqRel) {
            // Failing means that the shard is gone, and with it everybody who waits for the command.
            self.waker.wake().ok();
        }
    }
}

/// A slot and its tenant's generation.
type Key = (u32, u32);

pub struct Shard {
    number: u16,
    config: Arc<Config>,
    times: Times,
    poll: Poll,
    inbox: Receiver<Command>,
    /// True while the thread is not about to sleep: then nobody needs to wake it.
    awake: Arc<AtomicBool>,
    counters: Arc<Counters>,
    started: Instant,
    /// Milliseconds since `started`, of this turn of the loop. Wraps; only differences are used.
    now: u32,
    conns: Slab<Connection>,
    next_generation: u32,
    lagging: u64,
    groups: Slab<Group>,
    projects: Slab<Project>,
    by_id: HashMap<ProjectId, u32>,
    /// Projects with pending messages.
    dirty: Vec<u32>,
    /// Weight of all rings.
    ring_bytes: usize,
    /// Who has more to read or write than one turn allowed.
    turns: Vec<Key>,
    /// Whose close is answered after the commands that were already on their way, and why.
    endings: Vec<(Key, &'static str)>,
    last_tick: u32,
    /// The slot up to which the last tick looked.
    swept: usize,
    draining: Option<Draining>,
    stopping: bool,
    read_buffer: Vec<u8>,
    write_buffer: Vec<u8>,
    parts: Vec<Part>,
    /// What a shape rendered.
    rendered: Vec<u8>,
    pass: Pass,
}

/// Starts a shard's thread.
pub fn spawn(number: u16, config: Arc<Config>) -> io::Result<(Mailbox, JoinHandle<()>)> {
    let poll = Poll::new()?;
    let waker = Waker::new(poll.registry(), WAKER)?;
    let (sender, inbox) = mpsc::channel();
    let awake = Arc::new(AtomicBool::new(true));
    let counters = Arc::new(Counters::default());
    let mailbox = Mailbox { sender, waker, awake: Arc::clone(&awake), counters: Arc::clone(&counters) };
    let shard = Shard {
        number,
        times: Times::new(&config),
        config,
        poll,
        inbox,
        awake,
        counters,
        started: Instant::now(),
        now: 0,
        conns: Slab::new(),
        next_generation: 0,
        lagging: 0,
        groups: Slab::new(),
        projects: Slab::new(),
        by_id: HashMap::new(),
        dirty: Vec::new(),
        ring_bytes: 0,
        turns: Vec::new(),
        endings: Vec::new(),
        last_tick: 0,
        swept: 0,
        draining: None,
        stopping: false,
        read_buffer: vec![0; READ_BYTES],
        write_buffer: Vec::new(),
        parts: Vec::new(),
        rendered: Vec::new(),
        pass: Pass::default(),
    };
    let thread = thread::Builder::new().name(format!("hub-{number}")).spawn(move || {
        let _fuse = Fuse;
        shard.run();
    })?;
    Ok((mailbox, thread))
}

/// A shard that panics would leave its connections open and silent. The process ends instead: its
/// supervisor starts it again and every client resumes.
struct Fuse;

impl Drop for Fuse {
    fn drop(&mut self) {
        if thread::panicking() {
            tracing::error!("a hub shard panicked; the process ends so that its clients resume elsewhere");
            std::process::abort();
        }
    }
}

impl Shard {
    fn run(mut self) {
        let mut events = Events::with_capacity(1024);
        let mut busy = true;
        while !self.stopping {
            if let Err(error) = self.wait(&mut events, busy) {
                tracing::error!(%error, "a hub shard cannot poll and stops");
                break;
            }
            for event in &events {
                if event.token() != WAKER {
                    let key = (event.token().0 as u32, (event.token().0 >> 32) as u32);
                    self.ready(key, event);
                }
            }
            busy = self.handle_commands();
            self.pass_dirty();
            self.take_turns();
            self.answer_endings();
            busy |= !self.turns.is_empty();
            self.tick();
        }
        self.close_all();
    }

    /// Sleeps until something happens, or only looks when there is work left.
    fn wait(&mut self, events: &mut Events, busy: bool) -> io::Result<()> {
        let mut timeout = Some(Duration::ZERO);
        if !busy {
            // From here on senders wake us; what came before is seen by this last look.
            self.awake.swap(false, AcqRel);
            match self.inbox.try_recv() {
                Ok(command) => {
                    self.awake.swap(true, AcqRel);
                    self.handle(command);
                }
                Err(_) => timeout = self.until_tick(),
            }
        }
        let outcome = match self.poll.poll(events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            other => other,
        };
        self.awake.swap(true, AcqRel);
        self.look_at_clock();
        outcome
    }

    fn look_at_clock(&mut self) {
        self.now = self.started.elapsed().as_millis() as u32;
    }

    /// What the kernel said about a connection; edges, so each is acted upon fully or remembered.
    fn ready(&mut self, key: Key, event: &mio::event::Event) {
        if !self.is_current(key) {
            return;
        }
        if event.is_writable() {
            self.pump(key.0);
        }
        let ended = event.is_read_closed() || event.is_error();
        if (event.is_readable() || ended) && self.is_current(key) {
            self.read(key.0, ended);
        }
    }

    /// Whether the tenant of the slot is still the one that is meant.
    fn is_current(&self, (slot, generation): Key) -> bool {
        self.conns.get(slot as usize).is_some_and(|conn| conn.generation == generation)
    }

    /// Gives everybody who asked for it another turn.
    fn take_turns(&mut self) {
        for key in std::mem::take(&mut self.turns) {
            if self.is_current(key) {
                self.conns[key.0 as usize].waiting = false;
                self.pump(key.0);
                if self.is_current(key) {
                    self.read(key.0, true);
                }
            }
        }
    }

    /// Asks for another turn.
    fn again(&mut self, slot: u32) {
        if let Some(conn) = self.conns.get_mut(slot as usize)
            && !conn.waiting
        {
            conn.waiting = true;
            self.turns.push((slot, conn.generation));
        }
    }
}
