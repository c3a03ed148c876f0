//! One stream of server-sent events.

use super::session::{Frame, Opening};
use crate::error::Body;
use crate::event_stream::{Item, Message, Parser};
use crate::request::{authorize, success};
use crate::{Error, Result, Start};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Request, Response};

pub(super) struct Source {
    answer: Response,
    parser: Parser,
    /// The answer's head has come: that is the confirmation.
    announced: bool,
}

impl Source {
    pub(super) async fn open(opening: &Opening<'_>) -> Result<Self> {
        let answer = success(opening.client.shared.http.execute(request(opening)?).await?).await?;
        let kind =
            answer.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !kind.starts_with("text/event-stream") {
            return Err(Error::protocol(format!("the answer is `{kind}`, not an event stream")));
        }
        Ok(Self { answer, parser: Parser::default(), announced: false })
    }

    pub(super) async fn next(&mut self) -> Result<Frame> {
        if !std::mem::replace(&mut self.announced, true) {
            return Ok(Frame::Subscribed(None));
        }
        loop {
            if let Some(item) = self.parser.next() {
                return read(item);
            }
            match self.answer.chunk().await? {
                // A comment gives no item: the caller hears nothing, but it must know that the line lives.
                Some(bytes) => self.parser.feed(&bytes)?,
                None => return Err(Error::unreachable("the stream ended")),
            }
            if self.parser.is_empty() {
                return Ok(Frame::Alive);
            }
        }
    }
}

fn request(opening: &Opening<'_>) -> Result<Request> {
    let mut url = opening.client.url("sse");
    url.query_pairs_mut().extend_pairs(opening.topics.iter().map(|topic| ("topic", topic)));
    let mut request = match opening.start {
        Start::After(cursor) => {
            let mut request = Request::new(Method::GET, url);
            let cursor = HeaderValue::try_from(cursor)
                .map_err(|_| Error::invalid("the cursor has characters that cannot stand in a header"))?;
            request.headers_mut().insert("last-event-id", cursor);
            request
        }
        start => {
            if let Some((name, value)) = start.parameter() {
                url.query_pairs_mut().append_pair(name, &value);
            }
            Request::new(Method::GET, url)
        }
    };
    request.headers_mut().insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
    authorize(&mut request, opening.bearer)?;
    Ok(request)
}

fn read(item: Item) -> Result<Frame> {
    let Message { event, data } = match item {
        Item::Message(message) => message,
        Item::Id(cursor) if cursor.is_empty() => return Ok(Frame::Alive),
        Item::Id(cursor) => return Ok(Frame::Cursor(cursor)),
        Item::Retry(wait) => return Ok(Frame::Retry(wait)),
    };
    let parsed = match event.as_str() {
        "" | "message" => serde_json::from_str(&data).map(Frame::Event),
        "gap" => serde_json::from_str(&data).map(Frame::Gap),
        "error" => match serde_json::from_str::<Body>(&data) {
            Ok(body) => return Err(Error::from_body(body.error, None)),
            Err(error) => Err(error),
        },
        _ => Ok(Frame::Alive),
    };
    parsed.map_err(|e| Error::protocol(format!("an event of the stream is not of the documented form: {e}")))
}
