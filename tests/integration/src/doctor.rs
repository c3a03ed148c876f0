//! `weir doctor`, with each thing really out of order.

use serde_json::Value;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use weir_testkit::stripe::FakeStripe;
use weir_testkit::{
    Alertmanager, Behaviour, Collector, EmptyDatabase, NatsWithout, Receiver, Replicas, TestApp, weir_with,
};

/// Settings for a node that is not there.
fn settings(folder: &TempDir, more: &[(&str, &str)]) -> Vec<(String, String)> {
    let data = folder.path().join("data").display().to_string();
    let ports = weir_testkit::free_ports(2);
    let mut all = vec![
        ("WEIR_DATA_DIR".to_owned(), data),
        ("WEIR_LISTEN".to_owned(), format!("127.0.0.1:{}", ports[0])),
        ("WEIR_OPS_LISTEN".to_owned(), format!("127.0.0.1:{}", ports[1])),
    ];
    all.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    all
}

async fn doctor(settings: Vec<(String, String)>, more: &[&str]) -> (Output, Value) {
    let arguments = [&["doctor", "--json"], more].concat();
    let output = weir_with(&settings, &arguments).await;
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    (output, report)
}

/// The levels and words of a check.
fn of<'a>(report: &'a Value, check: &str) -> Vec<(&'a str, &'a str)> {
    let findings = report["findings"].as_array().expect("findings").iter();
    let of = findings.filter(|finding| finding["check"] == check);
    of.map(|finding| (finding["level"].as_str().unwrap_or(""), finding["found"].as_str().unwrap_or("")))
        .collect()
}

#[track_caller]
fn has(report: &Value, check: &str, level: &str, words: &str) {
    let found = of(report, check);
    assert!(
        found.iter().any(|(is, text)| *is == level && text.contains(words)),
        "no {level} `{words}` among {found:?}"
    );
    // Whoever is told that something is wrong is told what to do.
    for finding in report["findings"].as_array().expect("findings") {
        assert_eq!(finding["level"] == "ok", finding["advice"].is_null(), "{finding}");
    }
}

#[tokio::test]
async fn nothing_is_made_by_looking_and_a_first_start_is_no_trouble() {
    let folder = TempDir::new().expect("a folder");
    let (output, report) = doctor(settings(&folder, &[]), &[]).await;
    assert!(output.status.success(), "{report}");
    has(&report, "data directory", "ok", "made at the first start");
    has(&report, "listen", "ok", "is free");
    has(&report, "alerts", "warning", "nobody is told");
    assert!(!folder.path().join("data").exists());
    let text = weir_with(&settings(&folder, &[]), &["doctor"]).await;
    let text = String::from_utf8(text.stdout).expect("text");
    assert!(text.contains("ok    configuration") && !text.contains('\x1b'), "{text}");
}

#[tokio::test]
async fn a_running_node_is_seen_from_outside() {
    let app = TestApp::start().await;
    let listen = app.nodes[0].address().to_owned();
    let ops = app.nodes[0].ops_address().to_owned();
    let (output, report) =
        doctor(app.settings_with(&[("WEIR_LISTEN", &listen), ("WEIR_OPS_LISTEN", &ops)]), &[]).await;
    assert!(output.status.success(), "{report}");
    has(&report, "event log", "ok", "in use by a running node");
    has(&report, "listen", "ok", "as by a running node");
    has(&report, "database", "ok", "tables of version");
    has(&report, "clock", "ok", "the database's");
    app.finish().await;
}

#[tokio::test]
async fn a_taken_port_a_file_for_a_directory_and_open_secrets_are_named() {
    let folder = TempDir::new().expect("a folder");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    std::fs::write(folder.path().join("data"), "in the way").expect("written");
    let secret = folder.path().join("key");
    std::fs::write(&secret, "0".repeat(64)).expect("written");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o644)).expect("set");
    let file = secret.display().to_string();
    let more = [("WEIR_LISTEN", address.as_str()), ("WEIR_SECRET_KEY_FILE", &file)];
    let (output, report) = doctor(settings(&folder, &more), &[]).await;
    assert_eq!(output.status.code(), Some(1));
    has(&report, "listen", "bad", "cannot be used");
    has(&report, "data directory", "bad", "is not a directory");
    has(&report, "secret files", "warning", "everybody");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).expect("set");
    let (_, report) = doctor(settings(&folder, &more), &[]).await;
    has(&report, "secret files", "ok", "their owner alone");
}

#[tokio::test]
async fn a_full_disk_and_an_open_data_directory_are_named() {
    let app = TestApp::start().await;
    let folder = app.data();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).expect("set");
    // More than this machine has.
    let (output, report) = doctor(app.settings_with(&[("WEIR_LOG_MIN_FREE_BYTES", "1TiB")]), &[]).await;
    assert_eq!(output.status.code(), Some(1));
    has(&report, "disk space", "bad", "less than log.min_free_bytes");
    has(&report, "data directory", "warning", "open to others");
    has(&report, "data directory", "ok", "a sync takes");
    app.finish().await;
}

#[tokio::test]
async fn a_database_that_is_away_or_without_tables_is_named() {
    let folder = TempDir::new().expect("a folder");
    let port = weir_testkit::free_ports(1)[0];
    let url = format!("postgres://postgres@127.0.0.1:{port}/weir");
    let (output, report) = doctor(settings(&folder, &[("WEIR_DATABASE_URL", &url)]), &[]).await;
    assert_eq!(output.status.code(), Some(1));
    has(&report, "database", "bad", "cannot be opened");

    let database = EmptyDatabase::create().await;
    let more = [("WEIR_DATABASE_URL", database.url.as_str()), ("WEIR_DATABASE_AUTO_MIGRATE", "false")];
    let (output, report) = doctor(settings(&folder, &more), &[]).await;
    assert_eq!(output.status.code(), Some(1));
    has(&report, "database", "bad", "tables of version 0");
    has(&report, "database", "ok", "PostgreSQL 1");
    // The superuser that it logs in as passes row-level security until the role is there.
    has(&report, "row security", "bad", "passes it");
    let migrated = weir_with(&settings(&folder, &more), &["migrate"]).await;
    assert!(migrated.status.success(), "{migrated:?}");
    let (_, report) = doctor(settings(&folder, &more), &[]).await;
    has(&report, "row security", "ok", "weir_app");
}

#[tokio::test]
async fn nats_without_jetstream_away_or_unsure_is_named() {
    let folder = TempDir::new().expect("a folder");
    let plain = NatsWithout::jetstream().await;
    let database = EmptyDatabase::create().await;
    let with = |nats: &str, more: &[(&str, &str)]| {
        let mut all = settings(&folder, &[("WEIR_DATABASE_URL", &database.url), ("WEIR_NATS_URL", nats)]);
        all.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        all
    };
    let (output, report) = doctor(with(&plain.url(), &[]), &[]).await;
    assert_eq!(output.status.code(), Some(1));
    has(&report, "event log", "bad", "without JetStream");
    has(&report, "event log", "ok", "NATS 2.");
    let nowhere = format!("nats://127.0.0.1:{}", weir_testkit::free_ports(1)[0]);
    let (output, report) = doctor(with(&nowhere, &[]), &[]).await;
    assert_eq!(output.status.code(), Some(1));
    has(&report, "event log", "bad", "connecting to NATS");

    let app = TestApp::cluster_with(1, Replicas::One, &[]).await;
    let tenant = app.tenant().await;
    app.api(&tenant.api_key).publish("a", &serde_json::json!(1)).await;
    let (output, report) = doctor(app.settings_with(&[("WEIR_NATS_REPLICAS", "3")]), &[]).await;
    assert!(output.status.success(), "{report}");
    has(&report, "durability", "warning", "up to 2 minutes");
    has(&report, "streams", "warning", "1 copies");
    has(&report, "clock", "ok", "the NATS server's");
    let (_, report) = doctor(app.settings_with(&[("WEIR_NATS_SYNC", "always")]), &[]).await;
    has(&report, "durability", "ok", "stable storage");
    app.finish().await;
}

#[tokio::test]
async fn what_is_wrong_with_stripe_and_alertmanager_is_named() {
    let folder = TempDir::new().expect("a folder");
    let fake = FakeStripe::start().await;
    let plan = fake.metered_plan();
    let given = fake.settings(&plan);
    let given: Vec<_> = given.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let manager = Alertmanager::start().await;
    let with = |more: &[(&str, &str)]| {
        let mut all = settings(&folder, &given);
        all.push(("WEIR_ALERTS_ALERTMANAGER_URLS".to_owned(), manager.url().to_owned()));
        all.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        all
    };
    let (output, report) = doctor(with(&[]), &["--reach"]).await;
    assert!(output.status.success(), "{report}");
    has(&report, "Stripe", "ok", "is metered");
    has(&report, "alerts", "ok", "is ready");
    let wrong = [
        ("WEIR_STRIPE_PRICE", "price_none"),
        ("WEIR_STRIPE_EVENTS_PER_SECOND", "400"),
        ("WEIR_STRIPE_WEBHOOK_SECRETS", "secret"),
    ];
    let (output, report) = doctor(with(&wrong), &["--reach"]).await;
    assert_eq!(output.status.code(), Some(1));
    has(&report, "Stripe", "bad", "does not begin with whsec_");
    has(&report, "Stripe", "warning", "test mode takes 25");
    assert_eq!(of(&report, "Stripe").iter().filter(|(level, _)| *level == "bad").count(), 2, "{report}");
    let live = [("WEIR_STRIPE_SECRET_KEY", "sk_live_x")];
    let (output, report) = doctor(with(&live), &[]).await;
    assert_eq!(output.status.code(), Some(1));
    has(&report, "Stripe", "bad", "a live key goes to");
    has(&report, "Stripe", "warning", "may do anything");
    drop(manager);
}

#[tokio::test]
async fn whether_the_collector_takes_traces_is_asked_as_the_exporter_would() {
    let folder = TempDir::new().expect("a folder");
    let collector = Collector::start();
    let look = async |endpoint: &str, more: &[(&str, &str)], reach: &[&str]| {
        let given = [&[("WEIR_TELEMETRY_OTLP_ENDPOINT", endpoint)], more].concat();
        doctor(settings(&folder, &given), reach).await
    };
    let (_, report) = doctor(settings(&folder, &[]), &["--reach"]).await;
    has(&report, "traces", "ok", "not recorded");
    let (output, report) = look(&collector.endpoint(), &[], &[]).await;
    assert!(output.status.success(), "{report}");
    has(&report, "traces", "ok", "--reach asks");
    let (output, report) = look(&collector.endpoint(), &[], &["--reach"]).await;
    assert!(output.status.success(), "{report}");
    has(&report, "traces", "ok", "takes them");

    let bad = async |endpoint: &str, words: &str, advice: &str| {
        let (output, report) = look(endpoint, &[], &["--reach"]).await;
        assert_eq!(output.status.code(), Some(1));
        has(&report, "traces", "bad", words);
        let findings = report["findings"].as_array().expect("findings");
        let finding = findings.iter().find(|finding| finding["check"] == "traces").expect("traces");
        assert!(finding["advice"].as_str().is_some_and(|text| text.contains(advice)), "{finding}");
    };
    let closed = format!("http://127.0.0.1:{}", weir_testkit::free_ports(1)[0]);
    bad(&closed, "refused", "see that the collector runs").await;
    bad(&collector.grpc_endpoint(), "127.0.0.1", "4317 is for gRPC").await;
    bad(&collector.endpoint().replace("http:", "https:"), "127.0.0.1", "speaks no TLS").await;
    bad(&format!("{}/elsewhere", collector.endpoint()), "status 404", "most often 4318").await;

    let untrusted = SelfSigned::start();
    bad(&untrusted.url(), "certificate", "from an authority that this machine trusts").await;
    drop(untrusted);

    let other = Receiver::start().await;
    bad(other.url(), "not as a collector does", "most often 4318").await;
    other.then([Behaviour::Status(503)]);
    let (output, report) = look(other.url(), &[], &["--reach"]).await;
    assert!(output.status.success(), "{report}");
    has(&report, "traces", "warning", "status 503");
    other.then([Behaviour::Status(401)]);
    let headers = [("WEIR_TELEMETRY_OTLP_HEADERS", "authorization=Bearer%20canary,x-team=one")];
    let (output, report) = look(other.url(), &headers, &["--reach"]).await;
    assert_eq!(output.status.code(), Some(1));
    has(&report, "traces", "bad", "headers sent: authorization, x-team");
    assert!(!report.to_string().contains("canary"), "{report}");
    let asked = other.came().pop().expect("a request");
    assert_eq!((asked.headers["authorization"].as_str(), asked.raw.len()), ("Bearer canary", 2));
}

/// A server that speaks TLS with a certificate that nobody vouches for.
struct SelfSigned {
    server: Child,
    port: u16,
    _folder: TempDir,
}

impl SelfSigned {
    fn start() -> Self {
        let folder = TempDir::new().expect("a folder");
        let names = "subjectAltName=DNS:localhost,IP:127.0.0.1";
        let pair = ["-keyout", "key", "-out", "certificate", "-days", "1", "-nodes"];
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-subj", "/CN=localhost", "-addext", names])
            .args(pair)
            .current_dir(folder.path())
            .output()
            .expect("openssl is there");
        assert!(made.status.success(), "{made:?}");
        let port = weir_testkit::free_ports(1)[0];
        let server = Command::new("openssl")
            .args(["s_server", "-quiet", "-www", "-key", "key", "-cert", "certificate", "-accept"])
            .arg(format!("127.0.0.1:{port}"))
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl serves");
        let deadline = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "openssl does not accept");
            std::thread::sleep(Duration::from_millis(10));
        }
        Self { server, port, _folder: folder }
    }

    fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }
}

impl Drop for SelfSigned {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
