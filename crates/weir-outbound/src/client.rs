//! The client: one request, one bounded answer.

use crate::guard::{self, Guard, Lookup, Reach};
use crate::{Error, Networks};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use reqwest::{Client, Url, redirect};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// How long a request takes at most if it does not say otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How much of that may go into connecting.
const CONNECT: Duration = Duration::from_secs(5);
/// How many bytes an answer has at most if the request does not say otherwise.
const ANSWER_BYTES: usize = 1 << 20;
const IDLE: Duration = Duration::from_secs(30);
const IDLE_PER_HOST: usize = 4;

/// Who chose the URL, and so what it may reach.
#[derive(Clone, Debug)]
pub enum Policy {
    /// A tenant: `https` to public addresses, on any port. In the networks that the operator allows also `http`.
    Public {
        /// Networks that are reached although they are not public; none as a rule.
        allow: Networks,
    },
    /// The operator, in the settings: `http` or `https` to any address.
    Trusted,
}

/// One request to make.
#[derive(Clone, Debug)]
pub struct Request {
    method: Method,
    url: String,
    headers: Vec<(String, String)>,
    body: Bytes,
    timeout: Duration,
    answer_bytes: usize,
    ignore_body: bool,
}

impl Request {
    /// Reads a URL.
    #[must_use]
    pub fn get(url: impl Into<String>) -> Self {
        Self::new(Method::GET, url, Bytes::new())
    }

    /// Sends a body to a URL; its type is a header.
    #[must_use]
    pub fn post(url: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self::new(Method::POST, url, body.into())
    }

    fn new(method: Method, url: impl Into<String>, body: Bytes) -> Self {
        let url = url.into();
        Self {
            method,
            url,
            headers: Vec::new(),
            body,
            timeout: TIMEOUT,
            answer_bytes: ANSWER_BYTES,
            ignore_body: false,
        }
    }

    /// Adds a header. Values are never shown in errors.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// How long all of it may take, from the name to the last byte of the answer; 10 s if not set.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Takes no interest in the answer's body, however large it is or slow it comes: the response has none.
    #[must_use]
    pub const fn ignore_body(mut self) -> Self {
        self.ignore_body = true;
        self
    }

    /// How many bytes the answer's body may have; 1 MiB if not set.
    #[must_use]
    pub const fn at_most(mut self, bytes: usize) -> Self {
        self.answer_bytes = bytes;
        self
    }
}

/// An answer, of any status but a redirect.
#[derive(Clone, Debug)]
pub struct Response {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, all of it.
    pub body: Bytes,
}

/// Makes requests under one policy. Clones share connections.
///
/// Redirects are not followed, proxies of the environment are not used, bodies are not decompressed, and nothing is
/// tried again: each of these would reach or bring what was not checked.
#[derive(Clone)]
pub struct Outbound {
    https: (Client, Reach),
    /// `http` reaches less.
    http: (Client, Reach),
}

impl Outbound {
    /// A client under this policy.
    ///
    /// # Errors
    /// `Invalid` when TLS cannot be set up, such as for want of root certificates.
    pub fn new(policy: Policy) -> Result<Self, Error> {
        Self::with_lookup(policy, &guard::system())
    }

    pub(crate) fn with_lookup(policy: Policy, lookup: &Lookup) -> Result<Self, Error> {
        let (https, http) = match policy {
            Policy::Public { allow } => (Reach::Public(allow.clone()), Reach::Within(allow)),
            Policy::Trusted => (Reach::Anywhere, Reach::Anywhere),
        };
        Ok(Self { https: client(https, lookup)?, http: client(http, lookup)? })
    }

    /// Checks what can be checked about a URL without a request: its form, its scheme, and its host where that is an
    /// address. Meant for when a URL is configured.
    ///
    /// # Errors
    /// `Invalid` or `Forbidden`.
    pub fn check(&self, url: &str) -> Result<(), Error> {
        self.route(url).map(drop)
    }

    /// Makes the request and reads the answer.
    ///
    /// # Errors
    /// As [`Error`] says. A status of 400 and above is an answer, not an error.
    pub async fn send(&self, request: Request) -> Result<Response, Error> {
        let (client, url) = self.route(&request.url)?;
        let sent = client
            .request(request.method, url)
            .headers(headers(&request.headers)?)
            .timeout(request.timeout)
            .body(request.body)
            .send();
        let mut answer = sent.await.map_err(|error| explain(&error, request.timeout))?;
        let status = answer.status();
        if status.is_redirection() {
            return Err(Error::Redirect(status.as_u16()));
        }
        if request.ignore_body && answer.content_length() != Some(0) {
            // Not read, so the connection ends with it.
            return Ok(Response {
                status,
                headers: std::mem::take(answer.headers_mut()),
                body: Bytes::new(),
            });
        }
        let limit = request.answer_bytes;
        if answer.content_length().is_some_and(|length| length > limit as u64) {
            return Err(Error::TooLarge(limit));
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| explain(&error, request.timeout))? {
            if body.len() + chunk.len() > limit {
                return Err(Error::TooLarge(limit));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Response { status, headers: std::mem::take(answer.headers_mut()), body: body.freeze() })
    }

    /// The client for a URL.
    fn route(&self, text: &str) -> Result<(&Client, Url), Error> {
        let url =
            Url::parse(text).map_err(|error| Error::Invalid(format!("the URL cannot be read: {error}")))?;
        let (client, reach) = match url.scheme() {
            "https" => &self.https,
            "http" => &self.http,
            other => return Err(Error::Invalid(format!("`{other}` URLs are not fetched, only https"))),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Error::Invalid("the URL holds a user name or password; use a header".to_owned()));
        }
        // A name is checked when it is resolved; an address never is, so it is checked here.
        let host = url.host_str().unwrap_or_default();
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        if address.is_ok_and(|address| !reach.admits(address)) {
            return Err(Error::Forbidden);
        }
        if matches!(reach, Reach::Within(allowed) if *allowed == Networks::default()) {
            return Err(Error::Invalid("the URL must begin with https://".to_owned()));
        }
        Ok((client, url))
    }
}

fn client(reach: Reach, lookup: &Lookup) -> Result<(Client, Reach), Error> {
    let guard = Guard { reach: reach.clone(), lookup: Arc::clone(lookup) };
    let client = Client::builder()
        .dns_resolver(Arc::new(guard))
        .redirect(redirect::Policy::none())
        .no_proxy()
        .retry(reqwest::retry::never())
        .referer(false)
        .connect_timeout(CONNECT)
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(IDLE_PER_HOST)
        .user_agent(concat!("weir/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| Error::Invalid(chain(&error)))?;
    Ok((client, reach))
}

fn headers(pairs: &[(String, String)]) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::with_capacity(pairs.len());
    for (name, value) in pairs {
        let wrong = || Error::Invalid(format!("the header `{name}` cannot be sent"));
        let name = HeaderName::try_from(name).map_err(|_| wrong())?;
        let mut value = HeaderValue::try_from(value).map_err(|_| wrong())?;
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Ok(headers)
}

fn explain(error: &reqwest::Error, timeout: Duration) -> Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(ours) = error.downcast_ref::<Error>() {
            return ours.clone();
        }
        cause = error.source();
    }
    if error.is_timeout() { Error::Timeout(timeout) } else { Error::Unreachable(chain(error)) }
}

/// The causes below the client's own words, which would repeat the URL.
fn chain(error: &reqwest::Error) -> String {
    let mut cause = std::error::Error::source(error);
    let mut words = Vec::new();
    while let Some(error) = cause {
        words.push(error.to_string());
        cause = error.source();
    }
    if words.is_empty() { "the exchange failed".to_owned() } else { words.join(": ") }
}
