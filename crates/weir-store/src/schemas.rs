//! Topic schemas: what the payloads of a topic, or of all topics of a pattern, must look like.

use crate::{After, By, Changed, Page, Reply};
use weir_core::{Pattern, ProjectId, TenantId, Timestamp};

/// One version of the schema of a topic or pattern. A version never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSchema {
    /// The topics that it holds for.
    pub pattern: Pattern,
    /// 1, 2, 3 … within the pattern; goes on counting after a removal.
    pub version: u32,
    /// The JSON Schema, as text.
    pub document: String,
    /// Whether it was set although readers of the version before may not understand what it lets through.
    pub forced: bool,
    /// When it was set.
    pub created_at: Timestamp,
    /// By whom, as in the audit trail.
    pub created_by: String,
}

/// A schema to set.
#[derive(Clone, Debug)]
pub struct NewSchema {
    /// The topics that it is to hold for.
    pub pattern: Pattern,
    /// The JSON Schema, as text.
    pub document: String,
    /// Kept with the version.
    pub forced: bool,
    /// The version that is in force now, which the new one was compared with; `None` when there is none.
    pub replaces: Option<u32>,
}

/// How much a project's schemas in force may be together.
#[derive(Clone, Copy, Debug)]
pub struct SchemaRoom {
    /// Topics and patterns with a schema.
    pub schemas: u32,
    /// Bytes of their documents.
    pub bytes: u32,
    /// Versions that are in force no more and stay readable: the newest of the project.
    pub old: u32,
}

/// What became of setting a schema.
#[derive(Clone, Debug)]
pub enum SchemaSet {
    /// It is in force.
    Done(Changed<TopicSchema>),
    /// Another version came first: compare with that one and try again. Nothing was changed.
    Superseded,
    /// The project has as many schemas as it may. Nothing was changed.
    TooMany,
    /// The project's schemas would have so many bytes. Nothing was changed.
    TooLarge(u64),
}

/// The schemas of a tenant's projects. A project of another tenant has none.
pub trait Schemas: Send + Sync {
    /// Every schema in force in a project, by pattern.
    fn in_force(&self, tenant: TenantId, project: ProjectId) -> Reply<'_, Vec<TopicSchema>>;

    /// The schemas in force, in pages by pattern.
    fn list(
        &self,
        tenant: TenantId,
        project: ProjectId,
        page: After<Pattern>,
    ) -> Reply<'_, Page<TopicSchema>>;

    /// The schema in force for exactly this pattern, or an older version of it. `NotFound` when there is none,
    /// or never was that version.
    fn get(
        &self,
        tenant: TenantId,
        project: ProjectId,
        pattern: Pattern,
        version: Option<u32>,
    ) -> Reply<'_, TopicSchema>;

    /// Every version that the pattern had and that is kept, the oldest first, also after its removal.
    fn versions(
        &self,
        tenant: TenantId,
        project: ProjectId,
        pattern: Pattern,
        page: After<u32>,
    ) -> Reply<'_, Page<TopicSchema>>;

    /// Puts a new version in force, and forgets the oldest of those that are not, beyond the room for them.
    fn set(
        &self,
        tenant: TenantId,
        project: ProjectId,
        new: NewSchema,
        room: SchemaRoom,
        by: By,
    ) -> Reply<'_, SchemaSet>;

    /// Ends the schema of a pattern; its versions stay readable. Returns the last one. `NotFound` when none is
    /// in force.
    fn remove(
        &self,
        tenant: TenantId,
        project: ProjectId,
        pattern: Pattern,
        by: By,
    ) -> Reply<'_, Changed<TopicSchema>>;
}
