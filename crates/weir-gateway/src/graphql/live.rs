//! Live connections of clients.

use super::connection::{self, Edge, PageInfo};
use super::enforced::Enforced;
use super::scalars::{DateTime, Long};
use super::viewer::{Viewer, id};
use async_graphql::{Context, ID, Object, Result, SimpleObject};
use weir_engine::Error;
use weir_engine::admin::permits::{ConnectionsRead, ConnectionsWrite};
use weir_engine::admin::{Connection, Connections};

/// A live connection of a client, over any transport.
#[derive(SimpleObject)]
#[graphql(rename_fields = "snake_case")]
pub(super) struct LiveConnection {
    /// Its id, `con_…`.
    id: ID,
    /// Whose events it gets.
    project_id: ID,
    /// The server process that has it.
    node_id: ID,
    /// The credential that it uses: an API key's id, a signing key's, a member's.
    credential: String,
    /// Your name for the user, from a client token's `sub`.
    user: Option<String>,
    /// What it is subscribed to.
    topics: Vec<String>,
    /// Since when.
    connected_at: DateTime,
    /// When its credential ends.
    expires_at: Option<DateTime>,
}

impl From<Connection> for LiveConnection {
    fn from(connection: Connection) -> Self {
        Self {
            id: connection.id.to_string().into(),
            project_id: connection.project.to_string().into(),
            node_id: connection.node.to_string().into(),
            credential: connection.credential,
            user: connection.user,
            topics: connection.topics.iter().map(ToString::to_string).collect(),
            connected_at: connection.connected_at.into(),
            expires_at: connection.expires_at.map(DateTime),
        }
    }
}

/// A page of live connections.
#[derive(SimpleObject)]
#[graphql(rename_fields = "snake_case")]
pub(super) struct LiveConnectionConnection {
    /// The connections, oldest first.
    edges: Vec<Edge<LiveConnection>>,
    /// How this page lies in the list.
    #[graphql(name = "pageInfo")]
    page_info: PageInfo,
    /// Nodes that answered in time: connections of the others are missing.
    nodes_answered: Long,
    /// Nodes that run.
    nodes_of: Long,
}

impl From<Connections> for LiveConnectionConnection {
    fn from(found: Connections) -> Self {
        let edge = |connection: Connection| Edge {
            cursor: connection.id.to_string(),
            node: LiveConnection::from(connection),
        };
        let edges: Vec<Edge<LiveConnection>> = found.items.into_iter().map(edge).collect();
        Self {
            page_info: PageInfo::of(&edges, found.has_more),
            edges,
            nodes_answered: Long(found.nodes.into()),
            nodes_of: Long(found.of.into()),
        }
    }
}

/// A connection that was told to end, and where that holds.
#[derive(SimpleObject)]
pub(super) struct EndedConnection {
    /// Its id.
    id: ID,
    /// Where that holds already.
    enforced: Enforced,
}

#[derive(Default)]
pub(super) struct LiveQuery;

#[Object(rename_args = "snake_case")]
impl LiveQuery {
    /// Live connections of one project, or of the whole tenant, on every node. Needs `connections:read`.
    #[graphql(complexity = "connection::cost(first, child_complexity)")]
    async fn live_connections(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Only this project's.")] project_id: Option<ID>,
        #[graphql(desc = "How many at most: 1 to 1000, 20 when absent.")] first: Option<i32>,
        #[graphql(desc = "Read on after this cursor of the page before.")] after: Option<String>,
    ) -> Option<Result<LiveConnectionConnection>> {
        let list = async {
            let viewer = Viewer::of(ctx);
            let may = viewer.may::<ConnectionsRead>().await?;
            let project = project_id.map(|project| id("project_id", &project)).transpose()?;
            let page = connection::page(first, after.as_deref())?;
            Ok(viewer.gateway.engine.connections(&may, project, page).await?.into())
        };
        Some(list.await.map_err(|error: Error| error.into()))
    }
}

#[derive(Default)]
pub(super) struct LiveMutation;

#[Object(rename_args = "snake_case")]
impl LiveMutation {
    /// End a live connection, wherever it is. Its client is told not to come back by itself; to keep it out, revoke its
    /// credential. Needs `connections:write`.
    async fn end_connection(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The connection.", name = "id")] connection: ID,
        #[graphql(desc = "Whose it is; for operators.")] tenant_id: Option<ID>,
    ) -> Option<Result<EndedConnection>> {
        let end = async {
            let viewer = Viewer::of(ctx);
            let may = viewer.may::<ConnectionsWrite>().await?;
            let tenant = tenant_id.map(|tenant| id("tenant_id", &tenant)).transpose()?;
            let engine = &viewer.gateway.engine;
            let ended = engine.end_connection(&may, tenant, id("id", &connection)?).await?;
            let enforced = engine.enforced(&ended.change).await.into();
            Ok(EndedConnection { id: ended.value.to_string().into(), enforced })
        };
        Some(end.await.map_err(|error: Error| error.into()))
    }
}
