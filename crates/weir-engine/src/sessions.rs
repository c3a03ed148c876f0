//! The live sessions of this node: by tenant, so that a change of access finds the ones it touches, and
//! by the time at which their credentials end.

use crate::session::Session;
use crate::{Caller, Error, Who};
use dashmap::DashMap;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use weir_core::{Code, ConnectionId, TenantId, Timestamp};

#[derive(Default)]
pub(crate) struct Sessions {
    by_tenant: DashMap<TenantId, HashMap<ConnectionId, Arc<Session>>>,
    /// Only those that end: (when next to look, which) → whose.
    ending: Mutex<BTreeMap<(Timestamp, ConnectionId), TenantId>>,
}

impl Sessions {
    pub(crate) fn add(&self, session: &Arc<Session>) {
        let caller = session.caller();
        self.by_tenant.entry(caller.place.tenant).or_default().insert(session.id, Arc::clone(session));
        self.expect_end(session.id, &caller, &caller);
    }

    /// A session's credentials are replaced: remembers when the new ones end instead of the old.
    pub(crate) fn expect_end(&self, id: ConnectionId, old: &Caller, new: &Caller) {
        let mut ending = self.ending();
        forget(&mut ending, old, id);
        if let Some(when) = first_look(new) {
            ending.insert((when, id), new.place.tenant);
        }
    }

    pub(crate) fn remove(&self, session: &Session) {
        let caller = session.caller();
        let tenant = caller.place.tenant;
        if let Some(mut sessions) = self.by_tenant.get_mut(&tenant) {
            sessions.remove(&session.id);
        }
        self.by_tenant.remove_if(&tenant, |_, sessions| sessions.is_empty());
        forget(&mut self.ending(), &caller, session.id);
    }

    /// The tenants that have sessions.
    pub(crate) fn tenants(&self) -> Vec<TenantId> {
        self.by_tenant.iter().map(|entry| *entry.key()).collect()
    }

    pub(crate) fn get(&self, tenant: TenantId, id: ConnectionId) -> Option<Arc<Session>> {
        self.by_tenant.get(&tenant).and_then(|sessions| sessions.get(&id).cloned())
    }

    pub(crate) fn of(&self, tenant: TenantId) -> Vec<Arc<Session>> {
        self.by_tenant.get(&tenant).map_or_else(Vec::new, |sessions| sessions.values().cloned().collect())
    }

    /// How many a tenant has.
    pub(crate) fn count(&self, tenant: TenantId) -> usize {
        self.by_tenant.get(&tenant).map_or(0, |sessions| sessions.len())
    }

    /// Asks the sessions whose tokens expired before `now` for new ones, and closes those that ended without.
    pub(crate) fn close_expired(&self, now: Timestamp) {
        let due: Vec<_> = {
            let mut ending = self.ending();
            let later = ending.split_off(&(now, ConnectionId::from_uuid(Default::default())));
            std::mem::replace(&mut *ending, later).into_iter().collect()
        };
        for ((_, id), tenant) in due {
            let session = self.by_tenant.get(&tenant).and_then(|sessions| sessions.get(&id).cloned());
            let Some(session) = session else { continue };
            let caller = session.caller();
            let Some(ends_at) = caller.ends_at else { continue };
            if ends_at <= now {
                let code = match caller.who {
                    Who::Key(_) => Code::ExpiredApiKey,
                    Who::Client { .. } | Who::Member { .. } => Code::ExpiredToken,
                };
                session.close(&Error::new(code, "The credentials of this connection have expired."));
            } else if first_look(&caller).is_some_and(|when| when <= now) {
                session.ask_for_refresh(ends_at.since(now));
                // A refresh that came meanwhile has put its own times in; this one then finds nothing to do.
                self.ending().insert((ends_at, id), tenant);
            }
        }
    }

    pub(crate) fn all(&self) -> Vec<Arc<Session>> {
        self.by_tenant.iter().flat_map(|sessions| sessions.values().cloned().collect::<Vec<_>>()).collect()
    }

    /// How many there are of each protocol.
    pub(crate) fn by_protocol(&self) -> BTreeMap<&'static str, u64> {
        let mut counts = BTreeMap::new();
        for of in &self.by_tenant {
            for session in of.values() {
                *counts.entry(session.protocol()).or_default() += 1;
            }
        }
        counts
    }

    pub(crate) fn len(&self) -> usize {
        self.by_tenant.iter().map(|sessions| sessions.len()).sum()
    }

    fn ending(&self) -> std::sync::MutexGuard<'_, BTreeMap<(Timestamp, ConnectionId), TenantId>> {
        self.ending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When a session is first looked at: when its token expires, or else when it ends.
fn first_look(caller: &Caller) -> Option<Timestamp> {
    let token = matches!(caller.who, Who::Client { .. });
    let expires = caller.expires_at.filter(|_| token);
    [expires, caller.ends_at].into_iter().flatten().min()
}

fn forget(ending: &mut BTreeMap<(Timestamp, ConnectionId), TenantId>, caller: &Caller, id: ConnectionId) {
    for when in [first_look(caller), caller.ends_at].into_iter().flatten() {
        ending.remove(&(when, id));
    }
}
