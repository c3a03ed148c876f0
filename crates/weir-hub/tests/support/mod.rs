//! Real sockets against real shards: a listener that remembers, a client that parses, a log in memory.

// Each test file uses another part of it.
#![allow(dead_code, missing_docs)]

use bytes::Bytes;
use socket2::{Domain, Socket, Type};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use weir_core::{Pattern, Position, ProjectId};
use weir_hub::{
    Attach, Attached, Closed, Config, Conn, Dialect, Goodbye, Hub, Listener, Message, Meter, NewConnection,
    NotCovered,
};

pub const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Default)]
pub struct Heard {
    pub conn: Option<Conn>,
    pub texts: Vec<Bytes>,
    pub drained: usize,
    pub closed: Vec<Closed>,
    /// Texts to accept before saying "enough"; `None` is all.
    pub room: Option<usize>,
}

/// A listener that remembers.
#[derive(Default)]
pub struct Ear {
    heard: Mutex<Heard>,
    changed: Condvar,
    /// What it says when it is opened.
    greeting: Option<Bytes>,
}

impl Ear {
    pub fn greeting(text: &'static str) -> Self {
        Self { greeting: Some(Bytes::from_static(text.as_bytes())), ..Self::default() }
    }

    pub fn change<T>(&self, change: impl FnOnce(&mut Heard) -> T) -> T {
        let changed = change(&mut self.heard.lock().expect("lock"));
        self.changed.notify_all();
        changed
    }

    /// Waits until `look` finds something.
    pub fn wait<T>(&self, what: &str, mut look: impl FnMut(&Heard) -> Option<T>) -> T {
        let mut heard = self.heard.lock().expect("lock");
        loop {
            if let Some(found) = look(&heard) {
                return found;
            }
            let (next, time) = self.changed.wait_timeout(heard, PATIENCE).expect("lock");
            assert!(!time.timed_out(), "{what} did not happen in time");
            heard = next;
        }
    }

    pub fn closed(&self) -> Closed {
        self.wait("closed", |heard| heard.closed.first().cloned())
    }
}

impl Listener for Ear {
    fn opened(&self, conn: Conn) -> Option<Bytes> {
        self.change(|heard| {
            assert!(heard.conn.is_none() && heard.closed.is_empty(), "opened comes first, once");
            heard.conn = Some(conn);
        });
        self.greeting.clone()
    }

    fn text(self: Arc<Self>, text: Bytes) -> bool {
        self.change(|heard| {
            assert!(heard.closed.is_empty(), "nothing comes after closed");
            heard.texts.push(text);
            heard.room.is_none_or(|room| heard.texts.len() < room)
        })
    }

    fn drained(&self) {
        self.change(|heard| heard.drained += 1);
    }

    fn closed(&self, closed: Closed) {
        self.change(|heard| heard.closed.push(closed));
    }
}

/// What a client reads.
#[derive(Debug, PartialEq, Eq)]
pub enum Read1 {
    Text(String),
    Close(u16, String),
    Ping,
    Pong(Vec<u8>),
    End,
}

pub struct Client {
    pub socket: TcpStream,
    pub dialect: Dialect,
    buffer: Vec<u8>,
    taken: usize,
}

impl Client {
    /// The next frame, or the next block of an event stream with its line breaks trimmed.
    pub fn read(&mut self) -> Read1 {
        loop {
            let parsed = match self.dialect {
                Dialect::WebSocket => parse_frame(&self.buffer[self.taken..]),
                Dialect::Sse => parse_block(&self.buffer[self.taken..]),
            };
            if let Some((read, size)) = parsed {
                self.taken += size;
                return read;
            }
            self.buffer.drain(..std::mem::take(&mut self.taken));
            let mut piece = [0; 16 << 10];
            match self.socket.read(&mut piece) {
                Ok(0) => return Read1::End,
                Ok(count) => self.buffer.extend_from_slice(&piece[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Read1::End,
                Err(error) => panic!("reading: {error}"),
            }
        }
    }

    pub fn text(&mut self) -> String {
        match self.read() {
            Read1::Text(text) => text,
            other => panic!("a text was expected, not {other:?}"),
        }
    }

    /// The sequence of the next event.
    pub fn sequence(&mut self) -> u64 {
        sequence_of(&self.text())
    }

    pub fn write(&mut self, opcode: u8, payload: &[u8]) {
        self.socket.write_all(&masked(0x80 | opcode, payload)).expect("write");
    }
}

pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    match payload.len() {
        len @ 0..=125 => out.push(0x80 | len as u8),
        len => {
            out.push(0xfe);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
    }
    let mask = [1, 2, 3, 4];
    out.extend_from_slice(&mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    out
}

fn parse_frame(bytes: &[u8]) -> Option<(Read1, usize)> {
    let [first, second, rest @ ..] = bytes else { return None };
    let (len, head) = match second {
        126 => (usize::from(u16::from_be_bytes(*rest.first_chunk()?)), 4),
        127 => (u64::from_be_bytes(*rest.first_chunk()?) as usize, 10),
        short => (usize::from(*short), 2),
    };
    let payload = bytes.get(head..head + len)?;
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    let read = match first {
        0x81 => Read1::Text(text(payload)),
        0x88 if len == 0 => Read1::Close(0, String::new()),
        0x88 => Read1::Close(u16::from_be_bytes([payload[0], payload[1]]), text(&payload[2..])),
        0x89 => Read1::Ping,
        0x8a => Read1::Pong(payload.to_vec()),
        other => panic!("an unexpected frame {other:#x}"),
    };
    Some((read, head + len))
}

fn parse_block(bytes: &[u8]) -> Option<(Read1, usize)> {
    let end = bytes.windows(2).position(|two| two == b"\n\n")?;
    let text = String::from_utf8(bytes[..end].to_vec()).expect("UTF-8");
    Some((Read1::Text(text), end + 2))
}

/// The sequence in an event's text: `…<sequence>:<topic>:…`.
pub fn sequence_of(text: &str) -> u64 {
    let number = text.trim_start_matches("data: ").trim_start_matches('e');
    number.split(':').next().and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("an event: {text}"))
}

pub fn position(sequence: u64) -> Position {
    Position { epoch: 1, sequence, check: if sequence == 0 { 0 } else { sequence as u32 ^ 0xabcd } }
}

pub fn message(sequence: u64, topic: &str, size: usize) -> Arc<Message> {
    Arc::new(Message {
        position: position(sequence),
        topic: topic.parse().expect("topic"),
        ws_prefix: Bytes::from_static(b"e"),
        sse_prefix: Bytes::from_static(b"data: e"),
        body: format!("{sequence}:{topic}:{}", "x".repeat(size)).into(),
        marks: [0; 8],
    })
}

/// A hub with one open project.
pub struct World {
    pub hub: Hub,
    pub project: ProjectId,
    pub meter: Arc<Meter>,
    server: TcpListener,
}

pub fn config() -> Config {
    Config { shards: 1, ..Config::default() }
}

pub fn patterns(all: &[&str]) -> Vec<Pattern> {
    all.iter().map(|one| one.parse().expect("pattern")).collect()
}

pub fn goodbye(code: u16, discard: bool) -> Goodbye {
    Goodbye { text: None, code, reason: "bye".into(), discard }
}

impl World {
    pub fn new(config: Config) -> Self {
        let hub = Hub::start(config).expect("hub");
        let project = ProjectId::new();
        let meter = Arc::new(Meter::default());
        hub.open_project(project, position(0), Arc::clone(&meter));
        let server = TcpListener::bind("127.0.0.1:0").expect("bind");
        Self { hub, project, meter, server }
    }

    pub fn connect(&self, dialect: Dialect) -> (Arc<Ear>, Conn, Client) {
        self.connect_with(dialect, None, Ear::default())
    }

    /// A connection whose kernel buffers hold little.
    pub fn connect_narrow(&self, dialect: Dialect) -> (Arc<Ear>, Conn, Client) {
        self.connect_with(dialect, Some(4096), Ear::default())
    }

    pub fn connect_with(
        &self,
        dialect: Dialect,
        buffers: Option<usize>,
        ear: Ear,
    ) -> (Arc<Ear>, Conn, Client) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("socket");
        if let Some(size) = buffers {
            socket.set_recv_buffer_size(size).expect("buffer");
        }
        let address: SocketAddr = self.server.local_addr().expect("address");
        socket.connect(&address.into()).expect("connect");
        let (accepted, _) = self.server.accept().expect("accept");
        if let Some(size) = buffers {
            socket2::SockRef::from(&accepted).set_send_buffer_size(size).expect("buffer");
        }
        let socket: TcpStream = socket.into();
        socket.set_read_timeout(Some(PATIENCE)).expect("timeout");
        let ear = Arc::new(ear);
        self.hub.adopt(NewConnection {
            socket: weir_hub::ready(accepted).expect("options"),
            dialect,
            read_ahead: Bytes::new(),
            preamble: Bytes::new(),
            listener: Arc::clone(&ear) as Arc<dyn Listener>,
        });
        let conn = ear.wait("opened", |heard| heard.conn);
        (ear, conn, Client { socket, dialect, buffer: Vec::new(), taken: 0 })
    }

    pub fn publish(&self, messages: Vec<Arc<Message>>) {
        self.hub.publish(self.project, messages.into());
    }

    pub fn begin_attach(
        &self,
        conn: Conn,
        topics: &[&str],
        after: Option<Position>,
    ) -> Receiver<Result<Attached, NotCovered>> {
        self.begin_attach_with(conn, topics, after, None)
    }

    pub fn begin_attach_with(
        &self,
        conn: Conn,
        topics: &[&str],
        after: Option<Position>,
        preface: Option<&'static str>,
    ) -> Receiver<Result<Attached, NotCovered>> {
        let (sender, receiver) = channel();
        let preface = preface.map(|preface| {
            Box::new(move |at: Position| format!("{preface}{}\n\n", at.sequence).into_bytes())
                as Box<dyn FnOnce(Position) -> Vec<u8> + Send>
        });
        let attach = Attach {
            project: self.project,
            patterns: patterns(topics),
            operation: None,
            after,
            preface,
            done: Box::new(move |outcome| {
                sender.send(outcome).ok();
            }),
        };
        self.hub.attach(conn, attach);
        receiver
    }

    pub fn attach(
        &self,
        conn: Conn,
        topics: &[&str],
        after: Option<Position>,
    ) -> Result<Attached, NotCovered> {
        self.begin_attach(conn, topics, after).recv_timeout(PATIENCE).expect("an outcome")
    }

    /// Waits until every command so far has been handled by all shards.
    pub fn settle(&self) {
        let mut stats = self.hub.stats();
        while stats.queued_bytes > 0 {
            std::thread::yield_now();
            stats = self.hub.stats();
        }
    }

    pub fn delivered(&self) -> u64 {
        self.meter.delivered.load(std::sync::atomic::Ordering::Relaxed)
    }
}
