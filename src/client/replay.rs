//! `weir replay`: prints what the log holds, up to its end of now.

use super::output::{Output, reader_gone};
use super::{Begin, GAP, Server};
use futures::StreamExt;
use std::process::ExitCode;
use weir_client::{Delivery, Error, ReplayQuery};

/// Print events from the log.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  weir replay 'orders.>' --from-time 2026-01-31T12:00:00Z --json")]
pub struct Args {
    #[command(flatten)]
    server: Server,
    /// Topics and patterns: `*` stands for one token, a last `>` for one or more.
    #[arg(required = true)]
    patterns: Vec<String>,
    #[command(flatten)]
    begin: Begin,
    /// Leave after so many events.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Leave with exit code 5 when events are missing.
    #[arg(long)]
    fail_on_gap: bool,
}

/// Runs the command.
///
/// # Errors
/// When standard output fails.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut output = Output::new(args.server.json);
    let ended = print(&args, &mut output).await;
    match ended.and_then(|code| Ok(output.flush().map(|()| code)?)) {
        Ok(code) => Ok(code),
        Err(Failure::Server(error)) => Ok(args.server.failure(&error)),
        Err(Failure::Output(error)) if reader_gone(&error) => Ok(ExitCode::SUCCESS),
        Err(Failure::Output(error)) => Err(error.into()),
    }
}

enum Failure {
    Server(Error),
    Output(std::io::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Server(error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Output(error)
    }
}

async fn print(args: &Args, output: &mut Output) -> Result<ExitCode, Failure> {
    let mut query = ReplayQuery::new(&args.patterns).start(args.begin.start());
    if let Some(limit) = args.limit {
        query = query.limit(limit);
    }
    let mut deliveries = std::pin::pin!(args.server.client()?.replay(query));
    while let Some(delivery) = deliveries.next().await {
        match delivery? {
            Delivery::Event(event) => output.event(&event)?,
            Delivery::Gap(gap) => {
                output.gap(&gap)?;
                if args.fail_on_gap {
                    return Ok(ExitCode::from(GAP));
                }
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
