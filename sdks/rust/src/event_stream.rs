//! A parser of `text/event-stream`, fed with whatever pieces the network brings.
//!
//! Lines end in CR, LF or CRLF; a byte order mark at the start is skipped; several `data` lines make
//! one event; an `id` with a NUL in it is ignored; an event without data only moves the last id.

use crate::{Error, Result};
use std::collections::VecDeque;
use std::time::Duration;

/// The most bytes that one line or one event may have: more means a broken or hostile server.
const LIMIT: usize = 4 << 20;

/// One dispatched event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// The `event` field; empty means `message`.
    pub(crate) event: String,
    pub(crate) data: String,
}

/// What the stream said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    Message(Message),
    /// The last event id changed, by a block without data.
    Id(String),
    /// The `retry` field: how long to wait before connecting again.
    Retry(Duration),
}

#[derive(Default)]
pub(crate) struct Parser {
    line: Vec<u8>,
    /// The last byte was CR: an LF right after it belongs to it.
    after_cr: bool,
    /// The first line is complete, so a byte order mark has no meaning any more.
    begun: bool,
    event: String,
    data: String,
    id: Option<String>,
    items: VecDeque<Item>,
}

impl Parser {
    /// Takes a piece of the stream.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) -> Result<()> {
        let Some(first) = bytes.first() else { return Ok(()) };
        if std::mem::take(&mut self.after_cr) && *first == b'\n' {
            bytes = &bytes[1..];
        }
        while let Some(end) = bytes.iter().position(|b| matches!(b, b'\r' | b'\n')) {
            self.push(&bytes[..end])?;
            self.end_of_line()?;
            let crlf = bytes[end..].starts_with(b"\r\n");
            self.after_cr = bytes[end] == b'\r' && end + 1 == bytes.len();
            bytes = &bytes[end + 1 + usize::from(crlf)..];
        }
        self.push(bytes)
    }

    /// What came of it, in order.
    pub(crate) fn next(&mut self) -> Option<Item> {
        self.items.pop_front()
    }

    /// Nothing has come of what was fed.
    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    fn push(&mut self, bytes: &[u8]) -> Result<()> {
        if self.line.len() + bytes.len() > LIMIT {
            return Err(Error::protocol(format!("a line of the event stream is over {LIMIT} bytes")));
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn end_of_line(&mut self) -> Result<()> {
        let line = std::mem::take(&mut self.line);
        let mut rest = line.as_slice();
        if !std::mem::replace(&mut self.begun, true) {
            rest = rest.strip_prefix(b"\xef\xbb\xbf").unwrap_or(rest);
        }
        if rest.is_empty() {
            self.dispatch();
        } else {
            self.field(rest)?;
        }
        // The buffer is used again, but a single giant line does not stay allocated.
        if line.capacity() <= 64 << 10 {
            self.line = line;
            self.line.clear();
        }
        Ok(())
    }

    fn field(&mut self, line: &[u8]) -> Result<()> {
        let colon = line.iter().position(|b| *b == b':').unwrap_or(line.len());
        let value = line.get(colon + 1..).unwrap_or_default();
        let value = String::from_utf8_lossy(value.strip_prefix(b" ").unwrap_or(value));
        match &line[..colon] {
            b"event" => self.event = value.into_owned(),
            b"data" => {
                if self.data.len() + value.len() > LIMIT {
                    return Err(Error::protocol(format!("an event of the stream is over {LIMIT} bytes")));
                }
                self.data.push_str(&value);
                self.data.push('\n');
            }
            b"id" if !value.contains('\0') => self.id = Some(value.into_owned()),
            b"retry" if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) => {
                let wait = value.parse().map(Duration::from_millis);
                self.items.extend(wait.ok().map(Item::Retry));
            }
            _ => {}
        }
        Ok(())
    }

    fn dispatch(&mut self) {
        let event = std::mem::take(&mut self.event);
        let mut data = std::mem::take(&mut self.data);
        let id = self.id.take();
        if data.pop().is_none() {
            self.items.extend(id.map(Item::Id));
            return;
        }
        self.items.push_back(Item::Message(Message { event, data }));
        // After the event: whoever resumes with it must have the event.
        self.items.extend(id.map(Item::Id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(pieces: &[&[u8]]) -> Vec<Item> {
        let mut parser = Parser::default();
        let mut items = Vec::new();
        for piece in pieces {
            parser.feed(piece).expect("within limits");
            items.extend(std::iter::from_fn(|| parser.next()));
        }
        items
    }

    fn message(event: &str, data: &str) -> Item {
        Item::Message(Message { event: event.into(), data: data.into() })
    }

    #[test]
    fn reads_the_standards_examples() {
        assert_eq!(parse(&[b"data: YHOO\ndata: +2\ndata: 10\n\n"]), [message("", "YHOO\n+2\n10")]);
        let stream =
            b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n";
        assert_eq!(
            parse(&[stream]),
            [
                message("", "first event"),
                Item::Id("1".into()),
                message("", "second event"),
                Item::Id(String::new()),
                message("", " third event"),
            ]
        );
        assert_eq!(parse(&[b"data\n\ndata\ndata\n\ndata:"]), [message("", ""), message("", "\n")]);
        assert_eq!(parse(&[b"data:test\n\ndata: test\n\n"]), [message("", "test"), message("", "test")]);
    }

    #[test]
    fn line_ends_marks_ids_and_retries() {
        assert_eq!(parse(&[b"\xef\xbb\xbfdata: a\r\rdata: b\r\n\r\n"]), [message("", "a"), message("", "b")]);
        assert_eq!(parse(&[b"data: a\r", b"\n\r", b"\ndata: b\n\n"]), [message("", "a"), message("", "b")]);
        assert_eq!(parse(&[b"id: a\0b\ndata: x\n\n"]), [message("", "x")]);
        assert_eq!(parse(&[b"id: c1\n\n"]), [Item::Id("c1".into())]);
        assert_eq!(
            parse(&[b"retry: 1500\nretry: soon\nretry:\n"]),
            [Item::Retry(Duration::from_millis(1500))]
        );
        assert_eq!(
            parse(&[b"event: gap\ndata: {}\n\nevent: lost\n\ndata: x\n\n"]),
            [message("gap", "{}"), message("", "x")]
        );
        assert_eq!(parse(&[b"data: unfinished\n"]), []);
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut parser = Parser::default();
        let piece = vec![b'x'; 1 << 20];
        let outcome: Vec<_> = (0..5).map(|_| parser.feed(&piece).is_ok()).collect();
        assert_eq!(outcome, [true, true, true, true, false]);
    }

    fn stream() -> impl Strategy<Value = Vec<u8>> {
        let parts: [&[u8]; 16] = [
            b"data: a",
            b"data:",
            b"data",
            b"id: 7",
            b"id: \0",
            b"event: gap",
            b"retry: 5",
            b": hm",
            b"\n",
            b"\r",
            b"\r\n",
            b"\n\n",
            b"\r\n\r\n",
            "data: \u{20ac}".as_bytes(),
            b"\xef\xbb\xbf",
            b"\xff",
        ];
        let part = prop::sample::select(parts.to_vec());
        proptest::collection::vec(part, 0..40).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn any_split_reads_the_same(stream in stream(), cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..8)) {
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in cuts {
                pieces.push(&stream[from..cut]);
                from = cut;
            }
            pieces.push(&stream[from..]);
            prop_assert_eq!(parse(&pieces), parse(&[&stream]));
        }

        #[test]
        fn what_was_written_is_read(lines in proptest::collection::vec("[^\r\n]{0,20}", 1..5), end in "\r\n|\n|\r") {
            let mut text: String = lines.iter().map(|line| format!("data: {line}{end}")).collect();
            text.push_str(&end);
            prop_assert_eq!(parse(&[text.as_bytes()]), [message("", &lines.join("\n"))]);
        }
    }
}
