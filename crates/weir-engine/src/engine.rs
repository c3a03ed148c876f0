//! The engine: what the gateway talks to. Holds the parts together and starts the background work.

use crate::access::{Access, KeySetTimes};
use crate::alerts::{self, Alerts};
use crate::billing::meter::Metering;
use crate::billing::stripe::{self, StripeBilling};
use crate::billing::{Allowances, MeterSettings, MeterState};
use crate::figures::{Figures, LogFigures, ObservedLog, Tenants};
use crate::limits::{ConnectionSlot, Connections, Gcra, Rate};
use crate::outage::Outage;
use crate::people::{self, People};
use crate::projects::Projects;
use crate::replay::Permits;
use crate::retention::{Retention, RetentionSettings};
use crate::session::{Farewell, Session};
use crate::system::System;
use crate::trace::Traces;
use crate::webhooks::{self, Webhooks};
use crate::{Caller, Error, pump, sessions::Sessions};
use serde::Serialize;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weir_core::{Clock, Code, ConnectionId, CursorKey, NodeId, ProjectId, RootSecret, TenantId, Timestamp};
use weir_hub::{Hub, Meter};
use weir_log::{Durability, EventLog, Health};
use weir_outbound::Outbound;
use weir_store::Store;
use weir_store::seal::Sealer;

/// How long a part has to say how it is: who probes a node gives up before long.
const HEALTH_PATIENCE: Duration = Duration::from_secs(2);
/// Between the announcement that a connection ends and its end.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Questions between nodes are answered in seconds.
const KEEP_INQUIRIES: Duration = Duration::from_secs(60);
/// Changes of access stay for so long in the list, for nodes that come back; older ones go when all have enforced them.
const KEEP_CHANGES: Duration = Duration::from_secs(3600);

/// What the engine is built from.
pub struct Parts {
    /// Metadata.
    pub store: Store,
    /// Events.
    pub log: Arc<dyn EventLog>,
    /// Connections.
    pub hub: Hub,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Requests to servers that tenants name.
    pub outbound: Outbound,
    /// The payment provider, where there is one.
    pub stripe: Option<stripe::Settings>,
    /// The installation's root secret.
    pub root: RootSecret,
    /// Sizes and times.
    pub settings: Settings,
}

/// Sizes and times that the engine keeps to.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Events in one page of history at most.
    pub replay_page_events: usize,
    /// Bytes in one page of history at most.
    pub replay_page_bytes: usize,
    /// Replays that read the log at once on this node.
    pub concurrent_replays: usize,
    /// How long a node may go on without confirming its access state.
    pub access_window: Duration,
    /// How long the answer to a change of access waits for the nodes to enforce it.
    pub enforce_wait: Duration,
    /// New connections per second on this node; 0 is unlimited.
    pub new_connections_per_second: u32,
    /// Bytes of compiled topic schemas, by estimate, that a node keeps at most.
    pub schema_cache_bytes: usize,
    /// Bytes of a client token at most.
    pub jwt_bytes: usize,
    /// Tolerance for other machines' clocks in a client token's times.
    pub jwt_leeway: Duration,
    /// How often the key sets of identity providers are fetched.
    pub key_sets: KeySetTimes,
    /// How long a ticket can be redeemed.
    pub ticket_lifetime: Duration,
    /// The pump waits while a shard has more than this queued, in bytes.
    pub hub_queue_bytes: usize,
    /// How usage is kept.
    pub meter: MeterSettings,
    /// How retention works.
    pub retention: RetentionSettings,
    /// Signing in.
    pub people: people::Settings,
    /// Tenants that have metrics of their own, at most.
    pub shown_tenants: usize,
    /// What records traces, where they are recorded.
    pub traces: Traces,
    /// When something is wrong, and who is told.
    pub alerts: alerts::Settings,
    /// Sending events to endpoints.
    pub webhooks: webhooks::Settings,
}

/// What `weir.toml` says when it says nothing.
impl Default for Settings {
    fn default() -> Self {
        Self {
            replay_page_events: 1_000,
            replay_page_bytes: 4 << 20,
            concurrent_replays: 64,
            access_window: Duration::from_secs(5),
            enforce_wait: Duration::from_secs(2),
            new_connections_per_second: 500,
            schema_cache_bytes: 128 << 20,
            jwt_bytes: 4096,
            jwt_leeway: Duration::from_secs(30),
            key_sets: KeySetTimes {
                interval: Duration::from_secs(30),
                refresh: Duration::from_secs(300),
                keep: Duration::from_secs(24 * 3600),
            },
            ticket_lifetime: Duration::from_secs(30),
            hub_queue_bytes: 64 << 20,
            meter: MeterSettings::default(),
            retention: RetentionSettings::default(),
            people: people::Settings::default(),
            shown_tenants: 20,
            traces: Traces::default(),
            alerts: alerts::Settings::default(),
            webhooks: webhooks::Settings::default(),
        }
    }
}

/// The engine. Shared by every request and connection.
pub struct Engine {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) hub: Hub,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) cursors: CursorKey,
    pub(crate) settings: Settings,
    pub(crate) access: Access,
    pub(crate) people: People,
    pub(crate) projects: Projects,
    pub(crate) replays: Permits,
    pub(crate) sessions: Sessions,
    pub(crate) connections: Connections,
    pub(crate) allowances: Arc<Allowances>,
    admission: Gcra,
    pub(crate) store: Store,
    pub(crate) metering: Arc<Metering>,
    pub(crate) figures: Figures,
    pub(crate) log_figures: Arc<LogFigures>,
    pub(crate) tenants: Tenants,
    pub(crate) stripe: Option<Arc<StripeBilling>>,
    pub(crate) alerts: Alerts,
    /// Seals the answers that are kept under idempotency keys.
    pub(crate) answers: Sealer,
    tasks: TaskTracker,
    runtime: Handle,
    stop: CancellationToken,
    /// This run of this process.
    pub(crate) node: NodeId,
    pub(crate) started_at: Timestamp,
    /// Wakes the look for changes of access before its time.
    pub(crate) look_now: Notify,
    pub(crate) system: Arc<System>,
    pub(crate) webhooks: Arc<Webhooks>,
}

/// Whether the parts work.
#[derive(Clone, Debug, Serialize)]
pub struct EngineHealth {
    /// `None` when the database answers.
    pub database: Option<String>,
    /// `None` when the log works.
    pub event_log: Option<String>,
    /// What an acknowledgement is worth, in words.
    pub durability: String,
    /// `None` when this node's access state is confirmed.
    pub access: Option<String>,
}

impl EngineHealth {
    /// True when this node should be sent traffic.
    #[must_use]
    pub const fn ready(&self) -> bool {
        self.database.is_none() && self.event_log.is_none() && self.access.is_none()
    }
}

impl Engine {
    /// Builds the engine and starts its background work on the current runtime.
    ///
    /// # Errors
    /// When the log's feed was taken before, or the access state cannot be read.
    pub async fn start(parts: Parts) -> Result<Arc<Self>, Error> {
        let Parts { store, log, hub, clock, outbound, stripe, root, settings } = parts;
        let feed = log.feed().ok_or_else(|| Error::internal("the log's feed is already taken"))?;
        let webhooks = Webhooks::new(outbound.clone(), &root, settings.webhooks.clone())?;
        let access = Access::load(store.clone(), &root, Arc::clone(&clock), outbound, &settings).await?;
        let (cursors, node) = (CursorKey::new(&root), NodeId::new());
        let answers = Sealer::of_answers(&root)?;
        let meter = Metering::new(store.clone(), Arc::clone(&log), node, settings.meter.clone());
        let metering = Arc::new(meter.await?);
        let meters = Arc::clone(&metering);
        // What the server itself says is not what was published.
        let unobserved = Arc::clone(&log);
        let (log, log_figures) = ObservedLog::beside(log, Arc::clone(&metering));
        let projects = Projects::new(
            Arc::clone(&log),
            hub.clone(),
            cursors.clone(),
            settings.hub_queue_bytes,
            meters,
            Arc::clone(&clock),
        );
        let (allowances, asked) = Allowances::new(store.clone(), node);
        let engine = Arc::new(Self {
            projects,
            metering,
            figures: Figures::default(),
            log_figures,
            tenants: Tenants::new(settings.shown_tenants),
            alerts: Alerts::new(settings.alerts.clone())?,
            people: People::new(settings.people.clone(), &root, settings.jwt_leeway).await?,
            cursors,
            replays: Permits::new(settings.concurrent_replays),
            sessions: Sessions::default(),
            admission: Gcra::new(Rate { per_second: settings.new_connections_per_second }),
            tasks: TaskTracker::new(),
            runtime: Handle::current(),
            stop: CancellationToken::new(),
            connections: Connections::new(store.clone(), node),
            allowances: Arc::new(allowances),
            node,
            started_at: clock.now(),
            look_now: Notify::new(),
            system: System::new(store.clone(), unobserved, Arc::clone(&clock), node),
            webhooks,
            stripe: stripe.map(|stripe| StripeBilling::new(store.clone(), node, stripe)),
            access,
            log,
            hub,
            clock,
            settings,
            store,
            answers,
        });
        engine.spawn_vital(pump::run(Arc::clone(&engine), feed));
        // Before the first request: from here on changes of access wait for this node.
        engine.beat().await?;
        engine.spawn_vital(Arc::clone(&engine).watch_access());
        engine.spawn_vital(Arc::clone(&engine).keep_lease());
        engine.spawn_vital(Arc::clone(&engine).hear_notices());
        engine.spawn_vital(Arc::clone(&engine.metering).keep_sending());
        engine.spawn_vital(Arc::clone(&engine.metering).keep_counting());
        engine.spawn_vital(Arc::clone(&engine.metering).keep_recounting());
        engine.spawn_vital(Arc::clone(&engine).refill_allowances(asked));
        engine.spawn_vital(Arc::clone(&engine).keep_allowances());
        engine.spawn_vital(Arc::clone(&engine.system).keep_telling());
        engine.spawn_vital(Arc::clone(&engine).keep_delivering());
        engine.spawn_vital(engine.retention().run());
        engine.spawn(Arc::clone(&engine).keep_house());
        engine.spawn(Arc::clone(&engine).keep_watch());
        engine.spawn(Arc::clone(&engine).keep_telling());
        engine.spawn(Arc::clone(&engine).keep_informing());
        if let Some(stripe) = &engine.stripe {
            engine.spawn_vital(Arc::clone(stripe).run());
        }
        Ok(engine)
    }

    fn retention(&self) -> Retention {
        let (store, log) = (self.store.clone(), Arc::clone(&self.log));
        let settings = self.settings.retention.clone();
        Retention::new(store, log, self.node, Arc::clone(&self.clock), settings)
    }

    /// Runs background work until the engine stops.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        // By handle: the hub's threads call this too, and they are not the runtime's.
        let run = self.until_stopped(work);
        self.tasks.spawn_on(run, &self.runtime);
    }

    /// Runs work without which the node only looks alive: if it panics the process ends, so that a
    /// supervisor starts it again.
    pub fn spawn_vital(&self, work: impl Future<Output = ()> + Send + 'static) {
        let work = self.runtime.spawn(self.until_stopped(work));
        self.spawn(async move {
            if work.await.is_err_and(|error| error.is_panic()) {
                tracing::error!("a vital task panicked; the process ends");
                std::process::abort();
            }
        });
    }

    fn until_stopped(
        &self,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> impl Future<Output = ()> + Send + 'static {
        let stop = self.stop.clone();
        async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = work => {}
            }
        }
    }

    /// Lets one more connection begin.
    ///
    /// # Errors
    /// `OVERLOADED` above the node's rate of new connections, with a spread-out time to try again.
    pub fn admit(&self) -> Result<(), Error> {
        match self.admission.take(1) {
            Some(decision) if !decision.allowed => Err(Error::new(
                Code::Overloaded,
                format!("This node takes {} new connections a second. Try again shortly.", decision.limit),
            )
            .with(json!({ "limit": decision.limit, "what": "new_connections_per_second" }))
            // Spread over a few seconds, so that the refused do not come back as one herd.
            .after(Duration::from_millis(rand::random_range(1_000..4_000)))),
            _ => Ok(()),
        }
    }

    /// Counts one more connection of the caller's tenant and project, on all nodes together, until the slot is dropped.
    /// Waits a moment where other nodes have to give back what they do not use.
    ///
    /// # Errors
    /// `PROJECT_LIMIT_EXCEEDED` when the tenant or the project has all the connections its limits allow;
    /// `DATABASE_UNAVAILABLE` when that cannot be found out.
    pub async fn reserve(&self, caller: &Caller) -> Result<ConnectionSlot, Error> {
        // Without a lease others may be taking over this node's share. It ends after the access window.
        self.access.require_fresh()?;
        let quota = (caller.place.tenant, Some(caller.place.project));
        let of_project = caller.project_limits.connections;
        self.connections.take(quota, caller.limits.connections, of_project).await
    }

    /// Makes a session for an authenticated connection that was counted.
    pub fn open_session(
        self: &Arc<Self>,
        caller: &Arc<Caller>,
        slot: ConnectionSlot,
        id: ConnectionId,
        farewell: Farewell,
    ) -> Arc<Session> {
        let session = Arc::new(Session::new(Arc::clone(self), Arc::clone(caller), slot, id, farewell));
        self.sessions.add(&session);
        self.system.connected(caller, id);
        // A change that was enforced between authentication and this moment did not see the session.
        if self.access.changed_lately(caller.place.tenant) {
            let (engine, again) = (Arc::clone(self), Arc::clone(&session));
            self.spawn(async move { engine.recheck(&again).await });
        }
        session
    }

    /// What may be accepted of tenants' events.
    #[must_use]
    pub fn allowances(&self) -> &Allowances {
        &self.allowances
    }

    /// The server's own events.
    #[must_use]
    pub const fn system(&self) -> &Arc<System> {
        &self.system
    }

    /// Traces, for whoever takes requests in and sends events out.
    #[must_use]
    pub const fn traces(&self) -> &Traces {
        &self.settings.traces
    }

    /// The hub, for handing sockets over.
    #[must_use]
    pub const fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Events and bytes delivered so far, by project.
    #[must_use]
    pub fn meters(&self) -> Vec<(TenantId, ProjectId, Arc<Meter>)> {
        self.metering.meters()
    }

    /// How metering does.
    #[must_use]
    pub fn meter_state(&self) -> MeterState {
        self.metering.state()
    }

    /// Counts one request to an HTTP interface; of what belongs to no project there is none to name.
    pub fn count_request(&self, tenant: TenantId, project: Option<ProjectId>) {
        self.metering.request(tenant, project);
    }

    /// Counts an answered request, and whether the failure was ours.
    pub fn count_answer(&self, failed: bool) {
        self.alerts.signals.request(failed);
    }

    /// Live sessions and followed projects now.
    #[must_use]
    pub fn load(&self) -> (usize, usize) {
        (self.sessions.len(), self.projects.len())
    }

    /// Asks every part how it is.
    pub async fn health(&self) -> EngineHealth {
        let (database, log) = tokio::join!(
            timeout(HEALTH_PATIENCE, self.store.ping()),
            timeout(HEALTH_PATIENCE, self.log.health())
        );
        let late = || format!("no answer within {HEALTH_PATIENCE:?}");
        let database = database.map_or_else(|_| Some(late()), |it| it.err().map(|error| error.to_string()));
        let log = log.unwrap_or_else(|_| Health { problem: Some(late()), durability: Durability::Unknown });
        let access = self.access.require_fresh().err().map(|error| error.message);
        EngineHealth { database, event_log: log.problem, durability: words(&log.durability), access }
    }

    async fn keep_house(self: Arc<Self>) {
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        let mut outage = Outage::default();
        for round in 0_u64.. {
            tick.tick().await;
            if let Some(reachable) = outage.see(self.log.is_reachable()) {
                self.sessions.all().iter().for_each(|session| session.announce_reachable(reachable));
            }
            self.sessions.close_expired(self.clock.now());
            if round.is_multiple_of(60) {
                if let Err(error) = self.store.nodes.prune(KEEP_CHANGES).await {
                    tracing::warn!(%error, "old access changes could not be pruned: {error}");
                }
                if let Err(error) = self.store.inquiries.forget_inquiries(KEEP_INQUIRIES).await {
                    tracing::warn!(%error, "old questions of nodes could not be forgotten: {error}");
                }
            }
            self.access.remotes.refresh();
            if round.is_multiple_of(10) {
                self.projects.sweep();
                self.connections.sweep().await;
                self.replays.sweep();
                self.people.sweep();
                self.access.sweep().await;
            }
            if round.is_multiple_of(600) {
                self.forget_keys().await;
            }
        }
    }

    /// Closes every live session, spread over the time, each told when to come back.
    pub async fn drain(&self, over: Duration) {
        let sessions = self.sessions.all();
        if sessions.is_empty() {
            return;
        }
        let pause = over / u32::try_from(sessions.len()).unwrap_or(u32::MAX);
        let (begun, closings) = (tokio::time::Instant::now(), TaskTracker::new());
        for (i, session) in (0_u32..).zip(sessions) {
            tokio::time::sleep_until(begun + pause * i).await;
            let after = Duration::from_millis(rand::random_range(100..2_000));
            let error = Error::new(Code::Draining, "This node is shutting down; connect again.").after(after);
            session.announce_end(&error);
            // What it published before is acknowledged before the close, in any but extraordinary times.
            self.spawn(closings.track_future(async move {
                tokio::time::sleep(LAST_WORDS).await;
                session.close_saying(&error, None);
            }));
        }
        closings.close();
        closings.wait().await;
    }

    /// Ends background work and closes the log; the hub must have drained before.
    pub async fn stop(&self) {
        // Before it leaves: hours do not close without what this node still has to tell.
        self.metering.finish().await;
        self.system.finish().await;
        self.stop_delivering().await;
        self.leave().await;
        self.log.close().await;
        // Whatever was on its way is in the log now, or will never be.
        self.allowances.end().await;
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

fn words(durability: &Durability) -> String {
    match durability {
        Durability::Synced { replicas: 1 } => "synced to stable storage before the ack, one copy".to_owned(),
        Durability::Synced { replicas } => {
            format!("synced to stable storage before the ack, {replicas} copies")
        }
        Durability::Cached { replicas, window } => {
            format!("acked from memory, copies: {replicas}; a power cut of all of them loses {window}")
        }
        Durability::Unknown => "unknown".to_owned(),
    }
}
