//! The alerting rules that are shipped for Prometheus: they are what they say, and somebody is told what to do.

use std::collections::BTreeSet;
use std::path::PathBuf;
use weir_testkit::prometheus::promtool;

const RULES: &str = include_str!("../../../deploy/observability/prometheus/weir.rules.yaml");
const CASES: &str = include_str!("../../../deploy/observability/prometheus/weir.rules.test.yaml");
const RUNBOOKS: &str = include_str!("../../../docs/runbooks.md");
const CATALOGUE: &str = include_str!("../../../docs/metrics.md");

fn file(name: &str) -> String {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/observability/prometheus"));
    folder.join(name).display().to_string()
}

/// What stands behind a word at the beginning of lines.
fn values<'a>(text: &'a str, word: &str) -> Vec<&'a str> {
    text.lines().filter_map(|line| line.trim_start().strip_prefix(word)).collect()
}

#[test]
fn the_rules_hold_and_their_cases_too() {
    for arguments in
        [["check", "rules", &file("weir.rules.yaml")], ["test", "rules", &file("weir.rules.test.yaml")]]
    {
        let outcome = promtool(&arguments, "");
        assert!(outcome.status.success(), "{outcome:?}");
    }
}

#[test]
fn every_alert_has_two_cases_a_severity_and_a_runbook() {
    let alerts = values(RULES, "- alert: ");
    assert!(alerts.len() >= 35, "{alerts:?}");
    let cases: BTreeSet<&str> = values(CASES, "- name: ").into_iter().collect();
    let chapters = values(RUNBOOKS, "### ");
    for alert in &alerts {
        for case in ["fires", "stays quiet"] {
            assert!(cases.contains(&*format!("{alert} {case}")), "{alert} has no case in which it {case}");
        }
        assert!(chapters.contains(alert), "docs/runbooks.md has no chapter {alert}");
        let link = format!("runbook_url: docs/runbooks.md#{}", alert.to_lowercase());
        assert!(RULES.contains(&link), "{alert} does not link to its runbook");
    }
    assert_eq!(cases.len(), 2 * alerts.len());
    assert_eq!(chapters.iter().copied().collect::<BTreeSet<_>>(), alerts.iter().copied().collect());
    // A case that fires expects an alert, one that stays quiet expects none.
    assert_eq!(CASES.matches("exp_alerts: []").count(), alerts.len());
    assert_eq!(CASES.matches("- exp_labels:").count(), alerts.len());
    let severities = values(RULES, "severity: ");
    assert_eq!(severities.len(), alerts.len());
    assert!(severities.iter().all(|severity| ["info", "warning", "critical"].contains(severity)));
}

#[test]
fn the_rules_speak_of_series_that_exist() {
    let known: BTreeSet<&str> =
        CATALOGUE.lines().filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0)).collect();
    let words = RULES.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let series: BTreeSet<&str> = words
        .filter(|word| word.starts_with("weir_") || word.starts_with("process_"))
        .map(|word| word.strip_suffix("_bucket").unwrap_or(word))
        .collect();
    assert!(series.len() > 30 && series.is_subset(&known), "{:?}", series.difference(&known));
}
