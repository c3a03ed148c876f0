//! GraphQL: `/graphql` over HTTP, `graphql-transport-ws` and event streams.
//!
//! The executor is async-graphql's. Start reading at `http.rs`, which runs a query from request to answer; a noun's
//! part of the schema is in a file of its own (`events.rs`, `tenants.rs`, …). An `eventStream` is accepted by the executor and
//! delivered by the hub: `subscription.rs` → `plan.rs` → `shape.rs` → `ws/socket.rs` or `stream.rs`.

mod accept;
mod alerts;
mod answer;
mod audit;
mod billing;
mod connection;
mod cost;
mod document;
mod enforced;
mod events;
mod http;
mod keys;
mod limits;
mod live;
mod loaders;
mod members;
mod page;
mod plan;
mod projects;
mod request;
mod scalars;
mod scan;
mod schemas;
mod shape;
mod storage;
mod stream;
mod subscription;
mod tenants;
mod topics;
mod usage;
mod viewer;
mod webhooks;
pub(crate) mod ws;

pub(crate) use http::{get, post};
pub use limits::Limits;

use async_graphql::MergedObject;
use cost::CostLimit;
use subscription::SubscriptionRoot;

/// What can be asked for.
#[derive(MergedObject, Default)]
#[graphql(name = "Query")]
pub(crate) struct QueryRoot(
    events::EventQuery,
    topics::TopicQuery,
    tenants::TenantQuery,
    projects::ProjectQuery,
    keys::KeyQuery,
    usage::UsageQuery,
    schemas::SchemaQuery,
    live::LiveQuery,
    members::MemberQuery,
    audit::AuditQuery,
    billing::BillingQuery,
    alerts::AlertQuery,
    webhooks::WebhookQuery,
    storage::StorageQuery,
);

/// What can be changed. The fields of one operation are worked on one after the other, in their order.
#[derive(MergedObject, Default)]
#[graphql(name = "Mutation")]
pub(crate) struct MutationRoot(
    events::EventMutation,
    keys::KeyMutation,
    projects::ProjectMutation,
    tenants::TenantMutation,
    schemas::SchemaMutation,
    live::LiveMutation,
    members::MemberMutation,
    billing::BillingMutation,
    alerts::AlertMutation,
    webhooks::WebhookMutation,
);

/// The schema and its executor.
pub(crate) type Schema = async_graphql::Schema<QueryRoot, MutationRoot, SubscriptionRoot>;

/// The schema, held to limits.
pub(crate) fn schema(limits: &Limits) -> Schema {
    let schema = Schema::build(QueryRoot::default(), MutationRoot::default(), SubscriptionRoot)
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
mod shape_tests;
#[cfg(test)]
mod tests;
