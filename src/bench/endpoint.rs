//! Where requests go, and the bytes of their heads.

use anyhow::{Context, bail};
use std::fmt::Write;
use std::net::{SocketAddr, ToSocketAddrs};

#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    pub(super) address: SocketAddr,
    host: String,
    path: String,
}

impl Endpoint {
    /// Takes `http://host:port/path`, or `ws://…`.
    pub(super) fn parse(url: &str) -> anyhow::Result<Self> {
        let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("ws://"));
        let Some(rest) = rest else {
            bail!("`{url}` must begin with http:// or ws://: the bench speaks no TLS")
        };
        let (host, path) = rest.split_once('/').map_or((rest, ""), |(host, path)| (host, path));
        let with_port = if host.rsplit(']').next().is_some_and(|end| end.contains(':')) {
            host.to_owned()
        } else {
            format!("{host}:80")
        };
        let mut found = with_port.to_socket_addrs().with_context(|| format!("cannot resolve `{host}`"))?;
        let address = found.next().with_context(|| format!("`{host}` has no address"))?;
        Ok(Self { address, host: host.to_owned(), path: format!("/{path}") })
    }

    /// The head of a GET; `more` holds whole header lines.
    pub(super) fn get(&self, more: &str) -> Vec<u8> {
        format!("GET {} HTTP/1.1\r\nHost: {}\r\n{more}\r\n", self.path, self.host).into_bytes()
    }

    /// The head of a GET with a query.
    pub(super) fn get_with(&self, query: &str, key: &str, out: &mut Vec<u8>) {
        let (path, host) = (&self.path, &self.host);
        let head =
            format!("GET {path}?{query} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n\r\n");
        out.extend_from_slice(head.as_bytes());
    }

    /// An upgrade to a WebSocket. The nonce is fixed: nothing between here and a loopback server caches.
    pub(super) fn upgrade(&self, more: &str) -> Vec<u8> {
        self.get(&format!(
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: d2VpciBiZW5jaCBub25jZQ==\r\n{more}"
        ))
    }

    /// A POST of a JSON body.
    pub(super) fn post(&self, key: Option<&str>, body: &[u8], out: &mut Vec<u8>) {
        self.send("POST", key, body, out);
    }

    /// A request with a JSON body.
    pub(super) fn send(&self, method: &str, key: Option<&str>, body: &[u8], out: &mut Vec<u8>) {
        let mut head = format!(
            "{method} {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n",
            self.path,
            self.host,
            body.len()
        );
        if let Some(key) = key {
            // Writing into a String cannot fail.
            let _ = write!(head, "Authorization: Bearer {key}\r\n");
        }
        head.push_str("\r\n");
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(body);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_urls_apart() {
        let endpoint = Endpoint::parse("ws://127.0.0.1:9000/ws?x=1").expect("valid");
        assert_eq!((endpoint.address.port(), endpoint.path.as_str()), (9000, "/ws?x=1"));
        assert_eq!(Endpoint::parse("http://127.0.0.1").expect("valid").address.port(), 80);
        assert_eq!(Endpoint::parse("http://[::1]:81").expect("valid").address.port(), 81);
        assert!(Endpoint::parse("https://127.0.0.1").is_err());
    }
}
