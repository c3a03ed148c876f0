//! `weir subscribe`: prints events as they come.

use super::output::{Output, reader_gone};
use super::{Begin, GAP, Server};
use anyhow::Context;
use futures::StreamExt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use weir_client::{Delivery, Error, Start, Subscription, Transport};

/// How old the cursor file may get while events come.
const SAVE: Duration = Duration::from_secs(1);

/// Print events as they come; reconnects and resumes by itself.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  weir subscribe 'orders.>' --cursor-file orders.cursor --json")]
pub struct Args {
    #[command(flatten)]
    server: Server,
    /// Topics and patterns: `*` stands for one token, a last `>` for one or more.
    #[arg(required = true)]
    patterns: Vec<String>,
    #[command(flatten)]
    begin: Begin,
    /// How events come in.
    #[arg(long, value_enum, default_value = "ws")]
    transport: Wire,
    /// Leave after so many events.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Begin after the cursor in this file, if it is there, and keep it up to date.
    #[arg(long, value_name = "FILE")]
    cursor_file: Option<PathBuf>,
    /// Leave with exit code 5 when events are missing.
    #[arg(long)]
    fail_on_gap: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Wire {
    Ws,
    Sse,
}

/// How it ended, when not by an error of the server's.
enum End {
    Counted,
    Interrupted,
    GapSeen,
    ReaderGone,
}

/// Runs the command.
///
/// # Errors
/// When the cursor file or standard output fail.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut subscription = match connect(&args).await? {
        Ok(subscription) => subscription,
        Err(error) => return Ok(args.server.failure(&error)),
    };
    let end = print(&args, &mut subscription).await;
    if let (Some(file), Some(cursor)) = (&args.cursor_file, subscription.cursor()) {
        save(file, cursor)?;
    }
    let code = match end? {
        Ok(End::GapSeen) => ExitCode::from(GAP),
        Ok(End::ReaderGone) => return Ok(ExitCode::SUCCESS),
        Ok(End::Counted | End::Interrupted) => ExitCode::SUCCESS,
        Err(error) => args.server.failure(&error),
    };
    if let Some(cursor) = subscription.cursor() {
        eprintln!("resume with --after {cursor}");
    }
    Ok(code)
}

async fn connect(args: &Args) -> anyhow::Result<Result<Subscription, Error>> {
    let mut start = args.begin.start();
    if let (Start::Default, Some(file)) = (&start, &args.cursor_file) {
        match std::fs::read_to_string(file) {
            Ok(cursor) if !cursor.trim().is_empty() => start = Start::After(cursor.trim().to_owned()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).context(format!("cannot read {}", file.display())),
        }
    }
    let transport = match args.transport {
        Wire::Ws => Transport::WebSocket,
        Wire::Sse => Transport::Sse,
    };
    let client = match args.server.client() {
        Ok(client) => client,
        Err(error) => return Ok(Err(error)),
    };
    Ok(client.subscribe(&args.patterns).from(start).transport(transport).connect().await)
}

async fn print(args: &Args, subscription: &mut Subscription) -> anyhow::Result<Result<End, Error>> {
    let mut output = Output::new(args.server.json);
    let mut left = args.count;
    let mut saved = Instant::now();
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    while left != Some(0) {
        let delivery = tokio::select! {
            delivery = subscription.next() => delivery,
            _ = &mut interrupted => return Ok(Ok(End::Interrupted)),
        };
        let written = match delivery {
            Some(Ok(Delivery::Event(event))) => {
                left = left.map(|left| left - 1);
                output.event(&event)
            }
            Some(Ok(Delivery::Gap(gap))) => {
                let written = output.gap(&gap);
                if args.fail_on_gap {
                    output.flush()?;
                    return Ok(Ok(End::GapSeen));
                }
                written
            }
            Some(Err(error)) => return Ok(Err(error)),
            None => break,
        };
        match written.and_then(|()| output.flush()) {
            Err(error) if reader_gone(&error) => return Ok(Ok(End::ReaderGone)),
            other => other?,
        }
        if let (Some(file), Some(cursor)) = (&args.cursor_file, subscription.cursor())
            && saved.elapsed() > SAVE
        {
            save(file, cursor)?;
            saved = Instant::now();
        }
    }
    Ok(Ok(End::Counted))
}

/// Beside it first, then in its place: a cut in between leaves the old cursor, never half a one.
fn save(file: &Path, cursor: &str) -> anyhow::Result<()> {
    let mut name = file.as_os_str().to_owned();
    name.push(".new");
    let beside = PathBuf::from(name);
    std::fs::write(&beside, cursor)
        .and_then(|()| std::fs::rename(&beside, file))
        .with_context(|| format!("cannot keep the cursor in {}", file.display()))
}
