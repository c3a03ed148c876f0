//! Giving back the room of what is forgotten, a little after each batch: events and topics under a
//! floor, ids past the dedupe window, entries of the journal that were walked over. Nothing here changes what a reader sees.

use super::codec::{self, IdUse, Mark, ProjectState};
use super::storage::{Storage, failed};
use crate::LogError;
use fjall::OwnedWriteBatch;
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Duration;
use weir_core::{ProjectId, Timestamp};

/// Entries that one step looks at or removes at most.
const STEP: usize = 1024;

/// What is still to be given back. Lost in a crash without harm: trims are found again when the log is
/// opened, ids when the next ones are written.
#[derive(Default)]
pub(super) struct Reclaim {
    trimmed: VecDeque<ProjectId>,
    /// How far the topics of the first of `trimmed` were looked through.
    topics_after: Option<Vec<u8>>,
    /// When the last ids were written, until they made a step look for expired ones.
    ids_written: Option<Timestamp>,
    /// Everything up to this key of `expiry` is gone: no need to step over its tombstones again.
    expired_through: Vec<u8>,
    /// The same of the journal.
    journal_through: u64,
    /// The last id that was erased.
    ids_erased: Vec<u8>,
}

impl Reclaim {
    /// A project's floor has risen.
    pub fn add(&mut self, project: ProjectId) {
        if self.trimmed.front() == Some(&project) {
            // Look through its topics again, under the new floor.
            self.topics_after = None;
        } else if !self.trimmed.contains(&project) {
            self.trimmed.push_back(project);
        }
    }

    /// New ids call for old ones to go.
    pub const fn ids_were_written(&mut self, latest: Timestamp) {
        self.ids_written = Some(latest);
    }

    /// Whether there is something to do without new appends.
    pub fn has_work(&self) -> bool {
        !self.trimmed.is_empty()
    }

    /// Whether room of this project is still to be given back.
    pub fn works_on(&self, project: ProjectId) -> bool {
        self.trimmed.contains(&project)
    }

    /// Removes the next ids of a project that is erased, and says how many.
    pub fn forget_ids_of(
        &mut self,
        storage: &Storage,
        batch: &mut OwnedWriteBatch,
        project: u32,
    ) -> Result<usize, LogError> {
        let first = codec::name_key(project, "");
        // Not over the tombstones of those before again.
        let start = if self.ids_erased.starts_with(&first) { self.ids_erased.clone() } else { first };
        let mut removed = 0;
        for entry in storage.ids.range(start..codec::names_end(project)).take(STEP) {
            let key = entry.key().map_err(|error| failed("read", &error))?;
            self.ids_erased = key.to_vec();
            batch.remove(&storage.ids, key);
            removed += 1;
        }
        if removed == 0 {
            self.ids_erased.clear();
        }
        Ok(removed)
    }

    /// Does a bounded amount of work. Not synced: if it is lost it is done again.
    pub fn step<'a>(
        &mut self,
        storage: &Storage,
        window: Duration,
        state: impl FnOnce(ProjectId) -> Result<&'a mut ProjectState, LogError>,
    ) -> Result<(), LogError> {
        let mut batch = storage.db.batch();
        self.forget_walked(storage, &mut batch)?;
        if let Some(now) = self.ids_written.take() {
            self.forget_ids(storage, &mut batch, now.minus(window))?;
        }
        if let Some(project) = self.trimmed.front().copied() {
            let state = state(project)?;
            if !self.forget_topics(storage, &mut batch, state.number, state.floor)? {
                forget_events(storage, &mut batch, project, state);
                if state.reclaimed == state.floor {
                    self.trimmed.pop_front();
                    self.topics_after = None;
                }
            }
        }
        batch.commit().map_err(|error| failed("write", &error))
    }

    /// Removes what the walk has left behind. The last entry stays: its number is where the next one goes on.
    fn forget_walked(&mut self, storage: &Storage, batch: &mut OwnedWriteBatch) -> Result<(), LogError> {
        let walked = storage.walked.load(Ordering::Relaxed);
        let (first, end) = (codec::journal_key(self.journal_through), codec::journal_key(walked));
        if first >= end {
            return Ok(());
        }
        for entry in storage.journal.range(first..end).take(STEP) {
            let key = entry.key().map_err(|error| failed("read", &error))?;
            self.journal_through = codec::journal_number(&key)? + 1;
            batch.remove(&storage.journal, key);
        }
        Ok(())
    }

    /// Removes the ids that were last written before `until`. As many entries as a batch adds, and one
    /// more, so that it keeps up.
    fn forget_ids(
        &mut self,
        storage: &Storage,
        batch: &mut OwnedWriteBatch,
        until: Timestamp,
    ) -> Result<(), LogError> {
        for entry in storage.expiry.range(self.expired_through.clone()..).take(2) {
            let (key, value) = entry.into_inner().map_err(|error| failed("read", &error))?;
            if codec::expiry_time(&key)? > until {
                break;
            }
            for id in codec::keys(&value)? {
                let used = storage.ids.get(id).map_err(|error| failed("read", &error))?;
                let used = used.map(|used| IdUse::decode(&used)).transpose()?;
                // An id that was used again since has a later entry of its own.
                if used.is_some_and(|used| used.first.published_at <= until) {
                    batch.remove(&storage.ids, id);
                }
            }
            self.expired_through = key.to_vec();
            batch.remove(&storage.expiry, key);
        }
        Ok(())
    }

    /// Removes topics whose newest event is under the floor. True while there are more to look at.
    fn forget_topics(
        &mut self,
        storage: &Storage,
        batch: &mut OwnedWriteBatch,
        project: u32,
        floor: u64,
    ) -> Result<bool, LogError> {
        let end = codec::names_end(project);
        let start = self.topics_after.take().unwrap_or_else(|| codec::name_key(project, ""));
        for (seen, entry) in storage.topics.range(start..end.clone()).enumerate() {
            let (key, value) = entry.into_inner().map_err(|error| failed("read", &error))?;
            if seen == STEP {
                self.topics_after = Some(key.to_vec());
                return Ok(true);
            }
            if Mark::decode(&value)?.sequence <= floor {
                batch.remove(&storage.topics, key);
            }
        }
        self.topics_after = Some(end);
        Ok(false)
    }
}

/// Removes the next events under the floor. Their keys are known: sequences have no gaps here.
fn forget_events(
    storage: &Storage,
    batch: &mut OwnedWriteBatch,
    project: ProjectId,
    state: &mut ProjectState,
) {
    let through = state.floor.min(state.reclaimed + STEP as u64);
    for sequence in state.reclaimed + 1..=through {
        batch.remove(&storage.events, codec::event_key(state.number, sequence));
    }
    state.reclaimed = through;
    batch.insert(&storage.projects, project.uuid().as_bytes(), state.encode());
}

#[cfg(test)]
mod tests {
    use crate::embedded::{Embedded, Options};
    use crate::{EventLog, Place, conformance};
    use std::time::{Duration, Instant};
    use weir_core::{ProjectId, TenantId, Timestamp};

    /// Entries left in events, topics, ids and expiry.
    fn left(log: &Embedded) -> [usize; 4] {
        let storage = &log.reads.storage;
        [&storage.events, &storage.topics, &storage.ids, &storage.expiry].map(|kept| kept.iter().count())
    }

    #[tokio::test]
    async fn room_is_given_back_even_after_a_stop_half_way() {
        let directory = tempfile::tempdir().expect("a directory");
        let options = Options { dedupe_window: Duration::from_secs(1), ..Options::new(directory.path()) };
        let place = Place { tenant: TenantId::new(), project: ProjectId::new(), stream: "EVENTS".into() };
        let log = Embedded::open(&options).expect("open");
        for i in 0..40 {
            let named = |j| {
                let at = Timestamp::from_seconds(i);
                conformance::named(&format!("{i}-{j}"), &format!("t.{i}.{j}"), "1", at)
            };
            log.append(&place, (0..100).map(named).collect()).await.expect("append");
        }
        log.trim(&place, 3990).await.expect("trim");
        log.close().await;
        let [events, _, ids, expiry] = left(&log);
        assert!(events > 10, "the stop came too late for what this test is about");
        assert!(ids <= 300 && expiry <= 3, "{ids} ids, {expiry} entries");
        drop(log);

        let log = Embedded::open(&options).expect("open");
        let patience = Instant::now() + Duration::from_secs(30);
        while left(&log)[..2] != [10, 10] {
            assert!(Instant::now() < patience, "{:?} are left", left(&log));
            tokio::task::yield_now().await;
        }
        let head = log.inspect(&place, 4000).await.expect("inspect");
        assert_eq!((head.bounds.floor, head.check.is_some()), (3990, true));
        log.close().await;
    }
}
