//! Log lines: readable on a terminal, JSON elsewhere.

use crate::config::{LogFormat, Telemetry};
use anyhow::Context;
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// Starts logging to standard error.
///
/// # Errors
/// When the level is not a level or a list of directives.
pub fn start(settings: &Telemetry) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&settings.log_level).with_context(|| {
        format!("telemetry.log_level `{}` is not a level or a list of directives", settings.log_level)
    })?;
    // At their finest these libraries print whole requests, credentials included.
    let filter = ["hyper=info", "h2=info", "rustls=info", "async_nats=info", "sqlx=info"]
        .into_iter()
        .try_fold(filter, |filter, cap| Ok::<_, ParseError>(filter.add_directive(cap.parse()?)))?;
    let pretty = match settings.log_format {
        LogFormat::Auto => std::io::stderr().is_terminal(),
        LogFormat::Pretty => true,
        LogFormat::Json => false,
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if pretty {
        builder.with_target(false).init();
    } else {
        builder.json().flatten_event(true).init();
    }
    Ok(())
}
