//! Questions of one node to all.

use super::Sql;
use super::database::Scope;
use super::value::args;
use crate::notice::Notice;
use crate::{AccessChangeKind, By, Changed, Inquiries, Inquiry, InquiryId, Reply};
use serde_json::json;
use std::time::Duration;
use weir_core::{ConnectionId, NodeId, TenantId};

impl Inquiries for Sql {
    fn ask(&self, tenant: TenantId, question: String) -> Reply<'_, InquiryId> {
        self.call(async move {
            let id = InquiryId::new();
            let mut tx = self.database.begin(tenant).await?;
            let now = tx.now().await?;
            tx.execute(
                "INSERT INTO inquiries (id, tenant_id, question, asked_at) VALUES ($1, $2, $3, $4)",
                args![id, tenant, question, now],
            )
            .await?;
            tx.notify(Notice::Asked(id)).await?;
            tx.commit().await?;
            Ok(id)
        })
    }

    fn inquiry(&self, id: InquiryId) -> Reply<'_, Option<Inquiry>> {
        const READ: &str = "SELECT tenant_id, question FROM inquiries WHERE id = $1";
        self.call(async move {
            let row = self.database.fetch_optional(Scope::Operator, READ, args![id]).await?;
            row.map(|row| Ok(Inquiry { tenant_id: row.get("tenant_id")?, question: row.get("question")? }))
                .transpose()
        })
    }

    fn answer(&self, id: InquiryId, tenant: TenantId, node: NodeId, answer: String) -> Reply<'_, ()> {
        self.call(async move {
            let mut tx = self.database.begin(tenant).await?;
            tx.execute(
                "INSERT INTO inquiry_answers (inquiry_id, node_id, tenant_id, answer)
                 SELECT id, $2, tenant_id, $3 FROM inquiries WHERE id = $1 AND tenant_id = $4
                 ON CONFLICT (inquiry_id, node_id) DO NOTHING",
                args![id, node, answer, tenant],
            )
            .await?;
            tx.notify(Notice::Answered(id)).await?;
            tx.commit().await
        })
    }

    fn answers(&self, id: InquiryId, tenant: TenantId) -> Reply<'_, Vec<(NodeId, String)>> {
        const READ: &str = "SELECT node_id, answer FROM inquiry_answers
             WHERE inquiry_id = $1 AND tenant_id = $2 ORDER BY node_id";
        self.call(async move {
            let rows = self.database.fetch_all(tenant, READ, args![id, tenant]).await?;
            rows.iter().map(|row| Ok((row.get("node_id")?, row.get("answer")?))).collect()
        })
    }

    fn forget_inquiries(&self, age: Duration) -> Reply<'_, ()> {
        self.call(async move {
            let mut tx = self.database.begin(Scope::Operator).await?;
            let before = tx.now().await?.minus(age);
            tx.execute("DELETE FROM inquiries WHERE asked_at < $1", args![before]).await?;
            tx.commit().await
        })
    }

    fn end_connection(
        &self,
        tenant: TenantId,
        connection: ConnectionId,
        by: By,
    ) -> Reply<'_, Changed<ConnectionId>> {
        self.call(async move {
            let mut tx = self.database.begin(tenant).await?;
            let kind = AccessChangeKind::ConnectionEnded;
            let change = tx.change_access(tenant, kind, connection, json!({}), &by).await?;
            tx.commit().await?;
            Ok(Changed { value: connection, change })
        })
    }
}
