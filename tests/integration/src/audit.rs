//! `/v1/admin/audit` and `weir audit`: reading the trail, taking it away, and finding what was done to it.

use serde_json::{Value, json};
use std::process::Output;
use weir_core::Scope;
use weir_testkit::TestApp;

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

async fn a_trail_is_read_and_checked(app: TestApp) {
    let (tenant, other) = (app.tenant().await, app.tenant().await);
    let api = app.api(&tenant.api_key);
    let made = api.post("/v1/admin/keys", &json!({"name": "a", "scopes": ["admin:read"]})).await.expect(201);
    let id = made["id"].as_str().expect("an id");

    let all = api.get("/v1/admin/audit", &[]).await.expect(200);
    let data = all["data"].as_array().expect("a list");
    let last = data.last().expect("an entry");
    assert_eq!((&last["action"], &last["target"]), (&json!("key.create"), &json!(id)));
    assert_eq!(last["actor"], json!(format!("key:key_{}", &tenant.api_key[5..37])));
    assert_eq!(last["details"]["name"], "a");
    let page = api.get("/v1/admin/audit", &[("limit", "2")]).await.expect(200);
    let next = page["next_cursor"].as_str().expect("more");
    let rest = api.get("/v1/admin/audit", &[("cursor", next)]).await.expect(200);
    assert_eq!(rest["data"][0], data[2]);
    for (query, count) in [
        ([("action", "key.create"), ("target", id)], 1),
        ([("actor", "cli"), ("action", "project.create")], 1),
        ([("from", "2000-01-01T00:00:00Z"), ("to", "2000-01-02T00:00:00Z")], 0),
    ] {
        let found = api.get("/v1/admin/audit", &query).await.expect(200);
        assert_eq!(found["data"].as_array().map(Vec::len), Some(count), "{query:?}: {found}");
    }
    api.get("/v1/admin/audit", &[("from", "yesterday")]).await.refused(400, "INVALID_REQUEST");
    let theirs = api.get("/v1/admin/audit", &[("tenant_id", &other.tenant_id)]).await;
    theirs.refused(404, "NOT_FOUND");
    let plain = app.key(&tenant, &[Scope::EventsPublish]).await;
    app.api(&plain.api_key).get("/v1/admin/audit", &[]).await.refused(403, "INSUFFICIENT_SCOPE");

    let found = api.get("/v1/admin/audit/verify", &[]).await.expect(200);
    assert_eq!((&found["intact"], &found["entries"]), (&json!(true), &json!(data.len() + 1)));
    let head = found["head"].as_str().expect("a head").to_owned();

    // Over REST and on the command line the export is the same, and can be checked anywhere.
    let exported = api.get("/v1/admin/audit/export", &[]).await;
    assert_eq!(exported.headers["content-type"], "application/x-ndjson");
    let Value::String(exported) = exported.expect(200) else { panic!("lines of JSON are no JSON") };
    let printed = app.run(&["audit", "export", "--tenant", &tenant.tenant_id]).await;
    assert_eq!(text(&printed), exported);
    let folder = std::env::temp_dir().join(format!("weir-audit-{}", tenant.tenant_id));
    std::fs::create_dir_all(&folder).expect("a folder");
    let file = folder.join("trail.jsonl");
    let lines: Vec<_> = exported.lines().map(str::to_owned).collect();
    let mut swapped = lines.clone();
    swapped.swap(1, 2);
    let mut without = lines.clone();
    without.remove(1);
    let edited: Vec<_> = lines.iter().map(|line| line.replace("project.create", "project.delete")).collect();
    let cut = lines[..lines.len() - 1].to_vec();
    for (what, lines, good) in [
        ("as it is", &lines, true),
        ("edited", &edited, false),
        ("reordered", &swapped, false),
        ("one deleted", &without, false),
        ("cut off", &cut, false),
    ] {
        std::fs::write(&file, lines.iter().map(|line| format!("{line}\n")).collect::<String>())
            .expect("writes");
        let name = file.to_str().expect("text");
        let output = app.run(&["audit", "verify", "--file", name, "--head", &head]).await;
        assert_eq!(output.status.code(), Some(i32::from(!good)), "{what}: {output:?}");
        assert!(text(&output).starts_with(if good { "ok " } else { "BAD" }), "{what}: {output:?}");
    }
    std::fs::remove_dir_all(folder).expect("removes");

    let output = app.run(&["audit", "verify", "--tenant", &tenant.tenant_id, "--head", &head]).await;
    assert!(output.status.success() && text(&output).contains(&head), "{output:?}");
    let other_head = "ab".repeat(32);
    let output = app.run(&["audit", "verify", "--tenant", &tenant.tenant_id, "--head", &other_head]).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let output = app.run(&["audit", "verify"]).await;
    let every = text(&output);
    assert!(output.status.success(), "{output:?}");
    assert!(every.contains(&tenant.tenant_id) && every.contains(&other.tenant_id), "{every}");
    app.finish().await;
}

#[tokio::test]
async fn a_trail_is_read_checked_and_exported() {
    a_trail_is_read_and_checked(TestApp::start().await).await;
}

#[tokio::test]
async fn a_trail_is_read_checked_and_exported_on_a_cluster() {
    a_trail_is_read_and_checked(TestApp::cluster(2).await).await;
}
