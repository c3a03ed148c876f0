//! Spans between their end and the collector: so many may wait, and what becomes of each is counted.

use opentelemetry::Context;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter, SpanProcessor};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use weir_engine::SpanCounts;

/// What became of the spans, and how many wait.
#[derive(Debug, Default)]
pub struct Spans {
    waiting: AtomicUsize,
    exported: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
    /// What is known of the batch under way beside whether it was taken.
    batch: Mutex<Option<Lost>>,
}

/// Spans that are lost, and why.
#[derive(Debug)]
struct Lost {
    /// How many of a batch that was taken; `None` of one that was not.
    refused: Option<usize>,
    cause: String,
}

impl Spans {
    pub fn read(&self) -> SpanCounts {
        SpanCounts {
            exported: self.exported.load(Relaxed),
            failed: self.failed.load(Relaxed),
            dropped: self.dropped.load(Relaxed),
        }
    }

    /// Why the batch under way could not be sent.
    pub fn note_failure(&self, cause: String) {
        self.note(Lost { refused: None, cause });
    }

    /// How many spans of it the collector refused, and what it says of that.
    pub fn note_refused(&self, refused: usize, cause: String) {
        self.note(Lost { refused: Some(refused), cause });
    }

    fn note(&self, lost: Lost) {
        *self.batch.lock().unwrap_or_else(PoisonError::into_inner) = Some(lost);
    }

    /// Counts a batch; why spans of it were lost, if any were.
    fn count(&self, count: usize, outcome: &OTelSdkResult) -> Option<String> {
        let noted = self.batch.lock().unwrap_or_else(PoisonError::into_inner).take();
        let lost = match (outcome, noted) {
            (Err(_), Some(Lost { refused: None, cause })) => Some((count, cause)),
            (Err(error), _) => Some((count, error.to_string())),
            (Ok(()), Some(Lost { refused: Some(refused), cause })) => {
                Some((refused.min(count), format!("the collector refuses spans: {cause}")))
            }
            // It was taken at the second attempt.
            (Ok(()), _) => None,
        };
        let failed = lost.as_ref().map_or(0, |(failed, _)| *failed);
        self.failed.fetch_add(failed as u64, Relaxed);
        self.exported.fetch_add((count - failed) as u64, Relaxed);
        lost.map(|(_, cause)| cause)
    }

    /// Whether one more may wait where there is room for `room`; else it is counted as dropped.
    fn enter(&self, room: usize) -> bool {
        if self.waiting.fetch_add(1, Relaxed) < room {
            return true;
        }
        self.waiting.fetch_sub(1, Relaxed);
        if self.dropped.fetch_add(1, Relaxed) == 0 {
            tracing::warn!(
                room,
                "spans are dropped: {room} wait for the collector (OTEL_BSP_MAX_QUEUE_SIZE), which is away or too slow for \
                 telemetry.sampling; weir_trace_spans_total counts them"
            );
        }
        false
    }
}

/// Lets as many spans wait as the processor has room for. It would drop the others as well, and tell nobody how many.
#[derive(Debug)]
pub struct Bounded<P> {
    processor: P,
    room: usize,
    spans: Arc<Spans>,
}

impl<P> Bounded<P> {
    pub const fn new(processor: P, room: usize, spans: Arc<Spans>) -> Self {
        Self { processor, room, spans }
    }
}

impl<P: SpanProcessor> SpanProcessor for Bounded<P> {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.processor.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.spans.enter(self.room) {
            self.processor.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.processor.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.processor.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.processor.set_resource(resource);
    }
}

/// Counts what the collector takes. Says that it takes nothing when that begins, and when it ends: not for each batch.
#[derive(Debug)]
pub struct Watched<E> {
    exporter: E,
    failing: AtomicBool,
    spans: Arc<Spans>,
}

impl<E> Watched<E> {
    pub const fn new(exporter: E, spans: Arc<Spans>) -> Self {
        Self { exporter, failing: AtomicBool::new(false), spans }
    }
}

impl<E: SpanExporter> SpanExporter for Watched<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        // They have left the processor's queue.
        self.spans.waiting.fetch_sub(count, Relaxed);
        let outcome = self.exporter.export(batch).await;
        let lost = self.spans.count(count, &outcome);
        if self.failing.swap(lost.is_some(), Relaxed) != lost.is_some() {
            match lost {
                Some(cause) => tracing::warn!(
                    cause,
                    "traces cannot be exported and are lost until it works again: {cause}"
                ),
                None => tracing::info!("traces are exported again"),
            }
        }
        outcome
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry::trace::{Tracer, TracerProvider};
    use opentelemetry_sdk::error::OTelSdkError;
    use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider};
    use std::sync::Mutex;
    use std::sync::mpsc::{Receiver, Sender, channel};

    /// Takes a batch when it is told to, and answers as it is told.
    #[derive(Debug)]
    struct Slow {
        begun: Sender<usize>,
        answers: Mutex<Receiver<bool>>,
    }

    impl SpanExporter for Slow {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            let _ = self.begun.send(batch.len());
            let good = self.answers.lock().expect("no panic").recv().unwrap_or(true);
            if good { Ok(()) } else { Err(OTelSdkError::InternalFailure("refused".to_owned())) }
        }
    }

    #[test]
    fn every_span_is_exported_failed_or_dropped() {
        const ROOM: usize = 8;
        let ((begun, seen), (answer, answers)) = (channel(), channel());
        let spans = Arc::new(Spans::default());
        let slow = Slow { begun, answers: Mutex::new(answers) };
        let config = BatchConfigBuilder::default()
            .with_max_queue_size(ROOM)
            .with_max_export_batch_size(1)
            .with_scheduled_delay(Duration::from_millis(1))
            .build();
        let inner = BatchSpanProcessor::builder(Watched::new(slow, Arc::clone(&spans)));
        let processor = Bounded::new(inner.with_batch_config(config).build(), ROOM, Arc::clone(&spans));
        let provider = SdkTracerProvider::builder().with_span_processor(processor).build();
        let tracer = provider.tracer("test");
        // One is under way, and holds up the others.
        drop(tracer.start("first"));
        assert_eq!(seen.recv_timeout(Duration::from_secs(30)), Ok(1));
        for _ in 0..ROOM + 5 {
            drop(tracer.start("more"));
        }
        assert_eq!(spans.read(), SpanCounts { dropped: 5, ..SpanCounts::default() });
        for number in 0..=ROOM {
            answer.send(number % 2 == 0).expect("the exporter lives");
        }
        drop(answer);
        provider.shutdown().expect("ends");
        let half = ROOM as u64 / 2;
        assert_eq!(spans.read(), SpanCounts { exported: half + 1, failed: half, dropped: 5 });
        assert_eq!(spans.waiting.load(Relaxed), 0);
    }
}
