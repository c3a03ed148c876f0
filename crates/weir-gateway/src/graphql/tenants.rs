//! Tenants.

use super::connection::{self, Connection, Edge};
use super::enforced::Enforced;
use super::projects::{self, Project};
use super::scalars::{DateTime, Json};
use super::viewer::{Viewer, id};
use async_graphql::{ComplexObject, Context, Enum, ID, Object, Result, SimpleObject};
use weir_core::PlanName;
use weir_engine::admin::permits::{TenantRead, TenantsManage};
use weir_engine::{Error, TenantStatus};

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
        Some(projects::list(Viewer::of(ctx), Some(&self.id), first, after).await.map_err(Into::into))
    }
}

/// A tenant after a change, and where the change holds.
#[derive(SimpleObject)]
pub(super) struct TenantChange {
    /// The tenant as it is now.
    tenant: Tenant,
    /// Where it holds already.
    enforced: Enforced,
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

/// Suspends a tenant for a reason, or resumes it.
async fn set(viewer: &Viewer, tenant: &ID, suspended: Option<String>) -> Result<TenantChange, Error> {
    let may = viewer.may::<TenantsManage>().await?;
    let (engine, tenant) = (&viewer.gateway.engine, id("tenant_id", tenant)?);
    let changed = match suspended {
        Some(reason) => engine.suspend_tenant(&may, tenant, reason).await?,
        None => engine.resume_tenant(&may, tenant).await?,
    };
    let enforced = engine.enforced(&changed.change).await.into();
    Ok(TenantChange { tenant: changed.value.into(), enforced })
}
