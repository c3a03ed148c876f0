//! Disks that are full, and disks that fail.

use super::load::check_log;
use super::{Load, Report};
use serde_json::json;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use weir_testkit::{Api, Mount, ServerConfig, TestApp, mounted, until};

/// Takes all the room there is.
fn fill(file: &Path) {
    let mut filler = File::create(file).expect("a file to fill the disk with");
    let block = vec![0; 1 << 16];
    while filler.write_all(&block).is_ok() {}
    // The last bit, too.
    for _ in 0..1 << 16 {
        if filler.write_all(&[0]).is_err() {
            return;
        }
    }
}

async fn is_refused(api: &Api, codes: &[&str]) -> bool {
    let answer = api.post("/v1/events", &json!({"topic": "t.x", "payload": "no room"})).await;
    if answer.status == 201 {
        return false;
    }
    let code = answer.body["error"]["code"].as_str().unwrap_or_default();
    assert!(answer.status == 503 && codes.contains(&code), "{} {}", answer.status, answer.body);
    true
}

/// The disk falls below what must stay free: publishing is refused, reading goes on, and with room again all goes on, in the
/// same process and with nothing to repair.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_without_room_refuses_and_recovers_by_itself() {
    let Some(mount) = mounted("a full disk", Mount::memory(512)) else { return };
    let data = mount.path().join("data").display().to_string();
    let room = [("WEIR_DATA_DIR", data.as_str()), ("WEIR_LOG_MIN_FREE_BYTES", "32MiB")];
    let mut app = TestApp::start_with(&room).await;
    let tenant = app.tenant().await;
    let api = app.api(&tenant.api_key);
    let load = Load::start(&app, &tenant).await;
    let mut report = Report::new("disk-full", "embedded");
    for _ in 0..super::long_cycles() {
        load.progress(50).await;
        let filler = mount.path().join("filler");
        // All but 16 MiB, below what must stay free.
        let free = free_mebibytes(mount.path());
        fs::write(&filler, vec![0; (free - 16) << 20]).expect("room to take");
        until("publishing to be refused", async || is_refused(&api, &["EVENT_LOG_FULL"]).await.then_some(()))
            .await;
        assert!(!api.replay("t.*", None).await.is_empty(), "reading goes on");
        fs::remove_file(&filler).expect("room is made");
        report.cycles += 1;
    }
    load.progress(50).await;
    load.conclude(&app, &tenant, report).await.conclude();
    assert!(app.nodes[0].is_running());
    app.nodes[0].stop().await;
}

fn free_mebibytes(at: &Path) -> usize {
    let output = Command::new("df").args(["-m", "--output=avail"]).arg(at).output().expect("df runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().nth(1).and_then(|line| line.trim().parse().ok()).expect("df tells what is free")
}

/// Not a byte is left, for longer than the access window: now the database cannot keep the node's lease either, and what the
/// log does in the background may fail, which ends the process. Either way nothing acknowledged is lost, and nobody repairs.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_without_a_byte_left_takes_nothing_and_loses_nothing() {
    let Some(mount) = mounted("a disk without a byte left", Mount::memory(512)) else { return };
    let data = mount.path().join("data").display().to_string();
    let settings = [
        ("WEIR_DATA_DIR", data.as_str()),
        ("WEIR_LOG_MIN_FREE_BYTES", "32MiB"),
        ("WEIR_LIMITS_ACCESS_WINDOW", "1s"),
    ];
    let mut app = TestApp::start_with(&settings).await;
    let tenant = app.tenant().await;
    let load = Load::start(&app, &tenant).await;
    let mut report = Report::new("disk-out-of-space", "embedded");
    load.progress(50).await;
    fill(&mount.path().join("filler"));
    let ended = app.nodes[0].ends_within(Duration::from_secs(4)).await;
    report.fact("went_on_by_itself", ended.is_none());
    if ended.is_none() {
        let event = json!({"topic": "t.x", "payload": "no room"});
        let refused = app.api(&tenant.api_key).post("/v1/events", &event).await;
        assert_eq!(refused.status, 503, "{}", refused.body);
    }
    fs::remove_file(mount.path().join("filler")).expect("room is made");
    if ended.is_some() {
        app.nodes[0].restart().await;
    }
    report.cycles += 1;
    load.progress(50).await;
    load.conclude(&app, &tenant, report).await.conclude();
    app.nodes[0].stop().await;
}

/// The disk under NATS is full: nothing is acknowledged that it did not keep, and it goes on when there is room, after a restart of NATS where that
/// turned JetStream off.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_under_nats_refuses_and_loses_nothing() {
    let Some(mount) = mounted("a full disk under NATS", Mount::memory(64)) else { return };
    let config = ServerConfig { sync_always: true, store: Some(mount.path().join("nats")) };
    let mut app = TestApp::cluster_on(1, config, &[("WEIR_NATS_REQUEST_TIMEOUT", "1s")]).await;
    let tenant = app.tenant().await;
    let api = app.api(&tenant.api_key);
    let load = Load::start(&app, &tenant).await;
    let mut report = Report::new("disk-full", "jetstream");
    load.progress(50).await;
    fill(&mount.path().join("filler"));
    until("publishing to be refused", async || {
        is_refused(&api, &["EVENT_LOG_FULL", "EVENT_LOG_UNAVAILABLE"]).await.then_some(())
    })
    .await;
    fs::remove_file(mount.path().join("filler")).expect("room is made");
    report.cycles += 1;
    let resumed = until_published(&api).await;
    report.fact("resumed_without_restart", resumed);
    if !resumed {
        app.kill_log().await;
    }
    load.progress(50).await;
    load.conclude(&app, &tenant, report).await.conclude();
    app.finish().await;
}

/// Whether publishing works again within some seconds.
async fn until_published(api: &Api) -> bool {
    let deadline = Instant::now() + Duration::from_secs(15);
    while Instant::now() < deadline {
        let answer = api.post("/v1/events", &json!({"topic": "x", "payload": "room again"})).await;
        if answer.status == 201 {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    false
}

/// From now on every sync of the process fails.
fn fail_syncs(pid: u32) -> Option<Child> {
    let child = Command::new("strace")
        .args([
            "-f",
            "-q",
            "-e",
            "trace=fsync,fdatasync,msync",
            "-e",
            "inject=fsync,fdatasync,msync:error=EIO",
        ])
        .args(["-o", "/dev/null", "-p", &pid.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    match child {
        Ok(child) => Some(child),
        Err(why) => {
            eprintln!("SKIPPED: failing syncs were not tried here: strace: {why}");
            None
        }
    }
}

fn is_traced(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
    tracer.is_some_and(|tracer| tracer.trim() != "0")
}

fn detach(mut strace: Child) {
    // It lets go of the process when told to end, and would take it along when killed.
    let _ = Command::new("kill").args(["-s", "TERM", &strace.id().to_string()]).status();
    let _ = strace.wait();
}

/// The disk answers a sync with an error. Nothing is acknowledged after that, the process ends, and its next run finds
/// everything that was acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_fails_is_not_acknowledged_and_ends_an_embedded_server() {
    let mut app = TestApp::start().await;
    let tenant = app.tenant().await;
    let mut report = Report::new("sync-error", "embedded");
    let load = Load::start(&app, &tenant).await;
    for _ in 0..super::long_cycles() {
        load.progress(50).await;
        let Some(strace) = fail_syncs(app.nodes[0].pid()) else { return };
        let status = app.nodes[0].ends().await;
        detach(strace);
        assert!(!status.success(), "it ended with {status}");
        app.nodes[0].restart().await;
        report.cycles += 1;
    }
    load.progress(50).await;
    load.conclude(&app, &tenant, report).await.conclude();
    app.finish().await;
}

/// The same under NATS: what its disk did not take is not acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_fails_under_nats_is_not_acknowledged() {
    let mut app =
        TestApp::cluster_on(1, ServerConfig::default(), &[("WEIR_NATS_REQUEST_TIMEOUT", "1s")]).await;
    let tenant = app.tenant().await;
    let mut report = Report::new("sync-error", "jetstream");
    let load = Load::start(&app, &tenant).await;
    load.progress(50).await;
    let pid = app.nats().pid();
    let Some(strace) = fail_syncs(pid) else { return };
    until("strace to have the process", async || is_traced(pid).then_some(())).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    detach(strace);
    let acked = load.abandon().await;
    app.kill_log().await;
    let kept = app.api(&tenant.api_key).replay("t.*", None).await;
    report.cycles += 1;
    check_log(&kept, &acked, &mut report);
    report.conclude();
    app.finish().await;
}
