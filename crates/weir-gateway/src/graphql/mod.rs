//! GraphQL: `/graphql` over HTTP.
//!
//! The executor is async-graphql's. Start reading at `http.rs`, which runs a query from request to answer; a noun's
//! part of the schema is in a file of its own (`events.rs`, `topics.rs`).

mod accept;
mod answer;
mod connection;
mod cost;
mod document;
mod events;
mod http;
mod limits;
mod page;
mod request;
mod scalars;
mod scan;
mod topics;
mod viewer;

pub(crate) use http::{get, post};
pub use limits::Limits;

use async_graphql::{EmptySubscription, MergedObject};
use cost::CostLimit;

/// What can be asked for.
#[derive(MergedObject, Default)]
#[graphql(name = "Query")]
pub(crate) struct QueryRoot(events::EventQuery, topics::TopicQuery);

/// What can be changed. The fields of one operation are worked on one after the other, in their order.
#[derive(MergedObject, Default)]
#[graphql(name = "Mutation")]
pub(crate) struct MutationRoot(events::EventMutation);

/// The schema and its executor.
pub(crate) type Schema = async_graphql::Schema<QueryRoot, MutationRoot, EmptySubscription>;

/// The schema, held to limits.
pub(crate) fn schema(limits: &Limits) -> Schema {
    let schema = Schema::build(QueryRoot::default(), MutationRoot::default(), EmptySubscription)
        .extension(CostLimit(limits.cost))
        // They cost a comparison with every known name, and tell what introspection may be off to hide.
        .disable_suggestions();
    if limits.introspection { schema.finish() } else { schema.disable_introspection().finish() }
}

/// The schema as text, in GraphQL's schema definition language.
#[must_use]
pub fn sdl() -> String {
    let options =
        async_graphql::SDLExportOptions::new().sorted_fields().sorted_arguments().sorted_enum_items();
    schema(&Limits::default()).sdl_with_options(options.prefer_single_line_descriptions())
}

#[cfg(test)]
mod tests;
