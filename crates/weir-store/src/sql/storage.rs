//! What the event logs keep of each project.

use super::Sql;
use super::database::{Scope, Tx};
use super::usage::{from_stored, to_stored};
use super::value::{Row, args};
use crate::{Amount, Count, Mark, MarkBy, Reply, Reviewed, Storage, StoreError, Stored};
use std::collections::BTreeMap;
use std::time::Duration;
use weir_core::{NodeId, ProjectId, TenantId, Timestamp};

/// A mark for every so many bytes at least. Where more is kept they are further apart: some hundreds a project.
const MARK_BYTES: i64 = 64 << 10;
const MARKS: i64 = 256;

/// The rows of logs that are there.
macro_rules! stored {
    ($rest:literal) => {
        concat!(
            "SELECT s.tenant_id, s.project_id, s.epoch, u.stream, s.last_sequence, s.events, s.bytes, s.floor_sequence,
                 s.floor_events, s.floor_bytes, s.oldest_at, s.asked
             FROM log_storage s JOIN usage_positions u ON u.epoch = s.epoch AND u.ended_at IS NULL ",
            $rest
        )
    };
}

fn stored(row: &Row) -> Result<Stored, StoreError> {
    let amount = |events, bytes| {
        Ok::<_, StoreError>(Amount {
            events: from_stored(row.get(events)?)?,
            bytes: from_stored(row.get(bytes)?)?,
        })
    };
    Ok(Stored {
        tenant_id: row.get("tenant_id")?,
        project_id: row.get("project_id")?,
        epoch: row.get::<i64>("epoch")?.cast_unsigned(),
        stream: row.get("stream")?,
        last_sequence: from_stored(row.get("last_sequence")?)?,
        total: amount("events", "bytes")?,
        floor_sequence: from_stored(row.get("floor_sequence")?)?,
        gone: amount("floor_events", "floor_bytes")?,
        oldest_at: row.get("oldest_at")?,
        asked: row.get("asked")?,
    })
}

impl Tx {
    /// Adds what a step of counting found to what is stored, and sets marks where enough came since the last.
    pub(super) async fn add_stored(&mut self, step: &Count) -> Result<(), StoreError> {
        let mut found: BTreeMap<(TenantId, ProjectId), (u64, u64, Amount)> = BTreeMap::new();
        for one in &step.ranges {
            let key = (one.tenant_id, one.project_id);
            let (first, last, amount) =
                found.entry(key).or_insert((one.first_sequence, one.last_sequence, Amount::default()));
            (*first, *last) = (one.first_sequence.min(*first), one.last_sequence.max(*last));
            amount.events = amount.events.saturating_add(one.quantity);
            amount.bytes = amount.bytes.saturating_add(one.bytes);
        }
        if found.is_empty() {
            return Ok(());
        }
        let (epoch, touched) = (step.to.epoch.cast_signed(), to_stored(step.to.position)?);
        let row =
            |((tenant, project), (first, last, amount)): (&(TenantId, ProjectId), &(u64, u64, Amount))| {
                let (before, last) = (to_stored(first.saturating_sub(1))?, to_stored(*last)?);
                let (events, bytes) = (to_stored(amount.events)?, to_stored(amount.bytes)?);
                Ok(args![*tenant, *project, epoch, before, last, events, bytes, touched])
            };
        self.insert_all(
            "INSERT INTO log_storage (tenant_id, project_id, epoch, floor_sequence, last_sequence, events, bytes, touched)",
            "ON CONFLICT (tenant_id, project_id, epoch)
             DO UPDATE SET last_sequence = excluded.last_sequence, events = log_storage.events + excluded.events,
                 bytes = log_storage.bytes + excluded.bytes, touched = excluded.touched, review_at = 0,
                 asked = log_storage.asked + 1",
            found.iter().map(row).collect::<Result<_, StoreError>>()?,
        )
        .await?;
        let args = || args![epoch, touched, MARK_BYTES, MARKS];
        self.execute(
            "INSERT INTO log_marks (tenant_id, project_id, epoch, sequence, events, bytes)
             SELECT tenant_id, project_id, epoch, last_sequence, events, bytes FROM log_storage
             WHERE epoch = $1 AND touched = $2 AND bytes - marked_bytes >= $3
               AND bytes - marked_bytes >= (bytes - floor_bytes) / $4",
            args(),
        )
        .await?;
        self.execute(
            "UPDATE log_storage SET marked_bytes = bytes
             WHERE epoch = $1 AND touched = $2 AND bytes - marked_bytes >= $3
               AND bytes - marked_bytes >= (bytes - floor_bytes) / $4",
            args(),
        )
        .await
        .map(drop)
    }

    /// Has retention look at a tenant soon: its limits changed.
    pub(super) async fn ask_for_review(&mut self, tenant: TenantId) -> Result<(), StoreError> {
        let ask = "UPDATE log_storage SET review_at = 0, asked = asked + 1 WHERE tenant_id = $1";
        self.execute(ask, args![tenant]).await.map(drop)
    }
}

impl Storage for Sql {
    fn take_turn(&self, node: NodeId, lease: Duration) -> Reply<'_, bool> {
        self.call(async move {
            let mut tx = self.database.begin(Scope::Operator).await?;
            let taken = tx.take_turn("retention", node, lease).await?;
            tx.commit().await?;
            Ok(taken)
        })
    }

    fn of_tenant(&self, tenant: TenantId) -> Reply<'_, Vec<Stored>> {
        const OF: &str = stored!("WHERE s.tenant_id = $1 ORDER BY s.project_id, s.epoch");
        self.call(async move {
            self.database.fetch_all(tenant, OF, args![tenant]).await?.iter().map(stored).collect()
        })
    }

    fn due(&self, now: Timestamp, limit: u32) -> Reply<'_, Vec<TenantId>> {
        const DUE: &str = "SELECT DISTINCT s.tenant_id FROM log_storage s
             JOIN usage_positions u ON u.epoch = s.epoch AND u.ended_at IS NULL
             WHERE s.review_at <= $1 LIMIT $2";
        self.call(async move {
            let rows = self.database.fetch_all(Scope::Operator, DUE, args![now, i64::from(limit)]).await?;
            rows.iter().map(|row| row.get("tenant_id")).collect()
        })
    }

    fn mark(&self, of: Stored, by: MarkBy) -> Reply<'_, Option<Mark>> {
        const BY_SEQUENCE: &str = "SELECT sequence, events, bytes FROM log_marks
             WHERE tenant_id = $1 AND project_id = $2 AND epoch = $3 AND sequence <= $4
             ORDER BY sequence DESC LIMIT 1";
        const BY_BYTES: &str = "SELECT sequence, events, bytes FROM log_marks
             WHERE tenant_id = $1 AND project_id = $2 AND epoch = $3 AND bytes <= $4
             ORDER BY sequence DESC LIMIT 1";
        self.call(async move {
            let (sql, bound) = match by {
                MarkBy::Sequence(sequence) => (BY_SEQUENCE, sequence),
                MarkBy::Bytes(bytes) => (BY_BYTES, bytes),
            };
            // Nothing that is stored is beyond.
            let bound = i64::try_from(bound).unwrap_or(i64::MAX);
            let args = args![of.tenant_id, of.project_id, of.epoch.cast_signed(), bound];
            let Some(row) = self.database.fetch_optional(of.tenant_id, sql, args).await? else {
                return Ok(None);
            };
            let number = |column| from_stored(row.get(column)?);
            let up_to = Amount { events: number("events")?, bytes: number("bytes")? };
            Ok(Some(Mark { sequence: number("sequence")?, up_to }))
        })
    }

    fn raise(&self, of: Stored, to: Mark, oldest_at: Option<Timestamp>) -> Reply<'_, bool> {
        self.call(async move {
            let (tenant, project, epoch) = (of.tenant_id, of.project_id, of.epoch.cast_signed());
            let (sequence, events, bytes) =
                (to_stored(to.sequence)?, to_stored(to.up_to.events)?, to_stored(to.up_to.bytes)?);
            let mut tx = self.database.begin(tenant).await?;
            let raised = tx
                .execute(
                    "UPDATE log_storage
                     SET floor_sequence = $4, floor_events = $5, floor_bytes = $6, oldest_at = $7
                     WHERE tenant_id = $1 AND project_id = $2 AND epoch = $3 AND floor_sequence < $4
                       AND last_sequence >= $4 AND events >= $5 AND bytes >= $6",
                    args![tenant, project, epoch, sequence, events, bytes, oldest_at],
                )
                .await?;
            if raised > 0 {
                let passed = "DELETE FROM log_marks
                     WHERE tenant_id = $1 AND project_id = $2 AND epoch = $3 AND sequence < $4";
                tx.execute(passed, args![tenant, project, epoch, sequence]).await?;
            }
            tx.commit().await?;
            Ok(raised > 0)
        })
    }

    fn reviewed(&self, of: Stored, reviewed: Reviewed) -> Reply<'_, ()> {
        const REVIEWED: &str = "UPDATE log_storage
             SET oldest_at = $5, review_at = CASE WHEN asked = $6 THEN $7 ELSE review_at END
             WHERE tenant_id = $1 AND project_id = $2 AND epoch = $3 AND floor_sequence = $4";
        self.call(async move {
            let mut tx = self.database.begin(of.tenant_id).await?;
            let args = args![
                of.tenant_id,
                of.project_id,
                of.epoch.cast_signed(),
                to_stored(of.floor_sequence)?,
                reviewed.oldest_at,
                of.asked,
                reviewed.next
            ];
            tx.execute(REVIEWED, args).await?;
            tx.commit().await
        })
    }

    fn floors(&self, after: Option<(ProjectId, u64)>, limit: u32) -> Reply<'_, Vec<Stored>> {
        const FLOORS: &str = stored!(
            "WHERE s.floor_events > 0 AND (s.project_id > $1 OR (s.project_id = $1 AND s.epoch > $2))
             ORDER BY s.project_id, s.epoch LIMIT $3"
        );
        self.call(async move {
            let nothing = (ProjectId::from_uuid(uuid::Uuid::nil()), 0);
            let (project, epoch) = after.unwrap_or(nothing);
            let args = args![project, epoch.cast_signed(), i64::from(limit)];
            self.database.fetch_all(Scope::Operator, FLOORS, args).await?.iter().map(stored).collect()
        })
    }
}
