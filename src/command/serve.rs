//! `weir dev` and `weir serve`: a node from start to stop.

use super::{complain, runtime, setup};
use crate::config::{self, Config};
use crate::telemetry;
use crate::wiring::{self, Node};
use anyhow::Context;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};
use weir_core::PlanName;
use weir_engine::Traces;
use weir_gateway::{Acceptor, Server, ops_router, router, serve};
use weir_hub::Goodbye;

/// Whether a demo is set up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// With a demo tenant and its key.
    Dev,
    /// Without.
    Serve,
}

/// What is left of the time to stop for storing what is queued.
const FOR_STORES: Duration = Duration::from_secs(2);

/// The name of the demo's tenant and project.
const DEMO: &str = "demo";

/// Runs a node until it is told to stop.
pub fn run(path: Option<&Path>, mode: Mode) -> anyhow::Result<ExitCode> {
    let loaded = config::load(path)?;
    let telemetry = telemetry::start(&loaded.config.telemetry)?;
    tracing::debug!(settings = loaded.config.redacted(), "the settings that hold");
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let runtime = runtime()?;
    let code = runtime.block_on(node(&loaded.config, mode, telemetry.traces.clone()));
    // What is left now is past every deadline.
    runtime.shutdown_timeout(Duration::from_millis(200));
    telemetry.finish();
    code
}

async fn node(config: &Config, mode: Mode, traces: Traces) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let listener = bind(config.listen, "listen")?;
    let ops_listener = bind(config.ops_listen, "ops_listen")?;
    let (listen, ops) = (listener.local_addr()?, ops_listener.local_addr()?);
    let node = tokio::select! {
        node = wiring::start(config, traces) => node?,
        () = signals.next() => return Ok(ExitCode::SUCCESS),
    };
    let server = Server::default();
    let (gateway, stop) = (&node.gateway, server.clone());
    tokio::spawn(serve(listener, router(gateway.clone()), gateway.clone(), true, server.clone()));
    tokio::spawn(serve(ops_listener, ops_router(gateway.clone()), gateway.clone(), false, server.clone()));
    let durability = node.engine.health().await.durability;
    tracing::info!(%listen, ops_listen = %ops, durability, "serving on http://{listen}, operations on http://{ops}");
    if mode == Mode::Dev {
        demo(config, &node, listen).await?;
    }
    announce(listen, ops)?;
    let failed = tokio::select! {
        () = signals.next() => None,
        problem = log_failure(&node) => Some(problem),
    };
    if let Some(problem) = failed {
        // Nothing more can be stored; a supervisor starts the process again, which recovers.
        complain(&anyhow::anyhow!("the event log failed: {problem}"));
        return Ok(ExitCode::FAILURE);
    }
    tokio::select! {
        () = stop_gracefully(config, &node, &stop) => tracing::info!("stopped"),
        () = signals.next() => tracing::warn!("stopped at once by a second signal"),
    }
    Ok(ExitCode::SUCCESS)
}

fn bind(address: SocketAddr, setting: &str) -> anyhow::Result<Acceptor> {
    Acceptor::bind(address).map_err(|error| {
        let why = match error.kind() {
            ErrorKind::AddrInUse => "another process has it: stop that, or choose another port",
            ErrorKind::AddrNotAvailable => "it is no address of this machine: 0.0.0.0 or [::] is all of them",
            ErrorKind::PermissionDenied => {
                "ports below 1024 take a privilege: choose another, or grant CAP_NET_BIND_SERVICE"
            }
            _ => "the system refuses it",
        };
        anyhow::Error::new(error).context(format!("{setting} {address} cannot be used: {why}"))
    })
}

/// Tells whoever started this process where it listens, once it does: a file that appears whole.
fn announce(listen: SocketAddr, ops: SocketAddr) -> anyhow::Result<()> {
    let Some(path) = std::env::var_os("WEIR_READY_FILE") else { return Ok(()) };
    let text = serde_json::json!({ "listen": listen.to_string(), "ops_listen": ops.to_string() }).to_string();
    let path = Path::new(&path);
    let partial = path.with_extension("partial");
    std::fs::write(&partial, text)
        .and_then(|()| std::fs::rename(&partial, path))
        .context("WEIR_READY_FILE cannot be written")
}

/// Returns when the embedded log can store nothing any more; never for other logs.
async fn log_failure(node: &Node) -> String {
    let Some(log) = &node.embedded else { return std::future::pending().await };
    let mut problem = log.problem();
    loop {
        if let Some(problem) = problem.borrow_and_update().clone() {
            return problem;
        }
        if problem.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// Refuses what is new, closes live connections spread over a while, answers what has begun, and stores
/// what is queued.
async fn stop_gracefully(config: &Config, node: &Node, server: &Server) {
    let (whole, spread) = (config.limits.drain.std(), config.limits.drain_spread.std());
    let begun = Instant::now();
    let left = || whole.saturating_sub(begun.elapsed()).max(Duration::from_secs(1));
    let (sessions, _) = node.engine.load();
    // Spreading protects the other nodes from a herd; a few connections are none.
    let spread = spread.min(Duration::from_millis(10) * u32::try_from(sessions).unwrap_or(u32::MAX));
    tracing::info!(sessions, "stopping: closing {sessions} live connections over {spread:?}");
    node.gateway.begin_drain();
    node.engine.drain(spread).await;
    let goodbye = Goodbye {
        text: None,
        code: weir_core::Code::Draining.close_code(),
        reason: weir_core::Code::Draining.as_str().to_owned(),
        discard: false,
    };
    let hub = node.engine.hub();
    hub.drain(Duration::ZERO, goodbye);
    let farewells = async {
        // The hub tells its counts, not its emptiness.
        while hub.stats().websocket + hub.stats().sse > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let _ = tokio::time::timeout(config.hub.close_timeout.std(), farewells).await;
    // The rest is for what is queued to be stored: requests may not use up all of it.
    server.stop(left().saturating_sub(FOR_STORES).max(Duration::from_secs(1))).await;
    let stores = async {
        node.engine.stop().await;
        node.store.close().await;
    };
    if tokio::time::timeout(left(), stores).await.is_err() {
        tracing::warn!("the event log or the database did not close in time");
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Sets the demo up at the first start and prints what to try.
async fn demo(config: &Config, node: &Node, listen: SocketAddr) -> anyhow::Result<()> {
    let url = config.public_url.clone().unwrap_or_else(|| format!("http://{listen}"));
    let known = node.store.directory.tenant_by_name(DEMO.to_owned()).await?;
    if known.is_some() {
        println!("\nThe demo's API key was shown at the first start. For another one:\n");
        println!("  weir bootstrap --tenant {DEMO} --project {DEMO}\n\nTry it in a browser: {url}/\n");
        return Ok(());
    }
    let root = wiring::root_secret(config, &node.store).await?;
    let newcomer = setup::make(&node.store, &root, DEMO, DEMO, PlanName::Enterprise).await?;
    let key = &newcomer.api_key;
    println!("\nA demo tenant is ready. Its API key is shown this once:\n\n  {key}\n");
    println!(
        "Watch, in one terminal:\n\n  curl -N '{url}/v1/sse?topics=hello.*' -H 'Authorization: Bearer {key}'\n"
    );
    println!("Publish, in another:\n");
    println!("  curl '{url}/v1/events' -H 'Authorization: Bearer {key}' \\");
    println!(
        "       -H 'Content-Type: application/json' -d '{{\"topic\": \"hello.world\", \"payload\": {{\"n\": 1}}}}'\n"
    );
    println!("Or in a browser: {url}/#key={key}\nThe API is described at {url}/docs\n");
    Ok(())
}
