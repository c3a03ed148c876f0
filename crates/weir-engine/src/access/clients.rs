//! Who a client token makes: the signing key or key set that it names, what that says, and whether it still holds.

use super::directory::{Access, Known, not_suspended, place, suspended};
use super::signing::{KeySet, Keys, Remote, Templates, Thumbprint, VerifyingKey};
use super::ticket::Stands;
use super::token::{Token, refused};
use super::{Caller, Claims, Grant, Who};
use crate::Error;
use crate::limits::{Gcra, Rate, Rates};
use crate::schemas::Cell;
use futures::FutureExt;
use futures::future::join_all;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use weir_core::{Code, Limits, ProjectId, ProjectLimits, SigningKeyId, Timestamp};
use weir_log::Place;
use weir_store::{Credential, SigningKey, SigningMaterial};

/// When a token is worth another try whose key set could not be fetched.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// A signing key, ready to verify with.
pub(super) struct KnownSigner {
    id: SigningKeyId,
    keys: Keys,
    templates: Option<Templates>,
    revoked_at: Option<Timestamp>,
    suspended: Option<String>,
    place: Place,
    limits: Arc<Limits>,
    schemas: Arc<Cell>,
    project_limits: ProjectLimits,
    rates: Rates,
}

impl KnownSigner {
    fn remote(&self) -> Option<&Arc<Remote>> {
        if let Keys::Remote(remote) = &self.keys { Some(remote) } else { None }
    }
}

impl Access {
    pub(super) async fn by_token(&self, text: &str) -> Result<Arc<Caller>, Error> {
        let token = Token::read(text, self.jwt_bytes)?;
        let Some(id) = token.signing_key()? else { return self.by_key_set(&token).await };
        let known = self.signer(id).await?;
        let signer = known.found.as_ref().ok_or_else(unknown_signer)?;
        // The keys of a set have names of their own: nothing is signed with the set's.
        let Keys::One(key) = &signer.keys else { return Err(unknown_signer()) };
        self.admit_signed(&token, signer, key, None)
    }

    /// Of which project the signing key is that a token names, if it is remembered.
    pub(super) async fn signed_for(&self, text: &str) -> Option<Place> {
        let id = Token::read(text, self.jwt_bytes).ok()?.signing_key().ok()??;
        Some(self.signers.get(&id).await?.found.as_ref()?.place.clone())
    }

    /// A token of an identity provider: its project is known only from itself.
    async fn by_key_set(&self, token: &Token<'_>) -> Result<Arc<Caller>, Error> {
        let known = self.key_sets(token.project()?).await?;
        let signers = known.found.as_deref().unwrap_or_default();
        if let Some(outcome) = self.search(token, signers) {
            return outcome;
        }
        // An unknown name may be a key that the provider published since.
        let remotes: Vec<_> = signers.iter().filter_map(KnownSigner::remote).collect();
        join_all(remotes.iter().map(|remote| remote.look_again())).await;
        if let Some(outcome) = self.search(token, signers) {
            return outcome;
        }
        let missing = remotes.iter().any(|remote| remote.current().is_none());
        Err(if missing { key_set_unavailable() } else { unknown_signer() })
    }

    /// What the sets at hand make of the token; `None` when none of them lists its key.
    fn search(&self, token: &Token<'_>, signers: &[KnownSigner]) -> Option<Result<Arc<Caller>, Error>> {
        let mut outcome = None;
        for signer in signers {
            let fetched = signer.remote().and_then(|remote| remote.current());
            let set: Option<&KeySet> = match &signer.keys {
                Keys::Set(set) => Some(set),
                _ => fetched.as_deref(),
            };
            for key in set.into_iter().flat_map(|set| set.named(&token.kid)) {
                let admitted = self.admit_signed(token, signer, key, key.thumbprint());
                if admitted.is_ok() {
                    return Some(admitted);
                }
                // Of several keys with this name, what the one for this algorithm says.
                if outcome.is_none() || token.is_for(key) {
                    outcome = Some(admitted);
                }
            }
        }
        outcome
    }

    fn admit_signed(
        &self,
        token: &Token<'_>,
        signer: &KnownSigner,
        key: &VerifyingKey,
        listed: Option<Thumbprint>,
    ) -> Result<Arc<Caller>, Error> {
        let said = token.verify(key)?;
        let mut claims = said.hold(signer.place.project, self.clock.now(), self.jwt_leeway)?;
        if let Some(templates) = &signer.templates {
            let expanded = templates.expand(claims.sub.as_deref());
            (claims.subscribe, claims.publish) =
                expanded.map_err(|why| refused(format!("The token cannot be used: {why}.")))?;
        }
        self.admit_client(signer, claims, listed)
    }

    fn admit_client(
        &self,
        signer: &KnownSigner,
        claims: Claims,
        listed: Option<Thumbprint>,
    ) -> Result<Arc<Caller>, Error> {
        if signer.revoked_at.is_some_and(|at| at <= self.clock.now()) {
            return Err(unknown_signer());
        }
        // A tenant's own users learn that it is suspended. Why, perhaps an unpaid bill, is its people's affair.
        not_suspended(signer.suspended.as_deref()).map_err(|error| error.with(Value::Null))?;
        let ends = Timestamp::from_seconds(claims.exp).plus(self.jwt_leeway);
        Ok(Arc::new(Caller {
            place: signer.place.clone(),
            who: Who::Client { signer: signer.id, key: listed, subject: claims.sub.map(Into::into) },
            grant: Grant::Topics { subscribe: claims.subscribe.into(), publish: claims.publish.into() },
            limits: Arc::clone(&signer.limits),
            project_limits: signer.project_limits,
            expires_at: Some(Timestamp::from_seconds(claims.exp)),
            ends_at: Some(signer.revoked_at.map_or(ends, |revoked| ends.min(revoked))),
            schemas: Arc::clone(&signer.schemas),
            rates: signer.rates.clone(),
            key_set: signer.remote().cloned(),
        }))
    }

    /// The caller that a token makes now which was verified before. Waits for no fetch.
    pub(super) async fn client_again(
        &self,
        signer: SigningKeyId,
        key: Option<Thumbprint>,
        claims: Claims,
    ) -> Result<Arc<Caller>, Error> {
        let known = self.signer(signer).await?;
        let signer = known.found.as_ref().ok_or_else(unknown_signer)?;
        if signer.remote().is_some_and(|remote| remote.current().is_none()) {
            return Err(key_set_unavailable());
        }
        if !signer.keys.still_hold(key) {
            return Err(unknown_signer());
        }
        if Timestamp::from_seconds(claims.exp).plus(self.jwt_leeway) <= self.clock.now() {
            return Err(Error::new(Code::ExpiredToken, "The token behind this has expired."));
        }
        self.admit_client(signer, claims, key)
    }

    /// Fetches the key set behind a ticket if this node does not have it: the ticket may be another node's.
    pub(super) async fn have_key_set(&self, stands: &Stands) -> Result<(), Error> {
        let Stands::Client { signer, key: Some(_), .. } = stands else { return Ok(()) };
        let known = self.signer(*signer).await?;
        if let Some(remote) = known.found.as_ref().and_then(KnownSigner::remote)
            && remote.current().is_none()
        {
            remote.look_again().await;
        }
        Ok(())
    }

    async fn signer(&self, id: SigningKeyId) -> Result<Arc<Known<KnownSigner>>, Error> {
        let look = || async move {
            let Some(found) = self.store.directory.signing_key(id).await? else { return Ok((None, None)) };
            let schemas = self.schemas_of(&found.access).await?;
            Ok((Some(found.access.tenant.id), Some(self.known_signer(found, &schemas)?)))
        };
        self.known(&self.signers, id, || look().boxed()).await
    }

    /// The key sets of a project.
    async fn key_sets(&self, project: ProjectId) -> Result<Arc<Known<Vec<KnownSigner>>>, Error> {
        let look = || async move {
            let found = self.store.directory.key_sets(project).await?;
            let Some(first) = found.first() else { return Ok((None, None)) };
            let (tenant, schemas) = (first.access.tenant.id, self.schemas_of(&first.access).await?);
            let sets = found.into_iter().map(|set| self.known_signer(set, &schemas));
            Ok((Some(tenant), Some(sets.collect::<Result<Vec<_>, _>>()?)))
        };
        self.known(&self.key_sets, project, || look().boxed()).await
    }

    fn known_signer(&self, found: Credential<SigningKey>, schemas: &Arc<Cell>) -> Result<KnownSigner, Error> {
        let Credential { key, access } = found;
        let damaged =
            |why: String| Error::internal(format!("the signing key {} cannot be used: {why}", key.id));
        let keys = match &key.material {
            SigningMaterial::Secret(sealed) => {
                Keys::One(VerifyingKey::secret(&self.sealer.open(key.id, sealed)?))
            }
            SigningMaterial::PublicKey { algorithm, key } => {
                Keys::One(VerifyingKey::public(key, Some(*algorithm)).map_err(damaged)?)
            }
            SigningMaterial::KeySet(document) => {
                Keys::Set(KeySet::parse(document.as_bytes()).map_err(damaged)?)
            }
            SigningMaterial::KeySetUrl(url) => Keys::Remote(self.remotes.of(key.id, key.tenant_id, url)),
        };
        Ok(KnownSigner {
            id: key.id,
            keys,
            templates: key.templates.map(Templates::new),
            revoked_at: key.revoked_at,
            suspended: suspended(&access),
            place: place(&access),
            project_limits: access.project.limits,
            // Devices are bounded by their connection's rates; a token of its own has none.
            rates: self.rates(Arc::new(Gcra::new(Rate { per_second: 0 })), &access),
            schemas: Arc::clone(schemas),
            limits: Arc::new(access.tenant.limits),
        })
    }
}

fn unknown_signer() -> Error {
    refused("The token's signing key (`kid`) is unknown or revoked.")
}

fn key_set_unavailable() -> Error {
    Error::new(
        Code::KeySetUnavailable,
        "A key set (JWKS URL) of the project could not be fetched, so the token can be neither accepted nor refused.",
    )
    .after(TRY_AGAIN)
}
