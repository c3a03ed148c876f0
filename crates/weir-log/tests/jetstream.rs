//! The JetStream backend on real servers: the suite of all backends on one server and on a cluster of
//! three, and what happens when servers and connections fail.
#![allow(clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "a failing test may panic")]

use std::sync::{Arc, LazyLock, Weak};
use std::time::Duration;
use tokio::sync::Mutex;
use uuid::Uuid;
use weir_core::{ProjectId, TenantId, Timestamp};
use weir_log::conformance::Backend;
use weir_log::jetstream::server::{NatsCluster, NatsServer, ServerConfig};
use weir_log::jetstream::{JetStream, Options};
use weir_log::{EventLog, Place};

#[path = "jetstream/faults.rs"]
mod faults;
#[path = "jetstream/figures.rs"]
mod figures;

/// The streams' own window; short, since one test waits for its end.
const WINDOW: Duration = Duration::from_secs(3);
/// The server forgets ids by a timer, which may be late.
const LATE: Duration = Duration::from_millis(500);

/// The server or cluster that the tests of one process share; the last one to use it stops it.
type Shared<S> = LazyLock<Mutex<Weak<S>>>;
static SINGLE: Shared<NatsServer> = LazyLock::new(Mutex::default);
static CLUSTER: Shared<NatsCluster> = LazyLock::new(Mutex::default);

async fn single() -> Arc<NatsServer> {
    let mut shared = SINGLE.lock().await;
    if let Some(server) = shared.upgrade() {
        return server;
    }
    let server = Arc::new(NatsServer::start(ServerConfig::default()).await.expect("a server"));
    *shared = Arc::downgrade(&server);
    server
}

async fn cluster() -> Arc<NatsCluster> {
    let mut shared = CLUSTER.lock().await;
    if let Some(cluster) = shared.upgrade() {
        return cluster;
    }
    let cluster = Arc::new(NatsCluster::start(3).await.expect("a cluster"));
    *shared = Arc::downgrade(&cluster);
    cluster
}

fn options(urls: Vec<String>, replicas: usize) -> Options {
    Options { replicas, dedupe_window: WINDOW, ..Options::new(urls) }
}

/// A stream of its own for each test, so that a shared server is as good as a fresh one.
fn stream_name() -> Arc<str> {
    format!("T{}", Uuid::new_v4().simple()).into()
}

fn place_on(stream: &Arc<str>) -> Place {
    Place { tenant: TenantId::new(), project: ProjectId::new(), stream: Arc::clone(stream) }
}

macro_rules! backend {
    ($name:ident, $server:ty, $start:expr, $urls:expr, $replicas:literal, $cases:literal) => {
        struct $name {
            log: Arc<JetStream>,
            stream: Arc<str>,
            server: Arc<$server>,
        }

        impl Backend for $name {
            const MODEL_CASES: u32 = $cases;

            async fn open() -> Self {
                let server = $start.await;
                let log = JetStream::connect(options($urls(&server), $replicas)).await.expect("connect");
                Self { log, stream: stream_name(), server }
            }

            fn log(&self) -> Arc<dyn EventLog> {
                self.log.clone()
            }

            async fn reopen(self) -> Self {
                self.log.close().await;
                let log = JetStream::connect(options($urls(&self.server), $replicas)).await.expect("connect");
                Self { log, ..self }
            }

            fn place(&self) -> Place {
                place_on(&self.stream)
            }

            fn now(&self) -> Timestamp {
                weir_core::Clock::now(&weir_core::SystemClock)
            }

            async fn pass(&self, time: Duration) {
                tokio::time::sleep(time).await;
            }

            fn dedupe_window(&self) -> Duration {
                WINDOW + LATE
            }
        }
    };
}

mod on_one_server {
    use super::*;

    backend!(Single, NatsServer, single(), |server: &NatsServer| vec![server.url()], 1, 16);
    weir_log::conformance!(Single);
}

mod on_a_cluster {
    use super::*;

    backend!(Cluster, NatsCluster, cluster(), NatsCluster::urls, 3, 4);
    weir_log::conformance!(Cluster);
}
