//! The audit trail: what was changed, by whom, in chains of hashes that betray later tampering.

use crate::{After, By, Page, Reply};
use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
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

/// One entry of a chain. As JSON it is a line of an export, from which the chain can be checked again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    #[serde(with = "hex")]
    pub previous_hash: Hash,
    /// The hash over everything above.
    #[serde(with = "hex")]
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
    Broken(Flaw),
}

/// What is wrong with a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// The first entry that is not as it was written, or is missing.
    pub sequence: i64,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// Checks a chain entry by entry, from its first.
#[derive(Clone, Debug, Default)]
pub struct Links {
    /// The last entry that was checked; 0 before the first.
    pub sequence: i64,
    /// Its hash.
    pub head: Hash,
}

impl Links {
    /// Takes the next entry.
    ///
    /// # Errors
    /// When it is not the next one as it was written.
    pub fn add(&mut self, entry: &Entry) -> Result<(), Flaw> {
        let sequence = self.sequence + 1;
        let flaw = |reason| Err(Flaw { sequence, reason });
        if entry.sequence != sequence {
            return flaw(MISSING);
        }
        if entry.previous_hash != self.head {
            return flaw("it does not continue the entry before");
        }
        if entry.hash != entry.computed_hash() {
            return flaw("its content was changed");
        }
        *self = Self { sequence, head: entry.hash };
        Ok(())
    }
}

pub(crate) const MISSING: &str = "it is missing";

/// Which entries of a chain are wanted; what is `None` does not matter.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of this action: `key.revoke`.
    pub action: Option<String>,
    /// By this actor: `key:key_…`.
    pub actor: Option<String>,
    /// To this target: an id.
    pub target: Option<String>,
    /// From then on.
    pub from: Option<Timestamp>,
    /// Before then.
    pub to: Option<Timestamp>,
}

/// Hashes as 64 hex digits.
pub mod hex {
    use super::Hash;
    use serde::{Deserialize, Deserializer, Serializer};
    use std::fmt::Write;

    /// Writes a hash.
    #[must_use]
    pub fn text(hash: &Hash) -> String {
        hash.iter().fold(String::with_capacity(64), |mut text, byte| {
            // Writing into a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    /// Reads a hash.
    #[must_use]
    pub fn parse(text: &str) -> Option<Hash> {
        let mut hash = Hash::default();
        if text.len() != 2 * hash.len() || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        for (byte, digits) in hash.iter_mut().zip(text.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        }
        Some(hash)
    }

    pub(super) fn serialize<S: Serializer>(hash: &Hash, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&text(hash))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Hash, D::Error> {
        let text = String::deserialize(d)?;
        parse(&text).ok_or_else(|| serde::de::Error::custom("a hash is 64 hex digits"))
    }
}

/// The audit trail. `tenant` is `None` for the installation's own chain.
pub trait Audit: Send + Sync {
    /// Appends an entry for something that changes no other row; the changes of the other traits write
    /// their entries themselves.
    fn append(&self, tenant: Option<TenantId>, entry: NewEntry, by: By) -> Reply<'_, Entry>;

    /// The entries of a chain in order.
    fn list(&self, tenant: Option<TenantId>, filter: Filter, page: After<i64>) -> Reply<'_, Page<Entry>>;

    /// Whose chains there are, tenants that are gone included.
    fn chains(&self) -> Reply<'_, Vec<Option<TenantId>>>;

    /// Reads a whole chain and checks it.
    fn verify(&self, tenant: Option<TenantId>) -> Reply<'_, Verification>;
}
