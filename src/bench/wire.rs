//! Counting what a server sends, with as little reading as possible: frame headers of a WebSocket, line
//! starts of an event stream. A probe sees whole texts.

use memchr::memchr;
use std::io;

/// Bytes of a frame's text that are always looked at: enough to tell an event from the rest.
const PEEK: usize = 24;

pub(super) const TEXT: u8 = 1;
pub(super) const CLOSE: u8 = 8;
pub(super) const PING: u8 = 9;

/// A frame as seen by [`Frames::feed`].
pub(super) struct Frame<'a> {
    pub(super) opcode: u8,
    /// The first bytes of its text, or all of it for a probe.
    pub(super) start: &'a [u8],
}

/// Where one WebSocket's stream of frames stands.
#[derive(Default)]
pub(super) struct Frames {
    /// Bytes of the current frame that are of no interest.
    skip: usize,
    /// The beginning of a frame whose interesting part is not complete.
    carry: Vec<u8>,
}

impl Frames {
    /// Takes bytes and reports each frame in them.
    pub(super) fn feed(
        &mut self,
        bytes: &[u8],
        whole: bool,
        mut seen: impl FnMut(Frame<'_>),
    ) -> io::Result<()> {
        if self.carry.is_empty() {
            return self.run(bytes, whole, &mut seen);
        }
        let mut joined = std::mem::take(&mut self.carry);
        joined.extend_from_slice(bytes);
        self.run(&joined, whole, &mut seen)
    }

    fn run(&mut self, mut bytes: &[u8], whole: bool, seen: &mut impl FnMut(Frame<'_>)) -> io::Result<()> {
        let skipped = self.skip.min(bytes.len());
        self.skip -= skipped;
        bytes = &bytes[skipped..];
        while !bytes.is_empty() {
            let Some((opcode, head, length)) = header(bytes)? else { break };
            let wanted = if whole || opcode != TEXT { length } else { length.min(PEEK) };
            let Some(start) = bytes.get(head..head + wanted) else { break };
            seen(Frame { opcode, start });
            let end = head + length;
            if end > bytes.len() {
                self.skip = end - bytes.len();
                return Ok(());
            }
            bytes = &bytes[end..];
        }
        self.carry.extend_from_slice(bytes);
        Ok(())
    }
}

/// Opcode, length of the header, length of the text.
fn header(bytes: &[u8]) -> io::Result<Option<(u8, usize, usize)>> {
    const LIMIT: usize = 16 << 20;
    let &[first, second, ..] = bytes else { return Ok(None) };
    let (head, length) = match second {
        126 => {
            let Some(&[a, b]) = bytes.get(2..4) else { return Ok(None) };
            (4, usize::from(u16::from_be_bytes([a, b])))
        }
        127 => {
            let Some(long) = bytes.get(2..10).and_then(|long| <[u8; 8]>::try_from(long).ok()) else {
                return Ok(None);
            };
            (10, usize::try_from(u64::from_be_bytes(long)).unwrap_or(usize::MAX))
        }
        short => (2, usize::from(short)),
    };
    // A masked frame has its high bit in `second` and comes out as too long here too.
    if length > LIMIT || second > 127 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a server's WebSocket frame"));
    }
    Ok(Some((first & 0x0f, head, length)))
}

/// A client's text or control frame. It is masked with zeros: the same bytes, and quick to write.
pub(super) fn masked(opcode: u8, text: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match u8::try_from(text.len()) {
        Ok(short) if short < 126 => frame.push(0x80 | short),
        _ => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(text);
    frame
}

/// What one line of an event stream is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Line {
    /// The data of an event.
    Event,
    /// The data of something with a name: a gap, an error.
    Named,
}

/// Where one event stream stands. Knows `data:` in one line each, as Weir and nchan write it.
#[derive(Default)]
pub(super) struct Lines {
    /// The first bytes of the current line.
    start: [u8; 6],
    length: u8,
    named: bool,
    /// The current line, for a probe only.
    line: Vec<u8>,
}

impl Lines {
    /// Takes bytes and reports each `data` line that ended in them, with its text for a probe.
    pub(super) fn feed(&mut self, mut bytes: &[u8], whole: bool, mut seen: impl FnMut(Line, &[u8])) {
        while !bytes.is_empty() {
            let end = memchr(b'\n', bytes);
            let part = &bytes[..end.unwrap_or(bytes.len())];
            let have = usize::from(self.length);
            let more = part.len().min(self.start.len() - have);
            self.start[have..have + more].copy_from_slice(&part[..more]);
            self.length += more as u8;
            if whole {
                self.line.extend_from_slice(part);
            }
            let Some(end) = end else { return };
            self.end_of_line(&mut seen);
            bytes = &bytes[end + 1..];
        }
    }

    fn end_of_line(&mut self, seen: &mut impl FnMut(Line, &[u8])) {
        let start = &self.start[..usize::from(self.length)];
        if start.starts_with(b"data:") {
            seen(if self.named { Line::Named } else { Line::Event }, &self.line);
        } else if start.starts_with(b"event:") {
            self.named = true;
        } else if start.is_empty() || start == b"\r" {
            self.named = false;
        }
        self.length = 0;
        self.line.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(length: usize) -> Vec<u8> {
        let mut frame = vec![0x81];
        if length < 126 {
            frame.push(length as u8);
        } else if length < 65_536 {
            frame.push(126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        } else {
            frame.push(127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
        frame.extend((0..length).map(|i| i as u8));
        frame
    }

    #[test]
    fn frames_are_counted_however_they_are_cut() {
        let lengths = [0, 5, 23, 24, 125, 126, 300, 70_000, 3];
        let stream: Vec<u8> = lengths.iter().flat_map(|length| frame(*length)).collect();
        for (size, whole) in [(1, false), (7, true), (100, false), (4096, true), (stream.len(), false)] {
            let (mut frames, mut found) = (Frames::default(), Vec::new());
            for piece in stream.chunks(size) {
                frames.feed(piece, whole, |frame| found.push(frame.start.len())).expect("frames");
            }
            let expected: Vec<_> = lengths.iter().map(|l| if whole { *l } else { (*l).min(PEEK) }).collect();
            assert_eq!(found, expected, "pieces of {size}");
        }
        assert!(Frames::default().feed(&masked(TEXT, b"hi"), false, |_| {}).is_err());
    }

    #[test]
    fn lines_are_counted_however_they_are_cut() {
        let stream = b"retry: 1\n\n: hm\n\nid: a\ndata: 1\n\nevent: gap\ndata: 2\n\r\ne5\r\ndata: 3\n\n";
        for size in [1, 3, 10, stream.len()] {
            let (mut lines, mut found) = (Lines::default(), Vec::new());
            for piece in stream.chunks(size) {
                lines.feed(piece, true, |line, text| found.push((line, text.to_vec())));
            }
            let expected = [(Line::Event, b"data: 1"), (Line::Named, b"data: 2"), (Line::Event, b"data: 3")];
            assert_eq!(found, expected.map(|(line, text)| (line, text.to_vec())));
        }
    }
}
