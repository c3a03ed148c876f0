//! The plug is pulled. `kill -9` does not show what that does: the page cache outlives a process. Here everything is kept on
//! a disk in a file, which is copied while the servers stand still: the copy has what was synced, and little else.

use super::load::{Acked, check_log};
use super::{Load, Report, long_cycles};
use std::time::Duration;
use weir_testkit::{Image, Mount, ServerConfig, Tenant, TestApp, mounted};

/// Enough for the servers' own files.
const DISK: u64 = 768;
/// What the kernel has begun to write is on the disk after that; what it has not begun stays in memory for minutes.
const SETTLE: Duration = Duration::from_millis(300);

fn disk() -> Option<(Image, Mount)> {
    let made = Image::new(DISK).and_then(|image| Ok((image.mount()?, image)));
    let (mount, image) = made.map_or_else(|why| (Err(why), None), |(mount, image)| (Ok(mount), Some(image)));
    let mount = mounted("a power cut", mount)?;
    image.map(|image| (image, mount))
}

/// What is left to find on a disk with a log: the log against what was told.
async fn judge(app: &TestApp, tenant: &Tenant, acked: &Acked, report: &mut Report) {
    let kept = app.api(&tenant.api_key).replay("t.*", None).await;
    check_log(&kept, acked, report);
    report.cycles += 1;
}

async fn embedded_on(mount: &Mount) -> TestApp {
    let data = mount.path().join("data").display().to_string();
    TestApp::start_with(&[("WEIR_DATA_DIR", &data), ("WEIR_LOG_MIN_FREE_BYTES", "32MiB")]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_server_keeps_what_it_acknowledged_when_the_power_fails() {
    let Some((mut image, mut mount)) = disk() else { return };
    let mut report = Report::new("power-cut", "embedded");
    let mut app = embedded_on(&mount).await;
    let tenant = app.tenant().await;
    for _ in 0..long_cycles() {
        let load = Load::start(&app, &tenant).await;
        load.progress(100).await;
        app.nodes[0].pause();
        tokio::time::sleep(SETTLE).await;
        let copy = image.after_power_cut().expect("the disk is copied");
        let acked = load.abandon().await;
        app.nodes[0].kill();
        let copied = copy.mount().expect("the copy is mounted");
        app = embedded_on(&copied).await;
        (mount, image) = (copied, copy);
        judge(&app, &tenant, &acked, &mut report).await;
    }
    report.conclude();
    app.finish().await;
    drop((mount, image));
}

/// NATS pulled out of its socket: what its disk holds is given to it again.
async fn jetstream(sync_always: bool, report: &mut Report, cycles: usize) {
    let Some((mut image, mut mount)) = disk() else { return };
    let store = Some(mount.path().join("nats"));
    let mut app = TestApp::cluster_on(1, ServerConfig { sync_always, store }, &[]).await;
    let tenant = app.tenant().await;
    for _ in 0..cycles {
        let load = Load::start(&app, &tenant).await;
        load.progress(100).await;
        app.nats().freeze().expect("NATS stands still");
        tokio::time::sleep(SETTLE).await;
        let copy = image.after_power_cut().expect("the disk is copied");
        let acked = load.abandon().await;
        let copied = copy.mount().expect("the copy is mounted");
        let nats = app.nats();
        nats.kill().expect("NATS is killed");
        nats.restart_on(&copied.path().join("nats")).expect("NATS starts again");
        nats.wait().await.expect("NATS serves again");
        app.nodes[0].kill();
        app.nodes[0].restart().await;
        (mount, image) = (copied, copy);
        judge(&app, &tenant, &acked, report).await;
    }
    app.finish().await;
    drop((mount, image));
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_that_syncs_always_keeps_what_was_acknowledged_when_the_power_fails() {
    let mut report = Report::new("power-cut", "jetstream");
    jetstream(true, &mut report, long_cycles()).await;
    if report.cycles > 0 {
        report.conclude();
    }
}

/// The control: with the servers' default, which syncs every two minutes, this scenario must lose something.
#[tokio::test(flavor = "multi_thread")]
async fn nats_that_syncs_now_and_then_loses_what_was_acknowledged_when_the_power_fails() {
    let mut report = Report::new("power-cut-control", "jetstream-default-sync");
    jetstream(false, &mut report, 1).await;
    if report.cycles > 0 {
        report.conclude_control();
    }
}
