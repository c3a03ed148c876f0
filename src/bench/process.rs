//! The server's CPU time and memory, read from outside.

use std::collections::HashSet;
use std::fs::{read_dir, read_link, read_to_string};
use std::time::Duration;

/// Clock ticks per second in `/proc`: 100 on every Linux that Weir runs on.
const TICKS: u64 = 100;

#[derive(Clone, Copy, Debug)]
pub(super) struct Process {
    pub(super) pid: u32,
}

impl Process {
    pub(super) const fn new(pid: u32) -> Self {
        Self { pid }
    }

    /// The process that listens on a TCP port, where this user may see it.
    pub(super) fn listening_on(port: u16) -> Option<Self> {
        let inodes: HashSet<String> =
            ["/proc/net/tcp", "/proc/net/tcp6"].iter().flat_map(|table| listeners(table, port)).collect();
        let pids =
            read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.map(Self::new).find(|process| process.holds(&inodes))
    }

    fn holds(self, inodes: &HashSet<String>) -> bool {
        let Ok(files) = read_dir(format!("/proc/{}/fd", self.pid)) else { return false };
        files.flatten().filter_map(|file| read_link(file.path()).ok()).any(|target| {
            let name = target.to_string_lossy();
            name.strip_prefix("socket:[").is_some_and(|rest| inodes.contains(rest.trim_end_matches(']')))
        })
    }

    /// CPU time used so far, user and kernel, to 10 ms.
    pub(super) fn cpu(self) -> Option<Duration> {
        let stat = read_to_string(format!("/proc/{}/stat", self.pid)).ok()?;
        // The name in brackets may hold anything; the numbers come after it.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
        Some(Duration::from_millis(ticks * 1000 / TICKS))
    }

    /// Resident memory in bytes.
    pub(super) fn rss(self) -> Option<u64> {
        let status = read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
    }
}

/// The inodes of the sockets that listen on a port, from one of the kernel's tables.
fn listeners(table: &str, port: u16) -> Vec<String> {
    const LISTEN: &str = "0A";
    let text = read_to_string(table).unwrap_or_default();
    let suffix = format!(":{port:04X}");
    text.lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|fields| fields.len() > 9 && fields[1].ends_with(&suffix) && fields[3] == LISTEN)
        .map(|fields| fields[9].to_owned())
        .collect()
}

/// CPU time since a moment.
pub(super) struct Stopwatch {
    process: Option<Process>,
    from: Option<Duration>,
}

impl Stopwatch {
    pub(super) fn start(process: Option<Process>) -> Self {
        Self { process, from: process.and_then(Process::cpu) }
    }

    /// Seconds of CPU since the start; `None` where the process cannot be read.
    pub(super) fn seconds(&self) -> Option<f64> {
        Some((self.process?.cpu()? - self.from?).as_secs_f64())
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn finds_and_reads_this_process() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("listener");
        let port = listener.local_addr().expect("address").port();
        let found = Process::listening_on(port).expect("found");
        assert_eq!(found.pid, std::process::id());
        assert!(found.rss().is_some_and(|bytes| bytes > 100_000) && found.cpu().is_some());
    }
}
