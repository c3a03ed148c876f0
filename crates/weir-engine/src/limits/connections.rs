//! How many live connections a tenant has on this node.

use crate::Error;
use dashmap::DashMap;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use weir_core::{Code, TenantId};

/// Counts of live connections by tenant.
#[derive(Debug, Default)]
pub struct Connections(DashMap<TenantId, Arc<AtomicU32>>);

/// One counted connection: given back when dropped.
#[derive(Debug)]
pub struct ConnectionSlot(Arc<AtomicU32>);

impl Connections {
    /// Counts one more connection of the tenant, unless that is over `limit`.
    ///
    /// # Errors
    /// `PROJECT_LIMIT_EXCEEDED`, with the limit and the number in use.
    pub fn take(&self, tenant: TenantId, limit: u32) -> Result<ConnectionSlot, Error> {
        let count = Arc::clone(&self.0.entry(tenant).or_default());
        let taken = count.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| (n < limit).then_some(n + 1));
        match taken {
            Ok(_) => Ok(ConnectionSlot(count)),
            Err(used) => Err(Error::new(
                Code::ProjectLimitExceeded,
                format!("The tenant has {used} live connections; its plan allows {limit}."),
            )
            .with(json!({ "limit": limit, "used": used, "what": "connections" }))),
        }
    }

    /// Live connections of a tenant.
    #[must_use]
    pub fn of(&self, tenant: TenantId) -> u32 {
        self.0.get(&tenant).map_or(0, |count| count.load(Ordering::Acquire))
    }

    /// Forgets tenants without connections.
    pub fn sweep(&self) {
        self.0.retain(|_, count| Arc::strong_count(count) > 1 || count.load(Ordering::Acquire) > 0);
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_over_the_limit_and_given_back() {
        let connections = Connections::default();
        let tenant = TenantId::new();
        let first = connections.take(tenant, 2).expect("room");
        let _second = connections.take(tenant, 2).expect("room");
        let refused = connections.take(tenant, 2).expect_err("full");
        assert_eq!(refused.code, Code::ProjectLimitExceeded);
        drop(first);
        assert_eq!(connections.of(tenant), 1);
        assert!(connections.take(tenant, 2).is_ok());
        assert!(connections.take(TenantId::new(), 1).is_ok());
    }
}
