//! Messages to bytes on the wire, for each dialect.

use crate::websocket::{Opcode, put_frame, put_head};
use crate::{Dialect, Message, Operation};

/// Bytes that a message is counted with in every bound beside its own: its frame, list entry and shares.
const OVERHEAD: usize = 96;

/// What a message weighs in rings, queues and backlogs, in bytes: about what it occupies in memory.
pub fn weight(message: &Message) -> usize {
    message.ws_prefix.len() + message.sse_prefix.len() + message.body.len() + OVERHEAD
}

/// Appends an event.
pub fn put_event(out: &mut Vec<u8>, dialect: Dialect, message: &Message) {
    match dialect {
        Dialect::WebSocket => {
            put_head(out, Opcode::Text, message.ws_prefix.len() + message.body.len());
            out.extend_from_slice(&message.ws_prefix);
            out.extend_from_slice(&message.body);
        }
        Dialect::Sse => {
            out.extend_from_slice(&message.sse_prefix);
            out.extend_from_slice(&message.body);
            out.extend_from_slice(b"\n\n");
        }
    }
}

/// Appends an event in the words of an operation, already rendered by its shape.
pub fn put_enclosed(out: &mut Vec<u8>, dialect: Dialect, operation: &Operation, rendered: &[u8]) {
    if dialect == Dialect::WebSocket {
        put_head(out, Opcode::Text, operation.prefix.len() + rendered.len() + operation.suffix.len());
    }
    out.extend_from_slice(&operation.prefix);
    out.extend_from_slice(rendered);
    out.extend_from_slice(&operation.suffix);
}

/// Appends a text outside any subscription: a frame, or raw bytes.
pub fn put_text(out: &mut Vec<u8>, dialect: Dialect, text: &[u8]) {
    match dialect {
        Dialect::WebSocket => put_frame(out, Opcode::Text, text),
        Dialect::Sse => out.extend_from_slice(text),
    }
}
