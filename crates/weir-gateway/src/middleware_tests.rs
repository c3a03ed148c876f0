//! A handler that panics, behind the same layers as the product's own.

use super::*;
use crate::graphql::Limits;
use crate::metrics::Format;
use crate::rest::idempotency;
use crate::scene;
use crate::state::Settings;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::middleware::from_fn_with_state;
use axum::routing::post;
use serde_json::{Value, json};
use std::io;
use std::time::Duration;
use tempfile::TempDir;
use tracing::Span;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::FmtSpan;
use weir_core::TraceContext;
use weir_core::trace::ROOT;
use weir_engine::testing::Small;
use weir_engine::{SpanCounts, Tracer, Traces};

/// Records every span, and sends it nowhere.
struct All;

impl Tracer for All {
    fn samples(&self, _: Option<&TraceContext>) -> bool {
        true
    }

    fn continue_from(&self, _: &Span, _: &TraceContext) {}

    fn link(&self, _: &Span, _: &TraceContext) {}

    fn context(&self, _: &Span) -> Option<TraceContext> {
        None
    }

    fn spans(&self) -> SpanCounts {
        SpanCounts::default()
    }
}

/// What is logged, spans included.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn read(&self) -> String {
        String::from_utf8(self.0.lock().expect("no panic").clone()).expect("text")
    }
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

struct World {
    gateway: Arc<Gateway>,
    small: Small,
    _files: TempDir,
}

impl World {
    async fn start() -> Self {
        let files = tempfile::tempdir().expect("a folder");
        let traces = Traces::to(Arc::new(All));
        let engine = weir_engine::Settings { traces, ..Default::default() };
        let small = Small::start(files.path(), engine).await;
        let gateway = Gateway::new(Arc::clone(&small.engine), settings());
        Self { gateway, small, _files: files }
    }

    /// A router with one handler, which notes whose request it is where nothing did before, and panics.
    fn router(&self) -> Router {
        let tenant = self.small.tenant;
        let panics = move || async move {
            scene::identify_tenant(tenant, None);
            tokio::task::yield_now().await;
            if tenant.uuid().is_nil() { "a tenant always has an id" } else { panic!("on purpose") }
        };
        let once = from_fn_with_state(Arc::clone(&self.gateway), idempotency::once);
        let keyed = post(panics).route_layer(once);
        Router::new()
            .route("/plain", post(panics))
            .route("/keyed", keyed)
            .layer(AroundLayer(Arc::clone(&self.gateway)))
    }

    async fn metrics(&self) -> String {
        let format = Format::wanted(&axum::http::HeaderMap::new());
        let health = self.gateway.engine.health().await;
        String::from_utf8(self.gateway.metrics.scrape(&self.gateway, &health, format)).expect("text")
    }
}

fn settings() -> Settings {
    let patience = Duration::from_secs(30);
    Settings {
        body_bytes: 1 << 20,
        header_bytes: 16 << 10,
        headers: 64,
        batch_events: 100,
        auth_timeout: patience,
        header_timeout: patience,
        body_timeout: patience,
        frame_bytes: 64 << 10,
        address_header: None,
        console: false,
        graphql: Limits::default(),
    }
}

#[tokio::test]
async fn a_handler_that_panics_is_answered_counted_and_logged_like_every_failure() {
    let world = World::start().await;
    let mut router = world.router();
    for path in ["/plain", "/keyed"] {
        let lines = Lines::default();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(lines.clone())
            .with_ansi(false)
            .with_span_events(FmtSpan::CLOSE)
            .with_env_filter(format!("{ROOT}=info,weir_gateway=error"))
            .finish();
        let listening = tracing::subscriber::set_default(subscriber);
        let request = Request::post(path)
            .header("x-request-id", "mine-1")
            .header("x-api-key", world.small.key.expose())
            .header("idempotency-key", "k")
            .body(Body::empty())
            .expect("a request");
        let response = router.call(request).await.expect("an answer");
        drop(listening);

        assert_eq!(response.status(), 500, "{path}");
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        assert_eq!(header("x-request-id"), Some("mine-1"), "{path}");
        assert_eq!(header("access-control-allow-origin"), Some("*"), "{path}");
        assert_eq!(header("content-type"), Some("application/json"), "{path}");
        let body = to_bytes(response.into_body(), 4096).await.expect("a body");
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        let message = body["error"]["message"].clone();
        let wanted = json!({"code": "INTERNAL", "message": message, "details": {}, "request_id": "mine-1"});
        assert_eq!(body, json!({ "error": wanted }), "{path}");
        assert!(!message.as_str().expect("a text").contains("panic"), "{message}");

        let metrics = world.metrics().await;
        let counted = metrics.lines().find(|line| {
            let of = [&format!("route=\"{path}\""), "status=\"500\"", "method=\"POST\""];
            line.starts_with("weir_http_requests_total{") && of.iter().all(|label| line.contains(label))
        });
        assert!(counted.is_some_and(|line| line.ends_with(" 1")), "{path}: {counted:?}\n{metrics}");

        let lines = lines.read();
        let line = |what: &str| lines.lines().find(|line| line.contains(what)).unwrap_or_default().to_owned();
        let failed = line("request mine-1 failed: a handler panicked");
        assert!(failed.contains(&format!("tenant={}", world.small.tenant)), "{path}: {lines}");
        assert!(failed.contains("request{"), "{path}: within the span: {lines}");
        let ended = line(": close");
        for field in ["http.response.status_code=500", "otel.status_code=\"ERROR\"", "weir.tenant="] {
            assert!(ended.contains(field), "{path}: {field}: {lines}");
        }
    }
    world.gateway.engine.stop().await;
}
