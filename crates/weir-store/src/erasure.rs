//! Erasing what deleted projects leave behind.

use crate::{By, Reply};
use std::time::Duration;
use weir_core::{ProjectId, TenantId};

/// A deleted project of which something is left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doomed {
    /// Whose.
    pub tenant_id: TenantId,
    /// Which.
    pub project_id: ProjectId,
    /// The streams that may hold its events.
    pub streams: Vec<String>,
}

/// Deleted projects, on their way to being gone: first nothing finds them, then nothing of theirs can be read, then their
/// bytes are no longer on the disk. Their usage, their row and the audit trail stay.
pub trait Erasure: Send + Sync {
    /// Projects that were deleted at least this long ago, the oldest first, whose usage is counted and that are not
    /// erased.
    fn to_erase(&self, after: Duration, limit: u32) -> Reply<'_, Vec<Doomed>>;

    /// Deletes the rows of a project whose events are erased, and notes both in the audit trail. False when that was done
    /// before.
    fn erase(&self, doomed: Doomed, by: By) -> Reply<'_, bool>;

    /// Projects that are erased and whose bytes may still be on the disk.
    fn to_shred(&self) -> Reply<'_, Vec<ProjectId>>;

    /// Notes that nothing of these is on the disk any more, and makes it true of the database's own files where it is a
    /// file.
    fn shredded(&self, projects: Vec<ProjectId>) -> Reply<'_, ()>;
}
