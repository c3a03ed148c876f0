//! Requests to JetStream: what the leader of a stream answers, and what any replica does.

use super::Options;
use super::message::Stored;
use crate::LogError;
use async_nats::jetstream::stream::RawMessage;
use async_nats::jetstream::{self, ErrorCode};
use async_nats::{Client, HeaderMap, Message, RequestErrorKind, StatusCode};
use futures::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

/// The most messages in one answer to a batched get; the server's own bound.
pub(super) const BATCH: usize = 1000;

/// The status that ends the answer to a batched get.
const END_OF_BATCH: u16 = 204;

/// How long the first answer of a leader is waited for; twice as long each time after.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// How often the connection was made and lost since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Link {
    pub made: u64,
    pub lost: u64,
    /// Messages that the client dropped because a subscription was not read fast enough.
    pub overrun: u64,
}

/// The connection and what all parts need of it.
pub(super) struct Api {
    pub client: Client,
    pub context: jetstream::Context,
    pub options: Options,
    pub link: watch::Receiver<Link>,
    /// Bounds the reads that are under way at once.
    reads: Semaphore,
}

/// What to ask a stream's leader for.
pub(super) enum Wanted<'a> {
    /// The message with this sequence.
    At(u64),
    /// The newest message on a subject, which may be a wildcard.
    Last(&'a str),
    /// The first message from this sequence on whose subject matches.
    Next(u64, &'a str),
}

/// The answer to a batched get.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub messages: Vec<Stored>,
    /// How many more there were for the replica that answered.
    pub pending: u64,
}

/// An error as the JetStream API answers it.
#[derive(Debug, Deserialize)]
pub(super) struct ApiError {
    #[serde(rename = "err_code", default)]
    pub code: ErrorCode,
    #[serde(default)]
    pub description: String,
}

#[derive(Deserialize)]
struct Got {
    message: Option<RawMessage>,
    error: Option<ApiError>,
}

impl Api {
    pub fn new(client: Client, options: Options, link: watch::Receiver<Link>) -> Self {
        let mut context = jetstream::new(client.clone());
        context.set_timeout(options.request_timeout);
        let reads = Semaphore::new(options.concurrent_reads.max(1));
        Self { client, context, options, link, reads }
    }

    /// Fails at once while there is no connection: the client would wait for one in silence.
    pub fn check_connected(&self) -> Result<(), LogError> {
        match self.client.connection_state() {
            async_nats::connection::State::Connected => Ok(()),
            _ => Err(LogError::Unavailable("not connected to NATS; trying to reconnect".into())),
        }
    }

    /// One message, as the stream's leader knows it.
    pub async fn leader_get(&self, stream: &str, wanted: Wanted<'_>) -> Result<Option<Stored>, LogError> {
        let body = match wanted {
            Wanted::At(sequence) => json!({ "seq": sequence }),
            Wanted::Last(subject) => json!({ "last_by_subj": subject }),
            Wanted::Next(from, subject) => json!({ "seq": from, "next_by_subj": subject }),
        };
        let answer = self.request(format!("$JS.API.STREAM.MSG.GET.{stream}"), &body).await?;
        let got: Got = serde_json::from_slice(&answer.payload)
            .map_err(|e| LogError::Unavailable(format!("stream {stream} gave an unreadable answer: {e}")))?;
        match (got.message, got.error) {
            (Some(raw), _) => {
                let sequence = raw.sequence;
                let message = jetstream::message::StreamMessage::try_from(raw)
                    .map_err(|e| LogError::Corrupt(format!("message {sequence} of stream {stream}: {e}")))?;
                Ok(Some(Stored {
                    subject: message.subject.to_string(),
                    sequence,
                    headers: message.headers,
                    payload: message.payload,
                }))
            }
            (None, Some(error)) if error.code == ErrorCode::NO_MESSAGE_FOUND => Ok(None),
            (None, Some(error)) if error.code == ErrorCode::STREAM_NOT_FOUND => Ok(None),
            (None, Some(error)) => Err(problem(error.code, &error.description)),
            (None, None) => Err(LogError::Unavailable(format!("stream {stream} gave an empty answer"))),
        }
    }

    /// Asks for one message to be deleted; the answer as it came.
    pub async fn delete(&self, stream: &str, body: &Value) -> Result<bytes::Bytes, LogError> {
        Ok(self.request(format!("$JS.API.STREAM.MSG.DELETE.{stream}"), body).await?.payload)
    }

    /// A question to a stream's leader. A stream that has none just now, as when it is being made or its server died,
    /// drops the question without a word; so it is asked again.
    async fn request(&self, subject: String, body: &Value) -> Result<Message, LogError> {
        self.check_connected()?;
        let _permit = self.reads.acquire().await;
        let ask = || self.client.request(subject.clone(), body.to_string().into());
        self.until_answered(&subject, ask).await?.map_err(|e| {
            LogError::Unavailable(match e.kind() {
                RequestErrorKind::NoResponders => {
                    format!("nobody answers {subject}: is JetStream enabled?")
                }
                _ => format!("{subject}: {e}"),
            })
        })
    }

    /// Asks until there is an answer, for as long as a request may take.
    pub async fn until_answered<F: Future>(
        &self,
        what: &str,
        mut ask: impl FnMut() -> F,
    ) -> Result<F::Output, LogError> {
        let began = Instant::now();
        let mut patience = ASK_AGAIN;
        loop {
            let left = self.options.request_timeout.saturating_sub(began.elapsed());
            match timeout(patience.min(left), ask()).await {
                Ok(answer) => return Ok(answer),
                Err(_) if patience < left => patience *= 2,
                Err(_) => {
                    let limit = self.options.request_timeout;
                    return Err(LogError::Unavailable(format!("{what}: no answer within {limit:?}")));
                }
            }
        }
    }

    /// Many messages in one answer, from whichever replica is near; it may lag behind the leader.
    pub async fn batch_get(&self, stream: &str, body: &Value) -> Result<Batch, LogError> {
        self.check_connected()?;
        let _permit = self.reads.acquire().await;
        let inbox = self.client.new_inbox();
        let lost = |e: &dyn std::fmt::Display| LogError::Unavailable(format!("reading {stream}: {e}"));
        let mut answers = self.client.subscribe(inbox.clone()).await.map_err(|e| lost(&e))?;
        self.client
            .publish_with_reply(format!("$JS.API.DIRECT.GET.{stream}"), inbox, body.to_string().into())
            .await
            .map_err(|e| lost(&e))?;
        let mut batch = Batch::default();
        loop {
            let answer = timeout(self.options.request_timeout, answers.next())
                .await
                .map_err(|_| lost(&"no answer in time"))?
                .ok_or_else(|| lost(&"the connection was closed"))?;
            match answer.status {
                None => {
                    // A server that knows no batches answers one message and ends there.
                    if number(answer.headers.as_ref(), "Nats-Num-Pending").is_none() {
                        return Err(lost(&"the server is too old for batched reads"));
                    }
                    batch.messages.extend(Stored::from_message(answer));
                }
                Some(status) if u16::from(status) == END_OF_BATCH => {
                    batch.pending = number(answer.headers.as_ref(), "Nats-Num-Pending").unwrap_or(0);
                    return Ok(batch);
                }
                Some(StatusCode::NOT_FOUND) => return Ok(Batch::default()),
                Some(StatusCode::NO_RESPONDERS) => return Err(lost(&"nobody answers: no replica is up")),
                Some(status) => {
                    return Err(lost(&format!("{status} {}", answer.description.unwrap_or_default())));
                }
            }
        }
    }

    /// The newest message on each subject at or before `up_to`. Misses may be a lagging replica's.
    pub async fn last_of_each(
        &self,
        stream: &str,
        subjects: &[String],
        up_to: u64,
    ) -> Result<Vec<Stored>, LogError> {
        let mut found = Vec::with_capacity(subjects.len());
        for chunk in subjects.chunks(BATCH) {
            let body = json!({ "multi_last": chunk, "up_to_seq": up_to, "batch": BATCH });
            found.extend(self.batch_get(stream, &body).await?.messages);
        }
        Ok(found)
    }
}

fn number(headers: Option<&HeaderMap>, name: &'static str) -> Option<u64> {
    headers?.get(name)?.as_str().parse().ok()
}

/// A pause before asking a lagging replica again.
pub(super) const LAG_PAUSE: Duration = Duration::from_millis(10);

/// What an error of the JetStream API means to the caller of a log.
pub(super) fn problem(code: ErrorCode, description: &str) -> LogError {
    let full = [
        ErrorCode::ACCOUNT_RESOURCES_EXCEEDED,
        ErrorCode::STORAGE_RESOURCES_EXCEEDED,
        ErrorCode::MEMORY_RESOURCES_EXCEEDED,
        ErrorCode::STREAM_MAX_STREAM_BYTES_EXCEEDED,
        ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM,
    ];
    // The store's own failures share one code; the words tell "maximum bytes exceeded" and "no space".
    let store_full = code == ErrorCode::STREAM_STORE_FAILED
        && ["maximum", "insufficient", "no space"].iter().any(|word| description.contains(word));
    if full.contains(&code) || store_full {
        return LogError::Full(format!("{description} (JetStream {})", code.0));
    }
    LogError::Unavailable(format!("{description} (JetStream {})", code.0))
}
