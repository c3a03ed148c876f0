//! Errors by what was told, and refusals by the limit that was reached. Errors are worded in places that know no node, so
//! these counters are the process's.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use weir_core::Code;
use weir_engine::Error;
use weir_engine::figures::Codes;

static CODES: LazyLock<Codes> = LazyLock::new(Codes::default);
static REFUSALS: [AtomicU64; LIMITS.len()] = [const { AtomicU64::new(0) }; LIMITS.len()];

/// The limits, and how an error's `what` names them where it is not the limit's own name.
const LIMITS: [(&str, &str); 18] = [
    ("requests_of_credential", "requests_per_second of the credential"),
    ("requests_of_project", "requests_per_second of the project"),
    ("requests_of_tenant", "requests_per_second of the tenant"),
    ("publishes_of_connection", "publishes per second on one connection"),
    ("subscriptions_of_connection", "subscriptions per second on one connection"),
    ("subscriptions_of_connection", "subscriptions and refreshes per second on one connection"),
    ("sign_ins_of_address", "sign-ins per minute from one address"),
    ("sign_ins_of_person", "sign-ins per minute of one person"),
    ("new_connections", "new_connections_per_second"),
    ("connections", "connections"),
    ("project_connections", "project_connections"),
    ("monthly_events", "monthly_events"),
    ("topics_per_connection", "topics_per_connection"),
    ("operations_per_connection", "subscriptions"),
    ("schemas", "schemas"),
    ("schema_bytes", "schema_bytes"),
    ("query", ""),
    ("size", ""),
];
/// The places of those that have no `what` of their own.
const QUERY: usize = LIMITS.len() - 2;
const SIZE: usize = LIMITS.len() - 1;

/// Counts an error that is told to somebody.
pub(crate) fn note(error: &Error) {
    CODES.add(error.code);
    if let Some(at) = limit_of(error) {
        REFUSALS[at].fetch_add(1, Relaxed);
    }
}

fn limit_of(error: &Error) -> Option<usize> {
    match error.code {
        Code::QueryTooComplex => Some(QUERY),
        Code::PayloadTooLarge | Code::HeadersTooLarge => Some(SIZE),
        Code::RateLimitExceeded | Code::ProjectLimitExceeded | Code::Overloaded => {
            let what = error.details.get("what")?.as_str()?;
            LIMITS.iter().position(|(_, named)| *named == what)
        }
        _ => None,
    }
}

/// Errors by code.
pub(crate) fn codes() -> impl Iterator<Item = (Code, u64)> {
    CODES.read()
}

/// Refusals by limit: all limits, those never reached included.
pub(crate) fn refusals() -> Vec<(&'static str, u64)> {
    let mut all: Vec<(&'static str, u64)> = Vec::new();
    for ((limit, _), counter) in LIMITS.iter().zip(&REFUSALS) {
        match all.last_mut() {
            // One limit may be named in two ways.
            Some((last, count)) if last == limit => *count += counter.load(Relaxed),
            _ => all.push((limit, counter.load(Relaxed))),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_refusal_counts_for_its_limit() {
        let error = Error::new(Code::RateLimitExceeded, "slower")
            .with(json!({"what": "subscriptions and refreshes per second on one connection"}));
        assert_eq!(limit_of(&error).map(|at| LIMITS[at].0), Some("subscriptions_of_connection"));
        assert_eq!(limit_of(&Error::new(Code::PayloadTooLarge, "")), Some(SIZE));
        assert_eq!(limit_of(&Error::new(Code::NotFound, "").with(json!({"what": "schemas"}))), None);
        let names: Vec<_> = refusals().into_iter().map(|(limit, _)| limit).collect();
        assert_eq!(names.iter().collect::<std::collections::HashSet<_>>().len(), names.len());
    }
}
