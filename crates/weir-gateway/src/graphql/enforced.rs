//! Where a change of access holds.

use super::scalars::Long;
use async_graphql::SimpleObject;

/// How far a change of access has come.
#[derive(SimpleObject)]
#[graphql(rename_fields = "snake_case")]
pub(super) struct Enforced {
    /// Nodes that have enforced it.
    nodes: Long,
    /// Nodes that are live.
    of: Long,
    /// Connections that it ended.
    connections_closed: Long,
}

impl From<weir_engine::admin::Enforced> for Enforced {
    fn from(enforced: weir_engine::admin::Enforced) -> Self {
        Self {
            nodes: Long(enforced.nodes.into()),
            of: Long(enforced.of.into()),
            connections_closed: Long(enforced.connections_closed),
        }
    }
}
