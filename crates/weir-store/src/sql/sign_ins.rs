//! Refresh tokens.

use super::Sql;
use super::database::{Scope, Tx};
use super::value::args;
use crate::sign_ins::{Refresh, Rotation, SignIns, TokenHash};
use crate::{Reply, StoreError};
use weir_core::Timestamp;

impl Tx {
    async fn insert_refresh(&mut self, token: &Refresh) -> Result<(), StoreError> {
        self.execute(
            "INSERT INTO refresh_tokens (hash, family, user_id, tenant_id, expires_at)
             VALUES ($1, $2, $3, $4, $5)",
            args![token.hash, token.family, token.user_id, token.tenant_id, token.expires_at],
        )
        .await
        .map(drop)
    }

    /// Ends the sign-in of a token; says whose it was.
    async fn end_family(&mut self, token: TokenHash) -> Result<Option<weir_core::UserId>, StoreError> {
        let rows = self
            .fetch_all(
                "DELETE FROM refresh_tokens
                 WHERE family IN (SELECT family FROM refresh_tokens WHERE hash = $1) RETURNING user_id",
                args![token],
            )
            .await?;
        rows.first().map(|row| row.get("user_id")).transpose()
    }
}

impl SignIns for Sql {
    fn begin(&self, token: Refresh) -> Reply<'_, ()> {
        self.call(async move {
            let mut tx = self.database.begin(Scope::Operator).await?;
            tx.insert_refresh(&token).await?;
            tx.commit().await
        })
    }

    fn rotate(&self, old: TokenHash, new: (TokenHash, Timestamp), now: Timestamp) -> Reply<'_, Rotation> {
        self.call(async move {
            let mut tx = self.database.begin(Scope::Operator).await?;
            let row = tx
                .fetch_optional(
                    "UPDATE refresh_tokens SET used_at = $2
                     WHERE hash = $1 AND used_at IS NULL AND expires_at > $2
                     RETURNING family, user_id, tenant_id",
                    args![old, now],
                )
                .await?;
            if let Some(row) = row {
                let (hash, expires_at) = new;
                let token = Refresh {
                    hash,
                    family: row.get("family")?,
                    user_id: row.get("user_id")?,
                    tenant_id: row.get("tenant_id")?,
                    expires_at,
                };
                tx.insert_refresh(&token).await?;
                tx.commit().await?;
                return Ok(Rotation::Rotated(token));
            }
            let used = tx
                .fetch_optional(
                    "SELECT hash FROM refresh_tokens WHERE hash = $1 AND used_at IS NOT NULL",
                    args![old],
                )
                .await?;
            if used.is_none() {
                return Ok(Rotation::Refused);
            }
            let whose = tx.end_family(old).await?;
            tx.commit().await?;
            Ok(whose.map_or(Rotation::Refused, Rotation::Reused))
        })
    }

    fn end(&self, token: TokenHash) -> Reply<'_, ()> {
        self.call(async move {
            let mut tx = self.database.begin(Scope::Operator).await?;
            tx.end_family(token).await?;
            tx.commit().await
        })
    }

    fn purge(&self, now: Timestamp) -> Reply<'_, u64> {
        self.call(async move {
            let mut tx = self.database.begin(Scope::Operator).await?;
            let tokens = tx.execute("DELETE FROM refresh_tokens WHERE expires_at <= $1", args![now]).await?;
            let seats = tx.execute("DELETE FROM invitations WHERE expires_at <= $1", args![now]).await?;
            tx.commit().await?;
            Ok(tokens + seats)
        })
    }
}
