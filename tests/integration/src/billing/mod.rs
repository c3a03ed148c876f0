//! `/v1/billing/…` and what is behind it, against a Stripe that keeps Stripe's rules.

mod crash;
mod oracle;
mod pace;
mod payments;
mod period;
mod reporting;
mod usage;

use reqwest::Method;
use std::time::Duration;
use weir_testkit::stripe::FakeStripe;
use weir_testkit::{Answer, Tenant, TestApp};

const METER_EVENTS: &str = "/v1/billing/meter_events";

/// Makes a tenant a customer that subscribed `ago`; the servers know when this returns.
async fn subscribed(app: &TestApp, fake: &FakeStripe, tenant: &Tenant, price: &str, ago: Duration) -> String {
    let now = fake.now();
    fake.set_now(now.minus(ago));
    let customer = fake.customer(&tenant.tenant_id);
    app.link_customer(tenant, &customer).await;
    fake.subscribe(&customer, price);
    fake.set_now(now);
    for one in fake.deliveries() {
        let request =
            app.nodes[0].api().request(Method::POST, "/v1/billing/stripe/webhook").body(one.body.clone());
        Answer::of(request.header("stripe-signature", &one.signature)).await.expect(200);
    }
    customer
}
