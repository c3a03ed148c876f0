//! Keeping the access state true: reading the list of changes, and holding live sessions against it.

use super::directory::{Access, KEEP};
use crate::Error;
use crate::control::Enforcement;
use crate::engine::Engine;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::time::{MissedTickBehavior, timeout};
use weir_core::{Code, TenantId};
use weir_store::AccessChange;

/// Between two looks for changes. A change is enforced on every node within this and one query, sooner when a notice
/// comes.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A look that takes longer is given up for another: the connection may be dead.
const LOOK_PATIENCE: Duration = Duration::from_secs(2);
/// Changes read at once.
const CHANGES: u32 = 500;

/// What is still to be enforced, and to be reported.
#[derive(Default)]
struct Duties {
    changes: Vec<AccessChange>,
    /// Changes are missing from the list: anything may have changed.
    everything: bool,
    /// Tenants of which a fetched key set lost a key: as good as revoked, but no change of ours.
    lost_keys: Vec<TenantId>,
    done: Enforcement,
    unreported: bool,
}

impl Access {
    /// Reads the changes since the last look into `duties`.
    async fn look(&self, duties: &mut Duties) -> Result<(), Error> {
        loop {
            let seen = self.seen.load(Ordering::Acquire);
            // From the last one known on: where that is missing, others after it may be missing too.
            let mut changes = self.store.directory.access_changes_after(seen - 1, CHANGES).await?;
            let more = changes.len() == CHANGES as usize;
            if has_hole(seen, &changes) {
                self.forget_everything().await?;
                duties.everything = true;
                return Ok(());
            }
            changes.retain(|change| change.seq > seen);
            for change in &changes {
                self.changed.insert(change.tenant_id, (change.seq, Instant::now()));
                self.seen.fetch_max(change.seq, Ordering::AcqRel);
                self.schemas.note(change);
            }
            duties.changes.append(&mut changes);
            if !more {
                return Ok(());
            }
        }
    }

    /// Whether a session that was just made may have been missed when a change was enforced.
    pub(crate) fn changed_lately(&self, tenant: TenantId) -> bool {
        self.changed.contains_key(&tenant)
    }

    /// The tenants of which a fetched key set lost a key since the last look.
    fn lost_keys(&self) -> Vec<TenantId> {
        let tenants = self.remotes.take_changed();
        for tenant in &tenants {
            // No change of the list, so what is remembered stays true; but a session that is just being made is looked
            // at again.
            let mut last = self.changed.entry(*tenant).or_insert((0, Instant::now()));
            last.1 = Instant::now();
        }
        tenants
    }

    /// Drops what can be dropped: changes older than anything remembered, tickets that expired.
    pub(crate) async fn sweep(&self) {
        self.changed.retain(|_, change| change.1.elapsed() < 2 * KEEP);
        // A limiter that nobody holds and that is full again knows nothing worth keeping.
        self.schemas.sweep();
        self.limiters.retain(|_, limiter| Arc::strong_count(limiter) > 1 || !limiter.is_full());
        if let Err(error) = self.store.tickets.purge(self.clock.now()).await {
            tracing::warn!(%error, "expired tickets could not be purged: {error}");
        }
        if let Err(error) = self.store.sign_ins.purge(self.clock.now()).await {
            tracing::warn!(%error, "expired sign-ins could not be purged: {error}");
        }
    }
}

/// Whether changes between the last one known and these are missing: this node was away while they were pruned, or
/// the database was put back to an earlier day.
fn has_hole(seen: i64, from_there: &[AccessChange]) -> bool {
    match from_there.first() {
        Some(first) => first.seq != seen && !(seen == 0 && first.seq == 1),
        None => seen != 0,
    }
}

impl Engine {
    /// Looks for changes of access and applies them to live sessions, for ever.
    pub(crate) async fn watch_access(self: Arc<Self>) {
        let mut tick = tokio::time::interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut duties = Duties::default();
        let mut failing = false;
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = self.look_now.notified() => {}
            }
            match self.do_duties(&mut duties).await {
                Ok(()) => failing = false,
                Err(error) if !failing => {
                    failing = true;
                    let cause = error.internal.unwrap_or(error.message);
                    tracing::warn!(cause, "access changes cannot be read: {cause}");
                }
                Err(_) => {}
            }
        }
    }

    async fn do_duties(self: &Arc<Self>, duties: &mut Duties) -> Result<(), Error> {
        let begun = Instant::now();
        let look = timeout(LOOK_PATIENCE, self.access.look(duties)).await;
        look.unwrap_or_else(|_| {
            let message = format!("The list of access changes did not come within {LOOK_PATIENCE:?}.");
            Err(Error::new(Code::DatabaseUnavailable, message))
        })?;
        duties.lost_keys.append(&mut self.access.lost_keys());
        let seen = self.access.seen.load(Ordering::Acquire);
        if duties.everything {
            self.enforce_everything(seen, &mut duties.done).await?;
        } else if !duties.changes.is_empty() {
            self.enforce(&duties.changes, &mut duties.done).await?;
        }
        self.enforce_lost_keys(&duties.lost_keys).await?;
        duties.lost_keys.clear();
        self.access.schemas.catch_up().await?;
        // Only now: what waits for the confirmation finds the hub told of every session's end.
        self.access.freshness.confirm(begun);
        self.access.enforced.store(seen, Ordering::Release);
        duties.unreported |= duties.everything || !duties.changes.is_empty();
        duties.everything = false;
        duties.changes.clear();
        if duties.unreported {
            self.store.nodes.confirm(self.node, seen, duties.done.closings()).await?;
            duties.unreported = false;
            duties.done = Enforcement::default();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Settings;
    use crate::{Credentials, Grant};
    use weir_core::key::{self, KeyHasher, PresentedKey};
    use weir_core::{Clock, KeyId, PlanName, RootSecret, Scopes, SigningKeyId, SystemClock, Timestamp};
    use weir_store::{
        AccessChangeKind, Bootstrap, By, NewKey, NewSigningKey, SigningMaterial, Store, TenantStatus,
    };

    #[test]
    fn a_list_without_the_last_known_change_has_a_hole() {
        let list = |seqs: &[i64]| {
            let change = |&seq| AccessChange {
                seq,
                tenant_id: TenantId::new(),
                at: Timestamp::default(),
                kind: AccessChangeKind::KeyRevoked,
                subject: String::new(),
            };
            seqs.iter().map(change).collect::<Vec<_>>()
        };
        assert!(!has_hole(0, &[]), "nothing has ever changed");
        assert!(!has_hole(0, &list(&[1, 2])));
        assert!(has_hole(0, &list(&[2])), "the first ones may be gone");
        assert!(!has_hole(7, &list(&[7])));
        assert!(!has_hole(7, &list(&[7, 9])), "numbers may skip");
        assert!(has_hole(7, &list(&[9])));
        assert!(has_hole(7, &[]), "the list is younger than what is known");
    }
    async fn newcomer(store: &Store, root: &RootSecret, now: Timestamp) -> (TenantId, KeyId, Credentials) {
        let id = KeyId::new();
        let text = key::generate(id);
        let presented = PresentedKey::parse(text.expose()).expect("a key");
        let wanted = Bootstrap {
            tenant_name: "acme".into(),
            project_name: "main".into(),
            plan: PlanName::Pro,
            key: NewKey {
                id,
                name: "server".into(),
                key_hash: KeyHasher::new(root).hash(&presented),
                scopes: Scopes::all(),
                rate_limit_per_sec: 0,
                expires_at: None,
            },
            signing_key: NewSigningKey {
                id: SigningKeyId::new(),
                name: String::new(),
                templates: None,
                material: SigningMaterial::Secret(b"sealed".to_vec()),
            },
        };
        let made = store.directory.bootstrap(wanted, By::new("test", now)).await.expect("bootstraps");
        (made.access.tenant.id, id, Credentials::api_key(text.expose()))
    }

    /// A node that was away until the changes it missed were forgotten believes nothing that it remembers.
    #[tokio::test]
    async fn a_node_that_missed_forgotten_changes_forgets_what_it_knew() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let url = format!("sqlite://{}", folder.path().join("weir.db").display());
        let store = weir_store::open(&url, weir_store::Options::default()).await.expect("opens");
        let (root, now) = (RootSecret::generate(), SystemClock.now());
        let (tenant, key, credentials) = newcomer(&store, &root, now).await;
        let settings = Settings { access_window: Duration::from_secs(60), ..Settings::default() };
        let outbound = weir_outbound::Outbound::new(weir_outbound::Policy::Trusted).expect("a client");
        let access = Access::load(store.clone(), &root, Arc::new(SystemClock), outbound, &settings)
            .await
            .expect("loads");
        let caller = access.authenticate(&credentials).await.expect("is known");
        assert!(matches!(caller.grant, Grant::Scopes(_)));

        let by = || By::new("test", now);
        store.keys.revoke(tenant, key, by()).await.expect("revokes");
        store.tenants.set_status(tenant, TenantStatus::Active, None, by()).await.expect("changes");
        store.nodes.prune(Duration::ZERO).await.expect("prunes");
        let mut duties = Duties::default();
        access.look(&mut duties).await.expect("looks");
        assert!(duties.everything && duties.changes.is_empty());
        let refused = access.authenticate(&credentials).await.expect_err("it was revoked");
        assert_eq!(refused.code, Code::InvalidApiKey);

        // From the new head on it follows the list again.
        let change =
            store.tenants.set_status(tenant, TenantStatus::Active, None, by()).await.expect("changes");
        let mut duties = Duties::default();
        access.look(&mut duties).await.expect("looks");
        assert!(!duties.everything);
        assert_eq!(duties.changes, [change.change]);
    }
}
