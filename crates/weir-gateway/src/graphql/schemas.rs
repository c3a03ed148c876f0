//! Topic schemas.

use super::connection::{self, Connection, Edge};
use super::enforced::Enforced;
use super::scalars::{DateTime, Json, Long};
use super::viewer::{Viewer, id};
use crate::rest::invalid;
use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use weir_core::{Pattern, ProjectId};
use weir_engine::admin::permits::{SchemasRead, SchemasWrite};
use weir_engine::admin::{May, Permit};
use weir_engine::{Error, SchemaWish};

/// One version of the schema of a topic or pattern.
#[derive(SimpleObject)]
#[graphql(rename_fields = "snake_case")]
pub(super) struct TopicSchema {
    /// The topics that it holds for.
    pattern: String,
    /// 1, 2, 3 …
    version: Long,
    /// The JSON Schema, as it was sent.
    schema: Json,
    /// Whether it was set although consumers of the version before may not understand what it accepts.
    forced: bool,
    /// When it was set.
    created_at: DateTime,
    /// By whom, as in the audit trail.
    created_by: String,
}

impl From<weir_engine::TopicSchema> for TopicSchema {
    fn from(schema: weir_engine::TopicSchema) -> Self {
        Self {
            pattern: schema.pattern.to_string(),
            version: Long(schema.version.into()),
            schema: Json::text(schema.document),
            forced: schema.forced,
            created_at: schema.created_at.into(),
            created_by: schema.created_by,
        }
    }
}

/// A schema that was set or removed, and where that holds.
#[derive(SimpleObject)]
#[graphql(rename_fields = "snake_case")]
pub(super) struct TopicSchemaChange {
    /// The version that was set, or the one that was in force.
    topic_schema: TopicSchema,
    /// Where it holds already; null when what was sent is in force already.
    enforced: Option<Enforced>,
}

/// A schema to set.
#[derive(InputObject)]
#[graphql(rename_fields = "snake_case")]
pub(super) struct TopicSchemaInput {
    /// The project; an API key's own when absent.
    project_id: Option<ID>,
    /// The topic or pattern that it is to hold for.
    topic: String,
    /// JSON Schema 2020-12, at most 64 KiB, references within it only.
    schema: Json,
    /// Set it even if it accepts what the version before did not.
    #[graphql(default)]
    force: bool,
    /// The version that it is to replace, 0 for none; any when absent.
    replaces: Option<u32>,
}

/// The project that is named, or the API key's own.
fn project<P: Permit>(may: &May<P>, named: Option<&ID>) -> Result<ProjectId, Error> {
    match named {
        Some(named) => id("project_id", named),
        None => may
            .principal()
            .project
            .ok_or_else(|| invalid("project_id", "is needed: the project that you mean")),
    }
}

#[derive(Default)]
pub(super) struct SchemaQuery;

#[Object(rename_args = "snake_case")]
impl SchemaQuery {
    /// The schemas in force in a project, by pattern. Needs `schemas:read`.
    #[graphql(complexity = "connection::cost(first, child_complexity)")]
    async fn topic_schemas(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The project; an API key's own when absent.")] project_id: Option<ID>,
        #[graphql(desc = "How many at most: 1 to 1000, 20 when absent.")] first: Option<i32>,
        #[graphql(desc = "Read on after this cursor of the page before.")] after: Option<String>,
    ) -> Option<Result<Connection<TopicSchema>>> {
        let list = async {
            let viewer = Viewer::of(ctx);
            let may = viewer.may::<SchemasRead>().await?;
            let page = connection::page(first, after.as_deref())?;
            let engine = &viewer.gateway.engine;
            let found = engine.schemas(&may, project(&may, project_id.as_ref())?, page).await?;
            let edge = |schema: weir_engine::TopicSchema| Edge {
                cursor: schema.pattern.to_string(),
                node: schema.into(),
            };
            Ok(Connection::of(found, edge))
        };
        Some(list.await.map_err(|error: Error| error.into()))
    }

    /// The schema that was set for exactly this topic or pattern. Needs `schemas:read`.
    async fn topic_schema(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The topic or pattern.")] topic: String,
        #[graphql(desc = "The project; an API key's own when absent.")] project_id: Option<ID>,
        #[graphql(
            desc = "An older version, also of a schema that was removed; the one in force when absent."
        )]
        version: Option<u32>,
    ) -> Option<Result<TopicSchema>> {
        let read = async {
            let viewer = Viewer::of(ctx);
            let may = viewer.may::<SchemasRead>().await?;
            let (project, pattern) = (project(&may, project_id.as_ref())?, topic.parse::<Pattern>()?);
            Ok(viewer.gateway.engine.schema(&may, project, pattern, version).await?.into())
        };
        Some(read.await.map_err(|error: Error| error.into()))
    }
}

#[derive(Default)]
pub(super) struct SchemaMutation;

#[Object(rename_args = "snake_case")]
impl SchemaMutation {
    /// Set the schema of a topic or pattern: it becomes the next version. One that accepts what the version before did not
    /// is refused, unless forced. Needs `schemas:write`.
    async fn set_topic_schema(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The schema.")] input: TopicSchemaInput,
    ) -> Option<Result<TopicSchemaChange>> {
        Some(set(Viewer::of(ctx), input).await.map_err(Into::into))
    }

    /// Remove the schema of a topic or pattern. Its versions stay readable. Needs `schemas:write`.
    async fn remove_topic_schema(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The topic or pattern.")] topic: String,
        #[graphql(desc = "The project; an API key's own when absent.")] project_id: Option<ID>,
    ) -> Option<Result<TopicSchemaChange>> {
        Some(remove(Viewer::of(ctx), &topic, project_id.as_ref()).await.map_err(Into::into))
    }
}

async fn set(viewer: &Viewer, input: TopicSchemaInput) -> Result<TopicSchemaChange, Error> {
    let may = viewer.may::<SchemasWrite>().await?;
    let project = project(&may, input.project_id.as_ref())?;
    let document = input.schema.as_text();
    let wish =
        SchemaWish { pattern: input.topic.parse()?, document, force: input.force, replaces: input.replaces };
    let engine = &viewer.gateway.engine;
    let set = engine.set_schema(&may, project, wish).await?;
    let enforced = match &set.change {
        Some(change) => Some(engine.enforced(change).await.into()),
        None => None,
    };
    Ok(TopicSchemaChange { topic_schema: set.schema.into(), enforced })
}

async fn remove(viewer: &Viewer, topic: &str, named: Option<&ID>) -> Result<TopicSchemaChange, Error> {
    let may = viewer.may::<SchemasWrite>().await?;
    let (project, engine) = (project(&may, named)?, &viewer.gateway.engine);
    let removed = engine.remove_schema(&may, project, topic.parse()?).await?;
    let enforced = Some(engine.enforced(&removed.change).await.into());
    Ok(TopicSchemaChange { topic_schema: removed.value.into(), enforced })
}
