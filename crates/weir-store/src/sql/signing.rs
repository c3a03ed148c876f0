//! Signing keys of client tokens.

use super::check_name;
use super::columns::{columns, signing_key_columns};
use super::database::Tx;
use super::value::{Row, args};
use crate::signing::{MAX_KEY_SETS, MAX_SIGNING_KEYS};
use crate::{By, NewSigningKey, SigningKey, SigningMaterial, StoreError};
use serde_json::{Value, json};
use weir_core::{ProjectId, TenantId};

pub fn signing_key(row: &Row) -> Result<SigningKey, StoreError> {
    let text = || {
        row.get::<Option<String>>("s_material")?
            .ok_or_else(|| StoreError::Corrupt("a public signing key without material".into()))
    };
    let material = match row.get::<String>("s_kind")?.as_str() {
        "secret" => SigningMaterial::Secret(row.get("s_sealed")?),
        "public_key" => SigningMaterial::PublicKey { algorithm: row.get("s_algorithm")?, key: text()? },
        "jwks" => SigningMaterial::KeySet(text()?),
        "jwks_url" => SigningMaterial::KeySetUrl(text()?),
        other => return Err(StoreError::Corrupt(format!("a signing key of the unknown kind `{other}`"))),
    };
    Ok(SigningKey {
        id: row.get("s_id")?,
        tenant_id: row.get("s_tenant_id")?,
        project_id: row.get("s_project_id")?,
        name: row.get("s_name")?,
        material,
        templates: row.get("s_templates")?,
        created_at: row.get("s_created_at")?,
        revoked_at: row.get("s_revoked_at")?,
    })
}

/// What the audit trail says of a new signing key; never the secret.
pub fn details(project: ProjectId, new: &NewSigningKey) -> Value {
    json!({
        "project_id": project,
        "name": new.name,
        "kind": new.material.kind(),
        "algorithm": new.material.algorithm().map(|algorithm| algorithm.as_str()),
        "url": match &new.material { SigningMaterial::KeySetUrl(url) => Some(url), _ => None },
        "templates": new.templates,
    })
}

impl Tx {
    /// Makes a signing key. The audit entry is the caller's.
    pub async fn insert_signing_key(
        &mut self,
        tenant: TenantId,
        project: ProjectId,
        new: NewSigningKey,
        by: &By,
    ) -> Result<SigningKey, StoreError> {
        if !new.name.is_empty() {
            check_name("signing key", &new.name)?;
        }
        let kind = new.material.kind().to_owned();
        // The column is older than the sets, which have none: an older program refuses what it does not know.
        let algorithm = new.material.algorithm().map_or("JWKS", |algorithm| algorithm.as_str()).to_owned();
        let public = new.material.public().map(str::to_owned);
        let sealed = if let SigningMaterial::Secret(sealed) = new.material { sealed } else { Vec::new() };
        let row = self
            .fetch(
                "signing key",
                concat!(
                    "INSERT INTO signing_keys (id, tenant_id, project_id, name, kind, algorithm, sealed, material,
                                               templates, created_at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) RETURNING ",
                    signing_key_columns!("")
                ),
                args![
                    new.id,
                    tenant,
                    project,
                    new.name,
                    kind,
                    algorithm,
                    sealed,
                    public,
                    new.templates,
                    by.at
                ],
            )
            .await?;
        signing_key(&row)
    }

    /// Refuses one signing key too many. Called with the tenant's row locked, so that two at once are counted.
    pub async fn check_signing_keys(
        &mut self,
        tenant: TenantId,
        project: ProjectId,
    ) -> Result<(), StoreError> {
        let row = self
            .fetch(
                "project",
                "SELECT count(*) AS keys, coalesce(sum(CASE WHEN kind IN ('jwks', 'jwks_url') THEN 1 ELSE 0 END), 0) AS sets
                 FROM signing_keys WHERE tenant_id = $1 AND project_id = $2 AND revoked_at IS NULL",
                args![tenant, project],
            )
            .await?;
        for (column, most, what) in
            [("keys", MAX_SIGNING_KEYS, "signing keys"), ("sets", MAX_KEY_SETS, "key sets")]
        {
            if row.get::<i64>(column)? > i64::from(most) {
                return Err(StoreError::Conflict(format!(
                    "the project has {most} {what}, which is the limit: revoke one that is not used any more"
                )));
            }
        }
        Ok(())
    }
}
