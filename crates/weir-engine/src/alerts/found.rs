//! One thing that a look found.

use super::Condition;
use std::fmt::Display;
use std::time::Duration;
use weir_core::{Severity, TenantId};
use weir_store::alerts::Sighting;

/// What concerns everybody is about this.
pub(super) const INSTALLATION: &str = "installation";
/// The longest text in a message, in characters: causes come from elsewhere.
const LONGEST: usize = 500;

/// What a look found to be wrong.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) condition: Condition,
    pub(super) subject: String,
    pub(super) tenant: Option<TenantId>,
    pub(super) severity: Severity,
    pub(super) message: String,
    pub(super) value: String,
    pub(super) limit: String,
    /// How often it happened, or began; 0 when it goes on.
    pub(super) times: u64,
    pub(super) hold: Duration,
}

impl Found {
    pub(super) fn new(
        condition: Condition,
        severity: Severity,
        message: impl Into<String>,
        hold: Duration,
    ) -> Self {
        let message: String = message.into().chars().take(LONGEST).collect();
        Self {
            condition,
            subject: INSTALLATION.to_owned(),
            tenant: None,
            severity,
            message,
            value: String::new(),
            limit: String::new(),
            times: 0,
            hold,
        }
    }

    /// About what.
    pub(super) fn about(self, subject: impl Display) -> Self {
        Self { subject: subject.to_string(), ..self }
    }

    /// Whose it is.
    pub(super) fn of(self, tenant: TenantId) -> Self {
        Self { tenant: Some(tenant), ..self }
    }

    /// What was measured, and what it should not exceed.
    pub(super) fn measured(self, value: impl Display, limit: impl Display) -> Self {
        Self { value: value.to_string(), limit: limit.to_string(), ..self }
    }

    pub(super) fn times(self, times: u64) -> Self {
        Self { times, ..self }
    }

    pub(super) fn sighting(self) -> Sighting {
        Sighting {
            condition: self.condition.as_str().to_owned(),
            subject: self.subject,
            tenant: self.tenant,
            severity: self.severity,
            message: self.message,
            value: self.value,
            limit: self.limit,
            times: self.times,
            hold: self.hold,
        }
    }
}
