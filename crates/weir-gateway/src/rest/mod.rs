//! The REST endpoints, one file per noun.

pub(crate) mod cloudevents;
pub(crate) mod events;
pub(crate) mod replay;
pub(crate) mod tickets;
pub(crate) mod topics;

use serde_json::json;
use weir_core::Code;
use weir_engine::Error;

/// A field or parameter that is not as documented.
pub(crate) fn invalid(field: &str, why: &str) -> Error {
    Error::new(Code::InvalidRequest, format!("`{field}` {why}.")).with(json!({ "field": field }))
}
