//! The calls that cross tenants: finding who a credential belongs to, and running the installation.

use crate::{
    AccessChange, After, ApiKey, By, NewKey, NewSigningKey, Page, Project, Reply, SigningKey, Tenant,
};
use weir_core::{KeyId, PlanName, ProjectId, SigningKeyId, TenantId};

/// Everything about tenant and project that deciding on a request takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// The tenant, with status, limits, stream and access version.
    pub tenant: Tenant,
    /// The project.
    pub project: Project,
}

/// A credential with what it opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential<K> {
    /// The key: an [`ApiKey`] or a [`SigningKey`].
    pub key: K,
    /// What it opens.
    pub access: Access,
}

/// What to set up for a newcomer. Ids are proposals: an existing tenant or project keeps its own.
#[derive(Clone, Debug)]
pub struct Bootstrap {
    /// The tenant's name.
    pub tenant_name: String,
    /// The project's name.
    pub project_name: String,
    /// The plan of the tenant, if it is new.
    pub plan: PlanName,
    /// The API key to make, always.
    pub key: NewKey,
    /// The signing key to make if the project has none that is not revoked.
    pub signing_key: NewSigningKey,
}

/// What a bootstrap led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bootstrapped {
    /// Tenant and project, new or found.
    pub access: Access,
    /// The new API key.
    pub key: ApiKey,
    /// The project's newest signing key; it is the proposed one if the ids are equal.
    pub signing_key: SigningKey,
}

/// Calls that name no tenant, or any.
pub trait Directory: Send + Sync {
    /// The API key with this id and what it opens, in one query; revoked and expired ones too, so that
    /// the caller can say which. This is all that authenticating a key asks of the database.
    fn key(&self, key: KeyId) -> Reply<'_, Option<Credential<ApiKey>>>;

    /// The same for a signing key.
    fn signing_key(&self, key: SigningKeyId) -> Reply<'_, Option<Credential<SigningKey>>>;

    /// The sets of keys (JWKS) that sign tokens of a project, each with what it opens; none that is revoked, and none
    /// of a project that does not exist.
    fn key_sets(&self, project: ProjectId) -> Reply<'_, Vec<Credential<SigningKey>>>;

    /// The same as for a key, for a caller whose tenant and project are known already (a redeemed ticket).
    fn access(&self, tenant: TenantId, project: ProjectId) -> Reply<'_, Option<Access>>;

    /// The project with this id, whosever it is.
    fn project(&self, project: ProjectId) -> Reply<'_, Option<Project>>;

    /// Of each tenant whose id lies between these two, both included, the first `each` projects: one query for a page of
    /// tenants.
    fn first_projects(&self, from: TenantId, to: TenantId, each: u32) -> Reply<'_, Vec<Project>>;

    /// All tenants.
    fn tenants(&self, page: After<TenantId>) -> Reply<'_, Page<Tenant>>;

    /// The tenant of this name.
    fn tenant_by_name(&self, name: String) -> Reply<'_, Option<Tenant>>;

    /// Finds or makes tenant and project by name, and makes a key, in one transaction: any number at once
    /// agree on the tenant, the project and the signing key.
    fn bootstrap(&self, wanted: Bootstrap, by: By) -> Reply<'_, Bootstrapped>;

    /// The last access change, 0 before the first: where a node that has cached nothing starts reading.
    fn access_head(&self) -> Reply<'_, i64>;

    /// The access changes after `seq`, in order, at most `limit`.
    fn access_changes_after(&self, seq: i64, limit: u32) -> Reply<'_, Vec<AccessChange>>;
}
