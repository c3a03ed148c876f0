//! A PostgreSQL server that stops answering, dies, or was never there; files that must stay private.

use super::place::{Place, patient};
use super::{by, set_up};
use crate::postgres_server::PostgresServer;
use crate::{Options, StoreError, open};
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_answering_is_unavailable_until_it_does() {
    let server = PostgresServer::start().expect("PostgreSQL");
    let url = server.create_database().expect("a database");
    let brief = Options {
        acquire_timeout: Duration::from_millis(500),
        call_timeout: Duration::from_millis(800),
        auto_migrate: false,
        ..patient()
    };
    let store = open(&url, brief).await.expect("opens");
    store.migrate().await.expect("migrates, without the time limit of a call");
    let made = set_up(&store, "acme").await;

    server.pause().expect("kill");
    let started = Instant::now();
    let read = store.directory.key(made.key.id).await.expect_err("stopped");
    let write = store.keys.revoke(made.access.tenant.id, made.key.id, by(1)).await.expect_err("stopped");
    assert!(read.is_transient() && write.is_transient(), "{read}; {write}");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());

    server.resume().expect("kill");
    let deadline = Instant::now() + Duration::from_secs(30);
    while let Err(error) = store.ping().await {
        assert!(error.is_transient() && Instant::now() < deadline, "{error}");
    }
    store.directory.key(made.key.id).await.expect("reads again").expect("is there");

    server.signal("-KILL").expect("kill");
    let error = store.directory.key(made.key.id).await.expect_err("dead");
    assert!(error.is_transient(), "{error}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable_and_its_password_stays_unsaid() {
    let soon = Options { acquire_timeout: Duration::from_millis(300), ..patient() };
    for url in [
        "postgres://weir:hunter2@127.0.0.1:1/weir",
        "postgres://weir:hunter2@[broken/weir",
        "postgres://weir:hunter2@127.0.0.1:notaport/weir",
        "mysql://weir:hunter2@127.0.0.1/weir",
        "weir:hunter2",
        "sqlite::memory:",
        "sqlite://",
    ] {
        let Err(error) = open(url, soon.clone()).await else { panic!("{url} opened") };
        assert!(!error.to_string().contains("hunter2"), "{error}");
        assert_eq!(error.is_transient(), url.contains("127.0.0.1:1/"), "{url}: {error}");
    }
    let unwritable = open("sqlite:///proc/weir/weir.db", soon).await.err().expect("nobody writes there");
    assert!(matches!(unwritable, StoreError::Unavailable(_)), "{unwritable}");
}

#[tokio::test]
async fn sqlite_files_are_their_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::sqlite().await;
    let store = place.open().await;
    store.root_secret().await.expect("a secret");
    let file = place.url.strip_prefix("sqlite://").expect("a file");
    for suffix in ["", "-wal", "-shm"] {
        let mode = std::fs::metadata(format!("{file}{suffix}")).expect("exists").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{suffix}");
    }
}

#[tokio::test]
async fn a_file_that_is_no_database_is_damaged() {
    let place = Place::sqlite().await;
    let file = std::path::Path::new(place.url.strip_prefix("sqlite://").expect("a file"));
    std::fs::create_dir_all(file.parent().expect("a folder")).expect("creates");
    std::fs::write(file, vec![b'x'; 8192]).expect("writes");
    let error = open(&place.url, patient()).await.err().expect("refuses");
    assert!(matches!(error, StoreError::Corrupt(_)), "{error}");
}
