//! What is kept.

use super::connection::{self, Connection, Edge};
use super::scalars::{DateTime, Long};
use super::viewer::{Viewer, tenant_or_own};
use async_graphql::{Context, ID, Object, Result, SimpleObject};
use weir_core::ProjectId;
use weir_engine::admin::Storage as Kept;
use weir_engine::admin::permits::TenantRead;
use weir_engine::{Error, Page};

/// Events that a project keeps, and the bounds that hold for them.
#[derive(SimpleObject)]
#[graphql(rename_fields = "snake_case")]
pub(super) struct ProjectStorage {
    /// Which project.
    project_id: ID,
    /// How many events.
    events: Long,
    /// Their bytes: payload, id, topic, type and headers of each.
    bytes: Long,
    /// When the oldest was accepted; absent when nothing is kept, and for some seconds after the first event.
    oldest_event_at: Option<DateTime>,
    /// Seconds for which events are kept; 0 is as long as there is room.
    retention_seconds: Long,
    /// Bytes that are kept; 0 is as much as there is room.
    retention_bytes: Long,
}

/// Events that a tenant keeps in all its projects, and the bounds that hold for them.
#[derive(SimpleObject)]
#[graphql(rename_fields = "snake_case")]
pub(super) struct Storage {
    /// Whose.
    tenant_id: ID,
    /// How many events.
    events: Long,
    /// Their bytes: payload, id, topic, type and headers of each.
    bytes: Long,
    /// When the oldest was accepted; absent when nothing is kept, and for some seconds after the first event.
    oldest_event_at: Option<DateTime>,
    /// Seconds for which events are kept; 0 is as long as there is room.
    retention_seconds: Long,
    /// Bytes that are kept; 0 is as much as there is room.
    retention_bytes: Long,
    /// The same by project.
    projects: Connection<ProjectStorage>,
}

#[derive(Default)]
pub(super) struct StorageQuery;

#[Object(rename_args = "snake_case")]
impl StorageQuery {
    /// What a tenant stores, as it was counted some seconds ago. Needs `tenant:read`.
    #[graphql(complexity = "connection::cost(first, child_complexity)")]
    async fn storage(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The tenant; your own when absent.")] tenant_id: Option<ID>,
        #[graphql(desc = "How many projects at most: 1 to 1000, 20 when absent.")] first: Option<i32>,
        #[graphql(desc = "Read on after this cursor of the page of projects before.")] after: Option<String>,
    ) -> Option<Result<Storage>> {
        Some(report(Viewer::of(ctx), tenant_id, first, after).await.map_err(Into::into))
    }
}

async fn report(
    viewer: &Viewer,
    tenant: Option<ID>,
    first: Option<i32>,
    after: Option<String>,
) -> Result<Storage, Error> {
    let may = viewer.may::<TenantRead>().await?;
    let tenant = tenant_or_own(&may, tenant.as_ref().map(|tenant| tenant.as_str()))?;
    let page = connection::page(first, after.as_deref())?;
    let report = viewer.gateway.engine.storage(&may, tenant, page).await?;
    let Kept { kept, oldest_at, bound } = report.total;
    let edge = |(project, storage): (ProjectId, Kept)| {
        let Kept { kept, oldest_at, bound } = storage;
        let node = ProjectStorage {
            project_id: project.to_string().into(),
            events: Long(kept.events),
            bytes: Long(kept.bytes),
            oldest_event_at: oldest_at.map(DateTime::from),
            retention_seconds: Long(bound.seconds),
            retention_bytes: Long(bound.bytes),
        };
        Edge { cursor: project.to_string(), node }
    };
    let projects: Page<(ProjectId, Kept)> = report.projects;
    Ok(Storage {
        tenant_id: tenant.to_string().into(),
        events: Long(kept.events),
        bytes: Long(kept.bytes),
        oldest_event_at: oldest_at.map(DateTime::from),
        retention_seconds: Long(bound.seconds),
        retention_bytes: Long(bound.bytes),
        projects: Connection::of(projects, edge),
    })
}
