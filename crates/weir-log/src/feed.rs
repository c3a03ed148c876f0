//! The live feed: committed events of the watched projects, on their way to the hub.

use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc};
use weir_core::{Event, ProjectId};

/// Something that happened in a watched project.
#[derive(Debug, Clone)]
pub enum FeedItem {
    /// Committed events in sequence order, following without a hole on the last item of the project.
    Events {
        /// Whose they are.
        project: ProjectId,
        /// At least one.
        events: Vec<Arc<Event>>,
    },
    /// The backend could not keep the promise for this project (what was missing is no longer
    /// retained, or the log was made anew). The project is no longer watched: watch it again.
    Broken {
        /// Whose feed ended.
        project: ProjectId,
        /// Why, for the log line.
        reason: String,
    },
}

impl FeedItem {
    /// What the item takes of a queue that is bounded in bytes: KiB, at least 1.
    #[must_use]
    pub fn cost(&self) -> usize {
        match self {
            Self::Events { events, .. } => events.iter().map(|event| event.weight()).sum::<usize>() >> 10,
            Self::Broken { .. } => 0,
        }
        .max(1)
    }
}

/// The receiving end; a log has one.
#[derive(Debug)]
pub struct Feed {
    receiver: mpsc::Receiver<FeedItem>,
    /// Where the room of a taken item is given back, and how much there is in all.
    budget: Option<(Arc<Semaphore>, usize)>,
}

impl Feed {
    /// Wraps the receiver that the backend writes into.
    #[must_use]
    pub const fn new(receiver: mpsc::Receiver<FeedItem>) -> Self {
        Self { receiver, budget: None }
    }

    /// The same for a backend that bounds the queue in bytes: before it sends an item it takes that
    /// item's [`FeedItem::cost`] from `budget`, `total` at most; here it is given back.
    #[must_use]
    pub const fn within(receiver: mpsc::Receiver<FeedItem>, budget: Arc<Semaphore>, total: usize) -> Self {
        Self { receiver, budget: Some((budget, total)) }
    }

    /// The next item; `None` once the log is closed.
    pub async fn recv(&mut self) -> Option<FeedItem> {
        let item = self.receiver.recv().await;
        self.give_back(item.as_ref());
        item
    }

    /// The next item if one is waiting.
    pub fn try_recv(&mut self) -> Option<FeedItem> {
        let item = self.receiver.try_recv().ok();
        self.give_back(item.as_ref());
        item
    }

    fn give_back(&self, item: Option<&FeedItem>) {
        if let (Some(item), Some((budget, total))) = (item, &self.budget) {
            budget.add_permits(item.cost().min(*total));
        }
    }
}
