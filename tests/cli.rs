//! The command line, as a shell sees it: output, exit status, and errors that name the mend.
//!
//! This target also makes Cargo link `weir` in every `cargo test --workspace`; the servers that the tests
//! under `tests/` start are that program.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::{Command, Output};

fn weir(arguments: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("WEIR_")) {
        command.env_remove(name);
    }
    command.args(arguments).envs(env.iter().copied()).output().expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn help_names_every_command() {
    let output = weir(&["--help"], &[]);
    assert!(output.status.success());
    let help = text(&output.stdout);
    for command in [
        "dev",
        "serve",
        "migrate",
        "bootstrap",
        "publish",
        "subscribe",
        "replay",
        "openapi",
        "doctor",
        "top",
        "bench",
    ] {
        assert!(help.lines().any(|line| line.trim_start().starts_with(command)), "no {command} in:\n{help}");
    }
}

#[test]
fn the_version_is_the_packages() {
    let output = weir(&["--version"], &[]);
    assert_eq!(text(&output.stdout).trim(), concat!("weir ", env!("CARGO_PKG_VERSION")));
}

#[test]
fn openapi_prints_json_and_nothing_else() {
    let output = weir(&["openapi"], &[]);
    assert!(output.status.success());
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(document["info"]["title"], "Weir");
}

#[test]
fn misuse_has_a_status_of_its_own() {
    let output = weir(&["dance"], &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("dance"));
}

#[test]
fn wrong_settings_are_named_all_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data").display().to_string();
    let env =
        [("WEIR_DATA_DIR", data.as_str()), ("WEIR_LISTEN", "nowhere"), ("WEIR_HUB_FRAME_BYTES", "many")];
    let output = weir(&["serve"], &env);
    assert!(!output.status.success());
    let complaint = text(&output.stderr);
    for name in ["WEIR_LISTEN", "WEIR_HUB_FRAME_BYTES"] {
        assert!(complaint.contains(name), "no {name} in:\n{complaint}");
    }
    assert!(!folder.path().join("data").exists(), "nothing is made before the settings are good");
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    use std::io::Read;
    for document in [&["completions", "bash"][..], &["openapi"]] {
        let mut weir = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(document)
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .expect("the program starts");
        // One byte is read, and then nobody listens: what does not fit into the pipe cannot be written.
        weir.stdout.take().expect("piped").read_exact(&mut [0]).expect("a byte");
        let output = weir.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{document:?}: {}", text(&output.stderr));
        assert_eq!(text(&output.stderr), "");
    }
}

#[test]
fn a_port_that_cannot_be_had_is_named_with_the_mend() {
    let folder = tempfile::tempdir().expect("a folder");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("an address").to_string();
    let data = folder.path().display().to_string();
    // 192.0.2.1 is nobody's.
    for (listen, mend) in
        [(taken.as_str(), "choose another port"), ("192.0.2.1:8080", "no address of this machine")]
    {
        let output = weir(&["serve"], &[("WEIR_DATA_DIR", &data), ("WEIR_LISTEN", listen)]);
        let complaint = text(&output.stderr);
        assert!(!output.status.success());
        assert!(complaint.contains(listen) && complaint.contains(mend), "{complaint}");
    }
}

#[test]
fn a_database_in_the_wrong_directory_does_not_go_unnoticed() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data").display().to_string();
    let arguments = ["bootstrap", "--tenant", "acme", "--project", "shop", "--json"];
    let first = weir(&arguments, &[("WEIR_DATA_DIR", &data)]);
    assert!(first.status.success(), "{}", text(&first.stderr));
    assert!(
        text(&first.stderr).contains(&format!("a new database is made in {data}")),
        "{}",
        text(&first.stderr)
    );
    serde_json::from_slice::<serde_json::Value>(&first.stdout).expect("JSON and nothing else");
    let again = weir(&arguments, &[("WEIR_DATA_DIR", &data)]);
    assert_eq!(text(&again.stderr), "", "it is there now");
}

#[test]
fn a_misspelt_log_level_does_not_silence_the_server() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data").display().to_string();
    let output =
        weir(&["serve"], &[("WEIR_DATA_DIR", &data), ("WEIR_TELEMETRY_LOG_LEVEL", "inof,weir_log=debug")]);
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("`inof` is no level"), "{}", text(&output.stderr));
}
