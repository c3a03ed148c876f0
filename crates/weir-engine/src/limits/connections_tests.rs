//! Quotas of connections over several nodes, each with a store of its own on one database.

use super::*;
use futures::future::join_all;
use serde_json::json;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::task::JoinHandle;
use weir_core::{KeyId, PlanName, Scopes, SigningKeyId, Timestamp};
use weir_store::postgres_server::PostgresServer;
use weir_store::{
    Bootstrap, By, Heartbeat, NewKey, NewSigningKey, Notice, Options, Overrides, Reply, Shares,
    SigningMaterial,
};

const LONG: Duration = Duration::from_secs(600);
const NO_LIMIT: u32 = u32::MAX;

/// A database, and a tenant with a limit.
struct World {
    url: String,
    quota: Quota,
    _owner: (Option<tempfile::TempDir>, Option<Arc<PostgresServer>>),
}

struct TestNode {
    store: Store,
    connections: Arc<Connections>,
    questions: Arc<AtomicU32>,
    hears: JoinHandle<()>,
}

/// Counts what the database is asked.
struct Counting(Arc<dyn Shares>, Arc<AtomicU32>);

impl Shares for Counting {
    fn take(&self, wish: ShareWish) -> Reply<'_, Share> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.take(wish)
    }

    fn keep(&self, node: NodeId, quota: Quota, keep: u32) -> Reply<'_, ()> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.keep(node, quota, keep)
    }
}

impl World {
    async fn sqlite(limit: u32) -> Self {
        let folder = tempfile::TempDir::new().expect("a folder");
        let url = format!("sqlite://{}", folder.path().join("weir.db").display());
        Self::with(url, limit, (Some(folder), None)).await
    }

    async fn postgres(limit: u32) -> Self {
        let start = || {
            let server = PostgresServer::shared()?;
            std::io::Result::Ok((server.create_database()?, server))
        };
        let (url, server) = tokio::task::spawn_blocking(start).await.expect("no panic").expect("PostgreSQL");
        Self::with(url, limit, (None, Some(server))).await
    }

    async fn with(
        url: String,
        limit: u32,
        owner: (Option<tempfile::TempDir>, Option<Arc<PostgresServer>>),
    ) -> Self {
        let store = weir_store::open(&url, Options::default()).await.expect("opens");
        let wanted = Bootstrap {
            tenant_name: "acme".into(),
            project_name: "main".into(),
            plan: PlanName::Pro,
            key: NewKey {
                id: KeyId::new(),
                name: "server".into(),
                key_hash: [0; 32],
                scopes: Scopes::all(),
                rate_limit_per_sec: 0,
                expires_at: None,
            },
            signing_key: NewSigningKey {
                id: SigningKeyId::new(),
                name: String::new(),
                templates: None,
                material: SigningMaterial::Secret(b"sealed".to_vec()),
            },
        };
        let by = By::new("test", Timestamp::default());
        let made = store.directory.bootstrap(wanted, by.clone()).await.expect("bootstraps");
        let fields = json!({ "connections": limit }).as_object().expect("an object").clone();
        let overrides = Overrides::new(fields).expect("limits");
        let tenant = made.access.tenant.id;
        store.tenants.set_plan(tenant, PlanName::Pro, overrides, by).await.expect("changes");
        Self { url, quota: (tenant, Some(made.access.project.id)), _owner: owner }
    }

    /// Nodes that hear of each other. SQLite's notices stay in one process, so there they share the store.
    async fn nodes(&self, count: usize, lease: Duration) -> Vec<TestNode> {
        let options = Options { max_connections: 4, ..Options::default() };
        let shared = weir_store::open(&self.url, options.clone()).await.expect("opens");
        let mut nodes = Vec::new();
        for _ in 0..count {
            let mut store = match self.url.starts_with("sqlite") {
                true => shared.clone(),
                false => weir_store::open(&self.url, options.clone()).await.expect("opens"),
            };
            let questions = Arc::new(AtomicU32::new(0));
            store.shares = Arc::new(Counting(store.shares.clone(), Arc::clone(&questions)));
            let node = NodeId::new();
            beat(&store, node, lease).await;
            let connections = Arc::new(Connections::new(store.clone(), node));
            let hears = tokio::spawn(hear(store.clone(), Arc::clone(&connections)));
            nodes.push(TestNode { store, connections, questions, hears });
        }
        nodes
    }
}

impl TestNode {
    async fn take(&self, world: &World) -> Result<ConnectionSlot, Error> {
        self.connections.take(world.quota, NO_LIMIT, None).await
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        self.hears.abort();
    }
}

async fn beat(store: &Store, node: NodeId, lease: Duration) {
    let beat = Heartbeat { node, started_at: Timestamp::default(), confirmed: 0, lease };
    store.nodes.beat(beat).await.expect("beats");
}

async fn hear(store: Store, connections: Arc<Connections>) {
    let mut notices = store.notices();
    loop {
        match notices.next().await {
            Notice::SharesWanted(tenant, project) => connections.give_back((tenant, project)).await,
            Notice::SharesReturned(tenant, project) => connections.returned(Some((tenant, project))),
            Notice::Missed => connections.returned(None),
            _ => {}
        }
    }
}

/// Runs a case on both databases.
macro_rules! on_both {
    ($($case:ident),* $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread")] async fn $case() { super::$case(super::World::sqlite).await; })*
        }
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread")] async fn $case() { super::$case(super::World::postgres).await; })*
        }
    };
}
on_both!(
    a_thousand_attempts_on_four_nodes_get_exactly_the_limit,
    a_herd_costs_few_questions_and_a_steady_state_none,
    unused_shares_are_given_back_to_who_needs_them,
    a_node_that_died_holds_its_share_no_longer_than_its_lease,
);

/// Never more than the limit, at any moment; and all of it, when there is enough demand.
async fn a_thousand_attempts_on_four_nodes_get_exactly_the_limit(make: impl AsyncFn(u32) -> World) {
    const LIMIT: u32 = 41;
    let world = Arc::new(make(LIMIT).await);
    let nodes = Arc::new(world.nodes(4, LONG).await);
    let live = Arc::new(AtomicU32::new(0));
    let attempts = (0..1_000_u32).map(|n| {
        let (world, nodes, live) = (Arc::clone(&world), Arc::clone(&nodes), Arc::clone(&live));
        tokio::spawn(async move {
            let slot = match nodes[n as usize % 4].take(&world).await {
                Ok(slot) => slot,
                Err(refused) => {
                    assert_eq!(refused.code, Code::ProjectLimitExceeded, "{refused}");
                    assert_eq!(refused.details["limit"], json!(LIMIT));
                    return None;
                }
            };
            let now = live.fetch_add(1, Ordering::SeqCst) + 1;
            assert!(now <= LIMIT, "{now} live connections");
            // Some come and go, so that shares wander between the nodes.
            if n % 3 == 0 {
                tokio::time::sleep(Duration::from_millis(u64::from(n % 7))).await;
                live.fetch_sub(1, Ordering::SeqCst);
                return None;
            }
            Some(slot)
        })
    });
    let mut slots: Vec<ConnectionSlot> =
        join_all(attempts).await.into_iter().filter_map(|slot| slot.expect("no panic")).collect();
    // Whatever the last ones to go left somewhere is found by who asks for it anywhere.
    while let Ok(slot) = nodes[0].take(&world).await {
        slots.push(slot);
    }
    assert_eq!(slots.len() as u32, LIMIT);
    drop(slots.split_off(LIMIT as usize - 1));
    assert!(nodes[1].take(&world).await.is_ok(), "one went, so there is room for one");
}

async fn a_herd_costs_few_questions_and_a_steady_state_none(make: impl AsyncFn(u32) -> World) {
    let world = make(5_000).await;
    let nodes = world.nodes(2, LONG).await;
    let herd = join_all((0..2_000).map(|_| nodes[0].take(&world))).await;
    let slots: Vec<_> = herd.into_iter().map(|slot| slot.expect("there is room")).collect();
    let asked = nodes[0].questions.load(Ordering::Relaxed);
    assert!(asked <= 12, "{asked} questions for 2,000 connections");
    // Without its database: what is in the share needs none.
    nodes[0].store.close().await;
    drop(slots);
    let again = join_all((0..2_000).map(|_| nodes[0].take(&world))).await;
    assert!(again.iter().all(Result::is_ok));
    assert_eq!(nodes[0].questions.load(Ordering::Relaxed), asked);
}

async fn unused_shares_are_given_back_to_who_needs_them(make: impl AsyncFn(u32) -> World) {
    let world = make(10).await;
    let nodes = world.nodes(2, LONG).await;
    let first = join_all((0..10).map(|_| nodes[0].take(&world))).await;
    let mut held: Vec<_> = first.into_iter().map(|slot| slot.expect("there is room")).collect();
    let refused = nodes[1].take(&world).await.expect_err("all are in use");
    assert_eq!((&refused.details["used"], &refused.details["what"]), (&json!(10), &json!("connections")));
    drop(held.split_off(4));
    let second = join_all((0..6).map(|_| nodes[1].take(&world))).await;
    for slot in &second {
        assert!(slot.is_ok(), "the other node does not use them: {slot:?}");
    }
    assert!(nodes[1].take(&world).await.is_err());
    // What nobody needs goes back by itself, down to nothing.
    drop((held, second));
    for node in &nodes {
        node.connections.sweep().await;
        node.connections.sweep().await;
        assert!(node.connections.pools.is_empty());
    }
}

async fn a_node_that_died_holds_its_share_no_longer_than_its_lease(make: impl AsyncFn(u32) -> World) {
    let world = make(10).await;
    let lease = Duration::from_millis(300);
    let nodes = world.nodes(2, lease).await;
    let (gone, other) = (&nodes[0], &nodes[1]);
    let held = join_all((0..10).map(|_| gone.take(&world))).await;
    assert!(held.iter().all(Result::is_ok));
    // It is not heard of again: neither signs of life nor an answer to who needs something.
    gone.hears.abort();
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut taken = Vec::new();
    while taken.len() < 6 {
        beat(&other.store, other.connections.node, LONG).await;
        taken.extend(other.take(&world).await);
        assert!(Instant::now() < deadline, "its share is not free");
    }
    // When it is back it takes again what is left, and learns what is too much.
    beat(&gone.store, gone.connections.node, LONG).await;
    gone.connections.lose_shares().await;
    let left = 10 - other.connections.pools.get(&(world.quota.0, None)).expect("a share").need().held;
    let excess = gone.connections.reclaim().await.expect("asks");
    assert_eq!(excess.iter().map(|excess| excess.connections).collect::<Vec<_>>(), [10 - left]);
    assert!(gone.take(&world).await.is_err(), "it admits nobody while it has more than its share");
}
