//! Against real sockets on addresses of this machine, which no policy but the operator's admits.

use crate::guard::Lookup;
use crate::{Error, Outbound, Policy, Request};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// A server that gives every connection this answer and counts them.
struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    /// The last head it was sent.
    head: Arc<Mutex<String>>,
}

impl Server {
    async fn start(on: &str, answer: impl Into<Vec<u8>>, then_hang: bool) -> Self {
        let listener = TcpListener::bind(on).await.expect("binds");
        let address = listener.local_addr().expect("an address");
        let (connections, head) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(String::new())));
        let (count, seen, answer) = (Arc::clone(&connections), Arc::clone(&head), answer.into());
        tokio::spawn(async move {
            loop {
                let (mut socket, _) = listener.accept().await.expect("accepts");
                count.fetch_add(1, Ordering::SeqCst);
                let mut buffer = [0; 4096];
                let read = socket.read(&mut buffer).await.unwrap_or(0);
                *seen.lock().expect("lock") = String::from_utf8_lossy(&buffer[..read]).into_owned();
                let _ = socket.write_all(&answer).await;
                if then_hang {
                    let _ = socket.read(&mut buffer).await;
                }
            }
        });
        Self { address, connections, head }
    }

    async fn says(body: &str) -> Self {
        Self::start("127.0.0.1:0", ok(body), false).await
    }

    fn url(&self) -> String {
        format!("http://{}/keys", self.address)
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

fn public(allow: &str) -> Policy {
    Policy::Public { allow: allow.parse().expect("networks") }
}

fn outbound(policy: Policy) -> Outbound {
    Outbound::new(policy).expect("a client")
}

/// Answers with the next of these each time it is asked, and the last for ever.
fn scripted(answers: &[&[SocketAddr]]) -> Lookup {
    let answers: Mutex<VecDeque<Vec<SocketAddr>>> =
        Mutex::new(answers.iter().map(|answer| answer.to_vec()).collect());
    Arc::new(move |_| {
        let mut answers = answers.lock().expect("lock");
        let next = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        Box::pin(async move { Ok(next.unwrap_or_default()) })
    })
}

#[tokio::test]
async fn an_operators_server_is_reached_and_answers() {
    let server = Server::says("hello").await;
    let request = Request::post(server.url(), "a=b").header("content-type", "text/plain");
    let answer = outbound(Policy::Trusted).send(request).await.expect("an answer");
    assert_eq!((answer.status.as_u16(), &*answer.body), (200, &b"hello"[..]));
    let head = server.head.lock().expect("lock").to_lowercase();
    assert!(
        head.starts_with("post /keys http/1.1\r\n") && head.contains("content-type: text/plain\r\n"),
        "{head}"
    );
    assert!(head.contains("user-agent: weir/"), "{head}");
}

#[tokio::test]
async fn what_is_not_public_is_not_connected_to() {
    let server = Server::says("secret").await;
    let port = server.address.port();
    let client = outbound(public(""));
    for host in [
        "127.0.0.1",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "127.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "[64:ff9b::127.0.0.1]",
        "169.254.169.254",
        "0.0.0.0",
        "localhost",
    ] {
        let url = format!("https://{host}:{port}/");
        let error = client.send(Request::get(&url)).await.expect_err(host);
        assert_eq!(error, Error::Forbidden, "{host}");
        assert_eq!(client.check(&url).is_err(), host != "localhost", "{host}");
    }
    assert_eq!(server.connections(), 0);
    assert!(
        client.check("https://8.8.8.8/keys").is_ok()
            && client.check("https://id.example.com:8443/keys").is_ok()
    );
}

#[tokio::test]
async fn plain_http_is_for_allowed_networks() {
    let server = Server::says("hello").await;
    assert!(outbound(public("127.0.0.0/8")).send(Request::get(server.url())).await.is_ok());
    let name = server.url().replace("127.0.0.1", "localhost");
    assert!(outbound(public("127.0.0.0/8")).send(Request::get(&name)).await.is_ok());
    for (allow, url) in [("", name.as_str()), ("", "http://example.com/"), ("10.0.0.0/8", &name)] {
        let error = outbound(public(allow)).send(Request::get(url)).await.expect_err(url);
        assert!(matches!(error, Error::Invalid(_) | Error::Forbidden), "{allow} {url}: {error}");
    }
    assert_eq!(outbound(public("10.0.0.0/8")).check("http://8.8.8.8/"), Err(Error::Forbidden));
    for url in
        ["ftp://example.com/", "file:///etc/passwd", "keys", "https://user:pw@example.com/", "https://"]
    {
        assert!(matches!(outbound(Policy::Trusted).check(url), Err(Error::Invalid(_))), "{url}");
    }
}

#[tokio::test]
async fn a_name_that_changes_its_meaning_leads_nowhere() {
    let inside = Server::says("secret").await;
    let port = inside.address.port();
    let outside = Server::start(&format!("127.0.0.2:{port}"), ok("public"), false).await;
    let (good, bad) = (SocketAddr::from(([127, 0, 0, 2], 0)), SocketAddr::from(([127, 0, 0, 1], 0)));
    // The first answer passes; every later one is what an attacker would rather have us reach.
    let lookup = scripted(&[&[good], &[bad]]);
    let client = Outbound::with_lookup(public("127.0.0.2"), &lookup).expect("a client");
    let url = format!("http://rebinding.example:{port}/");
    let answer = client.send(Request::get(&url)).await.expect("the checked address");
    assert_eq!(&*answer.body, b"public");
    assert_eq!(client.send(Request::get(&url)).await.expect_err("refused"), Error::Forbidden);
    // Both in one answer: only the checked one is used, also when it is the one that fails.
    let both =
        Outbound::with_lookup(public("127.0.0.3"), &scripted(&[&["127.0.0.3:0".parse().expect("one"), bad]]));
    let error = both.expect("a client").send(Request::get(&url)).await.expect_err("nobody listens");
    assert!(matches!(error, Error::Unreachable(_)), "{error}");
    assert_eq!((outside.connections(), inside.connections()), (1, 0));
}

#[tokio::test]
async fn an_answer_is_bounded_in_size() {
    let long = "x".repeat(2_000);
    let declared = Server::says(&long).await;
    let chunked = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n7d0\r\n{long}\r\n0\r\n\r\n");
    let undeclared = Server::start("127.0.0.1:0", chunked, false).await;
    for server in [&declared, &undeclared] {
        let client = outbound(Policy::Trusted);
        let error = client.send(Request::get(server.url()).at_most(1_999)).await.expect_err("too large");
        assert_eq!(error, Error::TooLarge(1_999));
        let whole = client.send(Request::get(server.url()).at_most(2_000)).await.expect("fits");
        assert_eq!(whole.body.len(), 2_000);
    }
}

#[tokio::test]
async fn an_answer_is_bounded_in_time() {
    let limit = Duration::from_millis(200);
    let silent = Server::start("127.0.0.1:0", "", true).await;
    let slow = Server::start("127.0.0.1:0", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n12345", true).await;
    for server in [silent, slow] {
        let request = Request::get(server.url()).timeout(limit);
        assert_eq!(outbound(Policy::Trusted).send(request).await.expect_err("late"), Error::Timeout(limit));
    }
    let never: Lookup = Arc::new(|_| Box::pin(std::future::pending()));
    let client = Outbound::with_lookup(Policy::Trusted, &never).expect("a client");
    let error = client.send(Request::get("https://slow.example/").timeout(limit)).await.expect_err("late");
    assert_eq!(error, Error::Timeout(limit));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let inside = Server::says("secret").await;
    for status in [301, 302, 303, 307, 308] {
        let answer =
            format!("HTTP/1.1 {status} Moved\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n", inside.url());
        let server = Server::start("127.0.0.1:0", answer, false).await;
        let error = outbound(Policy::Trusted).send(Request::get(server.url())).await.expect_err("refused");
        assert_eq!(error, Error::Redirect(status));
    }
    assert_eq!(inside.connections(), 0);
}

#[tokio::test]
async fn errors_tell_neither_addresses_nor_urls_nor_headers() {
    let lookup = scripted(&[&[SocketAddr::from(([10, 1, 2, 3], 0))]]);
    let client = Outbound::with_lookup(public(""), &lookup).expect("a client");
    let url = "https://intern.example/path?token=hunter2";
    let text = client.send(Request::get(url)).await.expect_err("forbidden").to_string();
    assert!(!text.contains("10.1.2.3") && !text.contains("hunter2"), "{text}");
    let closed = TcpListener::bind("127.0.0.1:0").await.expect("binds").local_addr().expect("an address");
    let request =
        Request::get(format!("http://{closed}/path?token=hunter2")).header("authorization", "hunter2");
    let text = outbound(Policy::Trusted).send(request).await.expect_err("nobody there").to_string();
    assert!(!text.contains("hunter2"), "{text}");
    let request = Request::get("https://example.com/").header("bad name", "hunter2");
    let text = outbound(Policy::Trusted).send(request).await.expect_err("no header").to_string();
    assert!(text.contains("bad name") && !text.contains("hunter2"), "{text}");
}
