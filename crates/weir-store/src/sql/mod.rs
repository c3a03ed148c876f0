//! The store on SQLite and PostgreSQL. The statements are the same for both; the few places where the databases
//! differ are in `database` (transactions), `connect`, `wall`, and `access` (one lock).
//!
//! Locks are taken in one order, so that transactions wait for each other but never in a circle: the row that
//! changes (tenant, project, key, invitation), the user's row, the end of the installation's audit chain, the tenant's row,
//! its billing account, the request's idempotency key, the end of its audit chain (of several tenants, one after the other in the order of
//! their ids), the list of access changes.

mod access;
mod alerts;
mod allowances;
mod audit;
mod billing;
mod columns;
mod connect;
mod database;
mod dead_letters;
mod deletion;
mod deliveries;
mod directory;
mod erasure;
mod idempotency;
mod inquiries;
mod keys;
mod ledger;
mod members;
mod nodes;
mod notices;
mod outbox;
mod payments;
mod people;
mod schemas;
mod shares;
mod sign_ins;
mod signing;
mod span;
mod storage;
mod system;
mod tenants;
mod tickets;
mod usage;
mod value;
mod wall;
#[cfg(test)]
mod wall_tests;
mod webhooks;

pub use connect::{connect, latest_schema_version};

use crate::load::Calls;
use crate::{Load, Reply, StoreError};
use database::{Database, Scope, Tx};
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};
use value::args;
use weir_core::{Breaker, Clock, RootSecret, Secret, Timestamp};

/// The one implementation of every trait of this crate.
pub struct Sql {
    database: Database,
    board: notices::Board,
    call_timeout: Duration,
    /// Of a server that is asked over a connection; a file needs none.
    breaker: Option<Breaker>,
    migration_url: Option<Secret>,
    /// By which billing's times end; none is the database's own.
    pub clock: Option<Arc<dyn Clock>>,
    calls: Calls,
}

impl Sql {
    /// Boxes a call and gives up on it after the call time-out: a server that is stopped or cut off neither answers
    /// nor refuses. After several of these in a row calls are refused at once, but for one now and then.
    fn call<'a, T: Send + 'a>(
        &'a self,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'a,
    ) -> Reply<'a, T> {
        Box::pin(async move {
            if let Some(Err(wait)) = self.breaker.as_ref().map(|breaker| breaker.admit(Instant::now())) {
                self.calls.skipped();
                return Err(StoreError::Unavailable(format!(
                    "the last calls found no answer; the next is made in {} ms",
                    wait.as_millis()
                )));
            }
            let begun = Instant::now();
            let outcome = tokio::time::timeout(self.call_timeout, work).await.unwrap_or_else(|_| {
                Err(StoreError::Unavailable(format!("no answer within {:?}", self.call_timeout)))
            });
            self.calls.note(begun.elapsed(), &outcome);
            self.learn(&outcome);
            outcome
        })
    }

    fn learn<T>(&self, outcome: &Result<T, StoreError>) {
        let Some(breaker) = &self.breaker else { return };
        match outcome {
            // What follows from it is told by whoever asked.
            Err(error) if error.is_transient() => drop(breaker.failed(Instant::now())),
            _ => breaker.answered(),
        }
    }

    /// How calls did, and what of the pool is in use.
    pub fn load(&self) -> Load {
        let (name, connections, max_connections) = self.database.connections();
        let breaker_open = self.breaker.as_ref().map(|breaker| breaker.is_open(Instant::now()));
        Load { breaker_open, connections, max_connections, ..self.calls.load(name) }
    }

    /// The time for billing.
    async fn now(&self) -> Result<Timestamp, StoreError> {
        match &self.clock {
            Some(clock) => Ok(clock.now()),
            None => self.database.now().await,
        }
    }

    /// The same within a transaction.
    async fn time(&self, tx: &mut Tx) -> Result<Timestamp, StoreError> {
        match &self.clock {
            Some(clock) => Ok(clock.now()),
            None => tx.now().await,
        }
    }

    /// Proves that the database answers.
    pub fn ping(&self) -> Reply<'_, ()> {
        self.call(async { self.database.fetch_all(Scope::Operator, "SELECT 1", args![]).await.map(drop) })
    }

    /// The version of the database's own program.
    pub fn server_version(&self) -> Reply<'_, String> {
        const POSTGRES: &str = "SELECT current_setting('server_version') AS version";
        const SQLITE: &str = "SELECT sqlite_version() AS version";
        self.call(async {
            let ask = if matches!(self.database, Database::Postgres { .. }) { POSTGRES } else { SQLITE };
            let row = self.database.fetch_optional(Scope::Operator, ask, args![]).await?;
            row.ok_or(StoreError::NotFound("version"))?.get("version")
        })
    }

    /// The installation's root secret, made at the first call. Whoever comes second, here or on another
    /// node, waits for the first and gets the same.
    pub fn root_secret(&self) -> Reply<'_, RootSecret> {
        const READ: &str = "SELECT value FROM installation WHERE name = 'root_secret'";
        self.call(async {
            let row = match self.database.fetch_optional(Scope::Operator, READ, args![]).await? {
                Some(row) => row,
                None => {
                    let mut tx = self.database.begin(Scope::Operator).await?;
                    let proposed = RootSecret::generate().to_hex();
                    tx.execute(
                        "INSERT INTO installation (name, value) VALUES ('root_secret', $1)
                         ON CONFLICT (name) DO NOTHING",
                        // Exposed to be kept: this table is its place.
                        args![proposed.expose().to_owned()],
                    )
                    .await?;
                    let row = tx.fetch("root secret", READ, args![]).await?;
                    tx.commit().await?;
                    row
                }
            };
            RootSecret::from_hex(&row.get::<String>("value")?)
                .ok_or_else(|| StoreError::Corrupt("the root secret is not 64 hex digits".into()))
        })
    }

    /// Ends every connection.
    pub async fn close(&self) {
        self.board.close();
        self.database.close().await;
    }
}

/// A name that people give: 1 to 128 characters, none of them control characters.
fn check_name(what: &str, name: &str) -> Result<(), StoreError> {
    let length = name.chars().count();
    if (1..=128).contains(&length) && !name.chars().any(char::is_control) && name.trim() == name {
        return Ok(());
    }
    Err(StoreError::Invalid(format!(
        "the name of a {what} has 1 to 128 characters, no control characters and no spaces around it; \
         this one has {length} characters"
    )))
}
