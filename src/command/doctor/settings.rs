//! The settings, and who else can read the secrets among them.

use super::finding::Finding;
use crate::config::Loaded;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Settings that are secrets, as they stand in a file.
const SECRETS: [&str; 10] = [
    "secret_key",
    "database.url",
    "database.migration_url",
    "nats.password",
    "nats.token",
    "oidc.client_secret",
    "stripe.secret_key",
    "stripe.webhook_secrets",
    "alerts.webhook_secret",
    "telemetry.otlp_headers",
];

pub fn check(loaded: &Loaded) -> Vec<Finding> {
    let file =
        loaded.file.as_ref().map_or("defaults and environment".to_owned(), |path| path.display().to_string());
    let mut findings = vec![Finding::good("configuration", file)];
    let unclear =
        |warning: &String| Finding::warning("configuration", warning.clone(), "mend it or remove it");
    findings.extend(loaded.warnings.iter().map(unclear));
    if loaded.config.secret_key.is_none() && loaded.config.database.url.is_some() {
        findings.push(Finding::good(
            "root secret",
            "kept in the database; set WEIR_SECRET_KEY_FILE to keep it apart from the data that it protects",
        ));
    }
    let files = secret_files(loaded);
    let open: Vec<_> = files.iter().filter_map(|path| Some((path, open_to(path)?))).collect();
    for (path, who) in &open {
        findings.push(Finding::warning(
            "secret files",
            format!("{} can be read by {who}", path.display()),
            format!("`chmod 600 {}`, owned by whoever runs the node", path.display()),
        ));
    }
    if open.is_empty() && !files.is_empty() {
        findings.push(Finding::good("secret files", format!("{} are for their owner alone", files.len())));
    }
    findings
}

/// Files that hold secrets.
fn secret_files(loaded: &Loaded) -> Vec<PathBuf> {
    let variables = std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok()?;
        // What is public is named like this; the ready file is written by the node.
        let public = name.contains("CERTIFICATE") || name == "WEIR_READY_FILE";
        (name.starts_with("WEIR_") && name.ends_with("_FILE") && !public).then(|| PathBuf::from(value))
    });
    let nats = &loaded.config.nats;
    let named = [nats.credentials_file.clone(), nats.client_key_file.clone()].into_iter().flatten();
    let mut files: Vec<_> = variables.chain(named).collect();
    files.extend(loaded.file.clone().filter(|path| holds_secrets(path)));
    files.sort();
    files.dedup();
    files
}

fn holds_secrets(path: &Path) -> bool {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let Ok(table) = toml::from_str::<toml::Table>(&text) else { return false };
    SECRETS.iter().any(|setting| {
        let value = match setting.split_once('.') {
            Some((section, name)) => table.get(section).and_then(|section| section.get(name)),
            None => table.get(*setting),
        };
        value.and_then(toml::Value::as_str).is_some_and(|text| !text.is_empty())
    })
}

/// Who can read the file beside its owner.
fn open_to(path: &Path) -> Option<&'static str> {
    let mode = std::fs::metadata(path).ok()?.permissions().mode();
    match (mode & 0o004, mode & 0o040) {
        (0, 0) => None,
        (0, _) => Some("its group"),
        _ => Some("everybody on this machine"),
    }
}
