//! What the signatures of client tokens are held against: one key, or a set of keys that is given or fetched.

mod key;
mod key_set;
mod register;
mod remote;
mod templates;
#[cfg(test)]
mod tests;

pub use key::Thumbprint;
pub use register::SigningInput;
pub use remote::KeySetTimes;

pub(crate) use key::VerifyingKey;
pub(crate) use key_set::KeySet;
pub(crate) use remote::{Remote, Remotes};
pub(crate) use templates::Templates;

use std::sync::Arc;

/// The keys of one signing key of the store.
pub(crate) enum Keys {
    /// A secret or a public key: tokens name the signing key itself.
    One(VerifyingKey),
    /// A document: tokens name a key in it.
    Set(KeySet),
    /// The same, fetched.
    Remote(Arc<Remote>),
}

impl Keys {
    /// Whether the key that a token was verified with is still one of these.
    pub(crate) fn still_hold(&self, key: Option<Thumbprint>) -> bool {
        match (self, key) {
            (Self::One(_), None) => true,
            (Self::Set(set), Some(key)) => set.contains(key),
            (Self::Remote(remote), Some(key)) => remote.current().is_some_and(|set| set.contains(key)),
            _ => false,
        }
    }
}
