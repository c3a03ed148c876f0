//! Endpoints as their owners see them.

use super::columns::{columns, webhook_columns};
use super::database::{Scope, Tx};
use super::value::{Row, args};
use super::{Sql, check_name};
use crate::webhooks::{
    AttemptOutcome, DisabledFor, MAX_WEBHOOKS, NewWebhook, Webhook, WebhookAttempt, WebhookTerms, Webhooks,
};
use crate::{After, By, Page, Reply, StoreError};
use serde_json::{Value, json};
use uuid::Uuid;
use weir_core::{Pattern, Position, ProjectId, TenantId, Timestamp, WebhookId};

const READ: &str =
    concat!("SELECT ", webhook_columns!(""), " FROM webhooks WHERE tenant_id = $1 AND id = $2");

/// A number of up to 64 bits as it is stored.
pub fn stored_position(position: Position) -> Result<(i64, i64, i64), StoreError> {
    let sequence = super::billing::to_stored(position.sequence)?;
    Ok((position.epoch.cast_signed(), sequence, position.check.into()))
}

pub fn webhook(row: &Row) -> Result<Webhook, StoreError> {
    let topics: String = row.get("w_topics")?;
    let topics: Vec<Pattern> = serde_json::from_str(&topics)
        .map_err(|error| StoreError::Corrupt(format!("the topics of a webhook cannot be read: {error}")))?;
    let (old, until): (Option<Vec<u8>>, Option<Timestamp>) =
        (row.get("w_old_secret")?, row.get("w_old_until")?);
    let (reason, since): (Option<DisabledFor>, Option<Timestamp>) =
        (row.get("w_disabled_for")?, row.get("w_disabled_at")?);
    Ok(Webhook {
        id: row.get("w_id")?,
        tenant_id: row.get("w_tenant_id")?,
        project_id: row.get("w_project_id")?,
        terms: WebhookTerms {
            name: row.get("w_name")?,
            url: row.get("w_url")?,
            topics,
            ordered: row.get("w_ordered")?,
            in_flight: row.get("w_in_flight")?,
        },
        secret: row.get("w_secret")?,
        old_secret: old.zip(until),
        enabled: row.get("w_enabled")?,
        disabled: reason.zip(since),
        failing_since: row.get("w_failing_since")?,
        cursor: Position {
            epoch: row.get::<i64>("w_epoch")?.cast_unsigned(),
            sequence: row.get("w_sequence")?,
            check: row.get("w_checksum")?,
        },
        rewound: row.get("w_rewound")?,
        version: row.get("w_version")?,
        created_at: row.get("w_created_at")?,
    })
}

/// What the audit trail says; never a secret.
fn details(terms: &WebhookTerms) -> Value {
    json!({
        "name": terms.name, "url": terms.url, "topics": terms.topics, "ordered": terms.ordered,
        "in_flight": terms.in_flight,
    })
}

fn topics(terms: &WebhookTerms) -> String {
    json!(terms.topics).to_string()
}

fn check(terms: &WebhookTerms) -> Result<(), StoreError> {
    if terms.name.is_empty() { Ok(()) } else { check_name("webhook", &terms.name) }
}

fn attempt(row: &Row) -> Result<WebhookAttempt, StoreError> {
    let status: Option<u32> = row.get("status")?;
    Ok(WebhookAttempt {
        id: row.get("id")?,
        at: row.get("at")?,
        message_id: row.get("message_id")?,
        event_id: row.get("event_id")?,
        topic: row.get("topic")?,
        sequence: row.get("sequence")?,
        number: row.get("number")?,
        outcome: row.get::<AttemptOutcome>("outcome")?,
        status: status.and_then(|status| status.try_into().ok()),
        failure: row.get("failure")?,
        millis: row.get("millis")?,
    })
}

impl Tx {
    /// Reads a webhook within a change.
    async fn webhook(&mut self, tenant: TenantId, id: WebhookId) -> Result<Webhook, StoreError> {
        webhook(&self.fetch("webhook", READ, args![tenant, id]).await?)
    }

    /// Deletes webhooks of a tenant, of one project or one alone where it is named, with what waits for them.
    pub async fn delete_webhooks(
        &mut self,
        tenant: TenantId,
        project: Option<ProjectId>,
        id: Option<WebhookId>,
    ) -> Result<u64, StoreError> {
        const OF: [&str; 2] = [
            "DELETE FROM webhook_messages WHERE tenant_id = $1 AND webhook_id IN (SELECT id FROM webhooks
                 WHERE tenant_id = $1 AND ($2 IS NULL OR project_id = $2) AND ($3 IS NULL OR id = $3))",
            "DELETE FROM webhook_attempts WHERE tenant_id = $1 AND webhook_id IN (SELECT id FROM webhooks
                 WHERE tenant_id = $1 AND ($2 IS NULL OR project_id = $2) AND ($3 IS NULL OR id = $3))",
        ];
        const HOLD: &str = "UPDATE webhooks SET node_id = NULL, enabled = 0
             WHERE tenant_id = $1 AND ($2 IS NULL OR project_id = $2) AND ($3 IS NULL OR id = $3)";
        // Whoever delivers waits for these rows, and then finds that it holds none.
        self.execute(HOLD, args![tenant, project, id]).await?;
        for of in OF {
            self.execute(of, args![tenant, project, id]).await?;
        }
        self.execute(
            "DELETE FROM webhooks WHERE tenant_id = $1 AND ($2 IS NULL OR project_id = $2) AND ($3 IS NULL OR id = $3)",
            args![tenant, project, id],
        )
        .await
    }
}

impl Webhooks for Sql {
    fn create(&self, tenant: TenantId, project: ProjectId, new: NewWebhook, by: By) -> Reply<'_, Webhook> {
        const INSERT: &str = concat!(
            "INSERT INTO webhooks (id, tenant_id, project_id, name, url, topics, ordered, in_flight, secret, enabled,
                                   epoch, sequence, checksum, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 1, $10, $11, $12, $13) RETURNING ",
            webhook_columns!("")
        );
        self.call(async move {
            check(&new.terms)?;
            let mut tx = self.database.begin(tenant).await?;
            tx.hold_project(tenant, project).await?;
            let count = "SELECT count(*) AS webhooks FROM webhooks WHERE tenant_id = $1 AND project_id = $2";
            let there: i64 = tx.fetch("project", count, args![tenant, project]).await?.get("webhooks")?;
            if there >= i64::from(MAX_WEBHOOKS) {
                return Err(StoreError::Conflict(format!(
                    "the project has {MAX_WEBHOOKS} webhooks, which is the limit: delete one that is not used any more"
                )));
            }
            let (epoch, sequence, check) = stored_position(new.cursor)?;
            let args = args![
                new.id,
                tenant,
                project,
                new.terms.name.clone(),
                new.terms.url.clone(),
                topics(&new.terms),
                new.terms.ordered,
                new.terms.in_flight,
                new.secret,
                epoch,
                sequence,
                check,
                by.at
            ];
            let made = webhook(&tx.fetch("webhook", INSERT, args).await?)?;
            let mut told = details(&new.terms);
            told["project_id"] = json!(project);
            tx.record(tenant, "webhook.create", new.id, told, &by).await?;
            tx.commit().await?;
            Ok(made)
        })
    }

    fn get(&self, tenant: TenantId, id: WebhookId) -> Reply<'_, Webhook> {
        self.call(async move {
            let row = self.database.fetch_optional(tenant, READ, args![tenant, id]).await?;
            webhook(&row.ok_or(StoreError::NotFound("webhook"))?)
        })
    }

    fn list(&self, tenant: TenantId, project: ProjectId, page: After<WebhookId>) -> Reply<'_, Page<Webhook>> {
        const LIST: &str = concat!(
            "SELECT ",
            webhook_columns!(""),
            " FROM webhooks WHERE tenant_id = $1 AND project_id = $2 AND id > $3 ORDER BY id LIMIT $4"
        );
        self.call(async move {
            let after = page.after.map_or(Uuid::nil(), WebhookId::uuid);
            let args = args![tenant, project, after, page.fetch_limit()];
            let rows = self.database.fetch_all(tenant, LIST, args).await?;
            Ok(Page::cut(rows.iter().map(webhook).collect::<Result<_, _>>()?, &page))
        })
    }

    fn tenant_of(&self, id: WebhookId) -> Reply<'_, Option<TenantId>> {
        self.call(async move {
            let find = "SELECT tenant_id FROM webhooks WHERE id = $1";
            let row = self.database.fetch_optional(Scope::Operator, find, args![id]).await?;
            row.map(|row| row.get("tenant_id")).transpose()
        })
    }

    fn change(&self, tenant: TenantId, id: WebhookId, terms: WebhookTerms, by: By) -> Reply<'_, Webhook> {
        self.call(async move {
            check(&terms)?;
            let mut tx = self.database.begin(tenant).await?;
            let changed = tx
                .execute(
                    "UPDATE webhooks SET name = $3, url = $4, topics = $5, ordered = $6, in_flight = $7,
                         version = version + 1
                     WHERE tenant_id = $1 AND id = $2",
                    args![
                        tenant,
                        id,
                        terms.name.clone(),
                        terms.url.clone(),
                        topics(&terms),
                        terms.ordered,
                        terms.in_flight
                    ],
                )
                .await?;
            if changed == 0 {
                return Err(StoreError::NotFound("webhook"));
            }
            tx.record(tenant, "webhook.change", id, details(&terms), &by).await?;
            let now = tx.webhook(tenant, id).await?;
            tx.commit().await?;
            Ok(now)
        })
    }

    fn rotate(
        &self,
        tenant: TenantId,
        id: WebhookId,
        secret: Vec<u8>,
        old_until: Timestamp,
        by: By,
    ) -> Reply<'_, Webhook> {
        self.call(async move {
            let mut tx = self.database.begin(tenant).await?;
            let changed = tx
                .execute(
                    "UPDATE webhooks SET old_secret = secret, old_until = $4, secret = $3, version = version + 1
                     WHERE tenant_id = $1 AND id = $2",
                    args![tenant, id, secret, old_until],
                )
                .await?;
            if changed == 0 {
                return Err(StoreError::NotFound("webhook"));
            }
            let told = json!({ "old_until": old_until });
            tx.record(tenant, "webhook.rotate", id, told, &by).await?;
            let now = tx.webhook(tenant, id).await?;
            tx.commit().await?;
            Ok(now)
        })
    }

    fn set_enabled(&self, tenant: TenantId, id: WebhookId, enabled: bool, by: By) -> Reply<'_, Webhook> {
        const ENABLE: &str = "UPDATE webhooks SET enabled = 1, disabled_for = NULL, disabled_at = NULL,
                 failing_since = NULL, version = version + 1
             WHERE tenant_id = $1 AND id = $2";
        const DISABLE: &str =
            "UPDATE webhooks SET enabled = 0, disabled_for = 'asked', disabled_at = $3, node_id = NULL,
                 version = version + 1
             WHERE tenant_id = $1 AND id = $2";
        self.call(async move {
            let mut tx = self.database.begin(tenant).await?;
            let changed = match enabled {
                true => tx.execute(ENABLE, args![tenant, id]).await?,
                false => tx.execute(DISABLE, args![tenant, id, by.at]).await?,
            };
            if changed == 0 {
                return Err(StoreError::NotFound("webhook"));
            }
            if enabled {
                // What waited is tried at once: its endpoint is said to be well.
                let due = "UPDATE webhook_messages SET due_at = $3 WHERE tenant_id = $1 AND webhook_id = $2";
                tx.execute(due, args![tenant, id, by.at]).await?;
            }
            let action = if enabled { "webhook.enable" } else { "webhook.disable" };
            tx.record(tenant, action, id, json!({}), &by).await?;
            let now = tx.webhook(tenant, id).await?;
            tx.commit().await?;
            Ok(now)
        })
    }

    fn rewind(&self, tenant: TenantId, id: WebhookId, cursor: Position, by: By) -> Reply<'_, Webhook> {
        self.call(async move {
            let (epoch, sequence, check) = stored_position(cursor)?;
            let mut tx = self.database.begin(tenant).await?;
            let changed = tx
                .execute(
                    "UPDATE webhooks SET epoch = $3, sequence = $4, checksum = $5, rewound = rewound + 1,
                         version = version + 1
                     WHERE tenant_id = $1 AND id = $2",
                    args![tenant, id, epoch, sequence, check],
                )
                .await?;
            if changed == 0 {
                return Err(StoreError::NotFound("webhook"));
            }
            // Those will be read again; what is sent besides the log, and what is before, goes on waiting.
            tx.execute(
                "DELETE FROM webhook_messages WHERE tenant_id = $1 AND webhook_id = $2 AND cursor <> ''
                   AND epoch = $3 AND sequence > $4 AND dead_letter_id IS NULL",
                args![tenant, id, epoch, sequence],
            )
            .await?;
            tx.record(tenant, "webhook.replay", id, json!({ "after_sequence": cursor.sequence }), &by)
                .await?;
            let now = tx.webhook(tenant, id).await?;
            tx.commit().await?;
            Ok(now)
        })
    }

    fn delete(&self, tenant: TenantId, id: WebhookId, by: By) -> Reply<'_, Webhook> {
        self.call(async move {
            let mut tx = self.database.begin(tenant).await?;
            let was = tx.webhook(tenant, id).await?;
            tx.delete_webhooks(tenant, None, Some(id)).await?;
            tx.record(tenant, "webhook.delete", id, details(&was.terms), &by).await?;
            tx.commit().await?;
            Ok(was)
        })
    }

    fn attempts(
        &self,
        tenant: TenantId,
        id: WebhookId,
        page: After<Uuid>,
    ) -> Reply<'_, Page<WebhookAttempt>> {
        const LIST: &str = "SELECT id, at, message_id, event_id, topic, sequence, number, outcome, status, failure, millis
             FROM webhook_attempts WHERE tenant_id = $1 AND webhook_id = $2 AND id < $3 ORDER BY id DESC LIMIT $4";
        self.call(async move {
            let before = page.after.unwrap_or(Uuid::max());
            let args = args![tenant, id, before, page.fetch_limit()];
            let rows = self.database.fetch_all(tenant, LIST, args).await?;
            Ok(Page::cut(rows.iter().map(attempt).collect::<Result<_, _>>()?, &page))
        })
    }

    fn waiting(&self, tenant: TenantId, id: WebhookId) -> Reply<'_, u64> {
        self.call(async move {
            let count =
                "SELECT count(*) AS messages FROM webhook_messages WHERE tenant_id = $1 AND webhook_id = $2";
            let row = self.database.fetch_optional(tenant, count, args![tenant, id]).await?;
            row.ok_or(StoreError::NotFound("count"))?.get("messages")
        })
    }
}
