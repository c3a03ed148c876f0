//! Cursors: a [`Position`] in a project's log as an opaque, URL-safe, authenticated string.
//!
//! Nothing in a cursor depends on the connection that received it, so an event's frame is the same
//! bytes for every subscriber, and the same cursor resumes on any transport and any node.
//!
//! Layout, base64url without padding: version (1 byte) · project (16) · epoch (8) · sequence (8) ·
//! check (4) · the first 10 bytes of an HMAC-SHA256 over all before it. 47 bytes, 63 characters.

use crate::secret::mac;
use crate::{Position, ProjectId, RootSecret};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq;
use uuid::Uuid;

const VERSION: u8 = 1;
const BODY: usize = 37;
const TAG: usize = 10;
const TEXT: usize = 63;

/// A position together with the project whose log it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Whose log.
    pub project: ProjectId,
    /// Where in it.
    pub position: Position,
}

/// Why a cursor is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CursorError {
    /// Not of the form, or its authentication does not fit: cut, edited or made up.
    #[error("the cursor was not issued here, or was changed: pass it on exactly as received")]
    Forged,
    /// Authentic, but for another project.
    #[error("the cursor belongs to another project")]
    OtherProject,
}

/// Issues and checks cursors under a key derived from the installation's root.
#[derive(Clone)]
pub struct CursorKey([u8; 32]);

impl CursorKey {
    /// The cursor key of this installation.
    #[must_use]
    pub fn new(root: &RootSecret) -> Self {
        Self(root.derive("cursor"))
    }

    /// Writes a cursor: 63 URL-safe characters.
    #[must_use]
    pub fn encode(&self, cursor: &Cursor) -> String {
        let mut bytes = [0; BODY + TAG];
        bytes[0] = VERSION;
        bytes[1..17].copy_from_slice(cursor.project.uuid().as_bytes());
        bytes[17..25].copy_from_slice(&cursor.position.epoch.to_be_bytes());
        bytes[25..33].copy_from_slice(&cursor.position.sequence.to_be_bytes());
        bytes[33..37].copy_from_slice(&cursor.position.check.to_be_bytes());
        let tag = mac(&self.0, &[&bytes[..BODY]]);
        bytes[BODY..].copy_from_slice(&tag[..TAG]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads a cursor that should be of `project`.
    ///
    /// # Errors
    /// [`CursorError::Forged`] or [`CursorError::OtherProject`].
    pub fn decode(&self, text: &str, project: ProjectId) -> Result<Cursor, CursorError> {
        let mut bytes = [0; BODY + TAG];
        if text.len() != TEXT || URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) != Ok(BODY + TAG) {
            return Err(CursorError::Forged);
        }
        let tag = mac(&self.0, &[&bytes[..BODY]]);
        if bytes[0] != VERSION || !bool::from(tag[..TAG].ct_eq(&bytes[BODY..])) {
            return Err(CursorError::Forged);
        }
        let cursor = Cursor {
            project: ProjectId::from_uuid(Uuid::from_bytes(array(&bytes[1..17]))),
            position: Position {
                epoch: u64::from_be_bytes(array(&bytes[17..25])),
                sequence: u64::from_be_bytes(array(&bytes[25..33])),
                check: u32::from_be_bytes(array(&bytes[33..37])),
            },
        };
        if cursor.project != project {
            return Err(CursorError::OtherProject);
        }
        Ok(cursor)
    }
}

fn array<const N: usize>(slice: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(slice);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn reads_back_what_it_writes(epoch: u64, sequence: u64, check: u32) {
            let key = CursorKey::new(&RootSecret::generate());
            let project = ProjectId::new();
            let cursor = Cursor { project, position: Position { epoch, sequence, check } };
            let text = key.encode(&cursor);
            prop_assert_eq!(text.len(), TEXT);
            prop_assert_eq!(key.decode(&text, project), Ok(cursor));
            prop_assert_eq!(key.decode(&text, ProjectId::new()), Err(CursorError::OtherProject));
            let elsewhere = CursorKey::new(&RootSecret::generate());
            prop_assert_eq!(elsewhere.decode(&text, project), Err(CursorError::Forged));
        }

        #[test]
        fn any_edit_is_noticed(at in 0..TEXT, to in "[A-Za-z0-9_-]") {
            let key = CursorKey::new(&RootSecret::generate());
            let project = ProjectId::new();
            let position = Position { epoch: 1, sequence: 2, check: 3 };
            let text = key.encode(&Cursor { project, position });
            let mut edited = text.clone();
            edited.replace_range(at..=at, &to);
            if edited != text {
                prop_assert_eq!(key.decode(&edited, project), Err(CursorError::Forged));
            }
        }

        #[test]
        fn garbage_never_panics(text in "\\PC{0,80}") {
            let key = CursorKey::new(&RootSecret::generate());
            prop_assert_eq!(key.decode(&text, ProjectId::new()), Err(CursorError::Forged));
        }
    }
}
