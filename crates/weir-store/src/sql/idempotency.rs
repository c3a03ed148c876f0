//! Idempotency keys.

use super::Sql;
use super::database::{Scope, Tx};
use super::value::{Row, args};
use crate::idempotency::{Answer, CLAIM_TIME, Claim, Claimed, IDEMPOTENCY_WINDOW, Idempotency, KeyedRequest};
use crate::{By, Reply, StoreError};
use uuid::Uuid;
use weir_core::{Permissions, TenantId, Timestamp};

/// Makes the row, or takes over one that is out of date, or one of the same request whose holder seems to have died
/// before it changed anything. Otherwise it returns nothing.
const CLAIM: &str = "INSERT INTO idempotency (tenant_id, actor, key, claim, request, claimed_at, claim_ends, held)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $9)
     ON CONFLICT (tenant_id, actor, key) DO UPDATE SET
         claim = excluded.claim, request = excluded.request, claimed_at = excluded.claimed_at,
         claim_ends = excluded.claim_ends, held = excluded.held, applied_at = NULL, status = NULL, sealed = NULL
     WHERE idempotency.claimed_at <= $8
        OR (idempotency.request = excluded.request AND idempotency.status IS NULL
            AND idempotency.applied_at IS NULL AND idempotency.claim_ends <= excluded.claimed_at)
     RETURNING claim";

fn owner(tenant: Option<TenantId>) -> Uuid {
    tenant.map_or(Uuid::nil(), TenantId::uuid)
}

fn scope(tenant: Option<TenantId>) -> Scope {
    tenant.map_or(Scope::Operator, Scope::Tenant)
}

impl Tx {
    /// Marks the request's claim as applied, so that it is so exactly if this transaction is. Fails when a copy of
    /// the request has taken the claim over.
    pub async fn apply_claim(&mut self, by: &By) -> Result<(), StoreError> {
        let Some(claim) = by.claim else { return Ok(()) };
        let marked = self
            .execute("UPDATE idempotency SET applied_at = $2 WHERE claim = $1", args![claim.uuid(), by.at])
            .await?;
        if marked == 0 {
            return Err(StoreError::Conflict(
                "this took so long that a copy of the request with the same Idempotency-Key went ahead"
                    .into(),
            ));
        }
        Ok(())
    }
}

/// How the row answers a request that could not claim it.
fn standing(row: &Row, wanted: &KeyedRequest, now: Timestamp) -> Result<Claimed, StoreError> {
    if row.get::<[u8; 32]>("request")? != wanted.request {
        return Ok(Claimed::OtherRequest);
    }
    if let Some(status) = row.get::<Option<u32>>("status")? {
        let status =
            u16::try_from(status).map_err(|_| StoreError::Corrupt(format!("{status} is no HTTP status")))?;
        let claim = Claim::from_uuid(row.get("claim")?);
        let held = Permissions::from_bits(row.get("held")?);
        return Ok(Claimed::Answered(claim, Answer { status, sealed: row.get("sealed")? }, held));
    }
    Ok(if row.get::<Timestamp>("claim_ends")? > now { Claimed::InProgress } else { Claimed::AnswerLost })
}

impl Idempotency for Sql {
    fn claim(&self, wanted: KeyedRequest, now: Timestamp) -> Reply<'_, Claimed> {
        self.call(async move {
            let claim = Claim::new();
            // Of at most 64 permissions the highest is not the sign.
            let held = i64::try_from(wanted.held.bits()).unwrap_or(i64::MAX);
            let (tenant, actor, key) = (owner(wanted.tenant), wanted.actor.clone(), wanted.key.clone());
            let mut tx = self.database.begin(scope(wanted.tenant)).await?;
            let made = tx
                .fetch_optional(
                    CLAIM,
                    args![
                        tenant,
                        actor.clone(),
                        key.clone(),
                        claim.uuid(),
                        wanted.request,
                        now,
                        now.plus(CLAIM_TIME),
                        now.minus(IDEMPOTENCY_WINDOW),
                        held,
                    ],
                )
                .await?;
            let claimed = if made.is_some() {
                Claimed::Yours(claim)
            } else {
                // The statement above locked the row even where it left it as it is.
                let row = tx
                    .fetch(
                        "idempotency key",
                        "SELECT claim, request, claim_ends, status, sealed, held FROM idempotency
                         WHERE tenant_id = $1 AND actor = $2 AND key = $3",
                        args![tenant, actor, key],
                    )
                    .await?;
                standing(&row, &wanted, now)?
            };
            tx.commit().await?;
            Ok(claimed)
        })
    }

    fn settle(&self, tenant: Option<TenantId>, claim: Claim, answer: Answer) -> Reply<'_, ()> {
        self.call(async move {
            let mut tx = self.database.begin(scope(tenant)).await?;
            tx.execute(
                "UPDATE idempotency SET status = $2, sealed = $3 WHERE claim = $1",
                args![claim.uuid(), u32::from(answer.status), answer.sealed],
            )
            .await?;
            tx.commit().await
        })
    }

    fn release(&self, tenant: Option<TenantId>, claim: Claim) -> Reply<'_, ()> {
        self.call(async move {
            let mut tx = self.database.begin(scope(tenant)).await?;
            let claim = claim.uuid();
            tx.execute("DELETE FROM idempotency WHERE claim = $1 AND applied_at IS NULL", args![claim])
                .await?;
            tx.execute("UPDATE idempotency SET claim_ends = 0 WHERE claim = $1", args![claim]).await?;
            tx.commit().await
        })
    }

    fn purge(&self, now: Timestamp) -> Reply<'_, u64> {
        self.call(async move {
            let mut tx = self.database.begin(Scope::Operator).await?;
            let purged = tx
                .execute(
                    "DELETE FROM idempotency WHERE claimed_at <= $1",
                    args![now.minus(IDEMPOTENCY_WINDOW)],
                )
                .await?;
            tx.commit().await?;
            Ok(purged)
        })
    }
}
