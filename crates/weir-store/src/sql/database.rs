//! One small face for the two databases: the same statements with `$n` parameters, values in, rows out.
//!
//! sqlx's own answer, `Any`, knows neither UUIDs nor this crate's types, and being generic over its
//! `Database` trait puts a screen of bounds on every function. Two variants and a `match` are simpler.

use super::value::{Row, Value};
use crate::StoreError;
use sqlx::postgres::{PgArguments, PgPool};
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqlitePool};
use sqlx::{Postgres, Sqlite, Transaction};

type Result<T> = std::result::Result<T, StoreError>;

/// A pool of connections to one of the databases.
pub enum Database {
    /// SQLite has one writer at a time. Giving it one connection makes writers of this process queue in the
    /// order they came instead of sleeping and trying again on a busy file.
    Sqlite {
        readers: SqlitePool,
        writer: SqlitePool,
    },
    Postgres(PgPool),
}

/// A transaction that writes. Dropping it undoes it.
pub enum Tx {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
}

impl Database {
    pub async fn begin(&self) -> Result<Tx> {
        Ok(match self {
            // A plain BEGIN takes the write lock at the first write, and fails at once when another process wrote
            // since the first read. IMMEDIATE takes it now, and waits.
            Self::Sqlite { writer, .. } => Tx::Sqlite(writer.begin_with("BEGIN IMMEDIATE").await?),
            Self::Postgres(pool) => Tx::Postgres(pool.begin().await?),
        })
    }

    pub async fn fetch_all(&self, sql: &'static str, args: Vec<Value>) -> Result<Vec<Row>> {
        Ok(match self {
            Self::Sqlite { readers, .. } => rows(sqlite(sql, args).fetch_all(readers).await?, Row::Sqlite),
            Self::Postgres(pool) => rows(postgres(sql, args).fetch_all(pool).await?, Row::Postgres),
        })
    }

    pub async fn fetch_optional(&self, sql: &'static str, args: Vec<Value>) -> Result<Option<Row>> {
        Ok(match self {
            Self::Sqlite { readers, .. } => sqlite(sql, args).fetch_optional(readers).await?.map(Row::Sqlite),
            Self::Postgres(pool) => postgres(sql, args).fetch_optional(pool).await?.map(Row::Postgres),
        })
    }

    pub async fn close(&self) {
        match self {
            Self::Sqlite { readers, writer } => {
                readers.close().await;
                writer.close().await;
            }
            Self::Postgres(pool) => pool.close().await,
        }
    }
}

impl Tx {
    /// The row that the statement returns, if any. Statements here return at most one; all of it is read,
    /// so the statement has run to its end.
    pub async fn fetch_optional(&mut self, sql: &'static str, args: Vec<Value>) -> Result<Option<Row>> {
        let mut rows = match self {
            Self::Sqlite(tx) => rows(sqlite(sql, args).fetch_all(&mut **tx).await?, Row::Sqlite),
            Self::Postgres(tx) => rows(postgres(sql, args).fetch_all(&mut **tx).await?, Row::Postgres),
        };
        Ok(rows.pop())
    }

    /// The row that the statement returns; `NotFound(what)` if there is none.
    pub async fn fetch(&mut self, what: &'static str, sql: &'static str, args: Vec<Value>) -> Result<Row> {
        self.fetch_optional(sql, args).await?.ok_or(StoreError::NotFound(what))
    }

    /// Runs a statement; returns how many rows it touched.
    pub async fn execute(&mut self, sql: &'static str, args: Vec<Value>) -> Result<u64> {
        Ok(match self {
            Self::Sqlite(tx) => sqlite(sql, args).execute(&mut **tx).await?.rows_affected(),
            Self::Postgres(tx) => postgres(sql, args).execute(&mut **tx).await?.rows_affected(),
        })
    }

    pub async fn commit(self) -> Result<()> {
        match self {
            Self::Sqlite(tx) => tx.commit().await?,
            Self::Postgres(tx) => tx.commit().await?,
        }
        Ok(())
    }
}

fn rows<R>(rows: Vec<R>, wrap: fn(R) -> Row) -> Vec<Row> {
    rows.into_iter().map(wrap).collect()
}

fn sqlite(sql: &'static str, args: Vec<Value>) -> Query<'static, Sqlite, SqliteArguments> {
    args.into_iter().fold(sqlx::query(sql), |query, value| match value {
        Value::Int(value) => query.bind(value),
        Value::Text(value) => query.bind(value),
        Value::Bytes(value) => query.bind(value),
        Value::Id(value) => query.bind(value),
    })
}

fn postgres(sql: &'static str, args: Vec<Value>) -> Query<'static, Postgres, PgArguments> {
    args.into_iter().fold(sqlx::query(sql), |query, value| match value {
        Value::Int(value) => query.bind(value),
        Value::Text(value) => query.bind(value),
        Value::Bytes(value) => query.bind(value),
        Value::Id(value) => query.bind(value),
    })
}
