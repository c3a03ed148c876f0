//! Traces on their way out: OTLP over HTTP, in batches, from a thread of its own.
//!
//! Ended spans wait in a queue of a fixed length; what does not fit is dropped and counted (`queue.rs`), so a collector that
//! is slow or gone costs nothing but its traces. Sampling is decided before there is a span (`Tracer::samples`), and for
//! children with their parent.

use super::post::Post;
use super::queue::{Bounded, Spans, Watched};
use crate::config::Telemetry;
use anyhow::Context;
use opentelemetry::trace::TracerProvider;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use opentelemetry::{KeyValue, Value};
use opentelemetry_otlp::{WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider};
use percent_encoding::percent_decode_str;
use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tracing::{Span, Subscriber};
use tracing_opentelemetry::{OpenTelemetryLayer, OpenTelemetrySpanExt};
use tracing_subscriber::registry::LookupSpan;
use weir_core::{Secret, TraceContext};
use weir_engine::{SpanCounts, Tracer, Traces};

/// OpenTelemetry's own variables that say where to.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
/// Those that say with which headers; the first that is set counts.
const HEADERS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"];
/// The share of traces that are recorded; counts while `telemetry.sampling` says nothing else than its default.
const SAMPLER_ARGUMENT: &str = "OTEL_TRACES_SAMPLER_ARG";
/// How many ended spans may wait, and how many if that is not said.
const QUEUE: (&str, usize) = ("OTEL_BSP_MAX_QUEUE_SIZE", 2048);
/// Milliseconds that a batch may take; the first that is set counts.
const TIMEOUTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"];
/// That time if none is.
const TIMEOUT: Duration = Duration::from_secs(10);

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

/// Where traces go.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    /// Batches are posted there.
    pub url: String,
    /// With these. They hold secrets.
    pub headers: HashMap<String, String>,
}

/// Where the settings or the environment send traces; `None` when nothing is recorded.
pub fn target(settings: &Telemetry) -> Option<Target> {
    target_in(settings, variable)
}

fn target_in(settings: &Telemetry, variable: impl Fn(&str) -> Option<String>) -> Option<Target> {
    if variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return None;
    }
    let below = |base: &str| format!("{}/v1/traces", base.trim_end_matches('/'));
    // The variable for traces alone is the whole URL, as OpenTelemetry has it.
    let url = settings.otlp_endpoint.as_deref().map(below);
    let url = url.or_else(|| variable(ENDPOINTS[0])).or_else(|| Some(below(&variable(ENDPOINTS[1])?)))?;
    // A header of the environment goes before one of the settings with its name.
    let mut all = settings.otlp_headers.as_ref().and_then(headers).unwrap_or_default();
    let more = HEADERS.iter().find_map(|name| variable(name)).map(Secret::new);
    all.extend(more.as_ref().and_then(headers).unwrap_or_default());
    Some(Target { url, headers: all })
}

/// Starts the exporter, where the settings or the environment name a collector.
pub fn start(settings: &Telemetry) -> anyhow::Result<Option<(SdkTracerProvider, Arc<Spans>)>> {
    let Some(target) = target(settings) else { return Ok(None) };
    let timeout = TIMEOUTS.iter().find_map(|name| variable(name)?.trim().parse().ok());
    let timeout = timeout.map_or(TIMEOUT, Duration::from_millis);
    let spans = Arc::new(Spans::default());
    let client = Post::new(timeout, Arc::clone(&spans)).context("traces cannot be sent")?;
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_timeout(timeout)
        .with_endpoint(target.url)
        .with_headers(target.headers)
        .build()
        .context("the exporter of traces cannot be set up")?;
    let room = variable(QUEUE.0).and_then(|text| text.trim().parse().ok()).unwrap_or(QUEUE.1).max(1);
    let processor = BatchSpanProcessor::builder(Watched::new(exporter, Arc::clone(&spans)))
        .with_batch_config(BatchConfigBuilder::default().with_max_queue_size(room).build())
        .build();
    let provider = SdkTracerProvider::builder()
        .with_span_processor(Bounded::new(processor, room, Arc::clone(&spans)))
        // What reaches it was chosen before.
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)))
        .with_resource(resource(settings))
        .build();
    Ok(Some((provider, spans)))
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
pub fn traces(settings: &Telemetry, spans: Arc<Spans>) -> Traces {
    let default = settings.sampling == Telemetry::default().sampling;
    let argument = variable(SAMPLER_ARGUMENT).filter(|_| default);
    let argument =
        argument.and_then(|text| f64::from_str(text.trim()).ok()).filter(|ratio| (0.0..=1.0).contains(ratio));
    Traces::to(Arc::new(Recorder { ratio: argument.unwrap_or_else(|| settings.sampling.ratio()), spans }))
}

struct Recorder {
    /// Of the traces that begin here.
    ratio: f64,
    spans: Arc<Spans>,
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

    fn spans(&self) -> SpanCounts {
        self.spans.read()
    }
}

fn remote(context: &TraceContext) -> SpanContext {
    let flags = if context.is_sampled() { TraceFlags::SAMPLED } else { TraceFlags::default() };
    let state = context.tracestate().and_then(|state| TraceState::from_str(state).ok()).unwrap_or_default();
    let (trace, span) = (TraceId::from_bytes(context.trace()), SpanId::from_bytes(context.span()));
    SpanContext::new(trace, span, flags, true, state)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;
    use std::thread::JoinHandle;

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
    fn settings_say_where_to_and_else_the_environment() {
        let set = Telemetry {
            otlp_endpoint: Some("http://one:4318/".to_owned()),
            otlp_headers: Some(Secret::new("a=1,b=2")),
            ..Telemetry::default()
        };
        let environment = |pairs: &'static [(&str, &str)]| {
            move |name: &str| {
                pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
            }
        };
        let url =
            |settings: &Telemetry, pairs| target_in(settings, environment(pairs)).map(|target| target.url);
        let unset = Telemetry::default();
        assert_eq!(url(&unset, &[]), None);
        assert_eq!(url(&set, &[("OTEL_SDK_DISABLED", "TRUE")]), None);
        let both: &[_] = &[
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://two/exactly/"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://three/"),
        ];
        assert_eq!(url(&set, both).as_deref(), Some("http://one:4318/v1/traces"));
        assert_eq!(url(&unset, both).as_deref(), Some("http://two/exactly/"));
        assert_eq!(url(&unset, &both[1..]).as_deref(), Some("http://three/v1/traces"));
        let more = environment(&[("OTEL_EXPORTER_OTLP_HEADERS", "b=3,c=%20")]);
        let headers = target_in(&set, more).expect("a target").headers;
        let header = |name: &str| headers.get(name).map(String::as_str);
        assert_eq!((header("a"), header("b"), header("c")), (Some("1"), Some("3"), Some(" ")));
    }

    /// A collector that answers one batch as told; the length of that batch.
    fn collector(status: &'static str, answer: &'static [u8]) -> (String, JoinHandle<usize>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let answered = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().expect("the exporter comes");
            let mut reader = BufReader::new(socket.try_clone().expect("a socket"));
            let (mut line, mut length) = (String::new(), 0);
            while line != "\r\n" {
                line.clear();
                reader.read_line(&mut line).expect("a line");
                let header = line.to_ascii_lowercase();
                length = header
                    .strip_prefix("content-length:")
                    .map_or(length, |n| n.trim().parse().expect("a number"));
            }
            reader.read_exact(&mut vec![0; length]).expect("a body");
            let kind = "content-type: application/x-protobuf";
            let head = format!("HTTP/1.1 {status}\r\n{kind}\r\ncontent-length: {}\r\n\r\n", answer.len());
            socket.write_all(&[head.as_bytes(), answer].concat()).expect("answers");
            length
        });
        (endpoint, answered)
    }

    /// What becomes of five spans.
    fn five_spans(endpoint: String) -> SpanCounts {
        let settings = Telemetry { otlp_endpoint: Some(endpoint), ..Telemetry::default() };
        let (provider, spans) = start(&settings).expect("an exporter").expect("a collector is set");
        let tracer = provider.tracer("test");
        for _ in 0..5 {
            drop(opentelemetry::trace::Tracer::start(&tracer, "a"));
        }
        // Fails where the batch does.
        let _ = provider.force_flush();
        spans.read()
    }

    #[test]
    fn spans_that_a_collector_refuses_are_counted_as_lost() {
        // partial_success { rejected_spans: 2, error_message: "no" }
        let (endpoint, answered) = collector("200 OK", b"\x0a\x06\x08\x02\x12\x02no");
        assert_eq!(five_spans(endpoint), SpanCounts { exported: 3, failed: 2, dropped: 0 });
        assert!(answered.join().expect("it answered") > 0);
        // Nothing refused, only a word of advice.
        let (endpoint, _) = collector("200 OK", b"\x0a\x04\x12\x02ok");
        assert_eq!(five_spans(endpoint), SpanCounts { exported: 5, failed: 0, dropped: 0 });
        let (endpoint, _) = collector("400 Bad Request", b"");
        assert_eq!(five_spans(endpoint), SpanCounts { exported: 0, failed: 5, dropped: 0 });
    }

    #[test]
    fn whoever_sends_a_context_has_decided() {
        let context = |sampled| TraceContext::new([1; 16], [2; 8], sampled, None);
        for ratio in [0.0, 1.0] {
            let recorder = Recorder { ratio, spans: Arc::default() };
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
