//! `/v1/admin/webhooks` and `/v1/admin/dead-letters`: events reach endpoints that fail, hang, lie and come back, and what
//! does not is kept.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weir_core::{Scope, Timestamp};
use weir_testkit::{Answer, Api, Behaviour, Delivery, Receiver, Replicas, Tenant, TestApp, now, until};

/// Servers that may send to this machine, and do not wait for hours.
const QUICK: [(&str, &str); 3] = [
    ("WEIR_OUTBOUND_ALLOW_NETWORKS", "127.0.0.0/8"),
    ("WEIR_WEBHOOKS_RETRIES", "100ms, 200ms"),
    ("WEIR_WEBHOOKS_TIMEOUT", "1s"),
];

async fn cluster(nodes: usize) -> TestApp {
    TestApp::cluster_with(nodes, Replicas::One, &QUICK).await
}

/// Makes a webhook; its id and secret.
async fn hook(api: &Api, receiver: &Receiver, more: Value) -> (String, String) {
    let mut wish = json!({ "url": receiver.url(), "topics": ["orders.>"] });
    for (name, value) in more.as_object().expect("fields") {
        wish[name] = value.clone();
    }
    let made = api.post("/v1/admin/webhooks", &wish).await.expect(201);
    let text = |field: &str| made[field].as_str().expect("text").to_owned();
    (text("id"), text("secret"))
}

async fn post(api: &Api, path: &str) -> Answer {
    api.post(path, &json!({})).await
}

/// The payloads of what was taken, without repetitions, in the order of first coming.
fn payloads(deliveries: &[Delivery]) -> Vec<Value> {
    let mut seen = HashSet::new();
    let new = deliveries.iter().filter(|one| seen.insert(one.id().to_owned()));
    new.map(|one| one.body["payload"].clone()).collect()
}

/// Checks a signature by the words of the specification.
fn verify(delivery: &Delivery, secret: &str) -> usize {
    let key = BASE64_STANDARD.decode(secret.strip_prefix("whsec_").expect("its prefix")).expect("base64");
    let time = &delivery.headers["webhook-timestamp"];
    let mut signed = format!("{}.{time}.", delivery.id()).into_bytes();
    signed.extend_from_slice(&delivery.raw);
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &key);
    let right = BASE64_STANDARD.encode(aws_lc_rs::hmac::sign(&key, &signed));
    delivery.headers["webhook-signature"].split(' ').filter(|one| **one == format!("v1,{right}")).count()
}

async fn delivers(app: TestApp) {
    let tenant = app.tenant().await;
    let (api, receiver) = (app.api(&tenant.api_key), Receiver::start().await);
    api.publish("orders.early", &json!("before")).await;
    let (id, secret) = hook(&api, &receiver, json!({ "ordered": true })).await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for n in 0..20 {
        let event = json!({ "topic": format!("orders.{}", n % 3), "payload": n, "headers": { "traceparent": trace } });
        app.api_at(n, &tenant.api_key).post("/v1/events", &event).await.expect(201);
        api.publish("other", &json!(n)).await;
    }
    let taken = receiver.took("20 events", |taken| taken.len() >= 20).await;
    assert_eq!(payloads(&taken), (0..20).map(|n| json!(n)).collect::<Vec<_>>(), "in order, from now on");
    assert_eq!(receiver.most_at_once(), 1, "one after the other");
    let kept = api.replay("orders.>", None).await;
    for (delivery, event) in taken.iter().zip(&kept[1..]) {
        assert_eq!(&delivery.body, event, "the event as anybody sees it");
        assert_eq!(verify(delivery, &secret), 1);
        assert_eq!(delivery.headers["traceparent"], trace);
        assert_eq!(delivery.headers["content-type"], "application/json");
    }
    let path = format!("/v1/admin/webhooks/{id}");
    until("the cursor to reach the last event", async || {
        let read = api.get(&path, &[]).await.expect(200);
        (read["waiting"] == 0 && api.replay("orders.>", read["cursor"].as_str()).await.is_empty())
            .then_some(())
    })
    .await;

    // Again, under the same names.
    let again = api.post(&format!("{path}/replay"), &json!({ "after": kept[15]["cursor"] })).await;
    assert!(again.expect(200).get("secret").is_none(), "the secret is told once");
    let all = receiver.took("five events again", |taken| taken.len() >= 25).await;
    let names = |of: &[Delivery]| of.iter().map(|one| one.id().to_owned()).collect::<Vec<_>>();
    assert_eq!(names(&all[20..25]), names(&all[15..20]));

    // Two secrets sign until the first one's time is over.
    let rotated = api.post(&format!("{path}/rotate"), &json!({ "grace_seconds": 3600 })).await.expect(201);
    let newer = rotated["secret"].as_str().expect("one");
    let signed = async |what: &str, by: &[&str]| {
        // The node that delivers hears of it within a second.
        until(what, async || {
            let count = receiver.came().len();
            api.publish("orders.rotated", &json!(what)).await;
            let taken = receiver.took("one more", |taken| taken.len() > count).await;
            let signatures = taken.last()?.headers["webhook-signature"].matches("v1,").count();
            let right = by.iter().map(|secret| verify(taken.last().expect("one"), secret)).sum::<usize>();
            (right == by.len() && signatures == right).then_some(())
        })
        .await;
    };
    signed("what is signed twice", &[&secret, newer]).await;
    let last = api.post(&format!("{path}/rotate"), &json!({ "grace_seconds": 0 })).await.expect(201);
    signed("what is signed once", &[last["secret"].as_str().expect("one")]).await;

    let ping = post(&api, &format!("{path}/test")).await.expect(200);
    assert_eq!((&ping["delivered"], &ping["status"]), (&json!(true), &json!(204)));
    let attempts = api.get(&format!("{path}/attempts"), &[("limit", "3")]).await.expect(200);
    assert_eq!(attempts["data"][0]["outcome"], "delivered");
    assert_eq!(attempts["has_more"], json!(true));

    // Of another tenant there is nothing.
    let stranger = app.api(&app.tenant().await.api_key);
    stranger.get(&path, &[]).await.refused(404, "NOT_FOUND");
    Answer::of(api.request(Method::DELETE, &path)).await.expect(200);
    api.get(&path, &[]).await.refused(404, "NOT_FOUND");
    app.finish().await;
}

#[tokio::test]
async fn events_are_delivered_signed_and_in_order() {
    delivers(TestApp::start_with(&QUICK).await).await;
}

#[tokio::test]
async fn events_are_delivered_signed_and_in_order_on_a_cluster() {
    delivers(cluster(2).await).await;
}

/// As `Retry-After` has it.
fn http_date(seconds: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let text = Timestamp::from_seconds(seconds.cast_signed()).to_string();
    let month: usize = text[5..7].parse().expect("a month");
    let day = DAYS[usize::try_from(seconds / 86_400 % 7).expect("a day of the week")];
    format!("{day}, {} {} {} {} GMT", &text[8..10], MONTHS[month - 1], &text[..4], &text[11..19])
}

async fn retries(app: TestApp) {
    let tenant = app.tenant().await;
    let (api, receiver) = (app.api(&tenant.api_key), Receiver::start().await);
    let (id, _) = hook(&api, &receiver, json!({ "ordered": true })).await;
    // Later than it would be asked again anyway.
    let patience = now() + 5;
    receiver.then([
        Behaviour::Status(500),
        Behaviour::Hang,
        Behaviour::With(302, "location", receiver.url().to_owned()),
        Behaviour::With(503, "retry-after", http_date(patience)),
    ]);
    receiver.always(Behaviour::Status(200));
    for n in 0..3 {
        api.publish("orders.a", &json!(n)).await;
    }
    // The first fails three times, which is all there is: 500, time-out, redirect. The second is told to wait.
    let taken = receiver.took("the second and third", |taken| taken.len() >= 2).await;
    assert_eq!(payloads(&taken), [json!(1), json!(2)], "the next waits, and goes on after the first is dead");
    let came = receiver.came();
    let order: Vec<&Value> = came.iter().map(|one| &one.body["payload"]).collect();
    assert_eq!(order, [&json!(0), &json!(0), &json!(0), &json!(1), &json!(1), &json!(2)]);
    assert!(came[0].id() == came[1].id() && came[1].id() == came[2].id(), "every attempt has the same name");
    let again: u64 = came[4].headers["webhook-timestamp"].parse().expect("seconds");
    assert!(again >= patience, "asked again at {again}, before {patience}");
    let attempts = until("the attempts", async || {
        let attempts = api.get(&format!("/v1/admin/webhooks/{id}/attempts"), &[]).await.expect(200);
        let attempts = attempts["data"].as_array()?.clone();
        (attempts.len() == 6).then_some(attempts)
    })
    .await;
    let told: Vec<_> =
        attempts.iter().rev().map(|one| (one["outcome"].clone(), one["status"].clone())).collect();
    let expected = [
        ("retry", json!(500)),
        ("retry", Value::Null),
        ("dead", json!(302)),
        ("retry", json!(503)),
        ("delivered", json!(200)),
        ("delivered", json!(200)),
    ];
    assert_eq!(told, expected.map(|(outcome, status)| (json!(outcome), status)));
    assert!(attempts[4]["failure"].as_str().expect("why").contains("longer than 1000 ms"), "{}", attempts[4]);
    assert!(attempts[3]["failure"].as_str().expect("why").contains("redirect"), "{}", attempts[3]);

    let list = api.get("/v1/admin/dead-letters", &[("webhook_id", &id)]).await.expect(200);
    let letter = &list["data"][0];
    assert_eq!(
        (&letter["attempts"], &letter["reason"], &letter["state"]),
        (&json!(3), &json!("exhausted"), &json!("dead"))
    );
    assert_eq!((&list["totals"]["letters"], &letter["message_id"]), (&json!(1), &json!(came[0].id())));
    let path = format!("/v1/admin/dead-letters/{}", letter["id"].as_str().expect("an id"));
    let whole = api.get(&path, &[]).await.expect(200);
    assert_eq!(whole["event"], came[0].body);
    let told = until("the growth to be told", async || {
        let events = api.replay("@weir.dead-letters.growing", None).await;
        events.first().cloned()
    })
    .await;
    assert_eq!(told["payload"]["letters"], 1);

    // Twice and at once, and under an idempotency key: one effect.
    let keyed = || {
        api.request(Method::POST, &format!("{path}/redrive")).header("idempotency-key", "k").json(&json!({}))
    };
    let redrive = format!("{path}/redrive");
    let (one, two, three, four) =
        tokio::join!(post(&api, &redrive), post(&api, &redrive), Answer::of(keyed()), post(&api, &redrive));
    for answer in [one, two, three, four] {
        assert!([200, 404].contains(&answer.status), "{}", answer.body);
    }
    receiver.took("the dead one", |taken| taken.iter().any(|one| one.body["payload"] == 0)).await;
    until("the letter to be gone", async || (api.get(&path, &[]).await.status == 404).then_some(())).await;
    let again = receiver.came().iter().filter(|one| one.body["payload"] == 0 && one.taken).count();
    assert_eq!(again, 1);
    let totals = api.get("/v1/admin/dead-letters", &[]).await.expect(200)["totals"].clone();
    assert_eq!((&totals["letters"], &totals["bytes"]), (&json!(0), &json!(0)));
    app.finish().await;
}

#[tokio::test]
async fn what_fails_is_tried_again_and_then_a_dead_letter() {
    retries(TestApp::start_with(&QUICK).await).await;
}

#[tokio::test]
async fn what_fails_is_tried_again_and_then_a_dead_letter_on_a_cluster() {
    retries(cluster(2).await).await;
}

#[tokio::test]
async fn redriven_letters_keep_the_order_of_their_topics() {
    let app = cluster(2).await;
    let tenant = app.tenant().await;
    let (api, receiver) = (app.api(&tenant.api_key), Receiver::start().await);
    let (id, _) = hook(&api, &receiver, json!({ "in_flight": 8 })).await;
    receiver.always(Behaviour::Status(500));
    for n in 0..30 {
        api.publish(&format!("orders.{}", n % 3), &json!({ "n": n })).await;
    }
    until("30 dead letters", async || {
        let totals = api.get("/v1/admin/dead-letters", &[]).await.expect(200)["totals"].clone();
        (totals["letters"] == 30).then_some(())
    })
    .await;
    receiver.always(Behaviour::Slow(Duration::from_millis(10)));
    let wish = json!({ "webhook_id": id });
    let done = api.post("/v1/admin/dead-letters/redrive", &wish).await.expect(200);
    assert_eq!(done, json!({ "redriven": 30, "refused": 0 }));
    let again = api.post("/v1/admin/dead-letters/redrive", &wish).await.expect(200);
    assert_eq!(again["redriven"], 0, "they are on their way");
    let taken = receiver.took("all of them", |taken| payloads(taken).len() == 30).await;
    let mut topics: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for one in payloads(&taken).iter().zip(&taken) {
        topics
            .entry(one.1.body["topic"].to_string())
            .or_default()
            .push(one.0["n"].as_u64().expect("a number"));
    }
    assert_eq!(topics.len(), 3);
    assert!(topics.values().all(|numbers| numbers.is_sorted()), "{topics:?}");
    app.finish().await;
}

async fn disables(start: impl AsyncFn(&[(&str, &str)]) -> TestApp) {
    let mut settings = QUICK.to_vec();
    settings.extend([
        ("WEIR_WEBHOOKS_DISABLE_AFTER", "2s"),
        ("WEIR_WEBHOOKS_RETRIES", "100ms, 100ms, 100ms, 1d"),
    ]);
    let app = start(&settings).await;
    let tenant = app.tenant().await;
    let api = app.api(&tenant.api_key);
    let (gone, failing) = (Receiver::start().await, Receiver::start().await);
    let (first, _) = hook(&api, &gone, json!({ "ordered": true, "name": "gone" })).await;
    gone.always(Behaviour::Status(410));
    api.publish("orders.a", &json!(0)).await;
    let disabled = async |id: &str, reason: &str| {
        until(&format!("{reason} to disable"), async || {
            let read = api.get(&format!("/v1/admin/webhooks/{id}"), &[]).await.expect(200);
            (read["enabled"] == json!(false)).then(|| assert_eq!(read["disabled_reason"], reason))
        })
        .await;
    };
    disabled(&first, "gone").await;
    assert_eq!(gone.came().len(), 1, "it is asked no second time");
    let (second, _) = hook(&api, &failing, json!({ "in_flight": 1 })).await;
    failing.always(Behaviour::Status(500));
    // Something has to be tried while it fails.
    let published = async {
        for n in 0..60 {
            api.publish("orders.b", &json!(n)).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::join!(published, disabled(&second, "failing"));
    let events = until("both to be told", async || {
        let events = api.replay("@weir.webhook.disabled", None).await;
        (events.len() == 2).then_some(events)
    })
    .await;
    let told: Vec<_> = events.iter().map(|event| event["payload"]["webhook_id"].clone()).collect();
    assert_eq!(told, [json!(first), json!(second)]);

    // Enabled, it goes on where it stood: nothing was lost meanwhile.
    gone.always(Behaviour::Status(200));
    api.publish("orders.a", &json!("last")).await;
    post(&api, &format!("/v1/admin/webhooks/{first}/enable")).await.expect(200);
    let taken =
        gone.took("everything", |taken| taken.last().is_some_and(|l| l.body["payload"] == "last")).await;
    let kept = api.replay("orders.>", None).await;
    assert_eq!(payloads(&taken), kept.iter().map(|event| event["payload"].clone()).collect::<Vec<_>>());
    app.finish().await;
}

#[tokio::test]
async fn an_endpoint_that_is_gone_or_fails_for_long_is_sent_nothing_more() {
    disables(async |settings| TestApp::start_with(settings).await).await;
}

#[tokio::test]
async fn an_endpoint_that_is_gone_or_fails_for_long_is_sent_nothing_more_on_a_cluster() {
    disables(async |settings| TestApp::cluster_with(2, Replicas::One, settings).await).await;
}

/// Somebody is told of an endpoint that takes nothing and of what dies of it, and that it is over.
async fn alarms(start: impl AsyncFn(&[(&str, &str)]) -> TestApp) {
    let mut settings = QUICK.to_vec();
    settings.extend([
        ("WEIR_ALERTS_INTERVAL", "100ms"),
        ("WEIR_ALERTS_HOLD", "1s"),
        ("WEIR_ALERTS_WEBHOOK_FAILING", "1s"),
        ("WEIR_ALERTS_DEAD_LETTERS", "3"),
    ]);
    let app = start(&settings).await;
    let tenant = app.tenant().await;
    let (api, receiver) = (app.api(&tenant.api_key), Receiver::start().await);
    let (id, _) = hook(&api, &receiver, json!({})).await;
    receiver.always(Behaviour::Status(500));
    for n in 0..4 {
        api.publish("orders.a", &json!(n)).await;
    }
    let standing = async |condition: &str| {
        let open = api.get("/v1/admin/alerts", &[("state", "open")]).await.expect(200)["data"].clone();
        open.as_array().expect("a list").iter().find(|alert| alert["condition"] == condition).cloned()
    };
    let failing = until("the endpoint to be noticed", async || standing("webhook-failing").await).await;
    assert_eq!((&failing["subject"], &failing["severity"]), (&json!(id), &json!("warning")));
    let dead = until("the dead letters to be noticed", async || standing("dead-letters").await).await;
    assert_eq!((&dead["subject"], &dead["limit"]), (&json!(tenant.tenant_id), &json!("3")));
    let sum = async |name: &str, labels: &[&str]| {
        let mut sum = None;
        for node in &app.nodes {
            if let Some(of) = node.metrics().await.sum(name, labels) {
                sum = Some(sum.unwrap_or(0.0) + of);
            }
        }
        sum
    };
    assert_eq!(sum("weir_dead_letters", &[]).await, Some(4.0), "of the node that has the turn alone");
    assert_eq!(sum("weir_webhook_messages_dead_total", &[]).await, Some(4.0));
    assert_eq!(sum("weir_webhook_attempts_total", &["outcome=\"failed\""]).await, Some(12.0));

    receiver.always(Behaviour::Status(200));
    api.post("/v1/admin/dead-letters/redrive", &json!({ "webhook_id": id })).await.expect(200);
    for condition in ["webhook-failing", "dead-letters"] {
        until("it to be over", async || standing(condition).await.is_none().then_some(())).await;
    }
    assert_eq!(sum("weir_webhook_attempts_total", &["outcome=\"taken\""]).await, Some(4.0));
    app.finish().await;
}

#[tokio::test]
async fn what_endpoints_do_not_take_raises_alerts() {
    alarms(async |settings| TestApp::start_with(settings).await).await;
}

#[tokio::test]
async fn what_endpoints_do_not_take_raises_alerts_on_a_cluster() {
    alarms(async |settings| TestApp::cluster_with(2, Replicas::One, settings).await).await;
}

/// The node that delivers is killed again and again; nothing is lost, and order holds.
#[tokio::test]
async fn another_node_goes_on_where_a_killed_one_stood() {
    let mut app = cluster(2).await;
    let tenant = app.tenant().await;
    let (ordered, any) = (Receiver::start().await, Receiver::start().await);
    for receiver in [&ordered, &any] {
        receiver.always(Behaviour::Slow(Duration::from_millis(3)));
    }
    let api = app.api(&tenant.api_key);
    hook(&api, &ordered, json!({ "ordered": true })).await;
    hook(&api, &any, json!({ "in_flight": 4 })).await;
    let mut published = 0;
    for round in 0..4 {
        let survivor = app.api_at(round + 1, &tenant.api_key);
        for _ in 0..40 {
            survivor.publish(&format!("orders.{}", published % 3), &json!(published)).await;
            published += 1;
        }
        let before = ordered.came().len();
        ordered.took("some of it", |taken| taken.len() >= before.min(1)).await;
        app.nodes[round % 2].kill();
        for _ in 0..10 {
            survivor.publish("orders.k", &json!(published)).await;
            published += 1;
        }
        app.nodes[round % 2].restart().await;
    }
    let expected: Vec<Value> = (0..published).map(|n| json!(n)).collect();
    let taken = ordered.took("everything", |taken| payloads(taken).len() >= expected.len()).await;
    assert_eq!(payloads(&taken), expected, "each at least once, in order");
    let mut others = payloads(&any.took("everything", |taken| payloads(taken).len() >= expected.len()).await);
    others.sort_by_key(Value::as_u64);
    assert_eq!(others, expected);
    assert!((2..=8).contains(&any.most_at_once()), "what need not wait does not: {}", any.most_at_once());
    app.finish().await;
}

/// What is not retained any more is told to the endpoint, then it gets the rest.
#[tokio::test]
async fn what_an_endpoint_does_not_get_is_told_to_it() {
    let app = cluster(2).await;
    let tenant = app.tenant().await;
    let (api, receiver) = (app.api(&tenant.api_key), Receiver::start().await);
    let (id, secret) = hook(&api, &receiver, json!({ "ordered": true })).await;
    for n in 0..3 {
        api.publish("orders.a", &json!(n)).await;
    }
    receiver.took("three events", |taken| taken.len() == 3).await;
    let path = format!("/v1/admin/webhooks/{id}/replay");
    api.post(&path, &json!({ "after": "forged" })).await.refused(400, "INVALID_CURSOR");
    api.post(&path, &json!({})).await.refused(400, "INVALID_REQUEST");
    let kept = api.replay("orders.>", None).await;
    let sequence = |n: usize| kept[n]["sequence"].as_u64().expect("a number");
    let (first, trimmed) = (sequence(0), sequence(1));
    app.trim(&tenant, trimmed).await;
    api.post(&path, &json!({ "from_sequence": first })).await.expect(200);
    let taken = receiver.took("the gap and what is left", |taken| taken.len() == 5).await;
    let gap = &taken[3];
    assert_eq!(gap.body["topic"], "@weir.webhook.gap", "{}", gap.body);
    assert_eq!(gap.body["payload"], json!({ "reason": "expired", "from": first, "to": trimmed }));
    assert_eq!((verify(gap, &secret), &gap.body["id"]), (1, &json!(gap.id())));
    assert_eq!(taken[4].body["payload"], 2);
    let attempts = until("the gap among the attempts", async || {
        let attempts = api.get(&format!("/v1/admin/webhooks/{id}/attempts"), &[]).await.expect(200);
        attempts["data"].as_array()?.iter().find(|one| one["topic"] == "@weir.webhook.gap").cloned()
    });
    assert_eq!(attempts.await["outcome"], "delivered");
    app.finish().await;
}

#[tokio::test]
async fn what_cannot_be_a_webhook_is_refused() {
    let app = TestApp::start().await;
    let tenant = app.tenant().await;
    let api = app.api(&tenant.api_key);
    let ask = async |change: Value| {
        let mut wish = json!({ "url": "https://example.com/", "topics": ["a"] });
        for (name, value) in change.as_object().expect("fields") {
            wish[name] = value.clone();
        }
        api.post("/v1/admin/webhooks", &wish).await
    };
    for (change, field) in [
        (json!({ "url": "http://example.com/" }), "url"),
        (json!({ "url": "https://127.0.0.1/" }), "url"),
        (json!({ "url": "https://169.254.169.254/latest/meta-data" }), "url"),
        (json!({ "url": "https://[::ffff:10.0.0.1]/" }), "url"),
        (json!({ "url": "https://user:secret@example.com/" }), "url"),
        (json!({ "url": "ftp://example.com/" }), "url"),
        (json!({ "url": "nonsense" }), "url"),
        (json!({ "url": format!("https://example.com/{}", "x".repeat(2048)) }), "url"),
        (json!({ "topics": [] }), "topics"),
        (json!({ "topics": vec!["a"; 33] }), "topics"),
        (json!({ "in_flight": 0 }), "in_flight"),
        (json!({ "in_flight": 65 }), "in_flight"),
    ] {
        let answer = ask(change.clone()).await;
        answer.refused(400, "INVALID_REQUEST");
        assert_eq!(answer.body["error"]["details"]["field"], field, "{change}: {}", answer.body);
    }
    for change in [
        json!({ "topics": ["a..b"] }),
        json!({ "name": "\u{7}" }),
        json!({ "unknown": 1 }),
        json!({ "after": "x", "from_sequence": 1 }),
    ] {
        ask(change).await.refused(400, "INVALID_REQUEST");
    }
    ask(json!({ "after": "forged" })).await.refused(400, "INVALID_CURSOR");
    let blind = app.key(&tenant, &[Scope::AdminWrite]).await;
    let wish = json!({ "url": "https://example.com/", "topics": ["a"] });
    let refused = app.api(&blind.api_key).post("/v1/admin/webhooks", &wish).await;
    refused.refused(403, "INSUFFICIENT_SCOPE");

    // A name that leads where nothing may go is found out when it is looked up, and said without its address.
    let made = ask(json!({ "url": "https://localhost:1/" })).await.expect(201);
    let path = format!("/v1/admin/webhooks/{}/test", made["id"].as_str().expect("an id"));
    let ping = post(&api, &path).await.expect(200);
    let failure = ping["failure"].as_str().expect("a failure");
    assert!(failure.contains("no address that may be reached") && !failure.contains("127"), "{failure}");

    // Once, however often it is asked for.
    let keyed =
        || api.request(Method::POST, "/v1/admin/webhooks").header("idempotency-key", "once").json(&wish);
    let (first, second) = (Answer::of(keyed()).await.expect(201), Answer::of(keyed()).await.expect(201));
    assert_eq!(first, second, "the same secret too");
    let list = api.get("/v1/admin/webhooks", &[]).await.expect(200);
    assert_eq!(list["data"].as_array().map(Vec::len), Some(2));
    assert!(!list.to_string().contains("whsec_"), "secrets are told once");

    // A project that is deleted leaves none.
    Answer::of(api.request(Method::DELETE, &format!("/v1/admin/projects/{}", tenant.project_id)))
        .await
        .expect(200);
    assert_eq!(app.webhooks_left(&tenant).await, 0);
    app.finish().await;
}

/// Something else than Weir writes into the stream: it is shown to nobody, counts nowhere, and is kept for who looks.
#[tokio::test]
async fn what_is_no_event_in_the_log_is_a_dead_letter() {
    let app = cluster(1).await;
    let tenant: Tenant = app.tenant().await;
    let api = app.api(&tenant.api_key);
    api.publish("a", &json!(1)).await;
    let subject = format!("events.{}.{}.poison", tenant.tenant_id, tenant.project_id);
    let mut nats = tokio::net::TcpStream::connect(app.nats_address()).await.expect("NATS");
    let text = format!("CONNECT {{\"verbose\":false}}\r\nPUB {subject} 7\r\nno JSON\r\nPING\r\n");
    nats.write_all(text.as_bytes()).await.expect("is sent");
    let mut answer = Vec::new();
    while !answer.windows(4).any(|part| part == b"PONG") {
        assert!(nats.read_buf(&mut answer).await.expect("an answer") > 0);
    }
    api.publish("a", &json!(2)).await;
    let letter = until("the poison", async || {
        let list = api.get("/v1/admin/dead-letters", &[]).await.expect(200);
        list["data"].as_array()?.first().cloned()
    })
    .await;
    assert_eq!(
        (&letter["source"], &letter["reason"], &letter["topic"]),
        (&json!("log"), &json!("undecodable"), &json!("poison"))
    );
    let path = format!("/v1/admin/dead-letters/{}", letter["id"].as_str().expect("an id"));
    assert_eq!(api.get(&path, &[]).await.expect(200)["event"], "no JSON");
    post(&api, &format!("{path}/redrive")).await.refused(409, "CONFLICT");
    let events = api.replay(">", None).await;
    assert_eq!(events.iter().map(|event| event["payload"].clone()).collect::<Vec<_>>(), [json!(1), json!(2)]);
    Answer::of(api.request(Method::DELETE, &path)).await.expect(204);
    api.get(&path, &[]).await.refused(404, "NOT_FOUND");
    app.finish().await;
}

#[tokio::test]
async fn graphql_administers_the_same() {
    let app = TestApp::start_with(&QUICK).await;
    let tenant = app.tenant().await;
    let (api, receiver) = (app.api(&tenant.api_key), Receiver::start().await);
    let ask = async |query: &str, variables: Value| {
        let answer =
            api.post("/graphql", &json!({ "query": query, "variables": variables })).await.expect(200);
        assert_eq!(answer["errors"], Value::Null, "{answer}");
        answer["data"].clone()
    };
    let create =
        "mutation($url: String!) { createWebhook(input: { url: $url, topics: [\"orders.>\"], ordered: true })
        { id secret enabled ordered } }";
    let made = ask(create, json!({ "url": receiver.url() })).await["createWebhook"].clone();
    assert!(made["secret"].as_str().is_some_and(|secret| secret.starts_with("whsec_")), "{made}");
    let id = json!({ "id": made["id"] });
    let test = ask("mutation($id: ID!) { testWebhook(id: $id) { delivered status } }", id.clone()).await;
    assert_eq!(test["testWebhook"], json!({ "delivered": true, "status": 204 }));
    receiver.always(Behaviour::Status(500));
    api.publish("orders.a", &json!("dead")).await;
    let letters = "{ deadLetters { edges { node { id reason attempts topic event } } } }";
    let letter = until("a dead letter", async || {
        let found = ask(letters, json!({})).await["deadLetters"]["edges"][0]["node"].clone();
        (!found.is_null()).then_some(found)
    })
    .await;
    assert_eq!((&letter["attempts"], &letter["event"]), (&json!(3), &Value::Null));
    let of = json!({ "id": letter["id"] });
    let whole = ask("query($id: ID!) { deadLetter(id: $id) { event } }", of.clone()).await;
    assert_eq!(whole["deadLetter"]["event"]["payload"], "dead");
    receiver.always(Behaviour::Status(200));
    let redrive = ask("mutation { redriveDeadLetters { redriven refused } }", json!({})).await;
    assert_eq!(redrive["redriveDeadLetters"], json!({ "redriven": 1, "refused": 0 }));
    receiver.took("the dead one", |taken| taken.iter().any(|one| one.body["payload"] == "dead")).await;
    let change = "mutation($id: ID!) { changeWebhook(id: $id, input: { name: \"new\", enabled: false })
        { name enabled disabled_reason } }";
    let changed = ask(change, id.clone()).await["changeWebhook"].clone();
    assert_eq!(changed, json!({ "name": "new", "enabled": false, "disabled_reason": "asked" }));
    let list = ask("{ webhooks { edges { node { name secret } } } }", json!({})).await;
    assert_eq!(list["webhooks"]["edges"][0]["node"], json!({ "name": "new", "secret": null }));
    ask("mutation($id: ID!) { deleteWebhook(id: $id) { id } }", id).await;
    let list = ask("{ webhooks { edges { node { name } } } }", json!({})).await;
    assert_eq!(list["webhooks"]["edges"], json!([]));
    app.finish().await;
}
