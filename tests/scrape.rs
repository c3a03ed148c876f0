//! What a scrape of a node with many tenants weighs and takes: less than 2 MB and, in an optimised build, less than 100 ms.
//! `cargo test --profile ci -p weir --test scrape -- --nocapture` measures and holds both.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weir_core::{ProjectId, RootSecret, SystemClock, TenantId};
use weir_engine::{Engine, Parts, Settings};
use weir_gateway::{Acceptor, Gateway, Server, ops_router, serve};
use weir_hub::Hub;
use weir_log::embedded::{self, Embedded};
use weir_outbound::{Outbound, Policy};

const TENANTS: usize = 10_000;
/// Of an answer, in any format.
const MOST_BYTES: usize = 2_000_000;
/// How long it takes, half of the times, where the program is optimised.
const MOST_TIME: Duration = Duration::from_millis(100);
/// Scrapes of each kind, between which every tenant does something.
const SCRAPES: usize = 21;

async fn engine(files: &TempDir, shown_tenants: usize) -> Arc<Engine> {
    let url = format!("sqlite://{}", files.path().join("weir.db").display());
    let parts = Parts {
        store: weir_store::open(&url, weir_store::Options::default()).await.expect("a database"),
        log: Embedded::open(&embedded::Options::new(files.path().join("log"))).expect("a log"),
        hub: Hub::start(weir_hub::Config { shards: 2, ..Default::default() }).expect("a hub"),
        clock: Arc::new(SystemClock),
        outbound: Outbound::new(Policy::Trusted).expect("a client"),
        stripe: None,
        root: RootSecret::generate(),
        settings: Settings { shown_tenants, ..Settings::default() },
    };
    Engine::start(parts).await.expect("an engine")
}

fn settings() -> weir_gateway::Settings {
    let patience = Duration::from_secs(30);
    weir_gateway::Settings {
        body_bytes: 1 << 20,
        header_bytes: 16 << 10,
        headers: 64,
        batch_events: 100,
        auth_timeout: patience,
        header_timeout: patience,
        body_timeout: patience,
        frame_bytes: 64 << 10,
        address_header: None,
        console: false,
        graphql: weir_gateway::graphql::Limits {
            query_bytes: 64 << 10,
            tokens: 2000,
            depth: 8,
            cost: 500,
            aliases: 20,
            directives: 20,
            subscriptions: 20,
            introspection: true,
            explorer: false,
        },
    }
}

/// One scrape over a socket: the body, and how long it took.
async fn scrape(address: &str, accept: &str) -> (Vec<u8>, Duration) {
    let begun = Instant::now();
    let mut socket = TcpStream::connect(address).await.expect("connects");
    let request =
        format!("GET /metrics HTTP/1.1\r\nhost: weir\r\naccept: {accept}\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.expect("asks");
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.expect("answers");
    let head = answer.windows(4).position(|end| end == b"\r\n\r\n").expect("a head") + 4;
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer[..head]));
    (answer.split_off(head), begun.elapsed())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_tenants_fit_into_a_scrape() {
    let protobuf =
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
    // As few by name as by default, and as many as can be set.
    for shown in [20, 1000] {
        let files = TempDir::new().expect("a folder");
        let engine = engine(&files, shown).await;
        let tenants: Vec<TenantId> = (0..TENANTS).map(|_| TenantId::new()).collect();
        let project = ProjectId::new();
        let work = || tenants.iter().for_each(|tenant| engine.count_request(*tenant, Some(project)));
        let acceptor = Acceptor::bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
        let address = acceptor.local_addr().expect("an address").to_string();
        let (gateway, server) = (Gateway::new(Arc::clone(&engine), settings()), Server::default());
        tokio::spawn(serve(acceptor, ops_router(Arc::clone(&gateway)), gateway, false, server.clone()));
        let formats = ["text/plain", "application/openmetrics-text", protobuf];
        for accept in formats {
            let mut times = Vec::with_capacity(SCRAPES);
            let mut bytes = 0;
            for _ in 0..SCRAPES {
                work();
                let (body, took) = scrape(&address, accept).await;
                let named = body.windows(4).filter(|word| word == b"ten_").count();
                assert_eq!(named, 4 * shown, "each has four series");
                bytes = bytes.max(body.len());
                times.push(took);
            }
            times.sort_unstable();
            let (median, slowest) = (times[SCRAPES / 2], times[SCRAPES - 1]);
            println!(
                "{TENANTS} tenants, {shown} by name, {}: {bytes} bytes, {median:.1?} median, {slowest:.1?} slowest of {SCRAPES}",
                accept.split(';').next().unwrap_or_default()
            );
            assert!(bytes < MOST_BYTES, "{bytes} bytes");
            assert!(cfg!(debug_assertions) || median < MOST_TIME, "{median:?}");
        }
        // Everybody's work is in some series, whoever is shown.
        let text = String::from_utf8(scrape(&address, "text/plain").await.0).expect("text");
        let requests = text.lines().filter_map(|line| line.strip_prefix("weir_tenant_requests_total{"));
        let sum: f64 = requests.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum();
        assert_eq!(sum, (formats.len() * SCRAPES * TENANTS) as f64);
        server.stop(Duration::from_secs(1)).await;
        engine.stop().await;
    }
}
