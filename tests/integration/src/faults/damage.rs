//! Bytes of the embedded log's files that are not what was written: what of it is told, let go of, and kept.

use crate::members;
use rand::distr::{Alphanumeric, SampleString};
use reqwest::Method;
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;
use weir_testkit::{Answer, Tenant, TestApp, until_within};

/// Erasing a project rewrites the log's files, which puts all events into tables, and merges those.
const SOON: [(&str, &str); 3] = [
    ("WEIR_RETENTION_INTERVAL", "200ms"),
    ("WEIR_RETENTION_ERASE_AFTER", "6s"),
    ("WEIR_RETENTION_SHRED_INTERVAL", "0s"),
];
const LONG: Duration = Duration::from_secs(180);
/// Enough for several blocks of the store.
const EVENTS: usize = 200;
/// The one whose bytes are hurt.
const HURT: usize = 100;

/// What no two events have in common, so that it stands in tables as it is, although those are compressed.
fn noise() -> String {
    Alphanumeric.sample_string(&mut rand::rng(), 300)
}

async fn publish(app: &TestApp, tenant: &Tenant, payload: &str) -> Value {
    app.api(&tenant.api_key).publish("a", &json!(payload)).await
}

/// Erases a project of one event: when its word is nowhere any more, all files have been written anew.
async fn renew_files(app: &TestApp, operator: &str, word: &str) {
    let gone = app.tenant().await;
    publish(app, &gone, word).await;
    let path = format!("/v1/admin/projects/{}", gone.project_id);
    Answer::of(app.api(operator).request(Method::DELETE, &path)).await.expect(200);
    until_within("the log's files to be written anew", LONG, async || {
        app.places_with(word).is_empty().then_some(())
    })
    .await;
}

/// The table that holds a word, and where in it.
fn table_with(app: &TestApp, word: &str) -> (PathBuf, usize) {
    let tables = app.data_files().into_iter().filter(|(path, _)| path.contains("/tables/"));
    let found = tables.into_iter().find_map(|(path, bytes)| {
        let place = bytes.windows(word.len()).position(|bytes| bytes == word.as_bytes())?;
        Some((PathBuf::from(path), place))
    });
    found.expect("a table has it")
}

/// `17` and `42` of `events 17 to 42 of prj_…` in what the server says.
fn named(log: &str, project: &str) -> Option<(u64, u64)> {
    let before = log.split_once(&format!(" of {project}: cannot read"))?.0;
    let mut words = before.rsplit(' ');
    let last = words.next()?.parse().ok()?;
    let first = if words.next()? == "to" { words.next()?.parse().ok()? } else { last };
    Some((first, last))
}

#[tokio::test(flavor = "multi_thread")]
async fn events_in_a_damaged_block_are_named_let_go_and_told_and_the_log_goes_on() {
    let mut app = TestApp::start_with(&SOON).await;
    let (hurt, other) = (app.tenant().await, app.tenant().await);
    let mut published = Vec::new();
    let payloads: Vec<String> = (0..EVENTS).map(|_| noise()).collect();
    for payload in &payloads {
        published.push(publish(&app, &hurt, payload).await);
    }
    publish(&app, &other, "before").await;
    let operator = members::operator(&app, "ops@weir.test").await.access;
    renew_files(&app, &operator, "Qd2hErased").await;
    let (table, place) = table_with(&app, &payloads[HURT][100..130]);
    app.nodes[0].stop().await;
    let mut bytes = fs::read(&table).expect("the table");
    bytes[place..place + 8].iter_mut().for_each(|byte| *byte = !*byte);
    fs::write(&table, bytes).expect("hurt");

    // The server starts, gives what stands before the damage, and names what it cannot read.
    app.nodes[0].restart().await;
    let api = app.api(&hurt.api_key);
    let (mut before, mut cursor) = (Vec::new(), published[0]["cursor"].clone());
    let answer = loop {
        let query = [("topics", ">"), ("after", cursor.as_str().expect("a cursor"))];
        let answer = api.get("/v1/events", &query).await;
        if answer.status != 200 {
            break answer;
        }
        before
            .extend(answer.body["data"].as_array().expect("events").iter().map(|event| event["id"].clone()));
        cursor = answer.body["next_cursor"].clone();
    };
    answer.refused(500, "INTERNAL");
    let log = app.nodes[0].log();
    let (first, last) = named(&log, &hurt.project_id).unwrap_or_else(|| panic!("it names the events: {log}"));
    let lost = published[HURT]["sequence"].as_u64().expect("a sequence");
    assert!(first <= lost && lost <= last && first < last, "{first} to {last}, hurt {lost}");
    let sequence = |event: &Value| event["sequence"].as_u64().expect("a sequence");
    let readable =
        published[1..].iter().filter(|event| sequence(event) < first).map(|event| event["id"].clone());
    assert_eq!(before, readable.collect::<Vec<_>>());
    assert_eq!(app.api(&other.api_key).replay(">", None).await.len(), 1);
    published.push(publish(&app, &hurt, "after the damage").await);

    // Let go as the runbook says.
    app.nodes[0].stop().await;
    let through = last.to_string();
    let given = ["--tenant", &hurt.tenant_id, "--project", &hurt.project_id, "--through", &through];
    let done = app.run(&[&["log", "trim"], &given[..]].concat()).await;
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success() && said.contains("log.damaged"), "{done:?}");
    fs::remove_dir_all(app.data().join("log").join("log.damaged")).expect("the damaged files were kept");

    // Everybody is told, and gets all the rest; nobody else noticed.
    app.nodes[0].restart().await;
    let api = app.api(&hurt.api_key);
    let old = published[0]["cursor"].as_str().expect("a cursor");
    let page = api.get("/v1/events", &[("topics", ">"), ("after", old), ("limit", "1000")]).await.expect(200);
    assert_eq!((&page["gap"]["reason"], &page["gap"]["to"]), (&json!("expired"), &json!(last)), "{page}");
    let ids = |events: &[Value]| events.iter().map(|event| event["id"].clone()).collect::<Vec<_>>();
    let rest: Vec<Value> = published.iter().filter(|event| sequence(event) > last).cloned().collect();
    assert_eq!(ids(page["data"].as_array().expect("events")), ids(&rest));
    let mut ws = app.ws(&hurt.api_key).await;
    assert_eq!(ws.subscribe(&[">"], Some(old)).await["recovered"], false);
    assert_eq!(ws.expect("gap").await["reason"], "expired");
    for event in &rest {
        assert_eq!(ws.event().await["id"], event["id"]);
    }
    let next = publish(&app, &hurt, "next").await;
    assert_eq!(ws.event().await["id"], next["id"]);
    ws.close().await;
    assert_eq!(app.api(&other.api_key).replay(">", None).await.len(), 1);

    // The store merges all its tables, and meets nothing that it cannot read.
    renew_files(&app, &operator, "Ge5tErasedToo").await;
    publish(&app, &other, "still").await;
    assert_eq!(app.api(&other.api_key).replay(">", None).await.len(), 2);
    app.finish().await;
}
