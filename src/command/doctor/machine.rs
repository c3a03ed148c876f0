//! This machine: disk, limits of the operating system, ports.

use super::finding::Finding;
use crate::config::Config;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// How often the disk is asked to sync.
const SYNCS: usize = 20;
/// Syncing slower than this makes every acknowledgement slow.
const SLOW_SYNC: Duration = Duration::from_millis(20);
/// A disk is nearly full with less than this free, in percent.
const LOW: u64 = 15;
/// Below this a node is soon out of files; below the other one under load.
const FEW_FILES: u64 = 4_096;
const ENOUGH_FILES: u64 = 65_536;
/// Connections that wait to be accepted: what a node asks for.
const BACKLOG: u64 = 4_096;
/// How long a node may take to say that it is one.
const PATIENCE: Duration = Duration::from_secs(2);

/// The data directory, where something is kept there.
pub fn data_dir(config: &Config) -> Vec<Finding> {
    const CHECK: &str = "data directory";
    if config.is_distributed() {
        return Vec::new();
    }
    let path = &config.data_dir;
    let made = std::fs::metadata(path);
    let Ok(metadata) = made else {
        // The first start makes it; whether it can is the question.
        let parent = path.ancestors().skip(1).find(|parent| parent.exists() || parent.as_os_str().is_empty());
        let parent = parent.filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        return vec![match probe(parent) {
            Ok(_) => Finding::good(CHECK, format!("{} is made at the first start", path.display())),
            Err(error) => Finding::bad(
                CHECK,
                format!("{} is not there and cannot be made: {error}", path.display()),
                "name another data_dir, or let the node's user write there",
            ),
        }];
    };
    if !metadata.is_dir() {
        return vec![Finding::bad(
            CHECK,
            format!("{} is not a directory", path.display()),
            "name a directory in data_dir, or move the file away",
        )];
    }
    let mut findings = Vec::new();
    if metadata.permissions().mode() & 0o077 != 0 {
        findings.push(Finding::warning(
            CHECK,
            format!("{} is open to others of this machine, and holds secrets and events", path.display()),
            format!("`chmod 700 {}`", path.display()),
        ));
    }
    findings.push(match probe(path) {
        Ok(sync) if sync > SLOW_SYNC => Finding::warning(
            CHECK,
            format!("{} can be written; a sync takes {:.1} ms", path.display(), millis(sync)),
            "use a local SSD: each acknowledgement waits for a sync",
        ),
        Ok(sync) => Finding::good(
            CHECK,
            format!("{} can be written; a sync takes {:.2} ms", path.display(), millis(sync)),
        ),
        Err(error) => Finding::bad(
            CHECK,
            format!("{} cannot be written: {error}", path.display()),
            match error.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "make room, or name another data_dir",
                ErrorKind::ReadOnlyFilesystem => "mount it for writing, or name another data_dir",
                _ => "let the node's user write there, or name another data_dir",
            },
        ),
    });
    findings.extend(room(config));
    findings
}

/// Writes, syncs and removes a file; the median time of a sync.
fn probe(folder: &Path) -> std::io::Result<Duration> {
    let path = folder.join(format!(".weir-doctor-{}", std::process::id()));
    let outcome = (|| {
        let mut file = File::options().write(true).create_new(true).open(&path)?;
        let mut times = Vec::with_capacity(SYNCS);
        for _ in 0..SYNCS {
            let begun = Instant::now();
            file.write_all(&[0; 4096])?;
            file.sync_data()?;
            times.push(begun.elapsed());
        }
        times.sort_unstable();
        Ok(times.get(SYNCS / 2).copied().unwrap_or_default())
    })();
    // Whatever came of it, nothing stays.
    let _ = std::fs::remove_file(&path);
    outcome
}

fn room(config: &Config) -> Option<Finding> {
    const CHECK: &str = "disk space";
    let disk = rustix::fs::statvfs(config.data_dir.as_path()).ok()?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let percent = (disk.f_bavail * 100).checked_div(disk.f_blocks).unwrap_or(0);
    let found = format!("{} MiB free ({percent} %)", free >> 20);
    let least = config.log.min_free_bytes;
    Some(if free < least.0 {
        Finding::bad(
            CHECK,
            format!("{found}, less than log.min_free_bytes = {least}: nothing can be published"),
            "make room",
        )
    } else if percent < LOW {
        Finding::warning(CHECK, found, "make room before log.min_free_bytes is reached")
    } else {
        Finding::good(CHECK, found)
    })
}

/// What the operating system allows.
pub fn limits() -> Vec<Finding> {
    vec![open_files(), backlog()]
}

fn open_files() -> Finding {
    const CHECK: &str = "open files";
    const ADVICE: &str = "raise it: `ulimit -n 1048576`, or LimitNOFILE= in the unit";
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let soft = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .and_then(|line| line.split_whitespace().nth(3));
    match soft.and_then(|soft| soft.parse::<u64>().ok()) {
        Some(soft) if soft < FEW_FILES => {
            Finding::bad(CHECK, format!("{soft}: each connection takes one"), ADVICE)
        }
        Some(soft) if soft < ENOUGH_FILES => {
            Finding::warning(CHECK, format!("{soft}: enough for about {} connections", soft - 1_000), ADVICE)
        }
        Some(soft) => Finding::good(CHECK, soft.to_string()),
        None => Finding::good(CHECK, "the limit cannot be read on this system"),
    }
}

fn backlog() -> Finding {
    const CHECK: &str = "listen backlog";
    let text = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap_or_default();
    match text.trim().parse::<u64>() {
        Ok(most) if most < BACKLOG => Finding::warning(
            CHECK,
            format!("{most}: a herd of reconnecting clients is cut off"),
            format!("`sysctl -w net.core.somaxconn={BACKLOG}`"),
        ),
        Ok(most) => Finding::good(CHECK, most.to_string()),
        Err(_) => Finding::good(CHECK, "the limit cannot be read on this system"),
    }
}

/// Whether the addresses are free, or used by a node.
pub async fn ports(config: &Config) -> Vec<Finding> {
    let ours = is_node(config.ops_listen).await;
    let mut findings = Vec::new();
    for (check, address) in [("listen", config.listen), ("ops_listen", config.ops_listen)] {
        findings.push(match TcpListener::bind(address).await {
            Ok(_) => Finding::good(check, format!("{address} is free")),
            Err(_) if ours => Finding::good(check, format!("{address} is used, as by a running node")),
            Err(error) => Finding::bad(
                check,
                format!("{address} cannot be used: {error}"),
                format!("stop what listens there (`ss -ltnp`), or set {check} to an address of this machine that is free"),
            ),
        });
    }
    findings
}

/// Whether a node answers at its operator's address.
async fn is_node(address: SocketAddr) -> bool {
    let ask = async {
        let mut socket = TcpStream::connect(address).await.ok()?;
        socket.write_all(b"GET /readyz HTTP/1.0\r\nhost: weir\r\n\r\n").await.ok()?;
        let mut answer = Vec::new();
        socket.take(16 << 10).read_to_end(&mut answer).await.ok()?;
        Some(String::from_utf8_lossy(&answer).contains("\"durability\""))
    };
    tokio::time::timeout(PATIENCE, ask).await.ok().flatten().unwrap_or(false)
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}
