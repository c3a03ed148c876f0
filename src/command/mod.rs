//! The commands that run or look after a server.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "commands speak to a person at a terminal")]

pub mod audit;
pub mod doctor;
pub mod errors;
pub mod log;
pub mod permissions;
pub mod serve;
pub mod setup;
pub mod users;

use std::process::ExitCode;
use tokio::runtime::{Builder, Runtime};

/// A runtime for a command.
pub fn runtime() -> anyhow::Result<Runtime> {
    Ok(Builder::new_multi_thread().enable_all().build()?)
}

/// Runs a command's future to its end.
pub fn block_on(work: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    runtime()?.block_on(work)
}

/// Prints a document.
pub fn print(text: &str) -> anyhow::Result<ExitCode> {
    use std::io::Write;
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Says why a command failed, with every cause on a line of its own.
pub fn complain(error: &anyhow::Error) {
    eprintln!("error: {error}");
    for cause in error.chain().skip(1) {
        eprintln!("  because: {cause}");
    }
}
