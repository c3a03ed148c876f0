//! `/v1/billing/usage`.

use crate::error::{ErrorBody, Failure};
use crate::query::Query;
use crate::rest::admin::Admin;
use crate::rest::admin::list::{List, page};
use crate::rest::invalid;
use crate::state::Gateway;
use axum::Json;
use axum::extract::{RawQuery, State};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;
use weir_core::{NodeId, ProjectId, Timestamp};
use weir_engine::admin::permits::BillingRead;
use weir_engine::billing::{Explained, Explanation, UsageLine, UsageQuery, Window};
use weir_engine::{Error, Metric};

/// What was used of one metric in one window.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UsageBody {
    /// `events_published`, `events_delivered`, `websocket_minutes` (of connections over every transport) or
    /// `api_requests`.
    #[schema(value_type = String, example = "events_published")]
    metric: Metric,
    /// The window's start.
    #[schema(value_type = String, format = DateTime)]
    window_start: Timestamp,
    /// Its end.
    #[schema(value_type = String, format = DateTime)]
    window_end: Timestamp,
    /// How much: events, minutes or requests.
    quantity: u64,
    /// Whether the window is closed: the number stays.
    complete: bool,
}

impl From<UsageLine> for UsageBody {
    fn from(line: UsageLine) -> Self {
        let UsageLine { window_start, window_end, metric, quantity, complete } = line;
        Self { metric, window_start, window_end, quantity, complete }
    }
}

/// A piece of a number: events that stand in the log, or the batches of a node.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "source", rename_all = "snake_case")]
pub(crate) enum PieceBody {
    /// Events of a project that follow on each other in the log.
    Log {
        /// Of which project.
        #[schema(value_type = String)]
        project_id: ProjectId,
        /// The start of the hour.
        #[schema(value_type = String, format = DateTime)]
        window_start: Timestamp,
        /// How many events.
        quantity: u64,
        /// Which incarnation of the log.
        epoch: String,
        /// The sequence of the first.
        first_sequence: u64,
        /// The sequence of the last; every event of the project between them belongs to this hour.
        last_sequence: u64,
        /// How many there were when they were counted again. Null before that, and when they had left the log.
        recounted: Option<u64>,
        /// When they were counted again.
        #[schema(value_type = Option<String>, format = DateTime)]
        recounted_at: Option<Timestamp>,
        /// `quantity` less `recounted`: 0, or something is wrong.
        drift: Option<i64>,
    },
    /// What one node (one run of one process) told, in batches that each count once.
    Node {
        /// In which project; null for requests that belong to none.
        #[schema(value_type = Option<String>)]
        project_id: Option<ProjectId>,
        /// The start of the hour.
        #[schema(value_type = String, format = DateTime)]
        window_start: Timestamp,
        /// How much they add up to.
        quantity: u64,
        /// Which node.
        #[schema(value_type = String)]
        node_id: NodeId,
        /// The number of its first batch in this hour.
        first_batch: u64,
        /// The number of its last.
        last_batch: u64,
        /// How many of them had something to add.
        batches: u64,
    },
}

impl From<Explained> for PieceBody {
    fn from(piece: Explained) -> Self {
        let drift = piece.drift();
        match piece {
            Explained::Events(range) => Self::Log {
                project_id: range.project_id,
                window_start: range.window_start,
                quantity: range.quantity,
                epoch: format!("{:016x}", range.epoch),
                first_sequence: range.first_sequence,
                last_sequence: range.last_sequence,
                recounted: range.recounted,
                recounted_at: range.recounted_at,
                drift,
            },
            Explained::Batches(share) => Self::Node {
                project_id: Some(share.project_id).filter(|project| !project.uuid().is_nil()),
                window_start: share.window_start,
                quantity: share.quantity,
                node_id: share.node,
                first_batch: share.first_batch,
                last_batch: share.last_batch,
                batches: share.batches,
            },
        }
    }
}

/// What stands behind a number.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ExplanationBody {
    /// Of which metric.
    #[schema(value_type = String)]
    metric: Metric,
    /// The start of the first hour.
    #[schema(value_type = String, format = DateTime)]
    from: Timestamp,
    /// Hours that start before this.
    #[schema(value_type = String, format = DateTime)]
    to: Timestamp,
    /// The number, as it is billed. The pieces of all pages add up to it.
    quantity: u64,
    /// Its pieces, by hour and project.
    #[serde(flatten)]
    pieces: List<PieceBody>,
}

const METRICS: &str = "one of events_published, events_delivered, websocket_minutes, api_requests";

fn query(query: &Query) -> Result<UsageQuery, Error> {
    const TIME: &str = "an RFC 3339 time such as 2026-01-31T12:00:00Z";
    Ok(UsageQuery {
        tenant: query.parsed("tenant_id", "a tenant id (`ten_…`)")?,
        project: query.parsed("project_id", "a project id (`prj_…`)")?,
        metric: metric(query)?,
        from: query.parsed("from", TIME)?,
        to: query.parsed("to", TIME)?,
    })
}

fn metric(query: &Query) -> Result<Option<Metric>, Error> {
    let parse = |name| Metric::parse(name).ok_or_else(|| invalid("metric", &format!("must be {METRICS}")));
    query.first("metric").map(parse).transpose()
}

fn window(query: &Query) -> Result<Window, Error> {
    match query.first("window") {
        Some("hour") => Ok(Window::Hour),
        None | Some("day") => Ok(Window::Day),
        Some("month") => Ok(Window::Month),
        Some(_) => Err(invalid("window", "must be hour, day or month")),
    }
}

/// Read usage.
///
/// What was used, by metric and window, oldest first; windows in which nothing was used are left out. Days and months are
/// those of UTC. A number may still grow until its window is `complete`.
#[utoipa::path(get, path = "/v1/billing/usage", tag = "billing", extensions(("x-permission" = json!("billing:read"))),
    params(("tenant_id" = Option<String>, Query, description = "Operators: whose"),
        ("project_id" = Option<String>, Query, description = "Of one project; of all together when absent"),
        ("metric" = Option<String>, Query, description = "Of one metric; of all when absent"),
        ("window" = Option<String>, Query, description = "`hour`, `day` (when absent) or `month`"),
        ("from" = Option<String>, Query, description = "From the window that holds this time on (RFC 3339); 24 hours, 31 days or ten months back when absent"),
        ("to" = Option<String>, Query, description = "Windows that start before this time; now when absent. At most 366 days in all"),
        ("limit" = Option<u32>, Query, description = "1 to 1000, 100 when absent", minimum = 1, maximum = 1000),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before")),
    responses((status = 200, body = List<UsageBody>), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn report(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<BillingRead>,
    RawQuery(text): RawQuery,
) -> Result<Json<List<UsageBody>>, Failure> {
    let text = Query::parse(text.as_deref());
    let lines = async {
        let (query, window, page) = (query(&text)?, window(&text)?, page(&text)?);
        gateway.engine.usage_report(&admin.0, query, window, page).await
    };
    let lines = lines.await.map_err(|error| admin.fail(error))?;
    Ok(Json(List::of(lines, UsageLine::id, UsageBody::from)))
}

/// Explain usage.
///
/// What stands behind the number of one metric: for `events_published` the ranges of the log that were counted, with what
/// counting them again gave; for the others the batches of each node.
#[utoipa::path(get, path = "/v1/billing/usage/explain", tag = "billing", extensions(("x-permission" = json!("billing:read"))),
    params(("metric" = String, Query, description = "Which number"),
        ("tenant_id" = Option<String>, Query, description = "Operators: whose"),
        ("project_id" = Option<String>, Query, description = "Of one project; of all together when absent"),
        ("from" = Option<String>, Query, description = "From the hour that holds this time on (RFC 3339); 24 hours back when absent"),
        ("to" = Option<String>, Query, description = "Hours that start before this time; now when absent"),
        ("limit" = Option<u32>, Query, description = "1 to 1000, 100 when absent", minimum = 1, maximum = 1000),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before")),
    responses((status = 200, body = ExplanationBody), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn explain(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<BillingRead>,
    RawQuery(text): RawQuery,
) -> Result<Json<ExplanationBody>, Failure> {
    let text = Query::parse(text.as_deref());
    let explained = async {
        let (query, page) = (query(&text)?, page(&text)?);
        let metric = query.metric.ok_or_else(|| invalid("metric", &format!("is missing: name {METRICS}")))?;
        Ok((metric, gateway.engine.explain_usage(&admin.0, query, metric, page).await?))
    };
    let (metric, explained) = explained.await.map_err(|error| admin.fail(error))?;
    let Explanation { from, to, quantity, pieces } = explained;
    let pieces = List::of(pieces, Explained::id, PieceBody::from);
    Ok(Json(ExplanationBody { metric, from, to, quantity, pieces }))
}
