//! HTTP/1.1 requests over kept-alive connections, all on one thread: as fast as answers come, or at a rate.

use super::endpoint::Endpoint;
use super::reader::connect;
use super::report::histogram;
use anyhow::bail;
use hdrhistogram::Histogram;
use memchr::memmem;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

/// What is asked, and what is made of the answers.
pub(super) trait Work {
    /// Writes the next whole request of a connection.
    fn request(&mut self, connection: usize, out: &mut Vec<u8>);
    /// Takes an answer of status 200 to 299.
    fn answer(&mut self, connection: usize, body: &[u8]);
}

/// How much and how fast.
#[derive(Clone, Copy)]
pub(super) struct Pace {
    pub(super) connections: usize,
    /// Requests per second over all connections; `None` sends the next when the answer is there.
    pub(super) rate: Option<f64>,
    pub(super) duration: Duration,
}

/// What came of it.
pub(super) struct Outcome {
    pub(super) ok: u64,
    /// Other answers by status.
    pub(super) failed: BTreeMap<u16, u64>,
    /// From sending a request to its whole answer, nanoseconds.
    pub(super) latency: Histogram<u64>,
    pub(super) seconds: f64,
    /// One answer that was not a success, to show why.
    pub(super) example: Option<String>,
}

impl Outcome {
    pub(super) fn failures(&self) -> u64 {
        self.failed.values().sum()
    }
}

struct Connection {
    stream: TcpStream,
    /// When the request was sent that waits for its answer.
    asked: Option<Instant>,
    out: Vec<u8>,
    sent: usize,
    input: Vec<u8>,
}

struct Driver<'a> {
    work: &'a mut dyn Work,
    connections: Vec<Connection>,
    /// In turn: a connection that is never asked would be closed as silent.
    idle: VecDeque<usize>,
    outcome: Outcome,
    scratch: Vec<u8>,
}

/// How long answers may take after the last request.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs until the time is over and every request is answered.
pub(super) fn drive(endpoint: &Endpoint, pace: Pace, work: &mut dyn Work) -> anyhow::Result<Outcome> {
    let mut poll = Poll::new()?;
    let mut connections = Vec::with_capacity(pace.connections);
    for number in 0..pace.connections {
        let mut stream = connect(endpoint.address, number % 4)?;
        poll.registry().register(&mut stream, Token(number), Interest::READABLE | Interest::WRITABLE)?;
        connections.push(Connection { stream, asked: None, out: Vec::new(), sent: 0, input: Vec::new() });
    }
    let outcome =
        Outcome { ok: 0, failed: BTreeMap::new(), latency: histogram()?, seconds: 0.0, example: None };
    let idle = (0..pace.connections).collect();
    let mut driver = Driver { work, connections, idle, outcome, scratch: vec![0; 256 << 10] };
    driver.run(&mut poll, pace)?;
    Ok(driver.outcome)
}

impl Driver<'_> {
    fn run(&mut self, poll: &mut Poll, pace: Pace) -> anyhow::Result<()> {
        let mut events = Events::with_capacity(1024);
        let began = Instant::now();
        let mut asked = 0_u64;
        loop {
            let elapsed = began.elapsed();
            let over = elapsed >= pace.duration;
            if over && self.idle.len() == self.connections.len() {
                break;
            }
            if elapsed > pace.duration + PATIENCE {
                let waiting = self.connections.len() - self.idle.len();
                bail!("{waiting} requests had no answer {PATIENCE:?} after the end");
            }
            let due = pace.rate.map_or(u64::MAX, |rate| (elapsed.as_secs_f64() * rate) as u64 + 1);
            while !over
                && asked < due
                && let Some(slot) = self.idle.pop_front()
            {
                self.ask(slot)?;
                asked += 1;
            }
            // Wakes for answers, and for the next request that falls due.
            let nap = pace.rate.map_or(50.0, |rate| (due as f64 / rate - elapsed.as_secs_f64()) * 1e3);
            let nap = Duration::from_micros((nap.clamp(0.2, 50.0) * 1e3) as u64);
            match poll.poll(&mut events, Some(nap)) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error.into()),
                _ => {}
            }
            for event in &events {
                self.turn(event.token().0)?;
            }
        }
        self.outcome.seconds = began.elapsed().as_secs_f64();
        Ok(())
    }

    fn ask(&mut self, slot: usize) -> anyhow::Result<()> {
        let connection = &mut self.connections[slot];
        connection.out.clear();
        connection.sent = 0;
        self.work.request(slot, &mut connection.out);
        connection.asked = Some(Instant::now());
        connection.send()?;
        Ok(())
    }

    fn turn(&mut self, slot: usize) -> anyhow::Result<()> {
        let connection = &mut self.connections[slot];
        connection.send()?;
        loop {
            match connection.stream.read(&mut self.scratch) {
                Ok(0) => bail!("the server closed a kept-alive connection"),
                Ok(read) => {
                    connection.input.extend_from_slice(&self.scratch[..read]);
                    if read < self.scratch.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::NotConnected => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        let Some((status, body)) = answer(&connection.input)? else { return Ok(()) };
        if let Some(asked) = connection.asked.take() {
            let nanos = u64::try_from(asked.elapsed().as_nanos()).unwrap_or(u64::MAX);
            self.outcome.latency.saturating_record(nanos);
            self.idle.push_back(slot);
        }
        let body = &connection.input[body];
        if (200..300).contains(&status) {
            self.outcome.ok += 1;
            self.work.answer(slot, body);
        } else {
            *self.outcome.failed.entry(status).or_default() += 1;
            let text = || String::from_utf8_lossy(body).chars().take(300).collect();
            self.outcome.example.get_or_insert_with(text);
        }
        self.connections[slot].input.clear();
        Ok(())
    }
}

impl Connection {
    /// Sends what the socket takes now; the rest when it is writable again.
    fn send(&mut self) -> io::Result<()> {
        while self.sent < self.out.len() {
            match self.stream.write(&self.out[self.sent..]) {
                Ok(sent) => self.sent += sent,
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) =>
                {
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Status and body of a whole answer; `None` while it is not whole.
fn answer(input: &[u8]) -> anyhow::Result<Option<(u16, std::ops::Range<usize>)>> {
    let Some(end) = memmem::find(input, b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&input[..end])?;
    let Some(status) = head.get(9..12).and_then(|status| status.parse().ok()) else {
        bail!("not an HTTP answer: {head}");
    };
    let mut length = None;
    for line in head.lines().skip(1) {
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = Some(value.trim().parse::<usize>()?);
        }
    }
    let Some(length) = length else { bail!("the bench needs answers with Content-Length; got: {head}") };
    let body = end + 4..end + 4 + length;
    Ok((input.len() >= body.end).then_some((status, body)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_whole_or_not() {
        let text = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok";
        for end in 0..text.len() {
            assert_eq!(answer(&text[..end]).expect("fine so far"), None);
        }
        assert_eq!(answer(text).expect("fine"), Some((201, text.len() - 2..text.len())));
        assert!(answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
    }
}
