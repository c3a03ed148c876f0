//! Signing in with a password, staying signed in, signing out.

use super::password::Verdict;
use super::tokens::{self, Identified, REFRESH_PREFIX};
use crate::access::Person;
use crate::{Engine, Error};
use serde_json::json;
use std::net::IpAddr;
use std::time::Duration;
use uuid::Uuid;
use weir_core::{Code, Role, Secret, TenantId};
use weir_store::people::Membership;
use weir_store::sign_ins::{Refresh, Rotation};
use weir_store::{AccessChange, By, Email, User};

/// Somebody who has signed in.
#[derive(Debug)]
pub struct SignedIn {
    /// For `Authorization: Bearer`.
    pub access_token: Secret,
    /// How long that is good.
    pub expires_in: Duration,
    /// Good for one refresh.
    pub refresh_token: Secret,
    /// Who, where, in which role.
    pub me: Me,
}

/// Who somebody is.
#[derive(Clone, Debug)]
pub struct Me {
    /// Who.
    pub user: User,
    /// Where; `None` for the installation's operators.
    pub tenant: Option<TenantId>,
    /// In which role there.
    pub role: Role,
    /// Where else one could sign in.
    pub memberships: Vec<Membership>,
}

impl Engine {
    /// Signs somebody in, for one tenant: the one that is named, or the only one there is. Operators who name none
    /// sign in for the installation.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` for an unknown address, a wrong password and a disabled user alike; `RATE_LIMIT_EXCEEDED`;
    /// `INVALID_REQUEST` with `details.tenants` when there are several to choose from; `NOT_FOUND` for a tenant that
    /// one is no member of.
    pub async fn sign_in(
        &self,
        email: &str,
        password: &Secret,
        tenant: Option<TenantId>,
        address: Option<IpAddr>,
    ) -> Result<SignedIn, Error> {
        self.people.attempts.from(address)?;
        // No user has an address that is none.
        let email: Email = email.parse().map_err(|_| wrong())?;
        self.people.attempts.on(&email)?;
        let user = self.store.people.by_email(email).await?;
        let user = self.prove(user, password).await;
        let user = user.inspect_err(|error| {
            if error.code == Code::Unauthenticated {
                self.alerts.signals.refused(None);
            }
        })?;
        self.begin_session(user, tenant).await
    }

    /// The user, if this is its password.
    pub(super) async fn prove(&self, user: Option<User>, password: &Secret) -> Result<User, Error> {
        let kept = user.as_ref().and_then(|user| user.password_hash.as_ref());
        let verdict = self.people.passwords.verify(password, kept).await?;
        let user = user.filter(|user| user.disabled_at.is_none() && verdict != Verdict::Wrong);
        let user = user.ok_or_else(wrong)?;
        if let (Verdict::Outdated(new), Some(old)) = (verdict, user.password_hash.clone()) {
            self.store.people.rehash(user.id, old, new).await?;
        }
        Ok(user)
    }

    /// Begins a session of somebody who has proved to be that.
    pub(super) async fn begin_session(
        &self,
        user: User,
        tenant: Option<TenantId>,
    ) -> Result<SignedIn, Error> {
        let memberships = self.store.people.memberships(user.id).await?;
        let (tenant, role) = choose(&user, &memberships, tenant)?;
        let (refresh_token, hash) = tokens::random_and_hash(REFRESH_PREFIX)?;
        let refresh = Refresh {
            hash,
            family: Uuid::now_v7(),
            user_id: user.id,
            tenant_id: tenant,
            expires_at: self.clock.now().plus(self.people.settings.refresh_token_lifetime),
        };
        self.store.sign_ins.begin(refresh).await?;
        self.welcome(Me { user, tenant, role, memberships }, refresh_token)
    }

    fn welcome(&self, me: Me, refresh_token: Secret) -> Result<SignedIn, Error> {
        let expires_in = self.people.settings.access_token_lifetime;
        let exp = self.clock.now().plus(expires_in).seconds();
        let who = Identified { sub: me.user.id, tenant: me.tenant, ver: me.user.session_version, exp };
        Ok(SignedIn { access_token: self.access.issue_access(who)?, expires_in, refresh_token, me })
    }

    /// Stays signed in: a new access token, and a new refresh token in the place of this one.
    ///
    /// # Errors
    /// `INVALID_TOKEN` when it is unknown, expired or was used before. The last ends the whole sign-in: one of two
    /// who hold it is a thief.
    pub async fn refresh_sign_in(&self, token: &Secret, address: Option<IpAddr>) -> Result<SignedIn, Error> {
        self.people.attempts.from(address)?;
        let ended = || {
            Error::new(
                Code::InvalidToken,
                "The refresh token is unknown, used, expired or revoked: sign in again.",
            )
        };
        let old = tokens::hash(REFRESH_PREFIX, token).ok_or_else(ended)?;
        let (refresh_token, hash) = tokens::random_and_hash(REFRESH_PREFIX)?;
        let now = self.clock.now();
        let new = (hash, now.plus(self.people.settings.refresh_token_lifetime));
        let kept = match self.store.sign_ins.rotate(old, new, now).await? {
            Rotation::Rotated(kept) => kept,
            Rotation::Reused(user) => {
                tracing::warn!(%user, "a refresh token of {user} was used twice: that sign-in has ended");
                return Err(ended());
            }
            Rotation::Refused => return Err(ended()),
        };
        let user = self.store.people.user(kept.user_id).await?;
        let memberships = self.store.people.memberships(user.id).await?;
        let stands = choose(&user, &memberships, kept.tenant_id);
        match stands {
            // Operator by operator's sign-in only: who has lost the flag does not slip into a tenant instead.
            Ok((tenant, role)) if user.disabled_at.is_none() && tenant == kept.tenant_id => {
                self.welcome(Me { user, tenant, role, memberships }, refresh_token)
            }
            _ => {
                self.store.sign_ins.end(hash).await?;
                Err(ended())
            }
        }
    }

    /// Signs out: the refresh token and all that it was refreshed from end. The access token ends by itself, soon.
    ///
    /// # Errors
    /// `DATABASE_UNAVAILABLE`; unknown tokens are no error.
    pub async fn sign_out(&self, token: &Secret) -> Result<(), Error> {
        match tokens::hash(REFRESH_PREFIX, token) {
            Some(hash) => Ok(self.store.sign_ins.end(hash).await?),
            None => Ok(()),
        }
    }

    /// Who somebody is.
    ///
    /// # Errors
    /// `DATABASE_UNAVAILABLE`.
    pub async fn me(&self, person: &Person) -> Result<Me, Error> {
        let user = person.user().clone();
        let memberships = self.store.people.memberships(user.id).await?;
        Ok(Me { user, tenant: person.tenant(), role: person.role(), memberships })
    }

    /// Sets another password and ends everything that was issued under the old one, but for what this returns. The
    /// announcements say where.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` when `current` is wrong; `RATE_LIMIT_EXCEEDED`; `INVALID_REQUEST` for a new password that is
    /// too short or too long.
    pub async fn change_password(
        &self,
        person: &Person,
        current: &Secret,
        new: &Secret,
    ) -> Result<(SignedIn, Vec<AccessChange>), Error> {
        self.people.attempts.on(&person.user().email)?;
        let user = self.prove(Some(person.user().clone()), current).await?;
        let hash = self.people.passwords.hash(new).await?;
        let by = By::new(format!("member:{}", user.id), self.clock.now());
        let changed = self.store.people.set_password(user.id, hash, by).await?;
        Ok((self.begin_session(changed.user, person.tenant()).await?, changed.changes))
    }
}

/// For which tenant somebody signs in, and as what.
fn choose(
    user: &User,
    memberships: &[Membership],
    wanted: Option<TenantId>,
) -> Result<(Option<TenantId>, Role), Error> {
    let seat = |membership: &Membership| (Some(membership.tenant_id), membership.role);
    match (wanted, memberships) {
        (Some(wanted), _) => {
            let found = memberships.iter().find(|membership| membership.tenant_id == wanted);
            found.map(seat).ok_or_else(|| Error::not_found("tenant"))
        }
        (None, _) if user.operator => Ok((None, Role::Operator)),
        (None, [only]) => Ok(seat(only)),
        (None, []) => Err(Error::new(
            Code::InsufficientScope,
            "You are no member of any tenant: ask an administrator of one for an invitation.",
        )),
        (None, several) => {
            let tenants: Vec<_> = several
                .iter()
                .map(|one| json!({ "tenant_id": one.tenant_id, "name": one.tenant_name, "role": one.role }))
                .collect();
            Err(Error::new(
                Code::InvalidRequest,
                format!("You are a member of {} tenants: name one as `tenant_id`.", tenants.len()),
            )
            .with(json!({ "field": "tenant_id", "tenants": tenants })))
        }
    }
}

/// One answer for an unknown address, a wrong password and a disabled user: it tells a guesser nothing.
fn wrong() -> Error {
    Error::new(Code::Unauthenticated, "The e-mail address or the password is wrong.")
}
