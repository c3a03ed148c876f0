//! Live connections: every node knows its own, so a list asks all of them; ending one is a change of access that
//! finds it wherever it is.

use super::May;
use super::permits::{ConnectionsRead, ConnectionsWrite};
use crate::access::Reach;
use crate::session::Session;
use crate::{Caller, Engine, Error, Who};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use weir_core::{Code, ConnectionId, NodeId, Pattern, ProjectId, TenantId, Timestamp};
use weir_store::{After, Changed, InquiryId, MAX_PAGE, Notice};

/// Between two looks for answers when no notice comes.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A live connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// Its id.
    pub id: ConnectionId,
    /// Whose events it gets.
    pub project: ProjectId,
    /// The node that has it.
    pub node: NodeId,
    /// The credential: `key_…`, `sig_…`, or the member: `usr_…`.
    pub credential: String,
    /// The tenant's name for the user of a client token.
    pub user: Option<String>,
    /// What it is subscribed to.
    pub topics: Vec<Pattern>,
    /// Since when.
    pub connected_at: Timestamp,
    /// When its credential ends.
    pub expires_at: Option<Timestamp>,
}

/// Some connections, and who was asked for them.
#[derive(Clone, Debug)]
pub struct Connections {
    /// In the order of their making.
    pub items: Vec<Connection>,
    /// Whether more follow.
    pub has_more: bool,
    /// Nodes that answered.
    pub nodes: u32,
    /// Nodes that run.
    pub of: u32,
}

/// Which connections.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Question {
    project: Option<ProjectId>,
    only: Option<ConnectionId>,
    after: Option<ConnectionId>,
    limit: u32,
}

impl Engine {
    /// The live connections of a project or of the whole tenant, on every node.
    ///
    /// # Errors
    /// `NOT_FOUND` for a project out of reach; `INVALID_REQUEST` when an operator names none; `DATABASE_UNAVAILABLE`.
    pub async fn connections(
        &self,
        may: &May<ConnectionsRead>,
        project: Option<ProjectId>,
        page: After<ConnectionId>,
    ) -> Result<Connections, Error> {
        let tenant = match (project, may.principal().reach) {
            (Some(project), _) => {
                let tenant = self.tenant_of_project(may, project).await?;
                self.store.tenants.project(tenant, project).await?.tenant_id
            }
            (None, Reach::Tenant(own)) => own,
            (None, Reach::Installation) => {
                let message = "Name the project whose connections you want: `project_id`.";
                return Err(Error::new(Code::InvalidRequest, message).with(json!({ "field": "project_id" })));
            }
        };
        let limit = page.limit.clamp(1, MAX_PAGE);
        // One more than wanted, to know whether there are more.
        let question = Question { project, only: None, after: page.after, limit: limit + 1 };
        let mut found = self.ask_all(tenant, question).await?;
        found.items.sort_unstable_by_key(|connection| connection.id);
        found.has_more = found.items.len() > limit as usize;
        found.items.truncate(limit as usize);
        Ok(found)
    }

    /// Ends a live connection, wherever it is. Its client is told not to come back by itself; its credentials stay.
    ///
    /// # Errors
    /// `NOT_FOUND` when no node has it.
    pub async fn end_connection(
        &self,
        may: &May<ConnectionsWrite>,
        tenant: Option<TenantId>,
        id: ConnectionId,
    ) -> Result<Changed<ConnectionId>, Error> {
        let tenant = match (may.principal().reach, tenant) {
            (Reach::Tenant(own), _) => own,
            (Reach::Installation, Some(tenant)) => tenant,
            (Reach::Installation, None) => {
                let message = "Name the tenant whose connection it is: `tenant_id`.";
                return Err(Error::new(Code::InvalidRequest, message).with(json!({ "field": "tenant_id" })));
            }
        };
        let question = Question { project: None, only: Some(id), after: None, limit: 1 };
        if self.ask_all(tenant, question).await?.items.is_empty() {
            return Err(Error::not_found("connection"));
        }
        Ok(self.store.inquiries.end_connection(tenant, id, may.by(&*self.clock)).await?)
    }

    /// Asks every node that runs, this one included.
    async fn ask_all(&self, tenant: TenantId, question: Question) -> Result<Connections, Error> {
        let mut found =
            Connections { items: self.connections_here(tenant, &question), has_more: false, nodes: 1, of: 1 };
        let others: Vec<NodeId> = self.store.nodes.live().await?.into_iter().map(|node| node.id).collect();
        let others = others.into_iter().filter(|node| *node != self.node).count();
        if others == 0 {
            return Ok(found);
        }
        found.of += u32::try_from(others).unwrap_or(u32::MAX);
        for answer in self.gather(tenant, &question, others).await? {
            found.nodes += 1;
            found.items.extend(serde_json::from_str::<Vec<Connection>>(&answer).map_err(Error::internal)?);
        }
        Ok(found)
    }

    /// The answers of the other nodes: of all, or of those that answered in time.
    async fn gather(
        &self,
        tenant: TenantId,
        question: &Question,
        others: usize,
    ) -> Result<Vec<String>, Error> {
        let mut notices = self.store.notices();
        let text = serde_json::to_string(question).map_err(Error::internal)?;
        let id = self.store.inquiries.ask(tenant, text).await?;
        let deadline = Instant::now() + self.settings.enforce_wait;
        loop {
            let mut answers = self.store.inquiries.answers(id, tenant).await?;
            // This node hears its own questions, too.
            answers.retain(|(node, _)| *node != self.node);
            if answers.len() >= others || Instant::now() >= deadline {
                return Ok(answers.into_iter().map(|(_, answer)| answer).collect());
            }
            let heard = async { while !matches!(notices.next().await, Notice::Answered(to) if to == id) {} };
            let _ = timeout_at((Instant::now() + LOOK_EVERY).min(deadline), heard).await;
        }
    }

    /// Answers another node's question.
    pub(crate) async fn answer_inquiry(&self, id: InquiryId) {
        let answered = async {
            let Some(asked) = self.store.inquiries.inquiry(id).await? else { return Ok(()) };
            // A newer program's questions are left to nodes that understand them.
            let Ok(question) = serde_json::from_str(&asked.question) else { return Ok(()) };
            let found = self.connections_here(asked.tenant_id, &question);
            let answer = serde_json::to_string(&found).map_err(Error::internal)?;
            Ok::<_, Error>(self.store.inquiries.answer(id, asked.tenant_id, self.node, answer).await?)
        };
        if let Err(error) = answered.await {
            tracing::warn!(%error, "another node's question stays unanswered: {error}");
        }
    }

    fn connections_here(&self, tenant: TenantId, question: &Question) -> Vec<Connection> {
        let wanted = |session: &Arc<Session>| {
            !session.is_ending()
                && question.only.is_none_or(|only| session.id == only)
                && question.after.is_none_or(|after| session.id > after)
        };
        let mut sessions: Vec<_> = self.sessions.of(tenant).into_iter().filter(wanted).collect();
        sessions.sort_unstable_by_key(|session| session.id);
        sessions
            .into_iter()
            .map(|session| (session.caller(), session))
            .filter(|(caller, _)| question.project.is_none_or(|project| caller.place.project == project))
            .take(question.limit.min(MAX_PAGE + 1) as usize)
            .map(|(caller, session)| self.describe(&caller, &session))
            .collect()
    }

    fn describe(&self, caller: &Caller, session: &Session) -> Connection {
        let (credential, user) = match &caller.who {
            Who::Key(key) => (key.to_string(), None),
            Who::Client { signer, subject, .. } => {
                (signer.to_string(), subject.as_deref().map(str::to_owned))
            }
            Who::Member { user, .. } => (user.to_string(), None),
        };
        Connection {
            id: session.id,
            project: caller.place.project,
            node: self.node,
            credential,
            user,
            topics: session.topics(),
            connected_at: session.id.made_at(),
            expires_at: caller.expires_at,
        }
    }
}
