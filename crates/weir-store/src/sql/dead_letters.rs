//! What could not be delivered or read.

use super::Sql;
use super::columns::{columns, webhook_columns};
use super::database::{Scope, Tx};
use super::value::{Row, args};
use super::webhooks::webhook;
use crate::dead_letters::{
    DeadLetter, DeadLetterFilter, DeadLetterTotals, DeadLetters, DeadSource, MAX_BYTES, MAX_LETTERS,
    MAX_REDRIVEN, PoisonEvent, Redriven,
};
use crate::webhooks::{DeathReason, MAX_MESSAGES, Webhook};
use crate::{After, By, Page, Reply, StoreError};
use serde_json::{Value, json};
use uuid::Uuid;
use weir_core::{DeadLetterId, ProjectId, SystemTopic, TenantId, Timestamp, WebhookId};

/// The shares of the bounds that are told, in percent; and the first letter of all.
const TOLD: [i64; 4] = [0, 50, 80, 100];
/// Once the bounds are reached, so many dropped letters are told together.
const DROPS_TOLD: i64 = 1_000;
/// Letters that are looked at together when room is made.
const DROPPED_AT_ONCE: i64 = 100;

/// All but the body.
macro_rules! letter {
    ($($body:literal)?) => {
        concat!(
            "SELECT id, tenant_id, project_id, source, webhook_id, message_id, state, reason, failure, attempts,
                 first_failed_at, last_failed_at, event_id, topic, cursor, traceparent, epoch, sequence, bytes",
            $($body,)?
            " FROM dead_letters WHERE tenant_id = $1"
        )
    };
}

fn letter(row: &Row, body: bool) -> Result<DeadLetter, StoreError> {
    Ok(DeadLetter {
        id: row.get("id")?,
        tenant_id: row.get("tenant_id")?,
        project_id: row.get("project_id")?,
        source: row.get::<DeadSource>("source")?,
        webhook_id: row.get("webhook_id")?,
        message_id: row.get("message_id")?,
        redriven: row.get::<String>("state")? == "redriven",
        reason: row.get::<DeathReason>("reason")?,
        failure: row.get("failure")?,
        attempts: row.get("attempts")?,
        first_failed_at: row.get("first_failed_at")?,
        last_failed_at: row.get("last_failed_at")?,
        event_id: row.get("event_id")?,
        topic: row.get("topic")?,
        cursor: row.get("cursor")?,
        traceparent: row.get("traceparent")?,
        epoch: row.get::<i64>("epoch")?.cast_unsigned(),
        sequence: row.get("sequence")?,
        body: if body { row.get("body")? } else { Vec::new() },
        bytes: row.get("bytes")?,
    })
}

/// What the audit trail says of one; never what it says itself.
fn details(letter: &DeadLetter) -> Value {
    json!({
        "source": letter.source.as_str(), "webhook_id": letter.webhook_id, "event_id": letter.event_id,
        "topic": letter.topic, "sequence": letter.sequence,
    })
}

/// Why a letter cannot be tried again.
fn hopeless(letter: &DeadLetter) -> Option<StoreError> {
    let why = match (letter.webhook_id, letter.reason) {
        (Some(_), DeathReason::Exhausted) => return None,
        (_, DeathReason::Undecodable) => {
            "it is not what it should be, which trying again does not mend: drop it"
        }
        (None, _) => "it belongs to no endpoint: drop it",
    };
    Some(StoreError::Conflict(format!("the dead letter {} cannot be tried again: {why}", letter.id)))
}

impl Tx {
    /// Makes a dead letter of a message that waits, or of one that was dead before and is again.
    pub async fn bury_message(
        &mut self,
        of: &Webhook,
        id: &str,
        reason: DeathReason,
        failure: String,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        const AGAIN: &str = "UPDATE dead_letters SET state = 'dead', reason = $4, failure = $5,
                 attempts = attempts + coalesce((SELECT attempts FROM webhook_messages
                     WHERE tenant_id = $1 AND webhook_id = $2 AND id = $3), 0),
                 last_failed_at = $6
             WHERE tenant_id = $1 AND source = 'webhook' AND message_id = $3 AND webhook_id = $2";
        const BURY: &str = "INSERT INTO dead_letters (id, tenant_id, project_id, source, webhook_id, message_id, state, reason,
                 failure, attempts, first_failed_at, last_failed_at, event_id, topic, cursor, traceparent, epoch, sequence,
                 body, bytes)
             SELECT $4, tenant_id, $5, 'webhook', webhook_id, id, 'dead', $6, $7, attempts, coalesce(first_failed_at, $8),
                 coalesce(last_failed_at, $8), event_id, topic, cursor, traceparent, epoch, sequence, body, length(body)
             FROM webhook_messages WHERE tenant_id = $1 AND webhook_id = $2 AND id = $3";
        let (tenant, hook) = (of.tenant_id, of.id);
        let again = args![tenant, hook, id.to_owned(), reason, failure.clone(), now];
        if self.execute(AGAIN, again).await? > 0 {
            return Ok(());
        }
        let args =
            args![tenant, hook, id.to_owned(), DeadLetterId::new(), of.project_id, reason, failure, now];
        if self.execute(BURY, args).await? == 0 {
            return Ok(());
        }
        let bytes = "SELECT CAST(length(body) AS BIGINT) AS bytes FROM webhook_messages
                     WHERE tenant_id = $1 AND webhook_id = $2 AND id = $3";
        let row = self.fetch("message", bytes, args![tenant, hook, id.to_owned()]).await?;
        self.count_letters(tenant, 1, row.get("bytes")?).await
    }

    async fn count_letters(&mut self, tenant: TenantId, letters: i64, bytes: i64) -> Result<(), StoreError> {
        const COUNT: &str = "INSERT INTO dead_letter_totals (tenant_id, letters, bytes, dropped, told)
             VALUES ($1, $2, $3, 0, -1)
             ON CONFLICT (tenant_id) DO UPDATE SET letters = dead_letter_totals.letters + excluded.letters,
                 bytes = dead_letter_totals.bytes + excluded.bytes";
        self.execute(COUNT, args![tenant, letters, bytes]).await.map(drop)
    }

    /// Deletes letters that nobody has to look at any more.
    pub async fn forget_letters(
        &mut self,
        tenant: TenantId,
        ids: &[DeadLetterId],
    ) -> Result<u64, StoreError> {
        const FORGET: &str = "DELETE FROM dead_letters WHERE tenant_id = $1 AND id = $2 RETURNING bytes";
        let mut gone = 0;
        for id in ids {
            if let Some(row) = self.fetch_optional(FORGET, args![tenant, *id]).await? {
                self.count_letters(tenant, -1, -row.get::<i64>("bytes")?).await?;
                gone += 1;
            }
        }
        Ok(gone)
    }

    /// Deletes the letters of a tenant, or of one project.
    pub async fn delete_letters(
        &mut self,
        tenant: TenantId,
        project: Option<ProjectId>,
    ) -> Result<u64, StoreError> {
        const DELETE: &str =
            "DELETE FROM dead_letters WHERE tenant_id = $1 AND ($2 IS NULL OR project_id = $2)";
        const RECOUNT: &str = "UPDATE dead_letter_totals SET
                 letters = (SELECT count(*) FROM dead_letters WHERE tenant_id = $1),
                 bytes = (SELECT CAST(coalesce(sum(bytes), 0) AS BIGINT) FROM dead_letters WHERE tenant_id = $1)
             WHERE tenant_id = $1";
        let deleted = self.execute(DELETE, args![tenant, project]).await?;
        match project {
            Some(_) => self.execute(RECOUNT, args![tenant]).await?,
            None => {
                self.execute("DELETE FROM dead_letter_totals WHERE tenant_id = $1", args![tenant]).await?
            }
        };
        Ok(deleted)
    }

    /// Drops the oldest where there are too many, and tells how it stands when that is worth a word.
    pub async fn keep_letters_within(&mut self, tenant: TenantId, now: Timestamp) -> Result<(), StoreError> {
        const TOTALS: &str =
            "SELECT letters, bytes, dropped, told FROM dead_letter_totals WHERE tenant_id = $1";
        const OLDEST: &str =
            "SELECT id, bytes FROM dead_letters WHERE tenant_id = $1 AND state = 'dead' ORDER BY id LIMIT $2";
        let Some(row) = self.fetch_optional(TOTALS, args![tenant]).await? else { return Ok(()) };
        let (mut letters, mut bytes): (i64, i64) = (row.get("letters")?, row.get("bytes")?);
        let (before, told): (i64, i64) = (row.get("dropped")?, row.get("told")?);
        let (most, most_bytes) = (max(MAX_LETTERS), max(MAX_BYTES));
        let mut dropped = before;
        while letters > most || bytes > most_bytes {
            let oldest = self.fetch_all(OLDEST, args![tenant, DROPPED_AT_ONCE]).await?;
            if oldest.is_empty() {
                break;
            }
            for row in oldest {
                if letters <= most && bytes <= most_bytes {
                    break;
                }
                self.execute(
                    "DELETE FROM dead_letters WHERE tenant_id = $1 AND id = $2",
                    args![tenant, row.get::<DeadLetterId>("id")?],
                )
                .await?;
                (letters, bytes, dropped) = (letters - 1, bytes - row.get::<i64>("bytes")?, dropped + 1);
            }
        }
        let percent = (letters * 100 / most).max(bytes * 100 / most_bytes);
        let percent = if dropped > before { 100 } else { percent };
        let level = TOLD.into_iter().filter(|level| *level <= percent && letters > 0).max().unwrap_or(-1);
        self.execute(
            "UPDATE dead_letter_totals SET letters = $2, bytes = $3, dropped = $4, told = $5 WHERE tenant_id = $1",
            args![tenant, letters, bytes, dropped, level],
        )
        .await?;
        if level > told || before / DROPS_TOLD < dropped / DROPS_TOLD {
            let growing = json!({
                "letters": letters, "bytes": bytes, "percent": percent, "dropped": dropped,
                "max_letters": most, "max_bytes": most_bytes,
            });
            self.tell(tenant, None, SystemTopic::DeadLettersGrowing, &growing, now).await?;
        }
        Ok(())
    }

    /// Locks the endpoint that a letter is to go to again; `None` when it is gone.
    async fn hold_webhook(&mut self, tenant: TenantId, id: WebhookId) -> Result<Option<Webhook>, StoreError> {
        // With its version its node begins anew, and finds the message.
        const HOLD: &str = concat!(
            "UPDATE webhooks SET version = version + 1 WHERE tenant_id = $1 AND id = $2 RETURNING ",
            webhook_columns!("")
        );
        self.fetch_optional(HOLD, args![tenant, id]).await?.as_ref().map(webhook).transpose()
    }

    /// Puts a dead letter among the messages that wait; false when it was there already.
    async fn revive(&mut self, of: &Webhook, id: DeadLetterId, now: Timestamp) -> Result<bool, StoreError> {
        const MARK: &str =
            "UPDATE dead_letters SET state = 'redriven' WHERE tenant_id = $1 AND id = $2 AND state = 'dead'";
        const REVIVE: &str = "INSERT INTO webhook_messages (id, tenant_id, webhook_id, epoch, sequence, event_id, topic, cursor,
                 traceparent, body, attempts, due_at, first_failed_at, last_failed_at, failure, dead_letter_id)
             SELECT message_id, tenant_id, webhook_id, epoch, sequence, coalesce(event_id, ''), coalesce(topic, ''),
                 coalesce(cursor, ''), traceparent, body, 0, $3, NULL, NULL, failure, id
             FROM dead_letters WHERE tenant_id = $1 AND id = $2
             ON CONFLICT (webhook_id, id) DO UPDATE SET due_at = excluded.due_at, dead_letter_id = excluded.dead_letter_id";
        if self.execute(MARK, args![of.tenant_id, id]).await? == 0 {
            return Ok(false);
        }
        self.execute(REVIVE, args![of.tenant_id, id, now]).await?;
        Ok(true)
    }
}

/// Bounds are far below what a column holds.
fn max(bound: u64) -> i64 {
    i64::try_from(bound).unwrap_or(i64::MAX)
}

impl DeadLetters for Sql {
    fn list(
        &self,
        tenant: TenantId,
        filter: DeadLetterFilter,
        page: After<DeadLetterId>,
    ) -> Reply<'_, Page<DeadLetter>> {
        const LIST: &str = concat!(
            letter!(),
            " AND ($2 IS NULL OR project_id = $2) AND ($3 IS NULL OR webhook_id = $3) AND id > $4 ORDER BY id LIMIT $5"
        );
        self.call(async move {
            let after = page.after.map_or(Uuid::nil(), DeadLetterId::uuid);
            let args = args![tenant, filter.project, filter.webhook, after, page.fetch_limit()];
            let rows = self.database.fetch_all(tenant, LIST, args).await?;
            let letters = rows.iter().map(|row| letter(row, false)).collect::<Result<_, _>>()?;
            Ok(Page::cut(letters, &page))
        })
    }

    fn get(&self, tenant: TenantId, id: DeadLetterId) -> Reply<'_, DeadLetter> {
        const GET: &str = concat!(letter!(", body"), " AND id = $2");
        self.call(async move {
            let row = self.database.fetch_optional(tenant, GET, args![tenant, id]).await?;
            letter(&row.ok_or(StoreError::NotFound("dead letter"))?, true)
        })
    }

    fn tenant_of(&self, id: DeadLetterId) -> Reply<'_, Option<TenantId>> {
        self.call(async move {
            let find = "SELECT tenant_id FROM dead_letters WHERE id = $1";
            let row = self.database.fetch_optional(Scope::Operator, find, args![id]).await?;
            row.map(|row| row.get("tenant_id")).transpose()
        })
    }

    fn totals(&self, tenant: TenantId) -> Reply<'_, DeadLetterTotals> {
        const TOTALS: &str = "SELECT letters, bytes, dropped FROM dead_letter_totals WHERE tenant_id = $1";
        self.call(async move {
            let row = self.database.fetch_optional(tenant, TOTALS, args![tenant]).await?;
            row.as_ref().map_or(Ok(DeadLetterTotals::default()), totals)
        })
    }

    fn all_totals(&self, limit: u32) -> Reply<'_, Vec<(TenantId, DeadLetterTotals)>> {
        const TOTALS: &str = "SELECT tenant_id, letters, bytes, dropped FROM dead_letter_totals
             WHERE letters > 0 ORDER BY letters DESC, tenant_id LIMIT $1";
        self.call(async move {
            let rows = self.database.fetch_all(Scope::Operator, TOTALS, args![limit]).await?;
            rows.iter().map(|row| Ok((row.get("tenant_id")?, totals(row)?))).collect()
        })
    }

    fn redrive(&self, tenant: TenantId, id: DeadLetterId, by: By) -> Reply<'_, DeadLetter> {
        const ONE: &str = concat!(letter!(), " AND id = $2");
        self.call(async move {
            let mut tx = self.database.begin(tenant).await?;
            let found = letter(&tx.fetch("dead letter", ONE, args![tenant, id]).await?, false)?;
            if let Some(why) = hopeless(&found) {
                return Err(why);
            }
            let hook = match found.webhook_id {
                Some(hook) => tx.hold_webhook(tenant, hook).await?,
                None => None,
            };
            let hook = hook.ok_or_else(|| {
                StoreError::Conflict(format!(
                    "the endpoint of the dead letter {id} was deleted: drop the letter"
                ))
            })?;
            let revived = tx.revive(&hook, id, by.at).await?;
            let action = if revived { "dead_letter.redrive" } else { "dead_letter.redrive_again" };
            tx.record(tenant, action, id, details(&found), &by).await?;
            tx.commit().await?;
            Ok(DeadLetter { redriven: true, ..found })
        })
    }

    fn redrive_all(
        &self,
        tenant: TenantId,
        filter: DeadLetterFilter,
        limit: u32,
        by: By,
    ) -> Reply<'_, Redriven> {
        const FIRST: &str = concat!(
            letter!(),
            " AND ($2 IS NULL OR project_id = $2) AND ($3 IS NULL OR webhook_id = $3) AND state = 'dead'
             ORDER BY epoch, sequence, id LIMIT $4"
        );
        const WAITING: &str =
            "SELECT count(*) AS messages FROM webhook_messages WHERE tenant_id = $1 AND webhook_id = $2";
        self.call(async move {
            let mut tx = self.database.begin(tenant).await?;
            let limit = limit.clamp(1, MAX_REDRIVEN);
            let rows = tx.fetch_all(FIRST, args![tenant, filter.project, filter.webhook, limit]).await?;
            let letters: Vec<DeadLetter> =
                rows.iter().map(|row| letter(row, false)).collect::<Result<_, _>>()?;
            // In the order of their ids, as everybody locks more than one.
            let mut ids: Vec<WebhookId> = letters.iter().filter_map(|letter| letter.webhook_id).collect();
            ids.sort_by_key(|id| id.uuid());
            ids.dedup();
            let mut hooks: Vec<(Webhook, u64)> = Vec::new();
            for id in ids {
                if let Some(hook) = tx.hold_webhook(tenant, id).await? {
                    let waiting = tx.fetch("count", WAITING, args![tenant, id]).await?.get("messages")?;
                    hooks.push((hook, waiting));
                }
            }
            let mut done = Redriven::default();
            for one in letters {
                let hook = hooks.iter_mut().find(|(hook, _)| Some(hook.id) == one.webhook_id);
                match hook {
                    Some((hook, waiting))
                        if hopeless(&one).is_none() && *waiting < u64::from(MAX_MESSAGES) =>
                    {
                        if tx.revive(hook, one.id, by.at).await? {
                            *waiting += 1;
                            done.redriven += 1;
                        }
                    }
                    _ => done.refused += 1,
                }
            }
            let told = json!({
                "project_id": filter.project, "webhook_id": filter.webhook, "redriven": done.redriven,
                "refused": done.refused,
            });
            tx.record(tenant, "dead_letter.redrive_all", tenant, told, &by).await?;
            tx.commit().await?;
            Ok(done)
        })
    }

    fn drop_letter(&self, tenant: TenantId, id: DeadLetterId, by: By) -> Reply<'_, ()> {
        const ONE: &str = concat!(letter!(), " AND id = $2");
        self.call(async move {
            let mut tx = self.database.begin(tenant).await?;
            let found = letter(&tx.fetch("dead letter", ONE, args![tenant, id]).await?, false)?;
            // One that is on its way again goes on as an ordinary message.
            tx.execute(
                "UPDATE webhook_messages SET dead_letter_id = NULL WHERE tenant_id = $1 AND dead_letter_id = $2",
                args![tenant, id],
            )
            .await?;
            tx.forget_letters(tenant, &[id]).await?;
            tx.record(tenant, "dead_letter.drop", id, details(&found), &by).await?;
            tx.commit().await
        })
    }

    fn bury(&self, poison: Vec<PoisonEvent>, now: Timestamp) -> Reply<'_, ()> {
        const BURY: &str =
            "INSERT INTO dead_letters (id, tenant_id, project_id, source, message_id, state, reason, failure,
                 attempts, first_failed_at, last_failed_at, topic, epoch, sequence, body, bytes)
             VALUES ($1, $2, $3, 'log', $4, 'dead', 'undecodable', $5, 1, $6, $6, $7, $8, $9, $10, $11)
             ON CONFLICT (tenant_id, source, message_id) DO NOTHING";
        self.call(async move {
            for one in poison {
                let mut tx = self.database.begin(one.tenant).await?;
                let bytes = i64::try_from(one.body.len()).unwrap_or(i64::MAX);
                let name = format!("{}:{:x}:{}", one.stream, one.epoch, one.sequence);
                let sequence = super::billing::to_stored(one.sequence)?;
                let args = args![
                    DeadLetterId::new(),
                    one.tenant,
                    one.project,
                    name,
                    one.failure,
                    now,
                    one.topic,
                    one.epoch.cast_signed(),
                    sequence,
                    one.body,
                    bytes
                ];
                if tx.execute(BURY, args).await? > 0 {
                    tx.count_letters(one.tenant, 1, bytes).await?;
                    tx.keep_letters_within(one.tenant, now).await?;
                }
                tx.commit().await?;
            }
            Ok(())
        })
    }
}

fn totals(row: &Row) -> Result<DeadLetterTotals, StoreError> {
    Ok(DeadLetterTotals {
        letters: row.get("letters")?,
        bytes: row.get("bytes")?,
        dropped: row.get("dropped")?,
    })
}
