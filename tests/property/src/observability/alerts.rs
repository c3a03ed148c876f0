//! Alerts for whatever goes wrong.

use crate::world::Backend;
use proptest::prelude::*;
use proptest::test_runner::{TestCaseResult, TestRunner};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tokio::runtime::Runtime;
use weir_core::Scope;
use weir_testkit::{Answer, Replicas, Tenant, TestApp, until};

const CASES: u32 = 100;
/// Refused credentials of a project from which on it is an alert; ten times that is critical.
const REFUSALS: usize = 4;

/// Something that goes wrong for one tenant.
#[derive(Clone, Debug)]
enum Wrong {
    /// Credentials that were good once are used so often: `true` is a revoked key, `false` a token with a wrong
    /// signature. With `spread` every node sees as many.
    Credentials { key: bool, times: usize, spread: bool },
    /// So many of its ten events of the period are published.
    Quota(u64),
    /// A payment fails; `true` is not made up for in time.
    Payment(bool),
}

fn wrong() -> impl Strategy<Value = Wrong> {
    let times = prop_oneof![3 => 0..12_usize, 1 => 38..44_usize];
    prop_oneof![
        4 => (any::<bool>(), times, any::<bool>())
            .prop_map(|(key, times, spread)| Wrong::Credentials { key, times, spread }),
        // Nodes tell each other of use every few seconds only.
        1 => (0..12_u64).prop_map(Wrong::Quota),
        3 => any::<bool>().prop_map(Wrong::Payment),
    ]
}

/// Which alerts there must be then, and how severe. Those of one kind that is wrong twice are one.
fn expected(script: &[Wrong]) -> BTreeMap<&'static str, &'static str> {
    let mut expected = BTreeMap::new();
    let published: u64 = script.iter().map(|one| if let Wrong::Quota(n) = one { *n } else { 0 }).sum();
    match published {
        0..5 => None,
        5..8 => expected.insert("quota-threshold", "info"),
        8..10 => expected.insert("quota-threshold", "warning"),
        _ => expected.insert("quota-threshold", "critical"),
    };
    let refused: usize =
        script.iter().map(|one| if let Wrong::Credentials { times, .. } = one { *times } else { 0 }).sum();
    if refused >= REFUSALS {
        let severity = if refused >= 10 * REFUSALS { "critical" } else { "warning" };
        expected.insert("auth-failures", severity);
    }
    let payments: Vec<bool> = script
        .iter()
        .filter_map(|one| if let Wrong::Payment(late) = one { Some(*late) } else { None })
        .collect();
    if !payments.is_empty() {
        let severity = if payments.contains(&true) { "critical" } else { "warning" };
        expected.insert("payment-failed", severity);
    }
    expected
}

/// Feature: realtime-saas-platform, Property 28: For any error or anomaly, the system should generate alerts with
/// appropriate severity levels
mod alert_generation {
    use super::*;

    struct Watched {
        app: TestApp,
    }

    impl Watched {
        async fn boot(backend: Backend) -> Self {
            let settings = [
                ("WEIR_ALERTS_INTERVAL", "100ms"),
                // Nothing is over while a case looks.
                ("WEIR_ALERTS_HOLD", "5m"),
                ("WEIR_ALERTS_WINDOW", "5m"),
                ("WEIR_ALERTS_AUTH_FAILURES_PROJECT", "4"),
                ("WEIR_ALERTS_AUTH_FAILURES", "100000"),
            ];
            let app = match backend {
                Backend::Embedded => TestApp::start_with(&settings).await,
                Backend::Cluster => TestApp::cluster_with(2, Replicas::One, &settings).await,
            };
            Self { app }
        }

        async fn case(&self, script: Vec<Wrong>) -> TestCaseResult {
            // With a limit from its beginning: what a first limit finds is in doubt for a while.
            let tenant = self.app.tenant_with(&["--plan", "free"]).await;
            let other = self.app.tenant().await;
            let limits = json!({"monthly_events": 10, "requests_per_second": 0, "publish_per_second": 0});
            self.app.set_limits(&tenant, &limits).await;
            // Suspended by a late payment it could do nothing else wrong.
            let (payments, others): (Vec<_>, Vec<_>) =
                script.iter().partition(|one| matches!(one, Wrong::Payment(_)));
            let bad_key = self.revoked_key(&tenant).await;
            for wrong in others.into_iter().chain(payments) {
                self.go_wrong(&tenant, &bad_key, wrong).await;
            }
            let expected = expected(&script);
            let found = until("the alerts to be as they should", async || {
                let found = self.severities(&tenant).await;
                (found == expected || found.len() > expected.len()).then_some(found)
            })
            .await;
            prop_assert_eq!(&found, &expected);
            // Nobody else's; and when something that went wrong later is known, nothing more was found here.
            prop_assert_eq!(self.severities(&other).await, BTreeMap::new());
            self.app.fail_payment(&other, false).await;
            until("the other's alert", async || (self.severities(&other).await.len() == 1).then_some(()))
                .await;
            prop_assert_eq!(&self.severities(&tenant).await, &expected);
            Ok(())
        }

        async fn revoked_key(&self, tenant: &Tenant) -> String {
            let key = self.app.key(tenant, &[Scope::EventsSubscribe]).await;
            let path = format!("/v1/admin/keys/{}", key.key_id);
            let request = self.app.api(&tenant.api_key).request(Method::DELETE, &path);
            Answer::of(request).await.expect(200);
            key.api_key
        }

        async fn go_wrong(&self, tenant: &Tenant, bad_key: &str, wrong: &Wrong) {
            match *wrong {
                Wrong::Credentials { key, times, spread } => {
                    let claims = json!({"sub": "u", "exp": weir_testkit::now() + 600, "subscribe": [">"]});
                    let forged = weir_testkit::sign(&tenant.signing_key_id, b"another secret", &claims);
                    let nodes = if spread { self.app.nodes.len() } else { 1 };
                    for node in 0..nodes {
                        for _ in 0..times {
                            let api = self.app.api_at(node, if key { bad_key } else { &forged });
                            let answer = api.get("/v1/topics", &[]).await;
                            assert_eq!(answer.status, 401, "{}", answer.body);
                        }
                    }
                }
                Wrong::Quota(events) => {
                    let api = self.app.api(&tenant.api_key);
                    for n in 0..events {
                        let answer = api.post("/v1/events", &json!({"topic": "a", "payload": n})).await;
                        assert!([201, 402, 429].contains(&answer.status), "{}", answer.body);
                    }
                }
                Wrong::Payment(late) => self.app.fail_payment(tenant, late).await,
            }
        }

        /// The tenant's open alerts by condition. More than one of a condition would be a mistake.
        async fn severities(&self, tenant: &Tenant) -> BTreeMap<&'static str, &'static str> {
            let api = self.app.api(&tenant.api_key);
            let page = api.get("/v1/admin/alerts", &[("state", "open")]).await.expect(200);
            let alerts: Vec<Value> = page["data"].as_array().expect("a list").clone();
            let known = |text: &Value, all: &[&'static str]| {
                let text = text.as_str().expect("text");
                all.iter().copied().find(|known| *known == text).unwrap_or("something else")
            };
            let conditions = ["auth-failures", "quota-threshold", "payment-failed"];
            let severities = alerts.iter().map(|alert| {
                (
                    known(&alert["condition"], &conditions),
                    known(&alert["severity"], &["info", "warning", "critical"]),
                )
            });
            let severities: BTreeMap<_, _> = severities.collect();
            assert_eq!(severities.len(), alerts.len(), "one row for each: {alerts:?}");
            severities
        }
    }

    fn holds(backend: Backend) {
        let runtime = Runtime::new().expect("a runtime");
        let watched = runtime.block_on(Watched::boot(backend));
        let config = ProptestConfig {
            cases: CASES,
            max_shrink_iters: 20,
            ..ProptestConfig::with_source_file(file!())
        };
        let script = prop::collection::vec(wrong(), 1..4);
        let outcome = TestRunner::new(config).run(&script, |script| runtime.block_on(watched.case(script)));
        if let Err(failure) = outcome {
            panic!("{failure}");
        }
        runtime.block_on(watched.app.finish());
    }

    #[test]
    fn embedded() {
        holds(Backend::Embedded);
    }

    #[test]
    fn cluster() {
        holds(Backend::Cluster);
    }
}
