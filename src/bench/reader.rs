//! One thread of a swarm: dials, upgrades, subscribes and counts.

use super::events::{self, Reading};
use super::swarm::{Counts, Findings, Plan, Speech};
use super::wire::{CLOSE, Frame, Frames, Line, Lines, PING, TEXT, masked};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// Handshakes under way at once.
const DIALING: usize = 128;
/// Longest sleep: how soon the thread notices that it is to stop.
const NAP: Duration = Duration::from_millis(50);
/// How long a refused connection waits before it tries again.
const RETRY: Duration = Duration::from_secs(1);
/// The longest head of an answer.
const HEAD: usize = 16 << 10;

pub(super) struct Reader {
    plan: Plan,
    counts: Arc<Counts>,
    poll: Poll,
    connections: Vec<Option<Connection>>,
    /// Which connections of the whole swarm are this thread's, by slot.
    share: Vec<usize>,
    /// Slots to dial, and those to dial again later.
    to_dial: VecDeque<usize>,
    later: VecDeque<(Instant, usize)>,
    dialing: usize,
    scratch: Vec<u8>,
    findings: Findings,
}

struct Connection {
    stream: TcpStream,
    stage: Stage,
    stream_state: StreamState,
    probe: Option<Probe>,
}

enum Stage {
    Dialing,
    /// Reading the answer's head.
    Head(Vec<u8>),
    Live,
}

enum StreamState {
    Frames(Frames),
    Lines(Lines),
}

/// What a probe remembers: the sequence of its last event.
#[derive(Default)]
struct Probe {
    last: Option<u64>,
}

/// What one read brought.
#[derive(Default)]
struct Pass {
    ready: u64,
    events: u64,
    notices: u64,
    close: Option<u16>,
    pong: Option<Vec<u8>>,
}

/// Why a connection is over.
enum Over {
    /// The server refused the upgrade.
    Refused(String),
    /// It ended, with a close code or without (0).
    Closed(u16),
}

impl From<io::Error> for Over {
    fn from(_: io::Error) -> Self {
        Self::Closed(0)
    }
}

impl Reader {
    pub(super) fn new(plan: Plan, counts: Arc<Counts>, share: Vec<usize>) -> anyhow::Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            connections: share.iter().map(|_| None).collect(),
            to_dial: (0..share.len()).collect(),
            later: VecDeque::new(),
            dialing: 0,
            scratch: vec![0; 256 << 10],
            findings: Findings::new()?,
            plan,
            counts,
            share,
        })
    }

    pub(super) fn run(mut self) -> anyhow::Result<Findings> {
        let mut events = Events::with_capacity(4096);
        while !self.counts.stop.load(Relaxed) {
            while self.later.front().is_some_and(|(due, _)| *due <= Instant::now()) {
                self.to_dial.extend(self.later.pop_front().map(|(_, slot)| slot));
            }
            while self.dialing < DIALING
                && let Some(slot) = self.to_dial.pop_front()
            {
                self.dial(slot)?;
            }
            match self.poll.poll(&mut events, Some(NAP)) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error.into()),
                _ => {}
            }
            let mut delivered = (0, 0);
            for event in &events {
                let (events, bytes) = self.turn(event.token().0);
                delivered = (delivered.0 + events, delivered.1 + bytes);
            }
            if delivered.0 > 0 {
                self.counts.last.store(events::now(), Relaxed);
                self.counts.bytes.fetch_add(delivered.1, Relaxed);
                self.counts.delivered.fetch_add(delivered.0, Relaxed);
            }
        }
        Ok(self.findings)
    }

    fn dial(&mut self, slot: usize) -> io::Result<()> {
        let number = self.share[slot];
        let mut stream = connect(self.plan.address, number % self.plan.sources.max(1))?;
        self.poll.registry().register(&mut stream, Token(slot), Interest::READABLE | Interest::WRITABLE)?;
        // Probes are spread evenly over the swarm.
        let every = (self.plan.connections / self.plan.probes.max(1)).max(1);
        let probe = (self.plan.speech != Speech::Bare && number.is_multiple_of(every)).then(Probe::default);
        let stream_state = match self.plan.speech {
            Speech::Sse => StreamState::Lines(Lines::default()),
            _ => StreamState::Frames(Frames::default()),
        };
        self.connections[slot] = Some(Connection { stream, stage: Stage::Dialing, stream_state, probe });
        self.dialing += 1;
        Ok(())
    }

    /// One connection's turn. Gives the events and bytes that came.
    fn turn(&mut self, slot: usize) -> (u64, u64) {
        let Some(mut connection) = self.connections[slot].take() else { return (0, 0) };
        let was_dialing = !matches!(connection.stage, Stage::Live);
        let mut pass = Pass::default();
        let mut bytes = 0;
        let outcome = self.advance(&mut connection, slot, &mut pass, &mut bytes);
        if was_dialing && (outcome.is_err() || matches!(connection.stage, Stage::Live)) {
            self.dialing -= 1;
        }
        self.counts.ready.fetch_add(pass.ready, Relaxed);
        self.counts.notices.fetch_add(pass.notices, Relaxed);
        match outcome {
            Ok(()) => self.connections[slot] = Some(connection),
            Err(Over::Refused(answer)) => {
                self.counts.refused.fetch_add(1, Relaxed);
                *self.counts.refusal.lock().unwrap_or_else(PoisonError::into_inner) = answer;
                self.later.push_back((Instant::now() + RETRY, slot));
            }
            Err(Over::Closed(code)) => {
                self.counts.lost_connections.fetch_add(1, Relaxed);
                *self.findings.closes.entry(code).or_default() += 1;
            }
        }
        (pass.events, bytes)
    }

    fn advance(
        &mut self,
        connection: &mut Connection,
        slot: usize,
        pass: &mut Pass,
        bytes: &mut u64,
    ) -> Result<(), Over> {
        let (hello, after) = &self.plan.hello[self.share[slot] % self.plan.hello.len()];
        if matches!(connection.stage, Stage::Dialing) {
            if let Some(error) = connection.stream.take_error()? {
                return Err(Over::Refused(format!("the last attempt failed: {error}")));
            }
            if connection.stream.peer_addr().is_err() {
                return Ok(());
            }
            if !hello.is_empty() {
                connection.stream.write_all(hello)?;
            }
            connection.stage = Stage::Head(Vec::new());
            if self.plan.speech == Speech::Bare {
                connection.stage = Stage::Live;
                pass.ready = 1;
            }
        }
        loop {
            let read = match connection.stream.read(&mut self.scratch) {
                Ok(0) => return Err(Over::Closed(0)),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            *bytes += read as u64;
            let mut taken = &self.scratch[..read];
            let rest;
            if let Stage::Head(head) = &mut connection.stage {
                head.extend_from_slice(taken);
                let Some(body) = whole_head(head)? else { continue };
                rest = body;
                taken = &rest;
                connection.stage = Stage::Live;
                if !after.is_empty() {
                    connection.stream.write_all(after)?;
                }
                pass.ready += u64::from(!matches!(self.plan.speech, Speech::Weir | Speech::Graphql));
            }
            let measuring = self.counts.measuring.load(Relaxed);
            connection.take(taken, self.plan.speech, measuring.then_some(&mut self.findings), pass)?;
            if let Some(pong) = pass.pong.take() {
                connection.stream.write_all(&pong)?;
            }
            if let Some(code) = pass.close {
                return Err(Over::Closed(code));
            }
            // A read that did not fill the buffer has emptied the socket: the next byte wakes again.
            if read < self.scratch.len() {
                return Ok(());
            }
        }
    }
}

impl Connection {
    fn take(
        &mut self,
        bytes: &[u8],
        speech: Speech,
        mut findings: Option<&mut Findings>,
        pass: &mut Pass,
    ) -> io::Result<()> {
        let probe = &mut self.probe;
        let whole = probe.is_some();
        match &mut self.stream_state {
            StreamState::Lines(lines) => {
                lines.feed(bytes, whole, |line, text| match line {
                    Line::Event => {
                        pass.events += 1;
                        note(probe, text, &mut findings);
                    }
                    Line::Named => pass.notices += 1,
                });
                Ok(())
            }
            StreamState::Frames(frames) => frames.feed(bytes, whole, |frame| {
                if is_event(&frame, speech) {
                    pass.events += 1;
                    note(probe, frame.start, &mut findings);
                } else {
                    pass.other(&frame);
                }
            }),
        }
    }
}

fn is_event(frame: &Frame<'_>, speech: Speech) -> bool {
    let event: &[u8] = match speech {
        Speech::Weir => br#"{"type":"event""#,
        Speech::Graphql => br#"{"id":"1","type":"next""#,
        _ => b"",
    };
    frame.opcode <= 2 && frame.start.starts_with(event)
}

impl Pass {
    fn other(&mut self, frame: &Frame<'_>) {
        match frame.opcode {
            TEXT if frame.start.starts_with(br#"{"type":"subscribed""#) => self.ready += 1,
            // As much of `connection_ack` as is looked at.
            TEXT if frame.start.starts_with(br#"{"type":"connection_ac"#) => self.ready += 1,
            TEXT if frame.start.starts_with(br#"{"type":"connected""#) => {}
            TEXT => self.notices += 1,
            PING => self.pong = Some(masked(10, frame.start)),
            CLOSE => {
                let code = frame.start.get(..2).and_then(|code| code.try_into().ok());
                self.close = Some(code.map_or(0, u16::from_be_bytes));
            }
            _ => {}
        }
    }
}

/// What a probe makes of an event.
fn note(probe: &mut Option<Probe>, text: &[u8], findings: &mut Option<&mut Findings>) {
    let Some(probe) = probe else { return };
    let reading = Reading::of(text);
    let before = std::mem::replace(&mut probe.last, reading.sequence);
    let Some(findings) = findings else { return };
    if let Some(published) = reading.published {
        findings.latency.saturating_record(events::now().saturating_sub(published));
    }
    // A probe has one topic, so the event before must be exactly the one that `previous` names.
    if before.is_some() && reading.previous.is_some() && before != reading.previous {
        findings.holes += 1;
    }
}

/// The bytes after a complete head that says yes; `None` while the head is not complete.
fn whole_head(head: &[u8]) -> Result<Option<Vec<u8>>, Over> {
    let Some(end) = memchr::memmem::find(head, b"\r\n\r\n") else {
        return if head.len() > HEAD { Err(Over::Closed(0)) } else { Ok(None) };
    };
    let status = head.get(9..12).unwrap_or_default();
    if status != b"101" && status != b"200" {
        let text = String::from_utf8_lossy(head);
        let (line, body) = (text.lines().next().unwrap_or_default(), &text[text.len().min(end + 4)..]);
        return Err(Over::Refused(format!("the last answer was `{line}` {}", body.trim())));
    }
    Ok(Some(head[end + 4..].to_vec()))
}

/// Starts to connect, from one of several loopback addresses where the server is on loopback too.
pub(super) fn connect(address: SocketAddr, source: usize) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    // The first address is taken anyhow. Binding looks for a port that nobody has at all, which takes
    // milliseconds when thousands are in use or in TIME_WAIT; connecting only needs a free pair.
    if source > 0 && address.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST) {
        let from = Ipv4Addr::new(127, 0, 0, u8::try_from(source % 250).unwrap_or(0) + 1);
        socket.bind(&SocketAddr::from((from, 0)).into())?;
    }
    match socket.connect(&address.into()) {
        Err(error)
            if error.raw_os_error() == Some(IN_PROGRESS) || error.kind() == io::ErrorKind::WouldBlock => {}
        other => other?,
    }
    Ok(TcpStream::from_std(socket.into()))
}

/// `EINPROGRESS` of Linux: the connection is on its way.
const IN_PROGRESS: i32 = 115;
