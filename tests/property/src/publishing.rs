//! Properties of publishing.

use crate::generate::{below, crowded, headers, name, payload};
use crate::world::{World, property};
use futures::future::join_all;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::subsequence;
use proptest::test_runner::TestCaseResult;
use reqwest::Method;
use serde_json::{Map, Value, json};
use std::time::Instant;
use weir_core::Scope;
use weir_testkit::{Answer, Tenant};

/// How a publisher shows who it is.
#[derive(Clone, Copy, Debug)]
pub enum Credential {
    Bearer,
    ApiKeyHeader,
    ClientToken,
}

pub fn credential() -> impl Strategy<Value = Credential> {
    prop_oneof![Just(Credential::Bearer), Just(Credential::ApiKeyHeader), Just(Credential::ClientToken)]
}

#[derive(Clone, Debug)]
struct Publish {
    credential: Credential,
    node: usize,
    topic: String,
    payload: Value,
    id: Option<String>,
    kind: Option<String>,
    headers: Map<String, Value>,
}

fn publish() -> impl Strategy<Value = Publish> {
    let optional = (option::of(name()), option::of(name()), headers());
    (credential(), 0..2_usize, below(), payload(), optional).prop_map(
        |(credential, node, topic, payload, (id, kind, headers))| Publish {
            credential,
            node,
            topic,
            payload,
            id,
            kind,
            headers,
        },
    )
}

property!(
    /// Feature: realtime-saas-platform, Property 1: For any valid authentication credentials and event
    /// payload, the REST API should accept the event and return a success response
    authenticated_event_acceptance,
    publish(),
    accepts
);

async fn accepts(world: &mut World, event: Publish) -> TestCaseResult {
    let (tenant, case) = world.fresh();
    let topic = format!("{case}.{}", event.topic);
    let mut body = json!({"topic": topic, "payload": event.payload, "headers": event.headers});
    if let Some(id) = &event.id {
        body["id"] = json!(format!("{case}-{id}"));
    }
    if let Some(kind) = &event.kind {
        body["type"] = json!(kind);
    }
    let api = world.app.nodes[event.node % world.app.nodes.len()].api();
    let request = api.request(Method::POST, "/v1/events").json(&body);
    let request = match event.credential {
        Credential::Bearer => request.bearer_auth(&tenant.api_key),
        Credential::ApiKeyHeader => request.header("x-api-key", &tenant.api_key),
        Credential::ClientToken => request.bearer_auth(tenant.token(&[], &[&format!("{case}.>")])),
    };
    let accepted = Answer::of(request).await.expect(201);
    prop_assert_eq!(&accepted["topic"], &json!(topic));
    prop_assert!(accepted["published_at"].as_str().is_some_and(|time| time.ends_with('Z')));
    if event.id.is_some() {
        prop_assert_eq!(&accepted["id"], &body["id"]);
    }

    // What was accepted is what is kept, word for word, whichever node is asked.
    let mut kept = world.app.api_at(event.node + 1, &tenant.api_key).replay(&format!("{case}.>"), None).await;
    prop_assert_eq!(kept.len(), 1);
    let kept = kept.remove(0);
    for field in ["id", "topic", "sequence", "cursor", "published_at"] {
        prop_assert_eq!(&kept[field], &accepted[field]);
    }
    prop_assert_eq!(&kept["payload"], &body["payload"]);
    prop_assert_eq!(kept.get("type"), body.get("type"));
    prop_assert_eq!(kept.get("headers").cloned().unwrap_or(json!({})), body["headers"].clone());
    Ok(())
}

/// What a field of a payload may hold, as a schema and as a judgement of its own.
#[derive(Clone, Debug)]
struct Field {
    name: String,
    kind: &'static str,
    least: i64,
    required: bool,
}

impl Field {
    fn schema(&self) -> Value {
        match self.kind {
            "integer" => json!({"type": "integer", "minimum": self.least}),
            "string" => json!({"type": "string", "minLength": self.least.max(0)}),
            "array" => json!({"type": "array", "items": {"type": "boolean"}, "minItems": self.least.max(0)}),
            kind => json!({"type": kind}),
        }
    }

    fn fits(&self, value: Option<&Value>) -> bool {
        let least = usize::try_from(self.least).unwrap_or(0);
        match (self.kind, value) {
            (_, None) => !self.required,
            ("integer", Some(value)) => {
                value.as_f64().is_some_and(|n| n.fract() == 0.0 && n >= self.least as f64)
            }
            ("string", Some(value)) => value.as_str().is_some_and(|text| text.chars().count() >= least),
            ("array", Some(value)) => {
                value.as_array().is_some_and(|list| list.len() >= least && list.iter().all(Value::is_boolean))
            }
            ("boolean", Some(value)) => value.is_boolean(),
            (_, Some(value)) => value.is_null(),
        }
    }
}

fn fields() -> impl Strategy<Value = Vec<Field>> {
    let kind = prop_oneof![Just("integer"), Just("string"), Just("array"), Just("boolean"), Just("null")];
    let field = ("[a-d]", kind, -1..3_i64, any::<bool>()).prop_map(|(name, kind, least, required)| Field {
        name,
        kind,
        least,
        required,
    });
    vec(field, 1..4).prop_map(|mut fields| {
        fields.sort_by(|a, b| a.name.cmp(&b.name));
        fields.dedup_by(|a, b| a.name == b.name);
        fields
    })
}

/// Members that often fit a field: small values of every kind.
fn member() -> impl Strategy<Value = Value> {
    prop_oneof![
        3 => (-1..4_i64).prop_map(Value::from),
        3 => "[aé]{0,3}".prop_map(Value::from),
        3 => vec(any::<bool>(), 0..3).prop_map(Value::from),
        2 => any::<bool>().prop_map(Value::from),
        1 => Just(Value::Null),
        1 => payload(),
    ]
}

/// A schema by its fields, whether others are allowed, how its topics are named, and payloads.
type Validated = (Vec<Field>, bool, bool, Vec<Value>);

fn validated() -> impl Strategy<Value = Validated> {
    let object = proptest::collection::btree_map("[a-e]", member(), 0..5)
        .prop_map(|members| Value::Object(members.into_iter().collect()));
    let payloads = vec(prop_oneof![9 => object, 1 => payload()], 1..6);
    (fields(), any::<bool>(), any::<bool>(), payloads)
}

property!(
    /// Feature: realtime-saas-platform, Property 2: For any event published via REST, the system should validate
    /// the payload against the topic schema before acceptance
    payload_validation,
    validated(),
    validates
);

async fn validates(world: &mut World, (fields, open, wild, payloads): Validated) -> TestCaseResult {
    let (tenant, case) = world.fresh();
    let properties: Map<String, Value> =
        fields.iter().map(|field| (field.name.clone(), field.schema())).collect();
    let required: Vec<&str> =
        fields.iter().filter(|field| field.required).map(|field| field.name.as_str()).collect();
    let schema = json!({"type": "object", "properties": properties, "required": required, "additionalProperties": open});
    let named = if wild { format!("{case}.*") } else { format!("{case}.a") };
    let path = format!("/v1/topics/{named}/schema");
    let api = world.app.api(&tenant.api_key);
    let set = Answer::of(api.request(Method::PUT, &path).json(&json!({"schema": schema}))).await.expect(200);
    prop_assert_eq!(&set["enforced"]["nodes"], &json!(world.app.nodes.len()));

    let mut stored = 0;
    for (n, payload) in payloads.iter().enumerate() {
        let known = |name: &String| fields.iter().any(|field| field.name == *name);
        let fits = payload.as_object().is_some_and(|members| {
            fields.iter().all(|field| field.fits(members.get(&field.name)))
                && (open || members.keys().all(known))
        });
        let event = json!({"topic": format!("{case}.a"), "payload": payload});
        let answer = world.app.api_at(n, &tenant.api_key).post("/v1/events", &event).await;
        if fits {
            answer.expect(201);
            stored += 1;
        } else {
            answer.refused(400, "INVALID_EVENT_PAYLOAD");
            let details = &answer.body["error"]["details"];
            prop_assert_eq!(&details["schema"]["pattern"], &json!(named));
            prop_assert!(details["errors"][0]["instance_path"].is_string());
        }
        // Topics that it does not select are free.
        let event = json!({"topic": format!("{case}.a.b"), "payload": payload});
        world.app.api_at(n, &tenant.api_key).post("/v1/events", &event).await.expect(201);
    }
    let kept = world.app.api(&tenant.api_key).replay(&format!("{case}.a"), None).await;
    prop_assert_eq!(kept.len(), stored);
    Answer::of(api.request(Method::DELETE, &path)).await.expect(200);
    Ok(())
}

/// Which tenant publishes on which topic, in their order.
fn interleaving() -> impl Strategy<Value = Vec<(usize, String)>> {
    vec((0..3_usize, crowded()), 1..12)
}

property!(
    /// Feature: realtime-saas-platform, Property 3: For any published event, the system should enforce
    /// tenant and project scoping such that events never leak across tenant boundaries
    tenant_isolation,
    interleaving(),
    isolates
);

async fn isolates(world: &mut World, published: Vec<(usize, String)>) -> TestCaseResult {
    let (_, case) = world.fresh();
    let everything = format!("{case}.>");
    let mut sockets = Vec::new();
    let mut streams = Vec::new();
    for (n, tenant) in world.tenants.iter().enumerate() {
        let mut ws = world.app.ws_at(n, &tenant.api_key).await;
        ws.subscribe(&[&everything], None).await;
        sockets.push(ws);
        streams.push(world.app.sse_at(n + 1, &tenant.api_key, &everything, None).await);
    }
    let mut expected: Vec<Vec<Value>> = vec![Vec::new(); world.tenants.len()];
    for (n, (tenant, topic)) in published.iter().enumerate() {
        // All tenants use the same topics and the same event ids.
        let body =
            json!({"topic": format!("{case}.{topic}"), "payload": tenant, "id": format!("{case}-{n}")});
        let api = world.app.api_at(n, &world.tenants[*tenant].api_key);
        expected[*tenant].push(api.post("/v1/events", &body).await.expect(201)["sequence"].clone());
    }
    for (n, tenant) in world.tenants.iter().enumerate() {
        let api = world.app.api(&tenant.api_key);
        // The last event is the sentinel: had anything leaked, it would have come before.
        expected[n].push(api.publish(&format!("{case}.end"), &json!(n)).await["sequence"].clone());
        for sequence in &expected[n] {
            let (live, streamed) = (sockets[n].event().await, streams[n].event().await);
            for event in [&live, &streamed] {
                prop_assert_eq!(&event["sequence"], sequence);
                prop_assert_eq!(&event["payload"], &json!(n));
            }
        }
        let kept: Vec<Value> =
            api.replay(&everything, None).await.iter().map(|e| e["sequence"].clone()).collect();
        prop_assert_eq!(&kept, &expected[n]);
    }
    // A cursor of one tenant opens nothing at another's.
    let first = &world.tenants[published[0].0];
    let other = &world.tenants[(published[0].0 + 1) % world.tenants.len()];
    let cursor = world.app.api(&first.api_key).replay(&everything, None).await[0]["cursor"].clone();
    let query = [("topics", ">"), ("after", cursor.as_str().unwrap_or_default())];
    world.app.api(&other.api_key).get("/v1/events", &query).await.refused(400, "INVALID_CURSOR");
    for ws in sockets {
        ws.close().await;
    }
    Ok(())
}

/// Scopes without the one that publishes, and a body that would be accepted.
fn without_publish() -> impl Strategy<Value = (Vec<Scope>, String, Value)> {
    let others: Vec<Scope> = Scope::ALL.into_iter().filter(|scope| *scope != Scope::EventsPublish).collect();
    (subsequence(others, 1..=4), below(), payload())
}

property!(
    /// Feature: realtime-saas-platform, Property 4: For any API key lacking publish permissions, the system
    /// should reject requests with appropriate error codes
    permission_based_rejection,
    without_publish(),
    rejects
);

async fn rejects(world: &mut World, (scopes, topic, payload): (Vec<Scope>, String, Value)) -> TestCaseResult {
    let (tenant, case) = world.fresh();
    let key = world.app.key(tenant, &scopes).await.api_key;
    let event = json!({"topic": format!("{case}.{topic}"), "payload": payload});
    let api = world.app.api(&key);
    let refused = api.post("/v1/events", &event).await;
    refused.refused(403, "INSUFFICIENT_SCOPE");
    prop_assert!(
        refused.body["error"]["message"].as_str().is_some_and(|text| text.contains("events:publish"))
    );
    let batch = api.post("/v1/events/batch", &json!({"events": [event]})).await;
    match batch.status {
        403 => batch.refused(403, "INSUFFICIENT_SCOPE"),
        _ => prop_assert_eq!(&batch.expect(207)["results"][0]["error"]["code"], "INSUFFICIENT_SCOPE"),
    }
    let mut frame = event.clone();
    frame["type"] = json!("publish");
    if scopes.contains(&Scope::EventsSubscribe) {
        let mut ws = world.app.ws(&key).await;
        prop_assert_eq!(&ws.ask(frame).await["error"]["code"], "INSUFFICIENT_SCOPE");
        ws.close().await;
    }
    // Nothing was stored.
    prop_assert_eq!(stored(world, tenant, &case).await, 0);
    Ok(())
}

async fn stored(world: &World, tenant: &Tenant, case: &str) -> usize {
    world.app.api(&tenant.api_key).replay(&format!("{case}.>"), None).await.len()
}

/// Requests per second of a key, how many requests more than that come at once, and where.
fn burst() -> impl Strategy<Value = (u32, usize, usize)> {
    (1..=20_u32, 1..=20_usize, 0..2_usize)
}

property!(
    /// Feature: realtime-saas-platform, Property 5: For any request burst exceeding rate limits, the system
    /// should throttle requests and return proper rate limit headers
    rate_limiting,
    burst(),
    throttles
);

async fn throttles(world: &mut World, (rate, more, node): (u32, usize, usize)) -> TestCaseResult {
    let (tenant, case) = world.fresh();
    let admin = world.app.api(&tenant.api_key);
    let wish = json!({"name": case, "scopes": ["events:publish"], "rate_limit_per_sec": rate});
    let key = admin.post("/v1/admin/keys", &wish).await.expect(201)["api_key"].clone();
    let api = world.app.api_at(node, key.as_str().unwrap_or_default());
    let topic = format!("{case}.x");
    let begun = Instant::now();
    let requests = (0..rate as usize + more).map(|n| {
        let (api, event) = (api.clone(), json!({"topic": topic, "payload": n}));
        async move { api.post("/v1/events", &event).await }
    });
    let answers = join_all(requests).await;
    let refilled = f64::from(rate) * begun.elapsed().as_secs_f64();
    let number = |answer: &Answer, name| answer.header(name).and_then(|text| text.parse::<u32>().ok());
    let mut accepted = 0;
    for answer in &answers {
        prop_assert_eq!(number(answer, "ratelimit-limit"), Some(rate));
        prop_assert!(number(answer, "ratelimit-remaining").is_some_and(|left| left < rate));
        prop_assert!(number(answer, "ratelimit-reset").is_some_and(|seconds| seconds <= 1));
        if answer.status == 201 {
            accepted += 1;
            continue;
        }
        answer.refused(429, "RATE_LIMIT_EXCEEDED");
        prop_assert!(number(answer, "retry-after").is_some_and(|seconds| seconds >= 1));
    }
    // The burst at once, and what the time gave back meanwhile; not one more.
    prop_assert!(accepted >= (rate as usize).min(answers.len()), "{} of {} were accepted", accepted, rate);
    prop_assert!(accepted as f64 <= f64::from(rate) + refilled, "{} at {} per second", accepted, rate);
    prop_assert_eq!(stored(world, tenant, &case).await, accepted);
    Ok(())
}
