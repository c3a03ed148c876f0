//! The identifier of a report: unique for a tenant, metric, hour and revision, the same at every attempt, and readable
//! for whoever looks at it in Stripe.

use weir_core::Timestamp;
use weir_store::{Metric, ReportKey};

/// `ten_….events_published.1790000000.1`: at most 80 characters, of Stripe's 100.
pub fn identifier(key: &ReportKey) -> String {
    format!("{}.{}.{}.{}", key.tenant_id, key.metric.as_str(), key.window_start.seconds(), key.revision)
}

/// The report of an identifier; `None` where it is not ours.
pub fn parse(identifier: &str) -> Option<ReportKey> {
    let mut parts = identifier.split('.');
    let key = ReportKey {
        tenant_id: parts.next()?.parse().ok()?,
        metric: Metric::parse(parts.next()?)?,
        window_start: Timestamp::from_seconds(parts.next()?.parse().ok()?),
        revision: parts.next()?.parse().ok()?,
    };
    parts.next().is_none().then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_core::TenantId;

    #[test]
    fn identifiers_come_back_and_fit() {
        for metric in Metric::ALL {
            let key = ReportKey {
                tenant_id: TenantId::new(),
                metric,
                window_start: Timestamp::from_seconds(1_790_000_000 / 3600 * 3600),
                revision: u32::MAX,
            };
            let text = identifier(&key);
            assert!(text.len() <= 100, "{text}");
            assert_eq!(parse(&text), Some(key));
            assert_eq!(parse(&format!("{text}.1")), None);
        }
        for text in ["", "x", "ten_1.events_published.1.1", "idmp_0123"] {
            assert_eq!(parse(text), None);
        }
    }
}
