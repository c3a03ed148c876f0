//! From the hub's threads to the runtime: frames are parsed here, off the threads that deliver.

use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::mpsc;
use weir_engine::Engine;

/// A frame on its way to be handled. What may wait is bounded by each connection's allowance.
type Arrived = (Arc<dyn Talker>, Bytes);

/// Who works on what a client says.
pub(crate) trait Talker: Send + Sync {
    /// Takes one message; must not wait.
    fn hear(self: Arc<Self>, text: Bytes);
}

/// One queue and one task per processor; a connection always uses the same, so its frames stay in order.
pub(crate) struct Dispatchers(Vec<mpsc::UnboundedSender<Arrived>>);

impl Dispatchers {
    pub(crate) fn start(engine: &Engine) -> Self {
        let count = std::thread::available_parallelism().map_or(2, usize::from);
        let queues = (0..count).map(|_| {
            let (sender, mut receiver) = mpsc::unbounded_channel::<Arrived>();
            engine.spawn_vital(async move {
                while let Some((connection, text)) = receiver.recv().await {
                    connection.hear(text);
                    // A flood of frames must not keep the other tasks of this thread waiting.
                    tokio::task::coop::consume_budget().await;
                }
            });
            sender
        });
        Self(queues.collect())
    }

    pub(crate) fn send(&self, lane: usize, connection: Arc<dyn Talker>, text: Bytes) {
        if let Some(queue) = self.0.get(lane % self.0.len().max(1)) {
            let _ = queue.send((connection, text));
        }
    }
}
