//! `weir log`: the embedded event log, while no server has it.

use super::block_on;
use crate::config::{self, Config};
use crate::wiring;
use anyhow::{Context, bail};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use weir_core::{ProjectId, TenantId};
use weir_log::{EventLog, Place, embedded};

/// The embedded event log.
#[derive(clap::Subcommand)]
pub enum LogCommand {
    /// Let go of a project's oldest events, past one that cannot be read; readers are told the gap. The server must be stopped.
    Trim(TrimArgs),
}

/// What goes.
#[derive(clap::Args)]
pub struct TrimArgs {
    /// The tenant's id.
    #[arg(long)]
    tenant: TenantId,
    /// The project's id.
    #[arg(long)]
    project: ProjectId,
    /// The sequence of the last event that goes, as the error names it.
    #[arg(long)]
    through: u64,
}

/// Runs the command.
pub fn run(path: Option<&Path>, command: LogCommand) -> anyhow::Result<ExitCode> {
    let config = config::load(path)?.config;
    let LogCommand::Trim(args) = command;
    block_on(trim(&config, &args))
}

async fn trim(config: &Config, args: &TrimArgs) -> anyhow::Result<ExitCode> {
    if config.nats.url.is_some() {
        bail!(
            "the events are in NATS (nats.url): lower the project's retention instead, with PATCH /v1/admin/projects/{}",
            args.project
        );
    }
    let place = place(args);
    let damaged = embedded::rescue(&wiring::embedded_options(config), &place, args.through);
    if let Some(damaged) =
        damaged.context("the log cannot be opened, or not be copied out of damaged files")?
    {
        println!("the log has new files; the damaged ones are in {} and can be removed", damaged.display());
    }
    let (log, embedded) = wiring::open_log(config).await?;
    let outcome = trim_in(log.as_ref(), &place, args).await;
    if let Some(embedded) = embedded {
        embedded.close().await;
    }
    outcome
}

fn place(args: &TrimArgs) -> Place {
    // The embedded log has no streams.
    Place { tenant: args.tenant, project: args.project, stream: Arc::from("embedded") }
}

async fn trim_in(log: &dyn EventLog, place: &Place, args: &TrimArgs) -> anyhow::Result<ExitCode> {
    let head = log.inspect(place, 0).await?.bounds.head.sequence;
    if args.through > head {
        bail!("--through {} is beyond the last event of {}, which is {head}", args.through, args.project);
    }
    log.trim(place, args.through).await.context("the log was not trimmed")?;
    let floor = log.inspect(place, 0).await?.bounds.floor;
    if floor < args.through {
        bail!("{} is not a project of {}: nothing was let go", args.project, args.tenant);
    }
    println!("events of {} up to {floor} are let go; the last is {head}", args.project);
    Ok(ExitCode::SUCCESS)
}
