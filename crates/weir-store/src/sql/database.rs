//! One small face for the two databases: the same statements with `$n` parameters, values in, rows out.
//!
//! sqlx's own answer, `Any`, knows neither UUIDs nor this crate's types, and being generic over its
//! `Database` trait puts a screen of bounds on every function. Two variants and a `match` are simpler.

use super::notices::CHANNEL;
use super::span;
use super::value::{Row, Value, args};
use super::wall;
use crate::StoreError;
use crate::notice::Notice;
use sqlx::postgres::{PgArguments, PgPool};
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqlitePool};
use sqlx::{AssertSqlSafe, Postgres, SqlSafeStr, Sqlite, Transaction};
use tokio::sync::broadcast;
use weir_core::{TenantId, Timestamp};

type Result<T> = std::result::Result<T, StoreError>;

/// A pool of connections to one of the databases.
pub enum Database {
    /// SQLite has one writer at a time. Giving it one connection makes writers of this process queue in the
    /// order they came instead of sleeping and trying again on a busy file.
    Sqlite {
        readers: SqlitePool,
        writer: SqlitePool,
        /// Whom to tell in this process.
        notices: broadcast::Sender<Notice>,
    },
    /// Sessions that may touch nothing until their transaction names a tenant, and sessions that may touch all: see
    /// `wall`.
    Postgres { tenants: PgPool, operator: PgPool },
}

/// Whose rows a statement may touch.
#[derive(Clone, Copy, Debug)]
pub enum Scope {
    /// One tenant's. On PostgreSQL the transaction says so (`SET LOCAL weir.tenant`), and row-level security holds it
    /// to that.
    Tenant(TenantId),
    /// Any: the calls that find out whose a credential is, and those of the installation itself.
    Operator,
}

impl From<TenantId> for Scope {
    fn from(tenant: TenantId) -> Self {
        Self::Tenant(tenant)
    }
}

/// A transaction. Dropping it undoes it.
pub enum Tx {
    /// With what it has to tell once it is committed.
    Sqlite(Transaction<'static, Sqlite>, Outbox),
    Postgres(Transaction<'static, Postgres>),
}

/// Notices on their way.
pub struct Outbox {
    waiting: Vec<Notice>,
    to: broadcast::Sender<Notice>,
}

/// Microseconds since 1970.
const POSTGRES_NOW: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now";
const SQLITE_NOW: &str = "SELECT CAST(unixepoch('subsec') * 1000000 AS INTEGER) AS now";

impl Database {
    /// The time by the database's clock, which all nodes share.
    pub async fn now(&self) -> Result<Timestamp> {
        let sql = if matches!(self, Self::Postgres { .. }) { POSTGRES_NOW } else { SQLITE_NOW };
        let row = self.fetch_optional(Scope::Operator, sql, args![]).await?;
        row.ok_or(StoreError::NotFound("time"))?.get("now")
    }

    pub async fn begin(&self, scope: impl Into<Scope>) -> Result<Tx> {
        let span = span::call(self.system(), "BEGIN", None);
        span::within(span, self.begin_transaction(scope)).await
    }

    async fn begin_transaction(&self, scope: impl Into<Scope>) -> Result<Tx> {
        Ok(match self {
            // A plain BEGIN takes the write lock at the first write, and fails at once when another process wrote
            // since the first read. IMMEDIATE takes it now, and waits.
            Self::Sqlite { writer, notices, .. } => Tx::Sqlite(
                begin_immediate(writer).await?,
                Outbox { waiting: Vec::new(), to: notices.clone() },
            ),
            Self::Postgres { tenants, operator } => Tx::Postgres(match scope.into() {
                Scope::Tenant(tenant) => tenants.begin_with(wall::begin(tenant)).await?,
                Scope::Operator => operator.begin().await?,
            }),
        })
    }

    pub async fn fetch_all(
        &self,
        scope: impl Into<Scope>,
        sql: &'static str,
        args: Vec<Value>,
    ) -> Result<Vec<Row>> {
        span::within(span::statement(self.system(), sql), self.fetch_rows(scope, sql, args)).await
    }

    async fn fetch_rows(
        &self,
        scope: impl Into<Scope>,
        sql: &'static str,
        args: Vec<Value>,
    ) -> Result<Vec<Row>> {
        Ok(match self {
            Self::Sqlite { readers, .. } => rows(sqlite(sql, args).fetch_all(readers).await?, Row::Sqlite),
            Self::Postgres { tenants, operator } => match scope.into() {
                Scope::Operator => rows(postgres(sql, args).fetch_all(operator).await?, Row::Postgres),
                Scope::Tenant(tenant) => {
                    let mut tx = tenants.begin_with(wall::begin(tenant)).await?;
                    let found = rows(postgres(sql, args).fetch_all(&mut *tx).await?, Row::Postgres);
                    tx.commit().await?;
                    found
                }
            },
        })
    }

    /// The row that the statement returns, if any. Statements here return at most one.
    pub async fn fetch_optional(
        &self,
        scope: impl Into<Scope>,
        sql: &'static str,
        args: Vec<Value>,
    ) -> Result<Option<Row>> {
        Ok(self.fetch_all(scope, sql, args).await?.pop())
    }

    /// What it is called; connections that are open, and those nobody uses; and how many there may be.
    pub fn connections(&self) -> (&'static str, (u32, u32), u32) {
        let idle = |idle: usize| u32::try_from(idle).unwrap_or(u32::MAX);
        match self {
            Self::Sqlite { readers, writer, .. } => {
                let open = readers.size() + writer.size();
                let most = readers.options().get_max_connections() + writer.options().get_max_connections();
                ("sqlite", (open, idle(readers.num_idle() + writer.num_idle())), most)
            }
            Self::Postgres { tenants, operator } => {
                let open = tenants.size() + operator.size();
                let most = tenants.options().get_max_connections() + operator.options().get_max_connections();
                ("postgres", (open, idle(tenants.num_idle() + operator.num_idle())), most)
            }
        }
    }

    /// What spans call it.
    const fn system(&self) -> &'static str {
        match self {
            Self::Sqlite { .. } => span::SQLITE,
            Self::Postgres { .. } => span::POSTGRES,
        }
    }

    pub async fn close(&self) {
        match self {
            Self::Sqlite { readers, writer, .. } => {
                readers.close().await;
                writer.close().await;
            }
            Self::Postgres { tenants, operator } => {
                tenants.close().await;
                operator.close().await;
            }
        }
    }
}

impl Tx {
    /// The time by the database's clock, which all nodes share.
    pub async fn now(&mut self) -> Result<Timestamp> {
        let sql = if matches!(self, Self::Postgres(_)) { POSTGRES_NOW } else { SQLITE_NOW };
        self.fetch("time", sql, args![]).await?.get("now")
    }

    /// Tells every node, once this is committed.
    pub async fn notify(&mut self, notice: Notice) -> Result<()> {
        match self {
            Self::Sqlite(_, outbox) => outbox.waiting.push(notice),
            Self::Postgres(tx) => {
                let notify = sqlx::query("SELECT pg_notify($1, $2)").bind(CHANNEL).bind(notice.to_string());
                notify.execute(&mut **tx).await?;
            }
        }
        Ok(())
    }

    /// The row that the statement returns, if any. Statements here return at most one; all of it is read,
    /// so the statement has run to its end.
    pub async fn fetch_optional(&mut self, sql: &'static str, args: Vec<Value>) -> Result<Option<Row>> {
        Ok(self.fetch_all(sql, args).await?.pop())
    }

    /// The rows that the statement returns.
    pub async fn fetch_all(&mut self, sql: &'static str, args: Vec<Value>) -> Result<Vec<Row>> {
        let span = span::statement(self.system(), sql);
        span::within(span, self.fetch_rows(sql, args)).await
    }

    async fn fetch_rows(&mut self, sql: &'static str, args: Vec<Value>) -> Result<Vec<Row>> {
        Ok(match self {
            Self::Sqlite(tx, _) => rows(sqlite(sql, args).fetch_all(&mut **tx).await?, Row::Sqlite),
            Self::Postgres(tx) => rows(postgres(sql, args).fetch_all(&mut **tx).await?, Row::Postgres),
        })
    }

    /// The row that the statement returns; `NotFound(what)` if there is none.
    pub async fn fetch(&mut self, what: &'static str, sql: &'static str, args: Vec<Value>) -> Result<Row> {
        self.fetch_optional(sql, args).await?.ok_or(StoreError::NotFound(what))
    }

    /// Runs a statement; returns how many rows it touched.
    pub async fn execute(&mut self, sql: &'static str, args: Vec<Value>) -> Result<u64> {
        let span = span::statement(self.system(), sql);
        span::within(span, self.run(sql, args)).await
    }

    async fn run(&mut self, sql: &'static str, args: Vec<Value>) -> Result<u64> {
        Ok(match self {
            Self::Sqlite(tx, _) => sqlite(sql, args).execute(&mut **tx).await?.rows_affected(),
            Self::Postgres(tx) => postgres(sql, args).execute(&mut **tx).await?.rows_affected(),
        })
    }

    /// Inserts rows, `into` their table and columns, `then` what follows on the values. In as few statements as is good,
    /// of as few kinds: each kind is prepared once on a connection.
    pub async fn insert_all(
        &mut self,
        into: &'static str,
        then: &'static str,
        rows: Vec<Vec<Value>>,
    ) -> Result<()> {
        let mut rows = rows.into_iter();
        while !rows.as_slice().is_empty() {
            let count = [128, 16, 1].into_iter().find(|count| *count <= rows.len()).unwrap_or(1);
            let columns = rows.as_slice().first().map_or(0, Vec::len);
            let numbers = |row: usize| {
                let numbers: Vec<String> =
                    (1..=columns).map(|column| format!("${}", row * columns + column)).collect();
                format!("({})", numbers.join(", "))
            };
            let values: Vec<String> = (0..count).map(numbers).collect();
            // Safe: two constants of this program, and numbers.
            let sql = AssertSqlSafe(format!("{into} VALUES {} {then}", values.join(", ")));
            let args = rows.by_ref().take(count).flatten().collect();
            match self {
                Self::Sqlite(tx, _) => {
                    sqlite(sql, args).execute(&mut **tx).await?;
                }
                Self::Postgres(tx) => {
                    postgres(sql, args).execute(&mut **tx).await?;
                }
            }
        }
        Ok(())
    }

    pub async fn commit(self) -> Result<()> {
        let span = span::call(self.system(), "COMMIT", None);
        span::within(span, self.make_final()).await
    }

    const fn system(&self) -> &'static str {
        match self {
            Self::Sqlite(..) => span::SQLITE,
            Self::Postgres(_) => span::POSTGRES,
        }
    }

    async fn make_final(self) -> Result<()> {
        match self {
            Self::Sqlite(tx, outbox) => {
                tx.commit().await?;
                for notice in outbox.waiting {
                    // Nobody may be listening.
                    let _ = outbox.to.send(notice);
                }
            }
            Self::Postgres(tx) => tx.commit().await?,
        }
        Ok(())
    }
}

/// A transaction whose end failed, as on a full disk, was rolled back by SQLite itself; sqlx believes its connection to be
/// in it for ever. Such a connection is given up for a new one.
async fn begin_immediate(writer: &SqlitePool) -> Result<Transaction<'static, Sqlite>> {
    const BEGIN: &str = "BEGIN IMMEDIATE";
    match writer.begin_with(BEGIN).await {
        Err(sqlx::Error::InvalidSavePointStatement) => {
            drop(writer.acquire().await?.detach());
            Ok(writer.begin_with(BEGIN).await?)
        }
        begun => Ok(begun?),
    }
}

fn rows<R>(rows: Vec<R>, wrap: fn(R) -> Row) -> Vec<Row> {
    rows.into_iter().map(wrap).collect()
}

fn sqlite(sql: impl SqlSafeStr, args: Vec<Value>) -> Query<'static, Sqlite, SqliteArguments> {
    args.into_iter().fold(sqlx::query(sql), |query, value| match value {
        Value::Int(value) => query.bind(value),
        Value::Text(value) => query.bind(value),
        Value::Bytes(value) => query.bind(value),
        Value::Id(value) => query.bind(value),
    })
}

fn postgres(sql: impl SqlSafeStr, args: Vec<Value>) -> Query<'static, Postgres, PgArguments> {
    args.into_iter().fold(sqlx::query(sql), |query, value| match value {
        Value::Int(value) => query.bind(value),
        Value::Text(value) => query.bind(value),
        Value::Bytes(value) => query.bind(value),
        Value::Id(value) => query.bind(value),
    })
}
