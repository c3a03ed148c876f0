//! PostgreSQL's row-level security: a second wall behind the `WHERE` of every statement.
//!
//! Sessions come from two pools. Those for tenants have no tenant until their transaction names it, in the same round
//! trip as its `BEGIN`; without one the database refuses. Those for the operator's calls say so from their start. Both
//! work as the role `weir_app`, which owns nothing and obeys the policies even where the login is a superuser.

use super::Sql;
use super::database::{Database, Scope};
use super::value::args;
use crate::{Reply, StoreError, Wall};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor, PgPool};
use weir_core::TenantId;

/// The policies and the role; does what is missing.
const BUILD: &str = include_str!("wall.sql");

/// Takes the role if it is there and the login may. The search path is kept: it may follow from the login's name.
const STEP_DOWN: &str = "SELECT set_config('search_path', quote_ident(current_schema()), false),
        set_config('role', rolname, false)
     FROM pg_roles
     WHERE rolname = 'weir_app' AND pg_has_role(session_user, oid, 'MEMBER')
       AND has_table_privilege(oid, to_regclass('tenants'), 'SELECT')";

/// What the sessions of the operator's pool start with.
pub const OPERATOR: (&str, &str) = ("weir.tenant", "*");

/// Begins a transaction that sees one tenant's rows.
pub fn begin(tenant: TenantId) -> AssertSqlSafe<String> {
    // Safe: a UUID is hex digits and hyphens.
    AssertSqlSafe(format!("BEGIN; SET LOCAL weir.tenant = '{}'", tenant.uuid()))
}

/// Makes a new session work as `weir_app`.
pub async fn step_down(session: &mut PgConnection) -> Result<(), sqlx::Error> {
    session.execute(STEP_DOWN).await.map(drop)
}

/// Puts the wall up, in the session of whoever migrates.
pub async fn build(session: &mut PgConnection) -> Result<(), StoreError> {
    session.execute(BUILD).await?;
    Ok(())
}

/// Ends idle sessions: those from before the wall work as the login.
pub async fn forget_idle(pool: &PgPool) {
    while let Some(session) = pool.try_acquire() {
        // It ends either way.
        session.close().await.ok();
    }
}

impl Sql {
    /// How well tenants are kept apart by the database itself.
    pub fn wall(&self) -> Reply<'_, Wall> {
        const LOOK: &str = "SELECT CAST(current_user AS TEXT) AS role,
                CAST(CASE WHEN rolsuper OR rolbypassrls THEN 1 ELSE 0 END AS BIGINT) AS passes,
                (SELECT count(*) FROM pg_class
                 WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p')
                   AND pg_has_role(current_user, relowner, 'USAGE')) AS owned
             FROM pg_roles WHERE rolname = current_user";
        self.call(async {
            if matches!(self.database, Database::Sqlite { .. }) {
                return Ok(Wall::None);
            }
            let row = self.database.fetch_optional(Scope::Operator, LOOK, args![]).await?;
            let row = row.ok_or(StoreError::NotFound("role"))?;
            let role = row.get("role")?;
            Ok(match (row.get::<i64>("passes")?, row.get::<i64>("owned")?) {
                (0, 0) => Wall::Stands { role },
                (0, _) => Wall::Owner { role },
                _ => Wall::Bypassed { role },
            })
        })
    }
}
