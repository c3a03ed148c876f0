//! Usage when everything goes wrong: the process is killed before and after every step of counting and of sending, and
//! answers of the database are lost. What is billed must be what the log holds.
//!
//! A child is this test binary again, told by environment variables where to work and at which step to die.

#![allow(clippy::expect_used, clippy::panic, clippy::print_stdout)]

use futures::future::BoxFuture;
use std::collections::HashMap;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use weir_core::event::Headers;
use weir_core::key::{self, KeyHasher, PresentedKey};
use weir_core::{
    Clock, KeyId, NewEvent, NodeId, Payload, PlanName, Position, ProjectId, Scopes, SigningKeyId,
    SystemClock, TenantId, Timestamp, Topic,
};
use weir_engine::{Credentials, Engine, Metric, Parts, Settings};
use weir_hub::Hub;
use weir_log::embedded::{self, Embedded};
use weir_log::jetstream::server::{NatsServer, ServerConfig};
use weir_log::jetstream::{self, JetStream};
use weir_log::{
    EventLog, Feed, Health, Inspection, LogError, Milestone, Outcome, Page, Place, ReadQuery, Record, System,
    TopicHead, Walked,
};
use weir_outbound::{Outbound, Policy};
use weir_store::postgres_server::PostgresServer;
use weir_store::{
    Accepted, Batch, Bootstrap, By, Count, Explain, Ledger, NewKey, NewSigningKey, Options, Positions, Reply,
    SigningMaterial, Store, StoreError, Usage, UsageRange, UsageShare, UsageWindow,
};

const PLACE: &str = "WEIR_USAGE_TEST_PLACE";
const TRAP: &str = "WEIR_USAGE_TEST_TRAP";
/// Events and requests of one child.
const EACH: u64 = 60;

/// What happens at the `nth` time of a step that has something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    DieBefore,
    DieAfter,
    /// It is done, and the answer is lost.
    LoseAnswer,
    /// It is not done.
    Refuse,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    Walk,
    Count,
    Record,
}

struct Trap {
    step: Step,
    nth: u32,
    fault: Fault,
    seen: Mutex<HashMap<Step, u32>>,
}

impl Trap {
    fn parse(text: &str) -> Self {
        let mut words = text.split(' ');
        let mut word = || words.next().expect("three words");
        let step = match word() {
            "Walk" => Step::Walk,
            "Count" => Step::Count,
            _ => Step::Record,
        };
        let nth = word().parse().expect("a number");
        let fault = match word() {
            "DieBefore" => Fault::DieBefore,
            "DieAfter" => Fault::DieAfter,
            "LoseAnswer" => Fault::LoseAnswer,
            _ => Fault::Refuse,
        };
        Self { step, nth, fault, seen: Mutex::default() }
    }

    /// Carries a step out, or not.
    async fn spring<T, E>(
        &self,
        step: Step,
        work: impl Future<Output = Result<T, E>>,
        unavailable: impl Fn() -> E,
    ) -> Result<T, E> {
        let seen = {
            let mut seen = self.seen.lock().expect("no panic");
            let seen = seen.entry(step).or_default();
            *seen += 1;
            *seen
        };
        let fault = (step == self.step && seen == self.nth).then_some(self.fault);
        match fault {
            // As by kill -9: nothing is unwound, nothing is written.
            Some(Fault::DieBefore) => std::process::abort(),
            Some(Fault::Refuse) => return Err(unavailable()),
            _ => {}
        }
        let done = work.await;
        match fault {
            Some(Fault::DieAfter) => std::process::abort(),
            Some(Fault::LoseAnswer) => done.and_then(|_| Err(unavailable())),
            _ => done,
        }
    }
}

struct Trapped<T: ?Sized>(Arc<T>, Arc<Trap>);

fn gone() -> StoreError {
    StoreError::Unavailable("the test cut it off".into())
}

impl Usage for Trapped<dyn Usage> {
    fn record(&self, batch: Batch) -> Reply<'_, bool> {
        if batch.counted.is_empty() {
            return self.0.record(batch);
        }
        Box::pin(async move { self.1.spring(Step::Record, self.0.record(batch), gone).await })
    }

    fn usage(
        &self,
        tenant: TenantId,
        project: Option<ProjectId>,
        from: Timestamp,
        to: Timestamp,
    ) -> Reply<'_, Vec<UsageWindow>> {
        self.0.usage(tenant, project, from, to)
    }

    fn total(&self, tenant: TenantId, metric: Metric, from: Timestamp, to: Timestamp) -> Reply<'_, u64> {
        self.0.total(tenant, metric, from, to)
    }

    fn accepted(&self, tenant: TenantId, from: Timestamp, to: Timestamp) -> Reply<'_, Accepted> {
        self.0.accepted(tenant, from, to)
    }

    fn closed_until(&self) -> Reply<'_, Timestamp> {
        self.0.closed_until()
    }

    fn ranges(&self, wanted: Explain<u64>) -> Reply<'_, Vec<UsageRange>> {
        self.0.ranges(wanted)
    }

    fn shares_of(&self, metric: Metric, wanted: Explain<NodeId>) -> Reply<'_, Vec<UsageShare>> {
        self.0.shares_of(metric, wanted)
    }
}

impl Ledger for Trapped<dyn Ledger> {
    fn positions(&self) -> Reply<'_, Positions> {
        self.0.positions()
    }

    fn count(&self, step: Count) -> Reply<'_, bool> {
        if step.ranges.is_empty() {
            return self.0.count(step);
        }
        Box::pin(async move { self.1.spring(Step::Count, self.0.count(step), gone).await })
    }

    fn to_recount(&self, before: Timestamp, limit: usize) -> Reply<'_, Vec<UsageRange>> {
        self.0.to_recount(before, limit)
    }

    fn counted_before(&self, range: UsageRange) -> Reply<'_, Option<u64>> {
        self.0.counted_before(range)
    }

    fn recounted(&self, range: UsageRange, found: Option<u64>) -> Reply<'_, bool> {
        self.0.recounted(range, found)
    }

    fn forget_explanations(&self, before: Timestamp) -> Reply<'_, ()> {
        self.0.forget_explanations(before)
    }
}

impl EventLog for Trapped<dyn EventLog> {
    fn walk<'a>(
        &'a self,
        stream: &'a Arc<str>,
        after: Option<Milestone>,
    ) -> BoxFuture<'a, Result<Option<Walked>, LogError>> {
        let walk = self.0.walk(stream, after);
        if after.is_none() {
            return walk;
        }
        let unavailable = || LogError::Unavailable("the test cut it off".into());
        Box::pin(async move { self.1.spring(Step::Walk, walk, unavailable).await })
    }

    fn append(
        &self,
        place: &Place,
        records: Vec<Record>,
    ) -> BoxFuture<'static, Result<Vec<Outcome>, LogError>> {
        self.0.append(place, records)
    }

    fn read<'a>(&'a self, place: &'a Place, query: ReadQuery) -> BoxFuture<'a, Result<Page, LogError>> {
        self.0.read(place, query)
    }

    fn inspect<'a>(&'a self, place: &'a Place, sequence: u64) -> BoxFuture<'a, Result<Inspection, LogError>> {
        self.0.inspect(place, sequence)
    }

    fn locate<'a>(&'a self, place: &'a Place, time: Timestamp) -> BoxFuture<'a, Result<u64, LogError>> {
        self.0.locate(place, time)
    }

    fn topics<'a>(
        &'a self,
        place: &'a Place,
        after: Option<&'a Topic>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<TopicHead>, LogError>> {
        self.0.topics(place, after, limit)
    }

    fn trim<'a>(&'a self, place: &'a Place, through: u64) -> BoxFuture<'a, Result<(), LogError>> {
        self.0.trim(place, through)
    }

    fn erase<'a>(&'a self, place: &'a Place) -> BoxFuture<'a, Result<bool, LogError>> {
        self.0.erase(place)
    }

    fn shred(&self) -> BoxFuture<'_, Result<(), LogError>> {
        self.0.shred()
    }

    fn watch<'a>(&'a self, place: &'a Place) -> BoxFuture<'a, Result<Position, LogError>> {
        self.0.watch(place)
    }

    fn unwatch(&self, project: ProjectId) {
        self.0.unwatch(project);
    }

    fn feed(&self) -> Option<Feed> {
        self.0.feed()
    }

    fn is_reachable(&self) -> bool {
        self.0.is_reachable()
    }

    fn health(&self) -> BoxFuture<'_, Health> {
        self.0.health()
    }

    fn system(&self) -> System {
        self.0.system()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.0.close()
    }
}

/// Where the database and the log are.
struct World {
    database: String,
    log: String,
    key: String,
    tenant: TenantId,
    place: Place,
}

impl World {
    async fn make(database: String, log: String) -> Self {
        let store = open(&database).await;
        let root = store.root_secret().await.expect("a root secret");
        let id = KeyId::new();
        let text = key::generate(id);
        let presented = PresentedKey::parse(text.expose()).expect("a key");
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
        let (tenant, project) = (made.access.tenant.id, made.access.project.id);
        let place = Place { tenant, project, stream: made.access.tenant.stream.as_str().into() };
        store.close().await;
        Self { database, log, key: text.expose().to_owned(), tenant, place }
    }

    fn told(&self) -> String {
        format!("{} {} {}", self.database, self.log, self.key)
    }

    async fn log(&self) -> Arc<dyn EventLog> {
        open_log(&self.log).await
    }

    /// Runs a child; what it said.
    fn child(&self, trap: &str) -> (bool, Vec<String>) {
        let program = std::env::current_exe().expect("this binary");
        let output = Command::new(program)
            .args(["--exact", "part_publish_and_count", "--nocapture", "--ignored", "--test-threads=1"])
            .env(PLACE, self.told())
            .env(TRAP, trap)
            .stderr(Stdio::inherit())
            .output()
            .expect("a child");
        let lines = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
        (output.status.success(), lines)
    }
}

async fn open(url: &str) -> Store {
    let options = Options {
        max_connections: 3,
        acquire_timeout: Duration::from_secs(60),
        call_timeout: Duration::from_secs(60),
        ..Options::default()
    };
    weir_store::open(url, options).await.expect("a store")
}

async fn open_log(log: &str) -> Arc<dyn EventLog> {
    if log.starts_with("nats://") {
        return JetStream::connect(jetstream::Options::new(vec![log.to_owned()])).await.expect("a log");
    }
    Embedded::open(&embedded::Options::new(log)).expect("a log")
}

async fn start(world: (&str, &str), trap: Option<Arc<Trap>>) -> (Arc<Engine>, Store) {
    let mut store = open(world.0).await;
    let mut log = open_log(world.1).await;
    if let Some(trap) = trap {
        store.usage = Arc::new(Trapped(store.usage, Arc::clone(&trap)));
        store.ledger = Arc::new(Trapped(store.ledger, Arc::clone(&trap)));
        log = Arc::new(Trapped(log, trap));
    }
    let parts = Parts {
        stripe: None,
        root: store.root_secret().await.expect("a root secret"),
        store: store.clone(),
        log,
        hub: Hub::start(weir_hub::Config { shards: 1, ..Default::default() }).expect("a hub"),
        clock: Arc::new(SystemClock),
        outbound: Outbound::new(Policy::Trusted).expect("a client"),
        settings: Settings::default(),
    };
    (Engine::start(parts).await.expect("an engine"), store)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a part that another test plays in a process of its own"]
async fn part_publish_and_count() {
    let (Ok(place), Ok(trap)) = (std::env::var(PLACE), std::env::var(TRAP)) else { return };
    let mut words = place.split(' ');
    let mut word = || words.next().expect("three words");
    let (database, log, key) = (word(), word(), word());
    let trap = Arc::new(Trap::parse(&trap));
    let dies = matches!(trap.fault, Fault::DieBefore | Fault::DieAfter);
    let (engine, _) = start((database, log), Some(Arc::clone(&trap))).await;
    let caller = engine.authenticate(Credentials::api_key(key)).await.expect("a caller");
    let mut told = 0;
    let begun = Instant::now();
    loop {
        if told < EACH {
            let event = NewEvent {
                id: None,
                topic: "t".parse().expect("a topic"),
                payload: Payload::parse(b"1").expect("a payload"),
                kind: None,
                headers: Headers::default(),
            };
            let published = engine.publish(&caller, event).await;
            engine.count_request(caller.place.tenant, Some(caller.place.project));
            told += 1;
            println!("TOLD {}", published.is_ok());
        } else if !dies && begun.elapsed() > Duration::from_millis(3_500) {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "the trap was not sprung");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    engine.stop().await;
    let sprung = trap.seen.lock().expect("no panic").get(&trap.step).is_some_and(|seen| *seen >= trap.nth);
    println!("STOPPED {sprung}");
}

/// Events of the place in the log.
async fn logged(log: &dyn EventLog, place: &Place) -> u64 {
    let (mut after, mut count) = (0, 0);
    loop {
        let patterns = [">".parse().expect("a pattern")].into();
        let page =
            log.read(place, ReadQuery { after, patterns, max_events: 1_000, max_bytes: 4 << 20 }).await;
        let page = page.expect("read");
        count += page.events.len() as u64;
        if page.at_head {
            return count;
        }
        after = page.through;
    }
}

struct Books {
    published: u64,
    requests: u64,
}

/// Counts what is left, with nothing in the way, and reads what is billed.
async fn settle(world: &World) -> (Books, u64) {
    let (engine, store) = start((&world.database, &world.log), None).await;
    let begun = store.ledger.positions().await.expect("reads").now;
    let (from, to) = (Timestamp::default(), begun.plus(Duration::from_secs(7200)));
    let patience = Instant::now() + Duration::from_secs(60);
    let published = loop {
        let accepted = store.usage.accepted(world.tenant, from, to).await.expect("reads");
        if accepted.complete_until > begun {
            break accepted.events;
        }
        assert!(Instant::now() < patience, "it does not come to an end: {:?}", engine.meter_state());
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let requests = store.usage.total(world.tenant, Metric::ApiRequests, from, to).await.expect("reads");
    let explain = Explain { tenant: world.tenant, project: None, from, to, after: None, limit: 1_000 };
    let ranges = store.usage.ranges(explain).await.expect("reads");
    assert_eq!(
        ranges.iter().map(|range| range.quantity).sum::<u64>(),
        published,
        "ranges make up the number"
    );
    assert!(ranges.is_sorted_by(|a, b| a.last_sequence < b.first_sequence), "{ranges:?}");
    let explain = Explain { tenant: world.tenant, project: None, from, to, after: None, limit: 1_000 };
    let shares = store.usage.shares_of(Metric::ApiRequests, explain).await.expect("reads");
    assert_eq!(
        shares.iter().map(|share| share.quantity).sum::<u64>(),
        requests,
        "batches make up the number"
    );
    assert_eq!((engine.meter_state().lost, engine.meter_state().drift), (0, 0));
    engine.stop().await;
    drop(engine);
    store.close().await;
    let log = world.log().await;
    let logged = logged(&*log, &world.place).await;
    log.close().await;
    (Books { published, requests }, logged)
}

/// Killed before and after each step, the first and the second time it has something to do.
async fn billed_is_what_is_logged(world: World) {
    let (mut told, mut acked) = (0, 0);
    for step in [Step::Walk, Step::Count, Step::Record] {
        for fault in [Fault::DieBefore, Fault::DieAfter] {
            for nth in 1..=2 {
                let trap = format!("{step:?} {nth} {fault:?}");
                let (success, lines) = world.child(&trap);
                assert!(
                    !success && !lines.iter().any(|line| line.starts_with("STOPPED")),
                    "{trap}: {lines:?}"
                );
                told += lines.iter().filter(|line| line.contains("TOLD")).count() as u64;
                acked += lines.iter().filter(|line| line.contains("TOLD true")).count() as u64;
            }
        }
    }
    let (books, logged) = settle(&world).await;
    assert_eq!(books.published, logged, "billed less logged");
    assert!(logged >= acked && acked > 100, "{logged} logged, {acked} acknowledged");
    // One more request may have been counted than its child could tell. What a kill loses is less than two looks' worth.
    assert!(books.requests <= told + 12, "{} of {told} requests", books.requests);

    // Answers that are lost and calls that are refused: the node goes on, and nothing is lost or doubled.
    let (before, mut told) = (books.requests, 0);
    for step in [Step::Walk, Step::Count, Step::Record] {
        for fault in [Fault::LoseAnswer, Fault::Refuse] {
            let trap = format!("{step:?} 1 {fault:?}");
            let (success, lines) = world.child(&trap);
            assert!(success && lines.iter().any(|line| line.contains("STOPPED true")), "{trap}: {lines:?}");
            told += lines.iter().filter(|line| line.contains("TOLD")).count() as u64;
        }
    }
    let (books, logged) = settle(&world).await;
    assert_eq!(books.published, logged, "billed less logged");
    assert_eq!((told, books.requests - before), (6 * EACH, 6 * EACH), "every request once");
}

#[tokio::test(flavor = "multi_thread")]
async fn billed_is_what_is_logged_embedded() {
    let files = tempfile::tempdir().expect("a directory");
    let database = format!("sqlite://{}", files.path().join("weir.db").display());
    let log = files.path().join("log").display().to_string();
    billed_is_what_is_logged(World::make(database, log).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn billed_is_what_is_logged_on_servers() {
    let start = || {
        let server = PostgresServer::shared()?;
        std::io::Result::Ok((server.create_database()?, server))
    };
    let (database, _postgres) =
        tokio::task::spawn_blocking(start).await.expect("no panic").expect("PostgreSQL");
    let nats = NatsServer::start(ServerConfig::default()).await.expect("a NATS server");
    billed_is_what_is_logged(World::make(database, nats.url()).await).await;
}

/// Three nodes count one log at once, publishers on each: every event is billed once, within two seconds.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_count_at_once_bill_once() {
    let start_server = || {
        let server = PostgresServer::shared()?;
        std::io::Result::Ok((server.create_database()?, server))
    };
    let (database, _postgres) =
        tokio::task::spawn_blocking(start_server).await.expect("no panic").expect("PostgreSQL");
    let nats = NatsServer::start(ServerConfig::default()).await.expect("a NATS server");
    let world = World::make(database, nats.url()).await;
    let mut engines = Vec::new();
    for _ in 0..3 {
        engines.push(start((&world.database, &world.log), None).await.0);
    }
    for round in 0..30 {
        let engine = &engines[round % 3];
        let caller = engine.authenticate(Credentials::api_key(&world.key)).await.expect("a caller");
        let event = |_| NewEvent {
            id: None,
            topic: "t".parse().expect("a topic"),
            payload: Payload::parse(b"1").expect("a payload"),
            kind: None,
            headers: Headers::default(),
        };
        let published = engine.publish_batch(&caller, (0..20).map(event).collect()).await.expect("published");
        assert!(published.iter().all(Result::is_ok));
        tokio::time::sleep(Duration::from_millis(70)).await;
    }
    for engine in engines {
        engine.stop().await;
    }
    let (books, logged) = settle(&world).await;
    assert_eq!((books.published, logged), (600, 600));
}
