//! `weir bench`: a lean load client. It must cost less than what it measures, so a few threads poll all
//! sockets and only frame headers are read; a handful of probe connections read whole frames, for
//! latency and for proof that nothing is missing.
//!
//! Start reading at [`fanout`], then `swarm` (subscribers) and `requests` (publishers and readers).
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "prints its report")]

mod connections;
mod endpoint;
mod events;
mod fanout;
mod floor;
mod graphql;
mod latency;
mod machine;
mod mixed;
mod process;
mod publish;
mod reader;
mod replay;
mod report;
mod requests;
mod resume;
mod revoke;
mod swarm;
mod wire;

use anyhow::Context;
use endpoint::Endpoint;
use process::Process;
use std::process::ExitCode;

/// Measure a server. Run server and client on separate cores (`taskset`) for figures that mean something.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    what: What,
}

/// The server under test.
#[derive(clap::Args, Clone)]
struct Target {
    /// The server.
    #[arg(long, env = "WEIR_URL", default_value = "http://127.0.0.1:8080", global = true)]
    url: String,
    /// An API key that may publish and subscribe.
    #[arg(long, env = "WEIR_API_KEY", hide_env_values = true, global = true)]
    api_key: Option<String>,
    /// The process whose CPU time and memory are read; without it, the one that listens on the port.
    #[arg(long, global = true)]
    server_pid: Option<u32>,
    /// Threads of this client.
    #[arg(long, default_value_t = 1, global = true)]
    threads: usize,
    /// Loopback addresses to connect from.
    #[arg(long, default_value_t = 8, global = true)]
    sources: usize,
    /// Print one JSON object.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(clap::Subcommand)]
enum What {
    /// Idle connections: memory and CPU that each costs the server.
    Connections(connections::Args),
    /// Many subscribers of one topic: deliveries per second, CPU per million, latency, losses.
    Fanout(fanout::Args),
    /// Publishing through REST: acknowledged events per second and latency.
    Publish(publish::Args),
    /// `eventStream` beside the same events over `/ws`, and how long query bombs take to refuse.
    Graphql(graphql::Args),
    /// From publish to delivery, at a rate.
    Latency(latency::Args),
    /// Everybody comes back at once, with a cursor.
    Resume(resume::Args),
    /// A key is revoked: until when its connections still get events.
    Revoke(revoke::Args),
    /// Reading history through REST.
    Replay(replay::Args),
    /// Subscribers, publishers and readers together.
    Mixed(mixed::Args),
    /// What this machine allows: a bare loop of sends, without any server around it.
    Floor(floor::Args),
    #[command(hide = true)]
    FloorServer(floor::ServerArgs),
}

/// Runs the command. Blocks threads, so it takes one of the runtime's that may be blocked.
///
/// # Errors
/// When the server cannot be used at all; single failures are part of the report.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    tokio::task::spawn_blocking(move || run_blocking(&args)).await.context("the bench stopped")?
}

fn run_blocking(args: &Args) -> anyhow::Result<ExitCode> {
    let target = &args.target;
    let report = match &args.what {
        What::Connections(args) => connections::run(target, args)?,
        What::Fanout(args) => fanout::run(target, args)?,
        What::Publish(args) => publish::run(target, args)?,
        What::Graphql(args) => graphql::run(target, args)?,
        What::Latency(args) => latency::run(target, args)?,
        What::Resume(args) => resume::run(target, args)?,
        What::Revoke(args) => revoke::run(target, args)?,
        What::Replay(args) => replay::run(target, args)?,
        What::Mixed(args) => mixed::run(target, args)?,
        What::Floor(args) => floor::run(target, args)?,
        What::FloorServer(args) => {
            floor::serve(args)?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    report.print(target.json);
    Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Target {
    fn endpoint(&self, path: &str) -> anyhow::Result<Endpoint> {
        Endpoint::parse(&format!("{}{path}", self.url.trim_end_matches('/')))
    }

    fn api_key(&self) -> anyhow::Result<&str> {
        self.api_key.as_deref().context("an API key is needed: --api-key or WEIR_API_KEY")
    }

    /// The server's process, where it runs on this machine.
    fn process(&self, endpoint: &Endpoint) -> Option<Process> {
        self.server_pid.map(Process::new).or_else(|| Process::listening_on(endpoint.address.port()))
    }
}
