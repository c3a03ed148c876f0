//! Writes under an idempotency key: see [`weir_store::Idempotency`] for what holds when nodes race or die.

use crate::access::{Principal, Reach};
use crate::{Engine, Error};
use serde_json::json;
use sha2::{Digest, Sha256};
use weir_core::{Code, TenantId};
use weir_store::{Answer, Claim, Claimed, KeyedRequest};

/// Characters of an idempotency key at most.
pub const MAX_IDEMPOTENCY_KEY: usize = 128;

/// The right to carry out one keyed request. What is changed under it is changed once.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    tenant: Option<TenantId>,
    pub(crate) claim: Claim,
}

/// What is to be done about a keyed request.
#[derive(Debug)]
pub enum Turn {
    /// Carry it out, and say what was answered: [`Engine::settle`].
    Yours(Held),
    /// Answer the same as the first time.
    Answered {
        /// The HTTP status.
        status: u16,
        /// The body.
        body: Vec<u8>,
    },
}

fn fingerprint(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        // The length in front keeps two different requests from looking the same when joined.
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

fn check(key: &str) -> Result<(), Error> {
    if (1..=MAX_IDEMPOTENCY_KEY).contains(&key.len()) && key.bytes().all(|byte| (b' '..=b'~').contains(&byte))
    {
        return Ok(());
    }
    Err(Error::new(
        Code::InvalidRequest,
        format!("`Idempotency-Key` takes 1 to {MAX_IDEMPOTENCY_KEY} printable ASCII characters."),
    )
    .with(json!({ "field": "Idempotency-Key", "limit": MAX_IDEMPOTENCY_KEY })))
}

fn conflict(message: &str, state: &str) -> Error {
    Error::new(Code::Conflict, message).with(json!({ "idempotency_key": state }))
}

impl Engine {
    /// Claims the key for a request, which all of `parts` make what it is.
    ///
    /// # Errors
    /// `INVALID_REQUEST` for a key of another form. `CONFLICT` when the key was used for another request, while a copy of the
    /// request is under way (with a time to try again), and when one changed something and its answer is lost.
    /// `INSUFFICIENT_SCOPE` when it was answered to a sender who held more.
    /// `DATABASE_UNAVAILABLE`.
    pub async fn claim(&self, principal: &Principal, key: &str, parts: &[&[u8]]) -> Result<Turn, Error> {
        check(key)?;
        let tenant = match principal.reach {
            Reach::Tenant(own) => Some(own),
            Reach::Installation => None,
        };
        let request = KeyedRequest {
            tenant,
            actor: principal.actor(),
            key: key.to_owned(),
            request: fingerprint(parts),
            held: principal.permissions,
        };
        match self.store.idempotency.claim(request, self.clock.now()).await? {
            Claimed::Yours(claim) => Ok(Turn::Yours(Held { tenant, claim })),
            Claimed::Answered(claim, answer, held) => {
                // Who was allowed less since then is not told again what it was told then.
                if let Some(lost) = held.iter().find(|one| !principal.permissions.contains(*one)) {
                    principal.require(lost)?;
                }
                let body = self.answers.open(claim, &answer.sealed)?;
                Ok(Turn::Answered { status: answer.status, body })
            }
            Claimed::OtherRequest => Err(conflict(
                "This `Idempotency-Key` was used for another request within the last 24 hours: use a new one.",
                "other_request",
            )),
            Claimed::InProgress => Err(conflict(
                "A copy of this request is being carried out. Send it again to get its answer.",
                "in_progress",
            )
            .after(std::time::Duration::from_secs(1))),
            Claimed::AnswerLost => Err(conflict(
                "A copy of this request made its change, and its answer was lost. Look at what is there before you send it under a new key.",
                "answer_lost",
            )),
        }
    }

    /// Says how a keyed request ended: what was answered and will be again, or `None` when a copy may start afresh. If this
    /// fails, copies are told that the answer is lost, or start afresh where nothing was changed.
    pub async fn settle(&self, held: Held, answer: Option<(u16, &[u8])>) {
        let Held { tenant, claim } = held;
        let settled = async {
            let Some((status, body)) = answer else {
                return self.store.idempotency.release(tenant, claim).await;
            };
            let sealed = self.answers.seal(claim, body)?;
            self.store.idempotency.settle(tenant, claim, Answer { status, sealed }).await
        };
        if let Err(error) = settled.await {
            tracing::warn!(%error, "the answer to a request with an Idempotency-Key could not be kept: {error}");
        }
    }

    /// Forgets idempotency keys after their time.
    pub(crate) async fn forget_keys(&self) {
        if let Err(error) = self.store.idempotency.purge(self.clock.now()).await {
            tracing::warn!(%error, "old idempotency keys could not be deleted: {error}");
        }
    }
}
