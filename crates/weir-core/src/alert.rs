//! How bad something is.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// How bad something is, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing; nothing is to be done now.
    Info,
    /// Somebody should look within the day: it gets worse, or hurts a few.
    Warning,
    /// Somebody should look now: it hurts many, or money or events are at stake.
    Critical,
}

/// The text is none of `info`, `warning`, `critical`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a severity: use info, warning or critical")]
pub struct InvalidSeverity(String);

impl Severity {
    /// All of them, the least first.
    pub const ALL: [Self; 3] = [Self::Info, Self::Warning, Self::Critical];

    /// The public name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    /// 1, 2, 3: greater is worse.
    #[must_use]
    pub const fn rank(self) -> i64 {
        match self {
            Self::Info => 1,
            Self::Warning => 2,
            Self::Critical => 3,
        }
    }

    /// What [`rank`](Self::rank) says.
    #[must_use]
    pub fn of_rank(rank: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|severity| severity.rank() == rank)
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Severity {
    type Err = InvalidSeverity;

    fn from_str(text: &str) -> Result<Self, InvalidSeverity> {
        let known = Self::ALL.into_iter().find(|severity| severity.as_str() == text);
        known.ok_or_else(|| InvalidSeverity(text.chars().take(40).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_ranks_read_back_and_agree_on_what_is_worse() {
        for severity in Severity::ALL {
            assert_eq!(severity.as_str().parse(), Ok(severity));
            assert_eq!(Severity::of_rank(severity.rank()), Some(severity));
        }
        assert!(Severity::Critical > Severity::Warning && Severity::Warning > Severity::Info);
        assert!("urgent".parse::<Severity>().is_err());
    }
}
