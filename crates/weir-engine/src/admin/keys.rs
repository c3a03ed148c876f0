//! API keys: making, rotating, revoking.

use super::permits::{KeysRead, KeysWrite};
use super::{May, Permit, plan};
use crate::access::Reach;
use crate::{Engine, Error};
use serde_json::json;
use std::time::Duration;
use weir_core::key::{self, KeyHash, PresentedKey};
use weir_core::{Code, KeyId, ProjectId, Scopes, Secret, TenantId, Timestamp};
use weir_store::{After, ApiKey, Changed, NewKey, Page};

/// The longest time for which a rotated key may go on working.
pub const MAX_GRACE: Duration = Duration::from_secs(7 * 24 * 3600);

/// An API key to make.
#[derive(Clone, Debug)]
pub struct KeyWish {
    /// The project that it works on.
    pub project: ProjectId,
    /// What its owner calls it.
    pub name: String,
    /// What it may do.
    pub scopes: Scopes,
    /// Requests per second; 0 is unlimited.
    pub rate_limit_per_sec: u32,
    /// From when on it is refused.
    pub expires_at: Option<Timestamp>,
}

impl Engine {
    /// The API keys within reach: of one project, or of the whole tenant.
    ///
    /// # Errors
    /// `INVALID_REQUEST` when an operator names no project; `DATABASE_UNAVAILABLE`.
    pub async fn keys(
        &self,
        may: &May<KeysRead>,
        project: Option<ProjectId>,
        page: After<KeyId>,
    ) -> Result<Page<ApiKey>, Error> {
        let tenant = match (project, may.principal().reach) {
            (Some(project), _) => {
                let tenant = self.tenant_of_project(may, project).await?;
                // A project that does not exist is an error, not an empty list.
                self.store.tenants.project(tenant, project).await?.tenant_id
            }
            (None, Reach::Tenant(own)) => own,
            (None, Reach::Installation) => {
                return Err(Error::new(
                    Code::InvalidRequest,
                    "Name the project whose keys you want: `project_id`.",
                )
                .with(json!({ "field": "project_id" })));
            }
        };
        Ok(self.store.keys.list(tenant, project, page).await?)
    }

    /// One API key.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub async fn key(&self, may: &May<KeysRead>, id: KeyId) -> Result<ApiKey, Error> {
        let tenant = self.tenant_of_key(may, id).await?;
        Ok(self.store.keys.get(tenant, id).await?)
    }

    /// Makes an API key; the secret is in this answer and nowhere else.
    ///
    /// # Errors
    /// `INVALID_REQUEST` for no scopes, an end in the past or a bad name; `INSUFFICIENT_SCOPE` for a scope that the
    /// maker does not hold; `LIMIT_ABOVE_PLAN` for a rate above the tenant's; `NOT_FOUND` for a project out of reach.
    pub async fn create_key(&self, may: &May<KeysWrite>, wish: KeyWish) -> Result<(ApiKey, Secret), Error> {
        self.check_key(may, &wish)?;
        let tenant = self.tenant_of_project(may, wish.project).await?;
        if wish.rate_limit_per_sec > 0 {
            let tenant = self.store.tenants.get(tenant).await?;
            let (rate, tenants) = (wish.rate_limit_per_sec.into(), tenant.limits.requests_per_second.into());
            plan::rate_within(tenant.plan, "rate_limit_per_sec", rate, tenants)?;
        }
        let (id, text, key_hash) = self.new_key()?;
        let new = NewKey {
            id,
            name: wish.name,
            key_hash,
            scopes: wish.scopes,
            rate_limit_per_sec: wish.rate_limit_per_sec,
            expires_at: wish.expires_at,
        };
        let made = self.store.keys.create(tenant, wish.project, new, may.by(&*self.clock)).await?;
        self.system.look();
        Ok((made, text))
    }

    fn check_key(&self, may: &May<KeysWrite>, wish: &KeyWish) -> Result<(), Error> {
        let invalid = |field: &str, message: String| {
            Err(Error::new(Code::InvalidRequest, message).with(json!({ "field": field })))
        };
        if wish.scopes.is_empty() {
            return invalid("scopes", "A key needs at least one scope.".to_owned());
        }
        if let Some(end) = wish.expires_at.filter(|end| *end <= self.clock.now()) {
            return invalid("expires_at", format!("`expires_at` must be in the future; {end} is not."));
        }
        match wish.scopes.iter().find(|scope| !may.principal().scopes.contains(*scope)) {
            None => Ok(()),
            Some(scope) => Err(Error::new(
                Code::InsufficientScope,
                format!("You cannot give a key the scope `{scope}`, which your own credentials do not hold."),
            )
            .with(json!({ "missing": scope }))),
        }
    }

    /// Puts a new key in the place of an old one, which goes on working for the grace time.
    ///
    /// # Errors
    /// `CONFLICT` when the old one is revoked, expired or was rotated before; `INVALID_REQUEST` for a longer grace
    /// than [`MAX_GRACE`]; `INSUFFICIENT_SCOPE` when the key holds a scope that whoever rotates it does not;
    /// `NOT_FOUND`.
    pub async fn rotate_key(
        &self,
        may: &May<KeysWrite>,
        id: KeyId,
        grace: Duration,
    ) -> Result<(Changed<ApiKey>, Secret), Error> {
        if grace > MAX_GRACE {
            return Err(Error::new(
                Code::InvalidRequest,
                format!(
                    "`grace_seconds` is {}; at most {} (7 days) are allowed.",
                    grace.as_secs(),
                    MAX_GRACE.as_secs()
                ),
            )
            .with(json!({ "field": "grace_seconds", "limit": MAX_GRACE.as_secs() })));
        }
        let tenant = self.tenant_of_key(may, id).await?;
        let old = self.store.keys.get(tenant, id).await?;
        // Whoever rotates a key learns its successor's secret, and with it all that the key may do.
        let wish = KeyWish {
            project: old.project_id,
            name: old.name,
            scopes: old.scopes,
            rate_limit_per_sec: 0,
            expires_at: None,
        };
        self.check_key(may, &wish)?;
        let (new, text, hash) = self.new_key()?;
        let by = may.by(&*self.clock);
        let changed = self.store.keys.rotate(tenant, id, (new, hash), grace, by).await?;
        self.system.look();
        Ok((changed, text))
    }

    /// Revokes a key: whatever uses it ends.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub async fn revoke_key(&self, may: &May<KeysWrite>, id: KeyId) -> Result<Changed<ApiKey>, Error> {
        let tenant = self.tenant_of_key(may, id).await?;
        let changed = self.store.keys.revoke(tenant, id, may.by(&*self.clock)).await?;
        self.system.look();
        Ok(changed)
    }

    async fn tenant_of_key<P: Permit>(&self, may: &May<P>, id: KeyId) -> Result<TenantId, Error> {
        match may.principal().reach {
            Reach::Tenant(own) => Ok(own),
            Reach::Installation => {
                let found = self.store.directory.key(id).await?;
                Ok(found.ok_or_else(|| Error::not_found("key"))?.access.tenant.id)
            }
        }
    }

    fn new_key(&self) -> Result<(KeyId, Secret, KeyHash), Error> {
        let id = KeyId::new();
        let text = key::generate(id);
        let presented = PresentedKey::parse(text.expose())
            .ok_or_else(|| Error::internal("a generated key is not of its own form"))?;
        let hash = self.access.hash_key(&presented);
        Ok((id, text, hash))
    }
}
