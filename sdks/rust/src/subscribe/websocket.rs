//! One WebSocket with one subscription on it.

use super::session::{Frame, Opening};
use crate::error::Body;
use crate::request::bearer_header;
use crate::{Error, Event, Gap, Result};
use futures::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::{AUTHORIZATION, RETRY_AFTER, SEC_WEBSOCKET_PROTOCOL};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

/// The largest message taken from a server.
const MESSAGE: usize = 4 << 20;

pub(super) struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Socket {
    pub(super) async fn open(opening: &Opening<'_>) -> Result<Self> {
        // The read buffer is cleared before every read, so a small one is faster than the default.
        let config = WebSocketConfig::default()
            .read_buffer_size(16 << 10)
            .max_message_size(Some(MESSAGE))
            .max_frame_size(Some(MESSAGE));
        let connecting = connect_async_with_config(upgrade(opening)?, Some(config), true);
        let (mut stream, _) = connecting.await.map_err(refused)?;
        let mut frame = json!({ "type": "subscribe", "id": "1", "topics": opening.topics });
        if let crate::Start::Sequence(sequence) = opening.start {
            frame["from_sequence"] = (*sequence).into();
        } else if let Some((name, value)) = opening.start.parameter() {
            frame[name] = value.into();
        }
        stream.send(Message::text(frame.to_string())).await.map_err(broken)?;
        Ok(Self { stream })
    }

    pub(super) async fn next(&mut self) -> Result<Frame> {
        match self.stream.next().await {
            Some(Ok(Message::Text(text))) => read(&text),
            Some(Ok(Message::Close(Some(close)))) => Err(Error::from_close(close.code.into(), &close.reason)),
            Some(Ok(Message::Close(None))) | None => Err(Error::unreachable("the connection ended")),
            Some(Ok(_)) => Ok(Frame::Alive),
            Some(Err(error)) => Err(broken(error)),
        }
    }
}

fn upgrade(opening: &Opening<'_>) -> Result<Request> {
    let mut url = opening.client.url("ws");
    let scheme = if url.scheme() == "https" { "wss" } else { "ws" };
    url.set_scheme(scheme).map_err(|()| Error::invalid(format!("`{url}` cannot be a WebSocket's URL")))?;
    let mut request = url.as_str().into_client_request().map_err(broken)?;
    let headers = request.headers_mut();
    headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("weir.v1"));
    if let Some(bearer) = opening.bearer {
        headers.insert(AUTHORIZATION, bearer_header(bearer)?);
    }
    Ok(request)
}

/// The upgrade failed: with an answer, or without any.
fn refused(error: tungstenite::Error) -> Error {
    let tungstenite::Error::Http(answer) = error else { return broken(error) };
    let retry_after = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let body = answer.body().as_deref().unwrap_or_default();
    Error::from_answer(answer.status().as_u16(), body, retry_after)
}

fn broken(error: tungstenite::Error) -> Error {
    match error {
        tungstenite::Error::Capacity(_) | tungstenite::Error::Utf8(_) => Error::protocol(error.to_string()),
        other => Error::unreachable(other.to_string()),
    }
}

#[derive(Deserialize)]
struct Kind<'a> {
    r#type: &'a str,
}

#[derive(Deserialize)]
struct Subscribed {
    #[serde(default)]
    cursor: Option<String>,
}

#[derive(Deserialize)]
struct Reconnect {
    after_ms: u64,
}

/// An event frame: its own `type` is the frame's, so the event's is `event_type` here.
#[derive(Deserialize)]
struct EventFrame {
    id: String,
    topic: String,
    sequence: u64,
    #[serde(default)]
    previous: u64,
    cursor: String,
    published_at: String,
    #[serde(default)]
    event_type: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    payload: Box<RawValue>,
}

impl From<EventFrame> for Event {
    fn from(frame: EventFrame) -> Self {
        Self {
            id: frame.id,
            topic: frame.topic,
            sequence: frame.sequence,
            previous: frame.previous,
            cursor: frame.cursor,
            published_at: frame.published_at,
            kind: frame.event_type,
            headers: frame.headers,
            payload: frame.payload,
        }
    }
}

fn read(text: &str) -> Result<Frame> {
    let kind: Kind<'_> = parse(text)?;
    Ok(match kind.r#type {
        "event" => Frame::Event(parse::<EventFrame>(text)?.into()),
        "gap" => Frame::Gap(parse::<Gap>(text)?),
        "subscribed" => Frame::Subscribed(parse::<Subscribed>(text)?.cursor),
        "error" => return Err(Error::from_body(parse::<Body>(text)?.error, None)),
        "reconnect" => {
            return Err(Error::draining(Duration::from_millis(parse::<Reconnect>(text)?.after_ms)));
        }
        _ => Frame::Alive,
    })
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T> {
    serde_json::from_str(text)
        .map_err(|e| Error::protocol(format!("a frame is not of the documented form: {e}")))
}
