//! The REST endpoints, one file per noun.

pub(crate) mod admin;
pub(crate) mod auth;
pub(crate) mod billing;
pub(crate) mod cloudevents;
pub(crate) mod events;
pub(crate) mod idempotency;
pub(crate) mod oidc;
pub(crate) mod replay;
pub(crate) mod schemas;
pub(crate) mod storage;
pub(crate) mod tickets;
pub(crate) mod topics;

use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;
use weir_core::Code;
use weir_engine::Error;

/// A field or parameter that is not as documented.
pub(crate) fn invalid(field: &str, why: &str) -> Error {
    Error::new(Code::InvalidRequest, format!("`{field}` {why}.")).with(json!({ "field": field }))
}

/// Where a change holds already.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Enforced {
    /// Nodes that have enforced it.
    nodes: u32,
    /// Nodes that are live. One that has not answered in time closes everything by itself within 5 seconds.
    of: u32,
    /// Connections that it ended.
    connections_closed: u64,
}

impl From<weir_engine::admin::Enforced> for Enforced {
    fn from(enforced: weir_engine::admin::Enforced) -> Self {
        let weir_engine::admin::Enforced { nodes, of, connections_closed } = enforced;
        Self { nodes, of, connections_closed }
    }
}
