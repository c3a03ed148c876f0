//! People: from an access token to somebody who administers, or who publishes and subscribes in a project. The token
//! says only who it is; role and standing come from the store, remembered and forgotten like keys.

use super::directory::{Access, KEEP, Known, not_suspended, place, suspension};
use super::{Caller, Grant, Principal, Reach, Who};
use crate::limits::{Decision, Gcra, Rate, Rates};
use crate::people::{AccessTokens, Identified, not_ours};
use crate::schemas::Cell;
use crate::{Engine, Error};
use futures::FutureExt;
use moka::future::Cache;
use serde_json::json;
use std::sync::Arc;
use weir_core::{
    Code, Permission, Permissions, ProjectId, Role, Scope, Scopes, Secret, TenantId, Timestamp, UserId,
};
use weir_store::people::Standing;
use weir_store::{Access as Opens, User};

/// People, and projects that they act in, that are remembered at most.
const REMEMBERED: u64 = 20_000;
/// Requests that one person may make each second: no script is meant to sign in as a person.
const RATE: Rate = Rate { per_second: 50 };

/// A member of a tenant, or one of the installation's operators.
pub(super) struct KnownMember {
    user: User,
    role: Role,
    /// Why the tenant is suspended, if it is.
    suspended: Option<String>,
    rate: Arc<Gcra>,
}

/// Somebody who has signed in.
pub struct Person {
    who: Identified,
    member: Arc<KnownMember>,
}

impl Person {
    /// Takes `units` of the person's rate. `None` when there is none.
    #[must_use]
    pub fn take(&self, units: u32) -> Option<Decision> {
        let decision = self.member.rate.take(units)?;
        Some(Decision { whose: "credential", ..decision })
    }

    pub(crate) fn user(&self) -> &User {
        &self.member.user
    }

    /// For which tenant; `None` for the installation's operators.
    pub(crate) const fn tenant(&self) -> Option<TenantId> {
        self.who.tenant
    }

    pub(crate) fn role(&self) -> Role {
        self.member.role
    }
}

/// What is remembered about people.
pub(super) struct KnownPeople {
    pub(super) tokens: AccessTokens,
    members: Cache<(UserId, TenantId), Arc<Known<Arc<KnownMember>>>>,
    projects: Cache<(TenantId, ProjectId), Arc<Known<KnownProject>>>,
}

/// A project that members act in.
struct KnownProject {
    opens: Opens,
    schemas: Arc<Cell>,
}

impl KnownPeople {
    pub(super) fn new(tokens: AccessTokens) -> Self {
        Self {
            tokens,
            members: Cache::builder().max_capacity(REMEMBERED).time_to_live(KEEP).build(),
            projects: Cache::builder().max_capacity(REMEMBERED).time_to_live(KEEP).build(),
        }
    }

    /// Forgets all that was looked up.
    pub(super) fn forget(&self) {
        self.members.invalidate_all();
        self.projects.invalidate_all();
    }
}

/// What a role may do with a project's events, as the scopes of a key that may do the same.
fn event_scopes(role: Role) -> Scopes {
    scopes_within(Permissions::of_role(role), &[Scope::EventsPublish, Scope::EventsSubscribe])
}

/// Those of the scopes of which every permission is held.
fn scopes_within(held: Permissions, scopes: &[Scope]) -> Scopes {
    let whole = |scope: &Scope| {
        let mut granted = Permission::ALL.iter().filter(|permission| permission.scope() == Some(*scope));
        granted.all(|permission| held.contains(*permission))
    };
    scopes.iter().copied().filter(whole).collect()
}

fn known_member(standing: Standing) -> Option<KnownMember> {
    let (role, tenant) = standing.member?;
    let rate = Arc::new(Gcra::new(RATE));
    Some(KnownMember { user: standing.user, role, suspended: suspension(&tenant), rate })
}

fn operator(standing: Standing) -> KnownMember {
    KnownMember {
        user: standing.user,
        role: Role::Operator,
        suspended: None,
        rate: Arc::new(Gcra::new(RATE)),
    }
}

impl Access {
    /// Who an access token is, as it stands now.
    async fn member(&self, who: &Identified) -> Result<Arc<KnownMember>, Error> {
        let Identified { sub: user, tenant, .. } = *who;
        let found = match tenant {
            Some(tenant) => {
                let look = || async move {
                    let standing = self.store.people.standing(user, Some(tenant)).await?;
                    Ok((Some(tenant), standing.and_then(known_member).map(Arc::new)))
                };
                self.known(&self.people.members, (user, tenant), || look().boxed()).await?.found.clone()
            }
            // Operators are few, and no tenant's changes are theirs: they are looked up each time.
            None => {
                let standing = self.store.people.standing(user, None).await?;
                standing
                    .filter(|standing| standing.user.operator)
                    .map(|standing| Arc::new(operator(standing)))
            }
        };
        let good = |member: &Arc<KnownMember>| {
            member.user.disabled_at.is_none() && member.user.session_version == who.ver
        };
        found.filter(good).ok_or_else(not_ours)
    }

    /// Verifies an access token and finds out who that is, and in which role.
    async fn person(&self, token: &str) -> Result<Person, Error> {
        self.require_fresh()?;
        let who = self.people.tokens.read(token, self.clock.now())?;
        let member = self.member(&who).await?;
        Ok(Person { who, member })
    }

    /// The access token of somebody who has proved to be that.
    pub(crate) fn issue_access(&self, who: Identified) -> Result<Secret, Error> {
        self.people.tokens.issue(who, self.clock.now())
    }

    pub(super) async fn member_principal(&self, token: &str) -> Result<Arc<Principal>, Error> {
        let who = self.people.tokens.read(token, self.clock.now())?;
        let member = self.member(&who).await?;
        let permissions = Permissions::of_role(member.role);
        Ok(Arc::new(Principal {
            who: Who::Member { user: who.sub, role: member.role, version: who.ver },
            reach: who.tenant.map_or(Reach::Installation, Reach::Tenant),
            permissions,
            // Whoever makes a tenant makes its first key; others pass on what they hold.
            scopes: match member.role {
                Role::Operator => Scopes::all(),
                _ => scopes_within(permissions, &Scope::ALL),
            },
            project: None,
            suspended: member.suspended.clone(),
            // Not the tenant's: whoever puts things right is not kept out by traffic.
            rates: Rates::of(Arc::clone(&member.rate)),
        }))
    }

    /// A member, by an access token, in a project.
    pub(super) async fn by_member(
        &self,
        token: &str,
        project: Option<ProjectId>,
    ) -> Result<Arc<Caller>, Error> {
        let who = self.people.tokens.read(token, self.clock.now())?;
        let project = project.ok_or_else(|| {
            Error::new(
                Code::InvalidRequest,
                "A member acts in a project: name it in the header `X-Weir-Project`, or as `project` in the URL of /ws and \
                 /sse or in the `connect` frame.",
            )
            .with(json!({ "field": "project" }))
        })?;
        self.member_in(who, project).await
    }

    /// The same member as it stands now. A live connection may outlast its token by the tolerance, so that a refresh
    /// comes in time.
    pub(super) async fn member_again(
        &self,
        who: Identified,
        project: ProjectId,
    ) -> Result<Arc<Caller>, Error> {
        if Timestamp::from_seconds(who.exp).plus(self.jwt_leeway) <= self.clock.now() {
            return Err(Error::new(Code::ExpiredToken, "The token behind this has expired."));
        }
        self.member_in(who, project).await
    }

    async fn member_in(&self, who: Identified, project: ProjectId) -> Result<Arc<Caller>, Error> {
        let member = self.member(&who).await?;
        not_suspended(member.suspended.as_deref())?;
        // An operator is nobody in a project: looking after tenants is not reading their events.
        let tenant = who.tenant.ok_or_else(|| Error::not_found("project"))?;
        let known = self.opens(tenant, project).await?;
        let KnownProject { opens, schemas } =
            known.found.as_ref().ok_or_else(|| Error::not_found("project"))?;
        let end = Timestamp::from_seconds(who.exp);
        Ok(Arc::new(Caller {
            place: place(opens),
            who: Who::Member { user: who.sub, role: member.role, version: who.ver },
            grant: Grant::Scopes(event_scopes(member.role)),
            limits: Arc::new(opens.tenant.limits.clone()),
            expires_at: Some(end),
            ends_at: Some(end.plus(self.jwt_leeway)),
            project_limits: opens.project.limits,
            schemas: Arc::clone(schemas),
            rates: self.rates(Arc::clone(&member.rate), opens),
            key_set: None,
        }))
    }

    async fn opens(&self, tenant: TenantId, project: ProjectId) -> Result<Arc<Known<KnownProject>>, Error> {
        let look = || async move {
            let Some(opens) = self.store.directory.access(tenant, project).await? else {
                return Ok((None, None));
            };
            let schemas = self.schemas_of(&opens).await?;
            Ok((Some(tenant), Some(KnownProject { opens, schemas })))
        };
        self.known(&self.people.projects, (tenant, project), || look().boxed()).await
    }
}

impl Engine {
    /// Finds out who the bearer of an access token is.
    ///
    /// # Errors
    /// `INVALID_TOKEN`, `EXPIRED_TOKEN`, `DATABASE_UNAVAILABLE`.
    pub async fn person(&self, access_token: &Secret) -> Result<Person, Error> {
        self.access.person(access_token.expose()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_do_with_events_what_the_table_says() {
        let scopes = |role| event_scopes(role).to_string();
        assert_eq!(scopes(Role::Owner), "events:publish events:subscribe");
        assert_eq!(scopes(Role::Developer), "events:publish events:subscribe");
        assert_eq!(scopes(Role::Viewer), "events:subscribe");
        assert_eq!(scopes(Role::Billing), "");
        assert_eq!(scopes(Role::Operator), "");
    }

    #[test]
    fn nobody_passes_on_a_scope_that_grants_more_than_they_hold() {
        for role in Role::ALL {
            let held = Permissions::of_role(role);
            for scope in scopes_within(held, &Scope::ALL).iter() {
                let granted = Permissions::of_scopes([scope].into_iter().collect());
                assert!(granted.iter().all(|permission| held.contains(permission)), "{role}: {scope}");
            }
        }
        let admin = scopes_within(Permissions::of_role(Role::Admin), &Scope::ALL);
        assert!(admin.contains(Scope::AdminWrite));
        let developer = scopes_within(Permissions::of_role(Role::Developer), &Scope::ALL);
        assert!(!developer.contains(Scope::AdminWrite) && developer.contains(Scope::EventsPublish));
    }
}
