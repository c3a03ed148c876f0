//! Events sent to endpoints of tenants.
//!
//! ```text
//!   log ── read from the cursor ──▶ attempt ── taken ──────────────▶ cursor moves on
//!            (one node at a time)      └─ not ──▶ webhook_messages ──▶ attempt, later … ──▶ dead letter
//! ```
//! `worker.rs` has the order of things for one endpoint, `attempt.rs` one request, `message.rs` what is sent. Which node
//! works for which endpoint is a lease in the database; what a worker knows is written in one transaction with the move of
//! the cursor, so another node goes on from there. Nothing here is on the way of a publish or of a live delivery.

mod attempt;
mod message;
mod worker;

use crate::Error;
use crate::engine::Engine;
use dashmap::DashMap;
use futures::future::join_all;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use weir_core::{Clock, ProjectId, RootSecret, Secret, TenantId, WebhookId};
use weir_outbound::Outbound;
use weir_store::seal::Sealer;
use weir_store::webhooks::{LeasedWebhook, Webhook};

pub(crate) use attempt::Attempted;
pub(crate) use message::ping;

/// Between two looks at what this node is to deliver to.
const EVERY: Duration = Duration::from_secs(1);
/// How long an endpoint stays a node's that says nothing. Nodes that are known to be gone lose theirs at once.
const LEASE: Duration = Duration::from_secs(45);
/// How long a node goes by a lease: less, by the time in which it is renewed.
const TRUST: Duration = Duration::from_secs(25);
/// How long workers that stop may wait for answers.
const LAST_ANSWERS: Duration = Duration::from_secs(2);
/// Reads of the log for endpoints on one node at once.
const READS: usize = 8;

/// How webhooks are sent.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long an endpoint may take to answer.
    pub timeout: Duration,
    /// How long after each failed attempt the next comes; after the last the message is dead.
    pub retries: Vec<Duration>,
    /// How long an endpoint may fail before nothing is sent to it any more.
    pub disable_after: Duration,
    /// Attempts at once on one node, to all endpoints together.
    pub concurrency: usize,
}

impl Default for Settings {
    fn default() -> Self {
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        Self {
            timeout: Duration::from_secs(15),
            retries: vec![
                Duration::from_secs(5),
                Duration::from_secs(300),
                Duration::from_secs(1800),
                hours(2),
                hours(5),
                hours(10),
                hours(10),
            ],
            disable_after: hours(5 * 24),
            concurrency: 256,
        }
    }
}

/// What happened since the start, for metrics and alerts.
#[derive(Debug, Default)]
pub struct WebhookCounts {
    /// Messages that endpoints took.
    pub delivered: AtomicU64,
    /// Attempts that failed.
    pub failed: AtomicU64,
    /// Messages that became dead letters.
    pub dead: AtomicU64,
    /// Endpoints that were disabled.
    pub disabled: AtomicU64,
}

impl WebhookCounts {
    fn add(counter: &AtomicU64, more: usize) {
        counter.fetch_add(more as u64, Ordering::Relaxed);
    }
}

/// Sends events to endpoints.
pub struct Webhooks {
    outbound: Outbound,
    sealer: Sealer,
    pub(crate) settings: Settings,
    permits: Semaphore,
    reads: Semaphore,
    /// Wakes the worker of each endpoint whose project has something new.
    wakes: DashMap<ProjectId, Arc<Notify>>,
    look: Notify,
    stop: CancellationToken,
    stopped: CancellationToken,
    /// What happened so far.
    pub counts: WebhookCounts,
}

/// A worker of this node.
struct Running {
    tenant: TenantId,
    version: i64,
    stop: CancellationToken,
    trusted_until: watch::Sender<Instant>,
    work: JoinHandle<()>,
}

impl Webhooks {
    pub(crate) fn new(outbound: Outbound, root: &RootSecret, settings: Settings) -> Result<Arc<Self>, Error> {
        Ok(Arc::new(Self {
            outbound,
            sealer: Sealer::of_webhooks(root)?,
            permits: Semaphore::new(settings.concurrency.max(1)),
            reads: Semaphore::new(READS),
            settings,
            wakes: DashMap::new(),
            look: Notify::new(),
            stop: CancellationToken::new(),
            stopped: CancellationToken::new(),
            counts: WebhookCounts::default(),
        }))
    }

    /// The project has something new.
    pub(crate) fn wake(&self, project: ProjectId) {
        if let Some(wake) = self.wakes.get(&project) {
            wake.notify_waiters();
        }
    }

    /// An endpoint was changed: looks before the next time comes.
    pub(crate) fn look(&self) {
        self.look.notify_one();
    }

    /// Checks what can be checked of a URL without a request.
    pub(crate) fn check_url(&self, url: &str) -> Result<(), weir_outbound::Error> {
        self.outbound.check(url)
    }

    /// A new secret, and the same sealed.
    pub(crate) fn new_secret(&self, id: WebhookId) -> Result<(Secret, Vec<u8>), Error> {
        let secret = weir_outbound::webhook::secret(rand::random());
        // Exposed to be sealed.
        let sealed = self.sealer.seal(id, secret.expose().as_bytes())?;
        Ok((secret, sealed))
    }

    /// The secrets that sign now.
    pub(crate) fn secrets(&self, of: &Webhook, clock: &dyn Clock) -> Result<Vec<Secret>, Error> {
        let open = |sealed: &[u8]| -> Result<Secret, Error> {
            let text = String::from_utf8(self.sealer.open(of.id, sealed)?).map_err(Error::internal)?;
            Ok(Secret::new(text))
        };
        let mut secrets = vec![open(&of.secret)?];
        if let Some((old, until)) = &of.old_secret
            && *until > clock.now()
        {
            secrets.push(open(old)?);
        }
        Ok(secrets)
    }
}

impl Engine {
    /// Webhooks of this node.
    #[must_use]
    pub const fn webhooks(&self) -> &Arc<Webhooks> {
        &self.webhooks
    }

    /// Delivers to the endpoints that are this node's, until [`Engine::stop_delivering`].
    pub(crate) async fn keep_delivering(self: Arc<Self>) {
        let mut running: HashMap<WebhookId, Running> = HashMap::new();
        let (mut failing, mut tick) = (false, interval(EVERY));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = self.webhooks.look.notified() => {}
                () = self.webhooks.stop.cancelled() => break,
            }
            let asked = Instant::now();
            match self.store.deliveries.lease(self.node, LEASE).await {
                Ok(leased) => {
                    if failing {
                        tracing::info!("webhooks can be delivered again");
                        failing = false;
                    }
                    self.take_over(&mut running, leased, asked).await;
                }
                // Workers go on for as long as they may trust their leases.
                Err(error) if !failing => {
                    tracing::warn!(%error, "which webhooks are this node's cannot be found out: {error}");
                    failing = true;
                }
                Err(_) => {}
            }
        }
        let ids: Vec<WebhookId> = running.keys().copied().collect();
        end(running.into_values().collect()).await;
        if let Err(error) = self.store.deliveries.release(self.node, ids).await {
            tracing::warn!(%error, "webhooks could not be given up, others wait for a while: {error}");
        }
        self.webhooks.stopped.cancel();
    }

    /// Ends deliveries in order: answers that are on their way are waited for, a little.
    pub(crate) async fn stop_delivering(&self) {
        self.webhooks.stop.cancel();
        if timeout(LAST_ANSWERS * 3, self.webhooks.stopped.cancelled()).await.is_err() {
            tracing::warn!(
                "webhooks were not given up in time; other nodes take them when this one is known to be gone"
            );
        }
    }

    /// Makes what runs what is leased.
    async fn take_over(
        self: &Arc<Self>,
        running: &mut HashMap<WebhookId, Running>,
        leased: Vec<LeasedWebhook>,
        asked: Instant,
    ) {
        let stays = |id: &WebhookId, worker: &Running| {
            let one = leased.iter().find(|one| one.webhook.id == *id);
            let same = one.is_some_and(|one| !one.surplus && one.webhook.version == worker.version);
            same && !worker.work.is_finished()
        };
        let gone: Vec<WebhookId> =
            running.iter().filter(|(id, worker)| !stays(id, worker)).map(|(id, _)| *id).collect();
        end(gone.iter().filter_map(|id| running.remove(id)).collect()).await;
        let surplus: Vec<WebhookId> =
            leased.iter().filter(|one| one.surplus).map(|one| one.webhook.id).collect();
        if !surplus.is_empty()
            && let Err(error) = self.store.deliveries.release(self.node, surplus).await
        {
            tracing::warn!(%error, "webhooks could not be given to other nodes: {error}");
        }
        for one in leased.into_iter().filter(|one| !one.surplus) {
            let id = one.webhook.id;
            match running.get(&id) {
                Some(worker) => {
                    worker.trusted_until.send_replace(asked + TRUST);
                }
                None => {
                    running.insert(id, self.start_worker(one, asked + TRUST));
                }
            }
        }
        let used: Vec<ProjectId> = self.webhooks.wakes.iter().map(|entry| *entry.key()).collect();
        for project in used {
            self.webhooks.wakes.remove_if(&project, |_, wake| Arc::strong_count(wake) == 1);
        }
    }

    fn start_worker(self: &Arc<Self>, leased: LeasedWebhook, until: Instant) -> Running {
        let (trusted_until, trust) = watch::channel(until);
        let stop = CancellationToken::new();
        let wakes = &self.webhooks.wakes;
        let wake = Arc::clone(&wakes.entry(leased.webhook.project_id).or_default());
        let (tenant, version) = (leased.webhook.tenant_id, leased.webhook.version);
        let worker = worker::Worker::new(Arc::clone(self), leased, trust, wake, stop.clone());
        Running { tenant, version, stop, trusted_until, work: tokio::spawn(worker.run()) }
    }
}

/// Stops workers and waits until they have.
async fn end(workers: Vec<Running>) {
    for worker in &workers {
        worker.stop.cancel();
    }
    let ends = workers.into_iter().map(|worker| async move {
        if worker.work.await.is_err_and(|error| error.is_panic()) {
            tracing::error!(tenant = %worker.tenant, "a delivery of webhooks panicked; it begins anew");
        }
    });
    join_all(ends).await;
}
