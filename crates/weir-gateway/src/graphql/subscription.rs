//! What can be subscribed to.

use super::events::{self, EventMessage, Gap};
use super::plan::Plans;
use super::usage::{self, UsageMetric};
use super::viewer::Viewer;
use async_graphql::{Context, ID, Result, Subscription, Union};
use futures::Stream;
use futures::stream::empty;
use std::sync::Arc;

/// What an event stream delivers: an event, or that some will not come.
#[derive(Union)]
#[allow(dead_code, reason = "describes what the hub writes by a shape; built by its test alone")]
pub(super) enum EventStreamItem {
    /// An event.
    Message(EventMessage),
    /// A declared loss.
    Gap(Gap),
}

pub(crate) struct SubscriptionRoot;

/// What can be subscribed to.
#[Subscription(name = "Subscription", rename_args = "snake_case")]
impl SubscriptionRoot {
    /// Events as they come, after those that were missed since `after`: once each, in the project's order, and
    /// every loss declared as a `Gap`. Whoever comes back with the `cursor` of the last event that it has finished with, here
    /// or on another transport, goes on without a hole. Needs `events:subscribe`, or topics that the token allows.
    async fn event_stream(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Topics and patterns (`*` one token, a last `>` one or more).")] topics: Vec<String>,
        #[graphql(desc = "Resume after this cursor, from any transport; from now on when absent.")]
        after: Option<String>,
    ) -> Result<impl Stream<Item = EventStreamItem> + use<>> {
        let patterns = events::patterns(&topics)?;
        if patterns.is_empty() {
            return Err(crate::rest::invalid("topics", "must name at least one topic or pattern").into());
        }
        // The hub delivers what is planned here; nothing comes this way.
        ctx.data_unchecked::<Plans>().note(ctx, patterns, after);
        Ok(empty())
    }

    /// The counters of the current hour, at first and whenever one has grown, looked at once a second. Needs
    /// `billing:read`.
    async fn usage_updates(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The tenant; your own when absent.")] tenant_id: Option<ID>,
        #[graphql(desc = "Only this project's.")] project_id: Option<ID>,
    ) -> Result<impl Stream<Item = Result<UsageMetric>> + use<>> {
        Ok(usage::updates(Arc::clone(Viewer::of(ctx)), tenant_id, project_id).await?)
    }
}
