//! The store as the rest of the program holds it.

use crate::sql::{self, Sql};
use crate::{
    AccessChange, Alerts, Allowances, Audit, Billing, DeadLetters, Deliveries, Directory, Enforced, Erasure,
    Idempotency, Inquiries, Keys, Ledger, Load, Members, Nodes, Notice, Notices, Outbox, PaymentEvents,
    Payments, People, Reply, Schemas, Shares, SignIns, Storage, StoreError, SystemEvents, Tenants, Tickets,
    Usage, Webhooks,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use weir_core::{RootSecret, Secret};

/// Between two looks at how far a change has come, when no notice comes.
const ENFORCED_POLL: Duration = Duration::from_millis(50);

/// How to open the store.
#[derive(Clone, Debug)]
pub struct Options {
    /// Connections at most (readers, for SQLite: it has one more that writes).
    pub max_connections: u32,
    /// How long a call waits for a connection, and for another process that is writing to SQLite.
    pub acquire_timeout: Duration,
    /// How long a call takes at most, whatever it waits for.
    pub call_timeout: Duration,
    /// Whether opening brings the tables up to date.
    pub auto_migrate: bool,
    /// PostgreSQL: with which URL to bring them up to date, when its owner is another than who works with them.
    pub migration_url: Option<Secret>,
}

/// How the database itself keeps tenants apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wall {
    /// Not at all: it is a SQLite file, which has one user.
    None,
    /// By row-level security, which the role that the node works as cannot turn off.
    Stands {
        /// The role.
        role: String,
    },
    /// By row-level security, which the role could turn off: it owns tables.
    Owner {
        /// The role.
        role: String,
    },
    /// Not at all: the role passes row-level security.
    Bypassed {
        /// The role.
        role: String,
    },
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_connections: 10,
            acquire_timeout: Duration::from_secs(5),
            call_timeout: Duration::from_secs(10),
            auto_migrate: true,
            migration_url: None,
        }
    }
}

/// The metadata database. Clones share its connections. A call that is dropped half-way changes nothing.
#[derive(Clone)]
pub struct Store {
    /// Tenants and projects.
    pub tenants: Arc<dyn Tenants>,
    /// API keys and signing keys.
    pub keys: Arc<dyn Keys>,
    /// What crosses tenants.
    pub directory: Arc<dyn Directory>,
    /// Topic schemas.
    pub schemas: Arc<dyn Schemas>,
    /// One-use tickets.
    pub tickets: Arc<dyn Tickets>,
    /// Usage counters.
    pub usage: Arc<dyn Usage>,
    /// What was counted in the event log.
    pub ledger: Arc<dyn Ledger>,
    /// What the logs keep.
    pub storage: Arc<dyn Storage>,
    /// What deleted projects leave behind.
    pub erasure: Arc<dyn Erasure>,
    /// The audit trail.
    pub audit: Arc<dyn Audit>,
    /// Requests that must not happen twice.
    pub idempotency: Arc<dyn Idempotency>,
    /// Users.
    pub people: Arc<dyn People>,
    /// Members of tenants, and invitations.
    pub members: Arc<dyn Members>,
    /// Refresh tokens.
    pub sign_ins: Arc<dyn SignIns>,
    /// Questions to all nodes.
    pub inquiries: Arc<dyn Inquiries>,
    /// The nodes that run.
    pub nodes: Arc<dyn Nodes>,
    /// Shares of connections.
    pub shares: Arc<dyn Shares>,
    /// Billing accounts and plans.
    pub billing: Arc<dyn Billing>,
    /// Usage on its way to the payment provider.
    pub outbox: Arc<dyn Outbox>,
    /// What the payment provider says.
    pub payments: Arc<dyn Payments>,
    /// Leases of events.
    pub allowances: Arc<dyn Allowances>,
    /// Its webhooks.
    pub payment_events: Arc<dyn PaymentEvents>,
    /// The server's own events on their way to the log.
    pub system_events: Arc<dyn SystemEvents>,
    /// What is wrong.
    pub alerts: Arc<dyn Alerts>,
    /// Endpoints that events are sent to.
    pub webhooks: Arc<dyn Webhooks>,
    /// The same for the nodes that deliver.
    pub deliveries: Arc<dyn Deliveries>,
    /// What could not be delivered or read.
    pub dead_letters: Arc<dyn DeadLetters>,
    sql: Arc<Sql>,
}

/// Opens `sqlite://path/to/file` (made if missing, shared by any number of processes of one machine) or
/// `postgres://user:password@host/database`.
///
/// # Errors
/// `Invalid` for a URL of another form, `Unavailable` when the database cannot be reached in time, and what
/// [`Store::migrate`] says.
pub async fn open(url: &str, options: Options) -> Result<Store, StoreError> {
    start(sql::connect(url, &options).await?, &options).await
}

/// The same with a clock by which billing periods and leases of allowance end, in the place of the database's own.
///
/// # Errors
/// As [`open`].
#[cfg(any(test, feature = "testing"))]
pub async fn open_by(
    clock: Arc<dyn weir_core::Clock>,
    url: &str,
    options: Options,
) -> Result<Store, StoreError> {
    let mut sql = sql::connect(url, &options).await?;
    sql.clock = Some(clock);
    start(sql, &options).await
}

async fn start(sql: Sql, options: &Options) -> Result<Store, StoreError> {
    let sql = Arc::new(sql);
    let store = Store {
        tenants: sql.clone(),
        keys: sql.clone(),
        directory: sql.clone(),
        schemas: sql.clone(),
        tickets: sql.clone(),
        usage: sql.clone(),
        ledger: sql.clone(),
        storage: sql.clone(),
        erasure: sql.clone(),
        audit: sql.clone(),
        idempotency: sql.clone(),
        people: sql.clone(),
        members: sql.clone(),
        sign_ins: sql.clone(),
        inquiries: sql.clone(),
        nodes: sql.clone(),
        shares: sql.clone(),
        billing: sql.clone(),
        outbox: sql.clone(),
        payments: sql.clone(),
        allowances: sql.clone(),
        payment_events: sql.clone(),
        system_events: sql.clone(),
        alerts: sql.clone(),
        webhooks: sql.clone(),
        deliveries: sql.clone(),
        dead_letters: sql.clone(),
        sql,
    };
    if options.auto_migrate {
        store.migrate().await?;
    }
    Ok(store)
}

impl Store {
    /// Brings the tables up to date. Any number of processes may do so at once: one works, the others wait.
    ///
    /// # Errors
    /// `Schema` when a migration that ran already is not the one of this program.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        self.sql.migrate().await
    }

    /// The version of the tables in the database; 0 when there are none. During an upgrade it may be greater than
    /// [`latest_schema_version`], which is fine; smaller means that `weir migrate` is to be run.
    ///
    /// # Errors
    /// `Unavailable` when the database does not answer.
    pub async fn schema_version(&self) -> Result<i64, StoreError> {
        self.sql.schema_version().await
    }

    /// The version of the database's own program, such as `15.14`.
    pub fn server_version(&self) -> Reply<'_, String> {
        self.sql.server_version()
    }

    /// How the database itself keeps tenants apart.
    pub fn wall(&self) -> Reply<'_, Wall> {
        self.sql.wall()
    }

    /// Proves that the database answers.
    pub fn ping(&self) -> Reply<'_, ()> {
        self.sql.ping()
    }

    /// The installation's root secret, made at the first call; the same for every node, however many ask
    /// at once.
    pub fn root_secret(&self) -> Reply<'_, RootSecret> {
        self.sql.root_secret()
    }

    /// How it does. Asks nothing.
    #[must_use]
    pub fn load(&self) -> Load {
        self.sql.load()
    }

    /// Begins to listen to what nodes tell each other. On PostgreSQL this holds one connection more.
    #[must_use]
    pub fn notices(&self) -> Notices {
        self.sql.notices()
    }

    /// Waits until every node that runs has enforced a change, but no longer than `patience`, and says how far it
    /// has come by then.
    ///
    /// # Errors
    /// `Unavailable` when the database cannot say. The change itself stands.
    pub async fn enforced(&self, change: &AccessChange, patience: Duration) -> Result<Enforced, StoreError> {
        let deadline = Instant::now() + patience;
        let mut notices = self.notices();
        loop {
            let so_far = self.nodes.enforcement(change.seq).await?;
            if so_far.is_complete() || Instant::now() >= deadline {
                return Ok(so_far);
            }
            let next = (Instant::now() + ENFORCED_POLL).min(deadline);
            // Other notices are not ours; without any the next look comes soon anyway.
            let heard = async { while !matches!(notices.next().await, Notice::Enforced | Notice::Missed) {} };
            let _ = tokio::time::timeout_at(next, heard).await;
        }
    }

    /// Ends every connection, after the calls that are under way.
    pub async fn close(&self) {
        self.sql.close().await;
    }
}

/// The version of the tables that this program brings and needs at least.
#[must_use]
pub fn latest_schema_version() -> i64 {
    sql::latest_schema_version()
}
