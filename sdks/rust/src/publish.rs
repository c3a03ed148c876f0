//! Publishing, and the list of topics.

use crate::error::BodyError;
use crate::request::Retry;
use crate::{Client, Error, NewEvent, Published, Result, TopicHead};
use serde::{Deserialize, Serialize};

/// The most events that one batch takes.
const BATCH: usize = 100;

#[derive(Serialize)]
struct Batch<'a> {
    events: &'a [NewEvent],
}

#[derive(Deserialize)]
struct BatchAnswer {
    #[serde(alias = "data")]
    results: Vec<BatchResult>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum BatchResult {
    Failed { error: BodyError },
    Published(Published),
}

#[derive(Deserialize)]
struct TopicPage {
    data: Vec<TopicHead>,
    #[serde(default)]
    next_cursor: Option<String>,
    #[serde(default)]
    has_more: bool,
}

impl Client {
    /// Publishes one event. When this returns it is on stable storage. An event that has an id (as it
    /// does unless told otherwise) is sent again after transient failures, and still counts once.
    ///
    /// # Errors
    /// The server's, or `UNREACHABLE`: then it may or may not have been published.
    pub async fn publish(&self, event: NewEvent) -> Result<Published> {
        let retry = if event.id.is_some() { Retry::Transient } else { Retry::Never };
        self.post("v1/events", json(&event)?, retry).await
    }

    /// Publishes up to 100 events with one request; a result for each, in their order. Better than as
    /// many single calls by an order of magnitude.
    ///
    /// # Errors
    /// When the request as a whole failed.
    pub async fn publish_batch(&self, events: &[NewEvent]) -> Result<Vec<Result<Published>>> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        if events.len() > BATCH {
            let given = events.len();
            return Err(Error::invalid(format!("{given} events in one batch; at most {BATCH} are allowed")));
        }
        let repeatable = events.iter().all(|event| event.id.is_some());
        let retry = if repeatable { Retry::Transient } else { Retry::Never };
        let answer: BatchAnswer = self.post("v1/events/batch", json(&Batch { events })?, retry).await?;
        if answer.results.len() != events.len() {
            let (sent, got) = (events.len(), answer.results.len());
            return Err(Error::protocol(format!("{got} results for {sent} events")));
        }
        Ok(answer.results.into_iter().map(BatchResult::into_result).collect())
    }

    /// The topics that were published to, each with its newest event.
    ///
    /// # Errors
    /// The server's, or `UNREACHABLE`.
    pub async fn topics(&self) -> Result<Vec<TopicHead>> {
        let mut topics = Vec::new();
        let mut url = self.url("v1/topics");
        url.set_query(Some("limit=1000"));
        loop {
            let page: TopicPage = self.get(url.clone()).await?;
            topics.extend(page.data);
            match page.next_cursor {
                Some(cursor) if page.has_more => {
                    url.set_query(Some("limit=1000"));
                    url.query_pairs_mut().append_pair("cursor", &cursor);
                }
                _ => return Ok(topics),
            }
        }
    }
}

impl BatchResult {
    fn into_result(self) -> Result<Published> {
        match self {
            Self::Published(published) => Ok(published),
            Self::Failed { error } => Err(Error::from_body(error, None)),
        }
    }
}

fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|e| Error::invalid(e.to_string()))
}
