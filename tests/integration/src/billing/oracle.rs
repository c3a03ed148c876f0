//! Stripe's official library holds the fake Stripe to what it expects, and our client to what it sends itself.

use serde_json::{Value, json};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use weir_core::Secret;
use weir_outbound::stripe::{Checkout, Error, InvoicesOf, MeterEvent, Stripe, verify};
use weir_testkit::stripe::{FakeStripe, Moment, Recorded, SECRET_KEY, VERSION, WEBHOOK_SECRET};

/// Runs a part of `tests/clients/stripe_oracle.py`, which must succeed.
async fn library(part: &str, fake: &FakeStripe, given: &Value) -> Value {
    let mut child = Command::new(python())
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../clients/stripe_oracle.py"))
        .args([part, fake.url(), SECRET_KEY, WEBHOOK_SECRET])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("Python starts");
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(given.to_string().as_bytes()).await.expect("Python reads");
    drop(input);
    let output = child.wait_with_output().await.expect("Python ends");
    assert!(output.status.success(), "{part}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

/// Where `tests/setup.sh tools` installs the pinned library.
fn python() -> std::path::PathBuf {
    let home = std::env::var_os("HOME").expect("a home");
    std::path::Path::new(&home).join(".cache/weir/venv/bin/python")
}

fn client(fake: &FakeStripe) -> Stripe {
    Stripe::new(fake.url(), Secret::new(SECRET_KEY)).expect("a client")
}

#[tokio::test]
async fn the_official_library_finds_in_the_fake_what_it_expects_of_stripe() {
    let fake = FakeStripe::start().await;
    let found = library("behaviour", &fake, &json!({})).await;
    // The library's own version is the pinned one.
    assert!(fake.recorded().iter().filter(|asked| asked.version.as_deref() == Some(VERSION)).count() > 20);

    let customer = fake.customer("hooks");
    let plan = fake.metered_plan();
    let subscription = fake.subscribe(&customer, &plan.price);
    fake.invoice(&customer, false);
    fake.cancel(&subscription);
    let mut sent = fake.deliveries();
    assert!(sent.iter().any(|one| one.kind == "invoice.payment_failed"), "{sent:?}");
    let report =
        fake.report_meter_errors(found["meter"].as_str().expect("a meter")).expect("one event was wrong");
    sent.push(fake.delivery(&report));
    let as_json: Vec<_> = sent
        .iter()
        .map(|one| json!({ "kind": one.kind, "body": one.body, "signature": one.signature }))
        .collect();
    assert_eq!(library("webhooks", &fake, &json!(as_json)).await, json!({ "verified": sent.len() }));
    for one in &sent {
        let secrets = [Secret::new("whsec_other"), Secret::new(WEBHOOK_SECRET)];
        verify(&one.signature, one.body.as_bytes(), &secrets, fake.now().seconds())
            .expect("we believe it too");
    }
}

#[tokio::test]
async fn our_requests_are_those_of_the_official_library() {
    let fake = FakeStripe::start().await;
    let (plan, customer) = (fake.metered_plan(), fake.customer("acme"));
    let stripe = client(&fake);
    let timestamp = fake.now().seconds() - 3600;
    let event = |customer| MeterEvent {
        event_name: "weir_events_published",
        identifier: "the-identifier",
        customer,
        value: 42,
        timestamp,
    };
    stripe.create_meter_event(&MeterEvent { identifier: "x", ..event("cus_none") }).await.expect("is taken");
    let report = fake.report_meter_errors(&plan.meter).expect("a report");
    let report = report["id"].as_str().expect("an id");

    let given = json!({ "customer": customer, "price": plan.price, "meter": plan.meter, "report": report,
        "identifier": "the-identifier", "timestamp": timestamp });
    fake.forget_recorded();
    library("calls", &fake, &given).await;
    let theirs = comparable(&fake);

    fake.advance(Duration::from_secs(25 * 3600));
    fake.forget_recorded();
    stripe.create_customer("acme", "ten_1", "a").await.expect("a customer");
    let checkout = Checkout {
        customer: &customer,
        tenant: "ten_1",
        price: &plan.price,
        success_url: "https://weir.test/?paid=1&x=a b",
        cancel_url: "https://weir.test/",
    };
    stripe.create_checkout(&checkout, "b").await.expect("a form");
    stripe.create_portal(&customer, "https://weir.test/", "c").await.expect("a page");
    let price = stripe.price(&plan.price).await.expect("the price");
    assert_eq!(price.recurring.and_then(|recurring| recurring.meter), Some(plan.meter.clone()));
    assert_eq!(stripe.meter(&plan.meter).await.expect("the meter").default_aggregation.formula, "sum");
    assert!(stripe.subscriptions(&customer).await.expect("none yet").is_empty());
    let open = InvoicesOf { customer: &customer, status: Some("open"), after: None, limit: 5 };
    assert!(stripe.invoices(&open).await.expect("none yet").data.is_empty());
    stripe.create_meter_event(&event(&customer)).await.expect("a day later it is forgotten");
    let hour = timestamp.div_euclid(3600) * 3600;
    let sum = stripe.summary(&plan.meter, &customer, hour, hour + 3600).await.expect("a sum");
    assert_eq!(sum, 84.0, "theirs and ours");
    let report = stripe.error_report(report).await.expect("the report");
    assert_eq!(report.data.reason.error_types[0].sample_errors[0].request.identifier, "x");
    assert_eq!(comparable(&fake), theirs);
}

/// What was asked, without what may differ: the library adds headers about itself.
fn comparable(fake: &FakeStripe) -> Vec<Recorded> {
    let mut recorded = fake.recorded();
    for asked in &mut recorded {
        assert_eq!(asked.status, 200, "{asked:?}");
        // The library invents keys where it is given none, and names a type for bodies that are empty.
        if asked.path == "/v1/billing/meter_events" || asked.method == "GET" {
            asked.idempotency_key = None;
        }
        if asked.method == "GET" {
            asked.content_type = None;
        }
    }
    recorded
}

#[tokio::test]
async fn every_failure_says_whether_the_call_took_effect() {
    let fake = FakeStripe::start().await;
    let (plan, customer) = (fake.metered_plan(), fake.customer("acme"));
    let stripe = client(&fake);
    let send = async |identifier: &str| {
        let event = MeterEvent {
            event_name: "weir_events_published",
            identifier,
            customer: &customer,
            value: 1,
            timestamp: fake.now().seconds(),
        };
        stripe.create_meter_event(&event).await
    };
    let path = "/v1/billing/meter_events";
    for (moment, identifier, metered) in [(Moment::Before, "a", 0), (Moment::After, "b", 1)] {
        fake.cut(path, moment, 1);
        let error = send(identifier).await.expect_err("no answer");
        assert!(matches!(error, Error::Unknown(_)), "{error}");
        assert_eq!(fake.metered(&customer), metered);
        fake.fail(path, 500, moment, 1);
        let error = send(&format!("{identifier}{identifier}")).await.expect_err("Stripe does not know");
        assert!(matches!(error, Error::Unknown(_)), "{error}");
    }
    assert_eq!(fake.metered(&customer), 2);
    let Err(Error::Refused(known)) = send("b").await else { panic!("it is known") };
    assert!(known.is_known_identifier(), "{known}");
    fake.fail(path, 429, Moment::Before, 1);
    assert!(matches!(send("c").await, Err(Error::Busy(_))));
    fake.set_rates(1_000, 0);
    assert!(matches!(stripe.price(&plan.price).await, Err(Error::Busy(_))));
    fake.set_rates(1_000, 100);
    let Err(Error::Refused(missing)) = stripe.price("price/../x").await else { panic!("there is none") };
    assert_eq!(missing.status, 404);

    let wrong = Stripe::new(fake.url(), Secret::new("sk_live_canary")).expect("a client");
    let error = wrong.price(&plan.price).await.expect_err("the key is wrong");
    assert!(matches!(error, Error::Unauthorized(_)));
    assert!(!format!("{error} {error:?}").contains("canary"));
    // The same customer for the same key, even though the first answer was lost.
    fake.cut("/v1/customers", Moment::After, 1);
    stripe.create_customer("acme", "ten_1", "once").await.expect_err("no answer");
    let first = stripe.create_customer("acme", "ten_1", "once").await.expect("an answer").id;
    assert_eq!(stripe.create_customer("acme", "ten_1", "once").await.expect("the same").id, first);
    let Err(Error::Refused(other)) = stripe.create_customer("other", "ten_1", "once").await else {
        panic!("refused")
    };
    assert_eq!(other.kind, "idempotency_error");
}
