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

use crate::config::Config;
use crate::wiring;
use std::process::ExitCode;
use tokio::runtime::{Builder, Runtime};
use weir_store::Store;

/// A runtime for a command.
pub fn runtime() -> anyhow::Result<Runtime> {
    Ok(Builder::new_multi_thread().enable_all().build()?)
}

/// Runs a command's future to its end.
pub fn block_on(work: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    runtime()?.block_on(work)
}

/// Prints a document. A reader that has seen enough, as `head` has, is no failure.
pub fn print(text: &str) -> anyhow::Result<ExitCode> {
    use std::io::{ErrorKind, Write};
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Opens the database for a command, and says when it is a new one: in another directory than the server's, what the
/// command does would go unnoticed.
pub async fn open_store(config: &Config) -> anyhow::Result<Store> {
    if config.database.url.is_none() && !config.data_dir.join("weir.db").exists() {
        let data_dir = std::path::absolute(&config.data_dir)?;
        eprintln!(
            "note: a new database is made in {}; if a server runs already, use its settings or its directory",
            data_dir.display()
        );
    }
    wiring::open_store(config).await
}

/// Says why a command failed, with every cause on a line of its own.
pub fn complain(error: &anyhow::Error) {
    eprintln!("error: {error}");
    for cause in error.chain().skip(1) {
        eprintln!("  because: {cause}");
    }
}
