//! Erasing deleted projects: events first, then rows, and in the end the bytes that both leave in files.

use super::Retention;
use crate::Error;
use std::sync::PoisonError;
use tokio::time::Instant;
use weir_log::Place;
use weir_store::{By, Doomed};

/// Projects of one pass.
const PROJECTS: u32 = 100;
/// Calls to the log for one project in one pass, each a bounded amount of work.
const CALLS: usize = 20;

impl Retention {
    /// Erases what is due.
    pub(super) async fn erase_deleted(&self) -> Result<(), Error> {
        for doomed in self.store.erasure.to_erase(self.settings.erase_after, PROJECTS).await? {
            let project = doomed.project_id;
            match self.erase(doomed).await {
                Ok(true) => tracing::info!(%project, "a deleted project was erased"),
                Ok(false) => {}
                Err(error) => {
                    let cause = error.internal.unwrap_or(error.message);
                    tracing::warn!(%project, cause, "a deleted project cannot be erased just now: {cause}");
                }
            }
        }
        self.shred().await
    }

    /// Erases one project; whether nothing of it is left to read.
    async fn erase(&self, doomed: Doomed) -> Result<bool, Error> {
        for stream in &doomed.streams {
            let (tenant, project) = (doomed.tenant_id, doomed.project_id);
            let place = Place { tenant, project, stream: stream.as_str().into() };
            let mut calls = 0;
            while !self.log.erase(&place).await? {
                calls += 1;
                if calls == CALLS {
                    return Ok(false);
                }
            }
        }
        Ok(self.store.erasure.erase(doomed, By::new("system", self.clock.now())).await?)
    }

    /// Has the files rewritten that still hold bytes of what was erased; not more often than is set.
    async fn shred(&self) -> Result<(), Error> {
        let recent = |at: &Instant| at.elapsed() < self.settings.shred_interval;
        let last = *self.shredded.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_ref().is_some_and(recent) {
            return Ok(());
        }
        let erased = self.store.erasure.to_shred().await?;
        if erased.is_empty() {
            return Ok(());
        }
        let (began, projects) = (Instant::now(), erased.len());
        self.log.shred().await?;
        self.store.erasure.shredded(erased).await?;
        *self.shredded.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        let took = began.elapsed();
        tracing::info!(projects, ?took, "files were rewritten without {projects} erased projects");
        Ok(())
    }
}
