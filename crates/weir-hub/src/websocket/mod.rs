//! The server side of RFC 6455: pure functions and one small state machine over buffers, no sockets.

mod decode;

pub use decode::{Decoder, Item, Rules, Violation};

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// The next part of a fragmented message.
    Continuation = 0,
    /// UTF-8 text.
    Text = 1,
    /// Bytes.
    Binary = 2,
    /// The end, with an optional code and reason.
    Close = 8,
    /// A question to be answered with [`Opcode::Pong`].
    Ping = 9,
    /// The answer.
    Pong = 10,
}

/// The longest reason of a close frame, in bytes.
const MAX_REASON: usize = 123;

/// Appends the head of one whole, unmasked frame with a payload of `len` bytes.
pub fn put_head(out: &mut Vec<u8>, opcode: Opcode, len: usize) {
    out.push(0x80 | opcode as u8);
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(short @ 0..=125), _) => out.push(short),
        (_, Ok(medium)) => {
            out.push(126);
            out.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
}

/// Appends one whole, unmasked frame.
pub fn put_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    put_head(out, opcode, payload.len());
    out.extend_from_slice(payload);
}

/// Appends a close frame. Code 0 leaves it empty; a reason beyond 123 bytes is cut.
pub fn put_close(out: &mut Vec<u8>, code: u16, reason: &str) {
    if code == 0 {
        return put_head(out, Opcode::Close, 0);
    }
    let reason = &reason[..reason.floor_char_boundary(MAX_REASON)];
    put_head(out, Opcode::Close, 2 + reason.len());
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(reason.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(len: usize) -> Vec<u8> {
        let mut out = Vec::new();
        put_head(&mut out, Opcode::Text, len);
        out
    }

    #[test]
    fn lengths_take_the_shortest_form() {
        assert_eq!(head(125), [0x81, 125]);
        assert_eq!(head(126), [0x81, 126, 0, 126]);
        assert_eq!(head(65_535), [0x81, 126, 255, 255]);
        assert_eq!(head(65_536), [0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn close_reasons_are_cut_between_characters() {
        let mut out = Vec::new();
        put_close(&mut out, 4509, &"é".repeat(100));
        assert_eq!(out[..4], [0x88, 124, 0x11, 0x9d]);
        assert_eq!(std::str::from_utf8(&out[4..]).map(|reason| reason.chars().count()), Ok(61));
        out.clear();
        put_close(&mut out, 0, "unheard");
        assert_eq!(out, [0x88, 0]);
    }
}
