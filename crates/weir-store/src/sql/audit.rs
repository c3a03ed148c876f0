//! Chains of audit entries.

use super::Sql;
use super::database::{Scope, Tx};
use super::value::{Row, args};
use crate::audit::{Audit, Entry, Filter, Flaw, Hash, Links, MISSING, NewEntry, Verification};
use crate::{After, By, MAX_PAGE, Page, Reply, StoreError};
use serde_json::{Value, json};
use uuid::Uuid;
use weir_core::TenantId;

/// The installation's own chain has the nil UUID for a tenant: no tenant has it.
fn chain(tenant: Option<TenantId>) -> Uuid {
    tenant.map_or(Uuid::nil(), TenantId::uuid)
}

fn whose(chain: Uuid) -> Option<TenantId> {
    (!chain.is_nil()).then(|| TenantId::from_uuid(chain))
}

fn scope(tenant: Option<TenantId>) -> Scope {
    tenant.map_or(Scope::Operator, Scope::Tenant)
}

impl Tx {
    /// Writes the entry of a change to a tenant's things, or with `None` to the installation's.
    pub async fn record(
        &mut self,
        tenant: impl Into<Option<TenantId>>,
        action: &str,
        target: impl ToString,
        details: Value,
        by: &By,
    ) -> Result<(), StoreError> {
        let entry = NewEntry { action: action.to_owned(), target: target.to_string(), details };
        self.append(tenant.into(), entry, by).await.map(drop)
    }

    async fn append(
        &mut self,
        tenant: Option<TenantId>,
        new: NewEntry,
        by: &By,
    ) -> Result<Entry, StoreError> {
        self.apply_claim(by).await?;
        // One statement that makes the end of the chain or locks it, moves it on, and still returns the
        // hash of the entry before.
        let head = self
            .fetch(
                "audit chain",
                "INSERT INTO audit_heads (tenant_id, sequence, hash) VALUES ($1, 1, $2)
                 ON CONFLICT (tenant_id) DO UPDATE SET sequence = audit_heads.sequence + 1
                 RETURNING sequence, hash",
                args![chain(tenant), Hash::default()],
            )
            .await?;
        let mut entry = Entry {
            tenant_id: tenant,
            sequence: head.get("sequence")?,
            at: by.at,
            actor: by.actor.clone(),
            action: new.action,
            target: new.target,
            details: with_request(new.details, by).to_string(),
            previous_hash: head.get("hash")?,
            hash: Hash::default(),
        };
        entry.hash = entry.computed_hash();
        self.execute(
            "INSERT INTO audit_entries
                (tenant_id, sequence, at, actor, action, target, details, previous_hash, hash)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            args![
                chain(tenant),
                entry.sequence,
                entry.at,
                entry.actor.clone(),
                entry.action.clone(),
                entry.target.clone(),
                entry.details.clone(),
                entry.previous_hash,
                entry.hash,
            ],
        )
        .await?;
        self.execute(
            "UPDATE audit_heads SET hash = $2 WHERE tenant_id = $1",
            args![chain(tenant), entry.hash],
        )
        .await?;
        Ok(entry)
    }
}

fn with_request(mut details: Value, by: &By) -> Value {
    if let Some(id) = &by.request_id {
        match details.as_object_mut() {
            Some(fields) => {
                fields.insert("request_id".into(), json!(id));
            }
            None => details = json!({ "request_id": id, "details": details }),
        }
    }
    details
}

fn entry(row: &Row) -> Result<Entry, StoreError> {
    Ok(Entry {
        tenant_id: whose(row.get("tenant_id")?),
        sequence: row.get("sequence")?,
        at: row.get("at")?,
        actor: row.get("actor")?,
        action: row.get("action")?,
        target: row.get("target")?,
        details: row.get("details")?,
        previous_hash: row.get("previous_hash")?,
        hash: row.get("hash")?,
    })
}

impl Audit for Sql {
    fn append(&self, tenant: Option<TenantId>, entry: NewEntry, by: By) -> Reply<'_, Entry> {
        self.call(async move {
            let mut tx = self.database.begin(scope(tenant)).await?;
            let entry = tx.append(tenant, entry, &by).await?;
            tx.commit().await?;
            Ok(entry)
        })
    }

    fn list(&self, tenant: Option<TenantId>, filter: Filter, page: After<i64>) -> Reply<'_, Page<Entry>> {
        self.call(async move {
            let rows = self
                .database
                .fetch_all(
                    scope(tenant),
                    "SELECT tenant_id, sequence, at, actor, action, target, details, previous_hash, hash
                     FROM audit_entries WHERE tenant_id = $1 AND sequence > $2
                       AND ($4 IS NULL OR action = $4) AND ($5 IS NULL OR actor = $5)
                       AND ($6 IS NULL OR target = $6) AND ($7 IS NULL OR at >= $7)
                       AND ($8 IS NULL OR at < $8)
                     ORDER BY sequence LIMIT $3",
                    args![
                        chain(tenant),
                        page.after.unwrap_or(0),
                        page.fetch_limit(),
                        filter.action,
                        filter.actor,
                        filter.target,
                        filter.from,
                        filter.to,
                    ],
                )
                .await?;
            Ok(Page::cut(rows.iter().map(entry).collect::<Result<_, _>>()?, &page))
        })
    }

    fn chains(&self) -> Reply<'_, Vec<Option<TenantId>>> {
        const CHAINS: &str = "SELECT tenant_id FROM audit_heads
             UNION SELECT tenant_id FROM audit_entries ORDER BY tenant_id";
        self.call(async {
            let rows = self.database.fetch_all(Scope::Operator, CHAINS, args![]).await?;
            rows.iter().map(|row| row.get("tenant_id").map(whose)).collect()
        })
    }

    fn verify(&self, tenant: Option<TenantId>) -> Reply<'_, Verification> {
        // Not one call but many, each with its own time limit: a chain may be long.
        Box::pin(async move {
            // The end is read first: entries that are appended meanwhile are not asked for.
            let Ends { sequence: last, hash: head, newest } = self.call(self.chain_ends(tenant)).await?;
            let mut links = Links::default();
            while links.sequence < last {
                let page = After { after: Some(links.sequence), limit: MAX_PAGE };
                let entries = Audit::list(self, tenant, Filter::default(), page).await?.items;
                if entries.is_empty() {
                    return Ok(broken(links.sequence + 1, MISSING));
                }
                for entry in entries {
                    if links.sequence == last {
                        break;
                    }
                    if let Err(flaw) = links.add(&entry) {
                        return Ok(Verification::Broken(flaw));
                    }
                }
            }
            if links.head != head {
                return Ok(broken(last, "it is not the one that was written last"));
            }
            if newest > last {
                return Ok(broken(last + 1, "it was not written by this program"));
            }
            Ok(Verification::Intact { entries: last, head })
        })
    }
}

/// Where a chain ends: by its head, and by its entries. Read in one statement, so they agree.
struct Ends {
    sequence: i64,
    hash: Hash,
    newest: i64,
}

impl Sql {
    async fn chain_ends(&self, tenant: Option<TenantId>) -> Result<Ends, StoreError> {
        let row = self
            .database
            .fetch_optional(
                scope(tenant),
                "SELECT (SELECT sequence FROM audit_heads WHERE tenant_id = $1) AS sequence,
                        (SELECT hash FROM audit_heads WHERE tenant_id = $1) AS hash,
                        (SELECT max(sequence) FROM audit_entries WHERE tenant_id = $1) AS newest",
                args![chain(tenant)],
            )
            .await?
            .ok_or(StoreError::NotFound("audit chain"))?;
        Ok(Ends {
            sequence: row.get::<Option<_>>("sequence")?.unwrap_or(0),
            hash: row.get::<Option<_>>("hash")?.unwrap_or_default(),
            newest: row.get::<Option<_>>("newest")?.unwrap_or(0),
        })
    }
}

const fn broken(sequence: i64, reason: &'static str) -> Verification {
    Verification::Broken(Flaw { sequence, reason })
}
