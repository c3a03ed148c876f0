//! Key sets that are fetched from where an identity provider publishes them.
//!
//! A set is fetched when a token first needs it, when a token names a key that it does not list, and from time to time
//! while it is in use; never more often than the interval allows, by one task at a time, and never by a request that
//! could be served without. When a fetch fails the last good set stays, for a bounded time.

use super::KeySet;
use super::key_set::MAX_BYTES;
use dashmap::DashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Mutex as TurnMutex, Semaphore};
use weir_core::{SigningKeyId, TenantId};
use weir_outbound::{Outbound, Request};

/// How long one fetch may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Fetches at once, of all tenants together.
const AT_ONCE: usize = 64;

/// How often, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct KeySetTimes {
    /// Between two fetches of one set at least.
    pub interval: Duration,
    /// The age at which a set in use is fetched again.
    pub refresh: Duration,
    /// The age up to which a set is used that cannot be fetched again.
    pub keep: Duration,
}

/// The fetched sets of this node.
pub(crate) struct Remotes {
    outbound: Outbound,
    times: KeySetTimes,
    known: DashMap<SigningKeyId, Arc<Remote>>,
    permits: Arc<Semaphore>,
    /// Tenants whose sets lost a key since somebody asked.
    changed: Arc<Mutex<Vec<TenantId>>>,
}

impl Remotes {
    pub(crate) fn new(outbound: Outbound, times: KeySetTimes) -> Self {
        let permits = Arc::new(Semaphore::new(AT_ONCE));
        Self { outbound, times, known: DashMap::new(), permits, changed: Arc::default() }
    }

    /// The set of a signing key. Its URL never changes: another one is another signing key.
    pub(crate) fn of(&self, id: SigningKeyId, tenant: TenantId, url: &str) -> Arc<Remote> {
        let new = || {
            Arc::new(Remote {
                whose: Some((id, tenant)),
                url: url.to_owned(),
                outbound: self.outbound.clone(),
                times: self.times,
                permits: Arc::clone(&self.permits),
                changed: Arc::clone(&self.changed),
                state: Mutex::default(),
                turn: TurnMutex::default(),
            })
        };
        Arc::clone(&self.known.entry(id).or_insert_with(new))
    }

    /// Whether a URL may be fetched at all.
    pub(crate) fn check(&self, url: &str) -> Result<(), weir_outbound::Error> {
        self.outbound.check(url)
    }

    /// The tenants whose live sessions are to be looked at again.
    pub(crate) fn take_changed(&self) -> Vec<TenantId> {
        std::mem::take(&mut *self.changed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Begins to fetch what is in use and old, and forgets what nobody uses.
    pub(crate) fn refresh(&self) {
        // A session, or the memory of a signing key, holds its set; the map is one holder more. The time of the last
        // fetch is not forgotten before it stops to matter.
        self.known.retain(|_, remote| Arc::strong_count(remote) > 1 || !remote.is_resting());
        for remote in &self.known {
            if remote.is_due() {
                tokio::spawn(Arc::clone(&remote).look());
            }
        }
    }
}

/// One fetched set.
pub(crate) struct Remote {
    /// `None` for the set of the provider where people sign in.
    whose: Option<(SigningKeyId, TenantId)>,
    url: String,
    outbound: Outbound,
    times: KeySetTimes,
    permits: Arc<Semaphore>,
    changed: Arc<Mutex<Vec<TenantId>>>,
    state: Mutex<State>,
    /// Whoever fetches holds it; the others wait for what that brings.
    turn: TurnMutex<()>,
}

#[derive(Default)]
struct State {
    set: Option<Arc<KeySet>>,
    /// When the set came.
    fetched: Option<Instant>,
    /// When the last fetch began.
    tried: Option<Instant>,
    failing: bool,
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Remote").field(&self.whose).finish()
    }
}

impl Remote {
    /// The set of the provider where people sign in.
    pub(crate) fn of_provider(outbound: Outbound, times: KeySetTimes, url: &str) -> Arc<Self> {
        Arc::new(Self {
            whose: None,
            url: url.to_owned(),
            outbound,
            times,
            permits: Arc::new(Semaphore::new(1)),
            changed: Arc::default(),
            state: Mutex::default(),
            turn: TurnMutex::default(),
        })
    }

    /// The set, fetched before if there is none or it is old.
    pub(crate) async fn fresh(self: &Arc<Self>) -> Option<Arc<KeySet>> {
        if self.current().is_none() || self.is_due() {
            self.look_again().await;
        }
        self.current()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The set as it was last fetched, if that is not too long ago.
    pub(crate) fn current(&self) -> Option<Arc<KeySet>> {
        let state = self.state();
        let known = state.fetched.is_some_and(|at| at.elapsed() <= self.times.keep);
        state.set.clone().filter(|_| known)
    }

    fn is_resting(&self) -> bool {
        self.state().tried.is_some_and(|at| at.elapsed() < self.times.interval)
    }

    fn is_due(&self) -> bool {
        let old = self.state().fetched.is_some_and(|at| at.elapsed() >= self.times.refresh);
        old && !self.is_resting()
    }

    /// Fetches the set, unless that was done or begun within the interval. Returns when it is known what that brought;
    /// a caller that stops waiting does not stop the fetch, or one that hangs up could keep it from ever ending.
    pub(crate) async fn look_again(self: &Arc<Self>) {
        // Ends by itself within the time-out, so nobody need wait for it at the end of the process.
        let _ = tokio::spawn(Arc::clone(self).look()).await;
    }

    async fn look(self: Arc<Self>) {
        let _turn = self.turn.lock().await;
        if self.is_resting() {
            return;
        }
        let _permit = self.permits.acquire().await;
        self.state().tried = Some(Instant::now());
        let outcome = self.fetch().await;
        self.learn(outcome);
    }

    async fn fetch(&self) -> Result<KeySet, String> {
        let request = Request::get(self.url.as_str()).header("accept", "application/json");
        let answer = self.outbound.send(request.timeout(TIMEOUT).at_most(MAX_BYTES)).await;
        let answer = answer.map_err(|error| error.to_string())?;
        if answer.status != 200 {
            return Err(format!("the server answered with status {}", answer.status.as_u16()));
        }
        KeySet::parse(&answer.body)
    }

    fn learn(&self, outcome: Result<KeySet, String>) {
        let lost = {
            let mut state = self.state();
            match outcome {
                Ok(set) => {
                    let lost = state.set.as_ref().is_some_and(|old| !old.is_within(&set));
                    *state = State {
                        set: Some(Arc::new(set)),
                        fetched: Some(Instant::now()),
                        tried: state.tried,
                        failing: false,
                    };
                    lost
                }
                Err(cause) => {
                    if !std::mem::replace(&mut state.failing, true) {
                        let whose = self.whose.map(|(id, tenant)| format!("{id} of {tenant}"));
                        let whose = whose.as_deref().unwrap_or("the identity provider");
                        tracing::warn!(whose, cause, "the key set of {whose} cannot be fetched: {cause}");
                    }
                    let too_old = state.fetched.is_some_and(|at| at.elapsed() > self.times.keep);
                    too_old && state.set.take().is_some()
                }
            }
        };
        if let Some((_, tenant)) = self.whose.filter(|_| lost) {
            self.changed.lock().unwrap_or_else(PoisonError::into_inner).push(tenant);
        }
    }
}
