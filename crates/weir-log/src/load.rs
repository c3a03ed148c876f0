//! What a log has to do and has room for just now, for whoever watches it.

use std::sync::Arc;

/// A look at a log that costs it nothing: no question to a server, no wait.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Bytes of records that wait to be stored.
    pub queued_bytes: u64,
    /// At how many the log refuses more.
    pub queue_limit: u64,
    /// Committed events that the live feed has still to pass on. On a shared stream those of other nodes' projects count too.
    pub lag: u64,
    /// How often the live feed found a hole, or something lost at its end, and read it from the log.
    pub holes: u64,
    /// Bytes free on the disk, where the log is on one of this machine.
    pub disk_free: Option<u64>,
    /// Whether appends, and reads, are refused at once since the last ones found no answer; `None` where that is never done.
    pub breakers_open: Option<(bool, bool)>,
    /// What holds the events.
    pub streams: Vec<StreamLoad>,
    /// The connection to the servers, where there are any.
    pub link: Option<LinkLoad>,
}

/// What holds events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamLoad {
    /// Its name.
    pub name: Arc<str>,
    /// Bytes that it takes on one server.
    pub bytes: u64,
    /// At how many it refuses more; `None` when only the disk bounds it.
    pub max_bytes: Option<u64>,
    /// Events in it, where that is known.
    pub events: Option<u64>,
}

/// A connection to servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkLoad {
    /// Whether it stands.
    pub connected: bool,
    /// How often it was made, since the start.
    pub connects: u64,
    /// Messages and bytes that came.
    pub received: (u64, u64),
    /// Messages and bytes that went.
    pub sent: (u64, u64),
}
