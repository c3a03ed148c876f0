//! Metered use.

use super::scalars::{DateTime, Long};
use super::viewer::{Viewer, id, tenant_or_own};
use async_graphql::{Context, Enum, ID, Object, Result, SimpleObject};
use futures::Stream;
use futures::stream::unfold;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use weir_core::{ProjectId, TenantId};
use weir_engine::admin::permits::BillingRead;
use weir_engine::{Error, Metric, UsageWindow};

/// Between two looks at the counters.
const PERIOD: Duration = Duration::from_secs(1);

/// What is counted.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
#[graphql(name = "Metric", remote = "Metric", rename_items = "snake_case")]
pub(super) enum Counted {
    /// Events accepted into the log.
    EventsPublished,
    /// Events handed to subscribers.
    EventsDelivered,
    /// Minutes of connections.
    WebsocketMinutes,
    /// Requests to the HTTP interfaces.
    ApiRequests,
}

/// One counter of one hour.
#[derive(SimpleObject, Clone)]
#[graphql(rename_fields = "snake_case")]
pub(super) struct UsageMetric {
    /// Whose use.
    tenant_id: ID,
    /// In which project; null for all of the tenant's together.
    project_id: Option<ID>,
    /// Of what.
    metric: Counted,
    /// How much, in the metric's unit, since the window began.
    quantity: Long,
    /// The start of the hour.
    window_start: DateTime,
}

/// Whose counters are wanted.
#[derive(Clone, Copy)]
struct Wish {
    tenant: TenantId,
    project: Option<ProjectId>,
}

impl Wish {
    fn show(self, window: &UsageWindow) -> UsageMetric {
        UsageMetric {
            tenant_id: self.tenant.to_string().into(),
            project_id: self.project.map(|project| project.to_string().into()),
            metric: window.metric.into(),
            quantity: Long(window.quantity),
            window_start: window.window_start.into(),
        }
    }
}

async fn wish(viewer: &Viewer, tenant: Option<ID>, project: Option<ID>) -> Result<Wish, Error> {
    let may = viewer.may::<BillingRead>().await?;
    let tenant = tenant_or_own(&may, tenant.as_ref().map(|tenant| tenant.as_str()))?;
    let project = project.map(|project| id("project_id", &project)).transpose()?;
    Ok(Wish { tenant: may.tenant(tenant)?, project })
}

#[derive(Default)]
pub(super) struct UsageQuery;

#[Object(rename_args = "snake_case")]
impl UsageQuery {
    /// Use by hour, of one project or of the whole tenant, up to 31 days. Needs `billing:read`.
    #[graphql(complexity = "10 + child_complexity")]
    async fn usage(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The tenant; your own when absent.")] tenant_id: Option<ID>,
        #[graphql(desc = "Only this project's.")] project_id: Option<ID>,
        #[graphql(desc = "How many hours back: 1 to 744, 24 when absent; the current one is the first.")]
        hours: Option<u32>,
    ) -> Option<Result<Vec<UsageMetric>>> {
        let viewer = Viewer::of(ctx);
        let read = async {
            let wish = wish(viewer, tenant_id, project_id).await?;
            let may = viewer.may::<BillingRead>().await?;
            let hours = hours.unwrap_or(24).clamp(1, 744);
            let windows = viewer.gateway.engine.usage(&may, wish.tenant, wish.project, hours).await?;
            Ok(windows.iter().map(|window| wish.show(window)).collect())
        };
        Some(read.await.map_err(|error: Error| error.into()))
    }
}

/// The counters of the current hour, at first and whenever one has grown.
pub(super) async fn updates(
    viewer: Arc<Viewer>,
    tenant: Option<ID>,
    project: Option<ID>,
) -> Result<impl Stream<Item = Result<UsageMetric>> + use<>, Error> {
    let watch = Watch {
        wish: wish(&viewer, tenant, project).await?,
        viewer,
        known: Vec::new(),
        news: VecDeque::new(),
        begun: false,
    };
    Ok(unfold(Some(watch), async |watch| {
        let mut watch = watch?;
        match watch.next().await {
            Ok(metric) => Some((Ok(metric), Some(watch))),
            // The last word: it says why there is no more.
            Err(error) => Some((Err(error.into()), None)),
        }
    }))
}

struct Watch {
    viewer: Arc<Viewer>,
    wish: Wish,
    known: Vec<UsageWindow>,
    news: VecDeque<UsageMetric>,
    begun: bool,
}

impl Watch {
    async fn next(&mut self) -> Result<UsageMetric, Error> {
        loop {
            if let Some(metric) = self.news.pop_front() {
                return Ok(metric);
            }
            if std::mem::replace(&mut self.begun, true) {
                tokio::time::sleep(PERIOD).await;
            }
            let may = self.viewer.still_may::<BillingRead>().await?;
            let engine = &self.viewer.gateway.engine;
            let windows = match engine.usage(&may, self.wish.tenant, self.wish.project, 2).await {
                Ok(windows) => windows,
                // The counters are still there when the database is back.
                Err(error) if error.code.retryable() => continue,
                Err(error) => return Err(error),
            };
            let news = windows.iter().filter(|window| !self.known.contains(window));
            self.news.extend(news.map(|window| self.wish.show(window)));
            self.known = windows;
        }
    }
}
