//! Retention floors: the last sequence of each project that is gone, in a key-value bucket that all
//! nodes share. A floor is effective the moment it is written; the room is reclaimed later.

use super::api::{Api, Wanted};
use crate::LogError;
use async_nats::jetstream::kv::{self, UpdateErrorKind};
use std::sync::Arc;
use weir_core::ProjectId;

const BUCKET: &str = "weir_floors";
/// The stream behind the bucket.
const STREAM: &str = "KV_weir_floors";
/// Where a changed floor passes by, for whoever follows the projects; a hint, not the truth.
pub(super) const HINTS: &str = "$KV.weir_floors.*";

/// The floor of a project.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Floor {
    /// The last sequence that is gone; 0 when nothing was trimmed.
    pub through: u64,
    /// Where the head was then: what came later follows on nothing at or below `through`.
    pub head: u64,
}

impl Floor {
    /// What an event says of the one before it on its topic: what was gone already when the event was
    /// appended does not count.
    pub const fn previous(self, sequence: u64, previous: u64) -> u64 {
        if sequence > self.head && previous <= self.through { 0 } else { previous }
    }

    /// Reads a floor as it stands in the bucket.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (through, head) = std::str::from_utf8(text).ok()?.split_once(' ')?;
        Some(Self { through: through.parse().ok()?, head: head.parse().ok()? })
    }
}

/// The floors of all projects.
pub(super) struct Floors {
    api: Arc<Api>,
    bucket: kv::Store,
}

impl Floors {
    /// Opens the bucket; makes it when missing.
    pub async fn open(api: Arc<Api>) -> Result<Self, LogError> {
        let failed = |error: &dyn std::fmt::Display| {
            LogError::Unavailable(format!("the bucket {BUCKET} cannot be opened: {error}"))
        };
        if let Ok(bucket) = api.context.get_key_value(BUCKET).await {
            return Ok(Self { api, bucket });
        }
        let config = kv::Config {
            bucket: BUCKET.to_owned(),
            description: "the last sequence of each project that is no longer retained".to_owned(),
            history: 1,
            num_replicas: api.options.replicas,
            ..kv::Config::default()
        };
        let bucket = match api.context.create_key_value(config).await {
            Ok(bucket) => bucket,
            // Another node may have made it at the same moment.
            Err(error) => api.context.get_key_value(BUCKET).await.map_err(|_| failed(&error))?,
        };
        Ok(Self { api, bucket })
    }

    /// The floor of a project, as the bucket's leader knows it.
    pub async fn get(&self, project: ProjectId) -> Result<Floor, LogError> {
        Ok(self.entry(project).await?.map_or(Floor::default(), |(floor, _)| floor))
    }

    async fn entry(&self, project: ProjectId) -> Result<Option<(Floor, u64)>, LogError> {
        let subject = format!("$KV.{BUCKET}.{project}");
        let Some(stored) = self.api.leader_get(STREAM, Wanted::Last(&subject)).await? else {
            return Ok(None);
        };
        let floor = Floor::parse(&stored.payload)
            .ok_or_else(|| LogError::Corrupt(format!("the floor of {project} in {BUCKET} is unreadable")))?;
        Ok(Some((floor, stored.sequence)))
    }

    /// Raises the floor of a project; a floor never sinks. Returns what it is then.
    pub async fn raise(&self, project: ProjectId, floor: Floor) -> Result<Floor, LogError> {
        loop {
            let (current, revision) = self.entry(project).await?.unwrap_or_default();
            if current.through >= floor.through {
                return Ok(current);
            }
            // Somebody else's change in between shows as a wrong revision: look again.
            let value = format!("{} {}", floor.through, floor.head).into();
            match self.bucket.update(project.to_string(), value, revision).await {
                Ok(_) => return Ok(floor),
                Err(error) if error.kind() == UpdateErrorKind::WrongLastRevision => {}
                Err(error) => return Err(LogError::Unavailable(format!("raising the floor: {error}"))),
            }
        }
    }
}

/// The project of a hint.
pub(super) fn hinted_project(subject: &str) -> Option<ProjectId> {
    subject.rsplit('.').next()?.parse().ok()
}
