//! Payments in: what a webhook may do, and what it may not.

use super::subscribed;
use crate::members;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;
use weir_testkit::stripe::{Delivery, FakeStripe, WEBHOOK_SECRET, signature};
use weir_testkit::{Answer, Api, Replicas, Tenant, TestApp, until};

const PATH: &str = "/v1/billing/stripe/webhook";

/// A fake Stripe, a plan there, and servers that bill by it.
async fn servers(nodes: Option<usize>, extra: &[(&str, &str)]) -> (FakeStripe, TestApp, String) {
    let fake = FakeStripe::start().await;
    let plan = fake.metered_plan();
    let mut settings = fake.settings(&plan);
    settings.extend(extra.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let settings: Vec<_> = settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let app = match nodes {
        None => TestApp::start_with(&settings).await,
        Some(nodes) => TestApp::cluster_with(nodes, Replicas::One, &settings).await,
    };
    (fake, app, plan.price)
}

async fn post(api: &Api, body: &str, signature: Option<&str>) -> Answer {
    let request = api.request(Method::POST, PATH).body(body.to_owned());
    Answer::of(match signature {
        Some(signature) => request.header("stripe-signature", signature),
        None => request,
    })
    .await
}

async fn deliver(api: &Api, one: &Delivery) -> Value {
    post(api, &one.body, Some(&one.signature)).await.expect(200)
}

async fn status(api: &Api, tenant: &Tenant) -> String {
    let read = api.get(&format!("/v1/admin/tenants/{}", tenant.tenant_id), &[]).await.expect(200);
    members::text(&read["status"])
}

#[tokio::test]
async fn a_webhook_that_stripe_did_not_sign_so_and_now_changes_nothing() {
    let (fake, app, price) = servers(None, &[("WEIR_STRIPE_GRACE", "0s")]).await;
    let tenant = app.tenant().await;
    let (api, nobody) = (app.api(&tenant.api_key), app.nodes[0].api());
    let customer = subscribed(&app, &fake, &tenant, &price, Duration::ZERO).await;
    fake.invoice(&customer, false);
    let failed = fake.deliveries().into_iter().find(|one| one.kind == "invoice.payment_failed").expect("one");
    let at = |shift: i64| weir_core::Timestamp::from_seconds(fake.now().seconds() + shift);
    let value: Value = serde_json::from_str(&failed.body).expect("JSON");
    let compact = value.to_string();
    let other = failed.body.replace("evt_", "evt_9");
    for (body, signature) in [
        (&failed.body, None),
        (&failed.body, Some(String::new())),
        (&failed.body, Some("t=1,v1=00".into())),
        (&failed.body, Some(signature(&failed.body, "whsec_other", at(0)))),
        // Written again: the same JSON, other bytes.
        (&compact, Some(failed.signature.clone())),
        (&other, Some(failed.signature.clone())),
        // Kept for later, and dated ahead.
        (&failed.body, Some(signature(&failed.body, WEBHOOK_SECRET, at(-301)))),
        (&failed.body, Some(signature(&failed.body, WEBHOOK_SECRET, at(310)))),
        (&failed.body, Some(signature(&failed.body, WEBHOOK_SECRET, at(90 * 86_400)))),
    ] {
        post(&nobody, body, signature.as_deref()).await.refused(400, "INVALID_REQUEST");
    }
    let not_json = "nonsense";
    let signed = signature(not_json, WEBHOOK_SECRET, at(0));
    post(&nobody, not_json, Some(&signed)).await.refused(400, "INVALID_REQUEST");
    assert_eq!(status(&api, &tenant).await, "active");

    // Signed, and about nobody here, or about nothing that matters: taken, and nothing happens.
    for event in [
        json!({"id": "evt_a", "object": "event", "type": "invoice.payment_failed",
            "data": {"object": {"object": "invoice", "customer": "cus_nobody"}}}),
        json!({"id": "evt_b", "object": "event", "type": "invoice.payment_failed", "data": {"object": {}}}),
        json!({"id": "evt_c", "object": "event", "type": "charge.refunded", "data": {"object": {"customer": customer}}}),
        json!({"id": "evt_d", "object": "event", "type": "customer.deleted", "data": {}}),
    ] {
        assert_eq!(
            deliver(&nobody, &fake.delivery(&event)).await,
            json!({"received": true, "duplicate": false})
        );
    }
    // What a webhook claims is not believed but asked for: this customer owes nothing any more.
    fake.pay(value["data"]["object"]["id"].as_str().expect("an invoice"));
    deliver(&nobody, &failed).await;
    assert_eq!(status(&api, &tenant).await, "active");
    assert_eq!(deliver(&nobody, &failed).await, json!({"received": true, "duplicate": true}));
    assert!(!app.nodes[0].log().contains(WEBHOOK_SECRET));
    app.finish().await;
}

#[tokio::test]
async fn an_unpaid_bill_suspends_everything_everywhere_and_a_payment_brings_it_back() {
    let (fake, app, price) = servers(Some(2), &[("WEIR_STRIPE_GRACE", "0s")]).await;
    let (tenant, other) = (app.tenant().await, app.tenant().await);
    let (api, nodes) = (app.api(&tenant.api_key), [0, 1].map(|n| app.nodes[n].api()));
    let customer = subscribed(&app, &fake, &tenant, &price, Duration::ZERO).await;
    let mut sockets = [app.ws_at(0, &tenant.api_key).await, app.ws_at(1, &tenant.api_key).await];
    let mut streams = [
        app.sse_at(0, &tenant.api_key, "a.>", None).await,
        app.sse_at(1, &tenant.api_key, "a.>", None).await,
    ];
    let mut theirs = app.ws_at(1, &other.api_key).await;
    theirs.subscribe(&["a.>"], None).await;

    let invoice = fake.invoice(&customer, false);
    let mut told = fake.deliveries();
    told.reverse();
    for (n, one) in told.iter().enumerate() {
        deliver(&nodes[n % 2], one).await;
    }
    for socket in &mut sockets {
        let (_, ended) = socket.end().await;
        assert_eq!(ended.code, Some(4402), "{ended:?}");
    }
    for stream in &mut streams {
        while stream.next().await.is_some() {}
    }
    for node in 0..2 {
        let api = app.api_at(node, &tenant.api_key);
        let event = json!({"topic": "a.b", "payload": 1});
        api.post("/v1/events", &event).await.refused(403, "TENANT_SUSPENDED");
        // Its people can look, and pay.
        assert_eq!(status(&api, &tenant).await, "suspended");
        let invoices = api.get("/v1/billing/invoices", &[]).await.expect(200);
        assert_eq!(invoices["hosted"][0]["id"], json!(invoice), "{invoices}");
        assert_eq!(invoices["hosted"][0]["status"], "open");
    }
    let read = api.get(&format!("/v1/admin/tenants/{}", tenant.tenant_id), &[]).await.expect(200);
    assert_eq!(read["status_reason"], "payment_failed");
    app.api(&other.api_key).publish("a.b", &json!(2)).await;
    assert_eq!(theirs.event().await["payload"], 2, "nobody else notices");

    fake.pay(&invoice);
    deliver(&nodes[1], &fake.deliveries().remove(0)).await;
    until("the tenant to be served again", async || {
        let event = json!({"topic": "a.b", "payload": 3});
        (api.post("/v1/events", &event).await.status == 201).then_some(())
    })
    .await;
    assert_eq!(status(&api, &tenant).await, "active");
    let audit = api.get("/v1/admin/audit", &[("limit", "1000")]).await.expect(200).to_string();
    assert!(audit.contains("billing:stripe"), "{audit}");
    // Whoever was suspended for another reason is not brought back by a payment.
    let operator = members::operator(&app, "staff@weir.test").await;
    let path = format!("/v1/admin/tenants/{}/suspend", tenant.tenant_id);
    app.api(&operator.access).post(&path, &json!({"reason": "abuse"})).await.expect(200);
    let second = fake.invoice(&customer, false);
    fake.pay(&second);
    for one in fake.deliveries() {
        deliver(&nodes[0], &one).await;
    }
    assert_eq!(status(&api, &tenant).await, "suspended");
    drop(theirs);
    app.finish().await;
}

#[tokio::test]
async fn there_is_a_time_of_grace_and_a_brake() {
    let extra = [("WEIR_STRIPE_GRACE", "2s"), ("WEIR_STRIPE_SUSPENSION_BRAKE", "1")];
    let (fake, app, price) = servers(None, &extra).await;
    let api = app.nodes[0].api();
    let mut tenants = Vec::new();
    for _ in 0..2 {
        let tenant = app.tenant().await;
        let customer = subscribed(&app, &fake, &tenant, &price, Duration::ZERO).await;
        fake.invoice(&customer, false);
        tenants.push(tenant);
    }
    // Every webhook of the first is lost but one; of the second all come twice.
    for one in fake.deliveries().iter().filter(|one| one.kind == "invoice.payment_failed") {
        deliver(&api, one).await;
        deliver(&api, one).await;
    }
    for tenant in &tenants {
        assert_eq!(status(&app.api(&tenant.api_key), tenant).await, "past_due");
        app.api(&tenant.api_key).publish("a.b", &json!(1)).await;
    }
    until("the brake to hold", async || {
        let braked =
            app.nodes[0].metrics().await.sum("weir_billing_suspensions_total", &["outcome=\"braked\""])?;
        (braked > 0.0).then_some(())
    })
    .await;
    let mut now = Vec::new();
    for tenant in &tenants {
        now.push(status(&app.api(&tenant.api_key), tenant).await);
    }
    now.sort();
    assert_eq!(now, ["past_due", "suspended"]);
    assert!(app.nodes[0].log().contains("the brake holds"));
    app.finish().await;
}

#[tokio::test]
async fn tenants_subscribe_and_look_after_their_payments_on_stripes_pages() {
    let (fake, app, _) = servers(None, &[("WEIR_PUBLIC_URL", "https://weir.test")]).await;
    let tenant = app.tenant_with(&["--plan", "free"]).await;
    let owner = members::owner(&app, &tenant, "owner@acme.test").await;
    let (api, key) = (app.api(&owner.access), app.api(&tenant.api_key));
    key.post("/v1/billing/checkout", &json!({})).await.refused(403, "INSUFFICIENT_SCOPE");
    api.post("/v1/billing/portal", &json!({})).await.refused(409, "CONFLICT");
    // Two at once, the first answer lost: still one customer.
    fake.cut("/v1/customers", weir_testkit::stripe::Moment::After, 1);
    let lost = api.post("/v1/billing/checkout", &json!({})).await;
    lost.refused(503, "PAYMENT_PROVIDER_UNAVAILABLE");
    let form = api.post("/v1/billing/checkout", &json!({})).await.expect(201);
    let url = members::text(&form["url"]);
    assert!(url.starts_with("https://checkout.stripe.com/"), "{url}");
    let session = url.rsplit('/').next().expect("an id");
    let shown = fake.object(session);
    assert_eq!(shown["client_reference_id"], json!(tenant.tenant_id));
    assert_eq!(shown["success_url"], "https://weir.test/?checkout=done");
    assert_eq!(fake.customers(), 1);

    fake.complete_checkout(session);
    for one in fake.deliveries() {
        deliver(&app.nodes[0].api(), &one).await;
    }
    let read = key.get(&format!("/v1/admin/tenants/{}", tenant.tenant_id), &[]).await.expect(200);
    assert_eq!(read["plan"], "pro");
    api.post("/v1/billing/checkout", &json!({})).await.refused(409, "CONFLICT");
    let page = api.post("/v1/billing/portal", &json!({})).await.expect(201);
    assert!(members::text(&page["url"]).starts_with("https://billing.stripe.com/"));
    // Staff name the tenant; another tenant's looks as if it did not exist.
    let operator = members::operator(&app, "staff@weir.test").await;
    let staff = app.api(&operator.access);
    staff.post("/v1/billing/portal", &json!({})).await.refused(400, "INVALID_REQUEST");
    staff.post("/v1/billing/portal", &json!({"tenant_id": tenant.tenant_id})).await.expect(201);
    let foreign = json!({"tenant_id": format!("ten_{}", "0".repeat(32))});
    api.post("/v1/billing/portal", &foreign).await.refused(404, "NOT_FOUND");
    // It cancels: the free plan is its plan again.
    let subscription = members::text(&fake.object(session)["subscription"]);
    fake.cancel(&subscription);
    for one in fake.deliveries() {
        deliver(&app.nodes[0].api(), &one).await;
    }
    let read = key.get(&format!("/v1/admin/tenants/{}", tenant.tenant_id), &[]).await.expect(200);
    assert_eq!(read["plan"], "free");
    app.finish().await;
}

#[tokio::test]
async fn without_stripe_invoices_are_computed_here() {
    let app = TestApp::start().await;
    let tenant = app.tenant_with(&["--plan", "pro"]).await;
    let api = app.api(&tenant.api_key);
    let page = api.get("/v1/billing/invoices", &[]).await.expect(200);
    let invoice = &page["data"][0];
    assert_eq!((&invoice["status"], &invoice["currency"]), (&json!("open"), &json!("USD")), "{page}");
    let line = &invoice["lines"][0];
    assert_eq!((&line["included"], &line["unit_price_micros"]), (&json!(5_000_000), &json!(3)));
    assert_eq!(
        (&page["hosted"], &page["adjustments"], &page["has_more"]),
        (&json!([]), &json!([]), &json!(false))
    );
    let csv = api.get("/v1/billing/invoices", &[("format", "csv")]).await;
    assert_eq!(csv.header("content-type"), Some("text/csv; charset=utf-8"));
    let text = csv.expect(200);
    let lines: Vec<_> = text.as_str().expect("text").lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(lines[0].starts_with("period_start,period_end,status,plan,"), "{text}");
    assert!(lines[1].contains(",open,pro,1,USD,events_published,0,5000000,0,3,0,0"), "{text}");
    // What stands on the bill can be followed to its pieces.
    for n in 0..3 {
        api.publish("billed.here", &json!(n)).await;
    }
    let line = until("the events to be billed", async || {
        let page = api.get("/v1/billing/invoices", &[]).await.expect(200);
        let line = page["data"][0]["lines"][0].clone();
        (line["quantity"] == 3).then_some(line)
    })
    .await;
    let explained = line["explained_at"].as_str().expect("a path");
    let pieces = api.get(explained, &[]).await.expect(200);
    let sum: u64 = pieces["data"]
        .as_array()
        .expect("pieces")
        .iter()
        .filter_map(|piece| piece["quantity"].as_u64())
        .sum();
    assert_eq!(sum, 3, "{pieces}");
    // Another plan prices the period that goes on, from its terms on.
    let operator = members::operator(&app, "staff@weir.test").await;
    let path = format!("/v1/admin/tenants/{}", tenant.tenant_id);
    let change = app.api(&operator.access).request(Method::PATCH, &path).json(&json!({"plan": "enterprise"}));
    Answer::of(change).await.expect(200);
    let after = api.get("/v1/billing/invoices", &[]).await.expect(200)["data"][0].take();
    assert_eq!(
        (&after["plan"], &after["lines"][0]["billable"]),
        (&json!("enterprise"), &json!(0)),
        "{after}"
    );
    assert!(after["plan_since"].as_str() > invoice["plan_since"].as_str(), "{after}");
    for (name, value) in
        [("limit", "0"), ("limit", "101"), ("format", "xml"), ("cursor", "x"), ("tenant_id", "x")]
    {
        api.get("/v1/billing/invoices", &[(name, value)]).await.refused(400, "INVALID_REQUEST");
    }
    post(&app.nodes[0].api(), "{}", Some("t=1,v1=00")).await.refused(404, "NOT_FOUND");
    let owner = members::owner(&app, &tenant, "owner@acme.test").await;
    app.api(&owner.access).post("/v1/billing/checkout", &json!({})).await.refused(404, "NOT_FOUND");
    app.finish().await;
}
