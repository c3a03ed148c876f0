//! What the figures were measured on.

use serde_json::{Value, json};
use std::fs::read_to_string;

pub(super) fn facts() -> Value {
    json!({
        "cpu": cpu_model(),
        "cores_online": cores(),
        "cores_of_this_process": std::thread::available_parallelism().map_or(0, usize::from),
        "kernel": read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim(),
        "nofile": nofile(),
    })
}

fn cpu_info(name: &str) -> Vec<String> {
    let info = read_to_string("/proc/cpuinfo").unwrap_or_default();
    let values = info.lines().filter(|line| line.starts_with(name)).filter_map(|line| line.split_once(':'));
    values.map(|(_, value)| value.trim().to_owned()).collect()
}

fn cpu_model() -> String {
    cpu_info("model name").pop().unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

fn cores() -> usize {
    cpu_info("processor").len()
}

/// How many files and sockets this process may have open; `None` where it cannot be read.
pub(super) fn nofile() -> Option<u64> {
    let limits = read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find(|line| line.starts_with("Max open files"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

/// Says how to get more when `wanted` sockets are too many.
pub(super) fn check_nofile(wanted: usize) -> anyhow::Result<()> {
    let limit = nofile().unwrap_or(u64::MAX);
    if wanted as u64 + 64 > limit {
        anyhow::bail!(
            "{wanted} connections need more open files than the {limit} allowed: raise it with `ulimit -n`"
        );
    }
    Ok(())
}
