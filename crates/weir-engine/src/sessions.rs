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
    /// Only those that end: (when, which) → whose.
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
        if let Some(when) = old.ends_at {
            ending.remove(&(when, id));
        }
        if let Some(when) = new.ends_at {
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
        if let Some(when) = caller.ends_at {
            self.ending().remove(&(when, session.id));
        }
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

    /// Closes the sessions whose credentials ended before `now` and were not refreshed.
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
            if caller.ends_at.is_some_and(|when| when <= now) {
                let code = match caller.who {
                    Who::Key(_) => Code::ExpiredApiKey,
                    Who::Client { .. } => Code::ExpiredToken,
                };
                session.close(&Error::new(code, "The credentials of this connection have expired."));
            }
        }
    }

    pub(crate) fn all(&self) -> Vec<Arc<Session>> {
        self.by_tenant.iter().flat_map(|sessions| sessions.values().cloned().collect::<Vec<_>>()).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_tenant.iter().map(|sessions| sessions.len()).sum()
    }

    fn ending(&self) -> std::sync::MutexGuard<'_, BTreeMap<(Timestamp, ConnectionId), TenantId>> {
        self.ending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
