//! `weir top`: a live view of nodes, in a terminal.
//!
//! It reads what operators' probes read, `/overview` and `/metrics` on `ops_listen`, so it needs no credentials, only to reach that
//! address; of several nodes it adds up the numbers. Plain ANSI: it works in 80 columns and 24 lines, over ssh, in tmux.

mod histogram;
mod sample;
mod screen;
mod terminal;

use sample::{Rates, Sample};
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;
use terminal::{Key, Terminal};
use tokio::signal::unix::{SignalKind, signal};
use weir_outbound::{Outbound, Policy};

/// Which nodes, and how.
#[derive(clap::Args)]
pub struct Args {
    /// The nodes' addresses for operators (`ops_listen`); several, or the option again, add up.
    #[arg(long, value_name = "URL", value_delimiter = ',', default_value = "http://127.0.0.1:8081")]
    ops: Vec<String>,
    /// Seconds between two looks.
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0, value_parser = seconds)]
    interval: f64,
    /// Look twice, print once, and end.
    #[arg(long)]
    once: bool,
    /// With --once: print JSON.
    #[arg(long, requires = "once")]
    json: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    let wrong = || format!("`{text}` is not a number of seconds from 0.2 to 60");
    text.parse().ok().filter(|seconds| (0.2..=60.0).contains(seconds)).ok_or_else(wrong)
}

/// Shows, until `q` or Ctrl-C.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let outbound = Outbound::new(Policy::Trusted)?;
    let interval = Duration::from_secs_f64(args.interval);
    let mut before = Sample::take(&outbound, &args.ops).await;
    if args.once {
        if !before.reached() {
            crate::command::complain(&before.failure());
            return Ok(ExitCode::FAILURE);
        }
        tokio::time::sleep(interval).await;
        let now = Sample::take(&outbound, &args.ops).await;
        let rates = Rates::between(&before, &now);
        let text = if args.json {
            format!("{}\n", screen::json(&now, &rates))
        } else {
            screen::lines(&now, &rates, (100, 200), false).join("\n") + "\n"
        };
        crate::command::print(&text)?;
        return Ok(if now.reached() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let mut terminal = Terminal::enter()?;
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut resized = signal(SignalKind::window_change())?;
    let mut tick = tokio::time::interval(interval);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    tick.tick().await;
    let mut rates = Rates::default();
    loop {
        draw(&before, &rates)?;
        tokio::select! {
            _ = tick.tick() => {
                let now = Sample::take(&outbound, &args.ops).await;
                rates = Rates::between(&before, &now);
                before = now;
            }
            key = terminal.key() => if key == Key::Quit { break },
            _ = resized.recv() => {}
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn draw(now: &Sample, rates: &Rates) -> anyhow::Result<()> {
    let size = terminal::size();
    let colour = std::env::var_os("NO_COLOR").is_none();
    let lines = screen::lines(now, rates, size, colour);
    // Over what was there, so that nothing flickers; the rest of each line and of the screen is cleared.
    let text = format!("\x1b[H{}\x1b[K\x1b[J", lines.join("\x1b[K\r\n"));
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}
