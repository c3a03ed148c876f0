//! `weir doctor`: checks what a node needs and says what to do about what is missing.

use super::block_on;
use crate::config::{self, Config};
use crate::wiring;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use weir_log::Durability;
use weir_store::Wall;

/// How to report.
#[derive(clap::Args)]
pub struct Args {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Print the settings that hold, secrets masked, and check nothing.
    #[arg(long)]
    settings: bool,
}

/// How one check went.
#[derive(serde::Serialize)]
struct Finding {
    check: &'static str,
    ok: bool,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<&'static str>,
}

impl Finding {
    fn good(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, ok: true, found: found.into(), advice: None }
    }

    fn bad(check: &'static str, found: impl Into<String>, advice: &'static str) -> Self {
        Self { check, ok: false, found: found.into(), advice: Some(advice) }
    }
}

/// Checks, prints, and exits with 1 when something needs mending.
pub fn run(path: Option<&Path>, args: &Args) -> anyhow::Result<ExitCode> {
    if args.settings {
        return super::print(&config::load(path)?.config.redacted());
    }
    let findings = match config::load(path) {
        Err(problems) => {
            vec![Finding::bad("configuration", problems.to_string(), "mend the settings named here")]
        }
        Ok(loaded) => {
            let mut findings = configuration(&loaded);
            super::runtime()?.block_on(async {
                findings.extend(database(&loaded.config).await);
                findings.push(event_log(&loaded.config).await);
            });
            findings.push(open_files());
            findings
        }
    };
    block_on(async { report(&findings, args.json) })
}

fn configuration(loaded: &config::Loaded) -> Vec<Finding> {
    let file =
        loaded.file.as_ref().map_or("defaults and environment".to_owned(), |path| path.display().to_string());
    let mut findings = vec![Finding::good("configuration", file)];
    let unclear = |warning: &String| Finding::bad("configuration", warning.clone(), "mend it or remove it");
    findings.extend(loaded.warnings.iter().map(unclear));
    if loaded.config.secret_key.is_none() && loaded.config.database.url.is_some() {
        findings.push(Finding::good(
            "root secret",
            "kept in the database; set WEIR_SECRET_KEY_FILE to keep it apart from the data that it protects",
        ));
    }
    findings
}

async fn database(config: &Config) -> Vec<Finding> {
    let advice =
        "see that database.url is right and the server runs; for SQLite, that data_dir can be written";
    // Looks, and leaves the tables as they are.
    let mut config = config.clone();
    config.database.auto_migrate = false;
    let store = match wiring::open_store(&config).await {
        Ok(store) => store,
        Err(error) => return vec![Finding::bad("database", format!("{error:#}"), advice)],
    };
    let latest = weir_store::latest_schema_version();
    let mut findings = vec![match store.schema_version().await {
        Ok(version) if version < latest && config.database.auto_migrate => Finding::good(
            "database",
            format!("answers; version {version}, to be {latest} when a node starts"),
        ),
        Ok(version) if version < latest => {
            Finding::bad("database", format!("version {version} of {latest}"), "run `weir migrate`")
        }
        Ok(version) => Finding::good("database", format!("answers; version {version}")),
        Err(error) => Finding::bad("database", error.to_string(), advice),
    }];
    if let Ok(wall) = store.wall().await {
        findings.extend(row_security(wall));
    }
    findings
}

fn row_security(wall: Wall) -> Option<Finding> {
    const CHECK: &str = "row security";
    Some(match wall {
        Wall::None => return None,
        Wall::Stands { role } => Finding::good(CHECK, format!("keeps tenants apart; nodes work as {role}")),
        Wall::Owner { role } => Finding::good(
            CHECK,
            format!(
                "keeps tenants apart; nodes work as {role}, which owns the tables and could turn it off: \
                 `CREATE ROLE weir_app; GRANT weir_app TO {role}` as a superuser, then start a node or `weir migrate`"
            ),
        ),
        Wall::Bypassed { role } => Finding::bad(
            CHECK,
            format!("nodes work as {role}, which passes it"),
            "run `weir migrate` as a role that may create roles, or log in as one without SUPERUSER and BYPASSRLS",
        ),
    })
}

async fn event_log(config: &Config) -> Finding {
    let advice =
        "see that nats.url is right and JetStream is on; embedded: that no other process uses data_dir";
    let (log, _) = match wiring::open_log(config).await {
        Ok(opened) => opened,
        // Only one process can have it, so this is what a healthy running node looks like from outside.
        Err(error) if format!("{error:#}").contains("another process") => {
            return Finding::good("event log", "in use by a running node; its /readyz says how it is");
        }
        Err(error) => return Finding::bad("event log", format!("{error:#}"), advice),
    };
    let health = log.health().await;
    let closing = tokio::time::timeout(Duration::from_secs(5), log.close());
    let finding = match (health.problem, health.durability) {
        (Some(problem), _) => Finding::bad("event log", problem, advice),
        (None, Durability::Synced { replicas }) => {
            Finding::good("event log", format!("acks are synced to {replicas} disk(s)"))
        }
        (None, Durability::Cached { replicas, window }) => Finding::bad(
            "event log",
            format!("acks are in the memory of {replicas} server(s); a power cut loses {window}"),
            "set `sync_interval: always` in the NATS servers' jetstream section",
        ),
        (None, Durability::Unknown) => Finding::good(
            "event log",
            "works; whether acks are synced cannot be asked of NATS: set `sync_interval: always` in its jetstream section",
        ),
    };
    let _ = closing.await;
    finding
}

fn open_files() -> Finding {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let soft = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .and_then(|line| line.split_whitespace().nth(3));
    match soft.and_then(|soft| soft.parse::<u64>().ok()) {
        Some(soft) if soft < 65_536 => Finding::bad(
            "open files",
            format!("{soft}: each connection takes one"),
            "raise it: `ulimit -n 1048576`, or LimitNOFILE= in the unit",
        ),
        Some(soft) => Finding::good("open files", soft.to_string()),
        None => Finding::good("open files", "the limit cannot be read on this system"),
    }
}

fn report(findings: &[Finding], json: bool) -> anyhow::Result<ExitCode> {
    let ok = findings.iter().all(|finding| finding.ok);
    if json {
        println!("{}", serde_json::json!({ "ok": ok, "findings": findings }));
    } else {
        for finding in findings {
            let mark = if finding.ok { "ok " } else { "BAD" };
            println!("{mark}  {:<14} {}", finding.check, finding.found);
            if let Some(advice) = finding.advice {
                println!("     {:<14} -> {advice}", "");
            }
        }
    }
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
