//! CloudEvents 1.0 over HTTP (<https://github.com/cloudevents/spec>, HTTP protocol binding): structured
//! and binary mode, mapped to an event.
//!
//! `subject` is the topic. Identity is `source` and `id` together, as the specification has it, so the
//! event's id is `<source>#<id>`. Every attribute stays with the event as a header `ce-…`.

use super::invalid;
use crate::extract::{json, media_type};
use axum::http::HeaderMap;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use utoipa::ToSchema;
use weir_core::event::Headers;
use weir_core::{Code, NewEvent, Payload};
use weir_engine::Error;

/// A CloudEvent 1.0 in structured mode. All attributes stay with the event as headers `ce-…`, further ones too.
#[derive(ToSchema)]
#[schema(example = json!({"specversion": "1.0", "id": "42", "source": "/shop", "type": "order.created",
    "subject": "orders.created", "time": "2026-01-31T12:00:00Z", "data": {"order": 42}}))]
#[expect(dead_code, reason = "describes what `structured` reads")]
pub(crate) struct CloudEvent {
    /// `1.0`
    specversion: String,
    /// With `source` it is the event's id: `<source>#<id>`.
    id: String,
    /// Where it happened.
    source: String,
    /// What kind of event it is.
    #[schema(rename = "type")]
    kind: String,
    /// The topic.
    subject: String,
    /// When it happened.
    time: Option<String>,
    /// What `data` is.
    datacontenttype: Option<String>,
    /// The payload: any JSON value; `null` when absent.
    data: Option<Value>,
    /// The payload as base64, instead of `data`; kept as that text.
    data_base64: Option<String>,
}

/// How the event is laid out in the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Attributes and data in one JSON object.
    Structured,
    /// Attributes in `ce-…` headers, data in the body.
    Binary,
}

/// Whether a request carries a CloudEvent.
pub(crate) fn mode(headers: &HeaderMap) -> Option<Mode> {
    if media_type(headers) == "application/cloudevents+json" {
        return Some(Mode::Structured);
    }
    headers.contains_key("ce-specversion").then_some(Mode::Binary)
}

/// Reads the event.
pub(crate) fn read(mode: Mode, headers: &HeaderMap, body: &[u8]) -> Result<NewEvent, Error> {
    match mode {
        Mode::Structured => structured(body),
        Mode::Binary => binary(headers, body),
    }
}

fn structured(body: &[u8]) -> Result<NewEvent, Error> {
    // The body is read twice, `data` once raw: its text must arrive as it was sent.
    #[derive(Deserialize)]
    struct Data {
        data: Option<Box<RawValue>>,
    }
    let envelope: BTreeMap<String, Value> = json(body)?;
    let data: Data = json(body)?;
    let base64 = envelope.contains_key("data_base64");
    let payload = match (data.data, envelope.get("data_base64").and_then(Value::as_str)) {
        (Some(raw), None) => Payload::from_raw(&raw)?,
        (None, Some(text)) => text_payload(text)?,
        (None, None) => text_payload_null()?,
        (Some(_), Some(_)) => return Err(invalid("data", "and `data_base64` exclude each other")),
    };
    let mut attributes = BTreeMap::new();
    for (name, value) in envelope {
        if name == "data" || name == "data_base64" {
            continue;
        }
        let text = match value {
            Value::String(text) => text,
            Value::Number(number) => number.to_string(),
            Value::Bool(flag) => flag.to_string(),
            _ => return Err(invalid(&name, "must be a string, number or boolean")),
        };
        attributes.insert(name, text);
    }
    if base64 {
        attributes.insert("dataencoding".into(), "base64".into());
    }
    event(&attributes, payload)
}

fn binary(headers: &HeaderMap, body: &[u8]) -> Result<NewEvent, Error> {
    let mut attributes = BTreeMap::new();
    for (name, value) in headers {
        let Some(name) = name.as_str().strip_prefix("ce-") else { continue };
        let text = value.to_str().map_err(|_| invalid(&format!("ce-{name}"), "is not ASCII"))?;
        let text = percent_decode_str(text)
            .decode_utf8()
            .map_err(|_| invalid(&format!("ce-{name}"), "is not UTF-8"))?;
        attributes.insert(name.to_owned(), text.into_owned());
    }
    let kind = media_type(headers);
    let payload = if kind.is_empty() || kind == "application/json" || kind.ends_with("+json") {
        // An event without data is in order.
        Payload::parse(if body.is_empty() { b"null" } else { body })?
    } else {
        let text = std::str::from_utf8(body).map_err(|_| {
            Error::new(
                Code::UnsupportedMediaType,
                "Data that is not UTF-8 must be sent in structured mode as `data_base64`.",
            )
        })?;
        attributes.insert("datacontenttype".into(), kind);
        text_payload(text)?
    };
    event(&attributes, payload)
}

fn text_payload(text: &str) -> Result<Payload, Error> {
    Ok(Payload::parse(Value::from(text).to_string().as_bytes())?)
}

fn text_payload_null() -> Result<Payload, Error> {
    Ok(Payload::parse(b"null")?)
}

fn event(attributes: &BTreeMap<String, String>, payload: Payload) -> Result<NewEvent, Error> {
    let required = |name: &str| {
        let value = attributes.get(name).filter(|value| !value.is_empty());
        value.ok_or_else(|| invalid(name, "is required in a CloudEvent"))
    };
    if required("specversion")? != "1.0" {
        return Err(invalid("specversion", "must be `1.0`"));
    }
    let (source, id, kind) = (required("source")?, required("id")?, required("type")?);
    let topic =
        attributes.get("subject").ok_or_else(|| invalid("subject", "is required: it names the topic"))?;
    let headers = attributes.iter().map(|(name, value)| (format!("ce-{name}"), value.clone())).collect();
    Ok(NewEvent {
        id: Some(format!("{source}#{id}").parse()?),
        topic: topic.parse()?,
        payload,
        kind: Some(kind.parse()?),
        headers: Headers::new(headers)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structured_mode() {
        let body = br#"{"specversion":"1.0","id":"1","source":"/shop","type":"order.created","subject":"orders.1","data":{"n":1.10}}"#;
        let event = read(Mode::Structured, &HeaderMap::new(), body).expect("valid");
        assert_eq!(event.topic.as_str(), "orders.1");
        assert_eq!(event.payload.as_bytes(), br#"{"n":1.10}"#);
        assert_eq!(event.id.as_ref().map(|id| id.as_str()), Some("/shop#1"));
        assert!(event.headers.pairs().contains(&("ce-source".into(), "/shop".into())));
    }

    #[test]
    fn binary_mode_and_what_is_missing() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("ce-specversion", "1.0"),
            ("ce-id", "7"),
            ("ce-source", "s"),
            ("ce-type", "t"),
            ("ce-subject", "a.b"),
        ] {
            headers.insert(name, value.parse().expect("value"));
        }
        headers.insert("content-type", "text/plain".parse().expect("value"));
        let event = read(Mode::Binary, &headers, b"hi").expect("valid");
        assert_eq!(event.payload.as_bytes(), b"\"hi\"");
        headers.remove("ce-subject");
        let refused = read(Mode::Binary, &headers, b"hi").expect_err("no topic");
        assert_eq!(refused.details["field"], "subject");
        headers.insert("ce-subject", "a.b".parse().expect("value"));
        headers.insert("ce-specversion", "0.3".parse().expect("value"));
        assert!(read(Mode::Binary, &headers, b"hi").is_err());
    }
}
