//! Signing in at an OpenID provider: the authorization code flow of OpenID Connect Core 1.0 with PKCE (RFC 7636).
//!
//! Nothing is remembered between beginning and end, so any node can end what another began: the browser keeps the
//! `flow`, which is signed, and from which state, nonce and verifier are derived.

mod flow;
mod id_token;
mod provider;

use super::accept::no_invitation;
use super::sign_in::SignedIn;
use crate::people::tokens;
use crate::{Engine, Error};
use flow::Flows;
use id_token::{Expected, Verified};
use provider::Provider;
use std::net::IpAddr;
use std::time::Duration;
use weir_core::{Code, RootSecret, Secret, TenantId, Timestamp, UserId};
use weir_store::members::Joining;
use weir_store::people::NewUser;
use weir_store::{By, User};

/// The provider, as the operator configured it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What it calls itself, exactly: its tokens say so. Its description is found below this URL.
    pub issuer: String,
    /// What it calls us.
    pub client_id: String,
    /// How it knows us; none for a public client.
    pub client_secret: Option<Secret>,
    /// Where it sends browsers back to.
    pub redirect_url: String,
}

/// A sign-in that has begun.
#[derive(Debug)]
pub struct Started {
    /// Where the browser goes next.
    pub authorization_url: String,
    /// What the browser keeps until it comes back: it proves that it is the one which went.
    pub flow: Secret,
    /// How much time there is.
    pub expires_in: Duration,
}

/// What the browser comes back with.
#[derive(Debug)]
pub struct Returned {
    /// What it kept.
    pub flow: Secret,
    /// What the provider gave it.
    pub state: Secret,
    /// The same: for the identity of the person.
    pub code: Secret,
}

/// Signing in at the provider.
pub(crate) struct Oidc {
    provider: Provider,
    flows: Flows,
    leeway: Duration,
}

impl Oidc {
    pub(crate) fn new(settings: Settings, root: &RootSecret, leeway: Duration) -> Result<Self, Error> {
        Ok(Self { provider: Provider::new(settings)?, flows: Flows::new(root), leeway })
    }

    async fn start(&self, now: Timestamp) -> Result<Started, Error> {
        let (flow, text) = self.flows.start(now);
        let authorization_url = self.provider.authorization_url(&flow).await?;
        Ok(Started { authorization_url, flow: text, expires_in: flow::LIFETIME })
    }

    /// Who comes back, as the provider says.
    async fn finish(&self, returned: &Returned, now: Timestamp) -> Result<Verified, Error> {
        let flow = self.flows.resume(returned, now)?;
        let id_token = self.provider.redeem(returned.code.expose(), &flow).await?;
        let expected = Expected {
            issuer: &self.provider.settings.issuer,
            client_id: &self.provider.settings.client_id,
            nonce: &flow.nonce,
            now,
            leeway: self.leeway,
        };
        let keys = self.provider.keys().await?;
        match expected.verify(id_token.expose(), &keys) {
            Err(id_token::Refused::UnknownKey) => {
                // A key that the provider published since.
                let keys = self.provider.newer_keys().await?;
                expected.verify(id_token.expose(), &keys)
            }
            outcome => outcome,
        }
        .map_err(|why| {
            let message = format!("The identity provider's token is not taken: {why}.");
            Error::new(Code::InvalidToken, message)
        })
    }
}

impl Engine {
    /// Begins a sign-in at the provider.
    ///
    /// # Errors
    /// `NOT_FOUND` where none is configured; `RATE_LIMIT_EXCEEDED`; `IDENTITY_PROVIDER_UNAVAILABLE`.
    pub async fn start_oidc(&self, address: Option<IpAddr>) -> Result<Started, Error> {
        let oidc = self.oidc()?;
        self.people.attempts.from(address)?;
        oidc.start(self.clock.now()).await
    }

    /// Ends a sign-in at the provider: as a user whom the provider knows by this identity, or by an address that it has
    /// verified; with an invitation also as somebody new.
    ///
    /// # Errors
    /// `INVALID_TOKEN` for a flow, state, code or token that is not taken, and for an invitation that is none;
    /// `UNAUTHENTICATED` for a disabled user; `INSUFFICIENT_SCOPE` for nobody's identity, and for an invitation of
    /// somebody else; `IDENTITY_PROVIDER_UNAVAILABLE`; as [`Engine::sign_in`].
    pub async fn finish_oidc(
        &self,
        returned: &Returned,
        tenant: Option<TenantId>,
        invitation: Option<&Secret>,
        address: Option<IpAddr>,
    ) -> Result<SignedIn, Error> {
        let oidc = self.oidc()?;
        self.people.attempts.from(address)?;
        let verified = oidc.finish(returned, self.clock.now()).await?;
        let user = self.user_of(&verified).await?;
        match (invitation, user) {
            (Some(invitation), user) => self.accept_as(verified, user, invitation).await,
            (None, Some(user)) => self.begin_session(user, tenant).await,
            (None, None) => Err(Error::new(
                Code::InsufficientScope,
                "You are no member of any tenant: ask an administrator of one for an invitation.",
            )),
        }
    }

    fn oidc(&self) -> Result<&Oidc, Error> {
        self.people.oidc.as_ref().ok_or_else(|| Error::not_found("identity provider"))
    }

    /// The user with this identity; one with an address that the provider has verified gets it.
    async fn user_of(&self, verified: &Verified) -> Result<Option<User>, Error> {
        let known = self.store.people.by_identity(verified.identity.clone()).await?;
        let (user, linked) = match (known, &verified.email) {
            (Some(user), _) => (Some(user), true),
            (None, Some(email)) => (self.store.people.by_email(email.clone()).await?, false),
            (None, None) => (None, false),
        };
        let Some(user) = user else { return Ok(None) };
        if user.disabled_at.is_some() {
            return Err(Error::new(Code::Unauthenticated, "You are disabled in this installation."));
        }
        if linked {
            return Ok(Some(user));
        }
        let by = By::new(format!("member:{}", user.id), self.clock.now());
        Ok(Some(self.store.people.link(user.id, verified.identity.clone(), by).await?))
    }

    async fn accept_as(
        &self,
        verified: Verified,
        user: Option<User>,
        invitation: &Secret,
    ) -> Result<SignedIn, Error> {
        let hash = tokens::hash(tokens::INVITATION_PREFIX, invitation).ok_or_else(no_invitation)?;
        let (_, invitation) = self.invited(invitation).await?;
        let somebody_elses = || {
            let message =
                "The invitation is for another address than the one that the provider has verified.";
            Error::new(Code::InsufficientScope, message)
        };
        let joining = match user {
            Some(user) if user.email != invitation.email => return Err(somebody_elses()),
            // Such an invitation sets a password.
            Some(_) if invitation.seat.is_none() => return Err(no_invitation()),
            Some(user) => Joining::Known(user.id),
            None if verified.email.as_ref() != Some(&invitation.email) => return Err(somebody_elses()),
            None => Joining::New(NewUser {
                id: UserId::new(),
                email: invitation.email,
                name: if invitation.name.is_empty() { verified.name } else { invitation.name },
                password_hash: None,
                identity: Some(verified.identity),
                operator: invitation.operator,
            }),
        };
        self.take_seat(hash, joining).await
    }
}
