//! Events on standard output: for a person, or as JSON lines.

use std::io::{self, BufWriter, StdoutLock, Write};
use weir_client::{Event, Gap};

pub(super) struct Output {
    out: BufWriter<StdoutLock<'static>>,
    json: bool,
    paint: Paint,
}

/// The few colours in use; empty strings where none are wanted.
struct Paint {
    dim: &'static str,
    topic: &'static str,
    warn: &'static str,
    end: &'static str,
}

impl Paint {
    const PLAIN: Self = Self { dim: "", topic: "", warn: "", end: "" };
    const COLOURED: Self = Self { dim: "\x1b[2m", topic: "\x1b[36m", warn: "\x1b[1;33m", end: "\x1b[0m" };
}

impl Output {
    pub(super) fn new(json: bool) -> Self {
        let stdout = io::stdout();
        let paint = if !json && super::coloured(&stdout) { Paint::COLOURED } else { Paint::PLAIN };
        Self { out: BufWriter::new(stdout.lock()), json, paint }
    }

    pub(super) fn event(&mut self, event: &Event) -> io::Result<()> {
        if self.json {
            serde_json::to_writer(&mut self.out, event)?;
            return self.out.write_all(b"\n");
        }
        let Paint { dim, topic, end, .. } = self.paint;
        let kind = event.kind.as_ref().map(|kind| format!("({}) ", visible(kind))).unwrap_or_default();
        writeln!(
            self.out,
            "{dim}{} #{}{end} {topic}{}{end} {kind}{}",
            event.published_at,
            event.sequence,
            event.topic,
            visible(event.payload.get()),
        )
    }

    pub(super) fn gap(&mut self, gap: &Gap) -> io::Result<()> {
        if self.json {
            return writeln!(self.out, "{}", serde_json::json!({ "gap": gap }));
        }
        writeln!(self.out, "{}gap: {gap}{}", self.paint.warn, self.paint.end)
    }

    pub(super) fn line(&mut self, value: &impl serde::Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, value)?;
        self.out.write_all(b"\n")
    }

    pub(super) fn text(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{text}")
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Text from somebody else, safe for a terminal: control characters would move its cursor, or worse.
fn visible(text: &str) -> std::borrow::Cow<'_, str> {
    if text.chars().any(char::is_control) {
        text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect::<String>().into()
    } else {
        text.into()
    }
}

/// Whoever read this has gone, as `head` does: not a failure.
pub(super) fn reader_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_payload_cannot_steer_the_terminal() {
        assert_eq!(super::visible("{\"a\":1}"), "{\"a\":1}");
        assert_eq!(super::visible("\"\u{7f}\u{9b}31m\""), "\"\u{fffd}\u{fffd}31m\"");
    }
}
