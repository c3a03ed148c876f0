//! The messages of `graphql-transport-ws`, as the protocol of the npm package `graphql-ws` has them.

use crate::graphql::answer::Answer;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use weir_engine::Credentials;

/// The longest id of an operation.
const ID_BYTES: usize = 128;

/// What a client says.
pub(super) enum Said {
    Init(Option<Credentials>),
    Ping(Option<Value>),
    Pong,
    Subscribe { id: String, payload: Value },
    Complete { id: String },
}

#[derive(Deserialize)]
struct Frame {
    #[serde(rename = "type")]
    kind: String,
    id: Option<Value>,
    payload: Option<Value>,
}

/// Reads a message. What is wrong with it fits into the reason of a close.
pub(super) fn read(text: &[u8]) -> Result<Said, &'static str> {
    let frame: Frame = serde_json::from_slice(text).map_err(|_| "a message is a JSON object with a type")?;
    let id = |id: Option<Value>| match id {
        Some(Value::String(id)) if (1..=ID_BYTES).contains(&id.len()) => Ok(id),
        _ => Err("the id is a text of 1 to 128 bytes"),
    };
    let object = |payload: Option<Value>| match payload {
        None | Some(Value::Object(_)) => Ok(payload),
        Some(_) => Err("the payload is an object"),
    };
    match frame.kind.as_str() {
        "connection_init" => Ok(Said::Init(match object(frame.payload)? {
            Some(payload) => credentials(&payload)?,
            None => None,
        })),
        "ping" => Ok(Said::Ping(object(frame.payload)?)),
        "pong" => object(frame.payload).map(|_| Said::Pong),
        "subscribe" => {
            let payload = object(frame.payload)?.ok_or("the payload is an object with a query")?;
            Ok(Said::Subscribe { id: id(frame.id)?, payload })
        }
        "complete" => Ok(Said::Complete { id: id(frame.id)? }),
        _ => Err("unknown message type"),
    }
}

/// The credentials in the payload of `connection_init`, under the names that clients' authors choose.
fn credentials(payload: &Value) -> Result<Option<Credentials>, &'static str> {
    let text = |names: &[&str]| {
        let members = payload.as_object()?.iter();
        let mut named =
            members.filter(|(name, _)| names.iter().any(|known| name.eq_ignore_ascii_case(known)));
        named.find_map(|(_, value)| value.as_str().map(str::trim)).filter(|text| !text.is_empty())
    };
    let bearer = |text: &str| {
        let rest = text.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        Credentials::bearer(rest.map_or(text, |(_, rest)| rest.trim()))
    };
    let given = text(&["authorization"]).map(bearer);
    let given = given.or_else(|| text(&["token", "apiKey", "api_key", "x-api-key"]).map(Credentials::bearer));
    let project = text(&["project", "x-weir-project"]).map(str::parse).transpose();
    let project = project.map_err(|_| "the project is a project id (`prj_…`)")?;
    Ok(given.map(|given| given.in_project(project)))
}

/// What the server says, but for events, which the hub writes between two halves of a `next`.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Say<'a> {
    ConnectionAck {
        payload: Value,
    },
    Pong {
        #[serde(skip_serializing_if = "Option::is_none")]
        payload: Option<Value>,
    },
    Next {
        id: &'a str,
        payload: &'a Answer,
    },
    Error {
        id: &'a str,
        payload: &'a [async_graphql::ServerError],
    },
    Complete {
        id: &'a str,
    },
}

impl Say<'_> {
    /// The message's text. Nothing in these types can fail to be written.
    pub(super) fn text(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// The two halves of a `next` around the value of one field.
pub(super) fn halves(id: &str, field: &str) -> (String, &'static str) {
    let id = Value::from(id);
    (format!(r#"{{"id":{id},"type":"next","payload":{{"data":{{"{field}":"#), "}}}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_the_protocol_has_is_read() {
        for text in [
            "",
            "[]",
            "1",
            "{}",
            r#"{"type":1}"#,
            r#"{"type":"start","id":"1"}"#,
            r#"{"type":"ping","payload":1}"#,
            r#"{"type":"subscribe","id":"1"}"#,
            r#"{"type":"subscribe","id":1,"payload":{}}"#,
            r#"{"type":"subscribe","payload":{}}"#,
            r#"{"type":"complete"}"#,
            r#"{"type":"complete","id":""}"#,
            r#"{"type":"connection_init","payload":"x"}"#,
            r#"{"type":"connection_ack"}"#,
        ] {
            assert!(read(text.as_bytes()).is_err(), "{text}");
        }
        assert!(matches!(read(br#"{"type":"connection_init","payload":null}"#), Ok(Said::Init(None))));
        assert!(matches!(read(br#"{"type":"pong"}"#), Ok(Said::Pong)));
    }

    #[test]
    fn credentials_go_by_several_names() {
        let project = weir_core::ProjectId::new().to_string();
        for payload in [
            json!({"token": "weir_a"}),
            json!({"authorization": "Bearer weir_a"}),
            json!({"Authorization": "weir_a"}),
            json!({"apiKey": "weir_a", "more": 1}),
            json!({"token": "a.b.c", "project": project}),
        ] {
            assert!(matches!(credentials(&payload), Ok(Some(_))), "{payload}");
        }
        for payload in [json!({"token": 1}), json!({"token": ""}), json!({"project": project})] {
            assert!(matches!(credentials(&payload), Ok(None)), "{payload}");
        }
        assert!(credentials(&json!({"token": "a.b.c", "project": "mine"})).is_err());
    }

    #[test]
    fn halves_make_a_message() {
        let (prefix, suffix) = halves("a\"b", "name");
        let whole: Value = serde_json::from_str(&format!("{prefix}{{}}{suffix}")).expect("json");
        assert_eq!(whole, json!({"id": "a\"b", "type": "next", "payload": {"data": {"name": {}}}}));
    }
}
