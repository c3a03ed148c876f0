//! Erasing a project: its messages are overwritten one by one where they stand. A purge would only forget where they are;
//! their bytes would stay in the stream's files until more than half of what is around them is gone too.

use super::Core;
use super::api::{ApiError, BATCH, Wanted, problem};
use super::floors::Floor;
use super::stream::Stream;
use crate::{LogError, Place};
use futures::{StreamExt, TryStreamExt};
use serde::Deserialize;
use serde_json::json;

/// Messages that one call overwrites at most.
const ERASE: usize = 20_000;
/// Bytes of messages that are read at once to learn their sequences.
const LOOK_BYTES: usize = 4 << 20;
/// Messages that are being overwritten at once.
const AT_ONCE: usize = 64;

#[derive(Deserialize)]
struct Deleted {
    #[serde(default)]
    success: bool,
    error: Option<ApiError>,
}

impl Core {
    /// Overwrites messages of the project; whether none is left.
    pub async fn erase(&self, place: &Place) -> Result<bool, LogError> {
        let stream = self.stream(&place.stream)?;
        if stream.look().await?.is_none() {
            return Ok(true);
        }
        let Some(newest) = stream.newest(place).await? else { return Ok(true) };
        // First nobody reads it any more, on any node.
        let head = newest.sequence;
        let floor = self.floors.raise(place.project, Floor { through: head, head }).await?;
        self.raise_watched_floor(place.project, floor);
        let subject = stream.layout.subject(place, ">");
        let (mut from, mut erased) = (1, 0);
        while erased < ERASE {
            let batch = stream.messages(from, &subject, BATCH, LOOK_BYTES).await?;
            let Some(last) = batch.messages.last().map(|message| message.sequence) else { break };
            let sequences: Vec<u64> = batch.messages.iter().map(|message| message.sequence).collect();
            let each: Vec<_> =
                sequences.into_iter().map(|sequence| self.overwrite(&stream, sequence)).collect();
            let done: Vec<bool> = futures::stream::iter(each).buffer_unordered(AT_ONCE).try_collect().await?;
            if done.contains(&false) {
                return self.purge_all(place, &stream, subject).await;
            }
            (from, erased) = (last + 1, erased + done.len());
        }
        // A replica may have answered without its newest ones.
        let left = self.api.leader_get(&stream.layout.name, Wanted::Next(1, &subject)).await?;
        Ok(left.is_none())
    }

    /// Overwrites a message with noise; false where the stream forbids it.
    async fn overwrite(&self, stream: &Stream, sequence: u64) -> Result<bool, LogError> {
        let answer =
            self.api.delete(&stream.layout.name, &json!({ "seq": sequence, "no_erase": false })).await?;
        let name = &stream.layout.name;
        let Deleted { success, error } = serde_json::from_slice(&answer)
            .map_err(|e| LogError::Unavailable(format!("stream {name} gave an unreadable answer: {e}")))?;
        match error {
            None if success => Ok(true),
            Some(error) if error.description.contains("not permitted") => Ok(false),
            // Somebody else was quicker.
            Some(error) if ["not found", "no message"].iter().any(|w| error.description.contains(w)) => {
                Ok(true)
            }
            Some(error) => Err(problem(error.code, &error.description)),
            None => Err(LogError::Unavailable(format!("stream {name} did not delete message {sequence}"))),
        }
    }

    /// The second best, for streams that were made to forbid deletion, which cannot be taken back.
    async fn purge_all(&self, place: &Place, stream: &Stream, subject: String) -> Result<bool, LogError> {
        tracing::warn!(
            stream = %stream.layout.name, project = %place.project,
            "the stream was made with deny_delete: the events of a deleted project are purged, and their bytes stay in its \
             files until the server rewrites these"
        );
        let failed = |error: &dyn std::fmt::Display| LogError::Unavailable(error.to_string());
        let handle =
            self.api.context.get_stream_no_info(&*stream.layout.name).await.map_err(|e| failed(&e))?;
        handle.purge().filter(subject).await.map_err(|e| failed(&e))?;
        Ok(true)
    }
}
