//! The figure of the specification: the hour of 10,000 tenants is reported within a minute at Stripe's rates.
//!
//! Everything is real but the waiting: the worker with its outbox in a database, and HTTP to a Stripe that takes 1,000
//! meter events a second, one at a time for each customer, and answers after 120 ms. While the worker waits for its pace or for
//! Stripe, the clock jumps; while it waits for the database, the clock runs.

use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, pause, resume};
use weir_core::{Clock, NodeId, TenantId, Timestamp};
use weir_engine::billing::stripe::{DEFAULT_RATE, Settings, StripeBilling};
use weir_store::{
    Metric, Outbox, Reply, Report, ReportCount, ReportKey, ReportState, Settled, Store, StoreError,
};
use weir_testkit::{Billed, Subscriber};

const TENANTS: usize = 10_000;
const MINUTE: Duration = Duration::from_secs(60);
/// What Stripe takes to answer.
const LATENCY: Duration = Duration::from_millis(120);

/// A clock that goes with the runtime's.
struct RuntimeClock {
    begin: Timestamp,
    from: Instant,
}

impl Clock for RuntimeClock {
    fn now(&self) -> Timestamp {
        self.begin.plus(self.from.elapsed())
    }
}

/// An outbox whose work takes the time that it takes, while the clock of everything else jumps.
struct Timed(Arc<dyn Outbox>);

impl Timed {
    fn run<'a, T: Send + 'a>(work: Reply<'a, T>) -> Reply<'a, T> {
        Box::pin(async move {
            resume();
            let done = work.await;
            pause();
            done
        })
    }
}
