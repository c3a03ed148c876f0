//! Notices between nodes: they wake whoever would otherwise look later. Any of them may be lost, so each only makes
//! sooner what a poll finds anyway.

use crate::InquiryId;
use std::fmt;
use std::str::FromStr;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use weir_core::{ProjectId, TenantId};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// An access change was committed.
    AccessChanged,
    /// A node has enforced one.
    Enforced,
    /// Somebody needs connections of this tenant, or of this project where it has a limit of its own.
    SharesWanted(TenantId, Option<ProjectId>),
    /// Somebody gave some of them back.
    SharesReturned(TenantId, Option<ProjectId>),
    /// Somebody needs events of this tenant's allowance.
    AllowanceWanted(TenantId),
    /// Somebody gave some back, or the log's count did.
    AllowanceReturned(TenantId),
    /// A node asks every other.
    Asked(InquiryId),
    /// A node has answered.
    Answered(InquiryId),
    /// Notices may have been lost: anything may have happened.
    Missed,
}

/// As it travels.
impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shares = |name: &str, tenant: &TenantId, project: &Option<ProjectId>| match project {
            Some(project) => write!(f, "{name} {tenant} {project}"),
            None => write!(f, "{name} {tenant}"),
        };
        match self {
            Self::AccessChanged => f.write_str("access"),
            Self::Enforced => f.write_str("enforced"),
            Self::SharesWanted(tenant, project) => shares("wanted", tenant, project),
            Self::SharesReturned(tenant, project) => shares("returned", tenant, project),
            Self::AllowanceWanted(tenant) => write!(f, "events-wanted {tenant}"),
            Self::AllowanceReturned(tenant) => write!(f, "events-returned {tenant}"),
            Self::Asked(id) => write!(f, "asked {}", id.uuid()),
            Self::Answered(id) => write!(f, "answered {}", id.uuid()),
            Self::Missed => f.write_str("missed"),
        }
    }
}

impl FromStr for Notice {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut words = text.split(' ');
        let name = words.next();
        let mut shares = |make: fn(TenantId, Option<ProjectId>) -> Self| {
            let tenant = words.next().and_then(|word| word.parse().ok()).ok_or(())?;
            Ok(make(tenant, words.next().map(|word| word.parse().map_err(drop)).transpose()?))
        };
        match name {
            Some("access") => Ok(Self::AccessChanged),
            Some("enforced") => Ok(Self::Enforced),
            Some("wanted") => shares(Self::SharesWanted),
            Some("returned") => shares(Self::SharesReturned),
            Some("events-wanted") => Ok(Self::AllowanceWanted(tenant(words.next())?)),
            Some("events-returned") => Ok(Self::AllowanceReturned(tenant(words.next())?)),
            Some("asked") => Ok(Self::Asked(inquiry(words.next())?)),
            Some("answered") => Ok(Self::Answered(inquiry(words.next())?)),
            _ => Err(()),
        }
    }
}

fn tenant(word: Option<&str>) -> Result<TenantId, ()> {
    word.and_then(|word| word.parse().ok()).ok_or(())
}

fn inquiry(word: Option<&str>) -> Result<InquiryId, ()> {
    word.and_then(|word| word.parse().ok()).map(InquiryId::from_uuid).ok_or(())
}

/// A listener's view of the notices from the moment on at which it began to listen.
#[derive(Debug)]
pub struct Notices(pub(crate) broadcast::Receiver<Notice>);

impl Notices {
    /// The next one. Never returns when the store is closed.
    pub async fn next(&mut self) -> Notice {
        match self.0.recv().await {
            Ok(notice) => notice,
            Err(RecvError::Lagged(_)) => Notice::Missed,
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_it_writes() {
        let (tenant, project) = (TenantId::new(), ProjectId::new());
        for notice in [
            Notice::AccessChanged,
            Notice::Enforced,
            Notice::SharesWanted(tenant, None),
            Notice::SharesReturned(tenant, Some(project)),
            Notice::AllowanceWanted(tenant),
            Notice::AllowanceReturned(tenant),
            Notice::Asked(InquiryId::new()),
            Notice::Answered(InquiryId::new()),
        ] {
            assert_eq!(notice.to_string().parse(), Ok(notice));
        }
        for unknown in ["", "wanted", "wanted ten_1", "events-wanted", "a newer program's"] {
            assert_eq!(unknown.parse::<Notice>(), Err(()));
        }
    }
}
