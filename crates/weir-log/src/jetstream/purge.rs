//! Reclaiming the room below floors. A purge holds a stream's publishers up for a moment and takes the
//! originals away that repetitions are compared with, so it comes late, and one at a time.

use super::Core;
use super::api::Wanted;
use crate::{LogError, Place};
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::Instant;
use weir_core::ProjectId;

/// The shortest pause between purges.
const PAUSE: Duration = Duration::from_secs(1);

/// For how long a full stream makes purges come at once.
const PRESSED: Duration = Duration::from_secs(30);

struct Plan {
    place: Place,
    due: Instant,
    /// What may be purged when due.
    through: u64,
    /// Where the floor went since: for the next time.
    later: u64,
}

/// The purges to come, one per project.
pub(super) struct Purger {
    delay: Duration,
    plans: Mutex<HashMap<ProjectId, Plan>>,
    /// When a stream was found to be full.
    pressed: Mutex<Option<Instant>>,
}

impl Purger {
    /// Purges `delay` after a trim.
    pub fn new(delay: Duration) -> Self {
        Self { delay, plans: Mutex::new(HashMap::new()), pressed: Mutex::new(None) }
    }

    /// A stream is full: for a while room comes before repetitions, which are then answered with an error.
    pub fn press(&self) {
        *super::locked(&self.pressed) = Some(Instant::now());
    }

    fn is_pressed(&self) -> bool {
        super::locked(&self.pressed).is_some_and(|at| at.elapsed() < PRESSED)
    }

    /// Plans to purge the project up to `floor`.
    pub fn plan(&self, place: &Place, floor: u64) {
        let due = Instant::now() + self.delay;
        let mut plans = super::locked(&self.plans);
        let plan = plans.entry(place.project);
        let plan = plan.or_insert_with(|| Plan { place: place.clone(), due, through: floor, later: floor });
        plan.later = plan.later.max(floor);
    }

    /// A purge whose time has come.
    fn take_due(&self) -> Option<(Place, u64)> {
        let (now, pressed) = (Instant::now(), self.is_pressed());
        let mut plans = super::locked(&self.plans);
        let project =
            plans.iter().find(|(_, plan)| pressed || plan.due <= now).map(|(project, _)| *project)?;
        let mut plan = plans.remove(&project)?;
        let taken = (plan.place.clone(), plan.through);
        if plan.later > plan.through {
            (plan.through, plan.due) = (plan.later, now + self.delay);
            plans.insert(project, plan);
        }
        Some(taken)
    }
}

impl Core {
    /// Purges what is due, for ever. What a restart forgets, a trim to the same floor brings back.
    pub async fn purge_when_due(&self) {
        loop {
            tokio::time::sleep(PAUSE).await;
            let Some((place, through)) = self.purger.take_due() else { continue };
            if let Err(error) = self.purge(&place, through).await {
                tracing::warn!(project = %place.project, %error, "purging trimmed events failed; tried again later");
                self.purger.plan(&place, through);
            }
        }
    }

    async fn purge(&self, place: &Place, through: u64) -> Result<(), LogError> {
        let stream = self.stream(&place.stream)?;
        // The newest message stays: it is what the head's position is read from.
        let Some(newest) = stream.newest(place).await? else { return Ok(()) };
        let subject = stream.layout.subject(place, ">");
        let oldest = self.api.leader_get(&stream.layout.name, Wanted::Next(1, &subject)).await?;
        if oldest.is_none_or(|oldest| oldest.sequence > through || oldest.sequence == newest.sequence) {
            return Ok(());
        }
        let failed = |error: &dyn std::fmt::Display| LogError::Unavailable(error.to_string());
        let handle =
            self.api.context.get_stream_no_info(&*stream.layout.name).await.map_err(|e| failed(&e))?;
        handle
            .purge()
            .filter(subject)
            .sequence(newest.sequence.min(through.saturating_add(1)))
            .await
            .map_err(|e| failed(&e))?;
        Ok(())
    }
}
