//! Tenants and their projects.

use crate::{After, By, Changed, Page, Reply, StoreError};
use serde_json::{Map, Value};
use weir_core::{Limits, PlanName, ProjectId, ProjectLimits, TenantId, Timestamp};

/// The stream that holds a tenant's events unless it was placed elsewhere.
pub const DEFAULT_STREAM: &str = "EVENTS";

/// Whether a tenant is served, and how it stands with its bills.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TenantStatus {
    /// Served.
    Active,
    /// Served, not yet paying.
    Trial,
    /// Served, with a bill that is overdue.
    PastDue,
    /// Not served.
    Suspended,
}

impl TenantStatus {
    const ALL: [Self; 4] = [Self::Active, Self::Trial, Self::PastDue, Self::Suspended];

    /// The public name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Trial => "trial",
            Self::PastDue => "past_due",
            Self::Suspended => "suspended",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }
}

/// The limits in which a tenant differs from its plan: some of the fields of [`Limits`], by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides(Map<String, Value>);

impl Overrides {
    /// Takes an object such as `{"connections": 500}`.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] when a field is not one of [`Limits`], or not a number that fits it.
    pub fn new(fields: Map<String, Value>) -> Result<Self, StoreError> {
        for (name, value) in &fields {
            // Each alone, for the message does not say whose value it is.
            let alone = Map::from_iter([(name.clone(), value.clone())]);
            serde_json::from_value::<Limits>(Value::Object(alone))
                .map_err(|error| StoreError::Invalid(format!("`limits.{name}`: {error}")))?;
        }
        Ok(Self(fields))
    }

    /// The fields that differ.
    #[must_use]
    pub const fn fields(&self) -> &Map<String, Value> {
        &self.0
    }

    /// The plan's limits with these put on top.
    pub(crate) fn over(&self, plan: PlanName) -> Result<Limits, StoreError> {
        let invalid = |error: serde_json::Error| StoreError::Invalid(format!("limits: {error}"));
        let mut limits = serde_json::to_value(Limits::of(plan)).map_err(invalid)?;
        if let Some(fields) = limits.as_object_mut() {
            fields.extend(self.0.clone());
        }
        serde_json::from_value(limits).map_err(invalid)
    }
}

/// A customer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// Its name, unique in the installation.
    pub name: String,
    /// What it bought.
    pub plan: PlanName,
    /// In which limits it differs from the plan.
    pub overrides: Overrides,
    /// The limits that hold: the plan's with the overrides on top.
    pub limits: Limits,
    /// Whether it is served.
    pub status: TenantStatus,
    /// Why it has that status, for people.
    pub status_reason: Option<String>,
    /// The stream of the event log that holds its events.
    pub stream: String,
    /// Its id at the payment provider.
    pub stripe_customer_id: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Grows with every change to what someone may do here; whoever cached less knows to look again.
    pub access_version: i64,
}

/// A tenant to make.
#[derive(Clone, Debug)]
pub struct NewTenant {
    /// Its id.
    pub id: TenantId,
    /// Its name: 1 to 128 characters, none of them control characters, unique in the installation.
    pub name: String,
    /// What it bought.
    pub plan: PlanName,
    /// In which limits it differs from the plan.
    pub overrides: Overrides,
    /// Whether it is served.
    pub status: TenantStatus,
}

/// An isolated name space of topics inside a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    /// Its id.
    pub id: ProjectId,
    /// Whose it is.
    pub tenant_id: TenantId,
    /// Its name, unique in the tenant.
    pub name: String,
    /// Its own limits.
    pub limits: ProjectLimits,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Tenants and projects. Every change writes its audit entry in the same transaction; one that touches
/// what somebody may do also announces it (see [`Changed`]).
pub trait Tenants: Send + Sync {
    /// Makes a tenant. `Conflict` when the name is taken.
    fn create(&self, tenant: NewTenant, by: By) -> Reply<'_, Tenant>;

    /// Reads a tenant.
    fn get(&self, tenant: TenantId) -> Reply<'_, Tenant>;

    /// Gives the tenant another name. `Conflict` when it is taken.
    fn rename(&self, tenant: TenantId, name: String, by: By) -> Reply<'_, Tenant>;

    /// Suspends, resumes, or marks how it stands with its bills.
    fn set_status(
        &self,
        tenant: TenantId,
        status: TenantStatus,
        reason: Option<String>,
        by: By,
    ) -> Reply<'_, Changed<Tenant>>;

    /// Changes plan and overrides, both at once.
    fn set_plan(
        &self,
        tenant: TenantId,
        plan: PlanName,
        overrides: Overrides,
        by: By,
    ) -> Reply<'_, Changed<Tenant>>;

    /// Records that the tenant's events are in another stream from now on. Moving them is not done here.
    fn set_placement(&self, tenant: TenantId, stream: String, by: By) -> Reply<'_, Changed<Tenant>>;

    /// Sets a project's own limits.
    fn set_project_limits(
        &self,
        tenant: TenantId,
        project: ProjectId,
        limits: ProjectLimits,
        by: By,
    ) -> Reply<'_, Changed<Project>>;

    /// Deletes a tenant with its projects: its keys are revoked, its members and invitations gone, its name is free.
    /// Nothing finds it any more but its bills and its audit trail.
    fn delete(&self, tenant: TenantId, by: By) -> Reply<'_, Changed<Tenant>>;

    /// Deletes a project: its keys are revoked, its name is free. Nothing finds it any more.
    fn delete_project(&self, tenant: TenantId, project: ProjectId, by: By) -> Reply<'_, Changed<Project>>;

    /// Gives a project another name. `Conflict` when the tenant has one of that name.
    fn rename_project(
        &self,
        tenant: TenantId,
        project: ProjectId,
        name: String,
        by: By,
    ) -> Reply<'_, Project>;

    /// Makes a project. `Conflict` when the tenant has one of that name.
    fn create_project(
        &self,
        tenant: TenantId,
        project: ProjectId,
        name: String,
        by: By,
    ) -> Reply<'_, Project>;

    /// Reads a project of the tenant.
    fn project(&self, tenant: TenantId, project: ProjectId) -> Reply<'_, Project>;

    /// The tenant's projects.
    fn projects(&self, tenant: TenantId, page: After<ProjectId>) -> Reply<'_, Page<Project>>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_limit_that_does_not_fit_is_named() {
        let new = |fields: Value| Overrides::new(fields.as_object().expect("an object").clone());
        assert!(new(json!({ "connections": 500, "monthly_events": null })).is_ok());
        let error = new(json!({ "connections": 500, "monthly_events": -1 })).expect_err("negative");
        assert_eq!(error.to_string(), "`limits.monthly_events`: invalid value: integer `-1`, expected u64");
        let error = new(json!({ "conections": 500 })).expect_err("misspelt").to_string();
        assert!(error.contains("unknown field `conections`"), "{error}");
    }
}
