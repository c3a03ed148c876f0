//! The audit trail.

use super::connection::{self, Connection, Edge};
use super::scalars::{DateTime, Json, Long};
use super::viewer::{Viewer, id};
use crate::rest::invalid;
use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use weir_engine::admin::permits::AuditRead;
use weir_engine::audit::{Entry, Filter, hex};
use weir_engine::{After, Error};

/// An entry of the audit trail.
#[derive(SimpleObject)]
#[graphql(rename_fields = "snake_case")]
pub(super) struct AuditEntry {
    /// Its place in the tenant's chain: 1, 2, 3, … without a gap.
    sequence: Long,
    /// When.
    at: DateTime,
    /// Who: `key:key_…`, `member:usr_…`, `cli`, `system`.
    actor: String,
    /// What was done.
    action: String,
    /// To what: an id.
    target: String,
    /// What else is worth knowing.
    details: Json,
    /// The SHA-256 that the next entry continues, 64 hex digits.
    hash: String,
}

impl From<Entry> for AuditEntry {
    fn from(entry: Entry) -> Self {
        Self {
            sequence: Long(u64::try_from(entry.sequence).unwrap_or(0)),
            at: entry.at.into(),
            actor: entry.actor,
            action: entry.action,
            target: entry.target,
            details: Json::text(entry.details),
            hash: hex::text(&entry.hash),
        }
    }
}

/// Which entries: those to which everything that is given applies.
#[derive(InputObject, Default)]
#[graphql(rename_fields = "snake_case")]
pub(super) struct AuditFilter {
    /// What was done.
    action: Option<String>,
    /// By whom.
    actor: Option<String>,
    /// To what.
    target: Option<String>,
    /// Not before.
    from: Option<DateTime>,
    /// Before.
    to: Option<DateTime>,
}

#[derive(Default)]
pub(super) struct AuditQuery;

#[Object(rename_args = "snake_case")]
impl AuditQuery {
    /// The audit trail, oldest first: your tenant's, or the installation's for operators who name no tenant. Needs
    /// `audit:read`.
    #[graphql(complexity = "connection::cost(first, child_complexity)")]
    async fn audit(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The tenant; your own when absent.")] tenant_id: Option<ID>,
        #[graphql(desc = "Which entries; all when absent.")] filter: Option<AuditFilter>,
        #[graphql(desc = "How many at most: 1 to 1000, 20 when absent.")] first: Option<i32>,
        #[graphql(desc = "Read on after this cursor of the page before.")] after: Option<String>,
    ) -> Option<Result<Connection<AuditEntry>>> {
        let list = async {
            let viewer = Viewer::of(ctx);
            let may = viewer.may::<AuditRead>().await?;
            let tenant = tenant_id.map(|tenant| id("tenant_id", &tenant)).transpose()?;
            let after = after.map(|after| after.parse()).transpose();
            let after = after.map_err(|_| invalid("after", "must be a cursor of the page before"))?;
            let limit = u32::try_from(connection::first(first)?).unwrap_or(u32::MAX);
            let filter = filter.unwrap_or_default();
            let filter = Filter {
                action: filter.action,
                actor: filter.actor,
                target: filter.target,
                from: filter.from.map(|time| time.0),
                to: filter.to.map(|time| time.0),
            };
            let page = viewer.gateway.engine.audit(&may, tenant, filter, After { after, limit }).await?;
            let edge = |entry: Entry| Edge { cursor: entry.sequence.to_string(), node: entry.into() };
            Ok(Connection::of(page, edge))
        };
        Some(list.await.map_err(|error: Error| error.into()))
    }
}
