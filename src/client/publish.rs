//! `weir publish`: one event, or one for each line of standard input.

use super::output::Output;
use super::{FAILED, Server, coloured};
use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{BufRead, Read};
use std::process::ExitCode;
use std::time::Duration;
use tokio::sync::mpsc;
use weir_client::{Client, Error, NewEvent, RawValue};

/// Lines that are sent with one request; the server's limit.
const BATCH: usize = 100;

/// Publish an event; it is durable when this returns.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  weir publish orders.eu '{\"total\": 42}'\n  \
    jq -c '.[]' orders.json | weir publish orders.eu --lines")]
pub struct Args {
    #[command(flatten)]
    server: Server,
    /// Where to publish.
    topic: String,
    /// The payload, JSON; `-` or nothing reads it from standard input.
    #[arg(conflicts_with = "lines")]
    payload: Option<String>,
    /// Take the payload as text instead of JSON.
    #[arg(long)]
    text: bool,
    /// The event's id: publishing it again within the dedupe window adds nothing.
    #[arg(long, conflicts_with = "lines")]
    id: Option<String>,
    /// What kind of event it is, in your own words.
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// A header that travels with the event; may be repeated.
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// Publish an event for each line of standard input, in order.
    #[arg(long)]
    lines: bool,
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Runs the command.
///
/// # Errors
/// When standard input or output fail.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let client = match args.server.client() {
        Ok(client) => client,
        Err(error) => return Ok(args.server.failure(&error)),
    };
    if args.lines { lines(&args, &client).await } else { one(&args, &client).await }
}

impl Args {
    fn event(&self, payload: &str) -> Result<NewEvent, Error> {
        let mut event = if self.text {
            NewEvent::new(&self.topic, payload)?
        } else {
            let raw: Box<RawValue> = serde_json::from_str(payload).map_err(|e| not_json(&e))?;
            NewEvent::raw(&self.topic, raw)
        };
        if let Some(id) = &self.id {
            event = event.id(id);
        }
        if let Some(kind) = &self.kind {
            event = event.kind(kind);
        }
        Ok(self.headers.iter().fold(event, |event, (name, value)| event.header(name, value)))
    }
}

fn not_json(error: &serde_json::Error) -> Error {
    Error::invalid(format!("the payload is not JSON: {error}; quote it, or use --text"))
}

async fn one(args: &Args, client: &Client) -> anyhow::Result<ExitCode> {
    let payload = match args.payload.as_deref() {
        Some(payload) if payload != "-" => payload.to_owned(),
        _ => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("standard input is not UTF-8 text")?;
            text
        }
    };
    let published = match args.event(&payload) {
        Ok(event) => client.publish(event).await,
        Err(error) => Err(error),
    };
    let published = match published {
        Ok(published) => published,
        Err(error) => return Ok(args.server.failure(&error)),
    };
    let mut output = Output::new(args.server.json);
    if args.server.json {
        output.line(&published)?;
    } else {
        output.text(&format!("{} #{} {}", published.id, published.sequence, published.cursor))?;
    }
    output.flush()?;
    Ok(ExitCode::SUCCESS)
}

async fn lines(args: &Args, client: &Client) -> anyhow::Result<ExitCode> {
    let mut input = read_lines();
    let mut output = Output::new(args.server.json);
    let bar = bar();
    let (mut number, mut failed) = (0_u64, 0_u64);
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        batch.clear();
        // Takes what is there: a full batch from a file, single lines from something that trickles.
        if input.recv_many(&mut batch, BATCH).await == 0 {
            break;
        }
        let mut events = Vec::with_capacity(BATCH);
        for line in batch.drain(..) {
            number += 1;
            match args.event(&line.context("standard input is not UTF-8 text")?) {
                Ok(event) => events.push((number, event)),
                Err(error) => failed += report(&bar, number, &error),
            }
        }
        let (numbers, events): (Vec<_>, Vec<_>) = events.into_iter().unzip();
        let results = match client.publish_batch(&events).await {
            Ok(results) => results,
            Err(error) => {
                bar.finish_and_clear();
                return Ok(args.server.failure(&error));
            }
        };
        for (number, result) in numbers.into_iter().zip(results) {
            match result {
                Ok(published) if args.server.json => output.line(&published)?,
                Ok(_) => {}
                Err(error) => failed += report(&bar, number, &error),
            }
        }
        bar.set_position(number - failed);
        output.flush()?;
    }
    bar.finish_and_clear();
    if !args.server.json {
        output.text(&format!("{} published, {failed} refused", number - failed))?;
    }
    output.flush()?;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

fn report(bar: &ProgressBar, line: u64, error: &Error) -> u64 {
    bar.suspend(|| eprintln!("line {line}: {error}"));
    1
}

/// Reading a pipe blocks, so it has a thread of its own; the channel's bound holds it back.
fn read_lines() -> mpsc::Receiver<std::io::Result<String>> {
    let (into, lines) = mpsc::channel(4 * BATCH);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let empty = line.as_ref().is_ok_and(|line| line.trim().is_empty());
            if !empty && into.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// Shows itself only when standard error is a terminal.
fn bar() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    let plain = "{spinner} {human_pos} published, {per_sec}, {elapsed}";
    let template = if coloured(&std::io::stderr()) {
        "{spinner:.cyan} {human_pos:.bold} published, {per_sec}, {elapsed}"
    } else {
        plain
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}
