//! Alerts.

use super::connection::{self, Connection, Edge};
use super::scalars::{DateTime, Long};
use super::viewer::{Viewer, id};
use async_graphql::{Context, Enum, ID, Object, Result, SimpleObject};
use weir_core::Severity;
use weir_engine::admin::permits::{AlertsRead, AlertsWrite};
use weir_engine::{AlertFilter, AlertState, AlertStates, Engine, Error};

/// How bad something is.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
#[graphql(name = "Severity", remote = "Severity", rename_items = "snake_case")]
pub(super) enum AlertSeverity {
    /// Worth knowing; nothing is to be done now.
    Info,
    /// Somebody should look within the day.
    Warning,
    /// Somebody should look now.
    Critical,
}

/// How far an alert has come.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
#[graphql(name = "AlertState", remote = "AlertState", rename_items = "snake_case")]
pub(super) enum State {
    /// It is open, and nobody said to look after it.
    Raised,
    /// It is open, and somebody looks after it.
    Acknowledged,
    /// It is over.
    Resolved,
}

/// Which alerts are wanted.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
#[graphql(rename_items = "snake_case")]
pub(super) enum AlertStateFilter {
    /// Those that are not over.
    Open,
    /// Those that nobody said to look after.
    Raised,
    /// Those that somebody looks after.
    Acknowledged,
    /// Those that are over.
    Resolved,
}

impl From<AlertStateFilter> for AlertStates {
    fn from(wanted: AlertStateFilter) -> Self {
        match wanted {
            AlertStateFilter::Open => Self::Open,
            AlertStateFilter::Raised => Self::Only(AlertState::Raised),
            AlertStateFilter::Acknowledged => Self::Only(AlertState::Acknowledged),
            AlertStateFilter::Resolved => Self::Only(AlertState::Resolved),
        }
    }
}

/// Something that is wrong, or was.
#[derive(SimpleObject)]
#[graphql(rename_fields = "snake_case")]
pub(super) struct Alert {
    /// Its id, `alt_…`.
    id: ID,
    /// Whose it is; null is the installation's own.
    tenant_id: Option<ID>,
    /// What kind of thing is wrong.
    condition: String,
    /// With what: the id of a tenant, project or node, or `installation`.
    subject: String,
    /// How bad it was at its worst.
    severity: AlertSeverity,
    /// How far it has come.
    state: State,
    /// What is wrong, in a sentence.
    message: String,
    /// What was measured.
    value: String,
    /// What it should not exceed, or fall short of.
    limit: String,
    /// What to do first.
    fix: String,
    /// What to do in detail.
    runbook: String,
    /// Since when.
    first_seen_at: DateTime,
    /// When it was written last that it goes on.
    last_seen_at: DateTime,
    /// How often it happened, or began again, since then.
    occurrences: Long,
    /// When somebody said to look after it.
    acknowledged_at: Option<DateTime>,
    /// Who, as the audit trail names them.
    acknowledged_by: Option<String>,
    /// When it was over.
    resolved_at: Option<DateTime>,
}

impl Alert {
    fn of(alert: weir_engine::Alert, engine: &Engine) -> Self {
        let (state, (fix, runbook)) = (alert.state(), engine.advice(&alert));
        Self {
            id: alert.id.to_string().into(),
            tenant_id: alert.tenant_id.map(|tenant| tenant.to_string().into()),
            condition: alert.condition,
            subject: alert.subject,
            severity: alert.severity.into(),
            state: state.into(),
            message: alert.message,
            value: alert.value,
            limit: alert.limit,
            fix: fix.to_owned(),
            runbook,
            first_seen_at: alert.first_seen_at.into(),
            last_seen_at: alert.last_seen_at.into(),
            occurrences: Long(alert.occurrences),
            acknowledged_at: alert.acknowledged_at.map(DateTime),
            acknowledged_by: alert.acknowledged_by,
            resolved_at: alert.resolved_at.map(DateTime),
        }
    }
}

#[derive(Default)]
pub(super) struct AlertQuery;

#[Object(rename_args = "snake_case")]
impl AlertQuery {
    /// Alerts, newest first: operators see all, everybody else their own. Needs `alerts:read`.
    #[graphql(complexity = "connection::cost(first, child_complexity)")]
    #[allow(clippy::too_many_arguments, reason = "the arguments of a field")]
    async fn alerts(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Only in this state.")] state: Option<AlertStateFilter>,
        #[graphql(desc = "Only of this severity.")] severity: Option<AlertSeverity>,
        #[graphql(desc = "Only of this tenant; for operators.")] tenant_id: Option<ID>,
        #[graphql(desc = "How many at most: 1 to 1000, 20 when absent.")] first: Option<i32>,
        #[graphql(desc = "Read on after this cursor of the page before.")] after: Option<String>,
    ) -> Option<Result<Connection<Alert>>> {
        let filter = (state.map(AlertStates::from), severity.map(Severity::from), tenant_id);
        Some(list(Viewer::of(ctx), filter, first, after).await.map_err(Into::into))
    }
}

async fn list(
    viewer: &Viewer,
    (states, severity, tenant): (Option<AlertStates>, Option<Severity>, Option<ID>),
    first: Option<i32>,
    after: Option<String>,
) -> Result<Connection<Alert>, Error> {
    let may = viewer.may::<AlertsRead>().await?;
    let tenant = tenant.map(|tenant| id("tenant_id", &tenant)).transpose()?;
    let engine = &viewer.gateway.engine;
    let filter = AlertFilter { tenant, states, severity };
    let page = engine.list_alerts(&may, filter, connection::page(first, after.as_deref())?).await?;
    Ok(Connection::of(page, |alert| Edge { cursor: alert.id.to_string(), node: Alert::of(alert, engine) }))
}

#[derive(Default)]
pub(super) struct AlertMutation;

#[Object(rename_args = "snake_case")]
impl AlertMutation {
    /// Say that somebody looks after an alert. It stays open until it is over. Needs `alerts:write`.
    async fn acknowledge_alert(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The alert.", name = "id")] alert: ID,
    ) -> Option<Result<Alert>> {
        Some(acknowledge(Viewer::of(ctx), &alert).await.map_err(Into::into))
    }
}

async fn acknowledge(viewer: &Viewer, alert: &ID) -> Result<Alert, Error> {
    let may = viewer.may::<AlertsWrite>().await?;
    let engine = &viewer.gateway.engine;
    Ok(Alert::of(engine.acknowledge_alert(&may, id("id", alert)?).await?, engine))
}
