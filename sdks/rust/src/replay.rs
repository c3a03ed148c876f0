//! Reading the log page by page.

use crate::{Client, Delivery, Error, Event, Gap, Result, Start};
use futures::stream::{self, Stream, TryStreamExt};
use serde::Deserialize;

/// Which events to read again.
#[derive(Clone, Debug)]
pub struct ReplayQuery {
    topics: Vec<String>,
    start: Start,
    limit: Option<u64>,
    page: u64,
}

impl ReplayQuery {
    /// Everything retained on these topics and patterns.
    pub fn new(topics: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let topics = topics.into_iter().map(Into::into).collect();
        Self { topics, start: Start::Default, limit: None, page: 1000 }
    }

    /// Begins there.
    #[must_use]
    pub fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// Begins after the event with this cursor.
    #[must_use]
    pub fn after(self, cursor: impl Into<String>) -> Self {
        self.start(Start::After(cursor.into()))
    }

    /// Ends after so many events.
    #[must_use]
    pub const fn limit(mut self, events: u64) -> Self {
        self.limit = Some(events);
        self
    }

    /// Events per request; 1,000, the server's limit.
    #[must_use]
    pub const fn page_size(mut self, events: u64) -> Self {
        self.page = events;
        self
    }
}

#[derive(Deserialize)]
struct Page {
    data: Vec<Event>,
    #[serde(default)]
    next_cursor: Option<String>,
    #[serde(default)]
    has_more: bool,
    #[serde(default)]
    gap: Option<Gap>,
}

/// What is left to read; `None` after the last page.
struct Reader {
    client: Client,
    query: ReplayQuery,
}

impl Client {
    /// Reads events from the log up to its end of now, in order. One page is in memory at a time, and the
    /// next is fetched when the application has taken the last.
    pub fn replay(&self, query: ReplayQuery) -> impl Stream<Item = Result<Delivery>> + Send + use<> {
        let reader = Reader { client: self.clone(), query };
        let pages = stream::try_unfold(Some(reader), |reader| async {
            let Some(reader) = reader else { return Ok::<_, Error>(None) };
            let (deliveries, rest) = reader.page().await?;
            Ok(Some((stream::iter(deliveries.into_iter().map(Ok)), rest)))
        });
        pages.try_flatten()
    }
}

impl Reader {
    async fn page(mut self) -> Result<(Vec<Delivery>, Option<Self>)> {
        let wanted = self.query.limit.map_or(self.query.page, |left| left.min(self.query.page));
        let page: Page = self.client.get(self.url(wanted)).await?;
        let count = page.data.len() as u64;
        let mut deliveries = Vec::with_capacity(page.data.len() + 1);
        deliveries.extend(page.gap.map(Delivery::Gap));
        deliveries.extend(page.data.into_iter().map(Delivery::Event));
        let left = self.query.limit.map(|limit| limit.saturating_sub(count));
        let rest = match page.next_cursor {
            Some(cursor) if page.has_more && left != Some(0) => {
                self.query.start = Start::After(cursor);
                self.query.limit = left;
                Some(self)
            }
            _ => None,
        };
        Ok((deliveries, rest))
    }

    fn url(&self, limit: u64) -> reqwest::Url {
        let mut url = self.client.url("v1/events");
        {
            let mut query = url.query_pairs_mut();
            for topic in &self.query.topics {
                query.append_pair("topic", topic);
            }
            query.append_pair("limit", &limit.to_string());
            if let Some((name, value)) = self.query.start.parameter() {
                query.append_pair(name, &value);
            }
        }
        url
    }
}
