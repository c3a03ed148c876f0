//! Endpoints as the nodes that deliver see them.

use super::Sql;
use super::columns::{columns, webhook_columns};
use super::database::{Scope, Tx};
use super::value::{Row, Value, args};
use super::webhooks::{stored_position, webhook};
use crate::webhooks::{
    DeathReason, Deliveries, DisabledFor, KEPT_ATTEMPTS, LeasedWebhook, Progress, Webhook, WebhookMessage,
};
use crate::{By, Reply, StoreError};
use serde_json::json;
use std::time::Duration;
use weir_core::{NodeId, SystemTopic, TenantId, Timestamp, WebhookId};

/// The endpoints that are served: enabled, of tenants and projects that are.
macro_rules! served {
    ($columns:expr) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM webhooks w
                 JOIN tenants t ON t.id = w.tenant_id AND t.deleted_at IS NULL AND t.status <> 'suspended'
                 JOIN projects p ON p.tenant_id = w.tenant_id AND p.id = w.project_id AND p.deleted_at IS NULL
             WHERE w.enabled = 1"
        )
    };
}

fn message(row: &Row) -> Result<WebhookMessage, StoreError> {
    Ok(WebhookMessage {
        id: row.get("id")?,
        epoch: row.get::<i64>("epoch")?.cast_unsigned(),
        sequence: row.get("sequence")?,
        event_id: row.get("event_id")?,
        topic: row.get("topic")?,
        cursor: row.get("cursor")?,
        traceparent: row.get("traceparent")?,
        body: Vec::new(),
        bytes: row.get("bytes")?,
        attempts: row.get("attempts")?,
        due_at: row.get("due_at")?,
        first_failed_at: row.get("first_failed_at")?,
        last_failed_at: row.get("last_failed_at")?,
        failure: row.get("failure")?,
        dead_letter: row.get("dead_letter_id")?,
    })
}

impl Tx {
    /// Writes a message that is not there, or when the one that is there is tried next.
    pub async fn put_message(&mut self, of: &Webhook, message: WebhookMessage) -> Result<(), StoreError> {
        const PUT: &str = "INSERT INTO webhook_messages (id, tenant_id, webhook_id, epoch, sequence, event_id, topic, cursor,
                 traceparent, body, attempts, due_at, first_failed_at, last_failed_at, failure, dead_letter_id)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
             ON CONFLICT (webhook_id, id) DO UPDATE SET attempts = excluded.attempts, due_at = excluded.due_at,
                 first_failed_at = excluded.first_failed_at, last_failed_at = excluded.last_failed_at,
                 failure = excluded.failure";
        let sequence = super::billing::to_stored(message.sequence)?;
        self.execute(
            PUT,
            args![
                message.id,
                of.tenant_id,
                of.id,
                message.epoch.cast_signed(),
                sequence,
                message.event_id,
                message.topic,
                message.cursor,
                message.traceparent,
                message.body,
                message.attempts,
                message.due_at,
                message.first_failed_at,
                message.last_failed_at,
                message.failure,
                message.dead_letter
            ],
        )
        .await
        .map(drop)
    }

    async fn note_attempts(&mut self, of: &Webhook, progress: &Progress) -> Result<(), StoreError> {
        if progress.attempts.is_empty() {
            return Ok(());
        }
        let row = |one: &crate::webhooks::WebhookAttempt| -> Result<Vec<Value>, StoreError> {
            let sequence = super::billing::to_stored(one.sequence)?;
            let millis = i64::try_from(one.millis).unwrap_or(i64::MAX);
            Ok(args![
                one.id,
                of.tenant_id,
                of.id,
                one.at,
                one.message_id.clone(),
                one.event_id.clone(),
                one.topic.clone(),
                sequence,
                one.number,
                one.outcome,
                one.status.map(u32::from),
                one.failure.clone(),
                millis
            ])
        };
        let rows = progress.attempts.iter().map(row).collect::<Result<_, _>>()?;
        self.insert_all(
            "INSERT INTO webhook_attempts (id, tenant_id, webhook_id, at, message_id, event_id, topic, sequence, number,
                 outcome, status, failure, millis)",
            "ON CONFLICT DO NOTHING",
            rows,
        )
        .await?;
        const FORGET: &str =
            "DELETE FROM webhook_attempts WHERE webhook_id = $1 AND tenant_id = $2 AND id <= (
             SELECT id FROM webhook_attempts WHERE webhook_id = $1 AND tenant_id = $2
             ORDER BY id DESC LIMIT 1 OFFSET $3)";
        self.execute(FORGET, args![of.id, of.tenant_id, KEPT_ATTEMPTS]).await.map(drop)
    }

    /// Nothing is sent to it any more until somebody enables it.
    async fn disable(&mut self, of: &Webhook, reason: DisabledFor, now: Timestamp) -> Result<(), StoreError> {
        const DISABLE: &str =
            "UPDATE webhooks SET enabled = 0, disabled_for = $3, disabled_at = $4, node_id = NULL,
                 version = version + 1
             WHERE tenant_id = $1 AND id = $2";
        self.execute(DISABLE, args![of.tenant_id, of.id, reason, now]).await?;
        let told = json!({
            "webhook_id": of.id, "name": of.terms.name, "reason": reason.as_str(),
            "failing_since": of.failing_since,
        });
        self.tell(of.tenant_id, Some(of.project_id), SystemTopic::WebhookDisabled, &told, now).await?;
        self.record(of.tenant_id, "webhook.disable", of.id, told, &By::new("weir", now)).await
    }
}

impl Deliveries for Sql {
    fn lease(&self, node: NodeId, lease: Duration) -> Reply<'_, Vec<LeasedWebhook>> {
        const ANY: &str = "SELECT id FROM webhooks WHERE enabled = 1 LIMIT 1";
        const NODES: &str = "SELECT count(*) AS nodes FROM nodes WHERE lease_until >= $1";
        const RENEW: &str = "UPDATE webhooks SET until = $2 WHERE node_id = $1";
        const TAKE: &str = concat!(
            "UPDATE webhooks SET node_id = $1, until = $2
             WHERE id IN (",
            served!("w.id"),
            " AND (w.node_id IS NULL OR w.until < $3
                 OR NOT EXISTS (SELECT 1 FROM nodes n WHERE n.id = w.node_id AND n.lease_until >= $3))
               ORDER BY w.id LIMIT $4)"
        );
        const HELD: &str = concat!(
            served!(concat!(webhook_columns!("w."), ", t.stream AS stream")),
            " AND w.node_id = $1 ORDER BY w.id"
        );
        self.call(async move {
            if self.database.fetch_optional(Scope::Operator, ANY, args![]).await?.is_none() {
                return Ok(Vec::new());
            }
            let mut tx = self.database.begin(Scope::Operator).await?;
            // One node at a time: of two that take the same ones each would wait for the other.
            tx.execute("UPDATE turns SET until = until WHERE name = 'webhooks'", args![]).await?;
            let now = tx.now().await?;
            tx.execute(RENEW, args![node, now.plus(lease)]).await?;
            let total: u64 =
                tx.fetch("count", served!("count(*) AS webhooks"), args![]).await?.get("webhooks")?;
            let nodes: u64 = tx.fetch("count", NODES, args![now]).await?.get("nodes")?;
            let held = tx.fetch_all(HELD, args![node]).await?.len() as u64;
            let part = total.div_ceil(nodes.max(1));
            let more = i64::try_from(part.saturating_sub(held)).unwrap_or(i64::MAX);
            if more > 0 {
                tx.execute(TAKE, args![node, now.plus(lease), now, more]).await?;
            }
            let rows = tx.fetch_all(HELD, args![node]).await?;
            tx.commit().await?;
            let leased = |(place, row): (u64, &Row)| {
                Ok(LeasedWebhook {
                    webhook: webhook(row)?,
                    stream: row.get("stream")?,
                    surplus: place >= part,
                })
            };
            (0..).zip(&rows).map(leased).collect()
        })
    }

    fn release(&self, node: NodeId, ids: Vec<WebhookId>) -> Reply<'_, ()> {
        self.call(async move {
            let mut tx = self.database.begin(Scope::Operator).await?;
            for id in ids {
                tx.execute(
                    "UPDATE webhooks SET node_id = NULL WHERE id = $2 AND node_id = $1",
                    args![node, id],
                )
                .await?;
            }
            tx.commit().await
        })
    }

    fn messages(&self, tenant: TenantId, id: WebhookId) -> Reply<'_, Vec<WebhookMessage>> {
        const READ: &str = "SELECT id, epoch, sequence, event_id, topic, cursor, traceparent,
                 CAST(length(body) AS BIGINT) AS bytes, attempts, due_at, first_failed_at, last_failed_at, failure,
                 dead_letter_id
             FROM webhook_messages WHERE tenant_id = $1 AND webhook_id = $2 ORDER BY sequence, id";
        self.call(async move {
            let rows = self.database.fetch_all(tenant, READ, args![tenant, id]).await?;
            rows.iter().map(message).collect()
        })
    }

    fn body(&self, tenant: TenantId, id: WebhookId, message: String) -> Reply<'_, Option<Vec<u8>>> {
        const READ: &str =
            "SELECT body FROM webhook_messages WHERE tenant_id = $1 AND webhook_id = $2 AND id = $3";
        self.call(async move {
            let row = self.database.fetch_optional(tenant, READ, args![tenant, id, message]).await?;
            row.map(|row| row.get("body")).transpose()
        })
    }

    fn progress(&self, node: NodeId, of: &Webhook, progress: Progress, now: Timestamp) -> Reply<'_, bool> {
        const MOVE: &str =
            "UPDATE webhooks SET epoch = coalesce($5, epoch), sequence = coalesce($6, sequence),
                 checksum = coalesce($7, checksum),
                 failing_since = CASE WHEN $8 = 1 THEN $9 ELSE failing_since END
             WHERE tenant_id = $1 AND id = $2 AND node_id = $3 AND rewound = $4 AND enabled = 1";
        let of = of.clone();
        self.call(async move {
            let place = progress.cursor.map(stored_position).transpose()?;
            let (epoch, sequence, check) = match place {
                Some((epoch, sequence, check)) => (Some(epoch), Some(sequence), Some(check)),
                None => (None, None, None),
            };
            let mut tx = self.database.begin(of.tenant_id).await?;
            let failing = progress.failing_since.flatten();
            let args = args![
                of.tenant_id,
                of.id,
                node,
                of.rewound,
                epoch,
                sequence,
                check,
                progress.failing_since.is_some(),
                failing
            ];
            if tx.execute(MOVE, args).await? == 0 {
                return Ok(false);
            }
            tx.note_attempts(&of, &progress).await?;
            for message in progress.waiting {
                tx.put_message(&of, message).await?;
            }
            for message in progress.taken {
                tx.settle_message(&of, &message.id).await?;
                if let Some(letter) = message.dead_letter {
                    tx.forget_letters(of.tenant_id, &[letter]).await?;
                }
            }
            let mut buried = Vec::new();
            for (message, reason) in progress.dead {
                let (id, failure) = (message.id.clone(), message.failure.clone());
                tx.put_message(&of, message).await?;
                buried.push((id, reason, failure));
            }
            tx.bury_messages(&of, buried, now).await?;
            if let Some(reason) = progress.disable {
                tx.disable(&of, reason, now).await?;
            }
            tx.commit().await?;
            Ok(true)
        })
    }
}

impl Tx {
    async fn settle_message(&mut self, of: &Webhook, id: &str) -> Result<(), StoreError> {
        let settle = "DELETE FROM webhook_messages WHERE tenant_id = $1 AND webhook_id = $2 AND id = $3";
        self.execute(settle, args![of.tenant_id, of.id, id.to_owned()]).await.map(drop)
    }

    /// The copy first, then the original.
    async fn bury_messages(
        &mut self,
        of: &Webhook,
        messages: Vec<(String, DeathReason, Option<String>)>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        if messages.is_empty() {
            return Ok(());
        }
        for (id, reason, failure) in messages {
            self.bury_message(of, &id, reason, failure.unwrap_or_default(), now).await?;
            self.settle_message(of, &id).await?;
        }
        self.keep_letters_within(of.tenant_id, now).await
    }
}
