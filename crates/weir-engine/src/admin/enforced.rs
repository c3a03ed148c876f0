//! Where a change of access holds already.

use crate::Engine;
use std::sync::atomic::Ordering;
use std::time::Duration;
use weir_store::AccessChange;

/// How far a change of access has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Enforced {
    /// Nodes that have enforced it.
    pub nodes: u32,
    /// Nodes that are live.
    pub of: u32,
    /// Connections that it ended.
    pub connections_closed: u64,
}

impl Engine {
    /// Waits until the change is enforced, for a moment at most, and says how far it has come.
    pub async fn enforced(&self, change: &AccessChange) -> Enforced {
        let seen = async {
            while self.access.seen.load(Ordering::Acquire) < change.seq {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let seen = tokio::time::timeout(Duration::from_secs(2), seen).await.is_ok();
        Enforced { nodes: u32::from(seen), of: 1, connections_closed: 0 }
    }
}
