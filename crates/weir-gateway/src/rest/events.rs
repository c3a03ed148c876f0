//! `POST /v1/events` and `POST /v1/events/batch`.

use super::{cloudevents, invalid};
use crate::error::{ErrorBody, ErrorObject, Failure, object};
use crate::extract::{self, Authenticated, RawBody, json, require_json};
use crate::middleware::RateHeaders;
use crate::scene;
use crate::state::Gateway;
use axum::Extension;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::ToSchema;
use weir_core::event::Headers;
use weir_core::{Code, EventId, NewEvent, Payload};
use weir_engine::{Error, Published};

/// An event to publish.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PublishRequest<'a> {
    /// Where: 1 to 8 tokens of `A-Z a-z 0-9 _ - = @ , ; :` joined by dots, at most 200 bytes.
    #[schema(example = "orders.created")]
    topic: String,
    /// What: any JSON value.
    #[serde(borrow)]
    #[schema(value_type = Value, example = json!({"order": 42}))]
    payload: &'a RawValue,
    /// Your own id, 1 to 128 printable ASCII characters. Publishing the same event with it again within
    /// the dedupe window adds nothing and gives the first answer.
    id: Option<String>,
    /// What kind of event it is, in your words.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// Pairs that travel with the event.
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

impl PublishRequest<'_> {
    pub(crate) fn into_event(self) -> Result<NewEvent, Error> {
        Ok(NewEvent {
            id: self.id.map(|id| id.parse()).transpose()?,
            topic: self.topic.parse()?,
            payload: Payload::from_raw(self.payload)?,
            kind: self.kind.map(|kind| kind.parse()).transpose()?,
            headers: Headers::new(self.headers.into_iter().collect())?,
        })
    }
}

/// Several events to publish.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BatchRequest<'a> {
    /// 1 to 100 of them, stored in this order. One that is not as documented does not spoil the others.
    #[serde(borrow)]
    #[schema(value_type = Vec<PublishRequest>)]
    events: Vec<&'a RawValue>,
}

/// The place that an event was given.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PublishedBody {
    /// Yours, or the one it was given.
    #[schema(value_type = String, example = "evt_0190f5d2a6b07c3e8f4b1d2c3a495867")]
    id: EventId,
    /// Where it was published.
    topic: String,
    /// Its place in the project's order.
    sequence: u64,
    /// Resume after it with this, on any transport.
    cursor: String,
    /// When it was accepted.
    #[schema(value_type = String, format = DateTime)]
    published_at: weir_core::Timestamp,
}

impl From<Published> for PublishedBody {
    fn from(published: Published) -> Self {
        Self {
            id: published.id,
            topic: published.topic.to_string(),
            sequence: published.sequence,
            cursor: published.cursor,
            published_at: published.published_at,
        }
    }
}

/// What became of one event of a batch.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum BatchResult {
    /// It is stored.
    Published(PublishedBody),
    /// It was refused.
    Refused {
        /// Why.
        error: ErrorObject,
    },
}

/// What became of the events of a batch.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BatchResponse {
    /// One for each event, in their order.
    results: Vec<BatchResult>,
}

/// Publish one event.
///
/// The answer comes when the event is durable. Also takes CloudEvents 1.0: structured (`application/cloudevents+json`), and
/// binary, where attributes stand in `ce-…` headers and the body is the data: JSON, or text of any other type.
#[utoipa::path(post, path = "/v1/events", tag = "events",
    request_body(content((PublishRequest = "application/json"), (cloudevents::CloudEvent = "application/cloudevents+json"),
        (String = "text/plain", example = "An order came in."))),
    params(("Idempotency-Key" = Option<String>, Header, description = "Taken as the event's id when it has none"),
        ("ce-specversion" = Option<String>, Header, description = "`1.0` makes the request a CloudEvent in binary mode: the body is its data"),
        ("ce-id" = Option<String>, Header, description = "Binary mode: needed; the event's id is `<source>#<id>`"),
        ("ce-source" = Option<String>, Header, description = "Binary mode: needed; where it happened"),
        ("ce-type" = Option<String>, Header, description = "Binary mode: needed; what kind of event it is"),
        ("ce-subject" = Option<String>, Header, description = "Binary mode: needed; the topic. Further `ce-…` headers are kept, too")),
    responses((status = 201, body = PublishedBody), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 409, body = ErrorBody), (status = 413, body = ErrorBody),
        (status = 415, body = ErrorBody), (status = 429, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn publish(
    State(gateway): State<Arc<Gateway>>,
    auth: Authenticated,
    body: RawBody,
) -> Result<Response, Failure> {
    let event = read_event(&body).map_err(|error| auth.fail(error))?;
    let published = gateway
        .engine
        .publish_from(&scene::origin(), &auth.caller, event)
        .await
        .map_err(|error| auth.fail(error))?;
    let replayed = published.duplicate;
    let mut response = (StatusCode::CREATED, Json(PublishedBody::from(published))).into_response();
    if replayed {
        // As Stripe's API marks a repeated answer.
        let name = HeaderName::from_static("idempotent-replayed");
        response.headers_mut().insert(name, HeaderValue::from_static("true"));
    }
    Ok(response)
}

fn read_event(body: &RawBody) -> Result<NewEvent, Error> {
    let mut event = match cloudevents::mode(&body.headers) {
        Some(mode) => cloudevents::read(mode, &body.headers, &body.bytes)?,
        None => {
            require_json(&body.headers)?;
            json::<PublishRequest>(&body.bytes)?.into_event()?
        }
    };
    if event.id.is_none() {
        event.id = idempotency_key(&body.headers, None)?;
    }
    Ok(event)
}

/// The id that `Idempotency-Key` gives to an event, or to the `index`-th of a batch.
fn idempotency_key(headers: &HeaderMap, index: Option<usize>) -> Result<Option<EventId>, Error> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let text = value.to_str().unwrap_or("");
    let id = index.map_or_else(|| text.to_owned(), |index| format!("{text}:{index}"));
    let id = id.parse().map_err(|error| invalid("Idempotency-Key", &format!("cannot be used: {error}")))?;
    Ok(Some(id))
}

/// Publish up to 100 events.
///
/// They are stored in their order and judged one by one: 201 when all were accepted, 207 when some were
/// refused.
#[utoipa::path(post, path = "/v1/events/batch", tag = "events", request_body = BatchRequest,
    responses((status = 201, body = BatchResponse), (status = 207, body = BatchResponse), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 413, body = ErrorBody), (status = 415, body = ErrorBody),
        (status = 429, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn publish_batch(
    State(gateway): State<Arc<Gateway>>,
    auth: Authenticated,
    Extension(rate): Extension<RateHeaders>,
    body: RawBody,
) -> Result<Response, Failure> {
    let (events, mut results) =
        read_batch(&gateway, &auth, &rate, &body).map_err(|error| auth.fail(error))?;
    let (places, events): (Vec<usize>, Vec<NewEvent>) = events.into_iter().unzip();
    let outcomes = gateway
        .engine
        .publish_batch_from(&scene::origin(), &auth.caller, events)
        .await
        .map_err(|error| auth.fail(error))?;
    for (place, outcome) in places.into_iter().zip(outcomes) {
        results[place] = Some(match outcome {
            Ok(published) => BatchResult::Published(published.into()),
            Err(error) => BatchResult::Refused { error: object(&error, &auth.request) },
        });
    }
    let results: Vec<BatchResult> = results.into_iter().flatten().collect();
    let all = results.iter().all(|result| matches!(result, BatchResult::Published(_)));
    let status = if all { StatusCode::CREATED } else { StatusCode::MULTI_STATUS };
    Ok((status, Json(BatchResponse { results })).into_response())
}

/// Events that can be published, each with its place in the batch.
type Placed = Vec<(usize, NewEvent)>;

fn read_batch(
    gateway: &Gateway,
    auth: &Authenticated,
    rate: &RateHeaders,
    body: &RawBody,
) -> Result<(Placed, Vec<Option<BatchResult>>), Error> {
    require_json(&body.headers)?;
    let batch: BatchRequest = json(&body.bytes)?;
    let (count, limit) = (batch.events.len(), gateway.settings.batch_events);
    if count == 0 || count > limit {
        return Err(Error::new(
            Code::InvalidRequest,
            format!("The batch has {count} events; send 1 to {limit}."),
        )
        .with(json!({ "field": "events", "count": count, "limit": limit })));
    }
    // The request itself counted as one.
    extract::take(&auth.caller, u32::try_from(count - 1).unwrap_or(u32::MAX), Some(rate))?;
    let mut placed = Vec::with_capacity(count);
    let mut results: Vec<Option<BatchResult>> = (0..count).map(|_| None).collect();
    for (place, event) in batch.events.into_iter().enumerate() {
        match json::<PublishRequest>(event.get().as_bytes()).and_then(PublishRequest::into_event) {
            Ok(mut event) => {
                if event.id.is_none() {
                    event.id = idempotency_key(&body.headers, Some(place))?;
                }
                placed.push((place, event));
            }
            Err(error) => {
                results[place] = Some(BatchResult::Refused { error: object(&error, &auth.request) })
            }
        }
    }
    Ok((placed, results))
}
