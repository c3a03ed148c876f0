//! Erasing what deleted projects leave behind.

use super::Sql;
use super::database::{Database, Scope};
use super::value::args;
use crate::{By, Doomed, Erasure, Reply, StoreError};
use serde_json::json;
use std::time::Duration;
use weir_core::{ProjectId, TenantId};

/// One statement for each table whose rows go with their project.
macro_rules! rows_of_a_project {
    ($($table:literal),* $(,)?) => {
        &[$(concat!("DELETE FROM ", $table, " WHERE tenant_id = $1 AND project_id = $2")),*]
    };
}

/// What goes with a project: every table that holds what its people put in, those that refer to others first. A table with
/// a column `project_id` stands here, or in `KEPT` of the tests below with the reason why it stays.
const ERASED: &[&str] = rows_of_a_project![
    "topic_schema_versions",
    "topic_schemas",
    "tickets",
    "signing_keys",
    "system_events",
    "dead_letters",
    "webhooks",
    "log_marks",
    "log_storage",
];

impl Erasure for Sql {
    fn to_erase(&self, after: Duration, limit: u32) -> Reply<'_, Vec<Doomed>> {
        // What is not counted yet would never be billed.
        const DOOMED: &str =
            "SELECT p.tenant_id, p.id, t.stream FROM projects p JOIN tenants t ON t.id = p.tenant_id
             WHERE p.gone_at IS NOT NULL AND p.shredded_at IS NULL AND p.erased_at IS NULL AND p.gone_at <= $1
               AND NOT EXISTS (SELECT 1 FROM usage_positions u
                               WHERE u.ended_at IS NULL AND u.complete_until <= p.gone_at)
             ORDER BY p.gone_at LIMIT $2";
        const ELSEWHERE: &str =
            "SELECT DISTINCT u.stream FROM log_storage s JOIN usage_positions u ON u.epoch = s.epoch
             WHERE s.tenant_id = $1 AND s.project_id = $2";
        self.call(async move {
            let until = self.database.now().await?.minus(after);
            let rows =
                self.database.fetch_all(Scope::Operator, DOOMED, args![until, i64::from(limit)]).await?;
            let mut all = Vec::with_capacity(rows.len());
            for row in rows {
                let (tenant_id, project_id): (TenantId, ProjectId) = (row.get("tenant_id")?, row.get("id")?);
                let mut streams: Vec<String> = vec![row.get("stream")?];
                for row in self.database.fetch_all(tenant_id, ELSEWHERE, args![tenant_id, project_id]).await?
                {
                    let stream: String = row.get("stream")?;
                    if !streams.contains(&stream) {
                        streams.push(stream);
                    }
                }
                all.push(Doomed { tenant_id, project_id, streams });
            }
            Ok(all)
        })
    }

    fn erase(&self, doomed: Doomed, by: By) -> Reply<'_, bool> {
        self.call(async move {
            let (tenant, project) = (doomed.tenant_id, doomed.project_id);
            let mut tx = self.database.begin(tenant).await?;
            let now = tx.now().await?;
            let done = tx
                .execute(
                    "UPDATE projects SET erased_at = $3
                     WHERE tenant_id = $1 AND id = $2 AND gone_at IS NOT NULL AND erased_at IS NULL",
                    args![tenant, project, now],
                )
                .await?;
            if done == 0 {
                return Ok(false);
            }
            // Their sum is the tenant's.
            tx.execute(
                "UPDATE dead_letter_totals
                 SET letters = letters - (SELECT count(*) FROM dead_letters WHERE tenant_id = $1 AND project_id = $2),
                     bytes = bytes - (SELECT CAST(coalesce(sum(bytes), 0) AS BIGINT) FROM dead_letters
                                      WHERE tenant_id = $1 AND project_id = $2)
                 WHERE tenant_id = $1",
                args![tenant, project],
            )
            .await?;
            let mut rows = 0;
            for table in ERASED {
                rows += tx.execute(table, args![tenant, project]).await?;
            }
            tx.record(tenant, "project.erase", project, json!({ "rows": rows }), &by).await?;
            tx.commit().await?;
            Ok(true)
        })
    }

    fn to_shred(&self) -> Reply<'_, Vec<ProjectId>> {
        const ERASED: &str = "SELECT id FROM projects
             WHERE gone_at IS NOT NULL AND shredded_at IS NULL AND erased_at IS NOT NULL ORDER BY gone_at LIMIT 1000";
        self.call(async move {
            let rows = self.database.fetch_all(Scope::Operator, ERASED, args![]).await?;
            rows.iter().map(|row| row.get("id")).collect()
        })
    }

    fn shredded(&self, projects: Vec<ProjectId>) -> Reply<'_, ()> {
        self.call(async move {
            if matches!(self.database, Database::Sqlite { .. }) {
                // Deleted rows are overwritten in the file (`secure_delete`); copies of their pages are left in its log.
                let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
                let done = self.database.fetch_optional(Scope::Operator, checkpoint, args![]).await?;
                if done.map(|row| row.get::<i64>("busy")).transpose()? != Some(0) {
                    let busy = "the database's log is read at this moment and cannot be emptied".to_owned();
                    return Err(StoreError::Unavailable(busy));
                }
            }
            let mut tx = self.database.begin(Scope::Operator).await?;
            let now = tx.now().await?;
            for project in projects {
                let done = "UPDATE projects SET shredded_at = $2 WHERE id = $1 AND erased_at IS NOT NULL";
                tx.execute(done, args![project, now]).await?;
            }
            tx.commit().await
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;

    /// Tables that name projects and stay when one is erased.
    const KEPT: [(&str, &str); 6] = [
        ("api_keys", "revoked: hashes that open nothing, for whoever reads the audit trail"),
        ("usage_hourly", "it is billed"),
        ("usage_ranges", "numbers behind a bill; forgotten by age"),
        ("usage_batches", "numbers behind a bill; forgotten by age"),
        ("connection_shares", "leases, which end by themselves"),
        ("allowance_leases", "leases, which end by themselves"),
    ];

    #[tokio::test]
    async fn every_table_of_projects_is_erased_or_kept_for_a_reason() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let url = format!("sqlite://{}/weir.db", folder.path().display());
        let store = crate::open(&url, Options::default()).await.expect("opens");
        let sql = super::super::connect(&url, &Options::default()).await.expect("connects");
        let tables = "SELECT m.name AS name FROM sqlite_master m, pragma_table_info(m.name) c
             WHERE m.type = 'table' AND c.name = 'project_id' ORDER BY 1";
        let rows = sql.database.fetch_all(Scope::Operator, tables, args![]).await.expect("lists");
        let forgotten: Vec<String> = rows
            .iter()
            .map(|row| row.get::<String>("name").expect("a name"))
            .filter(|name| !ERASED.iter().any(|erased| erased.contains(&format!(" {name} "))))
            .filter(|name| !KEPT.iter().any(|(kept, _)| kept == name))
            .collect();
        assert!(forgotten.is_empty(), "{forgotten:?}: add them to ERASED, or to KEPT with the reason");
        drop(store);
    }
}
