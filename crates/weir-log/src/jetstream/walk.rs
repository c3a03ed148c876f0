//! Walking over a stream: its own sequence is the order, and every sequence is given out once.

use super::Core;
use super::api::BATCH;
use super::read::reach;
use crate::walk::Runs;
use crate::{LogError, Milestone, Run, Walked};
use std::sync::Arc;
use weir_core::Event;

/// Bytes of messages in one walk, at least one message. The server has no batched get without payloads.
const WALK_BYTES: usize = 4 << 20;

impl Core {
    pub async fn walk(&self, name: &Arc<str>, after: Option<Milestone>) -> Result<Option<Walked>, LogError> {
        let stream = self.stream(name)?;
        // The leader's word: what was acknowledged before this is at or below `last`.
        let Some(seen) = stream.look().await? else { return Ok(None) };
        let known = seen.known.ok_or_else(|| {
            LogError::Corrupt(format!("stream {name} was not made by this program and is not walked over"))
        })?;
        let Some(after) = after.filter(|after| after.epoch == known.epoch) else {
            return Ok(Some(Walked::ends(known.epoch, 0, seen.last)));
        };
        if seen.last <= after.number {
            return Ok(Some(Walked::ends(known.epoch, after.number, seen.last)));
        }
        let all = stream.layout.all();
        let batch = stream.messages(after.number + 1, &all, BATCH, WALK_BYTES).await?;
        let reached = reach(&stream, known, after.number, seen.last, &all, batch).await?;
        let (messages, through, _) = reached;
        // A stream hands out every sequence; one that holds no message held one that was purged or grew too old.
        let passed = through.saturating_sub(after.number);
        let lost = passed.saturating_sub(messages.len() as u64);
        let mut runs = Runs::default();
        let poison = messages.iter().filter_map(|message| message.poison(&stream.layout)).collect();
        let events = messages.into_iter().filter_map(|message| message.event(&stream.layout, 0));
        // The server's own events are nobody's usage.
        for event in events.filter(|event| !event.topic.is_system()) {
            runs.add(run(&event));
        }
        let through = Milestone { epoch: known.epoch, number: through };
        Ok(Some(Walked { runs: runs.into_vec(), through, head: seen.last, lost, poison }))
    }
}

fn run(event: &Event) -> Run {
    let Event { tenant, project, sequence, published_at, .. } = *event;
    let (hour, bytes) = (published_at.hour(), event.stored_bytes());
    Run { tenant, project, hour, first: sequence, last: sequence, events: 1, bytes }
}
