//! People: signing in, staying signed in, and being asked in. What somebody may do once signed in is decided in
//! `access/`, from the store and not from a token.

mod accept;
mod attempts;
mod oidc;
mod password;
mod sign_in;
mod tokens;

pub use crate::access::Person;
pub use oidc::{Returned, Settings as OidcSettings, Started};
pub use password::{PASSWORD_LENGTH, password_hash};
pub use sign_in::{Me, SignedIn};
pub use tokens::invitation_token;

pub(crate) use tokens::{AccessTokens, Identified, not_ours};

use crate::Error;
use attempts::Attempts;
use oidc::Oidc;
use password::Passwords;
use std::time::Duration;
use weir_core::RootSecret;

/// Times and rates of signing in.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long an access token is good.
    pub access_token_lifetime: Duration,
    /// How long a refresh token is good; using it gives a new one.
    pub refresh_token_lifetime: Duration,
    /// How long an invitation can be accepted.
    pub invitation_lifetime: Duration,
    /// Attempts to sign in as one person, per minute on this node; 0 is unlimited.
    pub attempts_per_email: u32,
    /// Attempts to sign in from one address, per minute on this node; 0 is unlimited.
    pub attempts_per_address: u32,
    /// The OpenID provider, if there is one.
    pub oidc: Option<OidcSettings>,
}

/// What `weir.toml` says when it says nothing.
impl Default for Settings {
    fn default() -> Self {
        Self {
            access_token_lifetime: Duration::from_secs(15 * 60),
            refresh_token_lifetime: Duration::from_secs(30 * 24 * 3600),
            invitation_lifetime: Duration::from_secs(7 * 24 * 3600),
            attempts_per_email: 10,
            attempts_per_address: 60,
            oidc: None,
        }
    }
}

/// What signing in takes, beside the store.
pub(crate) struct People {
    settings: Settings,
    passwords: Passwords,
    attempts: Attempts,
    oidc: Option<Oidc>,
}

impl People {
    /// `leeway` is how far clocks may be apart.
    pub(crate) async fn new(settings: Settings, root: &RootSecret, leeway: Duration) -> Result<Self, Error> {
        let oidc = settings.oidc.clone().map(|settings| Oidc::new(settings, root, leeway)).transpose()?;
        Ok(Self {
            oidc,
            passwords: Passwords::new().await?,
            attempts: Attempts::new(settings.attempts_per_email, settings.attempts_per_address),
            settings,
        })
    }

    /// How long an invitation can be accepted.
    pub(crate) const fn invitation_lifetime(&self) -> Duration {
        self.settings.invitation_lifetime
    }

    /// Forgets attempts that count no more.
    pub(crate) fn sweep(&self) {
        self.attempts.sweep();
    }
}
