//! `GET /v1/topics`: what has been published to.

use crate::error::{ErrorBody, Failure};
use crate::extract::Authenticated;
use crate::query::Query;
use crate::rest::replay::limit;
use crate::state::Gateway;
use axum::Json;
use axum::extract::{RawQuery, State};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;
use weir_core::{Timestamp, Topic};
use weir_engine::Error;

/// A topic and its newest event.
#[derive(Serialize, ToSchema)]
pub(crate) struct TopicBody {
    /// The topic.
    topic: String,
    /// The sequence of its newest event.
    head_sequence: u64,
    /// The cursor of that event.
    head_cursor: String,
    /// When it was accepted.
    #[schema(value_type = String, format = DateTime)]
    last_published_at: Timestamp,
}

/// Topics, by name.
#[derive(Serialize, ToSchema)]
pub(crate) struct TopicPage {
    /// The topics.
    data: Vec<TopicBody>,
    /// Ask on with `cursor` set to this.
    next_cursor: Option<String>,
    /// Whether there are more.
    has_more: bool,
}

/// List topics.
///
/// Topics that have retained events, in the order of their names.
#[utoipa::path(get, path = "/v1/topics", tag = "events",
    params(("limit" = Option<u32>, Query, description = "1 to 1000, 100 when absent", minimum = 1, maximum = 1000),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before")),
    responses((status = 200, body = TopicPage), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn list(
    State(gateway): State<Arc<Gateway>>,
    auth: Authenticated,
    RawQuery(query): RawQuery,
) -> Result<Json<TopicPage>, Failure> {
    let page = page(&gateway, &auth, &Query::parse(query.as_deref())).await;
    page.map(Json).map_err(|error| auth.fail(error))
}

async fn page(gateway: &Gateway, auth: &Authenticated, query: &Query) -> Result<TopicPage, Error> {
    let limit = limit(query, 100)?;
    let after = query.parsed::<Topic>("cursor", "the `next_cursor` of the page before")?;
    let mut heads = gateway.engine.topics(&auth.caller, after.as_ref(), limit + 1).await?;
    let has_more = heads.len() > limit;
    heads.truncate(limit);
    let next_cursor = has_more.then(|| heads.last().map(|(head, _)| head.topic.to_string())).flatten();
    let data = heads.into_iter().map(|(head, cursor)| TopicBody {
        topic: head.topic.to_string(),
        head_sequence: head.head.sequence,
        head_cursor: cursor,
        last_published_at: head.published_at,
    });
    Ok(TopicPage { data: data.collect(), next_cursor, has_more })
}
