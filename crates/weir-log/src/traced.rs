//! A log whose calls are spans, within whatever is traced. Where nothing is traced the log goes without.

use crate::{EventLog, Feed, Health, Inspection, LogError, Milestone, Outcome, Page, Place, ReadQuery};
use crate::{Load, Record, TopicHead, Walked};
use futures::FutureExt;
use futures::future::BoxFuture;
use std::sync::Arc;
use tracing::{Instrument, Span, field, info_span};
use weir_core::trace::{PART, number};
use weir_core::{Position, ProjectId, Timestamp, Topic};

/// Which backend the spans name, as OpenTelemetry's conventions do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {
    /// In this process.
    Embedded,
    /// NATS servers.
    Nats,
}

/// The log around which it is.
pub struct Traced {
    log: Arc<dyn EventLog>,
    system: System,
}

impl Traced {
    /// Goes around a log.
    #[must_use]
    pub fn around(log: Arc<dyn EventLog>, system: System) -> Arc<dyn EventLog> {
        Arc::new(Self { log, system })
    }

    fn span(&self, call: &'static str, stream: &str) -> Span {
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
        match self.system {
            System::Embedded => {
                span.record("otel.name", format!("{call} log"));
                span.record("otel.kind", "internal");
                span.record("db.system.name", "fjall");
                span.record("db.operation.name", call);
            }
            System::Nats => {
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

    fn call<'a, T: Send + 'a>(
        &self,
        call: &'static str,
        stream: &str,
        work: impl FnOnce() -> BoxFuture<'a, Result<T, LogError>>,
    ) -> BoxFuture<'a, Result<T, LogError>> {
        within(self.span(call, stream), work)
    }
}

/// Runs a call in its span. Its first part too: appends are put in line before they are first polled.
fn within<'a, T: Send + 'a>(
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

// All of it, what has a default too.
impl EventLog for Traced {
    fn append(
        &self,
        place: &Place,
        records: Vec<Record>,
    ) -> BoxFuture<'static, Result<Vec<Outcome>, LogError>> {
        let span = self.span("append", &place.stream);
        span.record("messaging.batch.message_count", number(records.len()));
        within(span, || self.log.append(place, records))
    }

    fn read<'a>(&'a self, place: &'a Place, query: ReadQuery) -> BoxFuture<'a, Result<Page, LogError>> {
        self.call("read", &place.stream, || self.log.read(place, query))
    }

    fn inspect<'a>(&'a self, place: &'a Place, sequence: u64) -> BoxFuture<'a, Result<Inspection, LogError>> {
        self.call("inspect", &place.stream, || self.log.inspect(place, sequence))
    }

    fn locate<'a>(&'a self, place: &'a Place, time: Timestamp) -> BoxFuture<'a, Result<u64, LogError>> {
        self.call("locate", &place.stream, || self.log.locate(place, time))
    }

    fn topics<'a>(
        &'a self,
        place: &'a Place,
        after: Option<&'a Topic>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<TopicHead>, LogError>> {
        self.call("topics", &place.stream, || self.log.topics(place, after, limit))
    }

    fn trim<'a>(&'a self, place: &'a Place, through: u64) -> BoxFuture<'a, Result<(), LogError>> {
        self.call("trim", &place.stream, || self.log.trim(place, through))
    }

    fn erase<'a>(&'a self, place: &'a Place) -> BoxFuture<'a, Result<bool, LogError>> {
        self.call("erase", &place.stream, || self.log.erase(place))
    }

    fn shred(&self) -> BoxFuture<'_, Result<(), LogError>> {
        self.log.shred()
    }

    fn walk<'a>(
        &'a self,
        stream: &'a Arc<str>,
        after: Option<Milestone>,
    ) -> BoxFuture<'a, Result<Option<Walked>, LogError>> {
        self.call("walk", stream, || self.log.walk(stream, after))
    }

    fn watch<'a>(&'a self, place: &'a Place) -> BoxFuture<'a, Result<Position, LogError>> {
        self.call("watch", &place.stream, || self.log.watch(place))
    }

    fn unwatch(&self, project: ProjectId) {
        self.log.unwatch(project);
    }

    fn feed(&self) -> Option<Feed> {
        self.log.feed()
    }

    fn is_reachable(&self) -> bool {
        self.log.is_reachable()
    }

    fn health(&self) -> BoxFuture<'_, Health> {
        self.log.health()
    }

    fn load(&self) -> Load {
        self.log.load()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.log.close()
    }
}
