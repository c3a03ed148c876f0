//! The database: there, of the right version, with the right tables, its wall up, its clock like ours.

use super::finding::Finding;
use crate::config::Config;
use crate::wiring;
use std::time::{Duration, Instant};
use weir_core::{Clock, SystemClock, Timestamp};
use weir_store::{Store, Wall};

/// The oldest PostgreSQL that is tested with.
const POSTGRES: u32 = 15;
/// Clocks that differ by more are worth a word, and by more than the other, a mend.
const SKEW: Duration = Duration::from_secs(1);
const GREAT_SKEW: Duration = Duration::from_secs(10);

pub async fn check(config: &Config) -> Vec<Finding> {
    let advice =
        "see that database.url is right and the server runs; for SQLite, that data_dir can be written";
    if config.database.url.is_none() && !config.data_dir.join("weir.db").exists() {
        return vec![Finding::good("database", "SQLite in data_dir, made at the first start")];
    }
    // Looks, and leaves the tables as they are.
    let mut looking = config.clone();
    looking.database.auto_migrate = false;
    let store = match wiring::open_store(&looking).await {
        Ok(store) => store,
        Err(error) => return vec![Finding::bad("database", format!("{error:#}"), advice)],
    };
    let latest = weir_store::latest_schema_version();
    let mut findings = vec![match store.schema_version().await {
        Ok(version) if version < latest && config.database.auto_migrate => Finding::good(
            "database",
            format!("answers; tables of version {version}, to be {latest} when a node starts"),
        ),
        Ok(version) if version < latest => Finding::bad(
            "database",
            format!("answers; tables of version {version}, and {latest} is needed"),
            "run `weir migrate`",
        ),
        Ok(version) if version > latest => Finding::good(
            "database",
            format!("answers; tables of version {version}, from a newer program than this ({latest})"),
        ),
        Ok(version) => Finding::good("database", format!("answers; tables of version {version}")),
        Err(error) => Finding::bad("database", error.to_string(), advice),
    }];
    findings.extend(version(config, &store).await);
    if let Ok(wall) = store.wall().await {
        findings.extend(row_security(wall));
    }
    findings.extend(clock(&store).await);
    findings
}

async fn version(config: &Config, store: &Store) -> Option<Finding> {
    const CHECK: &str = "database";
    let version = store.server_version().await.ok()?;
    let postgres = config.database.url.as_ref().is_some_and(|url| url.expose().starts_with("postgres"));
    if !postgres {
        return Some(Finding::good(CHECK, format!("SQLite {version}")));
    }
    let major = version.split(['.', ' ']).next().and_then(|major| major.parse::<u32>().ok()).unwrap_or(0);
    Some(if major < POSTGRES {
        let advice = format!("use PostgreSQL {POSTGRES} or newer");
        Finding::bad(CHECK, format!("PostgreSQL {version} is too old"), advice)
    } else {
        Finding::good(CHECK, format!("PostgreSQL {version}"))
    })
}

fn row_security(wall: Wall) -> Option<Finding> {
    const CHECK: &str = "row security";
    Some(match wall {
        Wall::None => return None,
        Wall::Stands { role } => Finding::good(CHECK, format!("keeps tenants apart; nodes work as {role}")),
        Wall::Owner { role } => Finding::warning(
            CHECK,
            format!("keeps tenants apart; nodes work as {role}, which owns the tables and could turn it off"),
            format!(
                "`CREATE ROLE weir_app; GRANT weir_app TO {role}` as a superuser, then start a node or `weir migrate`"
            ),
        ),
        Wall::Bypassed { role } => Finding::bad(
            CHECK,
            format!("nodes work as {role}, which passes it"),
            "run `weir migrate` as a role that may create roles, or log in as one without SUPERUSER and BYPASSRLS",
        ),
    })
}

async fn clock(store: &Store) -> Option<Finding> {
    let (asked, begun) = (SystemClock.now(), Instant::now());
    let theirs = store.alerts.database_time().await.ok()?;
    let half = begun.elapsed() / 2;
    Some(compare("clock", "the database's", asked.plus(half), theirs, half))
}

/// What the difference of two clocks means, where each was read within `doubt` of the other.
pub fn compare(
    check: &'static str,
    whose: &str,
    ours: Timestamp,
    theirs: Timestamp,
    doubt: Duration,
) -> Finding {
    let skew = ours.since(theirs).max(theirs.since(ours));
    let found = format!(
        "{} ms {} {whose} (± {} ms)",
        skew.as_millis(),
        if ours > theirs { "ahead of" } else { "behind" },
        doubt.as_millis()
    );
    let advice = "see to time synchronisation (chrony, systemd-timesyncd) on both machines";
    match skew.saturating_sub(doubt) {
        skew if skew > GREAT_SKEW => Finding::bad(check, found, advice),
        skew if skew > SKEW => Finding::warning(check, found, advice),
        _ => Finding::good(check, found),
    }
}
