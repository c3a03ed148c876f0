//! `weir doctor`: checks what a node needs and says what to do about what is missing.
//!
//! It looks and changes nothing, but for a file of a few bytes in `data_dir` that it writes, syncs and removes. Exits with 0 when a
//! node can run (warnings included), 1 when something is to be mended.

mod database;
mod event_log;
mod finding;
mod machine;
mod services;
mod settings;
mod traces;

use crate::config;
use finding::Finding;
use std::path::Path;
use std::process::ExitCode;

/// How to report.
#[derive(clap::Args)]
pub struct Args {
    /// Print JSON: {"ok", "warnings", "findings": [{"check", "level", "found", "advice"}]}.
    #[arg(long)]
    json: bool,
    /// Print the settings that hold, secrets masked, and check nothing.
    #[arg(long)]
    settings: bool,
    /// Also call what only a running node calls: Stripe, Alertmanager, the collector of traces.
    #[arg(long)]
    reach: bool,
}

/// Checks, prints, and exits with 1 when something needs mending.
pub fn run(path: Option<&Path>, args: &Args) -> anyhow::Result<ExitCode> {
    if args.settings {
        return super::print(&config::load(path)?.config.redacted());
    }
    let findings = match config::load(path) {
        Err(problems) => {
            vec![Finding::bad("configuration", problems.to_string(), "mend the settings named here")]
        }
        Ok(loaded) => super::runtime()?.block_on(check(&loaded, args.reach)),
    };
    let report = if args.json { finding::json(&findings) + "\n" } else { finding::text(&findings) };
    super::print(&report)?;
    Ok(if finding::is_well(&findings) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn check(loaded: &config::Loaded, reach: bool) -> Vec<Finding> {
    let config = &loaded.config;
    let mut findings = settings::check(loaded);
    findings.extend(machine::data_dir(config));
    findings.extend(database::check(config).await);
    findings.extend(event_log::check(config).await);
    findings.extend(machine::limits());
    findings.extend(machine::ports(config).await);
    findings.extend(services::check(config, reach).await);
    findings.push(traces::check(config, reach).await);
    findings
}
