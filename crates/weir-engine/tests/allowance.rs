//! Limits of events over the real store and log, with clocks that are turned: the database's, which says what period it
//! is, and the node's own, which says nothing.

#![allow(clippy::expect_used, clippy::panic)]

use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use weir_core::event::Headers;
use weir_core::key::{self, KeyHasher, PresentedKey};
use weir_core::{
    Clock, Code, KeyId, ManualClock, NewEvent, Payload, Period, PlanName, Scopes, SigningKeyId, SystemClock,
    TenantId, Timestamp,
};
use weir_engine::{Caller, Credentials, Engine, Error, Parts, Published, Settings};
use weir_hub::Hub;
use weir_log::embedded::{self, Embedded};
use weir_outbound::{Outbound, Policy};
use weir_store::{Bootstrap, By, NewKey, NewSigningKey, Options, Overrides, SigningMaterial, Store, open_by};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

struct World {
    engine: Arc<Engine>,
    store: Store,
    caller: Arc<Caller>,
    tenant: TenantId,
    /// The database's.
    clock: Arc<ManualClock>,
    /// The node's.
    own: Arc<ManualClock>,
    files: Option<tempfile::TempDir>,
}

impl World {
    /// A tenant on the free plan with this limit, on a node of its own.
    async fn start(limit: u64) -> Self {
        let files = tempfile::tempdir().expect("a directory");
        let clock = Arc::new(ManualClock::new(SystemClock.now()));
        let own = Arc::new(ManualClock::new(SystemClock.now()));
        let url = format!("sqlite://{}", files.path().join("weir.db").display());
        let store = open_by(clock.clone(), &url, Options::default()).await.expect("a store");
        let root = store.root_secret().await.expect("a root secret");
        let id = KeyId::new();
        let text = key::generate(id);
        let presented = PresentedKey::parse(text.expose()).expect("a key");
        let wanted = Bootstrap {
            tenant_name: "t".into(),
            project_name: "p".into(),
            plan: PlanName::Free,
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
        let made = store.directory.bootstrap(wanted, By::new("test", clock.now())).await.expect("made");
        let tenant = made.access.tenant.id;
        store.tenants.set_plan(tenant, PlanName::Free, overrides(limit), by()).await.expect("a limit");
        let log = Embedded::open(&embedded::Options::new(files.path().join("log"))).expect("a log");
        let hub = Hub::start(weir_hub::Config { shards: 1, ..Default::default() }).expect("a hub");
        let outbound = Outbound::new(Policy::Trusted).expect("a client");
        let parts = Parts {
            stripe: None,
            store: store.clone(),
            log,
            hub,
            clock: own.clone(),
            outbound,
            root,
            settings: Settings::default(),
        };
        let engine = Engine::start(parts).await.expect("an engine");
        let caller = engine.authenticate(Credentials::api_key(text.expose())).await.expect("a caller");
        Self { engine, store, caller, tenant, clock, own, files: Some(files) }
    }

    async fn period(&self) -> Period {
        self.store.billing.account(self.tenant).await.expect("an account").period
    }

    async fn publish(&self) -> Result<Published, Error> {
        let event = NewEvent {
            id: None,
            topic: "t".parse().expect("a topic"),
            payload: Payload::parse(b"{}").expect("a payload"),
            kind: None,
            headers: Headers::default(),
        };
        self.engine.publish(&self.caller, event).await
    }

    /// Publishes until it is refused; how many were accepted, and the refusal.
    async fn exhaust(&self) -> (usize, Error) {
        for accepted in 0.. {
            if let Err(error) = self.publish().await {
                assert_eq!(error.code, Code::ProjectLimitExceeded, "{error}");
                return (accepted, error);
            }
        }
        panic!("never refused")
    }

    /// Publishes once the node has asked the database again, which it does once a second.
    async fn publish_when_allowed(&self) -> Published {
        for _ in 0..200 {
            if let Ok(published) = self.publish().await {
                return published;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("still refused after ten seconds")
    }

    async fn set_plan(&self, plan: PlanName, own: Overrides) {
        let changed = self.store.tenants.set_plan(self.tenant, plan, own, by()).await.expect("sets");
        let enforced = self.engine.enforced(&changed.change).await;
        assert_eq!(enforced.nodes, 1, "the node has heard of it");
    }

    /// Waits until the log's count has ended every doubt.
    async fn counted(&self) {
        for _ in 0..600 {
            if self.store.allowances.doubts(1).await.expect("doubts").is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("still in doubt after a minute")
    }

    async fn end(mut self) {
        self.engine.stop().await;
        self.files.take();
    }
}

fn by() -> By {
    By::new("test", SystemClock.now())
}

fn overrides(limit: u64) -> Overrides {
    let fields = json!({ "monthly_events": limit, "publish_per_second": 0 });
    Overrides::new(fields.as_object().expect("an object").clone()).expect("limits")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_period_has_an_allowance_of_its_own() {
    let world = World::start(3).await;
    let first = world.period().await;
    let (accepted, refusal) = world.exhaust().await;
    assert_eq!(accepted, 3);
    let details = json!({ "limit": 3, "used": 3, "what": "monthly_events", "resets_at": first.end });
    assert_eq!(refusal.details, details);
    assert!(refusal.retry_after.is_some_and(|after| after > DAY), "{:?}", refusal.retry_after);
    world.clock.set(first.end.minus(Duration::from_micros(1)));
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    world.publish().await.expect_err("the last moment of the period");
    world.clock.set(first.end);
    let published = world.publish_when_allowed().await;
    assert_eq!(published.published_at, first.end, "it counts in the period that it is charged to");
    assert_eq!(world.exhaust().await.0, 2);
    world.end().await;
}

/// A block that is not used up ends with its period.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_of_a_period_is_not_left_in_the_next() {
    let world = World::start(100).await;
    let first = world.period().await;
    world.clock.set(first.end.minus(Duration::from_millis(400)));
    for _ in 0..60 {
        assert!(world.publish().await.expect("accepted").published_at < first.end);
    }
    world.clock.set(first.end);
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(world.exhaust().await.0, 100);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_that_jump_buy_nothing() {
    let world = World::start(20).await;
    let (period, now) = (world.period().await, world.own.now());
    let jumps =
        [now.plus(HOUR), now.minus(HOUR), now.minus(90 * DAY), now.plus(90 * DAY), Timestamp::default()];
    let mut accepted = 0;
    for time in jumps {
        world.own.set(time);
        for _ in 0..2 {
            let at = world.publish().await.expect("accepted").published_at;
            assert_eq!(at, period.clamp(time), "{time}");
            accepted += 1;
        }
    }
    world.own.set(now);
    assert_eq!(accepted + world.exhaust().await.0, 20);
    for time in jumps {
        world.own.set(time);
        assert_eq!(world.exhaust().await.0, 0, "the node's clock at {time}");
    }
    world.own.set(now);
    // The database's clock goes back: still the period that it was.
    for back in [HOUR, 90 * DAY] {
        world.clock.set(now.minus(back));
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        assert_eq!(world.exhaust().await.0, 0, "the database's clock {back:?} back");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_plan_holds_at_once_and_counts_nothing_twice() {
    let world = World::start(5).await;
    assert_eq!(world.exhaust().await.0, 5);
    world.set_plan(PlanName::Pro, Overrides::default()).await;
    for _ in 0..7 {
        world.publish().await.expect("Pro has no hard limit");
    }
    // Back to a plan with a limit. What was accepted without one is known from the log, a little later.
    world.set_plan(PlanName::Free, overrides(8)).await;
    let mut total = 12;
    while world.publish().await.is_ok() {
        total += 1;
        assert!(total <= 15, "more than on leases alone");
    }
    world.counted().await;
    assert_eq!(world.exhaust().await.0, 0);
    world.set_plan(PlanName::Free, overrides(30)).await;
    assert_eq!(total + world.exhaust().await.0, 30);

    // A cap in money is a limit of events.
    world.set_plan(PlanName::Pro, Overrides::default()).await;
    let capped = world.store.billing.set_spend_cap(world.tenant, Some(0), by()).await.expect("sets");
    assert_eq!(capped.value.event_limit(), Some(5_000_000));
    assert_eq!(world.engine.enforced(&capped.change).await.nodes, 1);
    world.publish().await.expect("five million are included");
    world.end().await;
}

/// Two runs of one server: what the first had leased and did not use is free when it stopped in order.
#[tokio::test(flavor = "multi_thread")]
async fn an_orderly_end_gives_back_what_was_not_used() {
    let world = World::start(40).await;
    for _ in 0..3 {
        world.publish().await.expect("accepted");
    }
    let start = world.period().await.start;
    world.engine.stop().await;
    let node = weir_core::NodeId::new();
    let beat = weir_store::Heartbeat { node, started_at: world.own.now(), confirmed: 0, lease: HOUR };
    world.store.nodes.beat(beat).await.expect("beats");
    let wish =
        weir_store::allowances::LeaseWish { node, tenant: world.tenant, held: None, waiting: 40, more: 0 };
    let lease = world.store.allowances.lease(wish).await.expect("a lease");
    assert_eq!((lease.granted, lease.period.start), (37, start));
}
