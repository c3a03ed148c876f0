//! Sending and hearing notices: LISTEN and NOTIFY in PostgreSQL, a channel of this process for SQLite.

use super::Sql;
use super::database::Database;
use crate::notice::{Notice, Notices};
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use std::sync::Mutex;
use std::time::Duration;
use tokio::sync::broadcast;
use tokio::task::JoinHandle;

/// The channel's name in PostgreSQL.
pub const CHANNEL: &str = "weir";
/// Notices that a slow listener may be behind by.
const KEPT: usize = 256;
/// Between two attempts to listen, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Where notices arrive in this process.
pub struct Board {
    sender: broadcast::Sender<Notice>,
    listening: Mutex<Option<JoinHandle<()>>>,
}

impl Default for Board {
    fn default() -> Self {
        Self { sender: broadcast::channel(KEPT).0, listening: Mutex::new(None) }
    }
}

impl Board {
    pub fn sender(&self) -> broadcast::Sender<Notice> {
        self.sender.clone()
    }

    pub fn close(&self) {
        if let Some(task) = self.task().take() {
            task.abort();
        }
    }

    fn task(&self) -> std::sync::MutexGuard<'_, Option<JoinHandle<()>>> {
        self.listening.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        self.close();
    }
}

impl Sql {
    /// Begins to listen. On PostgreSQL the first listener of a process opens a connection for it.
    pub fn notices(&self) -> Notices {
        let receiver = self.board.sender.subscribe();
        if let Database::Postgres { operator, .. } = &self.database {
            let mut task = self.board.task();
            if task.is_none() {
                let options = (*operator.connect_options()).clone();
                *task = Some(tokio::spawn(listen(options, self.board.sender.clone())));
            }
        }
        Notices(receiver)
    }
}

/// Passes on what PostgreSQL tells, for ever.
async fn listen(options: PgConnectOptions, sender: broadcast::Sender<Notice>) {
    let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with(options);
    let mut wait = RETRY.0;
    loop {
        if let Ok(mut listener) = PgListener::connect_with(&pool).await
            && listener.listen(CHANNEL).await.is_ok()
        {
            wait = RETRY.0;
            // What was told while nobody listened is not told again.
            let _ = sender.send(Notice::Missed);
            while let Ok(Some(told)) = listener.try_recv().await {
                // An unknown one comes from a newer program.
                if let Ok(notice) = told.payload().parse() {
                    let _ = sender.send(notice);
                }
            }
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RETRY.1);
    }
}
