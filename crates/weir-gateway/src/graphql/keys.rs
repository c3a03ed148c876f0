//! API keys.

use super::connection::{self, Connection, Edge};
use super::enforced::Enforced;
use super::loaders::Loaders;
use super::projects::Project;
use super::scalars::DateTime;
use super::viewer::{Viewer, id};
use crate::rest::invalid;
use async_graphql::{ComplexObject, Context, ID, InputObject, Object, Result, SimpleObject};
use std::time::Duration;
use weir_core::{ProjectId, Scopes, Secret};
use weir_engine::Error;
use weir_engine::admin::KeyWish;
use weir_engine::admin::permits::{KeysRead, KeysWrite};

/// For how long a rotated key works on when nothing else is said.
const DEFAULT_GRACE: i32 = 24 * 3600;

/// An API key.
#[derive(SimpleObject)]
#[graphql(complex, rename_fields = "snake_case")]
pub(super) struct ApiKey {
    /// Its id, `key_…`.
    id: ID,
    /// The project that it works on.
    project_id: ID,
    /// What its owner calls it.
    name: String,
    /// What it may do.
    scopes: Vec<String>,
    /// Requests per second; 0 is unlimited.
    rate_limit_per_sec: u32,
    /// False once it is revoked.
    is_active: bool,
    /// From when on it is refused as expired.
    expires_at: Option<DateTime>,
    /// When it was revoked.
    revoked_at: Option<DateTime>,
    /// The key that took its place when it was rotated.
    replaced_by: Option<ID>,
    /// When it was made.
    created_at: DateTime,
    /// The key itself: in the answer that made it, and nowhere else.
    api_key: Option<String>,
    #[graphql(skip)]
    place: ProjectId,
}

impl ApiKey {
    fn of(key: weir_engine::ApiKey, secret: Option<&Secret>) -> Self {
        Self {
            id: key.id.to_string().into(),
            project_id: key.project_id.to_string().into(),
            name: key.name,
            scopes: key.scopes.iter().map(|scope| scope.as_str().to_owned()).collect(),
            rate_limit_per_sec: key.rate_limit_per_sec,
            is_active: key.revoked_at.is_none(),
            expires_at: key.expires_at.map(DateTime),
            revoked_at: key.revoked_at.map(DateTime),
            replaced_by: key.replaced_by.map(|id| id.to_string().into()),
            created_at: key.created_at.into(),
            api_key: secret.map(|secret| secret.expose().to_owned()),
            place: key.project_id,
        }
    }
}

#[ComplexObject]
impl ApiKey {
    /// The project that it works on. Needs `projects:read`.
    async fn project(&self, ctx: &Context<'_>) -> Option<Result<Project>> {
        Some(Loaders::of(ctx).project(self.place).await.map(Project::from).map_err(Into::into))
    }
}

/// A key after a change, and where the change holds.
#[derive(SimpleObject)]
pub(super) struct ApiKeyChange {
    /// The key as it is now; after a rotation the one that took its place.
    key: ApiKey,
    /// Where it holds already.
    enforced: Enforced,
}

/// An API key to make.
#[derive(InputObject)]
#[graphql(rename_fields = "snake_case")]
pub(super) struct ApiKeyInput {
    /// The project that it works on; an API key's own when absent.
    project_id: Option<ID>,
    /// 1 to 128 characters.
    name: String,
    /// At least one of `events:publish events:subscribe admin:read admin:write billing:read`, none that you do not hold
    /// yourself.
    scopes: Vec<String>,
    /// Requests per second; 0 is unlimited.
    #[graphql(default)]
    rate_limit_per_sec: u32,
    /// From when on it is refused.
    expires_at: Option<DateTime>,
}

#[derive(Default)]
pub(super) struct KeyQuery;

#[Object(rename_args = "snake_case")]
impl KeyQuery {
    /// API keys of one project, or of the whole tenant, oldest first; revoked ones included. Needs `keys:read`.
    #[graphql(complexity = "connection::cost(first, child_complexity)")]
    async fn api_keys(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Only this project's.")] project_id: Option<ID>,
        #[graphql(desc = "How many at most: 1 to 1000, 20 when absent.")] first: Option<i32>,
        #[graphql(desc = "Read on after this cursor of the page before.")] after: Option<String>,
    ) -> Option<Result<Connection<ApiKey>>> {
        Some(list(Viewer::of(ctx), project_id, first, after).await.map_err(Into::into))
    }
}

async fn list(
    viewer: &Viewer,
    project: Option<ID>,
    first: Option<i32>,
    after: Option<String>,
) -> Result<Connection<ApiKey>, Error> {
    let may = viewer.may::<KeysRead>().await?;
    let project = project.map(|project| id("project_id", &project)).transpose()?;
    let page = viewer.gateway.engine.keys(&may, project, connection::page(first, after.as_deref())?).await?;
    let edge = |key: weir_engine::ApiKey| Edge { cursor: key.id.to_string(), node: ApiKey::of(key, None) };
    Ok(Connection::of(page, edge))
}

#[derive(Default)]
pub(super) struct KeyMutation;

#[Object(rename_args = "snake_case")]
impl KeyMutation {
    /// Create an API key. Needs `keys:write`.
    async fn create_api_key(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The key.")] input: ApiKeyInput,
    ) -> Option<Result<ApiKey>> {
        Some(create(Viewer::of(ctx), input).await.map_err(Into::into))
    }

    /// Rotate an API key: a new key takes its place, the old one works on for the grace time. Needs `keys:write`.
    async fn rotate_api_key(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The key.", name = "id")] key: ID,
        #[graphql(desc = "For how long the old key works on: 0 to 604800 seconds, 86400 when absent.")]
        grace_seconds: Option<i32>,
    ) -> Option<Result<ApiKeyChange>> {
        Some(rotate(Viewer::of(ctx), &key, grace_seconds).await.map_err(Into::into))
    }

    /// Revoke an API key: whatever uses it ends, on every node. Needs `keys:write`.
    async fn revoke_api_key(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The key.", name = "id")] key: ID,
    ) -> Option<Result<ApiKeyChange>> {
        Some(revoke(Viewer::of(ctx), &key).await.map_err(Into::into))
    }
}

async fn create(viewer: &Viewer, input: ApiKeyInput) -> Result<ApiKey, Error> {
    let may = viewer.may::<KeysWrite>().await?;
    let named = input.project_id.map(|project| id("project_id", &project)).transpose()?;
    let project = named.or(may.principal().project);
    let wish = KeyWish {
        project: project
            .ok_or_else(|| invalid("project_id", "is needed: the project that the key works on"))?,
        name: input.name,
        scopes: scopes(&input.scopes)?,
        rate_limit_per_sec: input.rate_limit_per_sec,
        expires_at: input.expires_at.map(|time| time.0),
    };
    let (key, secret) = viewer.gateway.engine.create_key(&may, wish).await?;
    Ok(ApiKey::of(key, Some(&secret)))
}

fn scopes(names: &[String]) -> Result<Scopes, Error> {
    let scopes =
        names.iter().map(|name| name.parse()).collect::<Result<Scopes, weir_core::scope::InvalidScope>>();
    scopes.map_err(|error| invalid("scopes", &format!("cannot be used: {error}")))
}

async fn rotate(viewer: &Viewer, key: &ID, grace: Option<i32>) -> Result<ApiKeyChange, Error> {
    let may = viewer.may::<KeysWrite>().await?;
    let grace = u64::try_from(grace.unwrap_or(DEFAULT_GRACE))
        .map_err(|_| invalid("grace_seconds", "must be 0 or more"))?;
    let engine = &viewer.gateway.engine;
    let (changed, secret) = engine.rotate_key(&may, id("id", key)?, Duration::from_secs(grace)).await?;
    let enforced = engine.enforced(&changed.change).await.into();
    Ok(ApiKeyChange { key: ApiKey::of(changed.value, Some(&secret)), enforced })
}

async fn revoke(viewer: &Viewer, key: &ID) -> Result<ApiKeyChange, Error> {
    let may = viewer.may::<KeysWrite>().await?;
    let engine = &viewer.gateway.engine;
    let changed = engine.revoke_key(&may, id("id", key)?).await?;
    let enforced = engine.enforced(&changed.change).await.into();
    Ok(ApiKeyChange { key: ApiKey::of(changed.value, None), enforced })
}
