//! Properties of billing and usage.

use crate::generate::crowded;
use crate::world::{World, property};
use futures::future::join_all;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestCaseResult};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use weir_testkit::{Tenant, TestApp, Ws, until};

/// How long after it happened use may not be told yet: two seconds, and the patience that a loaded machine asks for.
const PATIENCE: Duration = Duration::from_secs(20);

/// One case: who publishes what where, and who listens.
#[derive(Clone, Debug)]
struct Traffic {
    tenant: usize,
    /// Node, topic, and the publisher's id, where it names one: some repeat.
    events: Vec<(usize, String, Option<u8>)>,
    /// Nodes at which somebody follows everything.
    listeners: Vec<usize>,
}

fn traffic() -> impl Strategy<Value = Traffic> {
    let id = proptest::option::weighted(0.3, 0..3_u8);
    let events = vec((0..2_usize, crowded(), id), 1..12);
    (0..2_usize, events, vec(0..2_usize, 0..3)).prop_map(|(tenant, events, listeners)| Traffic {
        tenant,
        events,
        listeners,
    })
}

/// What each project should have been metered for so far, by project and metric: every case adds to it.
static EXPECTED: Mutex<Option<HashMap<(String, &str), u64>>> = Mutex::new(None);

/// Adds to what is expected of a project; returns the sum.
fn expect(tenant: &Tenant, metric: &'static str, quantity: u64) -> u64 {
    let mut expected = EXPECTED.lock().unwrap_or_else(PoisonError::into_inner);
    let sum = expected.get_or_insert_default().entry((tenant.project_id.clone(), metric)).or_default();
    *sum = sum.wrapping_add(quantity);
    *sum
}

/// The sum of a metric over the last hours: of the project, and of its tenant, which has only that one.
async fn metered(app: &TestApp, tenant: &Tenant, metric: &str) -> u64 {
    let api = app.api(&tenant.api_key);
    let sum = async |query: &[(&str, &str)]| {
        // A loaded machine may hold a node up for so long that it refuses requests for a moment.
        let lines = until("usage to be told", async || {
            let answer = api.get("/v1/billing/usage", query).await;
            (answer.status != 503).then_some(answer)
        });
        let lines = lines.await.expect(200);
        let lines = lines["data"].as_array().expect("lines").clone();
        lines.iter().map(|line| line["quantity"].as_u64().expect("a number")).sum::<u64>()
    };
    let of_tenant = [("metric", metric), ("window", "hour")];
    let of_project = [of_tenant[0], of_tenant[1], ("project_id", &tenant.project_id)];
    let (project, whole) = (sum(&of_project).await, sum(&of_tenant).await);
    // Read one after the other: the second may know more, never less.
    assert!(whole >= project, "{whole} of the tenant, {project} of its project");
    project
}

/// Waits until a metric is what it must be. It is never more, not even for a moment.
async fn settles(app: &TestApp, tenant: &Tenant, metric: &'static str, expected: u64) -> TestCaseResult {
    let begun = Instant::now();
    loop {
        let found = metered(app, tenant, metric).await;
        prop_assert!(found <= expected, "{found} {metric}, and only {expected} happened");
        if found == expected {
            return Ok(());
        }
        prop_assert!(begun.elapsed() < PATIENCE, "{found} of {expected} {metric} after {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

property!(
    /// Feature: realtime-saas-platform, Property 19: For any event published or delivered, usage metrics should
    /// be accurately tracked per tenant and project
    usage_tracking_accuracy,
    traffic(),
    tracks
);

async fn tracks(world: &mut World, traffic: Traffic) -> TestCaseResult {
    let outcome = tracks_once(world, traffic).await;
    if outcome.is_err() {
        // The simpler cases that are tried next begin with what is there.
        for tenant in &world.tenants[..2] {
            tokio::time::sleep(Duration::from_secs(3)).await;
            for metric in ["events_published", "events_delivered"] {
                let (found, expected) =
                    (metered(&world.app, tenant, metric).await, expect(tenant, metric, 0));
                expect(tenant, metric, found.wrapping_sub(expected));
            }
        }
    }
    outcome
}

async fn tracks_once(world: &mut World, traffic: Traffic) -> TestCaseResult {
    let (_, case) = world.fresh();
    let app = &world.app;
    let (tenant, other) = (&world.tenants[traffic.tenant], &world.tenants[1 - traffic.tenant]);
    let mut listeners: Vec<Ws> = Vec::new();
    for node in &traffic.listeners {
        let mut ws = app.ws_at(*node, &tenant.api_key).await;
        ws.subscribe(&[&format!("{case}.>")], None).await;
        listeners.push(ws);
    }
    let mut sequences = HashSet::new();
    for (number, (node, topic, id)) in traffic.events.iter().enumerate() {
        // An id of its own where none is named, so that it can be sent again.
        let id_or_own = id.map_or_else(|| format!("{case}-own-{number}"), |id| format!("{case}-{id}"));
        let event = json!({"topic": format!("{case}.{topic}"), "payload": 1, "id": id_or_own});
        let answer = until("the event to be answered", async || {
            let answer = app.api_at(*node, &tenant.api_key).post("/v1/events", &event).await;
            (answer.status != 503).then_some(answer)
        })
        .await;
        // Another topic under the same id is a conflict, the same again has the place of the first: neither is published.
        prop_assert!(answer.status == 201 || (answer.status == 409 && id.is_some()), "{}", answer.body);
        sequences.extend(answer.body["sequence"].as_u64());
    }
    let accepted = sequences.len() as u64;
    for ws in &mut listeners {
        for _ in 0..accepted {
            ws.event().await;
        }
    }
    let delivered = accepted * listeners.len() as u64;
    let published = expect(tenant, "events_published", accepted);
    let delivered = expect(tenant, "events_delivered", delivered);
    settles(app, tenant, "events_published", published).await?;
    settles(app, tenant, "events_delivered", delivered).await?;
    // Nobody else pays for it.
    settles(app, other, "events_published", expect(other, "events_published", 0)).await?;
    settles(app, other, "events_delivered", expect(other, "events_delivered", 0)).await?;
    for ws in listeners {
        ws.close().await;
    }
    Ok(())
}

/// One case: a limit, who tries how much where at once, and by how much the limit is raised afterwards.
#[derive(Clone, Debug)]
struct Rush {
    limit: usize,
    /// Node, number of events, whether in one batch.
    attempts: Vec<(usize, usize, bool)>,
    raised_by: usize,
}

fn rush() -> impl Strategy<Value = Rush> {
    let attempts = vec((0..2_usize, 1..12_usize, any::<bool>()), 1..8);
    (0..40_usize, attempts, 0..6_usize).prop_map(|(limit, attempts, raised_by)| Rush {
        limit,
        attempts,
        raised_by,
    })
}

property!(
    /// Feature: realtime-saas-platform, Property 21: For any tenant exceeding plan limits, the system should
    /// enforce hard limits and prevent further usage
    hard_limits,
    rush(),
    limits_hold
);

async fn limits_hold(world: &mut World, Rush { limit, attempts, raised_by }: Rush) -> TestCaseResult {
    // Of its own, as what one case uses up is used up for the period; with a limit from the beginning.
    let tenant = world.app.tenant_with(&["--plan", "free"]).await;
    world.app.set_limits(&tenant, &json!({"monthly_events": limit})).await;
    let tried: usize = attempts.iter().map(|(_, count, _)| count).sum();
    let rushed = join_all(attempts.iter().map(|attempt| publish(world, &tenant, *attempt, limit)));
    let mut accepted = 0;
    for one in rushed.await {
        accepted += one?;
    }
    prop_assert_eq!(accepted, tried.min(limit), "of {} with a limit of {}", tried, limit);
    // The moment that more is allowed exactly so much more is accepted, and nothing before is counted again.
    let raised = limit + raised_by;
    world.app.set_limits(&tenant, &json!({"monthly_events": raised})).await;
    let rest = raised - accepted;
    let more = publish(world, &tenant, (attempts[0].0 + 1, rest + 3, true), raised).await?;
    prop_assert_eq!(more, rest);
    let kept = world.app.api(&tenant.api_key).replay("t", None).await;
    prop_assert_eq!(
        kept.len(),
        limit + raised_by,
        "what was refused is not in the log, what was accepted is"
    );
    Ok(())
}

/// Publishes so many events at a node, as one batch or one by one; how many were accepted.
async fn publish(
    world: &World,
    tenant: &Tenant,
    (node, count, batch): (usize, usize, bool),
    limit: usize,
) -> Result<usize, TestCaseError> {
    let api = world.app.api_at(node, &tenant.api_key);
    let event = json!({"topic": "t", "payload": node});
    let answers = if batch {
        let answer = api.post("/v1/events/batch", &json!({"events": vec![event; count]})).await;
        prop_assert!(matches!(answer.status, 201 | 207), "{:?}", answer);
        answer.body["results"].as_array().cloned().unwrap_or_default()
    } else {
        let mut answers = Vec::new();
        for _ in 0..count {
            answers.push(api.post("/v1/events", &event).await.body);
        }
        answers
    };
    prop_assert_eq!(answers.len(), count);
    let refused: Vec<&Value> = answers.iter().filter_map(|answer| answer.get("error")).collect();
    for error in &refused {
        prop_assert_eq!(&error["code"], "PROJECT_LIMIT_EXCEEDED");
        prop_assert_eq!(&error["details"]["limit"], &json!(limit));
    }
    Ok(count - refused.len())
}
