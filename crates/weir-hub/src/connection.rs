//! What a shard remembers of a connection. Small: there may be a hundred thousand of them.

use crate::backlog::Backlog;
use crate::websocket::Decoder;
use crate::{ClosedBy, Dialect, Listener, Meter, Operation};
use bytes::Bytes;
use mio::net::TcpStream;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use weir_core::Pattern;

/// No group.
pub const NONE: u32 = u32::MAX;

/// One connection: about 130 bytes when it is idle, plus its share of its group.
pub struct Connection {
    pub socket: TcpStream,
    pub listener: Arc<dyn Listener>,
    pub generation: u32,
    /// The subscriptions that it shares with others, or [`NONE`].
    pub group: u32,
    /// Its place among the group's members.
    pub member: u32,
    /// A WebSocket's last sign of life, an event stream's last bytes: milliseconds of the shard's clock.
    pub active: u32,
    /// When a closing connection, or one that was pinged, is given up.
    pub deadline: u32,
    pub covered: Covered,
    pub owner: Owner,
    /// Events handed to the kernel.
    pub delivered: u64,
    /// What could not be written yet; `None` while it keeps up.
    pub backlog: Option<Box<Backlog>>,
    /// What has arrived of a message that is not whole; `None` between two messages.
    pub inbound: Option<Box<Inbound>>,
    /// What it will be, or was, closed with.
    pub code: u16,
    pub by: ClosedBy,
    pub dialect: Dialect,
    pub phase: Phase,
    /// A ping is unanswered since before `deadline`.
    pub pinged: bool,
    /// Its listener has enough for now.
    pub paused: bool,
    /// An attach of it is parked in a project.
    pub parked: bool,
    /// It waits for another turn in this shard's list.
    pub waiting: bool,
}

/// How far a connection's life has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Both sides talk.
    Open,
    /// Nothing more is read; the close is sent once the answers to what was read before it are out.
    Ending,
    /// The last bytes are queued or sent; what arrives is thrown away.
    Closing,
}

/// Whose meter counts the deliveries.
pub enum Owner {
    /// Not known before the first attach; so many bytes of events have been delivered.
    Unknown(u64),
    /// The project's.
    Known(Arc<Meter>),
}

/// After which sequence the events of each pattern are sent (or queued), so that none is sent twice. What
/// few connections have is boxed twice: the pointer is thin, and all connections are smaller.
pub enum Covered {
    /// The same for all.
    Since(u64),
    /// Subscribed one after the other.
    Each(Box<Box<[(Pattern, u64)]>>),
    /// It has operations, and each of them hears all that it selects.
    Operations(Box<Box<[Arc<Operation>]>>),
}

/// The state of reading.
#[derive(Default)]
pub struct Inbound {
    pub decoder: Decoder,
    /// Bytes read while the listener had enough: at most one read.
    pub held: Vec<u8>,
}

impl Connection {
    /// Writes what the kernel takes now; 0 when it takes nothing.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match (&self.socket).write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    /// Counts delivered events here and with the owner.
    pub fn count(&mut self, events: u64, bytes: u64) {
        if events == 0 {
            return;
        }
        self.delivered += events;
        match &mut self.owner {
            Owner::Unknown(total) => *total += bytes,
            Owner::Known(meter) => {
                meter.delivered.fetch_add(events, Relaxed);
                meter.bytes.fetch_add(bytes, Relaxed);
            }
        }
    }

    /// Names the owner, who is told of what was delivered before it was known.
    pub fn own(&mut self, meter: &Arc<Meter>) {
        if let Owner::Unknown(bytes) = self.owner {
            meter.delivered.fetch_add(self.delivered, Relaxed);
            meter.bytes.fetch_add(bytes, Relaxed);
        }
        self.owner = Owner::Known(Arc::clone(meter));
    }

    /// Its operations, in the order in which they came.
    pub fn operations(&self) -> &[Arc<Operation>] {
        self.covered.operations()
    }

    /// Takes the bytes held while reading was paused.
    pub fn take_held(&mut self) -> Bytes {
        self.inbound.as_mut().map_or_else(Bytes::new, |inbound| std::mem::take(&mut inbound.held).into())
    }
}

impl Covered {
    /// The operations, if it is these.
    pub fn operations(&self) -> &[Arc<Operation>] {
        match self {
            Self::Operations(all) => all,
            Self::Since(_) | Self::Each(_) => &[],
        }
    }

    /// Whether an event that `patterns` select was already sent to this connection.
    pub fn includes(&self, patterns: &[Pattern], topic: &str, sequence: u64) -> bool {
        match self {
            Self::Since(since) => sequence > *since && patterns.iter().any(|p| p.matches(topic)),
            Self::Each(each) => each.iter().any(|(p, since)| sequence > *since && p.matches(topic)),
            Self::Operations(_) => false,
        }
    }

    /// The same with `added` patterns from `since` on. `floor` is the oldest position anybody can start
    /// from: what is covered from there or before need not be told apart.
    pub fn extend(&self, patterns: &[Pattern], added: &[Pattern], since: u64, floor: u64) -> Self {
        let mut each: Vec<(Pattern, u64)> = match self {
            Self::Since(old) => patterns.iter().map(|pattern| (pattern.clone(), *old)).collect(),
            Self::Each(each) => each.to_vec(),
            Self::Operations(_) => Vec::new(),
        };
        for pattern in added {
            match each.iter_mut().find(|(known, _)| known == pattern) {
                Some((_, old)) => *old = since.min(*old),
                None => each.push((pattern.clone(), since)),
            }
        }
        match each.iter().map(|(_, since)| *since).max() {
            Some(newest) if newest <= floor || each.iter().all(|(_, since)| *since == newest) => {
                Self::Since(newest)
            }
            _ => Self::Each(Box::new(each.into())),
        }
    }

    /// The same without some patterns.
    pub fn without(&self, removed: &[Pattern]) -> Self {
        match self {
            Self::Since(since) => Self::Since(*since),
            Self::Each(each) => {
                let left = each.iter().filter(|(pattern, _)| !removed.contains(pattern));
                Self::Each(Box::new(left.cloned().collect()))
            }
            Self::Operations(all) => Self::Operations(all.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_small() {
        assert!(size_of::<Connection>() <= 120, "{} bytes", size_of::<Connection>());
    }
}
