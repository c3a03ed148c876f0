//! What the system tells of this process. Where there is no `/proc`, only what Rust knows: when it started.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Clock ticks in a second, as `/proc` counts on every Linux.
const TICKS: f64 = 100.0;

/// This process now.
#[derive(Debug, Default)]
pub(crate) struct Process {
    pub(crate) cpu_seconds: Option<f64>,
    pub(crate) resident_bytes: Option<f64>,
    pub(crate) virtual_bytes: Option<f64>,
    pub(crate) threads: Option<f64>,
    pub(crate) open_files: Option<f64>,
    pub(crate) most_files: Option<f64>,
}

impl Process {
    pub(crate) fn read() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        Self {
            cpu_seconds: fs::read_to_string("/proc/self/stat").ok().and_then(|stat| cpu(&stat)),
            resident_bytes: field(&status, "VmRSS:").map(|kilobytes| kilobytes * 1024.0),
            virtual_bytes: field(&status, "VmSize:").map(|kilobytes| kilobytes * 1024.0),
            threads: field(&status, "Threads:"),
            // The directory itself is open while it is read.
            open_files: fs::read_dir("/proc/self/fd").ok().map(|open| open.count().saturating_sub(1) as f64),
            most_files: field(&limits, "Max open files"),
        }
    }
}

/// The first number behind a name.
fn field(text: &str, name: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// The program's name may hold spaces and brackets; what follows the last one is numbers.
fn cpu(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system) = (fields.next()?.parse::<f64>().ok()?, fields.next()?.parse::<f64>().ok()?);
    Some((user + system) / TICKS)
}

/// A time as seconds since 1970.
pub(crate) fn unix(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_linux_writes() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 1 2 3 4 250 150 0 0 20 0 9 0 5 6 7";
        assert_eq!(cpu(stat), Some(4.0));
        assert_eq!(field("Name:\tweir\nVmRSS:\t  2048 kB\n", "VmRSS:"), Some(2048.0));
        assert_eq!(
            field("Max open files            20000                20000      files", "Max open files"),
            Some(20000.0)
        );
    }
}
