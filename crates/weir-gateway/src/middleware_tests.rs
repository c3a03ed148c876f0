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
use weir_core::key::{self, KeyHasher, PresentedKey};
use weir_core::trace::ROOT;
use weir_core::{Clock, KeyId, PlanName, Scopes, Secret, SigningKeyId, SystemClock, TenantId, TraceContext};
use weir_engine::{Engine, Parts, SpanCounts, Tracer, Traces};
use weir_hub::Hub;
use weir_log::embedded::{self, Embedded};
use weir_outbound::{Outbound, Policy};
use weir_store::{Bootstrap, By, NewKey, NewSigningKey, SigningMaterial};

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
    tenant: TenantId,
    key: Secret,
    _files: TempDir,
}

impl World {
    async fn start() -> Self {
        let files = tempfile::tempdir().expect("a folder");
        let url = format!("sqlite://{}", files.path().join("weir.db").display());
        let store = weir_store::open(&url, weir_store::Options::default()).await.expect("a database");
        let root = store.root_secret().await.expect("a root secret");
        let id = KeyId::new();
        let key = key::generate(id);
        let presented = PresentedKey::parse(key.expose()).expect("a key");
        let wanted = Bootstrap {
            tenant_name: "t".into(),
            project_name: "p".into(),
            plan: PlanName::Enterprise,
            key: NewKey {
                id,
                name: "k".into(),
                key_hash: KeyHasher::new(&root).hash(&presented),
                scopes: Scopes::all(),
                rate_limit_per_sec: 0,
                expires_at: None,
            },
            signing_key: NewSigningKey {
                id: SigningKeyId::new(),
                name: "s".into(),
                material: SigningMaterial::Secret(b"sealed".to_vec()),
                templates: None,
            },
        };
        let made = store.directory.bootstrap(wanted, By::new("test", SystemClock.now())).await.expect("made");
        let parts = Parts {
            store,
            log: Embedded::open(&embedded::Options::new(files.path().join("log"))).expect("a log"),
            hub: Hub::start(weir_hub::Config { shards: 1, ..Default::default() }).expect("a hub"),
            clock: Arc::new(SystemClock),
            outbound: Outbound::new(Policy::Trusted).expect("a client"),
            stripe: None,
            root,
            settings: weir_engine::Settings { traces: Traces::to(Arc::new(All)), ..Default::default() },
        };
        let engine = Engine::start(parts).await.expect("an engine");
        let gateway = Gateway::new(engine, settings());
        Self { gateway, tenant: made.access.tenant.id, key, _files: files }
    }

    /// A router with one handler, which notes whose request it is where nothing did before, and panics.
    fn router(&self) -> Router {
        let tenant = self.tenant;
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
            .header("x-api-key", world.key.expose())
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
        assert!(failed.contains(&format!("tenant={}", world.tenant)), "{path}: {lines}");
        assert!(failed.contains("request{"), "{path}: within the span: {lines}");
        let ended = line(": close");
        for field in ["http.response.status_code=500", "otel.status_code=\"ERROR\"", "weir.tenant="] {
            assert!(ended.contains(field), "{path}: {field}: {lines}");
        }
    }
    world.gateway.engine.stop().await;
}
