//! Topic schemas.

use super::Sql;
use super::database::Tx;
use super::value::{Row, args};
use crate::{
    AccessChangeKind, After, By, Changed, NewSchema, Page, Reply, SchemaRoom, SchemaSet, Schemas, StoreError,
    TopicSchema,
};
use serde_json::json;
use weir_core::{Pattern, ProjectId, TenantId};

/// `selected!("…")` reads versions, with the head of their pattern as `h`.
macro_rules! selected {
    ($rest:literal) => {
        concat!(
            "SELECT v.pattern AS pattern, v.version AS version, v.document AS document, v.forced AS forced,
                    v.created_at AS created_at, v.created_by AS created_by
             FROM topic_schemas h JOIN topic_schema_versions v
               ON v.tenant_id = h.tenant_id AND v.project_id = h.project_id AND v.pattern = h.pattern
             WHERE h.tenant_id = $1 AND h.project_id = $2 AND ",
            $rest
        )
    };
}

/// A page's cursor before the first pattern: the empty text is none.
fn start(after: Option<Pattern>) -> String {
    after.map_or_else(String::new, |pattern| pattern.as_str().to_owned())
}

fn topic_schema(row: &Row) -> Result<TopicSchema, StoreError> {
    Ok(TopicSchema {
        pattern: row.get("pattern")?,
        version: row.get("version")?,
        document: row.get("document")?,
        forced: row.get::<i64>("forced")? != 0,
        created_at: row.get("created_at")?,
        created_by: row.get("created_by")?,
    })
}

/// The newest version of a pattern, in force or not.
struct Head {
    version: u32,
    removed: bool,
}

impl Tx {
    /// Changes to the schemas of a project queue here: its row is locked until the commit.
    async fn lock_schemas(&mut self, tenant: TenantId, project: ProjectId) -> Result<(), StoreError> {
        self.hold_project(tenant, project).await
    }

    async fn schema_head(
        &mut self,
        tenant: TenantId,
        project: ProjectId,
        pattern: &Pattern,
    ) -> Result<Option<Head>, StoreError> {
        let row = self
            .fetch_optional(
                "SELECT version, removed_at FROM topic_schemas
                 WHERE tenant_id = $1 AND project_id = $2 AND pattern = $3",
                args![tenant, project, pattern.clone()],
            )
            .await?;
        let Some(row) = row else { return Ok(None) };
        let removed = row.get::<Option<i64>>("removed_at")?.is_some();
        Ok(Some(Head { version: row.get("version")?, removed }))
    }

    /// How many schemas are in force beside this pattern's, and their bytes.
    async fn other_schemas(
        &mut self,
        tenant: TenantId,
        project: ProjectId,
        pattern: &Pattern,
    ) -> Result<(u64, u64), StoreError> {
        let row = self
            .fetch(
                "project",
                "SELECT count(*) AS schemas, CAST(coalesce(sum(v.bytes), 0) AS BIGINT) AS bytes
                 FROM topic_schemas h JOIN topic_schema_versions v
                   ON v.tenant_id = h.tenant_id AND v.project_id = h.project_id AND v.pattern = h.pattern
                  AND v.version = h.version
                 WHERE h.tenant_id = $1 AND h.project_id = $2 AND h.removed_at IS NULL AND h.pattern <> $3",
                args![tenant, project, pattern.clone()],
            )
            .await?;
        let count = |column| Ok::<_, StoreError>(row.get::<i64>(column)?.try_into().unwrap_or(0));
        Ok((count("schemas")?, count("bytes")?))
    }

    /// Forgets the oldest versions that are in force no more, beyond so many of the project.
    async fn forget_old_schemas(
        &mut self,
        tenant: TenantId,
        project: ProjectId,
        kept: u32,
    ) -> Result<(), StoreError> {
        const FORGET: &str = "DELETE FROM topic_schema_versions
             WHERE tenant_id = $1 AND project_id = $2 AND (pattern, version) IN (
                 SELECT v.pattern, v.version FROM topic_schema_versions v JOIN topic_schemas h
                   ON h.tenant_id = v.tenant_id AND h.project_id = v.project_id AND h.pattern = v.pattern
                 WHERE v.tenant_id = $1 AND v.project_id = $2 AND NOT (h.removed_at IS NULL AND h.version = v.version)
                 ORDER BY v.created_at DESC, v.version DESC, v.pattern LIMIT 1000000 OFFSET $3)";
        self.execute(FORGET, args![tenant, project, kept]).await.map(drop)
    }

    async fn insert_schema(
        &mut self,
        tenant: TenantId,
        project: ProjectId,
        schema: &TopicSchema,
    ) -> Result<(), StoreError> {
        self.execute(
            "INSERT INTO topic_schemas (tenant_id, project_id, pattern, version) VALUES ($1, $2, $3, $4)
             ON CONFLICT (tenant_id, project_id, pattern)
             DO UPDATE SET version = excluded.version, removed_at = NULL",
            args![tenant, project, schema.pattern.clone(), schema.version],
        )
        .await?;
        self.execute(
            "INSERT INTO topic_schema_versions
                 (tenant_id, project_id, pattern, version, document, bytes, forced, created_at, created_by)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            args![
                tenant,
                project,
                schema.pattern.clone(),
                schema.version,
                schema.document.clone(),
                i64::try_from(schema.document.len()).unwrap_or(i64::MAX),
                i64::from(schema.forced),
                schema.created_at,
                schema.created_by.clone()
            ],
        )
        .await
        .map(drop)
    }
}

impl Schemas for Sql {
    fn in_force(&self, tenant: TenantId, project: ProjectId) -> Reply<'_, Vec<TopicSchema>> {
        const READ: &str = selected!("h.removed_at IS NULL AND v.version = h.version ORDER BY h.pattern");
        self.call(async move {
            let rows = self.database.fetch_all(tenant, READ, args![tenant, project]).await?;
            rows.iter().map(topic_schema).collect()
        })
    }

    fn list(
        &self,
        tenant: TenantId,
        project: ProjectId,
        page: After<Pattern>,
    ) -> Reply<'_, Page<TopicSchema>> {
        const LIST: &str = selected!(
            "h.removed_at IS NULL AND v.version = h.version AND h.pattern > $3 ORDER BY h.pattern LIMIT $4"
        );
        self.call(async move {
            let args = args![tenant, project, start(page.after.clone()), page.fetch_limit()];
            let rows = self.database.fetch_all(tenant, LIST, args).await?;
            Ok(Page::cut(rows.iter().map(topic_schema).collect::<Result<_, _>>()?, &page))
        })
    }

    fn get(
        &self,
        tenant: TenantId,
        project: ProjectId,
        pattern: Pattern,
        version: Option<u32>,
    ) -> Reply<'_, TopicSchema> {
        const IN_FORCE: &str = selected!("h.pattern = $3 AND h.removed_at IS NULL AND v.version = h.version");
        const VERSION: &str = selected!("h.pattern = $3 AND v.version = $4");
        self.call(async move {
            let row = match version {
                None => {
                    self.database.fetch_optional(tenant, IN_FORCE, args![tenant, project, pattern]).await?
                }
                Some(version) => {
                    let args = args![tenant, project, pattern, version];
                    self.database.fetch_optional(tenant, VERSION, args).await?
                }
            };
            topic_schema(&row.ok_or(StoreError::NotFound("schema"))?)
        })
    }

    fn versions(
        &self,
        tenant: TenantId,
        project: ProjectId,
        pattern: Pattern,
        page: After<u32>,
    ) -> Reply<'_, Page<TopicSchema>> {
        const LIST: &str = selected!("h.pattern = $3 AND v.version > $4 ORDER BY v.version LIMIT $5");
        self.call(async move {
            let args = args![tenant, project, pattern, page.after.unwrap_or(0), page.fetch_limit()];
            let rows = self.database.fetch_all(tenant, LIST, args).await?;
            Ok(Page::cut(rows.iter().map(topic_schema).collect::<Result<_, _>>()?, &page))
        })
    }

    fn set(
        &self,
        tenant: TenantId,
        project: ProjectId,
        new: NewSchema,
        room: SchemaRoom,
        by: By,
    ) -> Reply<'_, SchemaSet> {
        self.call(async move {
            let mut tx = self.database.begin(tenant).await?;
            tx.lock_schemas(tenant, project).await?;
            let head = tx.schema_head(tenant, project, &new.pattern).await?;
            if head.as_ref().filter(|head| !head.removed).map(|head| head.version) != new.replaces {
                return Ok(SchemaSet::Superseded);
            }
            let (schemas, bytes) = tx.other_schemas(tenant, project, &new.pattern).await?;
            if schemas >= u64::from(room.schemas) {
                return Ok(SchemaSet::TooMany);
            }
            let bytes = bytes + new.document.len() as u64;
            if bytes > u64::from(room.bytes) {
                return Ok(SchemaSet::TooLarge(bytes));
            }
            let value = TopicSchema {
                pattern: new.pattern,
                version: head.map_or(0, |head| head.version) + 1,
                document: new.document,
                forced: new.forced,
                created_at: by.at,
                created_by: by.actor.clone(),
            };
            tx.insert_schema(tenant, project, &value).await?;
            tx.forget_old_schemas(tenant, project, room.old).await?;
            let details = json!({
                "pattern": value.pattern, "version": value.version, "forced": value.forced,
            });
            let change = tx.change_access(tenant, AccessChangeKind::SchemaSet, project, details, &by).await?;
            tx.commit().await?;
            Ok(SchemaSet::Done(Changed { value, change }))
        })
    }

    fn remove(
        &self,
        tenant: TenantId,
        project: ProjectId,
        pattern: Pattern,
        by: By,
    ) -> Reply<'_, Changed<TopicSchema>> {
        const LAST: &str = selected!("h.pattern = $3 AND v.version = h.version");
        self.call(async move {
            let mut tx = self.database.begin(tenant).await?;
            tx.lock_schemas(tenant, project).await?;
            tx.fetch(
                "schema",
                "UPDATE topic_schemas SET removed_at = $4
                 WHERE tenant_id = $1 AND project_id = $2 AND pattern = $3 AND removed_at IS NULL
                 RETURNING version",
                args![tenant, project, pattern.clone(), by.at],
            )
            .await?;
            let row = tx.fetch("schema", LAST, args![tenant, project, pattern]).await?;
            let value = topic_schema(&row)?;
            let details = json!({ "pattern": value.pattern, "version": value.version });
            let kind = AccessChangeKind::SchemaRemoved;
            let change = tx.change_access(tenant, kind, project, details, &by).await?;
            tx.commit().await?;
            Ok(Changed { value, change })
        })
    }
}
