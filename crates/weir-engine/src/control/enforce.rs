//! Holding live sessions against what is true now.

use crate::access::Stands;
use crate::engine::Engine;
use crate::session::Session;
use crate::{Caller, Error, Who};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use weir_core::{Code, TenantId};
use weir_store::{AccessChange, AccessChangeKind, Closing};

/// Sessions judged before other tasks of the thread get their turn.
const AT_ONCE: usize = 256;

/// Before a session that could not be judged is looked at again.
const RECHECK_PAUSE: Duration = Duration::from_millis(100);

/// Changes of limits, or perhaps of limits.
const LIMITS: [AccessChangeKind; 3] =
    [AccessChangeKind::TenantPlan, AccessChangeKind::ProjectLimits, AccessChangeKind::Unknown];

/// Changes of what may be published in a period.
const TERMS: [AccessChangeKind; 2] = [AccessChangeKind::TenantPlan, AccessChangeKind::SpendCap];

/// What became of the changes that were enforced so far.
#[derive(Default)]
pub(crate) struct Enforcement {
    /// Connections ended, by the place of the change in the list.
    closed: BTreeMap<i64, u32>,
}

impl Enforcement {
    pub(crate) fn closings(&self) -> Vec<Closing> {
        self.closed.iter().map(|(&seq, &connections)| Closing { seq, connections }).collect()
    }

    fn count(&mut self, seq: i64) {
        *self.closed.entry(seq).or_default() += 1;
    }
}

/// What a credential turned out to be: found out once, however many sessions use it. Known by its address.
struct Judged {
    /// Held, so that no other caller comes to lie at its address.
    _based_on: Arc<Caller>,
    now: Result<Arc<Caller>, Error>,
}

impl Engine {
    /// Holds every live session of the tenants that changed against what is true now. When this returns the hub has
    /// been told of every end, and delivers nothing after it.
    ///
    /// # Errors
    /// `DATABASE_UNAVAILABLE`: some sessions were not judged; to be tried again.
    pub(crate) async fn enforce(
        self: &Arc<Self>,
        changes: &[AccessChange],
        done: &mut Enforcement,
    ) -> Result<(), Error> {
        let mut tenants: HashMap<TenantId, Vec<&AccessChange>> = HashMap::new();
        for change in changes {
            tenants.entry(change.tenant_id).or_default().push(change);
        }
        for (tenant, changes) in tenants {
            for change in &changes {
                self.end_named(change, done);
            }
            if changes.iter().any(|change| change.kind == AccessChangeKind::TenantDeleted) {
                self.forget_figures(tenant);
            }
            if changes.iter().any(|change| LIMITS.contains(&change.kind)) {
                // What was granted under other limits counts only where it is in use.
                self.connections.trim(tenant).await;
            }
            if changes.iter().any(|change| TERMS.contains(&change.kind)) {
                self.change_allowance(tenant);
            }
            self.enforce_on(tenant, |who| cause(&changes, who), done).await?;
        }
        // Whoever is not served any more is not sent anything.
        self.webhooks.look();
        Ok(())
    }

    /// Ends the connection that a change names.
    fn end_named(&self, change: &AccessChange, done: &mut Enforcement) {
        if change.kind != AccessChangeKind::ConnectionEnded {
            return;
        }
        let id = change.subject.parse().ok();
        let session = id.and_then(|id| self.sessions.get(change.tenant_id, id));
        let ended = Error::new(Code::ConnectionEnded, "An administrator ended this connection.");
        if session.is_some_and(|session| session.close(&ended)) {
            done.count(change.seq);
        }
    }

    /// The same for every tenant: what changed is not known. What ends is put down to the change `seq`.
    ///
    /// # Errors
    /// `DATABASE_UNAVAILABLE`: some sessions were not judged; to be tried again.
    pub(crate) async fn enforce_everything(
        self: &Arc<Self>,
        seq: i64,
        done: &mut Enforcement,
    ) -> Result<(), Error> {
        self.change_allowances();
        for tenant in self.sessions.tenants() {
            self.connections.trim(tenant).await;
            self.enforce_on(tenant, |_| seq, done).await?;
        }
        Ok(())
    }

    /// The same for tenants of which a key set that others publish lost a key. No change of the list, and counted to none.
    ///
    /// # Errors
    /// `DATABASE_UNAVAILABLE`: some sessions were not judged; to be tried again.
    pub(crate) async fn enforce_lost_keys(self: &Arc<Self>, tenants: &[TenantId]) -> Result<(), Error> {
        for tenant in tenants {
            self.enforce_on(*tenant, |_| 0, &mut Enforcement::default()).await?;
        }
        Ok(())
    }

    async fn enforce_on(
        self: &Arc<Self>,
        tenant: TenantId,
        cause: impl Fn(&Who) -> i64,
        done: &mut Enforcement,
    ) -> Result<(), Error> {
        let mut judged: HashMap<usize, Judged> = HashMap::new();
        for (n, session) in self.sessions.of(tenant).into_iter().enumerate() {
            if n % AT_ONCE == AT_ONCE - 1 {
                tokio::task::yield_now().await;
            }
            let based_on = session.caller();
            let now = match judged.get(&Arc::as_ptr(&based_on).addr()) {
                Some(judged) => judged.now.clone(),
                None => {
                    let now = self.access.again(Stands::of(&based_on)).await;
                    // Nobody has judged anything: that is no reason to end a connection.
                    if let Err(error) = &now
                        && error.code == Code::DatabaseUnavailable
                    {
                        return Err(error.clone());
                    }
                    let judgement = Judged { _based_on: Arc::clone(&based_on), now: now.clone() };
                    judged.insert(Arc::as_ptr(&based_on).addr(), judgement);
                    now
                }
            };
            if self.apply(&session, &based_on, now) {
                done.count(cause(&based_on.who));
            }
        }
        Ok(())
    }

    /// Holds one session against what is true now: one that a change did not see because it was just being made.
    pub(crate) async fn recheck(self: &Arc<Self>, session: &Arc<Session>) {
        loop {
            let based_on = session.caller();
            let now = self.access.again(Stands::of(&based_on)).await;
            match &now {
                // Nobody has judged anything: that is no reason to end a connection. Until somebody can, this node delivers
                // for no longer than the access window.
                Err(error) if error.code == Code::DatabaseUnavailable && !session.is_closed() => {
                    tokio::time::sleep(RECHECK_PAUSE).await;
                }
                _ => {
                    self.apply(session, &based_on, now);
                    return;
                }
            }
        }
    }

    /// The same for one that must wait for it.
    ///
    /// # Errors
    /// What its credentials are refused for.
    pub(crate) async fn hold_to_access(&self, session: &Session) -> Result<(), Error> {
        let based_on = session.caller();
        match self.access.again(Stands::of(&based_on)).await {
            Err(error) if Arc::ptr_eq(&session.caller(), &based_on) => {
                session.close(&error);
                Err(error)
            }
            _ => Ok(()),
        }
    }

    /// Ends a session or gives it its credentials as they stand. True when this ended it.
    fn apply(
        self: &Arc<Self>,
        session: &Arc<Session>,
        based_on: &Arc<Caller>,
        now: Result<Arc<Caller>, Error>,
    ) -> bool {
        match now {
            // A refusal of credentials that were replaced meanwhile says nothing about the new ones.
            Err(error) => Arc::ptr_eq(&session.caller(), based_on) && session.close(&error),
            Ok(caller) => {
                session.reauthorize(based_on, caller);
                false
            }
        }
    }
}

/// The change that ended a session: the one of its own key, else the last.
fn cause(changes: &[&AccessChange], who: &Who) -> i64 {
    let own = match who {
        Who::Key(key) => key.to_string(),
        Who::Client { signer, .. } => signer.to_string(),
        Who::Member { user, .. } => user.to_string(),
    };
    let of_own = changes.iter().rev().find(|change| change.subject == own);
    of_own.or(changes.last()).map_or(0, |change| change.seq)
}
