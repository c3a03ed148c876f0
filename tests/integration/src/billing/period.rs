//! A period from its first event to its paid invoice: everything that tells what was used tells the same.

use super::subscribed;
use crate::faults::TurnedClock;
use crate::members;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::time::Duration;
use weir_testkit::stripe::FakeStripe;
use weir_testkit::{Answer, Tenant, TestApp, until};

const HOUR: Duration = Duration::from_secs(3600);
/// What one event costs, here and there.
const CENTS: u64 = 2;
/// Before and after the end of the period.
const EVENTS: u64 = 60;
const LATER: u64 = 3;

/// The plan `pro` from now on: every event costs something.
async fn sell(app: &TestApp) {
    let operator = members::operator(app, "staff@weir.test").await;
    let terms = json!({"name": "pro", "monthly_events": 0, "price_per_event_micros": CENTS * 10_000});
    app.api(&operator.access).post("/v1/billing/plans", &terms).await.expect(201);
}

/// Publishes over both transports, with repetitions and refusals, which are not billed. Returns what the log then holds.
async fn publish(app: &TestApp, tenant: &Tenant) -> Vec<Value> {
    let api = app.api(&tenant.api_key);
    let mut ws = app.ws(&tenant.api_key).await;
    ws.subscribe(&["bill.>"], None).await;
    for n in 0..EVENTS / 2 {
        let event = json!({"topic": "bill.rest", "payload": n, "id": format!("rest-{n}")});
        api.post("/v1/events", &event).await.expect(201);
        let again = api.post("/v1/events", &event).await;
        assert_eq!(again.header("idempotent-replayed"), Some("true"), "{again:?}");
        let frame = json!({"type": "publish", "topic": "bill.ws", "payload": n});
        ws.ask(frame).await;
    }
    api.post("/v1/events", &json!({"topic": "bill..", "payload": 0})).await.refused(400, "INVALID_TOPIC");
    for _ in 0..EVENTS {
        ws.event().await;
    }
    ws.close().await;
    api.replay("bill.>", None).await
}

async fn usage(app: &TestApp, tenant: &Tenant, metric: &str, from: &str, to: &str) -> u64 {
    let query = [("window", "hour"), ("limit", "1000"), ("metric", metric), ("from", from), ("to", to)];
    let page = app.api(&tenant.api_key).get("/v1/billing/usage", &query).await.expect(200);
    assert_eq!(page["has_more"], json!(false));
    page["data"].as_array().expect("lines").iter().filter_map(|line| line["quantity"].as_u64()).sum()
}

async fn invoices(app: &TestApp, tenant: &Tenant) -> Value {
    app.api(&tenant.api_key).get("/v1/billing/invoices", &[]).await.expect(200)
}

/// The rows of the CSV, each by the names of its columns.
async fn rows(app: &TestApp, tenant: &Tenant) -> Vec<HashMap<String, String>> {
    let csv = app.api(&tenant.api_key).get("/v1/billing/invoices", &[("format", "csv")]).await.expect(200);
    let mut lines = csv.as_str().expect("text").lines().map(|line| line.split(',').map(str::to_owned));
    let names: Vec<String> = lines.next().expect("a head").collect();
    lines.map(|fields| names.iter().cloned().zip(fields).collect()).collect()
}

async fn deliver(app: &TestApp, fake: &FakeStripe) {
    for one in fake.deliveries() {
        let request =
            app.nodes[0].api().request(Method::POST, "/v1/billing/stripe/webhook").body(one.body.clone());
        Answer::of(request.header("stripe-signature", &one.signature)).await.expect(200);
    }
}

/// Time goes on for everybody; the server knows, and counts by it, when this returns.
async fn pass(
    time: Duration,
    to: &str,
    clock: &TurnedClock,
    fake: &FakeStripe,
    app: &TestApp,
    tenant: &Tenant,
) {
    fake.advance(time);
    clock.turn(to);
    let soon = fake.now().minus(HOUR / 60).to_string();
    until("the clock to be turned", async || {
        let plan = app.api(&tenant.api_key).get("/v1/billing/plan", &[]).await.expect(200);
        (plan["counted_until"].as_str()? > soon.as_str()).then_some(())
    })
    .await;
}

/// What an invoice of here says, held against its row in the CSV.
fn same(invoice: &Value, row: &HashMap<String, String>) {
    let line = &invoice["lines"][0];
    for (name, value) in [
        ("period_start", &invoice["period_start"]),
        ("period_end", &invoice["period_end"]),
        ("status", &invoice["status"]),
        ("plan_version", &invoice["plan_version"]),
        ("metric", &line["metric"]),
        ("quantity", &line["quantity"]),
        ("billable", &line["billable"]),
        ("amount_micros", &line["amount_micros"]),
        ("total_micros", &invoice["total_micros"]),
    ] {
        let told = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        assert_eq!(row[name], told, "{name} of {invoice}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_period_is_metered_closed_reported_and_invoiced() {
    let Some(clock) = TurnedClock::new() else { return };
    let fake = FakeStripe::start().await;
    let plan = fake.metered_plan_at(&CENTS.to_string());
    let mut settings = fake.settings(&plan);
    settings.extend(clock.settings());
    let settings: Vec<_> = settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let app = TestApp::start_with(&settings).await;
    sell(&app).await;
    let tenant = app.tenant_with(&["--plan", "pro"]).await;
    let customer = subscribed(&app, &fake, &tenant, &plan.price, Duration::ZERO).await;

    // The hour in which a subscription begins is nobody's.
    pass(HOUR * 2, "+2h", &clock, &fake, &app, &tenant).await;
    let log = publish(&app, &tenant).await;
    assert_eq!(log.len() as u64, EVENTS);
    let open = invoices(&app, &tenant).await["data"][0].take();
    assert_eq!(open["status"], "open", "{open}");
    let end = members::text(&open["period_end"]);
    for metric in ["events_published", "events_delivered"] {
        let from = members::text(&open["period_start"]);
        until("it to be metered", async || {
            (usage(&app, &tenant, metric, &from, &end).await == EVENTS).then_some(())
        })
        .await;
    }
    assert_eq!(fake.metered(&customer), 0, "the hour goes on");

    pass(HOUR * 2, "+4h", &clock, &fake, &app, &tenant).await;
    let billed = i64::try_from(EVENTS).expect("few");
    until("the hour to be reported", async || (fake.metered(&customer) == billed).then_some(())).await;

    pass(HOUR * (32 * 24 - 4), "+32d", &clock, &fake, &app, &tenant).await;
    for n in 0..LATER {
        app.api(&tenant.api_key).publish("bill.later", &json!(n)).await;
    }
    let hosted = fake.invoice(&customer, true);
    deliver(&app, &fake).await;
    let page = until("the next period to be counted", async || {
        let page = invoices(&app, &tenant).await;
        (page["data"][0]["lines"][0]["quantity"] == LATER && page["hosted"][0]["id"] == hosted)
            .then_some(page)
    })
    .await;

    let (next, closed, hosted) = (&page["data"][0], &page["data"][1], &page["hosted"][0]);
    assert_eq!((&closed["status"], &closed["period_end"]), (&json!("closed"), &json!(end)), "{page}");
    assert_eq!((&next["status"], &next["period_start"]), (&json!("open"), &json!(end)), "no hour between");
    let line = &closed["lines"][0];
    assert_eq!(line["quantity"], EVENTS, "what the log held");
    assert_eq!(closed["total_micros"], EVENTS * CENTS * 10_000);
    assert_eq!(hosted["amount_due"], EVENTS * CENTS, "both bill the same: {page}");
    assert_eq!((&hosted["status"], &hosted["amount_paid"]), (&json!("paid"), &hosted["amount_due"]));
    assert_eq!(page["adjustments"], json!([]));

    let from = members::text(&closed["period_start"]);
    for metric in ["events_published", "events_delivered"] {
        assert_eq!(usage(&app, &tenant, metric, &from, &end).await, EVENTS, "{metric}");
    }
    let explained = members::text(&line["explained_at"]);
    let explained = app.api(&tenant.api_key).get(&explained, &[]).await.expect(200);
    assert_eq!(explained["quantity"], EVENTS);
    let sequences = log.iter().filter_map(|event| event["sequence"].as_u64());
    let pieces = explained["data"].as_array().expect("pieces");
    let pieces = pieces.iter().flat_map(|piece| {
        piece["first_sequence"].as_u64().expect("one")..=piece["last_sequence"].as_u64().expect("one")
    });
    assert!(pieces.eq(sequences), "the pieces are the log's events: {explained}");

    let rows = rows(&app, &tenant).await;
    assert_eq!(rows.len(), 2, "{rows:?}");
    same(next, &rows[0]);
    same(closed, &rows[1]);
    let mut again = fake.meter_events();
    again.retain(|event| event.customer == customer);
    assert_eq!(again.iter().map(|event| event.value).sum::<i64>(), billed, "nothing is reported again");
    app.finish().await;
}
