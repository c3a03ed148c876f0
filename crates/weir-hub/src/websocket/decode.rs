//! Client frames to messages, a piece of the stream at a time.

use super::Opcode;
use bytes::Bytes;
use simdutf8::compat::from_utf8;

/// The longest payload of a control frame, in bytes.
const MAX_CONTROL: usize = 125;

/// What a server accepts.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// The largest message, in bytes, fragmented or not.
    pub message_bytes: usize,
    /// Whether binary messages are accepted.
    pub binary: bool,
}

/// Something whole that a client sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A text message; valid UTF-8.
    Text(Bytes),
    /// A binary message.
    Binary(Bytes),
    /// To be answered with a pong of the same payload.
    Ping(Bytes),
    /// A sign of life.
    Pong,
    /// The client closes with this code, 0 when it gave none. Nothing after it counts.
    Close(u16),
}

/// The client broke the protocol: close with this code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} (close code {code})")]
pub struct Violation {
    /// The close code of RFC 6455.
    pub code: u16,
    /// What was wrong, in words for the close reason.
    pub reason: &'static str,
}

const fn violation(code: u16, reason: &'static str) -> Violation {
    Violation { code, reason }
}

/// A frame whose payload is still arriving.
#[derive(Debug)]
struct Frame {
    last: bool,
    opcode: Opcode,
    /// Payload bytes still to come.
    left: usize,
    /// Turned so that its first byte belongs to the next payload byte.
    mask: [u8; 4],
}

/// The state between two pieces of the stream. Memory grows only as payload bytes really arrive, and
/// never beyond the largest message; a decoder at rest holds nothing.
#[derive(Debug, Default)]
pub struct Decoder {
    head: [u8; 14],
    head_len: usize,
    frame: Option<Frame>,
    /// The kind of the message whose fragments are arriving.
    kind: Option<Opcode>,
    message: Vec<u8>,
    /// How much of a text message is known to be whole characters.
    checked: usize,
    control: Vec<u8>,
}

impl Decoder {
    /// True between two messages: nothing is remembered.
    #[must_use]
    pub const fn is_at_rest(&self) -> bool {
        self.head_len == 0 && self.frame.is_none() && self.kind.is_none()
    }

    /// Takes bytes off the front of `input` until something is whole; `None` when all were taken.
    ///
    /// # Errors
    /// A [`Violation`]; the stream cannot be read on after it.
    pub fn decode(&mut self, input: &mut &[u8], rules: &Rules) -> Result<Option<Item>, Violation> {
        loop {
            let mut frame = match self.frame.take() {
                Some(frame) => frame,
                None => match self.take_head(input, rules)? {
                    Some(frame) => frame,
                    None => return Ok(None),
                },
            };
            self.take_payload(&mut frame, input)?;
            if frame.left > 0 {
                self.frame = Some(frame);
                return Ok(None);
            }
            if let Some(item) = self.finish(&frame)? {
                return Ok(Some(item));
            }
        }
    }

    /// Collects a frame's head; it may arrive byte by byte.
    fn take_head(&mut self, input: &mut &[u8], rules: &Rules) -> Result<Option<Frame>, Violation> {
        loop {
            let need = match self.head_len {
                0 | 1 => 2,
                _ => self.check_start(rules)?,
            };
            if self.head_len == need && need > 2 {
                break;
            }
            let take = (need - self.head_len).min(input.len());
            if take == 0 {
                return Ok(None);
            }
            let (now, later) = input.split_at(take);
            self.head[self.head_len..self.head_len + take].copy_from_slice(now);
            self.head_len += take;
            *input = later;
        }
        let frame = self.read_head(rules)?;
        self.head_len = 0;
        Ok(Some(frame))
    }

    /// Judges the first two bytes as soon as they are there; returns the length of the whole head.
    fn check_start(&self, rules: &Rules) -> Result<usize, Violation> {
        let [first, second, ..] = self.head;
        if first & 0x70 != 0 {
            return Err(violation(1002, "a reserved bit is set and no extension was agreed"));
        }
        let opcode = opcode(first)?;
        if second & 0x80 == 0 {
            return Err(violation(1002, "a client's frame must be masked"));
        }
        match opcode {
            Opcode::Close | Opcode::Ping | Opcode::Pong => {
                if first & 0x80 == 0 {
                    return Err(violation(1002, "a control frame must not be fragmented"));
                }
                if usize::from(second & 0x7f) > MAX_CONTROL {
                    return Err(violation(1002, "a control frame carries at most 125 bytes"));
                }
            }
            Opcode::Continuation if self.kind.is_none() => {
                return Err(violation(1002, "a continuation without a message to continue"));
            }
            Opcode::Text | Opcode::Binary if self.kind.is_some() => {
                return Err(violation(1002, "a new message before the last one ended"));
            }
            Opcode::Binary if !rules.binary => {
                return Err(violation(1003, "only text messages are accepted"));
            }
            _ => {}
        }
        Ok(match second & 0x7f {
            126 => 8,
            127 => 14,
            _ => 6,
        })
    }

    /// Reads the collected head, whose start is already judged.
    fn read_head(&mut self, rules: &Rules) -> Result<Frame, Violation> {
        let [first, second, rest @ ..] = self.head;
        let (len, mask) = match second & 0x7f {
            126 => (u64::from(u16::from_be_bytes([rest[0], rest[1]])), [rest[2], rest[3], rest[4], rest[5]]),
            127 => {
                let [a, b, c, d, e, f, g, h, mask @ ..] = rest;
                (u64::from_be_bytes([a, b, c, d, e, f, g, h]), mask)
            }
            short => (u64::from(short), [rest[0], rest[1], rest[2], rest[3]]),
        };
        let opcode = opcode(first)?;
        let room = rules.message_bytes.saturating_sub(self.message.len());
        let left = usize::try_from(len).unwrap_or(usize::MAX);
        match opcode {
            Opcode::Text | Opcode::Binary => self.kind = Some(opcode),
            _ => {}
        }
        if matches!(opcode, Opcode::Text | Opcode::Binary | Opcode::Continuation) && left > room {
            return Err(violation(1009, "the message is too big"));
        }
        Ok(Frame { last: first & 0x80 != 0, opcode, left, mask })
    }

    /// Moves what has arrived of the payload to where it belongs, unmasked and checked.
    fn take_payload(&mut self, frame: &mut Frame, input: &mut &[u8]) -> Result<(), Violation> {
        let (now, later) = input.split_at(frame.left.min(input.len()));
        *input = later;
        frame.left -= now.len();
        let data = matches!(frame.opcode, Opcode::Text | Opcode::Binary | Opcode::Continuation);
        let target = if data { &mut self.message } else { &mut self.control };
        if target.capacity() == 0 && frame.left == 0 {
            // The usual case, a whole message in one piece: no spare room is kept with it.
            target.reserve_exact(now.len());
        }
        let start = target.len();
        target.extend_from_slice(now);
        unmask(&mut target[start..], &mut frame.mask);
        if data && self.kind == Some(Opcode::Text) {
            self.check_text()?;
        }
        Ok(())
    }

    /// Fails on the first byte that cannot be part of UTF-8; a character may still be incomplete.
    fn check_text(&mut self) -> Result<(), Violation> {
        match from_utf8(&self.message[self.checked..]) {
            Ok(_) => self.checked = self.message.len(),
            Err(error) if error.error_len().is_none() => self.checked += error.valid_up_to(),
            Err(_) => return Err(violation(1007, "the text is not UTF-8")),
        }
        Ok(())
    }

    /// A frame is whole: what does it complete?
    fn finish(&mut self, frame: &Frame) -> Result<Option<Item>, Violation> {
        match frame.opcode {
            Opcode::Ping => Ok(Some(Item::Ping(Bytes::from(std::mem::take(&mut self.control))))),
            Opcode::Pong => {
                self.control = Vec::new();
                Ok(Some(Item::Pong))
            }
            Opcode::Close => close(&std::mem::take(&mut self.control)).map(|code| Some(Item::Close(code))),
            _ if !frame.last => Ok(None),
            _ => {
                if self.kind == Some(Opcode::Text) && self.checked != self.message.len() {
                    return Err(violation(1007, "the text ends inside a character"));
                }
                self.checked = 0;
                let message = Bytes::from(std::mem::take(&mut self.message));
                Ok(Some(match self.kind.take() {
                    Some(Opcode::Binary) => Item::Binary(message),
                    _ => Item::Text(message),
                }))
            }
        }
    }
}

fn opcode(first: u8) -> Result<Opcode, Violation> {
    Ok(match first & 0x0f {
        0 => Opcode::Continuation,
        1 => Opcode::Text,
        2 => Opcode::Binary,
        8 => Opcode::Close,
        9 => Opcode::Ping,
        10 => Opcode::Pong,
        _ => return Err(violation(1002, "an opcode that is not defined")),
    })
}

/// Reads a close frame's payload; 0 when it is empty.
fn close(payload: &[u8]) -> Result<u16, Violation> {
    let [high, low, reason @ ..] = payload else {
        return if payload.is_empty() { Ok(0) } else { Err(violation(1002, "a close code has two bytes")) };
    };
    let code = u16::from_be_bytes([*high, *low]);
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(violation(1002, "a close code that must not be sent"));
    }
    if from_utf8(reason).is_err() {
        return Err(violation(1007, "the close reason is not UTF-8"));
    }
    Ok(code)
}

/// Removes the mask, eight bytes at a time, and turns it for what follows.
fn unmask(bytes: &mut [u8], mask: &mut [u8; 4]) {
    let [a, b, c, d] = *mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let mut chunks = bytes.chunks_exact_mut(8);
    for chunk in &mut chunks {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        chunk.copy_from_slice(&(u64::from_ne_bytes(word) ^ wide).to_ne_bytes());
    }
    let tail = chunks.into_remainder();
    for (byte, key) in tail.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
    let turn = tail.len() % 4;
    mask.rotate_left(turn);
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
