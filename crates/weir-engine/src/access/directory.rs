//! Looking credentials up, remembering the answers, and forgetting them when something changed.

use super::clients::KnownSigner;
use super::freshness::Freshness;
use super::member::KnownPeople;
use super::signing::Remotes;
use super::ticket::{self, Stands, Ticket};
use super::{Caller, Credentials, Grant, Principal, Reach, Who};
use crate::Error;
use crate::engine::{Engine, Settings};
use crate::limits::{Gcra, Rate, Rates};
use crate::people::AccessTokens;
use crate::schemas::{Cell, Loaded};
use dashmap::DashMap;
use futures::FutureExt;
use futures::future::BoxFuture;
use moka::future::Cache;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use weir_core::key::{KeyHasher, PresentedKey};
use weir_core::{Clock, Code, KeyId, Permissions, ProjectId, RootSecret, SigningKeyId, TenantId, Timestamp};
use weir_log::Place;
use weir_outbound::Outbound;
use weir_store::seal::Sealer;
use weir_store::{Access as Opens, ApiKey, Credential, Store, Tenant, TenantStatus};

/// An answer is looked up again after this even if no change was announced.
pub(super) const KEEP: Duration = Duration::from_secs(60);
/// "No such key" is believed for this long: it shields the database from guessing, and a new key's id
/// was never asked for before.
const KEEP_ABSENCE: Duration = Duration::from_secs(1);
const KEYS: u64 = 100_000;

/// A looked-up key, and up to which change the look-up is known to be true.
pub(super) struct Known<K> {
    pub(super) found: Option<K>,
    tenant: Option<TenantId>,
    as_of: i64,
    doubts: u64,
    at: Instant,
}

/// An API key, ready to be held against a presented one.
struct KnownKey {
    hash: weir_core::key::KeyHash,
    revoked_at: Option<Timestamp>,
    suspended: Option<String>,
    caller: Arc<Caller>,
}

/// Authentication: the one place that decides who somebody is.
pub(crate) struct Access {
    pub(super) store: Store,
    pub(super) clock: Arc<dyn Clock>,
    hasher: KeyHasher,
    pub(super) sealer: Sealer,
    keys: Cache<KeyId, Arc<Known<KnownKey>>>,
    pub(super) signers: Cache<SigningKeyId, Arc<Known<KnownSigner>>>,
    /// The key sets of projects whose tokens name a key of one.
    pub(super) key_sets: Cache<ProjectId, Arc<Known<Vec<KnownSigner>>>>,
    /// Those of them that are fetched.
    pub(crate) remotes: Remotes,
    pub(super) people: KnownPeople,
    pub(crate) freshness: Freshness,
    /// The last change that was applied here.
    pub(super) seen: AtomicI64,
    /// The last change that holds here, for live sessions and schemas.
    pub(crate) enforced: AtomicI64,
    /// Counts the times at which everything known became doubtful.
    doubts: AtomicU64,
    /// The last change of each tenant that had one lately.
    pub(super) changed: DashMap<TenantId, (i64, Instant)>,
    /// What payloads must look like.
    pub(super) schemas: Arc<Loaded>,
    /// Limiters in use, and those used a moment ago.
    pub(super) limiters: DashMap<Metered, Arc<Gcra>>,
    pub(super) jwt_bytes: usize,
    pub(super) jwt_leeway: Duration,
    ticket_lifetime: Duration,
}

/// What has a rate.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Metered {
    Key(KeyId),
    Project(ProjectId),
    Tenant(TenantId),
}

/// A look-up's answer: whose it is, and what.
pub(super) type Looked<K> = Result<(Option<TenantId>, Option<K>), Error>;

impl Access {
    pub(crate) async fn load(
        store: Store,
        root: &RootSecret,
        clock: Arc<dyn Clock>,
        outbound: Outbound,
        settings: &Settings,
    ) -> Result<Self, Error> {
        let head = store.directory.access_head().await?;
        Ok(Self {
            hasher: KeyHasher::new(root),
            sealer: Sealer::new(root)?,
            keys: Cache::builder().max_capacity(KEYS).time_to_live(KEEP).build(),
            signers: Cache::builder().max_capacity(KEYS).time_to_live(KEEP).build(),
            key_sets: Cache::builder().max_capacity(KEYS).time_to_live(KEEP).build(),
            remotes: Remotes::new(outbound, settings.key_sets),
            people: KnownPeople::new(AccessTokens::new(root)),
            freshness: Freshness::new(settings.access_window),
            seen: AtomicI64::new(head),
            enforced: AtomicI64::new(head),
            doubts: AtomicU64::new(0),
            changed: DashMap::new(),
            limiters: DashMap::new(),
            schemas: Loaded::new(store.clone(), settings.schema_cache_bytes),
            jwt_bytes: settings.jwt_bytes,
            jwt_leeway: settings.jwt_leeway,
            ticket_lifetime: settings.ticket_lifetime,
            store,
            clock,
        })
    }

    /// Bytes of compiled schemas, by estimate, and how often a project's were evicted.
    pub(crate) fn schema_memory(&self) -> (usize, u64) {
        self.schemas.memory()
    }

    /// Refuses to act on an access state that is not confirmed.
    pub(crate) fn require_fresh(&self) -> Result<(), Error> {
        if self.freshness.is_fresh() {
            return Ok(());
        }
        Err(Error::new(
            Code::DatabaseUnavailable,
            format!(
                "This node has not been able to confirm who may do what for {} s (the limit is {} s) and does nothing until it can.",
                self.freshness.age().as_secs(),
                self.freshness.window().as_secs()
            ),
        )
        .after(Duration::from_secs(1)))
    }

    /// Returns when the access state is confirmed.
    pub(crate) async fn confirmed(&self) {
        self.freshness.wait().await;
    }

    /// How old the confirmed state is, and how old it may be.
    pub(crate) fn age(&self) -> (Duration, Duration) {
        (self.freshness.age(), self.freshness.window())
    }

    /// The number of the last change that is enforced here.
    pub(crate) fn version(&self) -> i64 {
        self.enforced.load(Ordering::Acquire)
    }

    pub(super) async fn authenticate(&self, credentials: &Credentials) -> Result<Arc<Caller>, Error> {
        self.require_fresh()?;
        match credentials {
            Credentials::ApiKey(text) => self.by_key(text.expose()).await,
            Credentials::Token(text) if self.people.tokens.claims(text.expose()) => {
                self.by_member(text.expose(), None).await
            }
            Credentials::TokenIn(text, project) if self.people.tokens.claims(text.expose()) => {
                self.by_member(text.expose(), Some(*project)).await
            }
            Credentials::Token(text) | Credentials::TokenIn(text, _) => self.by_token(text.expose()).await,
            Credentials::Ticket(text) => self.by_ticket(text.expose()).await,
        }
    }

    async fn by_key(&self, text: &str) -> Result<Arc<Caller>, Error> {
        let known = self.verified_key(text).await?;
        self.admit_key(known.found.as_ref().ok_or_else(unknown_key)?)
    }

    /// The key that this text is, if its secret fits.
    async fn verified_key(&self, text: &str) -> Result<Arc<Known<KnownKey>>, Error> {
        let presented = PresentedKey::parse(text).ok_or_else(unknown_key)?;
        let known = self.key(presented.id).await?;
        let key = known.found.as_ref().ok_or_else(unknown_key)?;
        if !self.hasher.verify(&presented, &key.hash) {
            return Err(unknown_key());
        }
        Ok(known)
    }

    fn admit_key(&self, key: &KnownKey) -> Result<Arc<Caller>, Error> {
        self.in_force(key)?;
        not_suspended(key.suspended.as_deref())?;
        Ok(Arc::clone(&key.caller))
    }

    fn in_force(&self, key: &KnownKey) -> Result<(), Error> {
        let now = self.clock.now();
        if key.revoked_at.is_some_and(|at| at <= now) {
            return Err(unknown_key());
        }
        if let Some(at) = key.caller.expires_at.filter(|at| *at <= now) {
            return Err(Error::new(Code::ExpiredApiKey, "The API key has expired: use a new one.")
                .with(json!({ "expired_at": at })));
        }
        Ok(())
    }

    async fn principal(&self, credentials: &Credentials) -> Result<Arc<Principal>, Error> {
        self.require_fresh()?;
        let text = match credentials {
            Credentials::ApiKey(text) => text,
            Credentials::Token(text) | Credentials::TokenIn(text, _)
                if self.people.tokens.claims(text.expose()) =>
            {
                return self.member_principal(text.expose()).await;
            }
            _ => return Err(administers_nothing()),
        };
        let known = self.verified_key(text.expose()).await?;
        let key = known.found.as_ref().ok_or_else(unknown_key)?;
        self.in_force(key)?;
        let Grant::Scopes(scopes) = key.caller.grant else { return Err(administers_nothing()) };
        Ok(Arc::new(Principal {
            who: key.caller.who.clone(),
            reach: Reach::Tenant(key.caller.place.tenant),
            permissions: Permissions::of_scopes(scopes),
            scopes,
            project: Some(key.caller.place.project),
            suspended: key.suspended.clone(),
            rates: key.caller.rates.clone(),
        }))
    }

    /// Whose these credentials are or pretend to be, as far as it is remembered: nothing is looked up for somebody who was
    /// refused.
    async fn whose(&self, credentials: &Credentials) -> Option<(TenantId, ProjectId)> {
        let place = match credentials {
            Credentials::ApiKey(text) => {
                let known = self.keys.get(&PresentedKey::parse(text.expose())?.id).await?;
                known.found.as_ref()?.caller.place.clone()
            }
            Credentials::Token(text) | Credentials::TokenIn(text, _) => {
                self.signed_for(text.expose()).await?
            }
            Credentials::Ticket(_) => return None,
        };
        Some((place.tenant, place.project))
    }

    /// How a key's secret is kept.
    pub(crate) fn hash_key(&self, key: &PresentedKey<'_>) -> weir_core::key::KeyHash {
        self.hasher.hash(key)
    }

    async fn by_ticket(&self, text: &str) -> Result<Arc<Caller>, Error> {
        let redeemed = self.store.tickets.redeem(ticket::hash(text), self.clock.now()).await?;
        let redeemed = redeemed.ok_or_else(|| {
            Error::new(
                Code::InvalidToken,
                "The ticket is unknown, used or expired: a ticket works once, for a short time.",
            )
        })?;
        let stands = serde_json::from_str(&redeemed.caller).map_err(Error::internal)?;
        self.have_key_set(&stands).await?;
        self.again(stands).await
    }

    /// The caller that these credentials make now.
    pub(crate) async fn again(&self, stands: Stands) -> Result<Arc<Caller>, Error> {
        match stands {
            Stands::Key(id) => {
                let known = self.key(id).await?;
                self.admit_key(known.found.as_ref().ok_or_else(unknown_key)?)
            }
            Stands::Member { who, project } => self.member_again(who, project).await,
            Stands::Client { signer, key, claims } => self.client_again(signer, key, claims).await,
        }
    }

    async fn key(&self, id: KeyId) -> Result<Arc<Known<KnownKey>>, Error> {
        let look = || async move {
            let Some(found) = self.store.directory.key(id).await? else { return Ok((None, None)) };
            let schemas = self.schemas_of(&found.access).await?;
            Ok((Some(found.access.tenant.id), Some(self.known_key(found, schemas))))
        };
        self.known(&self.keys, id, || look().boxed()).await
    }

    pub(super) async fn schemas_of(&self, access: &Opens) -> Result<Arc<Cell>, Error> {
        self.schemas.of(access.tenant.id, access.project.id).await
    }

    /// A remembered answer that is still true, or a new one; callers that miss at once share one query.
    pub(super) async fn known<'a, I, K>(
        &self,
        cache: &Cache<I, Arc<Known<K>>>,
        id: I,
        look: impl Fn() -> BoxFuture<'a, Looked<K>>,
    ) -> Result<Arc<Known<K>>, Error>
    where
        I: std::hash::Hash + Eq + Copy + Send + Sync + 'static,
        K: Send + Sync + 'static,
    {
        loop {
            let fill = async {
                // Read before the query: a change that is committed meanwhile makes the answer stale, not lost.
                let doubts = self.doubts.load(Ordering::Acquire);
                let as_of = self.seen.load(Ordering::Acquire);
                let (tenant, found) = look().await?;
                Ok::<_, Error>(Arc::new(Known { found, tenant, as_of, doubts, at: Instant::now() }))
            };
            let known = cache.try_get_with(id, fill).await.map_err(|error| (*error).clone())?;
            // Also an answer that another caller began to look up before the change.
            if self.still_true(&known) {
                return Ok(known);
            }
            cache.invalidate(&id).await;
        }
    }

    fn known_key(&self, found: Credential<ApiKey>, schemas: Arc<Cell>) -> KnownKey {
        let Credential { key, access } = found;
        // A key that was rotated is revoked from a time to come on: that is when its connections end, too.
        let ends = [key.expires_at, key.revoked_at].into_iter().flatten().min();
        KnownKey {
            hash: key.key_hash,
            revoked_at: key.revoked_at,
            suspended: suspended(&access),
            caller: Arc::new(Caller {
                place: place(&access),
                who: Who::Key(key.id),
                grant: Grant::Scopes(key.scopes),
                project_limits: access.project.limits,
                rates: self.rates(self.limiter(Metered::Key(key.id), key.rate_limit_per_sec), &access),
                limits: Arc::new(access.tenant.limits),
                expires_at: key.expires_at,
                ends_at: ends,
                schemas,
                key_set: None,
            }),
        }
    }

    /// The limiter of a key outlives what is remembered of the key: looking it up again gives no new burst.
    fn limiter(&self, of: Metered, per_second: u32) -> Arc<Gcra> {
        let rate = Rate { per_second };
        let limiter = self.limiters.entry(of).or_insert_with(|| Arc::new(Gcra::new(rate)));
        limiter.set_rate(rate);
        Arc::clone(&limiter)
    }

    pub(super) fn rates(&self, credential: Arc<Gcra>, access: &Opens) -> Rates {
        let (tenant, project) = (&access.tenant, &access.project);
        let of_project = project.limits.requests_per_second.unwrap_or(0);
        Rates {
            credential,
            project: self.limiter(Metered::Project(project.id), of_project),
            tenant: self.limiter(Metered::Tenant(tenant.id), tenant.limits.requests_per_second),
        }
    }

    /// Forgets all that was looked up: changes of access may have been missed.
    pub(super) async fn forget_everything(&self) -> Result<(), Error> {
        let head = self.store.directory.access_head().await?;
        tracing::warn!(head, "changes of access are missing from the list: everything is looked up again");
        self.seen.store(head, Ordering::Release);
        // After this a look-up counts only if it began knowing the new head.
        self.doubts.fetch_add(1, Ordering::AcqRel);
        self.changed.clear();
        self.keys.invalidate_all();
        self.signers.invalidate_all();
        self.key_sets.invalidate_all();
        self.people.forget();
        self.schemas.note_all();
        Ok(())
    }

    fn still_true<K>(&self, known: &Known<K>) -> bool {
        if known.doubts != self.doubts.load(Ordering::Acquire) {
            return false;
        }
        match known.tenant {
            Some(tenant) => self.changed.get(&tenant).is_none_or(|change| change.0 <= known.as_of),
            None => known.at.elapsed() < KEEP_ABSENCE,
        }
    }
}

pub(super) fn place(access: &Opens) -> Place {
    Place {
        tenant: access.tenant.id,
        project: access.project.id,
        stream: access.tenant.stream.as_str().into(),
    }
}

pub(super) fn suspended(access: &Opens) -> Option<String> {
    suspension(&access.tenant)
}

/// Why a tenant is suspended, if it is.
pub(super) fn suspension(tenant: &Tenant) -> Option<String> {
    (tenant.status == TenantStatus::Suspended).then(|| tenant.status_reason.clone().unwrap_or_default())
}

pub(super) fn not_suspended(reason: Option<&str>) -> Result<(), Error> {
    match reason {
        None => Ok(()),
        Some(reason) => {
            Err(Error::new(Code::TenantSuspended, "The tenant is suspended; its administrators know why.")
                .with(json!({ "reason": reason })))
        }
    }
}

/// One answer for malformed, unknown, wrong and revoked keys: it tells a guesser nothing.
fn unknown_key() -> Error {
    Error::new(Code::InvalidApiKey, "The API key is not valid: it is malformed, unknown or revoked.")
}

fn administers_nothing() -> Error {
    Error::new(
        Code::InsufficientScope,
        "Administration takes an API key with an admin scope, or a member who signed in; client tokens and tickets administer nothing.",
    )
}

impl Engine {
    /// Finds out who is calling.
    ///
    /// # Errors
    /// `INVALID_API_KEY`, `EXPIRED_API_KEY`, `INVALID_TOKEN`, `EXPIRED_TOKEN`, `TENANT_SUSPENDED`,
    /// `DATABASE_UNAVAILABLE`.
    pub async fn authenticate(&self, credentials: Credentials) -> Result<Arc<Caller>, Error> {
        let outcome = self.access.authenticate(&credentials).await;
        self.figures.authenticated(&outcome);
        self.note_refusal(&credentials, outcome.as_ref().err()).await;
        outcome
    }

    /// Finds out who wants to administer. A suspended tenant's people are let in: to look, and to pay.
    ///
    /// # Errors
    /// As [`Engine::authenticate`], `TENANT_SUSPENDED` excepted; `INSUFFICIENT_SCOPE` for credentials that never administer.
    pub async fn principal(&self, credentials: Credentials) -> Result<Arc<Principal>, Error> {
        let outcome = self.access.principal(&credentials).await;
        self.figures.authenticated(&outcome);
        self.note_refusal(&credentials, outcome.as_ref().err()).await;
        outcome
    }

    /// Counts refused credentials, for alerts. Tokens that have expired are everyday life, and do not count.
    async fn note_refusal(&self, credentials: &Credentials, refusal: Option<&Error>) {
        let counts = |error: &&Error| {
            matches!(error.code, Code::InvalidApiKey | Code::ExpiredApiKey | Code::InvalidToken)
        };
        if refusal.filter(counts).is_some() {
            let place = self.access.whose(credentials).await;
            self.alerts.signals.refused(place);
        }
    }

    /// Makes a ticket that stands for the caller's credentials.
    ///
    /// # Errors
    /// `DATABASE_UNAVAILABLE`.
    pub async fn issue_ticket(&self, caller: &Caller) -> Result<Ticket, Error> {
        let access = &self.access;
        let text = ticket::text();
        let expires_at = access.clock.now().plus(access.ticket_lifetime);
        let stands = serde_json::to_string(&Stands::of(caller)).map_err(Error::internal)?;
        let kept = weir_store::Ticket {
            hash: ticket::hash(text.expose()),
            tenant_id: caller.place.tenant,
            project_id: caller.place.project,
            caller: stands,
            expires_at,
        };
        access.store.tickets.issue(kept).await?;
        Ok(Ticket { text, expires_at })
    }
}
