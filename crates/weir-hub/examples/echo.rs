//! A WebSocket server that sends back what it receives, for conformance testers:
//! `cargo run -p weir-hub --example echo -- 127.0.0.1:9001`. Prints the address once it listens.

#![allow(clippy::print_stdout)]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use sha1::{Digest, Sha1};
use std::io::{self, ErrorKind, Read};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, OnceLock};
use weir_hub::{Closed, Config, Conn, Dialect, Hub, Listener, NewConnection, ready};

/// The largest message, in bytes: conformance suites send up to 16 MiB.
const MESSAGE_BYTES: usize = 32 << 20;

struct Echo {
    hub: Hub,
    conn: OnceLock<Conn>,
}

impl Listener for Echo {
    fn opened(&self, conn: Conn) -> Option<Bytes> {
        self.conn.get_or_init(|| conn);
        None
    }

    fn text(self: Arc<Self>, text: Bytes) -> bool {
        if let Some(conn) = self.conn.get() {
            self.hub.send(*conn, text, false);
        }
        true
    }

    fn binary(self: Arc<Self>, bytes: Bytes) -> bool {
        if let Some(conn) = self.conn.get() {
            self.hub.send_binary(*conn, bytes, false);
        }
        true
    }

    fn drained(&self) {}

    fn closed(&self, _: Closed) {}
}

/// Reads the head of an upgrade request; returns the answer and what came after the head.
fn shake_hands(socket: &mut TcpStream) -> io::Result<(String, Vec<u8>)> {
    let mut head = Vec::new();
    let end = loop {
        let mut piece = [0; 1024];
        let count = socket.read(&mut piece)?;
        head.extend_from_slice(&piece[..count]);
        if let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if count == 0 || head.len() > 16 << 10 {
            return Err(ErrorKind::InvalidData.into());
        }
    };
    let rest = head.split_off(end);
    let head = String::from_utf8(head).map_err(|_| ErrorKind::InvalidData)?;
    let key = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim())
    });
    let key = key.ok_or(ErrorKind::InvalidData)?;
    let accept = STANDARD.encode(Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11")));
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    Ok((answer, rest))
}

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9001".into());
    let hub = Hub::start(Config {
        shards: 1,
        frame_bytes: MESSAGE_BYTES,
        backlog_bytes: 2 * MESSAGE_BYTES,
        accept_binary: true,
        ..Config::default()
    })?;
    let server = TcpListener::bind(address)?;
    println!("{}", server.local_addr()?);
    for socket in server.incoming() {
        let mut socket = socket?;
        let Ok((answer, rest)) = shake_hands(&mut socket) else { continue };
        hub.adopt(NewConnection {
            socket: ready(socket)?,
            dialect: Dialect::WebSocket,
            read_ahead: rest.into(),
            preamble: answer.into(),
            listener: Arc::new(Echo { hub: hub.clone(), conn: OnceLock::new() }),
        });
    }
    Ok(())
}
