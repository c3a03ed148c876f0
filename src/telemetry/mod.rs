//! Log lines and traces. Log lines are readable on a terminal, JSON elsewhere (`line.rs`); spans, which the rest of the
//! program makes with the two targets of `weir_core::trace`, go to a collector (`export.rs`, `queue.rs`, `post.rs`).

mod export;
mod line;
mod post;
mod queue;

pub use export::{Target, headers, target};

use crate::config::{LogFormat, Telemetry};
use anyhow::Context;
use opentelemetry_sdk::trace::SdkTracerProvider;
use std::io::IsTerminal;
use std::time::Duration;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::filter::{DynFilterFn, FilterExt, ParseError, filter_fn};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt};
use weir_core::trace::{PART, ROOT};
use weir_engine::Traces;

/// How long the last spans may take to be sent when the process stops.
const LAST_SPANS: Duration = Duration::from_secs(3);

/// What runs of it.
pub struct Running {
    exporter: Option<SdkTracerProvider>,
    /// For whoever makes spans.
    pub traces: Traces,
}

impl Running {
    /// Sends the spans that wait. Blocks, and is no work for a runtime.
    pub fn finish(self) {
        let Some(exporter) = self.exporter else { return };
        if exporter.shutdown_with_timeout(LAST_SPANS).is_err() {
            tracing::warn!("the last spans could not be sent within {LAST_SPANS:?}");
        }
    }
}

/// Starts logging to standard error and, where it is set up, tracing. Outside of any runtime: the exporter has its own.
///
/// # Errors
/// When the level is not a level or a list of directives, or the exporter cannot be set up.
pub fn start(settings: &Telemetry) -> anyhow::Result<Running> {
    let terminal = std::io::stderr().is_terminal();
    let pretty = match settings.log_format {
        LogFormat::Auto => terminal,
        LogFormat::Pretty => true,
        LogFormat::Json => false,
    };
    let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = if pretty {
        lines.with_ansi(colours).with_target(false).boxed()
    } else {
        lines.event_format(line::Json).boxed()
    };
    let lines = lines.with_filter(filter(&settings.log_level)?.and(events()));
    let (exporter, counts) = export::start(settings)?.unzip();
    let spans = exporter.as_ref().map(|exporter| export::layer(exporter).with_filter(spans()));
    let registry = tracing_subscriber::registry().with(spans).with(lines);
    #[cfg(feature = "console")]
    let registry = registry.with(console_subscriber::spawn());
    registry.init();
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let said = panic.payload_as_str().unwrap_or("nothing");
        tracing::error!(place, "a thread panicked at {place}: {said}");
    }));
    let traces = counts.map(|counts| export::traces(settings, counts)).unwrap_or_default();
    Ok(Running { exporter, traces })
}

/// Which log lines appear.
fn filter(level: &str) -> anyhow::Result<EnvFilter> {
    // A word that is no level would be taken for a part of the program, and everything else be silent.
    let is_level = |word: &&str| word.is_empty() || word.parse::<LevelFilter>().is_ok();
    if let Some(word) =
        level.split(',').map(str::trim).filter(|word| !word.contains(['=', '['])).find(|word| !is_level(word))
    {
        anyhow::bail!(
            "telemetry.log_level: `{word}` is no level: use off, error, warn, info, debug or trace, or name a part too, as in weir_log=debug"
        );
    }
    let filter = EnvFilter::try_new(level)
        .with_context(|| format!("telemetry.log_level `{level}` is not a level or a list of directives"))?;
    // At their finest these libraries print whole requests, credentials included.
    // What these two tell beside warnings, of each connection and attempt, Weir says itself.
    let quiet = ["async_nats=warn", "sqlx=warn"];
    let capped = ["hyper=info", "h2=info", "rustls=info", "reqwest=info"];
    let capped = capped
        .into_iter()
        .chain(quiet)
        .try_fold(filter, |filter, cap| Ok::<_, ParseError>(filter.add_directive(cap.parse()?)));
    Ok(capped?)
}

/// Spans are not for log lines: without an exporter nobody wants them, and making one costs what looking at a flag does.
fn events<S: Subscriber>() -> impl tracing_subscriber::layer::Filter<S> {
    // Not `is_event`: who asks beforehand whether an event is wanted, as sqlx does, asks about neither.
    filter_fn(|metadata: &Metadata<'_>| !metadata.is_span()).with_max_level_hint(LevelFilter::TRACE)
}

/// Spans that begin a trace, and those within others.
fn spans<S>() -> impl tracing_subscriber::layer::Filter<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    DynFilterFn::new(|span: &Metadata<'_>, around: &tracing_subscriber::layer::Context<'_, S>| {
        span.is_span()
            && (span.target() == ROOT || span.target() == PART && around.lookup_current().is_some())
    })
    .with_callsite_filter(|span: &'static Metadata<'static>| {
        if span.is_span() && (span.target() == ROOT || span.target() == PART) {
            Interest::sometimes()
        } else {
            Interest::never()
        }
    })
    .with_max_level_hint(LevelFilter::INFO)
}
