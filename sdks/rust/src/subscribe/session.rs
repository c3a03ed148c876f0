//! Keeps one subscription alive: connect, receive, wait, connect again where the last one ended.

use super::progress::{Progress, Verdict};
use super::{Queued, Subscribe, Transport, sse, websocket};
use crate::backoff::Backoff;
use crate::credentials::asks_for_renewal;
use crate::{Client, Delivery, Error, Event, Gap, Result, Start};
use std::time::Duration;
use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, sleep, timeout};

/// Silence after which a connection counts as dead. The server sends something every 25 s at least.
const SILENCE: Duration = Duration::from_secs(45);
/// A connection that lasted so long was a good one, whatever ended it.
const GOOD: Duration = Duration::from_secs(30);

/// What a transport hears.
pub(super) enum Frame {
    /// The server confirmed the subscription and may have said where it stands.
    Subscribed(Option<String>),
    /// Resuming here misses nothing.
    Cursor(String),
    Event(Event),
    Gap(Gap),
    /// How long to wait before connecting again.
    Retry(Duration),
    /// Something that only shows that the connection lives.
    Alive,
}

/// What to ask for.
pub(super) struct Opening<'a> {
    pub(super) client: &'a Client,
    pub(super) bearer: Option<&'a str>,
    pub(super) topics: &'a [String],
    pub(super) start: &'a Start,
}

enum Source {
    WebSocket(Box<websocket::Socket>),
    Sse(Box<sse::Source>),
}

impl Source {
    async fn open(transport: Transport, opening: &Opening<'_>) -> Result<Self> {
        let open = async {
            Ok(match transport {
                Transport::WebSocket => Self::WebSocket(Box::new(websocket::Socket::open(opening).await?)),
                Transport::Sse => Self::Sse(Box::new(sse::Source::open(opening).await?)),
            })
        };
        let limit = opening.client.shared.connect_timeout;
        timeout(limit, open)
            .await
            .unwrap_or_else(|_| Err(Error::unreachable(format!("no connection within {limit:?}"))))
    }

    async fn next(&mut self) -> Result<Frame> {
        let next = async {
            match self {
                Self::WebSocket(socket) => socket.next().await,
                Self::Sse(source) => source.next().await,
            }
        };
        timeout(SILENCE, next)
            .await
            .unwrap_or_else(|_| Err(Error::unreachable(format!("nothing came for {SILENCE:?}"))))
    }
}

struct Session {
    subscribe: Subscribe,
    progress: Progress,
    backoff: Backoff,
    into: Sender<Queued>,
    /// The server confirmed at least once.
    confirmed: bool,
}

/// How a connection ended.
enum End {
    /// The application is gone.
    Dropped,
    Failed(Error),
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Runs until the application drops the subscription or an error says that reconnecting is no use; with
/// `fail_first` also until the first connection fails.
pub(super) async fn run(subscribe: Subscribe, into: Sender<Queued>, fail_first: bool) {
    let progress = Progress::new(subscribe.start.clone());
    let backoff = subscribe.client.shared.backoff;
    let mut session = Session { subscribe, progress, backoff, into, confirmed: false };
    let mut renewed = false;
    loop {
        let client = session.subscribe.client.clone();
        let begun = Instant::now();
        let (bearer, end) = match client.shared.credentials.bearer().await {
            Ok(bearer) => {
                let end = session.connection(bearer.as_deref()).await;
                (bearer, end)
            }
            Err(error) => (None, Err(End::Failed(error))),
        };
        let Err(End::Failed(error)) = end else { return };
        if begun.elapsed() > GOOD {
            session.backoff.reset();
            renewed = false;
        }
        let renewal = asks_for_renewal(error.code())
            && !std::mem::replace(&mut renewed, true)
            && client.shared.credentials.renew(bearer.as_deref()).await;
        let hopeless = !error.is_retryable() || (fail_first && !session.confirmed);
        if !renewal && hopeless {
            // The application may be gone: then nobody needs to know.
            let _ = session.into.send(Queued::Failed(error)).await;
            return;
        }
        let wait = session.backoff.next_after(error.retry_after());
        tracing::debug!(code = error.code(), message = error.message(), ?wait, "connecting again");
        tokio::select! {
            () = sleep(wait) => {}
            () = session.into.closed() => return,
        }
    }
}

impl Session {
    /// One connection, from its opening to its end.
    async fn connection(&mut self, bearer: Option<&str>) -> Result<std::convert::Infallible, End> {
        let Subscribe { client, topics, transport, .. } = &self.subscribe;
        let opening = Opening { client, bearer, topics, start: self.progress.start() };
        let mut source = Source::open(*transport, &opening).await?;
        loop {
            match source.next().await? {
                Frame::Event(event) => self.event(event).await?,
                Frame::Gap(gap) => {
                    self.progress.gap(&gap);
                    self.queue(Queued::Delivery(Delivery::Gap(gap))).await?;
                }
                Frame::Subscribed(cursor) => {
                    self.confirmed = true;
                    let cursor = cursor.filter(|cursor| self.progress.at(cursor));
                    self.queue(Queued::Cursor(cursor)).await?;
                }
                Frame::Cursor(cursor) => {
                    if self.progress.at(&cursor) {
                        self.queue(Queued::Cursor(Some(cursor))).await?;
                    }
                }
                Frame::Retry(base) => self.backoff.set_base(base),
                Frame::Alive => {}
            }
        }
    }

    async fn event(&mut self, event: Event) -> Result<(), End> {
        match self.progress.judge(&event) {
            Verdict::Seen => return Ok(()),
            Verdict::Hole => {
                let message = format!("the event before number {} did not come; resuming", event.sequence);
                return Err(Error::unreachable(message).into());
            }
            Verdict::Lost(gap) => self.queue(Queued::Delivery(Delivery::Gap(gap))).await?,
            Verdict::New => {}
        }
        self.backoff.reset();
        self.queue(Queued::Delivery(Delivery::Event(event))).await
    }

    /// Waits while the application has enough: that is the back-pressure.
    async fn queue(&self, queued: Queued) -> Result<(), End> {
        self.into.send(queued).await.map_err(|_| End::Dropped)
    }
}
