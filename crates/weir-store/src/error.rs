//! What can go wrong with the store.

use sqlx::error::DatabaseError;
use sqlx::migrate::MigrateError;

/// Why the store could not do what was asked. Nothing was changed, except where noted.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// There is no such thing, or it belongs to another tenant: the two are not told apart.
    #[error("there is no such {0}")]
    NotFound(&'static str),
    /// The change contradicts what is stored.
    #[error("{0}")]
    Conflict(String),
    /// The request itself cannot be stored.
    #[error("{0}")]
    Invalid(String),
    /// The database cannot be reached, is busy or full, or did not answer in time. After a change the
    /// outcome is unknown.
    #[error("the metadata database is unavailable: {0}")]
    Unavailable(String),
    /// The tables are not the ones that this program works with.
    #[error("the metadata database does not have the right tables: {0}; run `weir migrate`")]
    Schema(String),
    /// Stored data is not what this program writes.
    #[error("the metadata database is damaged: {0}")]
    Corrupt(String),
}

impl StoreError {
    /// Whether the same call can succeed later without anyone mending anything.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error as E;
        match &error {
            E::Database(database) => from_database(&**database),
            E::ColumnDecode { .. } | E::Decode(_) => Self::Corrupt(error.to_string()),
            E::ColumnNotFound(_) | E::TypeNotFound { .. } => Self::Schema(error.to_string()),
            E::Configuration(_) | E::InvalidArgument(_) | E::Encode(_) => Self::Invalid(error.to_string()),
            // The pool goes on trying while the server refuses connections, and forgets why it failed.
            E::PoolTimedOut => Self::Unavailable(
                "no connection within database.acquire_timeout: the server accepts none, or all of this node's are busy"
                    .into(),
            ),
            E::InvalidSavePointStatement => Self::Unavailable(
                "the transaction before could not be ended, as on a full disk; the connection is made anew".into(),
            ),
            // Everything else is the connection: I/O, TLS, protocol, a dead worker.
            _ => Self::Unavailable(error.to_string()),
        }
    }
}

fn from_database(error: &dyn DatabaseError) -> StoreError {
    if error.is_unique_violation() {
        return StoreError::Conflict("something with this name or id exists already".into());
    }
    if error.is_foreign_key_violation() {
        return StoreError::NotFound("tenant, project or key");
    }
    match error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>() {
        // Its text as a whole ends with a line number of the server's own source, which reads like one of ours.
        Some(postgres) => from_sqlstate(postgres.code(), postgres.message().to_owned()),
        None => from_sqlite(error.code().and_then(|code| code.parse().ok()).unwrap_or(1), error.to_string()),
    }
}

/// Classes of <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
fn from_sqlstate(state: &str, text: String) -> StoreError {
    match state.get(..2).unwrap_or_default() {
        "22" | "23" => StoreError::Invalid(text),
        "42" | "3F" => StoreError::Schema(text),
        "XX" => StoreError::Corrupt(text),
        // 08 connection, 25 read-only after a failover, 28 login, 40 deadlock, 53 resources,
        // 55 locks, 57 shutdown and time-outs, 58 system.
        _ => StoreError::Unavailable(text),
    }
}

/// Primary result codes of <https://sqlite.org/rescode.html>; the low byte of the extended ones.
fn from_sqlite(code: i32, text: String) -> StoreError {
    match code & 0xff {
        // 1 generic: in a program whose statements are tested it means a missing table or column.
        1 => StoreError::Schema(text),
        11 | 26 => StoreError::Corrupt(text),
        // 18 too big, 19 constraint, 20 wrong type.
        18..=20 => StoreError::Invalid(text),
        // 5 busy, 6 locked, 8 read-only, 10 I/O, 13 full, 14 cannot open.
        _ => StoreError::Unavailable(text),
    }
}

impl From<MigrateError> for StoreError {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
            other => Self::Schema(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unavailability_passes_by_itself() {
        assert!(from_sqlstate("40P01", String::new()).is_transient());
        assert!(from_sqlstate("57P01", String::new()).is_transient());
        assert!(from_sqlite(5, String::new()).is_transient());
        assert!(from_sqlite(517, String::new()).is_transient(), "busy snapshot is an extended code of busy");
        assert!(!from_sqlstate("42P01", String::new()).is_transient());
        assert!(!from_sqlite(11, String::new()).is_transient());
        assert!(StoreError::from(sqlx::Error::PoolTimedOut).is_transient());
        let stuck = StoreError::from(sqlx::Error::InvalidSavePointStatement);
        assert!(stuck.is_transient() && stuck.to_string().contains("full disk"), "{stuck}");
        let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        assert!(StoreError::from(sqlx::Error::Io(reset)).is_transient());
    }
}
