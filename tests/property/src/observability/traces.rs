//! Traces, as a real collector receives them.

use crate::generate::{below, payload};
use crate::world::{Backend, World, hold_with, text};
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU32, Ordering};
use weir_testkit::{Answer, CollectedSpan, Collector, Tenant};

/// The ways to publish.
#[derive(Clone, Copy, Debug)]
enum Way {
    Rest,
    Batch,
    CloudEvent,
    WebSocket,
    Graphql,
    GraphqlSocket,
}

/// What a request asks for that publishes nothing.
#[derive(Clone, Copy, Debug)]
enum Asked {
    Replay,
    Topics,
    Keys,
    Ticket,
    Usage,
    Missing,
    Nothing,
    Stranger,
}

#[derive(Clone, Debug)]
enum Operation {
    Publish { way: Way, topic: String, payload: Value },
    Other(Asked),
}

/// Whether the client traces, and records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Client {
    Silent,
    Records,
    Passes,
}

#[derive(Clone, Debug)]
struct Case {
    operation: Operation,
    client: Client,
    trace: u128,
    span: u64,
    state: bool,
    node: usize,
}

fn case() -> impl Strategy<Value = Case> {
    use Asked::{Keys, Missing, Nothing, Replay, Stranger, Ticket, Topics, Usage};
    let way = proptest::sample::select(vec![
        Way::Rest,
        Way::Batch,
        Way::CloudEvent,
        Way::WebSocket,
        Way::Graphql,
        Way::GraphqlSocket,
    ]);
    let publish = (way, below(), payload());
    let publish = publish.prop_map(|(way, topic, payload)| Operation::Publish { way, topic, payload });
    let other = vec![Replay, Topics, Keys, Ticket, Usage, Missing, Nothing, Stranger];
    let other = proptest::sample::select(other).prop_map(Operation::Other);
    let client = proptest::sample::select(vec![Client::Silent, Client::Records, Client::Passes]);
    let ids = (any::<u128>(), 1..=u64::MAX, any::<bool>());
    (prop_oneof![2 => publish, 1 => other], client, ids, 0..2_usize).prop_map(
        // The first digits are not zero: what is shortened shows.
        |(operation, client, (trace, span, state), node)| Case {
            operation,
            client,
            trace: trace | 1 << 127,
            span,
            state,
            node,
        },
    )
}

impl Case {
    fn traceparent(&self) -> Option<String> {
        let flags = match self.client {
            Client::Silent => return None,
            Client::Records => "01",
            Client::Passes => "00",
        };
        Some(format!("00-{:032x}-{:016x}-{flags}", self.trace, self.span))
    }

    fn tracestate(&self) -> Option<&'static str> {
        (self.client != Client::Silent && self.state).then_some("vendor=a:1,other=2")
    }

    fn on(&self, mut request: RequestBuilder) -> RequestBuilder {
        if let Some(parent) = self.traceparent() {
            request = request.header("traceparent", parent);
        }
        if let Some(state) = self.tracestate() {
            request = request.header("tracestate", state);
        }
        request
    }

    /// The fields of a message that has no headers.
    fn in_message(&self, mut message: Value) -> Value {
        if let Some(parent) = self.traceparent() {
            message["traceparent"] = json!(parent);
        }
        if let Some(state) = self.tracestate() {
            message["tracestate"] = json!(state);
        }
        message
    }

    /// The id of the span that the client's request is a child of.
    fn parent(&self) -> String {
        if self.client == Client::Silent { String::new() } else { format!("{:016x}", self.span) }
    }
}

/// Feature: realtime-saas-platform, Property 26: For any system operation, structured traces should be
/// emitted via OpenTelemetry
mod opentelemetry_trace_emission {
    use super::*;

    fn holds(backend: Backend) {
        let collector = Collector::start();
        let settings = collector.settings();
        let settings: Vec<(&str, &str)> = settings.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        hold_with(backend, file!(), &settings, &case(), async |world: &mut World, case: Case| {
            emits(world, &collector, &case).await
        });
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

async fn emits(world: &World, collector: &Collector, case: &Case) -> TestCaseResult {
    // While a failure is made smaller the same case comes again, and must not find its own spans.
    static RUN: AtomicU32 = AtomicU32::new(0);
    let run = u128::from(RUN.fetch_add(1, Ordering::Relaxed));
    let case = &Case { trace: case.trace ^ run << 64, ..case.clone() };
    match &case.operation {
        Operation::Publish { way, topic, payload } => {
            publishes(world, collector, case, *way, topic, payload).await
        }
        Operation::Other(asked) => asks(world, collector, case, *asked).await,
    }
}

/// One publish can be followed from the request to the fan-out of every node.
async fn publishes(
    world: &World,
    collector: &Collector,
    case: &Case,
    way: Way,
    below: &str,
    payload: &Value,
) -> TestCaseResult {
    let (tenant, name) = world.fresh();
    let topic = format!("{name}.{below}");
    let nodes = world.app.nodes.len();
    let mut subscribers = Vec::new();
    for node in 0..nodes {
        subscribers.push(world.app.sse_at(node, &tenant.api_key, &format!("{name}.>"), None).await);
    }
    let server = publish(world, case, way, tenant, (&topic, payload)).await;
    let mut events = Vec::new();
    for subscriber in &mut subscribers {
        events.push(subscriber.event().await);
    }
    let event = &events[0];
    // The same for everybody, the trace's place included.
    prop_assert!(events.iter().all(|other| other == event));
    let carried = text(&event["headers"]["traceparent"]);
    prop_assert_eq!(event["headers"]["tracestate"].as_str(), case.tracestate());
    let given = case.traceparent();
    if case.client == Client::Passes {
        prop_assert_eq!(Some(carried), given);
        return nothing_of(world, collector, tenant, &format!("{:032x}", case.trace)).await;
    }
    let (trace, span) = (carried[3..35].to_owned(), carried[36..52].to_owned());
    prop_assert!(carried.ends_with("-01"));
    if case.client == Client::Records {
        prop_assert_eq!(&trace, &format!("{:032x}", case.trace));
    }

    let all = |spans: &[CollectedSpan]| {
        let one = |kind: &str| spans.iter().find(|span| span.kind == kind).cloned();
        let append = spans.iter().find(|span| span.name.starts_with("append ")).cloned();
        let of_this = |span: &&CollectedSpan| {
            span.kind == "CONSUMER" && span.number("weir.sequence") == event["sequence"].as_i64()
        };
        let fanned: Vec<CollectedSpan> = spans.iter().filter(of_this).cloned().collect();
        let enough = fanned.len() >= nodes;
        Some((one("SERVER")?, one("PRODUCER")?, append?, fanned)).filter(|_| enough)
    };
    let (request, published, append, fanned) = collector.until(&trace, "the spans of a publish", all).await;
    prop_assert_eq!((&request.name, &request.parent), (&server, &case.parent()));
    prop_assert_eq!(request.text("weir.tenant"), &tenant.tenant_id);
    prop_assert_eq!((&published.id, &published.parent), (&span, &request.id));
    prop_assert_eq!(&append.parent, &published.id);
    prop_assert_eq!(&published.status, "UNSET");
    if matches!(way, Way::Batch) {
        prop_assert_eq!(published.number("messaging.batch.message_count"), Some(2));
    } else {
        prop_assert_eq!(published.text("messaging.destination.name"), &topic);
        prop_assert_eq!(published.text("messaging.message.id"), event["id"].as_str().unwrap_or_default());
        prop_assert_eq!(published.number("weir.sequence"), event["sequence"].as_i64());
    }
    let mut where_to: Vec<&str> = fanned.iter().map(|span| span.text("weir.node")).collect();
    where_to.sort_unstable();
    where_to.dedup();
    // One for each node, however many subscribers it has.
    prop_assert_eq!((fanned.len(), where_to.len()), (nodes, nodes));
    for span in &fanned {
        prop_assert_eq!(&span.parent, &published.id);
        prop_assert_eq!(&span.links, &[(trace.clone(), published.id.clone())]);
        prop_assert_eq!(span.text("messaging.destination.name"), &topic);
    }
    prop_assert_eq!(request.state.as_str(), case.tracestate().unwrap_or_default());
    Ok(())
}

/// Publishes; the name of the request's span.
async fn publish(
    world: &World,
    case: &Case,
    way: Way,
    tenant: &Tenant,
    (topic, payload): (&str, &Value),
) -> String {
    const MUTATION: &str = "mutation($input: EventInput!) { publishEvent(input: $input) { id } }";
    let api = world.app.api_at(case.node, &tenant.api_key);
    let event = json!({"topic": topic, "payload": payload});
    let post = |path: &str, body: &Value| case.on(api.request(Method::POST, path)).json(body);
    let mutation = json!({"query": MUTATION, "variables": {"input": event}});
    match way {
        Way::Rest => {
            Answer::of(post("/v1/events", &event)).await.expect(201);
            "POST /v1/events".into()
        }
        Way::Batch => {
            // Another topic, which nobody watches.
            let batch = json!({"events": [event, {"topic": "elsewhere", "payload": 1}]});
            Answer::of(post("/v1/events/batch", &batch)).await.expect(201);
            "POST /v1/events/batch".into()
        }
        Way::CloudEvent => {
            let request = case.on(api.request(Method::POST, "/v1/events"));
            let attributes = [
                ("specversion", "1.0"),
                ("id", topic),
                ("source", "/p26"),
                ("type", "t"),
                ("subject", topic),
            ];
            let request = attributes.iter().fold(request, |request, (name, value)| {
                request.header(format!("ce-{name}"), value.replace('%', "%25"))
            });
            Answer::of(request.json(payload)).await.expect(201);
            "POST /v1/events".into()
        }
        Way::WebSocket => {
            let mut ws = world.app.ws_at(case.node, &tenant.api_key).await;
            let frame = json!({"type": "publish", "topic": topic, "payload": payload});
            let answer = ws.ask(case.in_message(frame)).await;
            assert_eq!(answer["type"], "published", "{answer}");
            ws.close().await;
            "ws publish".into()
        }
        Way::Graphql => {
            let answer = Answer::of(post("/v1/graphql", &mutation)).await.expect(200);
            assert!(answer["errors"].is_null(), "{answer}");
            "POST /v1/graphql".into()
        }
        Way::GraphqlSocket => {
            let mut socket = world.app.graphql_at(case.node, &tenant.api_key).await;
            let mut operation = mutation;
            operation["extensions"] = case.in_message(json!({}));
            socket.0.send(&json!({"id": "1", "type": "subscribe", "payload": operation})).await;
            let answer = socket.expect("next", "1").await;
            assert!(answer["errors"].is_null(), "{answer}");
            socket.0.close().await;
            "graphql mutation".into()
        }
    }
}

/// Whatever is asked, and however it ends, has a span that says so.
async fn asks(world: &World, collector: &Collector, case: &Case, asked: Asked) -> TestCaseResult {
    let (tenant, name) = world.fresh();
    let api = world
        .app
        .api_at(case.node, if matches!(asked, Asked::Stranger) { "weir_x" } else { &tenant.api_key });
    let (request, span) = match asked {
        Asked::Replay => (api.request(Method::GET, "/v1/events?topics=a.*"), "GET /v1/events"),
        Asked::Topics => (api.request(Method::GET, "/topics"), "GET /topics"),
        Asked::Keys => (api.request(Method::GET, "/v1/admin/keys"), "GET /v1/admin/keys"),
        Asked::Usage => (api.request(Method::GET, "/v1/billing/usage"), "GET /v1/billing/usage"),
        Asked::Ticket => (api.request(Method::POST, "/v1/tickets").json(&json!({})), "POST /v1/tickets"),
        Asked::Missing => (api.request(Method::GET, "/v1/admin/keys/key_nothing"), "GET /v1/admin/keys/{id}"),
        Asked::Nothing => (api.request(Method::GET, "/nothing/of/that?token=secret"), "GET"),
        Asked::Stranger => (api.request(Method::GET, "/v1/topics"), "GET /v1/topics"),
    };
    let id = format!("p26-{:?}-{name}", world.backend).to_lowercase();
    let answer = Answer::of(case.on(request).header("x-request-id", &id)).await;
    if case.client == Client::Passes {
        return nothing_of(world, collector, tenant, &format!("{:032x}", case.trace)).await;
    }
    let found = weir_testkit::until("the span of a request", async || {
        collector.find(|span| span.kind == "SERVER" && span.text("weir.request_id") == id).pop()
    })
    .await;
    prop_assert_eq!((found.name.as_str(), &found.parent), (span, &case.parent()));
    prop_assert_eq!(found.number("http.response.status_code"), Some(i64::from(answer.status)));
    let failed = answer.status >= 400;
    prop_assert_eq!(found.text("error.type"), if failed { answer.status.to_string() } else { String::new() });
    prop_assert!(found.attributes.values().all(|value| !value.contains("secret")));
    if case.client == Client::Records {
        prop_assert_eq!(found.trace, format!("{:032x}", case.trace));
    }
    Ok(())
}

/// A trace that its beginner does not record has no spans here either. What is asked of each node afterwards arrives after
/// what went before.
async fn nothing_of(world: &World, collector: &Collector, tenant: &Tenant, trace: &str) -> TestCaseResult {
    for node in 0..world.app.nodes.len() {
        let (_, marker) = world.fresh();
        let id = format!("p26-after-{:?}-{marker}", world.backend).to_lowercase();
        let request = world.app.api_at(node, &tenant.api_key).request(Method::GET, "/v1/topics");
        Answer::of(request.header("x-request-id", &id)).await.expect(200);
        weir_testkit::until("the span of a request", async || {
            collector.find(|span| span.text("weir.request_id") == id).pop()
        })
        .await;
    }
    prop_assert_eq!(collector.trace(trace), []);
    Ok(())
}
