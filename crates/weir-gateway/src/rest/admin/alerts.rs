//! `/v1/admin/alerts`.

use super::list::page;
use super::{Admin, Id};
use crate::error::{ErrorBody, Failure};
use crate::query::Query;
use crate::state::Gateway;
use axum::Json;
use axum::extract::{RawQuery, State};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;
use weir_core::{AlertId, Severity, TenantId, Timestamp};
use weir_engine::admin::permits::{AlertsRead, AlertsWrite};
use weir_engine::{Alert, AlertFilter, AlertState, Engine, Error};

/// Something that is wrong, or was.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AlertBody {
    /// Its id.
    #[schema(value_type = String, example = "alt_0190f5d2a6b07c3e8f4b1d2c3a495867")]
    id: AlertId,
    /// Whose it is; null is the installation's own.
    #[schema(value_type = Option<String>)]
    tenant_id: Option<TenantId>,
    /// What kind of thing is wrong.
    #[schema(example = "auth-failures")]
    condition: String,
    /// With what: the id of a tenant, project or node, or `installation`.
    subject: String,
    /// How bad it was at its worst: `info`, `warning`, `critical`.
    #[schema(value_type = String, example = "warning")]
    severity: Severity,
    /// `raised`, `acknowledged` or `resolved`.
    #[schema(value_type = String, example = "raised")]
    state: AlertState,
    /// What is wrong, in a sentence.
    message: String,
    /// What was measured.
    value: String,
    /// What it should not exceed, or fall short of.
    limit: String,
    /// What to do first.
    fix: &'static str,
    /// What to do in detail.
    runbook: String,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    first_seen_at: Timestamp,
    /// When it was written last that it goes on; at most a third of its hold time ago while it does.
    #[schema(value_type = String, format = DateTime)]
    last_seen_at: Timestamp,
    /// How often it happened, or began again, since then, on all nodes.
    occurrences: u64,
    /// When somebody said to look after it.
    #[schema(value_type = Option<String>, format = DateTime)]
    acknowledged_at: Option<Timestamp>,
    /// Who, as the audit trail names them.
    acknowledged_by: Option<String>,
    /// When it was over.
    #[schema(value_type = Option<String>, format = DateTime)]
    resolved_at: Option<Timestamp>,
}

impl AlertBody {
    fn of(alert: Alert, engine: &Engine) -> Self {
        let (state, (fix, runbook)) = (alert.state(), engine.advice(&alert));
        Self {
            id: alert.id,
            tenant_id: alert.tenant_id,
            condition: alert.condition,
            subject: alert.subject,
            severity: alert.severity,
            state,
            message: alert.message,
            value: alert.value,
            limit: alert.limit,
            fix,
            runbook,
            first_seen_at: alert.first_seen_at,
            last_seen_at: alert.last_seen_at,
            occurrences: alert.occurrences,
            acknowledged_at: alert.acknowledged_at,
            acknowledged_by: alert.acknowledged_by,
            resolved_at: alert.resolved_at,
        }
    }
}

/// A page of alerts.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AlertPage {
    /// The alerts, newest first.
    data: Vec<AlertBody>,
    /// Ask on with `cursor` set to this.
    next_cursor: Option<String>,
    /// Whether there are more.
    has_more: bool,
}

fn filter(query: &Query) -> Result<AlertFilter, Error> {
    Ok(AlertFilter {
        tenant: query.parsed("tenant_id", "a tenant id (`ten_…`)")?,
        states: query.parsed("state", "open, raised, acknowledged or resolved")?,
        severity: query.parsed("severity", "info, warning or critical")?,
    })
}

/// List alerts.
///
/// Newest first. A tenant's people see the tenant's, operators all of them and the installation's own.
#[utoipa::path(get, path = "/v1/admin/alerts", tag = "admin", extensions(("x-permission" = json!("alerts:read"))),
    params(("state" = Option<String>, Query, description = "`open` (not over), `raised`, `acknowledged` or `resolved`; all when absent"),
        ("severity" = Option<String>, Query, description = "Only `info`, `warning` or `critical`"),
        ("tenant_id" = Option<String>, Query, description = "Operators: only this tenant's"),
        ("limit" = Option<u32>, Query, description = "1 to 1000, 100 when absent", minimum = 1, maximum = 1000),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before")),
    responses((status = 200, body = AlertPage), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn list(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<AlertsRead>,
    RawQuery(query): RawQuery,
) -> Result<Json<AlertPage>, Failure> {
    let query = Query::parse(query.as_deref());
    let found = async { gateway.engine.list_alerts(&admin.0, filter(&query)?, page(&query)?).await };
    let found = found.await.map_err(|error| admin.fail(error))?;
    let last = found.items.last().map(|alert| alert.id.to_string());
    Ok(Json(AlertPage {
        next_cursor: last.filter(|_| found.has_more),
        has_more: found.has_more,
        data: found.items.into_iter().map(|alert| AlertBody::of(alert, &gateway.engine)).collect(),
    }))
}

/// Acknowledge an alert.
///
/// Says that somebody looks after it. It stays open until it is over.
#[utoipa::path(post, path = "/v1/admin/alerts/{id}/acknowledge", tag = "admin", extensions(("x-permission" = json!("alerts:write"))),
    params(("id" = String, Path, description = "The alert"),
        ("Idempotency-Key" = Option<String>, Header, description = "Copies of the request with the same key change nothing more")),
    responses((status = 200, body = AlertBody), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody),
        (status = 503, body = ErrorBody)))]
pub(crate) async fn acknowledge(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<AlertsWrite>,
    Id(id): Id<AlertId>,
) -> Result<Json<AlertBody>, Failure> {
    let alert = gateway.engine.acknowledge_alert(&admin.0, id).await.map_err(|error| admin.fail(error))?;
    Ok(Json(AlertBody::of(alert, &gateway.engine)))
}
