//! What was counted in the event log.

use super::Sql;
use super::database::{Scope, Tx};
use super::usage::{Sums, from_stored, range, to_stored};
use super::value::{Row, args};
use crate::{Count, CountedRange, CountedTo, Ledger, Metric, Positions, Reply, StoreError, UsageRange};
use weir_core::Timestamp;

fn counted_to(row: &Row) -> Result<CountedTo, StoreError> {
    Ok(CountedTo {
        epoch: row.get::<i64>("epoch")?.cast_unsigned(),
        stream: row.get("stream")?,
        position: from_stored(row.get("position")?)?,
        reached: row.get("reached")?,
        complete_until: row.get("complete_until")?,
        lost: from_stored(row.get("lost")?)?,
        live: row.get::<Option<i64>>("ended_at")?.is_none(),
    })
}

impl Tx {
    /// Moves the position; false when it is not where the step began.
    async fn advance(&mut self, from: Option<u64>, to: &CountedTo) -> Result<bool, StoreError> {
        let ended_at = if to.live { None } else { Some(self.now().await?) };
        let (epoch, position) = (to.epoch.cast_signed(), to_stored(to.position)?);
        let lost = to_stored(to.lost)?;
        let touched = match from {
            None => {
                self.execute(
                    "INSERT INTO usage_positions (epoch, stream, position, reached, complete_until, lost, ended_at)
                     VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (epoch) DO NOTHING",
                    args![
                        epoch,
                        to.stream.clone(),
                        position,
                        to.reached,
                        to.complete_until,
                        lost,
                        ended_at
                    ],
                )
                .await?
            }
            Some(from) => {
                // Who found nothing new leaves the position where it was; then the later of two knows more.
                self.execute(
                    "UPDATE usage_positions SET position = $3, reached = $4, complete_until = $5, lost = $6,
                         ended_at = $7
                     WHERE epoch = $1 AND position = $2 AND complete_until <= $5 AND lost <= $6",
                    args![
                        epoch,
                        to_stored(from)?,
                        position,
                        to.reached,
                        to.complete_until,
                        lost,
                        ended_at
                    ],
                )
                .await?
            }
        };
        Ok(touched > 0)
    }

    async fn add_ranges(&mut self, epoch: u64, ranges: &[CountedRange]) -> Result<(), StoreError> {
        let row = |one: &CountedRange| {
            let (first, last) = (to_stored(one.first_sequence)?, to_stored(one.last_sequence)?);
            let quantity = to_stored(one.quantity)?;
            let epoch = epoch.cast_signed();
            Ok(args![one.tenant_id, one.window_start, one.project_id, epoch, first, last, quantity])
        };
        self.insert_all(
            "INSERT INTO usage_ranges (tenant_id, window_start, project_id, epoch, first_sequence, last_sequence,
                 quantity)",
            "ON CONFLICT (tenant_id, window_start, project_id, epoch)
             DO UPDATE SET last_sequence = excluded.last_sequence,
                 quantity = usage_ranges.quantity + excluded.quantity, recounted = NULL, recounted_at = NULL",
            ranges.iter().map(row).collect::<Result<_, StoreError>>()?,
        )
        .await
    }
}

impl Ledger for Sql {
    fn positions(&self) -> Reply<'_, Positions> {
        const COUNTED: &str = "SELECT epoch, stream, position, reached, complete_until, lost, ended_at
             FROM usage_positions ORDER BY epoch";
        // From one name to the next by the index, however many tenants share it.
        const STREAMS: &str = "WITH RECURSIVE names (stream) AS (
                 SELECT min(stream) FROM tenants
                 UNION ALL
                 SELECT (SELECT min(t.stream) FROM tenants t WHERE t.stream > names.stream)
                 FROM names WHERE names.stream IS NOT NULL
             )
             SELECT stream FROM names WHERE stream IS NOT NULL";
        self.call(async move {
            let now = self.database.now().await?;
            let streams = self.database.fetch_all(Scope::Operator, STREAMS, args![]).await?;
            let counted = self.database.fetch_all(Scope::Operator, COUNTED, args![]).await?;
            Ok(Positions {
                now,
                streams: streams.iter().map(|row| row.get("stream")).collect::<Result<_, _>>()?,
                counted: counted.iter().map(counted_to).collect::<Result<_, _>>()?,
            })
        })
    }

    fn count(&self, step: Count) -> Reply<'_, bool> {
        self.call(async move {
            let mut sums = Sums::new();
            for one in &step.ranges {
                let key = (one.tenant_id, one.window_start.hour(), Metric::EventsPublished, one.project_id);
                let sum = sums.entry(key).or_default();
                *sum = sum.saturating_add(one.quantity);
            }
            let mut tx = self.database.begin(Scope::Operator).await?;
            if !tx.advance(step.from, &step.to).await? {
                return Ok(false);
            }
            tx.add_usage(&sums).await?;
            tx.add_ranges(step.to.epoch, &step.ranges).await?;
            tx.add_stored(&step).await?;
            tx.commit().await?;
            Ok(true)
        })
    }

    fn to_recount(&self, before: Timestamp, limit: usize) -> Reply<'_, Vec<UsageRange>> {
        const TO_RECOUNT: &str =
            "SELECT tenant_id, project_id, window_start, epoch, first_sequence, last_sequence,
                 quantity, recounted, recounted_at
             FROM usage_ranges WHERE recounted_at IS NULL AND window_start < $1
             ORDER BY window_start LIMIT $2";
        self.call(async move {
            let args = args![before, i64::try_from(limit).unwrap_or(i64::MAX)];
            self.database.fetch_all(Scope::Operator, TO_RECOUNT, args).await?.iter().map(range).collect()
        })
    }

    fn counted_before(&self, range: UsageRange) -> Reply<'_, Option<u64>> {
        const BEFORE: &str = "SELECT last_sequence FROM usage_ranges
             WHERE tenant_id = $1 AND window_start < $2 AND project_id = $3 AND epoch = $4
             ORDER BY window_start DESC LIMIT 1";
        self.call(async move {
            let epoch = range.epoch.cast_signed();
            let args = args![range.tenant_id, range.window_start, range.project_id, epoch];
            let row = self.database.fetch_optional(range.tenant_id, BEFORE, args).await?;
            row.map(|row| from_stored(row.get("last_sequence")?)).transpose()
        })
    }

    fn recounted(&self, range: UsageRange, found: Option<u64>) -> Reply<'_, bool> {
        self.call(async move {
            let found = found.map(to_stored).transpose()?;
            let mut tx = self.database.begin(range.tenant_id).await?;
            let now = tx.now().await?;
            let touched = tx
                .execute(
                    "UPDATE usage_ranges SET recounted = $6, recounted_at = $7
                     WHERE tenant_id = $1 AND window_start = $2 AND project_id = $3 AND epoch = $4
                       AND quantity = $5 AND recounted_at IS NULL",
                    args![
                        range.tenant_id,
                        range.window_start,
                        range.project_id,
                        range.epoch.cast_signed(),
                        to_stored(range.quantity)?,
                        found,
                        now
                    ],
                )
                .await?;
            tx.commit().await?;
            Ok(touched > 0)
        })
    }

    fn forget_explanations(&self, before: Timestamp) -> Reply<'_, ()> {
        self.call(async move {
            let mut tx = self.database.begin(Scope::Operator).await?;
            tx.execute("DELETE FROM usage_ranges WHERE window_start < $1", args![before]).await?;
            tx.execute("DELETE FROM usage_batches WHERE window_start < $1", args![before]).await?;
            tx.commit().await
        })
    }
}
