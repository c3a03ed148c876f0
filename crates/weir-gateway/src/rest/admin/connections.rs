//! `/v1/admin/connections`.

use super::list::page;
use super::{Admin, Id};
use crate::error::{ErrorBody, Failure};
use crate::query::Query;
use crate::rest::Enforced;
use crate::state::Gateway;
use axum::Json;
use axum::extract::{RawQuery, State};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;
use weir_core::{ConnectionId, NodeId, Pattern, ProjectId, Timestamp};
use weir_engine::admin::permits::{ConnectionsRead, ConnectionsWrite};
use weir_engine::admin::{Connection, Connections};

/// A live connection.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ConnectionBody {
    /// Its id.
    #[schema(value_type = String, example = "con_0190f5d2a6b07c3e8f4b1d2c3a495867")]
    id: ConnectionId,
    /// Whose events it gets.
    #[schema(value_type = String)]
    project_id: ProjectId,
    /// The server process that has it.
    #[schema(value_type = String)]
    node_id: NodeId,
    /// The credential that it uses: an API key's id, a signing key's, a member's.
    credential: String,
    /// Your name for the user, from a client token's `sub`.
    user: Option<String>,
    /// What it is subscribed to.
    #[schema(value_type = Vec<String>)]
    topics: Vec<Pattern>,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    connected_at: Timestamp,
    /// When its credential ends.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
}

impl From<Connection> for ConnectionBody {
    fn from(connection: Connection) -> Self {
        Self {
            id: connection.id,
            project_id: connection.project,
            node_id: connection.node,
            credential: connection.credential,
            user: connection.user,
            topics: connection.topics,
            connected_at: connection.connected_at,
            expires_at: connection.expires_at,
        }
    }
}

/// A page of live connections.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ConnectionPage {
    /// The connections, oldest first.
    data: Vec<ConnectionBody>,
    /// Ask on with `cursor` set to this.
    next_cursor: Option<String>,
    /// Whether there are more.
    has_more: bool,
    /// Who was asked.
    nodes: Asked,
}

/// Nodes that were asked.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Asked {
    /// How many answered in time: connections of the others are missing.
    answered: u32,
    /// How many run.
    of: u32,
}

impl From<Connections> for ConnectionPage {
    fn from(found: Connections) -> Self {
        let last = found.items.last().map(|connection| connection.id.to_string());
        Self {
            next_cursor: last.filter(|_| found.has_more),
            has_more: found.has_more,
            nodes: Asked { answered: found.nodes, of: found.of },
            data: found.items.into_iter().map(ConnectionBody::from).collect(),
        }
    }
}

/// A connection that was told to end.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EndedConnection {
    /// Its id.
    #[schema(value_type = String)]
    id: ConnectionId,
    /// Where that holds already.
    enforced: Enforced,
}

/// List live connections.
///
/// Every node is asked; the answer says how many answered.
#[utoipa::path(get, path = "/v1/admin/connections", tag = "admin", extensions(("x-permission" = json!("connections:read"))),
    params(("project_id" = Option<String>, Query, description = "Only this project's"),
        ("limit" = Option<u32>, Query, description = "1 to 1000, 100 when absent", minimum = 1, maximum = 1000),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before")),
    responses((status = 200, body = ConnectionPage), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn list(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<ConnectionsRead>,
    RawQuery(query): RawQuery,
) -> Result<Json<ConnectionPage>, Failure> {
    let query = Query::parse(query.as_deref());
    let found = async {
        let project = query.parsed("project_id", "a project id (`prj_…`)")?;
        gateway.engine.connections(&admin.0, project, page(&query)?).await
    };
    Ok(Json(found.await.map_err(|error| admin.fail(error))?.into()))
}

/// End a live connection.
///
/// Its client is told not to come back by itself; to keep it out, revoke its credential.
#[utoipa::path(delete, path = "/v1/admin/connections/{id}", tag = "admin", extensions(("x-permission" = json!("connections:write"))),
    params(("id" = String, Path, description = "The connection"),
        ("tenant_id" = Option<String>, Query, description = "Whose it is; for operators")),
    responses((status = 200, body = EndedConnection), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn end(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<ConnectionsWrite>,
    Id(id): Id<ConnectionId>,
    RawQuery(query): RawQuery,
) -> Result<Json<EndedConnection>, Failure> {
    let ended = async {
        let tenant = Query::parse(query.as_deref()).parsed("tenant_id", "a tenant id (`ten_…`)")?;
        gateway.engine.end_connection(&admin.0, tenant, id).await
    };
    let ended = ended.await.map_err(|error| admin.fail(error))?;
    let enforced = gateway.engine.enforced(&ended.change).await.into();
    Ok(Json(EndedConnection { id: ended.value, enforced }))
}
