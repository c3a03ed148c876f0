//! The credentials of a tenant: API keys, and what its client tokens are signed with.

use crate::{After, By, Changed, NewSigningKey, Page, Reply, SigningKey};
use std::time::Duration;
use weir_core::key::KeyHash;
use weir_core::{KeyId, ProjectId, Scopes, SigningKeyId, TenantId, Timestamp};

/// An API key. Its secret is not here: only a keyed hash of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Its id, which is part of the key's text.
    pub id: KeyId,
    /// Whose it is.
    pub tenant_id: TenantId,
    /// The project that it works on.
    pub project_id: ProjectId,
    /// What its owner calls it.
    pub name: String,
    /// The keyed hash of the secret.
    pub key_hash: KeyHash,
    /// What it may do.
    pub scopes: Scopes,
    /// Requests per second; 0 is unlimited.
    pub rate_limit_per_sec: u32,
    /// From when on it is refused as revoked.
    pub revoked_at: Option<Timestamp>,
    /// From when on it is refused as expired.
    pub expires_at: Option<Timestamp>,
    /// The key that took its place.
    pub replaced_by: Option<KeyId>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// An API key to make.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// Its id.
    pub id: KeyId,
    /// What its owner calls it: 1 to 128 characters, none of them control characters.
    pub name: String,
    /// The keyed hash of the secret.
    pub key_hash: KeyHash,
    /// What it may do.
    pub scopes: Scopes,
    /// Requests per second; 0 is unlimited.
    pub rate_limit_per_sec: u32,
    /// From when on it is refused.
    pub expires_at: Option<Timestamp>,
}

/// The credentials of a tenant. Every change writes its audit entry in the same transaction.
pub trait Keys: Send + Sync {
    /// Makes an API key in a project of the tenant.
    fn create(&self, tenant: TenantId, project: ProjectId, key: NewKey, by: By) -> Reply<'_, ApiKey>;

    /// Reads an API key of the tenant, revoked or not.
    fn get(&self, tenant: TenantId, key: KeyId) -> Reply<'_, ApiKey>;

    /// The API keys of a project or of the whole tenant, revoked ones included.
    fn list(
        &self,
        tenant: TenantId,
        project: Option<ProjectId>,
        page: After<KeyId>,
    ) -> Reply<'_, Page<ApiKey>>;

    /// Puts a new key in the place of `key`: same project, name, scopes and limit, no expiry. The old one
    /// works for `grace` longer (or until it would have expired). Returns the new key. `Conflict` when the old one
    /// is revoked, expired or has been replaced already.
    fn rotate(
        &self,
        tenant: TenantId,
        key: KeyId,
        replacement: (KeyId, KeyHash),
        grace: Duration,
        by: By,
    ) -> Reply<'_, Changed<ApiKey>>;

    /// Revokes an API key. Revoking again keeps the first time, and announces the change again.
    fn revoke(&self, tenant: TenantId, key: KeyId, by: By) -> Reply<'_, Changed<ApiKey>>;

    /// Makes a signing key in a project of the tenant. Announced, because nodes remember a project's key sets.
    /// `Conflict` when the project has [`crate::MAX_SIGNING_KEYS`], or [`crate::MAX_KEY_SETS`] sets.
    fn create_signing_key(
        &self,
        tenant: TenantId,
        project: ProjectId,
        key: NewSigningKey,
        by: By,
    ) -> Reply<'_, Changed<SigningKey>>;

    /// The signing keys of a project, revoked ones included.
    fn signing_keys(
        &self,
        tenant: TenantId,
        project: ProjectId,
        page: After<SigningKeyId>,
    ) -> Reply<'_, Page<SigningKey>>;

    /// Revokes a signing key and with it every token that it signed. Revoking again keeps the first
    /// time, and announces the change again.
    fn revoke_signing_key(
        &self,
        tenant: TenantId,
        key: SigningKeyId,
        by: By,
    ) -> Reply<'_, Changed<SigningKey>>;
}
