//! The client and how it is made.

use crate::backoff::Backoff;
use crate::credentials::Credentials;
use crate::{Error, Result, Subscribe};
use reqwest::Url;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// A client of one project. Cheap to clone; clones share connections and tokens.
#[derive(Clone)]
pub struct Client {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    base: Url,
    pub(crate) http: reqwest::Client,
    pub(crate) credentials: Credentials,
    pub(crate) connect_timeout: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) retries: u32,
    pub(crate) backoff: Backoff,
}

impl Client {
    /// Begins a client of the server at `url`: `https://weir.example.com`.
    #[must_use]
    pub fn builder(url: impl Into<String>) -> Builder {
        Builder {
            url: url.into(),
            credentials: Credentials::None,
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            retries: 4,
            backoff: Backoff::new(Duration::from_millis(250), Duration::from_secs(20)),
        }
    }

    /// Begins a subscription to topics and patterns: `orders.eu`, `orders.*`, `orders.>`.
    pub fn subscribe(&self, topics: impl IntoIterator<Item = impl Into<String>>) -> Subscribe {
        Subscribe::new(self.clone(), topics.into_iter().map(Into::into).collect())
    }

    /// The URL of a path under the server's.
    pub(crate) fn url(&self, path: &str) -> Url {
        let mut url = self.shared.base.clone();
        url.set_path(&format!("{}/{path}", self.shared.base.path().trim_end_matches('/')));
        url
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let credentials = &self.shared.credentials;
        f.debug_struct("Client").field("url", &self.shared.base.as_str()).field("as", credentials).finish()
    }
}

/// A client in the making.
#[derive(Debug)]
pub struct Builder {
    url: String,
    credentials: Credentials,
    connect_timeout: Duration,
    request_timeout: Duration,
    retries: u32,
    backoff: Backoff,
}

impl Builder {
    /// Authenticates with an API key.
    #[must_use]
    pub fn api_key(mut self, key: impl Into<String>) -> Self {
        self.credentials = Credentials::Fixed(key.into());
        self
    }

    /// Authenticates with a client token, as long as it lasts.
    #[must_use]
    pub fn token(self, token: impl Into<String>) -> Self {
        self.api_key(token)
    }

    /// Authenticates with client tokens that `fetch` gets: at first need, and again when one expired.
    #[must_use]
    pub fn token_provider<F, Fut>(mut self, fetch: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<String>> + Send + 'static,
    {
        let fetch: crate::credentials::Provider = Box::new(move || Box::pin(fetch()));
        self.credentials = Credentials::Provider { fetch, current: Mutex::new(None) };
        self
    }

    /// The longest time to connect in; 10 s.
    #[must_use]
    pub const fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// The longest time for one attempt of one request; 30 s.
    #[must_use]
    pub const fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// How often a request is repeated after a transient failure; 4 times. Subscriptions reconnect
    /// without limit.
    #[must_use]
    pub const fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// Waits between attempts: a random part of `base`, then of twice that, and so on up to `cap`;
    /// 250 ms and 20 s.
    #[must_use]
    pub const fn backoff(mut self, base: Duration, cap: Duration) -> Self {
        self.backoff = Backoff::new(base, cap);
        self
    }

    /// Makes the client. Nothing is sent yet.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` when the URL is not an `http` or `https` one.
    pub fn build(self) -> Result<Client> {
        let base =
            Url::parse(&self.url).map_err(|e| Error::invalid(format!("`{}` is not a URL: {e}", self.url)))?;
        if !matches!(base.scheme(), "http" | "https") {
            return Err(Error::invalid(format!("`{}` must begin with http:// or https://", self.url)));
        }
        let http = reqwest::Client::builder()
            .connect_timeout(self.connect_timeout)
            .user_agent(concat!("weir-client-rust/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Client {
            shared: Arc::new(Shared {
                base,
                http,
                credentials: self.credentials,
                connect_timeout: self.connect_timeout,
                request_timeout: self.request_timeout,
                retries: self.retries,
                backoff: self.backoff,
            }),
        })
    }
}
