//! What a delivery costs: server CPU seconds per million deliveries of one topic to many WebSocket
//! subscribers, plain and in the envelope of an operation each (as GraphQL has them), beside a bare loop of
//! `send()` over as many sockets, and memory per idle connection.
//!
//! `cargo run --release -p weir-hub --example fanout_cost -- [SUBSCRIBERS] [SECONDS]`. Wants two
//! processors (`taskset`): the server on one, the clients in a process of their own on the other.

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::panic)]

use bytes::Bytes;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Socket, Type};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use weir_core::{Position, ProjectId};
use weir_hub::{
    Attach, Closed, Config, Conn, Dialect, Hub, Listener, Message, Meter, NewConnection, Operation, Shape,
};

const PAYLOAD: usize = 128;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: usize| args.get(at).map_or(default, |arg| arg.parse().unwrap());
    match args.first().map(String::as_str) {
        Some("client") => client(args[1].parse().unwrap(), number(2, 0)),
        Some("server") => server(number(1, 10_000), number(2, 5) as u64),
        Some("memory") => memory(number(1, 10_000), &args[2]),
        _ => {
            let (count, seconds) = (number(0, 10_000).to_string(), number(1, 5).to_string());
            for args in [
                ["memory", &count, "shared"],
                ["memory", &count, "own"],
                ["memory", &count, "operation"],
                ["server", &count, &seconds],
            ] {
                let me = std::env::current_exe().unwrap();
                Command::new("taskset").args(["-c", "0"]).arg(me).args(args).status().unwrap();
            }
        }
    }
}

/// Reads and forgets on `count` connections, from two addresses, until all are closed.
fn client(address: SocketAddr, count: usize) {
    let mut poll = Poll::new().unwrap();
    let mut sockets: Vec<_> = (0..count)
        .map(|n| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            let from: SocketAddr = format!("127.0.0.{}:0", 2 + n % 2).parse().unwrap();
            socket.bind(&from.into()).unwrap();
            socket.connect(&address.into()).unwrap();
            socket.set_nonblocking(true).unwrap();
            let mut socket = mio::net::TcpStream::from_std(socket.into());
            poll.registry().register(&mut socket, Token(n), Interest::READABLE).unwrap();
            Some(socket)
        })
        .collect();
    println!("connected");
    let (mut events, mut buffer, mut open) = (Events::with_capacity(1024), vec![0; 256 << 10], count);
    while open > 0 {
        poll.poll(&mut events, None).unwrap();
        for event in &events {
            let Some(socket) = &mut sockets[event.token().0] else { continue };
            loop {
                match socket.read(&mut buffer) {
                    Ok(size) if size > 0 && size < buffer.len() && !event.is_read_closed() => break,
                    Ok(size) if size > 0 => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    _ => {
                        sockets[event.token().0] = None;
                        open -= 1;
                        break;
                    }
                }
            }
        }
    }
}

/// Starts a client on the other processor and accepts its connections.
fn subscribers(count: usize) -> (Child, Vec<TcpStream>) {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut child = Command::new("taskset")
        .args(["-c", "1"])
        .arg(std::env::current_exe().unwrap())
        .args(["client", &server.local_addr().unwrap().to_string(), &count.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let sockets = (0..count).map(|_| server.accept().unwrap().0).collect();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (child, sockets)
}

/// CPU time of all threads of this process.
fn cpu() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let nanos = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok());
    Duration::from_nanos(nanos.map(|line| line.split(' ').next().unwrap().parse::<u64>().unwrap()).sum())
}

fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Calls `publish` with how many messages are due, `rate` a second.
fn paced(rate: u64, seconds: u64, mut publish: impl FnMut(u64)) {
    let (start, mut published) = (Instant::now(), 0);
    while published < rate * seconds {
        let due = ((start.elapsed().as_secs_f64() * rate as f64) as u64 + 1).min(rate * seconds);
        if due > published {
            publish(due - published);
            published = due;
        }
        let next = Duration::from_secs_f64(published as f64 / rate as f64);
        std::thread::sleep(next.saturating_sub(start.elapsed()));
    }
}

/// The least that can be done: the joined frames, one `send()` each. CPU seconds per million deliveries
/// and events per send.
fn floor(sockets: &[TcpStream], rate: u64, seconds: u64) -> (f64, f64) {
    let mut frame = vec![0x81, 126, 0, PAYLOAD as u8];
    frame.resize(4 + PAYLOAD, b'x');
    let (before, mut sends) = (cpu(), 0.0);
    paced(rate, seconds, |count| {
        sends += 1.0;
        let joined = frame.repeat(count as usize);
        for mut socket in sockets {
            let mut rest = &joined[..];
            while !rest.is_empty() {
                match socket.write(rest) {
                    Ok(size) => rest = &rest[size..],
                    Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
                    Err(error) => panic!("{error}"),
                }
            }
        }
    });
    let messages = (rate * seconds) as f64;
    ((cpu() - before).as_secs_f64() / messages / sockets.len() as f64 * 1e6, messages / sends)
}

/// How each subscriber subscribes; the number is its own.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Shared,
    OwnTopic,
    Operation,
}

/// About what a selection of five fields copies.
struct Selection;

impl Shape for Selection {
    fn key(&self) -> &str {
        "id topic sequence cursor payload"
    }

    fn render(&self, message: &Message, out: &mut Vec<u8>) {
        let fifth = message.body.len().div_ceil(5);
        for (name, value) in ["{\"a", ",\"b", ",\"c", ",\"d", ",\"e"].iter().zip(message.body.chunks(fifth)) {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(value);
        }
    }
}

fn operation(number: usize) -> Arc<Operation> {
    let id = format!("{number:08x}-0000-4000-8000-000000000000");
    Arc::new(Operation {
        id: 0,
        prefix: format!(r#"{{"id":"{id}","type":"next","payload":{{"data":{{"eventStream":"#).into(),
        suffix: Bytes::from_static(b"}}}"),
        shape: Arc::new(Selection),
    })
}

struct Subscriber {
    hub: Hub,
    project: ProjectId,
    kind: Kind,
    number: usize,
    attached: Arc<AtomicU64>,
}

impl Listener for Subscriber {
    fn opened(&self, conn: Conn) -> Option<Bytes> {
        let own = || format!("user.{}.inbox", self.number);
        let topic = if self.kind == Kind::OwnTopic { own() } else { "topic".to_owned() };
        let attached = Arc::clone(&self.attached);
        let attach = Attach {
            project: self.project,
            patterns: vec![topic.parse().unwrap()],
            operation: (self.kind == Kind::Operation).then(|| operation(self.number)),
            after: None,
            preface: None,
            done: Box::new(move |outcome| {
                outcome.unwrap();
                attached.fetch_add(1, Relaxed);
            }),
        };
        self.hub.attach(conn, attach);
        None
    }

    fn text(self: Arc<Self>, _: Bytes) -> bool {
        true
    }

    fn drained(&self) {}

    fn closed(&self, _: Closed) {}
}

struct World {
    hub: Hub,
    project: ProjectId,
    meter: Arc<Meter>,
    sequence: u64,
}

fn position(sequence: u64) -> Position {
    Position { epoch: 1, sequence, check: 0 }
}

impl World {
    fn new() -> Self {
        let hub = Hub::start(Config { shards: 1, ..Config::default() }).unwrap();
        let (project, meter) = (ProjectId::new(), Arc::new(Meter::default()));
        hub.open_project(project, position(0), Arc::clone(&meter));
        Self { hub, project, meter, sequence: 0 }
    }

    /// Adopts and attaches all; returns the bytes of memory that each took.
    fn adopt(&self, sockets: Vec<TcpStream>, kind: Kind) -> usize {
        let count = sockets.len();
        let attached = Arc::new(AtomicU64::new(0));
        let before = resident();
        for (number, socket) in sockets.into_iter().enumerate() {
            let (hub, project) = (self.hub.clone(), self.project);
            self.hub.adopt(NewConnection {
                socket: weir_hub::ready(socket).unwrap(),
                dialect: Dialect::WebSocket,
                read_ahead: Bytes::new(),
                preamble: Bytes::new(),
                listener: Arc::new(Subscriber {
                    hub,
                    project,
                    kind,
                    number,
                    attached: Arc::clone(&attached),
                }),
            });
            // Few at a time, or the queue's own memory would be measured.
            while attached.load(Relaxed) + 64 < number as u64 {
                std::thread::yield_now();
            }
        }
        while attached.load(Relaxed) < count as u64 {
            std::thread::yield_now();
        }
        resident().saturating_sub(before) / count
    }

    fn publish(&mut self, count: u64) {
        let one = |sequence| {
            Arc::new(Message {
                position: position(sequence),
                topic: "topic".parse().unwrap(),
                ws_prefix: Bytes::from_static(b"xxxxxxxx"),
                sse_prefix: Bytes::new(),
                body: vec![b'x'; PAYLOAD - 8].into(),
                marks: [0; 8],
            })
        };
        let messages: Vec<_> = (self.sequence + 1..=self.sequence + count).map(one).collect();
        self.sequence += count;
        self.hub.publish(self.project, messages.into());
    }

    /// CPU seconds per million deliveries, deliveries per second, events per send.
    fn measure(&mut self, subscribers: usize, rate: u64, seconds: u64) -> (f64, f64, f64) {
        let deliveries = rate * seconds * subscribers as u64;
        let target = self.meter.delivered.load(Relaxed) + deliveries;
        let (before, sends, start) = (cpu(), self.hub.stats().sends, Instant::now());
        paced(rate, seconds, |count| self.publish(count));
        while self.meter.delivered.load(Relaxed) < target {
            assert_eq!(self.hub.stats().slow_consumers, 0, "the client does not keep up");
            std::thread::sleep(Duration::from_millis(1));
        }
        let million = deliveries as f64 / 1e6;
        let sends = (self.hub.stats().sends - sends) as f64;
        let cpu = (cpu() - before).as_secs_f64();
        (cpu / million, deliveries as f64 / start.elapsed().as_secs_f64(), deliveries as f64 / sends)
    }
}

fn server(count: usize, seconds: u64) {
    println!("{count} subscribers of one topic, {PAYLOAD} B, {seconds} s each");
    let (mut child, sockets) = subscribers(count);
    sockets.iter().for_each(|socket| socket.set_nodelay(true).unwrap());
    sockets.iter().for_each(|socket| socket.set_nonblocking(true).unwrap());
    let floors = [10, 200].map(|rate| floor(&sockets, rate, seconds));
    drop(sockets);
    child.wait().unwrap();
    for (name, kind) in [("plain", Kind::Shared), ("enveloped", Kind::Operation)] {
        let mut world = World::new();
        let (mut child, sockets) = subscribers(count);
        world.adopt(sockets, kind);
        for (rate, (floor, floor_joined)) in [10, 200].into_iter().zip(floors) {
            let (cpu, throughput, joined) = world.measure(count, rate, seconds);
            println!(
                "{name:>9}, {rate:>3} msg/s: {cpu:.3} CPU s per million at {joined:.1} events a send, \
                 {:.2}M deliveries/s; floor {floor:.3} at {floor_joined:.1}: ratio {:.2}",
                throughput / 1e6,
                cpu / floor,
            );
        }
        world.hub.shutdown();
        child.wait().unwrap();
    }
}

fn memory(count: usize, kind: &str) {
    let world = World::new();
    let (mut child, sockets) = subscribers(count);
    let (kind, what) = match kind {
        "own" => (Kind::OwnTopic, "a topic each"),
        "operation" => (Kind::Operation, "one topic, an operation each"),
        _ => (Kind::Shared, "one topic"),
    };
    println!("{count} idle connections, {what}: {} B each", world.adopt(sockets, kind));
    world.hub.shutdown();
    child.wait().unwrap();
}
