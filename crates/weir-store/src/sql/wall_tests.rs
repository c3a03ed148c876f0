//! What the second wall keeps when the first is gone: statements without their `WHERE`, through the pools that nodes
//! use, on a real server.

use super::database::Database;
use super::{Sql, wall};
use crate::conformance::set_up;
use crate::postgres_server::PostgresServer;
use crate::{Options, Store, StoreError, Wall, open};
use sqlx::{AssertSqlSafe, PgPool, Postgres, Row, Transaction};
use std::sync::Arc;
use std::time::Duration;
use weir_core::{Secret, TenantId};

/// The tables of tenants' things, with the column that says whose.
const TABLES: &str = "SELECT CAST(c.relname AS TEXT) AS name, CAST(a.attname AS TEXT) AS key
     FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND NOT a.attisdropped
     WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p')
       AND (a.attname = 'tenant_id' OR (c.relname, a.attname) = ('tenants', 'id'))
     ORDER BY name";

struct Node {
    server: Arc<PostgresServer>,
    database: String,
    store: Store,
    sql: Sql,
}

fn options() -> Options {
    Options {
        acquire_timeout: Duration::from_secs(60),
        call_timeout: Duration::from_secs(90),
        ..Options::default()
    }
}

async fn start(server: Arc<PostgresServer>) -> Node {
    let url = server.create_database().expect("a database");
    let store = open(&url, options()).await.expect("opens");
    let sql = super::connect(&url, &options()).await.expect("connects");
    let database = url.split(['/', '?']).nth(3).expect("its name").to_owned();
    Node { server, database, store, sql }
}

async fn shared() -> Node {
    start(PostgresServer::shared().expect("PostgreSQL")).await
}

async fn tenant(store: &Store, name: &str) -> TenantId {
    set_up(store, name).await.access.tenant.id
}

impl Node {
    fn pools(&self) -> (&PgPool, &PgPool) {
        match &self.sql.database {
            Database::Postgres { tenants, operator } => (tenants, operator),
            Database::Sqlite { .. } => unreachable!("this is PostgreSQL"),
        }
    }

    async fn within(&self, tenant: TenantId) -> Transaction<'static, Postgres> {
        self.pools().0.begin_with(wall::begin(tenant)).await.expect("begins")
    }

    async fn tables(&self) -> Vec<(String, String)> {
        let rows = sqlx::query(TABLES).fetch_all(self.pools().1).await.expect("lists");
        rows.iter().map(|row| (row.get("name"), row.get("key"))).collect()
    }

    /// Puts a row of the tenant into a table, of whatever fits its columns; nothing refers to it or is referred to.
    fn plant(&self, table: &str, tenant: TenantId) {
        let of_table = format!(
            "attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped
             AND (attnotnull OR attname = 'tenant_id')
             AND NOT atthasdef AND attidentity = ''"
        );
        let value = format!(
            "CASE WHEN attname = 'tenant_id' THEN '''{}'''
                  WHEN atttypid = 'uuid'::regtype THEN 'gen_random_uuid()'
                  WHEN atttypid = 'bytea'::regtype THEN 'sha256(random()::text::bytea)'
                  WHEN atttypid = 'text'::regtype THEN 'md5(random()::text)' ELSE '1' END",
            tenant.uuid()
        );
        let insert = self
            .server
            .run_sql(
                &self.database,
                &format!(
                    "SELECT 'INSERT INTO {table} (' || string_agg(quote_ident(attname), ', ' ORDER BY attnum)
                        || ') VALUES (' || string_agg({value}, ', ' ORDER BY attnum) || ')'
                     FROM pg_attribute WHERE {of_table}"
                ),
            )
            .expect("is built");
        // The row need not make sense, only belong to somebody. A replica does not check foreign keys.
        let planted = self.server.run_sql(
            &self.database,
            &format!(
                "DO $$ DECLARE rule text; BEGIN
                     FOR rule IN SELECT conname FROM pg_constraint
                                 WHERE conrelid = '{table}'::regclass AND contype = 'c' LOOP
                         EXECUTE format('ALTER TABLE {table} DROP CONSTRAINT %I', rule);
                     END LOOP;
                 END $$;
                 SET session_replication_role = replica; SET weir.tenant = '*'; {insert}"
            ),
        );
        planted.unwrap_or_else(|error| panic!("teach this test to make a row of `{table}`: {error}"));
    }

    /// How many rows the statement sees or touches.
    async fn count(tx: &mut Transaction<'static, Postgres>, sql: String) -> u64 {
        let done = sqlx::query(AssertSqlSafe(sql.clone())).execute(&mut **tx).await;
        done.unwrap_or_else(|error| panic!("{sql}: {error}")).rows_affected()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_where_a_statement_still_touches_no_foreign_row() {
    let node = shared().await;
    let (acme, globex) = (tenant(&node.store, "acme").await, tenant(&node.store, "globex").await);
    let tables = node.tables().await;
    assert!(tables.len() >= 9, "{tables:?}");
    for (table, key) in tables {
        let of = |tenant: TenantId| format!("SELECT 1 FROM {table} WHERE {key} = '{}'", tenant.uuid());
        for tenant in [acme, globex] {
            let mut all = node.pools().1.begin().await.expect("begins");
            let there = Node::count(&mut all, of(tenant)).await;
            // Not held open: it would lock out who changes the table.
            all.rollback().await.expect("ends");
            if there == 0 {
                node.plant(&table, tenant);
            }
        }
        let mut all = node.pools().1.begin().await.expect("begins");
        let (own, foreign) = (Node::count(&mut all, of(acme)).await, Node::count(&mut all, of(globex)).await);
        assert!(own > 0 && foreign > 0, "{table}: {own} and {foreign} rows");
        assert!(Node::count(&mut all, format!("SELECT 1 FROM {table}")).await >= own + foreign, "{table}");
        all.rollback().await.expect("ends");

        let mut tx = node.within(acme).await;
        assert_eq!(Node::count(&mut tx, format!("SELECT 1 FROM {table}")).await, own, "{table}");
        assert_eq!(Node::count(&mut tx, of(globex)).await, 0, "{table}");
        for (verb, sql) in [
            ("UPDATE", format!("UPDATE {table} SET {key} = {key}")),
            ("DELETE", format!("DELETE FROM {table}")),
        ] {
            let mut tx = node.within(acme).await;
            match sqlx::query(AssertSqlSafe(sql)).execute(&mut *tx).await {
                Ok(done) => assert_eq!(done.rows_affected(), own, "{verb} {table}"),
                // What refers to the row, or the trail's own protection.
                Err(error) => {
                    let text = error.to_string();
                    assert!(
                        text.contains("foreign key") || text.contains("permission denied"),
                        "{verb} {table}: {text}"
                    );
                    assert!(table.starts_with("audit") || verb == "DELETE", "{verb} {table}: {text}");
                }
            }
        }
        // Nor does one write into another's name, or give its own away.
        let mut tx = node.within(acme).await;
        let give = format!("UPDATE {table} SET {key} = '{}'", globex.uuid());
        assert!(sqlx::query(AssertSqlSafe(give)).execute(&mut *tx).await.is_err(), "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_forgets_to_say_whose_rows() {
    let node = shared().await;
    tenant(&node.store, "acme").await;
    let (tenants, operator) = node.pools();
    for fresh in [true, false] {
        for table in ["tenants", "projects", "api_keys", "signing_keys", "audit_entries", "installation"] {
            let read = format!("SELECT * FROM {table}");
            if table == "installation" {
                node.store.root_secret().await.expect("a secret");
            }
            let error = sqlx::query(AssertSqlSafe(read)).fetch_all(tenants).await.expect_err(table);
            assert!(error.as_database_error().is_some(), "{table}: {error}");
        }
        // A session that had a tenant forgets it with the transaction.
        if fresh {
            node.within(TenantId::new()).await.commit().await.expect("commits");
        }
    }
    let insert = "INSERT INTO tickets (hash, tenant_id, project_id, caller, expires_at)
         VALUES (sha256(''), gen_random_uuid(), gen_random_uuid(), '', 0)";
    assert!(sqlx::query(insert).execute(tenants).await.is_err());
    // The root secret is for no tenant's transaction.
    let mut tx = node.within(TenantId::new()).await;
    assert_eq!(Node::count(&mut tx, "SELECT 1 FROM installation".into()).await, 0);
    let secrets = sqlx::query("SELECT 1 FROM installation").fetch_all(operator).await.expect("reads");
    assert_eq!(secrets.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_work_as_a_role_that_cannot_take_the_wall_down() {
    let node = shared().await;
    assert_eq!(node.store.wall().await.expect("looks"), Wall::Stands { role: "weir_app".into() });
    assert_eq!(node.sql.wall().await.expect("looks"), Wall::Stands { role: "weir_app".into() });
    let (tenants, operator) = node.pools();
    for pool in [tenants, operator] {
        for forbidden in [
            "ALTER TABLE api_keys DISABLE ROW LEVEL SECURITY",
            "ALTER TABLE api_keys NO FORCE ROW LEVEL SECURITY",
            "DROP POLICY tenant ON api_keys",
            "CREATE POLICY mine ON api_keys USING (true)",
            "ALTER ROLE weir_app BYPASSRLS",
            "TRUNCATE api_keys",
            "UPDATE audit_entries SET actor = 'nobody'",
            "DELETE FROM audit_entries",
            "DELETE FROM audit_heads",
            "DROP TRIGGER audit_entries_are_kept ON audit_entries",
            "DELETE FROM _sqlx_migrations",
            "CREATE TABLE mine (id BIGINT)",
        ] {
            let error = sqlx::query(forbidden).execute(pool).await.expect_err(forbidden);
            let state = error.as_database_error().and_then(|error| error.code()).unwrap_or_default();
            assert_eq!(state, "42501", "{forbidden}: {error}");
        }
    }
    let off = "SET row_security = off; SET weir.tenant = '00000000-0000-0000-0000-000000000001'";
    let mut session = tenants.acquire().await.expect("a session").detach();
    sqlx::raw_sql(off).execute(&mut session).await.expect("sets");
    let error = sqlx::raw_sql("SELECT 1 FROM tenants").fetch_all(&mut session).await.expect_err("refuses");
    assert!(error.to_string().contains("row-level security"), "{error}");
}

/// Tables come with migrations; each that belongs to a tenant says so in a column and is behind the wall.
#[tokio::test(flavor = "multi_thread")]
async fn no_table_was_forgotten() {
    let node = shared().await;
    let bare = node
        .server
        .run_sql(
            &node.database,
            "SELECT c.relname FROM pg_class c
             WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
               AND NOT (c.relrowsecurity AND c.relforcerowsecurity
                        AND EXISTS (SELECT FROM pg_policy WHERE polrelid = c.oid AND polname = 'tenant'))
             ORDER BY 1",
        )
        .expect("lists");
    let shared_by_all = [
        "_sqlx_migrations",
        "access_closings",
        "nodes",
        "plans",
        "stripe_events",
        "turns",
        "usage_nodes",
        "usage_positions",
        "users",
    ];
    let forgotten: Vec<_> = bare.lines().filter(|table| !shared_by_all.contains(table)).collect();
    assert!(
        forgotten.is_empty(),
        "{forgotten:?} have no policy: give them a column tenant_id, or list them here if they belong to nobody"
    );
}

/// Tables owned by one role, nodes that log in as another: what a careful operator sets up.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_need_not_be_able_to_migrate() {
    let server = Arc::new(PostgresServer::start().expect("PostgreSQL"));
    let url = server.create_database().expect("a database");
    let roles = "CREATE ROLE weir_app NOLOGIN; CREATE ROLE weir_owner LOGIN; CREATE ROLE weir_node LOGIN;
         GRANT weir_app TO weir_node; ALTER DATABASE weir_0 OWNER TO weir_owner";
    server.run_sql("weir_0", roles).expect("roles");
    let as_role = |role: &str| url.replace("postgres@", &format!("{role}@"));

    let store =
        open(&as_role("weir_node"), Options { auto_migrate: false, ..options() }).await.expect("opens");
    assert_eq!(store.schema_version().await.expect("reads"), 0);
    let refused = store.migrate().await.expect_err("it may not");
    assert!(matches!(refused, StoreError::Schema(_)), "{refused}");

    let apart = Options { migration_url: Some(Secret::new(as_role("weir_owner"))), ..options() };
    let store = open(&as_role("weir_node"), apart).await.expect("opens and migrates");
    assert_eq!(store.wall().await.expect("looks"), Wall::Stands { role: "weir_app".into() });
    tenant(&store, "acme").await;
    // From then on it needs no other rights to start with auto_migrate.
    let store = open(&as_role("weir_node"), options()).await.expect("opens");
    tenant(&store, "globex").await;
    // The owner is held to the policies too.
    assert!(server.run_sql("weir_0", "SET ROLE weir_owner; SELECT * FROM tenants").is_err());
    let store = open(&as_role("weir_owner"), options()).await.expect("opens");
    assert_eq!(store.wall().await.expect("looks"), Wall::Owner { role: "weir_owner".into() });
    tenant(&store, "initech").await;
}

/// A plain user with a database of its own, as hosting companies give.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_cannot_make_roles_is_held_to_the_policies_as_owner() {
    let server = Arc::new(PostgresServer::start().expect("PostgreSQL"));
    let url = server.create_database().expect("a database").replace("postgres@", "plain@");
    let roles = "CREATE ROLE plain LOGIN; ALTER DATABASE weir_0 OWNER TO plain; CREATE SCHEMA plain AUTHORIZATION plain";
    server.run_sql("weir_0", roles).expect("roles");
    let store = open(&url, options()).await.expect("opens");
    assert_eq!(store.wall().await.expect("looks"), Wall::Owner { role: "plain".into() });
    let acme = tenant(&store, "acme").await;
    tenant(&store, "globex").await;
    let seen = format!("SET ROLE plain; SET weir.tenant = '{}'; SELECT name FROM plain.tenants", acme.uuid());
    assert_eq!(server.run_sql("weir_0", &seen).expect("reads"), "acme");

    // Its operator mends it: the role, and the next start grants it what it needs. The tables are in a schema that is
    // named like the login.
    server.run_sql("weir_0", "CREATE ROLE weir_app; GRANT weir_app TO plain").expect("a role");
    let store = open(&url, options()).await.expect("opens");
    assert_eq!(store.wall().await.expect("looks"), Wall::Stands { role: "weir_app".into() });
    tenant(&store, "initech").await;
}
