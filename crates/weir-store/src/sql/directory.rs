//! The calls that cross tenants.

use super::columns::{columns, key_columns, project_columns, signing_key_columns, tenant_columns};
use super::database::{Scope, Tx};
use super::value::{Row, args};
use super::{Sql, access, keys, signing, tenants};
use crate::{
    Access, AccessChange, AccessChangeKind, After, ApiKey, Bootstrap, Bootstrapped, By, Credential,
    Directory, MAX_KEY_SETS, MAX_PAGE, NewSigningKey, NewTenant, Overrides, Page, Project, Reply, SigningKey,
    StoreError, Tenant, TenantStatus,
};
use uuid::Uuid;
use weir_core::{KeyId, ProjectId, SigningKeyId, TenantId};

const KEY: &str = concat!(
    "SELECT ",
    key_columns!("k."),
    ", ",
    project_columns!("p."),
    ", ",
    tenant_columns!("t."),
    " FROM api_keys k
      JOIN projects p ON p.tenant_id = k.tenant_id AND p.id = k.project_id
      JOIN tenants t ON t.id = k.tenant_id
      WHERE k.id = $1 AND p.deleted_at IS NULL AND t.deleted_at IS NULL"
);

const SIGNING_KEY: &str = concat!(
    "SELECT ",
    signing_key_columns!("s."),
    ", ",
    project_columns!("p."),
    ", ",
    tenant_columns!("t."),
    " FROM signing_keys s
      JOIN projects p ON p.tenant_id = s.tenant_id AND p.id = s.project_id
      JOIN tenants t ON t.id = s.tenant_id
      WHERE s.id = $1 AND p.deleted_at IS NULL AND t.deleted_at IS NULL"
);

const KEY_SETS: &str = concat!(
    "SELECT ",
    signing_key_columns!("s."),
    ", ",
    project_columns!("p."),
    ", ",
    tenant_columns!("t."),
    " FROM signing_keys s
      JOIN projects p ON p.tenant_id = s.tenant_id AND p.id = s.project_id
      JOIN tenants t ON t.id = s.tenant_id
      WHERE p.id = $1 AND s.kind IN ('jwks', 'jwks_url') AND s.revoked_at IS NULL
        AND p.deleted_at IS NULL AND t.deleted_at IS NULL
      ORDER BY s.id LIMIT $2"
);

const ACCESS: &str = concat!(
    "SELECT ",
    project_columns!("p."),
    ", ",
    tenant_columns!("t."),
    " FROM projects p JOIN tenants t ON t.id = p.tenant_id
      WHERE p.tenant_id = $1 AND p.id = $2 AND p.deleted_at IS NULL AND t.deleted_at IS NULL"
);

fn access_of(row: &Row) -> Result<Access, StoreError> {
    Ok(Access { tenant: tenants::tenant(row)?, project: tenants::project(row)? })
}

impl Tx {
    /// The project's newest signing secret that is not revoked, or else the proposed one. The caller holds the
    /// project's row, so no other bootstrap is between looking and making.
    async fn signing_key_or(
        &mut self,
        access: &Access,
        proposed: NewSigningKey,
        by: &By,
    ) -> Result<SigningKey, StoreError> {
        const NEWEST: &str = concat!(
            "SELECT ",
            signing_key_columns!(""),
            " FROM signing_keys
             WHERE tenant_id = $1 AND project_id = $2 AND kind = 'secret' AND revoked_at IS NULL
             ORDER BY id DESC LIMIT 1"
        );
        let (tenant, project) = (access.tenant.id, access.project.id);
        match self.fetch_optional(NEWEST, args![tenant, project]).await? {
            Some(row) => signing::signing_key(&row),
            None => {
                let (id, details) = (proposed.id, signing::details(project, &proposed));
                let made = self.insert_signing_key(tenant, project, proposed, by).await?;
                self.record(tenant, AccessChangeKind::SigningKeyCreated.as_str(), id, details, by).await?;
                Ok(made)
            }
        }
    }
}

impl Directory for Sql {
    fn key(&self, key: KeyId) -> Reply<'_, Option<Credential<ApiKey>>> {
        self.call(async move {
            let Some(row) = self.database.fetch_optional(Scope::Operator, KEY, args![key]).await? else {
                return Ok(None);
            };
            Ok(Some(Credential { key: keys::api_key(&row)?, access: access_of(&row)? }))
        })
    }

    fn signing_key(&self, key: SigningKeyId) -> Reply<'_, Option<Credential<SigningKey>>> {
        self.call(async move {
            let Some(row) = self.database.fetch_optional(Scope::Operator, SIGNING_KEY, args![key]).await?
            else {
                return Ok(None);
            };
            Ok(Some(Credential { key: signing::signing_key(&row)?, access: access_of(&row)? }))
        })
    }

    fn key_sets(&self, project: ProjectId) -> Reply<'_, Vec<Credential<SigningKey>>> {
        self.call(async move {
            let rows =
                self.database.fetch_all(Scope::Operator, KEY_SETS, args![project, MAX_KEY_SETS]).await?;
            let found = |row| Ok(Credential { key: signing::signing_key(row)?, access: access_of(row)? });
            rows.iter().map(found).collect()
        })
    }

    fn access(&self, tenant: TenantId, project: ProjectId) -> Reply<'_, Option<Access>> {
        self.call(async move {
            let row = self.database.fetch_optional(Scope::Operator, ACCESS, args![tenant, project]).await?;
            row.as_ref().map(access_of).transpose()
        })
    }

    fn project(&self, project: ProjectId) -> Reply<'_, Option<Project>> {
        const FIND: &str =
            concat!("SELECT ", project_columns!(""), " FROM projects WHERE id = $1 AND deleted_at IS NULL");
        self.call(async move {
            let row = self.database.fetch_optional(Scope::Operator, FIND, args![project]).await?;
            row.as_ref().map(tenants::project).transpose()
        })
    }

    fn first_projects(&self, from: TenantId, to: TenantId, each: u32) -> Reply<'_, Vec<Project>> {
        const LIST: &str = concat!(
            "SELECT ",
            project_columns!(""),
            " FROM (SELECT *, row_number() OVER (PARTITION BY tenant_id ORDER BY id) AS place
                    FROM projects WHERE tenant_id BETWEEN $1 AND $2 AND deleted_at IS NULL) AS placed
              WHERE place <= $3 ORDER BY tenant_id, id"
        );
        self.call(async move {
            let rows = self.database.fetch_all(Scope::Operator, LIST, args![from, to, each]).await?;
            rows.iter().map(tenants::project).collect()
        })
    }

    fn tenants(&self, page: After<TenantId>) -> Reply<'_, Page<Tenant>> {
        const LIST: &str = concat!(
            "SELECT ",
            tenant_columns!(""),
            " FROM tenants WHERE id > $1 AND deleted_at IS NULL ORDER BY id LIMIT $2"
        );
        self.call(async move {
            let after = page.after.map_or(Uuid::nil(), TenantId::uuid);
            let rows =
                self.database.fetch_all(Scope::Operator, LIST, args![after, page.fetch_limit()]).await?;
            Ok(Page::cut(rows.iter().map(tenants::tenant).collect::<Result<_, _>>()?, &page))
        })
    }

    fn tenant_by_name(&self, name: String) -> Reply<'_, Option<Tenant>> {
        const FIND: &str = concat!("SELECT ", tenant_columns!(""), " FROM tenants WHERE name = $1");
        self.call(async move {
            let row = self.database.fetch_optional(Scope::Operator, FIND, args![name]).await?;
            row.as_ref().map(tenants::tenant).transpose()
        })
    }

    fn bootstrap(&self, wanted: Bootstrap, by: By) -> Reply<'_, Bootstrapped> {
        self.call(async move {
            let proposed = NewTenant {
                id: TenantId::new(),
                name: wanted.tenant_name,
                plan: wanted.plan,
                overrides: Overrides::default(),
                status: TenantStatus::Active,
            };
            let mut tx = self.database.begin(Scope::Operator).await?;
            let tenant = tx.tenant_named(&proposed, &by).await?;
            let project = tx.project_named(tenant.id, ProjectId::new(), wanted.project_name, &by).await?;
            let access = Access { tenant, project };
            let signing_key = tx.signing_key_or(&access, wanted.signing_key, &by).await?;
            let key = tx.insert_key(access.tenant.id, access.project.id, wanted.key, &by).await?;
            tx.commit().await?;
            Ok(Bootstrapped { access, key, signing_key })
        })
    }

    fn access_head(&self) -> Reply<'_, i64> {
        self.call(async {
            let row = self
                .database
                .fetch_optional(Scope::Operator, "SELECT max(seq) AS seq FROM access_changes", args![])
                .await?;
            match row {
                Some(row) => Ok(row.get::<Option<i64>>("seq")?.unwrap_or(0)),
                None => Ok(0),
            }
        })
    }

    fn access_changes_after(&self, seq: i64, limit: u32) -> Reply<'_, Vec<AccessChange>> {
        self.call(async move {
            let rows = self
                .database
                .fetch_all(
                    Scope::Operator,
                    "SELECT seq, tenant_id, at, kind, subject FROM access_changes
                     WHERE seq > $1 ORDER BY seq LIMIT $2",
                    args![seq, limit.clamp(1, MAX_PAGE)],
                )
                .await?;
            rows.iter().map(access::change).collect()
        })
    }
}
