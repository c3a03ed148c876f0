//! Who the client is: an API key, a token, or something that fetches tokens.

use crate::Result;
use futures::future::BoxFuture;
use std::fmt;
use tokio::sync::Mutex;

pub(crate) type Provider = Box<dyn Fn() -> BoxFuture<'static, Result<String>> + Send + Sync>;

#[derive(Default)]
pub(crate) enum Credentials {
    #[default]
    None,
    /// An API key or a client token.
    Fixed(String),
    /// Tokens are fetched when needed and kept until the server calls one expired. The lock is held over
    /// the fetch, so however many calls find none, one is fetched.
    Provider { fetch: Provider, current: Mutex<Option<String>> },
}

impl Credentials {
    /// What to put after `Authorization: Bearer`.
    pub(crate) async fn bearer(&self) -> Result<Option<String>> {
        match self {
            Self::None => Ok(None),
            Self::Fixed(secret) => Ok(Some(secret.clone())),
            Self::Provider { fetch, current } => {
                let mut current = current.lock().await;
                if current.is_none() {
                    *current = Some(fetch().await?);
                }
                Ok(current.clone())
            }
        }
    }

    /// The server refused `used`. True when another can be fetched.
    pub(crate) async fn renew(&self, used: Option<&str>) -> bool {
        let Self::Provider { current, .. } = self else { return false };
        let mut current = current.lock().await;
        // Another call may have fetched a new one meanwhile: that one stays.
        if current.as_deref() == used {
            *current = None;
        }
        true
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Fixed(_) => "fixed (hidden)",
            Self::Provider { .. } => "provider",
        })
    }
}

/// Whether the server says that this token's time is over and a new one would do.
pub(crate) fn asks_for_renewal(code: &str) -> bool {
    matches!(code, "EXPIRED_TOKEN" | "CLOSED_4407")
}
