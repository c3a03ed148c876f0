//! Traces: where they begin, what an event carries on, and which spans its fan-out has.
//!
//! Spans are `tracing`'s (see [`weir_core::trace`] for the two targets); what only an exporter can do is a [`Tracer`]'s. Without
//! one nothing here does more than look whether there is one.

use crate::Caller;
use std::fmt;
use std::sync::Arc;
use tracing::{Span, field, info_span};
use weir_core::trace::{ROOT, number};
use weir_core::{Event, NodeId, TraceContext};

/// Spans of one batch of the feed at most: a load that is sampled whole must not hold up its delivery.
const FAN_OUTS: usize = 16;

/// Records spans.
pub trait Tracer: Send + Sync + 'static {
    /// Whether to record a trace that comes from here, or begins where there is none.
    fn samples(&self, from: Option<&TraceContext>) -> bool;

    /// Makes the span a child of somebody else's. Comes before anything is asked of the span.
    fn continue_from(&self, span: &Span, from: &TraceContext);

    /// Ties the span to another one that it is no child of, or not only.
    fn link(&self, span: &Span, to: &TraceContext);

    /// Where the span is; `None` when it is not recorded.
    fn context(&self, span: &Span) -> Option<TraceContext>;

    /// What became of the spans that ended.
    fn spans(&self) -> SpanCounts;
}

/// What became of spans that ended, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpanCounts {
    /// The collector took them.
    pub exported: u64,
    /// It did not, or refused them in a batch that it took, and they are lost.
    pub failed: u64,
    /// There was no room for them to wait in, and they are lost.
    pub dropped: u64,
}

/// The [`Tracer`], if there is one.
#[derive(Clone, Default)]
pub struct Traces(Option<Arc<dyn Tracer>>);

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Traces(recorded)" } else { "Traces(off)" })
    }
}

/// Where in a trace something happens: within a span of ours, or only with the context that it came with.
#[derive(Clone, Debug)]
pub struct Origin {
    span: Span,
    context: Option<TraceContext>,
}

impl Default for Origin {
    fn default() -> Self {
        Self { span: Span::none(), context: None }
    }
}

impl Origin {
    /// The span; none when the trace is not recorded.
    #[must_use]
    pub const fn span(&self) -> &Span {
        &self.span
    }

    /// What to send along to whoever goes on from here, recorded or not.
    #[must_use]
    pub const fn context(&self) -> Option<&TraceContext> {
        self.context.as_ref()
    }

    /// Notes who it is that asks.
    pub fn identify(&self, caller: &Caller) {
        if !self.span.is_none() {
            self.span.record("weir.tenant", field::display(caller.place.tenant));
            self.span.record("weir.project", field::display(caller.place.project));
        }
    }
}

impl Traces {
    /// Spans go to this tracer.
    #[must_use]
    pub fn to(tracer: Arc<dyn Tracer>) -> Self {
        Self(Some(tracer))
    }

    /// What became of the spans; `None` when nothing is recorded.
    #[must_use]
    pub fn spans(&self) -> Option<SpanCounts> {
        self.0.as_ref().map(|tracer| tracer.spans())
    }

    /// Begins what came from `from`, or from nowhere; `span` makes a span with the target [`ROOT`] if it is to be
    /// recorded.
    pub fn begin(&self, from: Option<TraceContext>, span: impl FnOnce() -> Span) -> Origin {
        let sampled = self.0.as_ref().filter(|tracer| tracer.samples(from.as_ref()));
        let Some(tracer) = sampled else { return Origin { span: Span::none(), context: from } };
        let span = span();
        if let Some(from) = &from {
            tracer.continue_from(&span, from);
        }
        let context = tracer.context(&span).or(from);
        Origin { span, context }
    }

    /// The span of publishing, within what asked for it, and the context that the events carry: of that span, where it is
    /// recorded.
    pub(crate) fn publish(&self, origin: &Origin, span: impl FnOnce(&Span) -> Span) -> Origin {
        let tracer = self.0.as_ref().filter(|_| !origin.span.is_none());
        let Some(tracer) = tracer else { return origin.clone() };
        let span = span(&origin.span);
        let context = tracer.context(&span).or_else(|| origin.context.clone());
        Origin { span, context }
    }

    /// The spans of handing these events to this node's connections, one for each event whose trace is recorded: children
    /// of its publishing and linked to it, never one for each delivery. They last until they are dropped.
    pub(crate) fn fan_out(&self, node: NodeId, events: &[Arc<Event>]) -> Vec<Span> {
        let Some(tracer) = &self.0 else { return Vec::new() };
        let marked = events.iter().filter(|event| !event.headers.is_empty());
        let sampled = marked.filter_map(|event| {
            let context = event.trace_context().filter(TraceContext::is_sampled)?;
            let span = info_span!(
                target: ROOT, parent: None, "fan-out",
                otel.name = "deliver",
                otel.kind = "consumer",
                messaging.system = "weir",
                messaging.operation.name = "deliver",
                messaging.operation.type = "process",
                messaging.destination.name = %event.topic,
                messaging.message.id = %event.id,
                messaging.message.body.size = number(event.payload.len()),
                weir.sequence = number(event.sequence),
                weir.tenant = %event.tenant,
                weir.project = %event.project,
                weir.node = %node,
            );
            tracer.continue_from(&span, &context);
            tracer.link(&span, &context);
            Some(span)
        });
        sampled.take(FAN_OUTS).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_tracer_a_context_only_passes_through() {
        let context = TraceContext::new([1; 16], [2; 8], true, None);
        let origin = Traces::default().begin(Some(context.clone()), || unreachable!("nothing is recorded"));
        assert!(origin.span().is_none());
        assert_eq!(origin.context(), Some(&context));
        let publish = Traces::default().publish(&origin, |_| unreachable!("nothing is recorded"));
        assert_eq!(publish.context(), Some(&context));
    }
}
