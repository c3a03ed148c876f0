//! `weir bench floor`: what sending costs on this machine when nothing else is done. A second process of
//! this binary sends WebSocket frames to every connection in a bare loop; the same client counts them.

use super::Target;
use super::fanout::{CONNECTING, SILENCE};
use super::report::{Report, round};
use super::swarm::{Plan, Speech, Swarm};
use super::{events, machine};
use anyhow::Context;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Connections.
    #[arg(long, default_value_t = 1000)]
    pub(super) connections: usize,
    /// Frames per second and connection.
    #[arg(long, default_value_t = 10.0)]
    pub(super) rate: f64,
    /// Bytes of a frame, header included; 126 to 60,000.
    #[arg(long, default_value_t = 420)]
    pub(super) frame: usize,
    /// Seconds.
    #[arg(long, default_value_t = 10.0)]
    pub(super) seconds: f64,
    /// The core for the process that sends, through `taskset`: the one that a server under test had.
    #[arg(long)]
    pub(super) server_core: Option<usize>,
}

/// The same, for the process that sends.
#[derive(clap::Args)]
pub(super) struct ServerArgs {
    #[command(flatten)]
    load: Args,
}

pub(super) struct Measured {
    pub(super) cpu_per_million: f64,
    deliveries_per_second: f64,
    delivered: u64,
    lost: u64,
}

pub(super) fn run(target: &Target, args: &Args) -> anyhow::Result<Report> {
    let measured = measure(target, args)?;
    let mut report = Report::new("floor");
    report.add("connections", args.connections, "");
    report.add("rate_wanted", args.rate, "frames/s");
    report.add("frame", args.frame, "bytes");
    report.add("delivered", measured.delivered, "");
    report.add("lost", measured.lost, "");
    report.add("deliveries_per_second", round(measured.deliveries_per_second), "/s");
    report.add("server_cpu_per_million", round(measured.cpu_per_million), "s");
    Ok(report)
}

pub(super) fn measure(target: &Target, args: &Args) -> anyhow::Result<Measured> {
    machine::check_nofile(args.connections)?;
    let mut server = Server::start(args)?;
    let plan = Plan {
        address: server.address,
        connections: args.connections,
        threads: target.threads,
        sources: target.sources,
        speech: Speech::Bare,
        hello: vec![(Vec::new(), Vec::new())],
        probes: 0,
    };
    let swarm = Swarm::start(&plan)?;
    swarm.wait_ready(args.connections, CONNECTING)?;
    let began = events::now();
    let cpu = server.send()?;
    let expected = args.frames() * args.connections as u64;
    let delivered = swarm.wait_delivered(expected, SILENCE);
    let seconds = swarm.seconds_since(began);
    swarm.finish()?;
    Ok(Measured {
        cpu_per_million: cpu / (delivered.max(1) as f64 / 1e6),
        deliveries_per_second: delivered as f64 / seconds.max(1e-9),
        delivered,
        lost: expected.saturating_sub(delivered),
    })
}

impl Args {
    fn frames(&self) -> u64 {
        ((self.rate * self.seconds) as u64).max(1)
    }

    fn frame(&self) -> Vec<u8> {
        let text = self.frame.clamp(130, 60_000) - 4;
        let length = u16::try_from(text).unwrap_or(u16::MAX).to_be_bytes();
        [&[0x81, 126], &length[..], &vec![b'x'; text]].concat()
    }
}

/// The process that sends. It is told to begin by a line, and tells its CPU time when it has sent all.
struct Server {
    child: Child,
    says: BufReader<std::process::ChildStdout>,
    address: SocketAddr,
}

impl Server {
    fn start(args: &Args) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("where this program is")?;
        let mut command = match args.server_core {
            Some(core) => {
                let mut command = Command::new("taskset");
                command.args(["-c", &core.to_string()]).arg(program);
                command
            }
            None => Command::new(program),
        };
        let mut child = command
            .args(["bench", "floor-server", "--connections", &args.connections.to_string()])
            .args(["--rate", &args.rate.to_string(), "--frame", &args.frame.to_string()])
            .args(["--seconds", &args.seconds.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the sending process")?;
        let mut says = BufReader::new(child.stdout.take().context("its output")?);
        let address = line(&mut says)?.parse().context("the sending process gave no address")?;
        Ok(Self { child, says, address })
    }

    /// Gives the seconds of CPU that sending took.
    fn send(&mut self) -> anyhow::Result<f64> {
        self.child.stdin.as_mut().context("its input")?.write_all(b"go\n")?;
        Ok(line(&mut self.says)?.parse()?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Closing its input ends it; killing makes sure. It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn line(from: &mut impl BufRead) -> anyhow::Result<String> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    Ok(line.trim().to_owned())
}

struct Sink {
    stream: TcpStream,
    /// Bytes sent of the endless repetition of the frame.
    sent: u64,
}

/// The sending process.
pub(super) fn serve(args: &ServerArgs) -> anyhow::Result<()> {
    let load = &args.load;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    let mut sinks = Vec::with_capacity(load.connections);
    for _ in 0..load.connections {
        let (stream, _) = listener.accept()?;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        sinks.push(Sink { stream, sent: 0 });
    }
    line(&mut std::io::stdin().lock())?;
    let before = cpu()?;
    send(load, &mut sinks)?;
    println!("{}", cpu()? - before);
    // Stays, so that the sockets do, until the other side has counted.
    std::io::stdin().lock().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Frames that fall due while a pass runs go out together in the next one, as in any batching server.
fn send(load: &Args, sinks: &mut [Sink]) -> anyhow::Result<()> {
    let frame = load.frame();
    let length = frame.len() as u64;
    let repeated = frame.repeat((64 << 10) / frame.len() + 1);
    let all = load.frames();
    let began = Instant::now();
    loop {
        let elapsed = began.elapsed().as_secs_f64();
        let due = ((elapsed * load.rate) as u64 + 1).min(all);
        let mut behind = false;
        for sink in &mut *sinks {
            while sink.sent < due * length {
                let from = (sink.sent % length) as usize;
                let wanted = (due * length - sink.sent).min((repeated.len() - from) as u64) as usize;
                match sink.stream.write(&repeated[from..from + wanted]) {
                    Ok(sent) => sink.sent += sent as u64,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        behind = true;
                        break;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
        if due == all && !behind {
            return Ok(());
        }
        let next = due as f64 / load.rate - began.elapsed().as_secs_f64();
        if behind {
            sleep(Duration::from_micros(200));
        } else if next > 0.0 {
            sleep(Duration::from_secs_f64(next));
        }
    }
}

/// Seconds of CPU of this thread, which does all the sending, to the nanosecond.
fn cpu() -> anyhow::Result<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos: u64 = text.split_whitespace().next().context("no CPU time in schedstat")?.parse()?;
    Ok(nanos as f64 / 1e9)
}
