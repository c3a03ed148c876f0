//! Tenants.

use super::connection::{self, Connection, Edge};
use super::enforced::Enforced;
use super::loaders::Loaders;
use super::projects::{self, Project};
use super::scalars::{DateTime, Json};
use super::viewer::{Viewer, id, tenant_or_own};
use async_graphql::{ComplexObject, Context, Enum, ID, InputObject, Object, Result, SimpleObject};
use weir_core::{PlanName, TenantId};
use weir_engine::admin::permits::{TenantDelete, TenantRead, TenantWrite, TenantsManage};
use weir_engine::admin::{TenantChange as Wanted, TenantWish};
use weir_engine::{Error, Overrides, TenantStatus};

/// What a tenant bought.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
#[graphql(name = "BillingPlan", remote = "PlanName", rename_items = "snake_case")]
pub(super) enum Plan {
    /// For trying out.
    Free,
    /// For production.
    Pro,
    /// Without limits that money could lift.
    Enterprise,
}

/// Whether a tenant is served.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
#[graphql(name = "TenantStatus", remote = "TenantStatus", rename_items = "snake_case")]
pub(super) enum Status {
    /// It is.
    Active,
    /// It is, on trial.
    Trial,
    /// It is, and a payment is overdue.
    PastDue,
    /// It is not: its people can look and pay, nothing else.
    Suspended,
}

/// A tenant.
#[derive(SimpleObject)]
#[graphql(complex, rename_fields = "snake_case")]
pub(super) struct Tenant {
    /// Its id, `ten_…`.
    id: ID,
    /// Its name.
    name: String,
    /// What it bought.
    plan: Plan,
    /// The limits that hold: the plan's, with what differs put on top.
    limits: Json,
    /// Whether it is served.
    status: Status,
    /// Why, for people.
    status_reason: Option<String>,
    /// When it was made.
    created_at: DateTime,
    #[graphql(skip)]
    key: TenantId,
}

impl From<weir_engine::Tenant> for Tenant {
    fn from(tenant: weir_engine::Tenant) -> Self {
        Self {
            id: tenant.id.to_string().into(),
            name: tenant.name,
            plan: tenant.plan.into(),
            limits: Json::of(&tenant.limits),
            status: tenant.status.into(),
            status_reason: tenant.status_reason,
            created_at: tenant.created_at.into(),
            key: tenant.id,
        }
    }
}

#[ComplexObject(rename_args = "snake_case", rename_fields = "snake_case")]
impl Tenant {
    /// Its projects, oldest first. Needs `projects:read`.
    #[graphql(complexity = "connection::cost(first, child_complexity)")]
    async fn projects(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "How many at most: 1 to 1000, 20 when absent.")] first: Option<i32>,
        #[graphql(desc = "Read on after this cursor of the page before.")] after: Option<String>,
    ) -> Option<Result<Connection<Project>>> {
        if after.is_some() {
            return Some(
                projects::list(Viewer::of(ctx), Some(&self.id), first, after).await.map_err(Into::into),
            );
        }
        // The beginnings of many tenants' lists are read together.
        let read = async {
            let each = u32::try_from(connection::first(first)?).unwrap_or(u32::MAX);
            Ok(projects::connection(Loaders::of(ctx).first_projects(self.key, each).await?))
        };
        Some(read.await.map_err(|error: Error| error.into()))
    }
}

/// A tenant after a change, and where the change holds.
#[derive(SimpleObject)]
pub(super) struct TenantChange {
    /// The tenant as it is now.
    tenant: Tenant,
    /// Where it holds already; null when nothing had to be enforced.
    enforced: Option<Enforced>,
}

/// A tenant to make.
#[derive(InputObject)]
pub(super) struct TenantInput {
    /// 1 to 128 characters, unique in the installation.
    name: String,
    /// What it buys; `free` when absent.
    plan: Option<Plan>,
    /// Limits that differ from the plan's: an object, by name.
    limits: Option<Json>,
    /// Whether it begins on trial.
    #[graphql(default)]
    trial: bool,
}

/// What to change about a tenant; what is absent stays.
#[derive(InputObject)]
pub(super) struct TenantChangeInput {
    /// Another name.
    name: Option<String>,
    /// Another plan; for operators.
    plan: Option<Plan>,
    /// Limits that differ from the plan's, in the place of all such before: an object, by name; for operators.
    limits: Option<Json>,
}

/// A tenant or project that is no more.
#[derive(SimpleObject)]
pub(super) struct Deleted {
    /// Its id.
    pub id: ID,
    /// The name that it had.
    pub name: String,
    /// Where that holds already.
    pub enforced: Enforced,
}

#[derive(Default)]
pub(super) struct TenantQuery;

#[Object(rename_args = "snake_case")]
impl TenantQuery {
    /// The tenants within reach, oldest first: operators see all, everybody else their own. Needs `tenant:read`.
    #[graphql(complexity = "connection::cost(first, child_complexity)")]
    async fn tenants(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "How many at most: 1 to 1000, 20 when absent.")] first: Option<i32>,
        #[graphql(desc = "Read on after this cursor of the page before.")] after: Option<String>,
    ) -> Option<Result<Connection<Tenant>>> {
        Some(list(Viewer::of(ctx), first, after).await.map_err(Into::into))
    }
}

async fn list(
    viewer: &Viewer,
    first: Option<i32>,
    after: Option<String>,
) -> Result<Connection<Tenant>, Error> {
    let may = viewer.may::<TenantRead>().await?;
    let page = viewer.gateway.engine.tenants(&may, connection::page(first, after.as_deref())?).await?;
    let edge = |tenant: weir_engine::Tenant| Edge { cursor: tenant.id.to_string(), node: tenant.into() };
    Ok(Connection::of(page, edge))
}

#[derive(Default)]
pub(super) struct TenantMutation;

#[Object(rename_args = "snake_case")]
impl TenantMutation {
    /// Create a tenant. For operators.
    async fn create_tenant(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The tenant.")] input: TenantInput,
    ) -> Option<Result<Tenant>> {
        Some(create(Viewer::of(ctx), input).await.map_err(Into::into))
    }

    /// Change a tenant. The name needs `tenant:write`; plan and limits are for operators, and hold on live connections at
    /// once.
    async fn change_tenant(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What to change.")] input: TenantChangeInput,
        #[graphql(desc = "The tenant; your own when absent.")] tenant_id: Option<ID>,
    ) -> Option<Result<TenantChange>> {
        Some(change(Viewer::of(ctx), input, tenant_id.as_ref()).await.map_err(Into::into))
    }

    /// Delete a tenant with its projects, keys and members: whatever it has open on any node ends, and there is no way back.
    /// Its audit trail stays, and what it used is billed. Needs `tenant:delete`.
    async fn delete_tenant(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The tenant.")] tenant_id: ID,
    ) -> Option<Result<Deleted>> {
        let delete = async {
            let viewer = Viewer::of(ctx);
            let may = viewer.may::<TenantDelete>().await?;
            let engine = &viewer.gateway.engine;
            let changed = engine.delete_tenant(&may, id("tenant_id", &tenant_id)?).await?;
            let enforced = engine.enforced(&changed.change).await.into();
            Ok(Deleted { id: tenant_id, name: changed.value.name, enforced })
        };
        Some(delete.await.map_err(|error: Error| error.into()))
    }

    /// Suspend a tenant: whatever it has open on any node ends; its people can still look, and pay. For operators.
    async fn suspend_tenant(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The tenant.")] tenant_id: ID,
        #[graphql(desc = "What its people read.")] reason: String,
    ) -> Option<Result<TenantChange>> {
        Some(set(Viewer::of(ctx), &tenant_id, Some(reason)).await.map_err(Into::into))
    }

    /// End a tenant's suspension. For operators.
    async fn resume_tenant(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The tenant.")] tenant_id: ID,
    ) -> Option<Result<TenantChange>> {
        Some(set(Viewer::of(ctx), &tenant_id, None).await.map_err(Into::into))
    }
}

/// Reads limits that differ from the plan's.
fn overrides(limits: &Json) -> Result<Overrides, Error> {
    Ok(Overrides::new(limits.read("limits", "an object")?)?)
}

async fn create(viewer: &Viewer, input: TenantInput) -> Result<Tenant, Error> {
    let may = viewer.may::<TenantsManage>().await?;
    let wish = TenantWish {
        name: input.name,
        plan: input.plan.map_or(PlanName::Free, Into::into),
        overrides: input.limits.as_ref().map(overrides).transpose()?.unwrap_or_default(),
        trial: input.trial,
    };
    Ok(viewer.gateway.engine.create_tenant(&may, wish).await?.into())
}

async fn change(
    viewer: &Viewer,
    input: TenantChangeInput,
    named: Option<&ID>,
) -> Result<TenantChange, Error> {
    let may = viewer.may::<TenantWrite>().await?;
    let tenant = tenant_or_own(&may, named.map(|tenant| tenant.as_str()))?;
    let wanted = Wanted {
        name: input.name,
        plan: input.plan.map(Into::into),
        overrides: input.limits.as_ref().map(overrides).transpose()?,
    };
    let engine = &viewer.gateway.engine;
    let (tenant, change) = engine.change_tenant(&may, tenant, wanted).await?;
    let enforced = match &change {
        Some(change) => Some(engine.enforced(change).await.into()),
        None => None,
    };
    Ok(TenantChange { tenant: tenant.into(), enforced })
}

/// Suspends a tenant for a reason, or resumes it.
async fn set(viewer: &Viewer, tenant: &ID, suspended: Option<String>) -> Result<TenantChange, Error> {
    let may = viewer.may::<TenantsManage>().await?;
    let (engine, tenant) = (&viewer.gateway.engine, id("tenant_id", tenant)?);
    let changed = match suspended {
        Some(reason) => engine.suspend_tenant(&may, tenant, reason).await?,
        None => engine.resume_tenant(&may, tenant).await?,
    };
    let enforced = Some(engine.enforced(&changed.change).await.into());
    Ok(TenantChange { tenant: changed.value.into(), enforced })
}
