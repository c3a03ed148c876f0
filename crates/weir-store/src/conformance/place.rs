//! An empty database for one case.

use crate::postgres_server::PostgresServer;
use crate::{Options, Store, open, open_by};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqliteConnection};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use weir_core::Clock;

pub struct Place {
    pub url: String,
    owner: Owner,
}

/// Who takes the database away.
enum Owner {
    Folder(#[allow(dead_code)] TempDir),
    Server(#[allow(dead_code)] Arc<PostgresServer>),
    /// The server that WEIR_TEST_POSTGRES_URL names; its databases are left for whoever runs it.
    Given,
}

impl Place {
    pub async fn sqlite() -> Self {
        let folder = TempDir::new().expect("a folder");
        let url = format!("sqlite://{}/data/weir.db", folder.path().display());
        Self { url, owner: Owner::Folder(folder) }
    }

    pub async fn postgres() -> Self {
        let Ok(given) = std::env::var("WEIR_TEST_POSTGRES_URL") else {
            let start = || {
                let server = PostgresServer::shared()?;
                std::io::Result::Ok((server.create_database()?, server))
            };
            let (url, server) =
                tokio::task::spawn_blocking(start).await.expect("no panic").expect("PostgreSQL");
            return Self { url, owner: Owner::Server(server) };
        };
        let name = format!("weir_{}", uuid::Uuid::now_v7().simple());
        let mut admin = PgConnection::connect(&given).await.expect("WEIR_TEST_POSTGRES_URL");
        let create = AssertSqlSafe(format!("CREATE DATABASE {name} TEMPLATE template0"));
        admin.execute(create).await.expect("may create databases");
        let (address, parameters) = given.split_once('?').unwrap_or((&given, ""));
        let server = address.rsplit_once('/').expect("postgres://server/database").0;
        Self { url: format!("{server}/{name}?{parameters}"), owner: Owner::Given }
    }

    pub fn is_sqlite(&self) -> bool {
        matches!(self.owner, Owner::Folder(_))
    }

    /// A node on this database. On these two cores and a noisy disk patience is not what is tested.
    pub async fn open(&self) -> Store {
        open(&self.url, patient()).await.expect("opens")
    }

    /// The same with a clock for billing.
    pub async fn open_by(&self, clock: Arc<dyn Clock>) -> Store {
        open_by(clock, &self.url, patient()).await.expect("opens")
    }

    /// Does to the database what only an intruder or an accident does.
    pub async fn execute(&self, sql: &'static str) {
        self.try_execute(sql).await.expect(sql);
    }

    /// The same, where the database may refuse: then with what it says.
    pub async fn try_execute(&self, sql: &'static str) -> Result<(), String> {
        let done = if self.is_sqlite() {
            let mut connection = SqliteConnection::connect(&self.url).await.expect("connects");
            connection.execute(sql).await.map(drop)
        } else {
            let mut connection = PgConnection::connect(&self.url).await.expect("connects");
            connection.execute(sql).await.map(drop)
        };
        done.map_err(|error| error.to_string())
    }
}

pub fn patient() -> Options {
    Options {
        max_connections: 4,
        acquire_timeout: Duration::from_secs(60),
        call_timeout: Duration::from_secs(90),
        ..Options::default()
    }
}
