//! Operations: subscriptions of one session that each have a start, an end and words of their own.

use super::{Session, take};
use crate::Error;
use crate::session::subscribe::{Journey, SubscribeError, Voice, within_topics};
use crate::{Caller, Start};
use bytes::Bytes;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Mutex as TurnMutex, oneshot};
use weir_core::Pattern;
use weir_hub::Shape;

/// How an operation is told of events: `prefix`, what the shape renders, `suffix`. One WebSocket text, or
/// the raw bytes of one SSE event.
#[derive(Clone)]
pub struct Envelope {
    /// What goes before each event.
    pub prefix: Bytes,
    /// What goes after it.
    pub suffix: Bytes,
    /// The event itself, shared by everybody who asked for the same.
    pub shape: Arc<dyn Shape>,
}

/// One subscription of a session that may have several.
pub struct Operation {
    pub(super) wire: Arc<weir_hub::Operation>,
    pub(super) patterns: Arc<[Pattern]>,
    pub(super) voice: Arc<dyn Voice>,
    /// Held while the hub is asked for something, so that nothing can be asked after its end.
    has_ended: Mutex<bool>,
}

impl Operation {
    /// Locked as long as the answer lives; true when it has ended.
    pub(super) fn has_ended(&self) -> MutexGuard<'_, bool> {
        self.has_ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The operations of a session. Made with the first: most sessions have none.
#[derive(Default)]
pub(super) struct Operations {
    all: Mutex<Vec<Arc<Operation>>>,
    next: AtomicU32,
    /// One page of history at a time is with the hub, so that many replays are bounded as one is.
    pub(super) page: TurnMutex<()>,
}

impl Operations {
    /// What all of them follow.
    pub(super) fn patterns(&self) -> Vec<Pattern> {
        self.all().iter().flat_map(|operation| operation.patterns.iter().cloned()).collect()
    }

    fn all(&self) -> MutexGuard<'_, Vec<Arc<Operation>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    /// Makes an operation, which [`Session::follow`] brings to life and [`Session::end_operation`] may end at
    /// any time from now on. A session has either operations or plain subscriptions.
    ///
    /// # Errors
    /// `INSUFFICIENT_SCOPE`, `RATE_LIMIT_EXCEEDED`; `PROJECT_LIMIT_EXCEEDED` when all operations together
    /// would follow too many topics.
    pub fn begin_operation(
        &self,
        patterns: Vec<Pattern>,
        envelope: Envelope,
        voice: Arc<dyn Voice>,
    ) -> Result<Arc<Operation>, Error> {
        let caller = self.caller();
        self.engine.access.require_fresh()?;
        caller.may_subscribe(&patterns)?;
        take(&self.subscribe_rate, "subscriptions per second on one connection")?;
        let operations = self.operations.get_or_init(Box::default);
        let mut all = operations.all();
        let used: usize = all.iter().map(|operation| operation.patterns.len()).sum();
        within_topics(&caller, used + patterns.len())?;
        let Envelope { prefix, suffix, shape } = envelope;
        let id = operations.next.fetch_add(1, Ordering::Relaxed);
        let operation = Arc::new(Operation {
            wire: Arc::new(weir_hub::Operation { id, prefix, suffix, shape }),
            patterns: patterns.into(),
            voice,
            has_ended: Mutex::new(false),
        });
        all.push(Arc::clone(&operation));
        Ok(operation)
    }

    /// Replays what the operation missed and goes live without a hole, a repetition or a reordering at the
    /// seam. Returns when it is live, or was ended meanwhile. To be run to its end; several operations of a
    /// session may be on their way at once.
    ///
    /// # Errors
    /// `Refused` when it did not begin, `Interrupted` when a part of it was sent. The operation is over then,
    /// and nothing of it is sent any more.
    pub async fn follow(&self, operation: &Arc<Operation>, start: Start) -> Result<(), SubscribeError> {
        let journey = Journey {
            session: self,
            caller: self.caller(),
            patterns: Arc::clone(&operation.patterns),
            voice: Arc::clone(&operation.voice),
            operation: Some(operation),
        };
        let kept = self.keep_open(&mut *self.turn.lock().await, &journey.caller).await;
        let mut outcome = match kept {
            Ok(()) => journey.run(start).await,
            Err(error) => Err(SubscribeError::Refused(error)),
        };
        if outcome.is_ok() {
            // Permissions that were lost on the way were held against it before it was live.
            let allowed = self.caller().may_subscribe(&operation.patterns);
            outcome = allowed.map_err(SubscribeError::Interrupted);
        }
        match outcome {
            Err(error) if self.end_operation(operation).await => Err(error),
            _ => Ok(()),
        }
    }

    /// Ends an operation: what is queued for it is dropped, and when this returns nothing of it will be
    /// sent. The others are not disturbed. Returns false when it had ended before.
    pub async fn end_operation(&self, operation: &Arc<Operation>) -> bool {
        let (done, finished) = oneshot::channel();
        {
            let mut has_ended = operation.has_ended();
            if std::mem::replace(&mut *has_ended, true) {
                return false;
            }
            if let Some(conn) = self.conn.get() {
                let done = Box::new(move || {
                    let _ = done.send(());
                });
                self.engine.hub.detach_operation(*conn, operation.wire.id, done);
            }
        }
        if let Some(operations) = self.operations.get() {
            operations.all().retain(|other| !Arc::ptr_eq(other, operation));
        }
        // An error says that the connection is gone, and the operation with it.
        let _ = finished.await;
        true
    }

    /// Ends the operations that a caller may not have, and tells why; returns how many.
    pub(super) async fn end_lost(&self, caller: &Caller) -> usize {
        let Some(operations) = self.operations.get() else { return 0 };
        let all = operations.all().clone();
        let mut lost = 0;
        for operation in all {
            let Err(error) = caller.may_subscribe(&operation.patterns) else { continue };
            if self.end_operation(&operation).await {
                lost += 1;
                if let Some(text) = operation.voice.ended(&error) {
                    self.send(text);
                }
            }
        }
        lost
    }

    /// Lets go of all operations: the connection is gone.
    pub(super) fn forget_operations(&self) {
        let Some(operations) = self.operations.get() else { return };
        for operation in std::mem::take(&mut *operations.all()) {
            *operation.has_ended() = true;
        }
    }
}
