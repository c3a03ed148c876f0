//! Where a change of access holds already.

use crate::Engine;
use std::sync::atomic::Ordering;
use weir_store::AccessChange;
pub use weir_store::Enforced;

impl Engine {
    /// Waits until every node that runs has enforced the change, for `enforce_wait` at most, and says how far it has
    /// come. A node that did not answer counts in `of`; it stops by itself when its access window has passed, and then
    /// counts no more. The change itself stands in any case.
    pub async fn enforced(&self, change: &AccessChange) -> Enforced {
        // Not only when the notice of it arrives: this node knows already.
        self.look_now.notify_one();
        match self.store.enforced(change, self.settings.enforce_wait).await {
            Ok(enforced) => enforced,
            Err(error) => {
                tracing::warn!(%error, "how far a change has come cannot be read: {error}");
                // This node speaks for itself; that there is no more to say than that shows in `of`.
                let here = self.access.enforced.load(Ordering::Acquire) >= change.seq;
                Enforced { nodes: u32::from(here), of: u32::from(here) + 1, connections_closed: 0 }
            }
        }
    }
}
