//! Accepting an invitation.

use super::sign_in::SignedIn;
use super::tokens::{self, INVITATION_PREFIX};
use crate::{Engine, Error};
use std::net::IpAddr;
use weir_core::{Code, Secret, UserId};
use weir_store::By;
use weir_store::members::{Invitation, Joining};
use weir_store::people::NewUser;
use weir_store::sign_ins::TokenHash;

impl Engine {
    /// Takes the seat that an invitation keeps, and signs in for it. Somebody new sets a password; a user proves with
    /// the password to be the one who is invited. An invitation without a seat sets a user's password.
    ///
    /// # Errors
    /// `INVALID_TOKEN` for an invitation that is unknown, used, replaced, withdrawn or expired; `UNAUTHENTICATED` for
    /// a user's wrong password; `INVALID_REQUEST` for a new password that is too short or too long;
    /// `RATE_LIMIT_EXCEEDED`.
    pub async fn accept_invitation(
        &self,
        token: &Secret,
        password: &Secret,
        address: Option<IpAddr>,
    ) -> Result<SignedIn, Error> {
        self.people.attempts.from(address)?;
        let (hash, invitation) = self.invited(token).await?;
        self.people.attempts.on(&invitation.email)?;
        let known = self.store.people.by_email(invitation.email.clone()).await?;
        let joining = match known {
            None => Joining::New(NewUser {
                id: UserId::new(),
                email: invitation.email.clone(),
                name: invitation.name.clone(),
                password_hash: Some(self.people.passwords.hash(password).await?),
                identity: None,
                operator: invitation.operator,
            }),
            Some(user) if invitation.seat.is_none() => {
                Joining::Password(user.id, self.people.passwords.hash(password).await?)
            }
            known => Joining::Known(self.prove(known, password).await?.id),
        };
        self.take_seat(hash, joining).await
    }

    /// The invitation that a token takes.
    pub(super) async fn invited(&self, token: &Secret) -> Result<(TokenHash, Invitation), Error> {
        let hash = tokens::hash(INVITATION_PREFIX, token).ok_or_else(no_invitation)?;
        let found = self.store.members.invitation(hash, self.clock.now()).await?;
        Ok((hash, found.ok_or_else(no_invitation)?))
    }

    pub(super) async fn take_seat(&self, hash: TokenHash, joining: Joining) -> Result<SignedIn, Error> {
        let user = match &joining {
            Joining::New(user) => user.id,
            Joining::Known(user) | Joining::Password(user, _) => *user,
        };
        let by = By::new(format!("member:{user}"), self.clock.now());
        let joined = self.store.members.accept(hash, joining, by).await?.ok_or_else(no_invitation)?;
        self.begin_session(joined.user, joined.seat.map(|(tenant, _)| tenant)).await
    }
}

pub(super) fn no_invitation() -> Error {
    Error::new(
        Code::InvalidToken,
        "The invitation is unknown, used, withdrawn or expired, or a newer one took its place: ask for another.",
    )
}
