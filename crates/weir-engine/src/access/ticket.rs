//! Tickets: for sockets and event streams of browsers, which cannot set headers. A ticket stands for the
//! credentials of whoever asked for it; the credentials themselves are looked up again when it is redeemed.

use super::{Caller, Claims, Grant, Thumbprint, Who};
use crate::people::Identified;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use weir_core::{KeyId, ProjectId, Secret, SigningKeyId, Timestamp};

/// A ticket for its owner.
#[derive(Debug)]
pub struct Ticket {
    /// Goes into the URL.
    pub text: Secret,
    /// It works once, until then.
    pub expires_at: Timestamp,
}

/// What a ticket stands for, as it is stored.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stands {
    /// An API key.
    Key(KeyId),
    /// A member in a project.
    Member {
        /// Who, as the access token said.
        who: Identified,
        /// The project.
        project: ProjectId,
    },
    /// A client token.
    Client {
        /// The key that signed it.
        signer: SigningKeyId,
        /// Which key it was, if the signer is a set of keys.
        #[serde(default)]
        key: Option<Thumbprint>,
        /// What it said.
        claims: Claims,
    },
}

impl Stands {
    /// What a ticket of this caller stands for.
    pub(crate) fn of(caller: &Caller) -> Self {
        match (&caller.who, &caller.grant) {
            (Who::Client { signer, key, subject }, Grant::Topics { subscribe, publish }) => Self::Client {
                signer: *signer,
                key: *key,
                claims: Claims {
                    sub: subject.as_deref().map(str::to_owned),
                    exp: caller.expires_at.map_or(i64::MAX, Timestamp::seconds),
                    subscribe: subscribe.to_vec(),
                    publish: publish.to_vec(),
                },
            },
            (Who::Key(key), _) => Self::Key(*key),
            (Who::Member { user, version, .. }, _) => Self::Member {
                who: Identified {
                    sub: *user,
                    tenant: Some(caller.place.tenant),
                    ver: *version,
                    exp: caller.expires_at.map_or(i64::MAX, Timestamp::seconds),
                },
                project: caller.place.project,
            },
            (Who::Client { signer, key, .. }, Grant::Scopes(_)) => Self::Client {
                signer: *signer,
                key: *key,
                claims: Claims { sub: None, exp: 0, subscribe: Vec::new(), publish: Vec::new() },
            },
        }
    }
}

/// A new ticket's text: 32 random bytes in hex with a prefix that scanners and people recognize.
pub(super) fn text() -> Secret {
    use std::fmt::Write;
    let bytes: [u8; 32] = rand::random();
    let mut text = String::from("tkt_");
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    Secret::new(text)
}

/// How a ticket is looked up; enough, because the ticket is random.
pub(super) fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}
