//! Subscriptions: `session` keeps one alive, `progress` knows what was handed over, `websocket` and `sse`
//! speak the two transports.

mod progress;
mod session;
mod sse;
#[cfg(test)]
mod tests;
mod websocket;

use crate::{Client, Delivery, Error, Result, Start};
use futures::Stream;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// How events come in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// A WebSocket.
    #[default]
    WebSocket,
    /// Server-sent events: plain HTTP, where proxies do not let WebSockets through.
    Sse,
}

/// A subscription in the making.
#[derive(Clone, Debug)]
#[must_use = "nothing happens before `connect` or `start`"]
pub struct Subscribe {
    client: Client,
    topics: Vec<String>,
    start: Start,
    transport: Transport,
    queue: usize,
}

impl Subscribe {
    pub(crate) const fn new(client: Client, topics: Vec<String>) -> Self {
        Self { client, topics, start: Start::Default, transport: Transport::WebSocket, queue: 64 }
    }

    /// Begins after the event with this cursor: what was published since comes first.
    pub fn after(self, cursor: impl Into<String>) -> Self {
        self.from(Start::After(cursor.into()))
    }

    /// Begins there; from now on, if not called.
    pub fn from(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// How events come in; WebSocket, if not called.
    pub const fn transport(mut self, transport: Transport) -> Self {
        self.transport = transport;
        self
    }

    /// How many deliveries wait at most for the application; 64. When they do, nothing more is read from
    /// the network; a server that then closes a slow connection loses nothing, for the subscription resumes.
    pub const fn queue(mut self, deliveries: usize) -> Self {
        self.queue = deliveries;
        self
    }

    /// Connects and waits until the server has confirmed.
    ///
    /// # Errors
    /// Whatever the first attempt met, also when a later one could succeed.
    pub async fn connect(self) -> Result<Subscription> {
        let mut subscription = self.launch(true);
        match subscription.queue.recv().await {
            Some(Queued::Failed(error)) => Err(error),
            Some(Queued::Cursor(cursor)) => {
                subscription.cursor = cursor.or(subscription.cursor.take());
                Ok(subscription)
            }
            Some(Queued::Delivery(delivery)) => {
                subscription.first = Some(delivery);
                Ok(subscription)
            }
            None => Err(Error::unreachable("the subscription's task was stopped with its runtime")),
        }
    }

    /// Connects in the background, however long it takes.
    pub fn start(self) -> Subscription {
        self.launch(false)
    }

    fn launch(self, fail_first: bool) -> Subscription {
        let (into, queue) = mpsc::channel(self.queue.max(1));
        let cursor = match &self.start {
            Start::After(cursor) => Some(cursor.clone()),
            _ => None,
        };
        let task = tokio::spawn(session::run(self, into, fail_first)).abort_handle();
        Subscription { queue, cursor, first: None, task }
    }
}

/// What goes from the task to the stream.
enum Queued {
    /// The server confirmed; if it said where, resuming there misses nothing.
    Cursor(Option<String>),
    Delivery(Delivery),
    /// The last one.
    Failed(Error),
}

/// A stream of events, each once, in the project's order. It ends after an error, and only errors that
/// reconnecting cannot cure come out of it. Dropping it closes the connection.
#[derive(Debug)]
pub struct Subscription {
    queue: mpsc::Receiver<Queued>,
    cursor: Option<String>,
    first: Option<Delivery>,
    task: AbortHandle,
}

impl Subscription {
    /// The cursor to resume with after what was taken from the stream so far. `None` before the server
    /// confirmed a subscription that did not begin at a cursor.
    #[must_use]
    pub fn cursor(&self) -> Option<&str> {
        self.cursor.as_deref()
    }

    fn hand_over(&mut self, delivery: Delivery) -> Delivery {
        if let Delivery::Event(event) = &delivery {
            self.cursor = Some(event.cursor.clone());
        }
        delivery
    }
}

impl Stream for Subscription {
    type Item = Result<Delivery>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(self.hand_over(first))));
        }
        loop {
            match std::task::ready!(self.queue.poll_recv(cx)) {
                Some(Queued::Cursor(cursor)) => self.cursor = cursor.or(self.cursor.take()),
                Some(Queued::Delivery(delivery)) => {
                    return Poll::Ready(Some(Ok(self.hand_over(delivery))));
                }
                Some(Queued::Failed(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.task.abort();
    }
}
