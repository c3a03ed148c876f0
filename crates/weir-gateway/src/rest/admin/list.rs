//! Lists in pages.

use crate::query::Query;
use crate::rest::replay::limit;
use serde::Serialize;
use std::fmt::Display;
use std::str::FromStr;
use utoipa::ToSchema;
use weir_engine::{After, Error, Page};

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct List<T> {
    /// The items, oldest first.
    data: Vec<T>,
    /// Ask on with `cursor` set to this.
    next_cursor: Option<String>,
    /// Whether there are more.
    has_more: bool,
}

impl<T> List<T> {
    /// Words a page; `id` is what an item is asked on after.
    pub(crate) fn of<S, I: Display>(page: Page<S>, id: impl Fn(&S) -> I, word: impl Fn(S) -> T) -> Self {
        let last = page.items.last().map(|item| id(item).to_string());
        Self {
            next_cursor: last.filter(|_| page.has_more),
            has_more: page.has_more,
            data: page.items.into_iter().map(word).collect(),
        }
    }
}

/// Which page is asked for: `limit` (1 to 1000, 100 when absent) and `cursor` (`next_cursor` of the page before).
pub(crate) fn page<I: FromStr>(query: &Query) -> Result<After<I>, Error> {
    let limit = u32::try_from(limit(query, 100)?).unwrap_or(u32::MAX);
    Ok(After { after: query.parsed("cursor", "the `next_cursor` of the page before")?, limit })
}
