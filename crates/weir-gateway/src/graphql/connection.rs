//! Lists in the form of the Relay Cursor Connections Specification: `edges`, `node`, `cursor`, `pageInfo`.

use super::viewer::id;
use crate::rest::invalid;
use async_graphql::{OutputType, SimpleObject};
use std::str::FromStr;
use weir_engine::{After, Error, Page};

/// Entries of a list when `first` is absent.
pub(super) const FIRST: i32 = 20;
/// Entries of a list at most.
const MOST: i32 = 1_000;

/// How a page lies in its list.
#[derive(SimpleObject)]
pub(super) struct PageInfo {
    /// Whether there is more after this page.
    pub has_next_page: bool,
    /// Always false: lists are read forwards.
    pub has_previous_page: bool,
    /// The cursor of the first entry.
    pub start_cursor: Option<String>,
    /// Read on with `after` set to this.
    pub end_cursor: Option<String>,
}

/// An entry of a list.
#[derive(SimpleObject)]
#[graphql(concrete(name = "EventEdge", params(super::events::Event)))]
#[graphql(concrete(name = "TopicEdge", params(super::topics::Topic)))]
#[graphql(concrete(name = "TenantEdge", params(super::tenants::Tenant)))]
#[graphql(concrete(name = "ProjectEdge", params(super::projects::Project)))]
#[graphql(concrete(name = "ApiKeyEdge", params(super::keys::ApiKey)))]
#[graphql(concrete(name = "TopicSchemaEdge", params(super::schemas::TopicSchema)))]
#[graphql(concrete(name = "MemberEdge", params(super::members::Member)))]
#[graphql(concrete(name = "AuditEntryEdge", params(super::audit::AuditEntry)))]
#[graphql(concrete(name = "WebhookEdge", params(super::webhooks::Webhook)))]
#[graphql(concrete(name = "DeadLetterEdge", params(super::webhooks::DeadLetter)))]
#[graphql(concrete(name = "LiveConnectionEdge", params(super::live::LiveConnection)))]
#[graphql(concrete(name = "AlertEdge", params(super::alerts::Alert)))]
#[graphql(concrete(name = "ProjectStorageEdge", params(super::storage::ProjectStorage)))]
pub(super) struct Edge<T: OutputType> {
    /// Reads on after this entry, as `after`.
    pub cursor: String,
    /// The entry.
    pub node: T,
}

/// A page of a list.
#[derive(SimpleObject)]
#[graphql(concrete(name = "TopicConnection", params(super::topics::Topic)))]
#[graphql(concrete(name = "TenantConnection", params(super::tenants::Tenant)))]
#[graphql(concrete(name = "ProjectConnection", params(super::projects::Project)))]
#[graphql(concrete(name = "ApiKeyConnection", params(super::keys::ApiKey)))]
#[graphql(concrete(name = "TopicSchemaConnection", params(super::schemas::TopicSchema)))]
#[graphql(concrete(name = "MemberConnection", params(super::members::Member)))]
#[graphql(concrete(name = "AuditEntryConnection", params(super::audit::AuditEntry)))]
#[graphql(concrete(name = "AlertConnection", params(super::alerts::Alert)))]
#[graphql(concrete(name = "WebhookConnection", params(super::webhooks::Webhook)))]
#[graphql(concrete(name = "DeadLetterConnection", params(super::webhooks::DeadLetter)))]
#[graphql(concrete(name = "ProjectStorageConnection", params(super::storage::ProjectStorage)))]
pub(super) struct Connection<T: OutputType>
where
    Edge<T>: OutputType,
{
    /// The entries, in order.
    pub edges: Vec<Edge<T>>,
    /// How this page lies in the list.
    #[graphql(name = "pageInfo")]
    pub page_info: PageInfo,
}

impl PageInfo {
    /// Of a page with these entries, where the last one's cursor reads on.
    pub(super) fn of<T: OutputType>(edges: &[Edge<T>], has_next_page: bool) -> Self {
        Self {
            has_next_page,
            has_previous_page: false,
            start_cursor: edges.first().map(|edge| edge.cursor.clone()),
            end_cursor: edges.last().map(|edge| edge.cursor.clone()),
        }
    }
}

impl<T: OutputType> Connection<T>
where
    Edge<T>: OutputType,
{
    /// Of a page of the engine's.
    pub(super) fn of<S>(page: Page<S>, edge: impl Fn(S) -> Edge<T>) -> Self {
        let edges: Vec<Edge<T>> = page.items.into_iter().map(edge).collect();
        Self { page_info: PageInfo::of(&edges, page.has_more), edges }
    }
}

/// Which page of a list of things with ids is wanted.
pub(super) fn page<I: FromStr>(wanted: Option<i32>, after: Option<&str>) -> Result<After<I>, Error> {
    let after = after.map(|after| id("after", after)).transpose()?;
    Ok(After { after, limit: u32::try_from(first(wanted)?).unwrap_or(u32::MAX) })
}

/// What a list costs: every ten entries as much as one.
pub(super) fn cost(first: Option<i32>, child: usize) -> usize {
    let tens = usize::try_from(first.unwrap_or(FIRST).clamp(1, MOST)).unwrap_or(1).div_ceil(10);
    child.saturating_mul(tens).saturating_add(1)
}

/// The `first` of any list: 1 to 1000.
pub(super) fn first(first: Option<i32>) -> Result<usize, Error> {
    match first.unwrap_or(FIRST) {
        wanted @ 1..=MOST => Ok(usize::try_from(wanted).unwrap_or(1)),
        other => Err(invalid("first", &format!("must be from 1 to {MOST}; got {other}"))),
    }
}
