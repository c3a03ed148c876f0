//! What every request costs before it does anything: finding out who calls, warm, taking a unit of its rates, and of its
//! tenant's events.
#![allow(clippy::expect_used, missing_docs)]

use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;
use weir_core::key::{self, KeyHasher, PresentedKey};
use weir_core::{Clock, KeyId, PlanName, Scopes, SigningKeyId, SystemClock, TenantId};
use weir_engine::billing::Admitted;
use weir_engine::limits::{Gcra, Rate, Rates};
use weir_engine::{Credentials, Engine, Parts, Settings};
use weir_hub::Hub;
use weir_log::embedded::{self, Embedded};
use weir_outbound::{Outbound, Policy};
use weir_store::{Bootstrap, By, NewKey, NewSigningKey, NewTenant, Overrides, SigningMaterial, TenantStatus};

/// An engine on empty files, a key of it, a tenant with a limit of events and one without.
async fn engine(files: &std::path::Path) -> (Arc<Engine>, Credentials, [TenantId; 2]) {
    let url = format!("sqlite://{}", files.join("weir.db").display());
    let store = weir_store::open(&url, weir_store::Options::default()).await.expect("a store");
    let root = store.root_secret().await.expect("a root secret");
    let id = KeyId::new();
    let text = key::generate(id);
    let presented = PresentedKey::parse(text.expose()).expect("a key");
    let wanted = Bootstrap {
        tenant_name: "t".into(),
        project_name: "p".into(),
        plan: PlanName::Pro,
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
            name: String::new(),
            material: SigningMaterial::Secret(b"sealed".to_vec()),
            templates: None,
        },
    };
    let by = || By::new("bench", SystemClock.now());
    let made = store.directory.bootstrap(wanted, by()).await.expect("made");
    let fields = serde_json::json!({ "monthly_events": 1_u64 << 40 });
    let new = NewTenant {
        id: TenantId::new(),
        name: "limited".into(),
        plan: PlanName::Free,
        overrides: Overrides::new(fields.as_object().expect("an object").clone()).expect("limits"),
        status: TenantStatus::Active,
    };
    let free = store.tenants.create(new, by()).await.expect("made");
    let log = Embedded::open(&embedded::Options::new(files.join("log"))).expect("a log");
    let hub = Hub::start(weir_hub::Config { shards: 1, ..Default::default() }).expect("a hub");
    let clock = Arc::new(SystemClock);
    let outbound = Outbound::new(Policy::Trusted).expect("a client");
    let parts = Parts { store, log, hub, clock, outbound, stripe: None, root, settings: Settings::default() };
    (
        Engine::start(parts).await.expect("an engine"),
        Credentials::api_key(text.expose()),
        [free.id, made.access.tenant.id],
    )
}

fn requests(c: &mut Criterion) {
    let limiter = |per_second| Arc::new(Gcra::new(Rate { per_second }));
    let rates = Rates { credential: limiter(u32::MAX), project: limiter(0), tenant: limiter(u32::MAX) };
    let files = tempfile::tempdir().expect("a directory");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (engine, credentials, [limited, unlimited]) = runtime.block_on(engine(files.path()));

    let mut group = c.benchmark_group("request");
    group.bench_function("one rate", |b| b.iter(|| black_box(&rates.credential).take(1)));
    group.bench_function("rates of key and tenant", |b| b.iter(|| black_box(&rates).take(1)));
    group.bench_function("authenticate, warm", |b| {
        b.iter(|| runtime.block_on(engine.authenticate(credentials.clone())).expect("is known"));
    });
    for (name, tenant) in [("an event of a limit", limited), ("an event without a limit", unlimited)] {
        // A tenth of the units is used, the others come back: the block lasts, as it does between two refills.
        let admit = |n: u64| {
            engine.allowances().admit(tenant, 1, move |admitted| match admitted {
                Admitted::Counted(units, _) => units.used(usize::from(n.is_multiple_of(10))),
                Admitted::Uncounted | Admitted::Refused(_) => {}
            });
        };
        admit(0);
        let mut n = 0;
        group.bench_function(name, |b| {
            b.iter(|| {
                n += 1;
                admit(black_box(n));
            });
        });
    }
    group.finish();
    runtime.block_on(engine.stop());
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = requests
}
criterion_main!(benches);
