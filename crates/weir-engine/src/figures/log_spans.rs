//! Calls of the event log as spans, within whatever is traced. Where nothing is, making one is looking at a flag.

use futures::FutureExt;
use futures::future::BoxFuture;
use tracing::{Instrument, Span, field, info_span};
use weir_core::trace::PART;
use weir_log::{LogError, System};

/// The span of a call, named as OpenTelemetry's conventions do.
pub(super) fn span(system: System, call: &'static str, stream: &str) -> Span {
    let span = info_span!(
        target: PART, "log",
        otel.name = field::Empty,
        otel.kind = field::Empty,
        otel.status_code = field::Empty,
        error.type = field::Empty,
        db.system.name = field::Empty,
        db.operation.name = field::Empty,
        messaging.system = field::Empty,
        messaging.operation.name = field::Empty,
        messaging.operation.type = field::Empty,
        messaging.destination.name = field::Empty,
        messaging.batch.message_count = field::Empty,
    );
    if span.is_disabled() {
        return span;
    }
    match system {
        System::Embedded => {
            span.record("otel.name", format!("{call} log"));
            span.record("otel.kind", "internal");
            span.record("db.system.name", "fjall");
            span.record("db.operation.name", call);
        }
        System::JetStream => {
            span.record("otel.name", format!("{call} {stream}"));
            span.record("otel.kind", "client");
            span.record("messaging.system", "nats");
            span.record("messaging.operation.name", call);
            let kind = if call == "append" { "send" } else { "receive" };
            span.record("messaging.operation.type", kind);
            span.record("messaging.destination.name", stream);
        }
    }
    span
}

/// Runs a call in its span. Its first part too: appends are put in line before they are first polled.
pub(super) fn within<'a, T: Send + 'a>(
    span: Span,
    work: impl FnOnce() -> BoxFuture<'a, Result<T, LogError>>,
) -> BoxFuture<'a, Result<T, LogError>> {
    if span.is_disabled() {
        return work();
    }
    let work = span.in_scope(work);
    async move {
        let outcome = work.instrument(span.clone()).await;
        if let Err(error) = &outcome {
            span.record("otel.status_code", "ERROR");
            span.record("error.type", kind(error));
        }
        outcome
    }
    .boxed()
}

/// A word for the error: its text may name what belongs to a tenant.
const fn kind(error: &LogError) -> &'static str {
    match error {
        LogError::OutOfRange { .. } => "out_of_range",
        LogError::Overloaded { .. } => "overloaded",
        LogError::Unavailable(_) => "unavailable",
        _ => "failed",
    }
}
