use super::*;
use crate::config::{Bytes, Duration, LogFormat};

/// The commented file in the root of the repository.
const DOCUMENTED: &str = include_str!("../../weir.toml");

fn environment(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
}

fn from_env(pairs: &[(&str, &str)]) -> Result<Loaded, Problems> {
    gather(None, environment(pairs))
}

fn from_text(text: &str) -> Result<Loaded, Problems> {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("weir.toml");
    std::fs::write(&path, text).expect("written");
    gather(Some(path), [])
}

fn complaint(result: Result<Loaded, Problems>) -> String {
    result.expect_err("a problem").to_string()
}

#[test]
fn weir_toml_equals_the_defaults() {
    let loaded = from_text(DOCUMENTED).expect("loads");
    assert_eq!(loaded.config, Config::default());
    assert_eq!(loaded.warnings, Vec::<String>::new());
}

#[test]
fn weir_toml_explains_every_setting_and_no_other() {
    let mut section = String::new();
    let mut explained = false;
    let mut found = Vec::new();
    for line in DOCUMENTED.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = format!("{}.", name.trim_end_matches(']'));
        }
        // A setting without a default stands commented out: `#name = ""`, without a space.
        let code = line.strip_prefix('#').unwrap_or(line);
        match code.split_once(" = ") {
            Some((name, _)) if !code.starts_with(' ') => {
                assert!(explained, "a comment belongs above {section}{name}");
                found.push(format!("{section}{name}"));
                explained = false;
            }
            _ => explained = line.starts_with("# "),
        }
    }
    found.sort();
    assert_eq!(found, settings().into_keys().collect::<Vec<_>>());
}

#[test]
fn weir_toml_holds_good_examples() {
    let uncommented: String = DOCUMENTED
        .lines()
        .map(|line| {
            line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line).to_owned() + "\n"
        })
        .collect();
    assert_eq!(from_text(&uncommented).expect("loads").config, Config::default());
}

#[test]
fn variables_are_unambiguous() {
    let mut names: Vec<_> = settings().keys().map(|setting| variable(setting)).collect();
    names.extend(names.clone().into_iter().map(|name| name + "_FILE"));
    names.extend(NOT_SETTINGS.map(str::to_owned));
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
fn every_setting_has_a_variable() {
    for (setting, default) in settings() {
        let text = match &default {
            serde_json::Value::String(text) => text.clone(),
            serde_json::Value::Null => String::new(),
            other => other.to_string(),
        };
        let loaded = from_env(&[(&variable(&setting), &text)]).expect("its own default is valid");
        assert_eq!(loaded.config, Config::default(), "{setting}");
        // Another value is another configuration, or a problem: never ignored.
        if let Ok(other) = from_env(&[(&variable(&setting), "\u{7f}")]) {
            assert_ne!(other.config, Config::default(), "{setting}");
        }
    }
}

#[test]
fn later_sources_win() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("weir.toml");
    std::fs::write(&path, "listen = \"0.0.0.0:1\"\n[limits]\ndrain = \"40s\"\nheaders = 80\n")
        .expect("written");
    let variables = [
        ("WEIR_LIMITS_HEADERS", "90"),
        ("WEIR_TELEMETRY_LOG_FORMAT", "json"),
        ("WEIR_HUB_RING_BYTES", "9MiB"),
    ];
    let config = gather(Some(path), environment(&variables)).expect("valid").config;
    assert_eq!(config.listen.port(), 1);
    assert_eq!(config.limits.drain, Duration::seconds(40));
    assert_eq!(config.limits.headers, 90);
    assert_eq!(config.telemetry.log_format, LogFormat::Json);
    assert_eq!(config.hub.ring_bytes, Bytes::mib(9));
}

#[test]
fn secrets_come_from_files_and_are_never_shown() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("password");
    std::fs::write(&path, "canary\n").expect("written");
    let path = path.to_str().expect("UTF-8");
    let url = "postgres://weir:canary@db/weir";
    let variables =
        [("WEIR_NATS_PASSWORD_FILE", path), ("WEIR_NATS_USER", "weir"), ("WEIR_DATABASE_URL", url)];
    let config = from_env(&variables).expect("valid").config;
    assert_eq!(config.nats.password.as_ref().map(weir_core::Secret::expose), Some("canary"));
    let shown = format!("{config:?} {} {}", config.redacted(), serde_json::to_string(&config).expect("JSON"));
    assert!(!shown.contains("canary"), "{shown}");
    assert!(config.redacted().contains("url = \"postgres://[redacted]@db/weir\""), "{}", config.redacted());

    let both = complaint(from_env(&[("WEIR_SECRET_KEY", "canary"), ("WEIR_SECRET_KEY_FILE", path)]));
    assert!(both.contains("WEIR_SECRET_KEY_FILE is set too") && !both.contains("canary"), "{both}");
    let gone = complaint(from_env(&[("WEIR_SECRET_KEY_FILE", "/nonexistent/key")]));
    assert!(gone.contains("WEIR_SECRET_KEY_FILE: /nonexistent/key: cannot be read"), "{gone}");
}

#[test]
fn wrong_secrets_are_not_repeated() {
    for text in [
        "secret_key = \"canary\"",
        "secret_key = \"canary",
        "[nats]\npassword = \"canary\" canary",
        "[nats]\nurl = \"canary\"",
        "[database]\nurl = \"canary://canary\"",
    ] {
        let complaint = complaint(from_text(text));
        assert!(!complaint.contains("canary"), "{complaint}");
    }
    let number = complaint(from_text("[nats]\npassword = 31337\n"));
    assert!(number.contains("nats.password in ") && number.contains("quotes"), "{number}");
    assert!(!number.contains("31337"), "{number}");
}

#[test]
fn every_problem_is_reported_at_once_by_name() {
    let text = complaint(from_env(&[
        ("WEIR_LISTEN", "nowhere"),
        ("WEIR_LIMITS_HEADERS", "many"),
        ("WEIR_LIMITS_DRAIN", "30"),
        ("WEIR_CONSOLE_ENABLED", "yes"),
        ("WEIR_HUB_BACKLOG_BYTES", "64MiB"),
        ("WEIR_TELEMETRY_LOG_FORMAT", "xml"),
        ("WEIR_NATS_REPLICAS", "2"),
    ]));
    for part in [
        "WEIR_LISTEN: ",
        "WEIR_LIMITS_HEADERS: `many` is wrong, it must be a whole number from 0 to 4294967295; the default is 64",
        "WEIR_LIMITS_DRAIN: `30` is wrong, a duration is a whole number with",
        "WEIR_CONSOLE_ENABLED: `yes` is wrong, it must be true or false",
        "hub.backlog_bytes: 64MiB is more than hub.ring_bytes = 8MiB",
        "WEIR_TELEMETRY_LOG_FORMAT: `xml` is wrong, unknown variant",
        "nats.replicas: 2 copies",
    ] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    assert_eq!(text.lines().count(), 8, "{text}");
}

#[test]
fn mistakes_in_the_file_are_named() {
    let unknown =
        complaint(from_text("lisen = \"127.0.0.1:1\"\n[limits]\ndrian = \"1s\"\n[limit]\nheaders = 20\n"));
    assert!(unknown.contains("lisen in ") && unknown.contains("`listen`"), "{unknown}");
    assert!(unknown.contains("limits.drian in ") && unknown.contains("`limits.drain`"), "{unknown}");
    assert!(unknown.contains("limit.headers in ") && unknown.contains("`limits.headers`"), "{unknown}");
    let syntax = complaint(from_text("[limits]\nheaders = 20\ndrain = 30s\n"));
    assert!(syntax.contains("line 3 is not TOML"), "{syntax}");
    let missing = complaint(gather(Some("/nonexistent/weir.toml".into()), []));
    assert!(missing.contains("/nonexistent/weir.toml: cannot be read"), "{missing}");
    let negative = complaint(from_text("[limits]\nheaders = -5\nbody_bytes = -1\n"));
    assert!(
        negative.contains("limits.headers in ") && negative.contains("limits.body_bytes in "),
        "{negative}"
    );
}

#[test]
fn near_misses_in_the_environment_are_warned_of_without_values() {
    let loaded = from_env(&[
        ("WEIR_NATS_PASWORD", "canary"),
        ("WEIR_SECRETKEY_FILE", "canary"),
        ("WEIR_SERVICE_HOST", "10.0.0.1"),
        ("WEIR_NATS_PORT_4222_TCP", "tcp://10.0.0.1"),
        ("WEIR_TEST_LISTEN", "x"),
        ("WEIR_URL", "http://127.0.0.1:8080"),
        ("PATH", "/bin"),
    ])
    .expect("valid");
    assert_eq!(loaded.warnings.len(), 2, "{:?}", loaded.warnings);
    assert!(
        loaded.warnings[0].contains("WEIR_NATS_PASWORD")
            && loaded.warnings[0].contains("WEIR_NATS_PASSWORD ")
    );
    assert!(loaded.warnings[1].contains("WEIR_SECRETKEY_FILE"));
    assert!(!loaded.warnings.concat().contains("canary"));
}

#[test]
fn half_distributed_is_warned_of() {
    let nats = from_env(&[("WEIR_NATS_URL", "nats://a:4222,nats://b:4222")]).expect("valid");
    assert!(nats.warnings.concat().contains("only node"));
    let both = [("WEIR_NATS_URL", "nats://a:4222"), ("WEIR_DATABASE_URL", "postgres://db/weir")];
    assert_eq!(from_env(&both).expect("valid").warnings, Vec::<String>::new());
}

#[test]
fn ways_to_authenticate_to_nats_exclude_each_other() {
    let two = complaint(from_env(&[
        ("WEIR_NATS_TOKEN", "t"),
        ("WEIR_NATS_CREDENTIALS_FILE", "/etc/weir/nats.creds"),
    ]));
    assert!(two.contains("more than one of"), "{two}");
    let half = complaint(from_env(&[("WEIR_NATS_USER", "weir")]));
    assert!(half.contains("user and password belong together"), "{half}");
}

#[test]
fn edits_are_counted() {
    assert_eq!(edits("listen", "listen"), 0);
    assert_eq!(edits("lisen", "listen"), 1);
    assert_eq!(edits("kitten", "sitting"), 3);
    assert_eq!(edits("", "abc"), 3);
}
