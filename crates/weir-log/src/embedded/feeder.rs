//! From the writer to the one consumer of the feed, bounded in bytes.
//!
//! A watched project is *live* or *behind*. Live: the writer offers each batch straight from memory.
//! When the consumer has no room the project falls behind: from then on only two numbers are kept (what
//! was sent, what is committed), and a task reads the rest from the log at the consumer's pace. When it
//! has sent what is committed the project is live again. Both sides change over under one lock, so
//! nothing is sent twice and nothing is passed over.

use crate::{Feed, FeedItem, LogError, Place, ReadQuery};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, Semaphore, mpsc};
use weir_core::{Event, Pattern, Position, ProjectId};

/// Bytes in one item at most, a larger single event aside.
const ITEM_BYTES: usize = 256 << 10;

struct Watched {
    place: Place,
    /// Which watch this is: what an earlier one still has under way must not be sent.
    watch: u64,
    sent: Position,
    committed: Position,
    live: bool,
}

#[derive(Default)]
struct Watches {
    projects: HashMap<ProjectId, Watched>,
    behind: VecDeque<ProjectId>,
    last_watch: u64,
}

/// One project's part in a batch of the writer.
pub(super) struct Offer {
    pub project: ProjectId,
    /// The head before the batch.
    pub before: u64,
    /// The head after it.
    pub head: Position,
    /// Every event of the project in the batch, or nothing if it was not watched when it was written.
    pub events: Option<Vec<Arc<Event>>>,
}

/// The state of the feed.
pub(super) struct Feeder {
    watches: Mutex<Watches>,
    sender: Mutex<Option<mpsc::Sender<FeedItem>>>,
    feed: Mutex<Option<Feed>>,
    /// Room in the queue, in KiB; the consumer gives it back as it takes items.
    budget: Arc<Semaphore>,
    total: usize,
    /// Wakes the task that serves projects which are behind.
    fell_behind: Notify,
}

impl Feeder {
    pub fn new(bytes: usize) -> Self {
        let total = (bytes >> 10).clamp(1, Semaphore::MAX_PERMITS);
        // An item costs at least 1, so the budget bounds the channel too: sending never waits.
        let (sender, receiver) = mpsc::channel(total);
        let budget = Arc::new(Semaphore::new(total));
        Self {
            watches: Mutex::default(),
            sender: Mutex::new(Some(sender)),
            feed: Mutex::new(Some(Feed::within(receiver, budget.clone(), total))),
            budget,
            total,
            fell_behind: Notify::new(),
        }
    }

    /// The receiving end, once.
    pub fn feed(&self) -> Option<Feed> {
        lock(&self.feed).take()
    }

    /// Ends the feed: the consumer gets what is queued, then the end.
    pub fn close(&self) {
        lock(&self.sender).take();
        self.budget.close();
        self.fell_behind.notify_one();
    }

    /// Starts feeding a project. `head` reads the committed head. It is read under the lock: what is
    /// committed later is offered later, and then finds the project watched.
    pub fn watch(
        &self,
        place: &Place,
        head: impl FnOnce() -> Result<Position, LogError>,
    ) -> Result<Position, LogError> {
        let mut watches = lock(&self.watches);
        if let Some(watched) = watches.projects.get(&place.project) {
            return Ok(watched.sent);
        }
        let head = head()?;
        watches.last_watch += 1;
        let watch = watches.last_watch;
        let watched = Watched { place: place.clone(), watch, sent: head, committed: head, live: true };
        watches.projects.insert(place.project, watched);
        Ok(head)
    }

    /// Stops feeding a project.
    pub fn unwatch(&self, project: ProjectId) {
        lock(&self.watches).projects.remove(&project);
    }

    /// Committed events that are still to be sent.
    pub fn lag(&self) -> u64 {
        let behind = |watched: &Watched| watched.committed.sequence.saturating_sub(watched.sent.sequence);
        lock(&self.watches).projects.values().map(behind).sum()
    }

    /// Whether the writer should keep a project's events for an offer.
    pub fn wants(&self, project: ProjectId) -> bool {
        lock(&self.watches).projects.get(&project).is_some_and(|watched| watched.live)
    }

    /// Takes what the writer has committed: sends it, or remembers that it is still to be sent.
    pub fn offer(&self, epoch: u64, offers: Vec<Offer>) {
        let mut watches = lock(&self.watches);
        for Offer { project, before, head, events } in offers {
            let Some(watched) = watches.projects.get_mut(&project) else { continue };
            if head.sequence > watched.committed.sequence {
                watched.committed = head;
            }
            if !watched.live || head.sequence <= watched.sent.sequence {
                continue;
            }
            let whole = events.filter(|_| before <= watched.sent.sequence);
            if whole.is_none_or(|events| !self.send_now(watched, epoch, events)) {
                watched.live = false;
                watches.behind.push_back(project);
                self.fell_behind.notify_one();
            }
        }
    }

    /// Sends events in items of bounded size as long as there is room. Whether all went.
    fn send_now(&self, watched: &mut Watched, epoch: u64, events: Vec<Arc<Event>>) -> bool {
        let sent = watched.sent.sequence;
        let mut fresh = events.into_iter().filter(|event| event.sequence > sent).peekable();
        let project = watched.place.project;
        while fresh.peek().is_some() {
            let (mut item, mut bytes) = (Vec::new(), 0);
            while let Some(event) = fresh.next_if(|e| item.is_empty() || bytes + e.weight() <= ITEM_BYTES) {
                bytes += event.weight();
                item.push(event);
            }
            let Some(reached) = item.last().map(|event| event.position(epoch)) else { break };
            let item = FeedItem::Events { project, events: item };
            let cost = u32::try_from(item.cost().min(self.total)).unwrap_or(u32::MAX);
            let Ok(room) = self.budget.try_acquire_many(cost) else { return false };
            room.forget();
            self.send(item);
            watched.sent = reached;
        }
        true
    }

    /// Sends an item whose room is taken already.
    fn send(&self, item: FeedItem) {
        if let Some(sender) = &*lock(&self.sender) {
            // The consumer may have gone; then nobody misses it.
            let _ = sender.try_send(item);
        }
    }

    /// Serves projects that are behind until the feed is closed. `page` reads a page of the log.
    pub async fn catch_up<F>(&self, epoch: u64, page: impl Fn(Place, ReadQuery) -> F)
    where
        F: Future<Output = Result<crate::Page, LogError>>,
    {
        while !self.budget.is_closed() {
            let Some((place, watch, sent)) = self.next_behind() else {
                self.fell_behind.notified().await;
                continue;
            };
            let query = ReadQuery {
                after: sent.sequence,
                patterns: [Pattern::all(), Pattern::all_of_system()].into(),
                max_events: 1024,
                max_bytes: ITEM_BYTES,
            };
            let item = match page(place.clone(), query).await {
                Ok(page) if page.events.is_empty() => None,
                Ok(page) => Some(FeedItem::Events { project: place.project, events: page.events }),
                Err(error) => Some(FeedItem::Broken { project: place.project, reason: error.to_string() }),
            };
            if let Some(item) = &item {
                let cost = u32::try_from(item.cost().min(self.total)).unwrap_or(u32::MAX);
                let Ok(room) = self.budget.acquire_many(cost).await else { return };
                room.forget();
            }
            self.advance(epoch, place.project, watch, item);
        }
    }

    /// The next project that is behind, if it is still watched.
    fn next_behind(&self) -> Option<(Place, u64, Position)> {
        let mut watches = lock(&self.watches);
        loop {
            let project = watches.behind.pop_front()?;
            match watches.projects.get(&project) {
                Some(w) if !w.live => return Some((w.place.clone(), w.watch, w.sent)),
                _ => {}
            }
        }
    }

    /// Sends what was read for a project, unless the watch it was read for is over.
    fn advance(&self, epoch: u64, project: ProjectId, watch: u64, item: Option<FeedItem>) {
        let mut watches = lock(&self.watches);
        let Some(watched) = watches.projects.get_mut(&project).filter(|w| w.watch == watch) else {
            self.budget.add_permits(item.map_or(0, |item| item.cost().min(self.total)));
            return;
        };
        match &item {
            Some(FeedItem::Broken { .. }) => {
                watches.projects.remove(&project);
            }
            read => {
                if let Some(FeedItem::Events { events, .. }) = read
                    && let Some(last) = events.last()
                {
                    watched.sent = last.position(epoch);
                }
                watched.live = watched.sent.sequence >= watched.committed.sequence;
                if !watched.live {
                    watches.behind.push_back(project);
                }
            }
        }
        if let Some(item) = item {
            self.send(item);
        }
    }
}

/// No code panics while it holds one of these locks; if it did, the data would still be whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
