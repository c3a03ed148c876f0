//! Hard limits of events: exact over all nodes, and without the database as long as a block lasts.
//!
//! A node holds, for each tenant with a limit, a lease on events that the database granted
//! ([`weir_store::allowances`]). A publish takes its units from there. What is left is filled up before it is used up;
//! near the limit the blocks shrink to single events, and who holds what another needs gives it back.

mod block;

pub use block::{Admitted, Units};

use crate::Error;
use crate::engine::Engine;
use crate::figures::Reached;
use block::{Allowance, Look, Need, Take};
use dashmap::DashMap;
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::MissedTickBehavior;
use weir_core::{Code, NodeId, TenantId};
use weir_store::allowances::{Lease, LeaseWish};
use weir_store::{Store, StoreError};

/// How long a publish waits for other nodes to give back what they do not use.
const PATIENCE: Duration = Duration::from_millis(500);
/// Between two questions in that time.
const AGAIN: Duration = Duration::from_millis(50);
/// Between two looks at what the database should know.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Leases of periods that ended so long ago say nothing any more.
const KEEP_PERIODS: Duration = Duration::from_secs(35 * 24 * 3600);
/// Periods that are recounted at one look.
const DOUBTS: u32 = 100;

/// The allowances of this node.
pub struct Allowances {
    store: Store,
    node: NodeId,
    tenants: DashMap<TenantId, Arc<Allowance>>,
    /// Those that are to be refilled; each is in line once at most.
    asking: UnboundedSender<Arc<Allowance>>,
    reached: Reached,
}

impl Allowances {
    /// Also what [`Engine::refill_allowances`] works on.
    pub(crate) fn new(store: Store, node: NodeId) -> (Self, UnboundedReceiver<Arc<Allowance>>) {
        let (asking, asked) = unbounded_channel();
        (Self { store, node, tenants: DashMap::new(), asking, reached: Reached::default() }, asked)
    }

    fn of(&self, tenant: TenantId) -> Arc<Allowance> {
        if let Some(found) = self.tenants.get(&tenant) {
            return Arc::clone(&found);
        }
        Arc::clone(&self.tenants.entry(tenant).or_insert_with(|| Arc::new(Allowance::new(tenant))))
    }

    /// Lets up to `wanted` events of the tenant go: `go` is called with the answer, here and now if it is known here,
    /// else once the database gave it. Two calls from one thread are let go in the order of the calls.
    pub fn admit(&self, tenant: TenantId, wanted: usize, go: impl FnOnce(Admitted) + Send + 'static) {
        loop {
            let allowance = self.of(tenant);
            let (take, ask) = allowance.take(wanted);
            if ask {
                self.ask(&allowance);
            }
            match take {
                Take::Now(admitted) => return go(admitted),
                Take::Later => {
                    if allowance.wait(wanted, go) {
                        self.ask(&allowance);
                    }
                    return;
                }
                Take::Gone => drop(self.tenants.remove_if(&tenant, |_, it| Arc::ptr_eq(it, &allowance))),
            }
        }
    }

    /// How often tenants reached shares of their limits.
    #[must_use]
    pub const fn reached(&self) -> &Reached {
        &self.reached
    }

    /// Says once, over all nodes, that a share of a limit was reached.
    fn announce(&self, tenant: TenantId, lease: &Lease) {
        for percent in &lease.reached {
            self.reached.add(*percent);
            let (limit, period) = (lease.limit, lease.period.start);
            tracing::info!(%tenant, percent, limit, %period, "a tenant has used {percent} % of its events of this period");
        }
    }

    fn ask(&self, allowance: &Arc<Allowance>) {
        // Only a node that is stopping takes no more; then nobody waits for long.
        let _ = self.asking.send(Arc::clone(allowance));
    }

    fn all(&self) -> Vec<Arc<Allowance>> {
        self.tenants.iter().map(|entry| Arc::clone(entry.value())).collect()
    }

    /// Somebody gave back events of this tenant, or of any.
    pub(crate) fn returned(&self, tenant: Option<TenantId>) {
        match tenant {
            Some(tenant) => self.tenants.get(&tenant).iter().for_each(|of| of.returned()),
            None => self.tenants.iter().for_each(|of| of.returned()),
        }
    }

    /// The node's own lease had ended, and with it these.
    pub(crate) async fn lose(&self) {
        for allowance in self.all() {
            let _turn = allowance.turn.lock().await;
            allowance.lose();
        }
    }

    /// One question to the database. Call with the turn held.
    async fn question(&self, allowance: &Allowance, need: &Need) -> Result<Lease, StoreError> {
        let wish = LeaseWish {
            node: self.node,
            tenant: allowance.tenant,
            held: need.held,
            waiting: need.waiting,
            more: need.more,
        };
        self.store.allowances.lease(wish).await
    }

    /// Tells the database what was used and takes nothing more.
    async fn report(&self, allowance: &Allowance) {
        let _turn = allowance.turn.lock().await;
        let need = Need { waiting: 0, more: 0, ..allowance.need() };
        if need.held.is_none() {
            return;
        }
        let begun = Instant::now();
        match self.question(allowance, &need).await {
            Ok(lease) => {
                allowance.learn(&need, begun, &lease);
                self.announce(allowance.tenant, &lease);
            }
            // The next question says the same.
            Err(error) => tracing::debug!(%error, "the use of an allowance could not be reported: {error}"),
        }
    }

    /// Ends a lease in order.
    async fn put_away(&self, allowance: &Arc<Allowance>) {
        let _turn = allowance.turn.lock().await;
        let ended = match allowance.close() {
            Some(held) => self.store.allowances.end_lease(self.node, allowance.tenant, held).await,
            None => Ok(()),
        };
        self.tenants.remove_if(&allowance.tenant, |_, it| Arc::ptr_eq(it, allowance));
        if let Err(error) = ended {
            // It ends with the node's own lease, and the log's count says what was used.
            tracing::warn!(%error, "an allowance could not be given back: {error}");
        }
    }

    /// Gives everything back, at the end.
    pub(crate) async fn end(&self) {
        for allowance in self.all() {
            self.put_away(&allowance).await;
        }
    }

    async fn look(&self) {
        for allowance in self.all() {
            match allowance.look() {
                Look::Fine => {}
                Look::Report => self.report(&allowance).await,
                Look::PutAway => self.put_away(&allowance).await,
            }
        }
    }

    /// Ends what dead nodes held, and has the log say how much of it was used.
    async fn settle(&self) -> Result<(), Error> {
        let ended = self.store.allowances.end_dead_leases(KEEP_PERIODS).await?;
        if ended > 0 {
            tracing::info!(leases = ended, "allowances of nodes that are gone were ended");
        }
        for doubt in self.store.allowances.doubts(DOUBTS).await? {
            // Without an end: what a wrong clock stamped later than the period still belongs to it.
            let end = doubt.period.end.plus(KEEP_PERIODS);
            let count = self.store.usage.accepted(doubt.tenant, doubt.period.start, end).await?;
            self.store.allowances.recount(doubt, count).await?;
        }
        Ok(())
    }
}

impl Engine {
    /// Refills allowances as they ask for it, for ever.
    pub(crate) async fn refill_allowances(self: Arc<Self>, mut asked: UnboundedReceiver<Arc<Allowance>>) {
        while let Some(allowance) = asked.recv().await {
            let engine = Arc::clone(&self);
            self.spawn(async move { engine.refill(&allowance).await });
        }
    }

    async fn refill(&self, allowance: &Arc<Allowance>) {
        let _turn = allowance.turn.lock().await;
        loop {
            let exhausted = self.fill(allowance).await;
            // Who came in the meantime and got nothing begins another.
            if !allowance.refilled(exhausted) {
                return;
            }
        }
    }

    /// Asks until all who wait are served, with units or with a refusal; that of an exhausted allowance is returned.
    async fn fill(&self, allowance: &Arc<Allowance>) -> Option<Arc<Error>> {
        let begun = Instant::now();
        loop {
            let given_back = allowance.room.notified();
            let (need, asked_at) = (allowance.need(), Instant::now());
            let answer = match self.allowances.question(allowance, &need).await {
                // What waited may not go on an access state that is out of date by now.
                Ok(lease) => self.access.require_fresh().map(|()| lease),
                Err(StoreError::Conflict(cause)) => {
                    allowance.lose();
                    Err(no_lease(&cause))
                }
                Err(error) => Err(error.into()),
            };
            let lease = match answer {
                Ok(lease) => lease,
                Err(error) => {
                    allowance.serve(Some(&Arc::new(error)));
                    return None;
                }
            };
            self.allowances.announce(allowance.tenant, &lease);
            if !allowance.learn(&need, asked_at, &lease) {
                continue;
            }
            if allowance.serve(None) {
                return None;
            }
            if !need.is_unmet_by(&lease) {
                // Somebody came meanwhile, for whom it was not asked.
                continue;
            }
            if lease.others_unused == 0 || begun.elapsed() >= PATIENCE {
                let refusal = Arc::new(self.exhausted(&lease));
                allowance.serve(Some(&refusal));
                return Some(refusal);
            }
            let _ = tokio::time::timeout(AGAIN, given_back).await;
        }
    }

    fn exhausted(&self, lease: &Lease) -> Error {
        let limit = lease.limit.unwrap_or_default();
        let used = if lease.others_unused == 0 { lease.used.max(limit) } else { lease.used };
        let resets_at = lease.period.end;
        Error::new(
            Code::ProjectLimitExceeded,
            format!(
                "The tenant's {limit} events of this billing period are used up; the next begins at {resets_at}. \
                 Choose a larger plan or raise the spend cap to go on before."
            ),
        )
        .with(json!({ "limit": limit, "used": used, "what": "monthly_events", "resets_at": resets_at }))
        .after(lease.remaining)
    }

    /// Keeps the database informed, and what belongs to nobody free, for ever.
    pub(crate) async fn keep_allowances(self: Arc<Self>) {
        let mut tick = tokio::time::interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failing = false;
        loop {
            tick.tick().await;
            self.allowances.look().await;
            let settled = self.allowances.settle().await;
            if let Some(error) = settled.as_ref().err().filter(|_| !failing) {
                tracing::warn!(%error, "allowances cannot be settled: {error}");
            }
            failing = settled.is_err();
        }
    }

    /// What may be accepted of a tenant's events changed. When this returns no event is accepted any more on what was
    /// granted before.
    pub(crate) fn change_allowance(self: &Arc<Self>, tenant: TenantId) {
        let Some(allowance) = self.allowances.tenants.get(&tenant).map(|of| Arc::clone(&of)) else { return };
        let unused = allowance.change();
        allowance.returned();
        if unused {
            self.give_back(allowance);
        }
    }

    /// The same where it is not known whose.
    pub(crate) fn change_allowances(self: &Arc<Self>) {
        for allowance in self.allowances.all() {
            self.change_allowance(allowance.tenant);
        }
    }

    /// Another node needs events of this tenant: gives back what is not in use.
    pub(crate) fn share_allowance(self: &Arc<Self>, tenant: TenantId) {
        let Some(allowance) = self.allowances.tenants.get(&tenant).map(|of| Arc::clone(&of)) else { return };
        allowance.withdraw();
        self.give_back(allowance);
    }

    fn give_back(self: &Arc<Self>, allowance: Arc<Allowance>) {
        let engine = Arc::clone(self);
        self.spawn(async move { engine.allowances.report(&allowance).await });
    }
}

fn no_lease(cause: &str) -> Error {
    let message = "This node has lost touch with the others and accepts no events until it is back.";
    let mut error = Error::new(Code::DatabaseUnavailable, message).after(Duration::from_secs(1));
    error.internal = Some(cause.to_owned());
    error
}
