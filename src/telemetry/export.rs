//! Traces on their way out: OTLP over HTTP, in batches, from a thread of its own.
//!
//! Ended spans wait in a queue of a fixed length; what does not fit is dropped, so a collector that is slow or gone costs
//! nothing but its traces. Sampling is decided before there is a span (`Tracer::samples`), and for children with their
//! parent.

use crate::config::Telemetry;
use anyhow::Context;
use opentelemetry::trace::TracerProvider;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use opentelemetry::{KeyValue, Value};
use opentelemetry_otlp::{WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{BatchSpanProcessor, Sampler, SdkTracerProvider, SpanData, SpanExporter};
use percent_encoding::percent_decode_str;
use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tracing::{Span, Subscriber};
use tracing_opentelemetry::{OpenTelemetryLayer, OpenTelemetrySpanExt};
use tracing_subscriber::registry::LookupSpan;
use weir_core::{Secret, TraceContext};
use weir_engine::{Tracer, Traces};

/// OpenTelemetry's own variables that say where to.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
/// The share of traces that are recorded; counts while `telemetry.sampling` says nothing else than its default.
const SAMPLER_ARGUMENT: &str = "OTEL_TRACES_SAMPLER_ARG";

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The headers that a setting names; `None` when it cannot be read.
pub fn headers(setting: &Secret) -> Option<HashMap<String, String>> {
    let pairs = setting.expose().split(',').map(str::trim).filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=')?;
            let (name, value) = (name.trim(), percent_decode_str(value.trim()).decode_utf8().ok()?);
            let token = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            let good = !name.is_empty()
                && name.bytes().all(token)
                && value.bytes().all(|byte| matches!(byte, 0x20..=0x7e));
            good.then(|| (name.to_ascii_lowercase(), value.into_owned()))
        })
        .collect()
}

/// Starts the exporter, where the settings or the environment name a collector.
pub fn start(settings: &Telemetry) -> anyhow::Result<Option<SdkTracerProvider>> {
    let off = variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let named = settings.otlp_endpoint.is_some() || ENDPOINTS.iter().any(|name| variable(name).is_some());
    if off || !named {
        return Ok(None);
    }
    let mut builder = opentelemetry_otlp::SpanExporter::builder().with_http();
    if let Some(endpoint) = &settings.otlp_endpoint {
        builder = builder.with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')));
    }
    if let Some(headers) = settings.otlp_headers.as_ref().and_then(headers) {
        builder = builder.with_headers(headers);
    }
    let exporter = builder.build().context("the exporter of traces cannot be set up")?;
    let watched = Watched { exporter, failing: AtomicBool::new(false) };
    let provider = SdkTracerProvider::builder()
        .with_span_processor(BatchSpanProcessor::builder(watched).build())
        // What reaches it was chosen before.
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)))
        .with_resource(resource(settings))
        .build();
    Ok(Some(provider))
}

fn resource(settings: &Telemetry) -> Resource {
    let instance = weir_core::NodeId::new().uuid().to_string();
    let attributes = [
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", instance),
    ];
    let builder = Resource::builder().with_attributes(attributes);
    let named = variable("OTEL_SERVICE_NAME").is_some()
        || variable("OTEL_RESOURCE_ATTRIBUTES").is_some_and(|list| list.contains("service.name="));
    match &settings.service_name {
        Some(name) => builder.with_service_name(Value::from(name.clone())).build(),
        None if named => builder.build(),
        None => builder.with_service_name("weir").build(),
    }
}

/// What turns spans of the program into spans of the exporter.
pub fn layer<S>(exporter: &SdkTracerProvider) -> OpenTelemetryLayer<S, opentelemetry_sdk::trace::SdkTracer>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    tracing_opentelemetry::layer()
        .with_tracer(exporter.tracer("weir"))
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false)
}

/// The engine's view of it.
pub fn traces(settings: &Telemetry) -> Traces {
    let default = settings.sampling == Telemetry::default().sampling;
    let argument = variable(SAMPLER_ARGUMENT).filter(|_| default);
    let argument =
        argument.and_then(|text| f64::from_str(text.trim()).ok()).filter(|ratio| (0.0..=1.0).contains(ratio));
    Traces::to(Arc::new(Recorder { ratio: argument.unwrap_or_else(|| settings.sampling.ratio()) }))
}

struct Recorder {
    /// Of the traces that begin here.
    ratio: f64,
}

impl Tracer for Recorder {
    fn samples(&self, from: Option<&TraceContext>) -> bool {
        from.map_or_else(|| rand::random::<f64>() < self.ratio, TraceContext::is_sampled)
    }

    fn continue_from(&self, span: &Span, from: &TraceContext) {
        let parent = opentelemetry::Context::new().with_remote_span_context(remote(from));
        // Fails for a span that is not recorded, which has nothing to continue.
        let _ = span.set_parent(parent);
    }

    fn link(&self, span: &Span, to: &TraceContext) {
        span.add_link(remote(to));
    }

    fn context(&self, span: &Span) -> Option<TraceContext> {
        let context = span.context();
        let span = context.span();
        let span = span.span_context();
        let state = span.trace_state().header();
        let state = (!state.is_empty()).then_some(state);
        span.is_valid().then(|| {
            TraceContext::new(
                span.trace_id().to_bytes(),
                span.span_id().to_bytes(),
                span.is_sampled(),
                state.as_deref(),
            )
        })
    }
}

fn remote(context: &TraceContext) -> SpanContext {
    let flags = if context.is_sampled() { TraceFlags::SAMPLED } else { TraceFlags::default() };
    let state = context.tracestate().and_then(|state| TraceState::from_str(state).ok()).unwrap_or_default();
    let (trace, span) = (TraceId::from_bytes(context.trace()), SpanId::from_bytes(context.span()));
    SpanContext::new(trace, span, flags, true, state)
}

/// Says that spans cannot be exported when that begins, and when it ends: not for each batch.
#[derive(Debug)]
struct Watched<E> {
    exporter: E,
    failing: AtomicBool,
}

impl<E: SpanExporter> SpanExporter for Watched<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let outcome = self.exporter.export(batch).await;
        let failing = outcome.is_err();
        if self.failing.swap(failing, Ordering::Relaxed) != failing {
            match &outcome {
                Err(error) => {
                    let cause = error.to_string();
                    tracing::warn!(
                        cause,
                        "traces cannot be exported and are lost until it works again: {cause}"
                    );
                }
                Ok(()) => tracing::info!("traces are exported again"),
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

    #[test]
    fn headers_are_pairs_with_percent_encoded_values() {
        let read = |text: &str| headers(&Secret::new(text));
        let found = read("Authorization=Basic%20abc=, x-a = 1,").expect("pairs");
        assert_eq!(found.get("authorization").map(String::as_str), Some("Basic abc="));
        assert_eq!(found.get("x-a").map(String::as_str), Some("1"));
        for bad in ["authorization", "=1", "a b=1", "a=%0a", "a=%ff"] {
            assert!(read(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn whoever_sends_a_context_has_decided() {
        let context = |sampled| TraceContext::new([1; 16], [2; 8], sampled, None);
        for ratio in [0.0, 1.0] {
            let recorder = Recorder { ratio };
            assert!(recorder.samples(Some(&context(true))));
            assert!(!recorder.samples(Some(&context(false))));
            assert_eq!(recorder.samples(None), ratio > 0.5);
        }
    }

    #[test]
    fn a_context_survives_the_way_through_the_exporters_types() {
        let context = TraceContext::new([1; 16], [2; 8], true, Some("a=1,b=2"));
        let there = remote(&context);
        let back = TraceContext::new(
            there.trace_id().to_bytes(),
            there.span_id().to_bytes(),
            there.is_sampled(),
            Some(&there.trace_state().header()),
        );
        assert_eq!(back, context);
    }
}
