//! What many entries of a list refer to, read once for all of them.

use super::viewer::Viewer;
use async_graphql::Context;
use async_graphql::dataloader::{DataLoader, HashMapCache, Loader};
use std::collections::HashMap;
use std::sync::Arc;
use weir_core::{ProjectId, TenantId};
use weir_engine::admin::permits::{ProjectsRead, TenantRead};
use weir_engine::{After, Error, Page, Project, Reach, Tenant};

/// The loaders of one operation.
pub(super) struct Loaders(DataLoader<Source, HashMapCache>);

/// Where they read, on behalf of whom.
struct Source(Arc<Viewer>);

impl Loaders {
    pub(super) fn new(viewer: Arc<Viewer>) -> Self {
        Self(DataLoader::with_cache(Source(viewer), tokio::spawn, HashMapCache::default()))
    }

    /// Those of the operation that is executed.
    pub(super) fn of<'a>(ctx: &Context<'a>) -> &'a Self {
        ctx.data_unchecked::<Self>()
    }

    pub(super) async fn tenant(&self, id: TenantId) -> Result<Tenant, Error> {
        self.0.load_one(id).await?.ok_or_else(|| Error::not_found("tenant"))
    }

    pub(super) async fn project(&self, id: ProjectId) -> Result<Project, Error> {
        self.0.load_one(id).await?.ok_or_else(|| Error::not_found("project"))
    }

    /// The first projects of a tenant that was read already.
    pub(super) async fn first_projects(&self, tenant: TenantId, each: u32) -> Result<Page<Project>, Error> {
        self.0.load_one(ProjectsOf { tenant, each }).await?.ok_or_else(|| Error::not_found("tenant"))
    }
}

/// The beginning of a tenant's list of projects.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct ProjectsOf {
    tenant: TenantId,
    each: u32,
}

impl Loader<ProjectsOf> for Source {
    type Value = Page<Project>;
    type Error = Error;

    async fn load(&self, wanted: &[ProjectsOf]) -> Result<HashMap<ProjectsOf, Page<Project>>, Error> {
        let may = self.0.may::<ProjectsRead>().await?;
        // The fields of one selection ask for the same number, so this is one read, most often.
        let mut by_number: HashMap<u32, Vec<ProjectsOf>> = HashMap::new();
        for one in wanted {
            by_number.entry(one.each).or_default().push(*one);
        }
        let mut found = HashMap::new();
        for (each, wanted) in by_number {
            let tenants: Vec<TenantId> = wanted.iter().map(|one| one.tenant).collect();
            let pages = self.0.gateway.engine.first_projects(&may, &tenants, each).await?;
            found.extend(wanted.into_iter().zip(pages));
        }
        Ok(found)
    }
}

impl Loader<TenantId> for Source {
    type Value = Tenant;
    type Error = Error;

    async fn load(&self, ids: &[TenantId]) -> Result<HashMap<TenantId, Tenant>, Error> {
        let may = self.0.may::<TenantRead>().await?;
        let mut found = HashMap::new();
        // One, but for operators.
        for id in ids {
            found.insert(*id, self.0.gateway.engine.tenant(&may, *id).await?);
        }
        Ok(found)
    }
}

impl Loader<ProjectId> for Source {
    type Value = Project;
    type Error = Error;

    async fn load(&self, ids: &[ProjectId]) -> Result<HashMap<ProjectId, Project>, Error> {
        let may = self.0.may::<ProjectsRead>().await?;
        let engine = &self.0.gateway.engine;
        let mut found = HashMap::new();
        if let (true, Reach::Tenant(own)) = (ids.len() > 1, may.principal().reach) {
            // A tenant has few projects: one read has them all, most often.
            let page = engine.projects(&may, own, After::first(1_000)).await?;
            found.extend(page.items.into_iter().map(|project| (project.id, project)));
        }
        for id in ids {
            if !found.contains_key(id) {
                found.insert(*id, engine.project(&may, *id).await?);
            }
        }
        Ok(found)
    }
}
