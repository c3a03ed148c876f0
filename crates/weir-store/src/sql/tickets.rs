//! Tickets.

use super::Sql;
use super::database::Scope;
use super::value::args;
use crate::{Reply, Ticket, Tickets};
use weir_core::Timestamp;

impl Tickets for Sql {
    fn issue(&self, ticket: Ticket) -> Reply<'_, ()> {
        self.call(async move {
            let mut tx = self.database.begin(ticket.tenant_id).await?;
            tx.execute(
                "INSERT INTO tickets (hash, tenant_id, project_id, caller, expires_at)
                 VALUES ($1, $2, $3, $4, $5)",
                args![ticket.hash, ticket.tenant_id, ticket.project_id, ticket.caller, ticket.expires_at],
            )
            .await?;
            tx.commit().await
        })
    }

    fn redeem(&self, hash: [u8; 32], now: Timestamp) -> Reply<'_, Option<Ticket>> {
        self.call(async move {
            let mut tx = self.database.begin(Scope::Operator).await?;
            let row = tx
                .fetch_optional(
                    "DELETE FROM tickets WHERE hash = $1 AND expires_at > $2
                     RETURNING tenant_id, project_id, caller, expires_at",
                    args![hash, now],
                )
                .await?;
            // Spent before it is used: whatever happens to the answer, nobody gets it twice.
            tx.commit().await?;
            let Some(row) = row else { return Ok(None) };
            Ok(Some(Ticket {
                hash,
                tenant_id: row.get("tenant_id")?,
                project_id: row.get("project_id")?,
                caller: row.get("caller")?,
                expires_at: row.get("expires_at")?,
            }))
        })
    }

    fn purge(&self, now: Timestamp) -> Reply<'_, u64> {
        self.call(async move {
            let mut tx = self.database.begin(Scope::Operator).await?;
            let purged = tx.execute("DELETE FROM tickets WHERE expires_at <= $1", args![now]).await?;
            tx.commit().await?;
            Ok(purged)
        })
    }
}
