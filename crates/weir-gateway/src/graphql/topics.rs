//! Topics that have been published to.

use super::connection::{self, Connection, Edge, PageInfo};
use super::scalars::{DateTime, Long};
use super::viewer::Viewer;
use crate::rest::invalid;
use async_graphql::{Context, Object, Result, SimpleObject};
use weir_engine::Error;

/// A topic and its newest event.
#[derive(SimpleObject)]
#[graphql(rename_fields = "snake_case")]
pub(super) struct Topic {
    /// The topic.
    topic: String,
    /// The sequence of its newest event.
    head_sequence: Long,
    /// The cursor of that event.
    head_cursor: String,
    /// When it was accepted.
    last_published_at: DateTime,
}

#[derive(Default)]
pub(super) struct TopicQuery;

#[Object(rename_args = "snake_case")]
impl TopicQuery {
    /// Topics that have retained events, in the order of their names. Needs `events:subscribe`.
    #[graphql(complexity = "connection::cost(first, child_complexity)")]
    async fn topics(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "How many at most: 1 to 1000, 20 when absent.")] first: Option<i32>,
        #[graphql(desc = "Read on after this cursor of the page before.")] after: Option<String>,
    ) -> Option<Result<Connection<Topic>>> {
        Some(list(Viewer::of(ctx), first, after).await.map_err(Into::into))
    }
}

async fn list(
    viewer: &Viewer,
    first: Option<i32>,
    after: Option<String>,
) -> Result<Connection<Topic>, Error> {
    let first = connection::first(first)?;
    let after = after.map(|text| text.parse()).transpose();
    let after: Option<weir_core::Topic> =
        after.map_err(|_| invalid("after", "must be a cursor of the page before"))?;
    let caller = viewer.caller()?;
    let mut heads = viewer.gateway.engine.topics(&caller, after.as_ref(), first + 1).await?;
    let more = heads.len() > first;
    heads.truncate(first);
    let edges = heads.into_iter().map(|(head, head_cursor)| Edge {
        cursor: head.topic.to_string(),
        node: Topic {
            topic: head.topic.to_string(),
            head_sequence: Long(head.head.sequence),
            head_cursor,
            last_published_at: head.published_at.into(),
        },
    });
    let edges: Vec<Edge<Topic>> = edges.collect();
    Ok(Connection { page_info: PageInfo::of(&edges, more), edges })
}
