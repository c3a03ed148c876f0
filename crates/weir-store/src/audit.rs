//! The audit trail: what was changed, by whom, in chains of hashes that betray later tampering.

use crate::{After, By, Page, Reply};
use aws_lc_rs::digest::{Context, SHA256};
use serde_json::Value;
use weir_core::{TenantId, Timestamp};

/// A SHA-256.
pub type Hash = [u8; 32];

/// An entry to append.
#[derive(Clone, Debug)]
pub struct NewEntry {
    /// What was done: `key.revoke`.
    pub action: String,
    /// To what: an id.
    pub target: String,
    /// What else is worth knowing; never a secret.
    pub details: Value,
}

/// One entry of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Whose chain; `None` is the installation's own.
    pub tenant_id: Option<TenantId>,
    /// Its place: 1, 2, 3, … without a gap.
    pub sequence: i64,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: String,
    /// What was done.
    pub action: String,
    /// To what.
    pub target: String,
    /// What else is worth knowing, as JSON. Kept as text: the hash covers its very bytes.
    pub details: String,
    /// The hash of the entry before; zeros for the first.
    pub previous_hash: Hash,
    /// The hash over everything above.
    pub hash: Hash,
}

impl Entry {
    /// The hash that this entry must have.
    #[must_use]
    pub fn computed_hash(&self) -> Hash {
        let mut context = Context::new(&SHA256);
        let tenant = self.tenant_id.map(|tenant| tenant.uuid().into_bytes());
        let mut add = |part: &[u8]| {
            // The length in front keeps two different entries from looking the same when joined.
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part);
        };
        add(tenant.as_ref().map_or(&[][..], |bytes| &bytes[..]));
        add(&self.sequence.to_le_bytes());
        add(&self.at.micros().to_le_bytes());
        for text in [&self.actor, &self.action, &self.target, &self.details] {
            add(text.as_bytes());
        }
        add(&self.previous_hash);
        let mut hash = Hash::default();
        hash.copy_from_slice(context.finish().as_ref());
        hash
    }
}

/// What verifying a chain found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verification {
    /// Every entry is there and as it was written. Keeping the head elsewhere proves the same later even
    /// against someone who rewrites the whole chain.
    Intact {
        /// How many entries.
        entries: i64,
        /// The hash of the last; zeros when there is none.
        head: Hash,
    },
    /// Somebody changed, removed or added an entry.
    Broken {
        /// The first entry that is not as it was written, or is missing.
        sequence: i64,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// The audit trail. `tenant` is `None` for the installation's own chain.
pub trait Audit: Send + Sync {
    /// Appends an entry for something that changes no other row; the changes of the other traits write
    /// their entries themselves.
    fn append(&self, tenant: Option<TenantId>, entry: NewEntry, by: By) -> Reply<'_, Entry>;

    /// The entries of a chain in order.
    fn list(&self, tenant: Option<TenantId>, page: After<i64>) -> Reply<'_, Page<Entry>>;

    /// Reads a whole chain and checks it.
    fn verify(&self, tenant: Option<TenantId>) -> Reply<'_, Verification>;
}
