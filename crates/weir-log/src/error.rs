//! What can go wrong with a log.

/// Why a log could not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogError {
    /// The log cannot be reached, or did not confirm in time. After an append the outcome is unknown:
    /// only a record with `dedupe` may be tried again.
    #[error("the event log is unavailable: {0}")]
    Unavailable(String),
    /// The read starts before the first retained event.
    #[error("events up to sequence {floor} are no longer retained")]
    OutOfRange {
        /// The last sequence that is gone; reading after it works.
        floor: u64,
    },
    /// More is queued than the log's bound allows; nothing of this call was stored.
    #[error("the event log has {queued} bytes queued; the limit is {limit}")]
    Overloaded {
        /// Bytes waiting to be written.
        queued: usize,
        /// The bound.
        limit: usize,
    },
    /// No room: disk full, or the stream's size limit with discard-new. Nothing was stored.
    #[error("the event log is full: {0}")]
    Full(String),
    /// Stored data is not what this program writes.
    #[error("the event log is damaged: {0}")]
    Corrupt(String),
}

impl LogError {
    /// Whether the same call can succeed later without anyone mending anything.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Overloaded { .. })
    }
}
