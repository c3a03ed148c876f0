//! Topic schemas: setting them, and holding payloads against them.
//!
//! A schema goes through `document` (what is it made of, is it bounded?), `cost` (how much can checking take?) and
//! `compile` before it is kept; `compatible` holds a new version against the old one. `loaded` is what this node
//! has in memory, within the bounds of `memory`, `check` the judgement on a payload.

mod check;
mod compatible;
mod compile;
mod cost;
mod document;
mod loaded;
mod memory;
#[cfg(test)]
mod tests;

pub use compatible::Difference;

pub(crate) use check::{ProjectSchemas, Steps};
pub(crate) use loaded::{Cell, Loaded};

use crate::Error;
use crate::admin::permits::{SchemasRead, SchemasWrite};
use crate::admin::{May, Permit};
use crate::engine::Engine;
use compatible::differences;
use compile::{SETTING, apart, compile, parse};
use serde_json::json;
use weir_core::{Code, Pattern, ProjectId, TenantId};
use weir_store::{
    AccessChange, After, Changed, NewSchema, Page, SchemaRoom, SchemaSet, StoreError, TopicSchema,
};

/// Versions of a project that are in force no more and stay readable.
const OLD: u32 = 1_000;
/// Attempts to set a schema while others set the same one.
const ATTEMPTS: usize = 20;

/// A schema to set.
#[derive(Clone, Debug)]
pub struct SchemaWish {
    /// The topics that it is to hold for.
    pub pattern: Pattern,
    /// The JSON Schema, as text.
    pub document: String,
    /// Set it even if consumers of the version before may not understand what it accepts.
    pub force: bool,
    /// The version that it is to replace, 0 for none; any when absent.
    pub replaces: Option<u32>,
}

/// A schema that was set, and the change to be enforced; there is none when it was in force already.
#[derive(Clone, Debug)]
pub struct SetSchema {
    /// The version in force.
    pub schema: TopicSchema,
    /// What the nodes are to be told.
    pub change: Option<AccessChange>,
}

impl Engine {
    /// Sets the schema of a topic or pattern: the document becomes its next version, unless it says what is in force
    /// already.
    ///
    /// # Errors
    /// `INVALID_REQUEST` for a schema that is not taken, `CONFLICT` with the differences for an incompatible one,
    /// `PROJECT_LIMIT_EXCEEDED`, `NOT_FOUND` for the project.
    pub async fn set_schema(
        &self,
        may: &May<SchemasWrite>,
        project: ProjectId,
        wish: SchemaWish,
    ) -> Result<SetSchema, Error> {
        let tenant = self.tenant_with(may, project).await?;
        let text = wish.document.clone();
        let read = move || parse(&text).and_then(|schema| compile(&schema).map(|_| schema));
        let schema = apart(&SETTING, read).await??;
        let limits = self.store.tenants.get(tenant).await?.limits;
        let room = SchemaRoom { schemas: limits.schemas, bytes: limits.schema_bytes, old: OLD };
        let by = may.by(&*self.clock);
        for _ in 0..ATTEMPTS {
            let current = found(self.store.schemas.get(tenant, project, wish.pattern.clone(), None).await)?;
            let replaces = current.as_ref().map(|current| current.version);
            expected(wish.replaces, replaces)?;
            if let Some(current) = current {
                let old = parse(&current.document)?;
                if old == schema {
                    return Ok(SetSchema { schema: current, change: None });
                }
                if !wish.force {
                    let new = schema.clone();
                    compatible(&current, apart(&SETTING, move || differences(&old, &new)).await?)?;
                }
            }
            let (pattern, document) = (wish.pattern.clone(), wish.document.clone());
            let new = NewSchema { pattern, document, forced: wish.force, replaces };
            match self.store.schemas.set(tenant, project, new, room, by.clone()).await? {
                SchemaSet::Done(set) => {
                    return Ok(SetSchema { schema: set.value, change: Some(set.change) });
                }
                SchemaSet::Superseded => {}
                SchemaSet::TooMany => return Err(full("schemas", u64::from(room.schemas), room.schemas)),
                SchemaSet::TooLarge(bytes) => return Err(full("schema_bytes", bytes, room.bytes)),
            }
        }
        Err(Error::new(Code::Conflict, "Others are changing this schema all the time; try again."))
    }

    /// Ends the schema of a topic or pattern. Its versions stay readable.
    ///
    /// # Errors
    /// `NOT_FOUND` when none is in force.
    pub async fn remove_schema(
        &self,
        may: &May<SchemasWrite>,
        project: ProjectId,
        pattern: Pattern,
    ) -> Result<Changed<TopicSchema>, Error> {
        let tenant = self.tenant_with(may, project).await?;
        Ok(self.store.schemas.remove(tenant, project, pattern, may.by(&*self.clock)).await?)
    }

    /// The schema in force for exactly this topic or pattern, or one of its versions.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub async fn schema(
        &self,
        may: &May<SchemasRead>,
        project: ProjectId,
        pattern: Pattern,
        version: Option<u32>,
    ) -> Result<TopicSchema, Error> {
        let tenant = self.tenant_with(may, project).await?;
        Ok(self.store.schemas.get(tenant, project, pattern, version).await?)
    }

    /// The versions of the schema of a topic or pattern, the oldest first.
    ///
    /// # Errors
    /// `NOT_FOUND` for the project.
    pub async fn schema_versions(
        &self,
        may: &May<SchemasRead>,
        project: ProjectId,
        pattern: Pattern,
        page: After<u32>,
    ) -> Result<Page<TopicSchema>, Error> {
        let tenant = self.tenant_with(may, project).await?;
        Ok(self.store.schemas.versions(tenant, project, pattern, page).await?)
    }

    /// The schemas in force in a project, by pattern.
    ///
    /// # Errors
    /// `NOT_FOUND` for the project.
    pub async fn schemas(
        &self,
        may: &May<SchemasRead>,
        project: ProjectId,
        page: After<Pattern>,
    ) -> Result<Page<TopicSchema>, Error> {
        let tenant = self.tenant_with(may, project).await?;
        Ok(self.store.schemas.list(tenant, project, page).await?)
    }

    /// The tenant of a project that is there: of one that is not, there is nothing to list.
    async fn tenant_with<P: Permit>(&self, may: &May<P>, project: ProjectId) -> Result<TenantId, Error> {
        let tenant = self.tenant_of_project(may, project).await?;
        Ok(self.store.tenants.project(tenant, project).await?.tenant_id)
    }
}

/// Holds what the caller believes to be in force against what is.
fn expected(wanted: Option<u32>, current: Option<u32>) -> Result<(), Error> {
    match wanted {
        Some(wanted) if wanted != current.unwrap_or(0) => {
            let message = match current {
                Some(current) => format!("Version {current} is in force, not {wanted}: look at it first."),
                None => format!("No version is in force, neither {wanted}."),
            };
            Err(Error::new(Code::Conflict, message).with(json!({ "version": current })))
        }
        _ => Ok(()),
    }
}

fn found(looked: Result<TopicSchema, StoreError>) -> Result<Option<TopicSchema>, Error> {
    match looked {
        Ok(schema) => Ok(Some(schema)),
        Err(StoreError::NotFound(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn compatible(current: &TopicSchema, differences: Vec<Difference>) -> Result<(), Error> {
    let Some(first) = differences.first() else { return Ok(()) };
    let (place, version) = (if first.path.is_empty() { "the root" } else { &first.path }, current.version);
    Err(Error::new(
        Code::Conflict,
        format!(
            "Consumers of version {version} may not understand what the new schema accepts: {place} {}. Send `force: true` to set it all the same.",
            first.reason
        ),
    )
    .with(json!({ "version": version, "incompatible": differences })))
}

fn full(what: &str, wanted: u64, limit: u32) -> Error {
    let message = match what {
        "schemas" => format!(
            "The project has schemas for {limit} topics and patterns, as many as it may. Remove one, or have `schemas` raised."
        ),
        _ => format!(
            "The project's schemas would have {wanted} bytes together; the limit is {limit}. Remove one, or have `schema_bytes` raised."
        ),
    };
    Error::new(Code::ProjectLimitExceeded, message).with(json!({ "what": what, "limit": limit }))
}
