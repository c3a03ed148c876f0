//! The commands that talk to a server as any client does: `publish`, `subscribe`, `replay`.
#![allow(clippy::print_stderr, reason = "these commands speak to a person at a terminal")]

mod output;
pub mod publish;
pub mod replay;
pub mod subscribe;

use std::io::IsTerminal;
use std::process::ExitCode;
use weir_client::{Client, Error, Start};

/// Something failed that has no code of its own.
const FAILED: u8 = 1;
/// The arguments make no sense.
const USAGE: u8 = 2;
/// The credentials are missing, wrong or not enough.
const NOT_ALLOWED: u8 = 3;
/// The server cannot be reached.
const NOT_REACHABLE: u8 = 4;
/// Events are missing, and `--fail-on-gap` was given.
const GAP: u8 = 5;

/// Which server, and as whom.
#[derive(clap::Args)]
pub struct Server {
    /// The server.
    #[arg(long, env = "WEIR_URL", default_value = "http://127.0.0.1:8080")]
    url: String,
    /// An API key or client token.
    #[arg(long, env = "WEIR_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
    /// Print JSON, one object a line.
    #[arg(long)]
    json: bool,
}

impl Server {
    fn client(&self) -> Result<Client, Error> {
        let builder = Client::builder(&self.url);
        match self.key() {
            Some(key) => builder.api_key(key).build(),
            None => builder.build(),
        }
    }

    /// An empty variable is as good as none.
    fn key(&self) -> Option<&str> {
        self.api_key.as_deref().filter(|key| !key.is_empty())
    }

    /// Prints why it failed; gives the exit code that says so to a script.
    fn failure(&self, error: &Error) -> ExitCode {
        let (code, hint) = match error.code() {
            "INVALID_ARGUMENT" => (USAGE, ""),
            "UNAUTHENTICATED" if self.key().is_none() => (NOT_ALLOWED, "give --api-key or set WEIR_API_KEY"),
            _ if error.is_unreachable() => {
                (NOT_REACHABLE, "is the server running there? --url or WEIR_URL says where")
            }
            _ if refused(error) => (NOT_ALLOWED, ""),
            _ => (FAILED, ""),
        };
        if self.json {
            let body = serde_json::json!({ "error": {
                "code": error.code(), "message": error.message(), "request_id": error.request_id() } });
            eprintln!("{body}");
        } else if hint.is_empty() {
            eprintln!("error: {error}");
        } else {
            eprintln!("error: {error}\n  {}: {hint}", self.url);
        }
        ExitCode::from(code)
    }
}

fn refused(error: &Error) -> bool {
    matches!(error.status(), Some(401..=403))
        || matches!(
            error.code(),
            "CLOSED_4401" | "CLOSED_4402" | "CLOSED_4403" | "CLOSED_4407" | "CLOSED_4408"
        )
        || matches!(
            error.code(),
            "UNAUTHENTICATED" | "INVALID_API_KEY" | "EXPIRED_API_KEY" | "INVALID_TOKEN" | "EXPIRED_TOKEN"
        )
        || matches!(error.code(), "INSUFFICIENT_SCOPE" | "TENANT_SUSPENDED")
}

/// Where to begin.
#[derive(clap::Args)]
#[group(multiple = false)]
pub struct Begin {
    /// Begin after the event with this cursor.
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
    /// Begin with this sequence.
    #[arg(long, value_name = "N")]
    from_sequence: Option<u64>,
    /// Begin with the first event at or after this time, such as 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME")]
    from_time: Option<String>,
}

impl Begin {
    fn start(&self) -> Start {
        match (&self.after, self.from_sequence, &self.from_time) {
            (Some(cursor), _, _) => Start::After(cursor.clone()),
            (_, Some(sequence), _) => Start::Sequence(sequence),
            (_, _, Some(time)) => Start::Time(time.clone()),
            _ => Start::Default,
        }
    }
}

/// Whether to colour what goes to a stream that is, or is not, a terminal. <https://no-color.org>
fn coloured(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
