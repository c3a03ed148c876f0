//! Properties of billing that Stripe has a part in.

use crate::world::Backend;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{TestCaseResult, TestRunner};
use reqwest::Method;
use serde_json::json;
use std::fmt::Debug;
use std::time::Duration;
use tokio::runtime::Runtime;
use weir_testkit::stripe::{Delivery, FakeStripe, Moment};
use weir_testkit::{Answer, Billed, Replicas, Tenant, TestApp, until};

const HOUR: Duration = Duration::from_secs(3600);
const METER_EVENTS: &str = "/v1/billing/meter_events";

/// Holds `property` for a hundred inputs.
fn hold<S: Strategy<Value: Debug>>(strategy: &S, mut property: impl FnMut(S::Value) -> TestCaseResult) {
    let config =
        ProptestConfig { cases: 100, max_shrink_iters: 40, ..ProptestConfig::with_source_file(file!()) };
    let property = std::cell::RefCell::new(&mut property);
    if let Err(failure) = TestRunner::new(config).run(strategy, |input| (property.borrow_mut())(input)) {
        panic!("{failure}");
    }
}

/// Something that happens between the log and the bill.
#[derive(Clone, Debug)]
enum Happens {
    /// Events are logged, in this hour or late for one before.
    Publish { ago: u32, events: u64 },
    /// So many hours go by, in which nobody reports.
    Hours(u32),
    /// A node reports.
    Report,
    /// A node reports and dies on the way, after so many microseconds.
    Die(u64),
    /// An answer is lost.
    Lose(Moment),
    /// Stripe fails.
    Fail(u16, Moment),
}

fn happens() -> impl Strategy<Value = Happens> {
    let moment = || prop_oneof![Just(Moment::Before), Just(Moment::After)];
    prop_oneof![
        4 => (0..3_u32, 1..1_000_u64).prop_map(|(ago, events)| Happens::Publish { ago, events }),
        2 => prop_oneof![Just(1), 1..60_u32].prop_map(Happens::Hours),
        2 => Just(Happens::Report),
        2 => (0..20_000_u64).prop_map(Happens::Die),
        2 => moment().prop_map(Happens::Lose),
        1 => (prop_oneof![Just(500_u16), Just(503), Just(429)], moment()).prop_map(|(status, moment)| Happens::Fail(status, moment)),
    ]
}

/// Feature: realtime-saas-platform, Property 20: For any collected usage data, metered usage should be correctly
/// reported to Stripe for billing
mod stripe_billing_integration {
    use super::*;

    fn holds(start: impl AsyncFnOnce() -> Billed) {
        let runtime = Runtime::new().expect("a runtime");
        let billed = runtime.block_on(start());
        let script = prop::collection::vec(happens(), 1..14);
        hold(&script, |script| runtime.block_on(case(&billed, script)));
    }

    async fn case(billed: &Billed, script: Vec<Happens>) -> TestCaseResult {
        let subscriber = billed.subscriber(&billed.node()).await;
        billed.clock.advance(HOUR * 3);
        for happens in script {
            match happens {
                Happens::Publish { ago, events } => billed.publish(&subscriber, ago, events).await,
                Happens::Hours(hours) => {
                    billed.clock.advance(HOUR * hours);
                    billed.close_hours().await;
                }
                Happens::Report => {
                    billed.node().report_usage().await.expect("the database answers");
                }
                Happens::Die(after) => {
                    let node = billed.node();
                    let _ = tokio::time::timeout(Duration::from_micros(after), node.report_usage()).await;
                }
                Happens::Lose(moment) => billed.fake.cut(METER_EVENTS, moment, 1),
                Happens::Fail(status, moment) => billed.fake.fail(METER_EVENTS, status, moment, 1),
            }
        }
        billed.clock.advance(HOUR);
        billed.close_hours().await;
        billed.report_all().await;
        prop_assert_eq!(billed.fake.metered(&subscriber.customer), billed.logged(&subscriber).await);
        prop_assert_eq!(billed.adjustments(&subscriber).await, Vec::new());
        Ok(())
    }

    #[test]
    fn embedded() {
        holds(Billed::sqlite);
    }

    #[test]
    fn cluster() {
        holds(Billed::postgres);
    }
}

/// How a payment fails and is made up for.
#[derive(Clone, Debug)]
struct Failure {
    tenant: Index,
    /// Unpaid bills.
    bills: usize,
    /// In which order webhooks come, which come twice, and to which node.
    order: Vec<(Index, bool, usize)>,
    /// Where the tenant has connections: a WebSocket or an event stream.
    connections: Vec<(usize, bool)>,
}

fn failure() -> impl Strategy<Value = Failure> {
    let order = prop::collection::vec((any::<Index>(), any::<bool>(), 0..2_usize), 8);
    let connections = prop::collection::vec((0..2_usize, any::<bool>()), 1..4);
    (any::<Index>(), 1..3_usize, order, connections).prop_map(|(tenant, bills, order, connections)| Failure {
        tenant,
        bills,
        order,
        connections,
    })
}

/// Feature: realtime-saas-platform, Property 22: For any payment failure, tenant access should be suspended using
/// the kill switch mechanism
mod kill_switch_activation {
    use super::*;

    struct Paying {
        app: TestApp,
        fake: FakeStripe,
        tenants: Vec<(Tenant, String)>,
    }

    impl Paying {
        async fn boot(backend: Backend) -> Self {
            let fake = FakeStripe::start().await;
            fake.set_rates(100_000, 100_000);
            let plan = fake.metered_plan();
            let mut settings = fake.settings(&plan);
            settings.extend(
                [("WEIR_STRIPE_GRACE", "0s"), ("WEIR_STRIPE_SUSPENSION_BRAKE", "100000")]
                    .map(|(name, value)| (name.to_owned(), value.to_owned())),
            );
            let settings: Vec<_> =
                settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let app = match backend {
                Backend::Embedded => TestApp::start_with(&settings).await,
                Backend::Cluster => TestApp::cluster_with(2, Replicas::One, &settings).await,
            };
            let mut tenants = Vec::new();
            for _ in 0..3 {
                let tenant = app.tenant().await;
                let customer = fake.customer(&tenant.tenant_id);
                app.link_customer(&tenant, &customer).await;
                fake.subscribe(&customer, &plan.price);
                tenants.push((tenant, customer));
            }
            let paying = Self { app, fake, tenants };
            paying.deliver(paying.fake.deliveries(), &[]).await;
            paying
        }

        /// Delivers webhooks in some order, some of them twice, to some nodes.
        async fn deliver(&self, mut waiting: Vec<Delivery>, order: &[(Index, bool, usize)]) {
            let mut order = order.iter();
            while !waiting.is_empty() {
                let (next, twice, node) = order.next().map_or((0, false, 0), |(index, twice, node)| {
                    (index.index(waiting.len()), *twice, *node)
                });
                let one = waiting.remove(next);
                for _ in 0..=usize::from(twice) {
                    let api = self.app.nodes[node % self.app.nodes.len()].api();
                    let request =
                        api.request(Method::POST, "/v1/billing/stripe/webhook").body(one.body.clone());
                    Answer::of(request.header("stripe-signature", &one.signature)).await.expect(200);
                }
            }
        }

        async fn case(&self, failure: Failure) -> TestCaseResult {
            let (tenant, customer) = &self.tenants[failure.tenant.index(self.tenants.len())];
            let (mut sockets, mut streams) = (Vec::new(), Vec::new());
            for (node, socket) in failure.connections {
                match socket {
                    true => sockets.push(self.app.ws_at(node, &tenant.api_key).await),
                    false => streams.push(self.app.sse_at(node, &tenant.api_key, "a.>", None).await),
                }
            }
            let bills: Vec<_> = (0..failure.bills).map(|_| self.fake.invoice(customer, false)).collect();
            self.deliver(self.fake.deliveries(), &failure.order).await;
            for mut socket in sockets {
                let (_, ended) = socket.end().await;
                prop_assert_eq!(ended.code, Some(4402), "{:?}", ended);
            }
            for mut stream in streams {
                while stream.next().await.is_some() {}
            }
            let event = json!({"topic": "a.b", "payload": 1});
            for node in 0..self.app.nodes.len() {
                let api = self.app.api_at(node, &tenant.api_key);
                api.post("/v1/events", &event).await.refused(403, "TENANT_SUSPENDED");
                api.get("/v1/billing/invoices", &[]).await.expect(200);
            }
            for (n, bill) in bills.iter().enumerate() {
                // A part of what is owed brings nothing back.
                prop_assert_eq!(
                    self.app.api(&tenant.api_key).post("/v1/events", &event).await.status,
                    403,
                    "bill {}",
                    n
                );
                self.fake.pay(bill);
                self.deliver(self.fake.deliveries(), &failure.order).await;
            }
            for node in 0..self.app.nodes.len() {
                let api = self.app.api_at(node, &tenant.api_key);
                until("the tenant to be served again", async || {
                    (api.post("/v1/events", &event).await.status == 201).then_some(())
                })
                .await;
            }
            Ok(())
        }
    }

    fn holds(backend: Backend) {
        let runtime = Runtime::new().expect("a runtime");
        let paying = runtime.block_on(Paying::boot(backend));
        hold(&failure(), |failure| runtime.block_on(paying.case(failure)));
        runtime.block_on(paying.app.finish());
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
