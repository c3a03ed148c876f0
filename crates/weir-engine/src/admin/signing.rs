//! What client tokens are signed with: secrets, public keys, key sets.

use super::permits::{KeysRead, KeysWrite};
use super::{May, Permit};
use crate::access::{Reach, SigningInput};
use crate::{Engine, Error};
use serde_json::json;
use weir_core::{Code, ProjectId, Scope, Secret, SigningKeyId, TenantId};
use weir_store::{After, Changed, Page, SigningKey, TopicTemplates};

/// A signing key to make.
#[derive(Debug)]
pub struct SigningWish {
    /// The project whose tokens it signs.
    pub project: ProjectId,
    /// What its owner calls it; may be empty.
    pub name: String,
    /// What signatures are held against.
    pub input: SigningInput,
    /// What its tokens allow, if they do not say so themselves.
    pub templates: Option<TopicTemplates>,
}

impl Engine {
    /// The signing keys of a project, revoked ones included.
    ///
    /// # Errors
    /// `NOT_FOUND` for a project out of reach; `DATABASE_UNAVAILABLE`.
    pub async fn signing_keys(
        &self,
        may: &May<KeysRead>,
        project: ProjectId,
        page: After<SigningKeyId>,
    ) -> Result<Page<SigningKey>, Error> {
        let tenant = self.tenant_of_project(may, project).await?;
        // A project that does not exist is an error, not an empty list.
        self.store.tenants.project(tenant, project).await?;
        Ok(self.store.keys.signing_keys(tenant, project, page).await?)
    }

    /// Makes a signing key. A generated secret is in this answer and nowhere else.
    ///
    /// # Errors
    /// `INVALID_REQUEST` for what cannot verify anything; `INSUFFICIENT_SCOPE` when its tokens could do what the maker
    /// may not; `CONFLICT` when the project has as many as it can; `NOT_FOUND` for a project out of reach.
    pub async fn create_signing_key(
        &self,
        may: &May<KeysWrite>,
        wish: SigningWish,
    ) -> Result<(Changed<SigningKey>, Option<Secret>), Error> {
        check_reach(may, wish.templates.as_ref())?;
        let (new, shown) = self.access.new_signing_key(wish.name, wish.input, wish.templates)?;
        let tenant = self.tenant_of_project(may, wish.project).await?;
        let by = may.by(&*self.clock);
        Ok((self.store.keys.create_signing_key(tenant, wish.project, new, by).await?, shown))
    }

    /// Revokes a signing key: its tokens are refused, and the connections that they opened end.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub async fn revoke_signing_key(
        &self,
        may: &May<KeysWrite>,
        id: SigningKeyId,
    ) -> Result<Changed<SigningKey>, Error> {
        let tenant = self.tenant_of_signing_key(may, id).await?;
        Ok(self.store.keys.revoke_signing_key(tenant, id, may.by(&*self.clock)).await?)
    }

    async fn tenant_of_signing_key<P: Permit>(
        &self,
        may: &May<P>,
        id: SigningKeyId,
    ) -> Result<TenantId, Error> {
        match may.principal().reach {
            Reach::Tenant(own) => Ok(own),
            Reach::Installation => {
                let found = self.store.directory.signing_key(id).await?;
                Ok(found.ok_or_else(|| Error::not_found("signing key"))?.access.tenant.id)
            }
        }
    }
}

/// Whoever makes a signing key can make tokens for what these allow: no more than the maker may do.
fn check_reach(may: &May<KeysWrite>, templates: Option<&TopicTemplates>) -> Result<(), Error> {
    let needed = [
        (Scope::EventsSubscribe, templates.is_none_or(|templates| !templates.subscribe.is_empty())),
        (Scope::EventsPublish, templates.is_none_or(|templates| !templates.publish.is_empty())),
    ];
    let held = may.principal().scopes;
    match needed.into_iter().find(|(scope, needed)| *needed && !held.contains(*scope)) {
        None => Ok(()),
        Some((scope, _)) => Err(Error::new(
            Code::InsufficientScope,
            format!("Tokens of this signing key could do what `{scope}` allows, which your own credentials do not hold."),
        )
        .with(json!({ "missing": scope }))),
    }
}
