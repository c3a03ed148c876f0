//! The live sessions of this node: by tenant, so that a change of access finds the ones it touches, and
//! by the time at which their credentials end.

use crate::session::Session;
use crate::{Caller, Error};
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
        self.expect_expiry(session.id, &caller);
    }

    /// Remembers when these credentials end. Earlier times of the same session stay and find nothing to
    /// close when they come.
    pub(crate) fn expect_expiry(&self, id: ConnectionId, caller: &Caller) {
        if let Some(when) = caller.expires_at {
            self.ending().insert((when, id), caller.place.tenant);
        }
    }

    pub(crate) fn remove(&self, session: &Session) {
        let caller = session.caller();
        let tenant = caller.place.tenant;
        if let Some(mut sessions) = self.by_tenant.get_mut(&tenant) {
            sessions.remove(&session.id);
        }
        self.by_tenant.remove_if(&tenant, |_, sessions| sessions.is_empty());
        if let Some(when) = caller.expires_at {
            self.ending().remove(&(when, session.id));
        }
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
            if session.caller().expires_at.is_some_and(|when| when <= now) {
                let error =
                    Error::new(Code::ExpiredToken, "The credentials of this connection have expired.");
                session.close(&error);
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
