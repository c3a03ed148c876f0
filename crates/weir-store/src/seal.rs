//! Sealing secrets that the server must be able to read again: AES-256-GCM under a key that derives from the root
//! secret, bound to the id of the row, so a sealed secret copied to another row does not open.
//!
//! Layout: version (1 byte, 1), nonce (12), ciphertext, tag (16).

use crate::{Claim, StoreError};
use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use std::fmt::Display;
use uuid::Uuid;
use weir_core::{RootSecret, SigningKeyId, WebhookId};

const VERSION: u8 = 1;
const NONCE: usize = 12;

/// What a sealed secret belongs to, and opens with only.
pub trait Anchor: Display + Copy {
    /// The id of the row.
    fn uuid(self) -> Uuid;
}

impl Anchor for SigningKeyId {
    fn uuid(self) -> Uuid {
        Self::uuid(self)
    }
}

impl Anchor for WebhookId {
    fn uuid(self) -> Uuid {
        Self::uuid(self)
    }
}

impl Anchor for Claim {
    fn uuid(self) -> Uuid {
        Self::uuid(self)
    }
}

/// Seals and opens secrets of one installation.
pub struct Sealer(RandomizedNonceKey);

impl Sealer {
    /// The sealer of this installation's signing secrets.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if the cryptographic library refuses its own key size.
    pub fn new(root: &RootSecret) -> Result<Self, StoreError> {
        Self::of(root, "signing-key")
    }

    /// The sealer of the answers that are kept for copies of a request.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if the cryptographic library refuses its own key size.
    pub fn of_answers(root: &RootSecret) -> Result<Self, StoreError> {
        Self::of(root, "idempotent-answer")
    }

    /// The sealer of the secrets that sign webhooks.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if the cryptographic library refuses its own key size.
    pub fn of_webhooks(root: &RootSecret) -> Result<Self, StoreError> {
        Self::of(root, "webhook-secret")
    }

    fn of(root: &RootSecret, purpose: &str) -> Result<Self, StoreError> {
        RandomizedNonceKey::new(&AES_256_GCM, &root.derive(purpose))
            .map(Self)
            .map_err(|_| StoreError::Corrupt("AES-256-GCM is not available".into()))
    }

    /// Seals a secret for the row `id`.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if the cryptographic library fails.
    pub fn seal(&self, id: impl Anchor, secret: &[u8]) -> Result<Vec<u8>, StoreError> {
        let mut text = secret.to_vec();
        let nonce = self
            .0
            .seal_in_place_append_tag(Aad::from(id.uuid().as_bytes()), &mut text)
            .map_err(|_| StoreError::Corrupt(format!("the secret of {id} could not be sealed")))?;
        let mut sealed = Vec::with_capacity(1 + NONCE + text.len());
        sealed.push(VERSION);
        sealed.extend_from_slice(nonce.as_ref());
        sealed.append(&mut text);
        Ok(sealed)
    }

    /// Opens what [`Self::seal`] sealed for the same id.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when it was sealed for another id, under another root secret, or was changed.
    pub fn open(&self, id: impl Anchor, sealed: &[u8]) -> Result<Vec<u8>, StoreError> {
        self.try_open(id, sealed).ok_or_else(|| {
            StoreError::Corrupt(format!(
                "the secret of {id} does not open: it was changed, or sealed under another root secret \
                 (see WEIR_SECRET_KEY)"
            ))
        })
    }

    fn try_open(&self, id: impl Anchor, sealed: &[u8]) -> Option<Vec<u8>> {
        let (&VERSION, rest) = sealed.split_first()? else { return None };
        let (nonce, text) = rest.split_at_checked(NONCE)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut text = text.to_vec();
        let opened = self.0.open_in_place(nonce, Aad::from(id.uuid().as_bytes()), &mut text).ok()?;
        Some(opened.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_only_unchanged_for_the_same_id_and_root() {
        let root = RootSecret::generate();
        let (sealer, id) = (Sealer::new(&root).expect("sealer"), SigningKeyId::new());
        let sealed = sealer.seal(id, b"hush").expect("seals");
        assert_eq!(Sealer::new(&root).expect("sealer").open(id, &sealed).expect("opens"), b"hush");
        assert!(!sealed.windows(4).any(|window| window == b"hush"));
        assert_ne!(sealed, sealer.seal(id, b"hush").expect("seals"), "a fresh nonce each time");

        assert!(sealer.open(SigningKeyId::new(), &sealed).is_err());
        assert!(Sealer::new(&RootSecret::generate()).expect("sealer").open(id, &sealed).is_err());
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(sealer.open(id, &changed).is_err(), "byte {at}");
            assert!(sealer.open(id, &sealed[..at]).is_err(), "cut at {at}");
        }
    }
}
