//! Opening either database, and bringing its tables up to date.

use super::database::{Database, Scope};
use super::notices::Board;
use super::value::args;
use super::{Sql, wall};
use crate::load::Calls;
use crate::{Options, StoreError};
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Executor, PgPool};
use std::path::Path;
use std::str::FromStr;
use std::sync::LazyLock;
use std::time::{Duration, Instant};
use weir_core::Breaker;

static SQLITE: LazyLock<Migrator> = LazyLock::new(|| lenient(sqlx::migrate!("migrations/sqlite")));
static POSTGRES: LazyLock<Migrator> = LazyLock::new(|| lenient(sqlx::migrate!("migrations/postgres")));

/// Waiting for another node's migration may take as long as the migration.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(600);

/// Migrations only add, so during an upgrade an older program starts on tables newer than it knows.
fn lenient(mut migrations: Migrator) -> Migrator {
    migrations.set_ignore_missing(true);
    migrations
}

/// The version of the tables that this program brings.
pub fn latest_schema_version() -> i64 {
    POSTGRES.iter().map(|migration| migration.version).max().unwrap_or(0)
}

/// Opens the database that the URL names. Errors never repeat the URL: it may hold a password.
pub async fn connect(url: &str, options: &Options) -> Result<Sql, StoreError> {
    let board = Board::default();
    let database = match url.split_once(':').map(|(scheme, _)| scheme) {
        Some("sqlite") => open_sqlite(url, options, &board).await?,
        Some("postgres" | "postgresql") => open_postgres(url, options).await?,
        _ => {
            return Err(StoreError::Invalid(
                "the database URL must begin with sqlite:// (a file) or postgres://".into(),
            ));
        }
    };
    let migration_url = options.migration_url.clone();
    let breaker = matches!(database, Database::Postgres { .. }).then(Breaker::default);
    Ok(Sql {
        database,
        board,
        call_timeout: options.call_timeout,
        breaker,
        migration_url,
        clock: None,
        calls: Calls::default(),
    })
}

async fn open_sqlite(url: &str, options: &Options, board: &Board) -> Result<Database, StoreError> {
    let connect = SqliteConnectOptions::from_str(url)?;
    let path = connect.get_filename().to_owned();
    if url.contains(":memory:") || url.contains("mode=memory") || path.as_os_str().is_empty() {
        return Err(StoreError::Invalid(
            "the SQLite URL must name a file, as in sqlite://weir-data/weir.db: \
             each connection would see its own memory database"
                .into(),
        ));
    }
    create_private_file(&path)?;
    let connect = connect
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        // What is deleted is overwritten in the file: deleted tenants leave nothing.
        .pragma("secure_delete", "ON")
        .busy_timeout(options.acquire_timeout);
    let pool = |size: u32| {
        SqlitePoolOptions::new()
            .max_connections(size)
            .acquire_timeout(options.acquire_timeout)
            .idle_timeout(None)
    };
    // Whoever opens the file first turns write-ahead logging on, for which SQLite does not wait if another process
    // has the file open at that moment.
    let started = Instant::now();
    let writer = loop {
        match pool(1).connect_with(connect.clone()).await.map_err(StoreError::from) {
            Err(error) if error.is_transient() && started.elapsed() < options.acquire_timeout => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            opened => break opened?,
        }
    };
    let readers = pool(options.max_connections).connect_lazy_with(connect);
    Ok(Database::Sqlite { readers, writer, notices: board.sender() })
}

/// The file holds the root secret, so only its owner may read it; SQLite's other files take its mode.
fn create_private_file(path: &Path) -> Result<(), StoreError> {
    let failed =
        |error: std::io::Error| StoreError::Unavailable(format!("cannot create {}: {error}", path.display()));
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    let mut open = std::fs::OpenOptions::new();
    open.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut open, 0o600);
    open.open(path).map(drop).map_err(failed)
}

async fn open_postgres(url: &str, options: &Options) -> Result<Database, StoreError> {
    // The server, too, gives up on what nobody waits for any more, so an abandoned call keeps no locks.
    let limit = options.call_timeout.as_millis().to_string();
    let connect = postgres_options(url)?
        .options([("statement_timeout", &limit), ("idle_in_transaction_session_timeout", &limit)]);
    let pool = |size: u32| {
        PgPoolOptions::new()
            .max_connections(size.max(1))
            .acquire_timeout(options.acquire_timeout)
            .after_connect(|session, _| Box::pin(wall::step_down(session)))
    };
    let for_tenants = options.max_connections / 2;
    let opened = pool(options.max_connections - for_tenants)
        .connect_with(connect.clone().options([wall::OPERATOR]))
        .await;
    let operator = match opened {
        Ok(operator) => operator,
        Err(error) => return Err(why_closed(error, &connect, options.acquire_timeout).await),
    };
    Ok(Database::Postgres { tenants: pool(for_tenants).connect_lazy_with(connect), operator })
}

/// Why the server could not be connected to, and which one that was; without the login's name or password.
async fn why_closed(error: sqlx::Error, connect: &PgConnectOptions, patience: Duration) -> StoreError {
    let error = match error {
        // A pool does not say what went wrong while it waited; a connection of one's own does.
        sqlx::Error::PoolTimedOut => match tokio::time::timeout(patience, connect.connect()).await {
            Ok(Err(error)) => error,
            Ok(Ok(_)) | Err(_) => sqlx::Error::PoolTimedOut,
        },
        error => error,
    };
    match StoreError::from(error) {
        StoreError::Unavailable(text) => {
            let (host, port) = (connect.get_host(), connect.get_port());
            let database = connect.get_database().unwrap_or("of the login's name");
            StoreError::Unavailable(format!("database {database} at {host}:{port}: {text}"))
        }
        other => other,
    }
}

fn postgres_options(url: &str) -> Result<PgConnectOptions, StoreError> {
    let parsed = PgConnectOptions::from_str(url).map_err(|_| {
        StoreError::Invalid(
            "the PostgreSQL URL is not of the form postgres://user:password@host:port/database".into(),
        )
    })?;
    Ok(parsed.application_name("weir"))
}

/// Whether the login may not do what migrating takes.
fn is_forbidden(error: &MigrateError) -> bool {
    let (MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) = error else {
        return false;
    };
    error.as_database_error().and_then(|error| error.code()).is_some_and(|state| state == "42501")
}

impl Sql {
    /// Brings the tables up to date. Any number of processes may do so at once: one works, the others wait.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        tokio::time::timeout(MIGRATION_TIMEOUT, self.run_migrations()).await.unwrap_or_else(|_| {
            Err(StoreError::Unavailable(format!("migrations did not finish within {MIGRATION_TIMEOUT:?}")))
        })
    }

    /// `run_direct` is `run` without its `Acquire` bound, which the compiler cannot prove for every lifetime, so that
    /// the future would not be `Send`.
    async fn run_migrations(&self) -> Result<(), StoreError> {
        match &self.database {
            Database::Sqlite { writer, .. } => {
                // sqlx does not lock SQLite. The outer transaction does; the migrations become savepoints in it.
                let mut tx = writer.begin_with("BEGIN IMMEDIATE").await?;
                SQLITE.run_direct(None, &mut *tx, false).await?;
                tx.commit().await?;
            }
            Database::Postgres { tenants, operator } => {
                self.migrate_postgres(operator).await?;
                wall::forget_idle(tenants).await;
                wall::forget_idle(operator).await;
            }
        }
        Ok(())
    }

    /// On its own connection, as the login and not as `weir_app`: sqlx takes an advisory lock for the session, and after
    /// an error only the end of the session releases it.
    async fn migrate_postgres(&self, pool: &PgPool) -> Result<(), StoreError> {
        let mut session = match &self.migration_url {
            // It passes the policies, for migrations that change rows.
            Some(url) => postgres_options(url.expose())?.options([wall::OPERATOR]).connect().await?,
            None => pool.connect_options().connect().await?,
        };
        session.execute("SET statement_timeout = 0").await?;
        let done = match POSTGRES.run_direct(None, &mut session, false).await {
            Ok(()) => wall::build(&mut session).await,
            // sqlx makes sure of its own table first, for which even a node that has nothing to migrate needs rights.
            Err(error) if is_forbidden(&error) && self.schema_version().await? >= latest_schema_version() => {
                wall::build(&mut session).await
            }
            Err(error) => Err(error.into()),
        };
        session.close().await.ok();
        done
    }

    /// The version of the tables in the database; 0 when there are none.
    pub async fn schema_version(&self) -> Result<i64, StoreError> {
        const READ: &str = "SELECT max(version) AS version FROM _sqlx_migrations WHERE success";
        match self.call(async { self.database.fetch_optional(Scope::Operator, READ, args![]).await }).await {
            Ok(Some(row)) => Ok(row.get::<Option<i64>>("version")?.unwrap_or(0)),
            Ok(None) | Err(StoreError::Schema(_)) => Ok(0),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_that_is_not_there_is_named_with_the_reason() {
        let options = Options { acquire_timeout: Duration::from_millis(200), ..Options::default() };
        // Nobody listens on port 1.
        let opened = connect("postgres://someone:hidden@127.0.0.1:1/weir", &options).await;
        let error = opened.err().expect("nobody is there").to_string();
        assert!(error.contains("database weir at 127.0.0.1:1"), "{error}");
        assert!(error.to_lowercase().contains("refused"), "{error}");
        assert!(!error.contains("hidden") && !error.contains("someone"), "{error}");
    }
}
