//! Alerts as Prometheus' Alertmanager takes them (API v2). It knows an alert by its labels, so they hold only what stays
//! the same; it takes one to be over at `endsAt`, so what goes on is sent again before that.

use super::{Alerts, Condition};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;
use weir_core::{Severity, TenantId, Timestamp};
use weir_store::alerts::{Alert, Sighting};

/// What goes on is said to end after so many intervals, unless it is said again.
const MISSED: u32 = 4;
/// The longest value of a label or annotation, in characters.
const LONGEST: usize = 500;

/// One alert on its way.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Post {
    labels: BTreeMap<&'static str, String>,
    annotations: BTreeMap<&'static str, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    starts_at: Option<Timestamp>,
    ends_at: Timestamp,
}

/// One that is written.
pub(super) fn stored(alert: &Alert, now: Timestamp, resend: Duration, alerts: &Alerts) -> Post {
    Post {
        labels: labels(&alert.condition, &alert.subject, alert.tenant_id, alert.severity),
        annotations: annotations(&alert.condition, (&alert.message, &alert.value, &alert.limit), alerts),
        // By the database's clock: an end before the beginning would be refused.
        starts_at: Some(alert.first_seen_at),
        ends_at: alert.resolved_at.unwrap_or_else(|| now.plus(resend * MISSED)),
    }
}

/// One that cannot be written. The same labels, so that it is the same alert later, and on other nodes.
pub(super) fn unstored(one: &Sighting, now: Timestamp, resend: Duration, alerts: &Alerts) -> Post {
    Post {
        labels: labels(&one.condition, &one.subject, one.tenant, one.severity),
        annotations: annotations(&one.condition, (&one.message, &one.value, &one.limit), alerts),
        starts_at: None,
        ends_at: now.plus(resend * MISSED),
    }
}

fn labels(
    condition: &str,
    subject: &str,
    tenant: Option<TenantId>,
    severity: Severity,
) -> BTreeMap<&'static str, String> {
    let mut labels = BTreeMap::from([
        ("alertname", name(condition)),
        ("condition", cut(condition)),
        ("service", "weir".to_owned()),
        ("severity", severity.to_string()),
        ("subject", cut(subject)),
    ]);
    if let Some(tenant) = tenant {
        labels.insert("tenant_id", tenant.to_string());
    }
    labels
}

fn annotations(
    condition: &str,
    (message, value, limit): (&str, &str, &str),
    alerts: &Alerts,
) -> BTreeMap<&'static str, String> {
    let fix = Condition::parse(condition).map_or("", Condition::fix);
    BTreeMap::from([
        ("summary", cut(message)),
        ("description", fix.to_owned()),
        ("value", cut(value)),
        ("limit", cut(limit)),
        ("runbook_url", cut(&alerts.runbook(condition))),
    ])
}

/// `error-rate` is `WeirErrorRate`, as the Prometheus rules call it.
fn name(condition: &str) -> String {
    let capital = |word: &str| {
        let mut letters = word.chars();
        letters
            .next()
            .map_or_else(String::new, |first| format!("{}{}", first.to_uppercase(), letters.as_str()))
    };
    format!("Weir{}", cut(condition).split('-').map(capital).collect::<String>())
}

fn cut(text: &str) -> String {
    text.chars().take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::Settings;
    use weir_core::AlertId;

    #[test]
    fn labels_stay_the_same_from_the_beginning_to_the_end() {
        let alerts = Alerts::new(Settings::default()).expect("a client");
        let (now, resend) = (Timestamp::from_seconds(1_800_000_000), Duration::from_secs(30));
        let mut alert = Alert {
            id: AlertId::new(),
            tenant_id: None,
            condition: "error-rate".to_owned(),
            subject: "installation".to_owned(),
            severity: Severity::Warning,
            message: "x".repeat(LONGEST + 1),
            value: "9 %".to_owned(),
            limit: "5 %".to_owned(),
            first_seen_at: now,
            last_seen_at: now,
            occurrences: 1,
            acknowledged_at: None,
            acknowledged_by: None,
            resolved_at: None,
        };
        let raised = stored(&alert, now, resend, &alerts);
        assert_eq!(raised.labels["alertname"], "WeirErrorRate");
        assert_eq!(raised.ends_at, now.plus(resend * MISSED));
        assert_eq!(raised.annotations["runbook_url"], "docs/runbooks.md#error-rate");
        assert_eq!(raised.annotations["summary"].len(), LONGEST);
        let unwritten = Sighting {
            condition: alert.condition.clone(),
            subject: alert.subject.clone(),
            tenant: None,
            severity: alert.severity,
            message: String::new(),
            value: String::new(),
            limit: String::new(),
            times: 1,
            hold: resend,
        };
        assert_eq!(unstored(&unwritten, now, resend, &alerts).labels, raised.labels);
        alert.resolved_at = Some(now.plus(resend));
        alert.message = "other".to_owned();
        let resolved = stored(&alert, now, resend, &alerts);
        assert_eq!((&resolved.labels, resolved.ends_at), (&raised.labels, now.plus(resend)));
        let text = serde_json::to_value(&resolved).expect("JSON");
        assert_eq!(text["endsAt"], now.plus(resend).to_string());
        assert_eq!(text["startsAt"], now.to_string());
    }
}
