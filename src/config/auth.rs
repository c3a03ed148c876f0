//! `[auth]` and `[oidc]`: how people sign in.

use super::validate::Check;
use super::{Duration, filled, secret};
use serde::{Deserialize, Serialize};
use weir_core::Secret;

/// `[auth]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// How long an access token is good.
    pub access_token_lifetime: Duration,
    /// How long a refresh token is good.
    pub refresh_token_lifetime: Duration,
    /// How long an invitation can be accepted.
    pub invitation_lifetime: Duration,
    /// Attempts to sign in as one person, per minute; 0 is unlimited.
    pub attempts_per_email: u32,
    /// Attempts to sign in from one address, per minute; 0 is unlimited.
    pub attempts_per_address: u32,
    /// The header in which the proxy in front names the client's address.
    #[serde(deserialize_with = "filled")]
    pub address_header: Option<String>,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            access_token_lifetime: Duration::seconds(15 * 60),
            refresh_token_lifetime: Duration::seconds(30 * 86_400),
            invitation_lifetime: Duration::seconds(7 * 86_400),
            attempts_per_email: 10,
            attempts_per_address: 60,
            address_header: None,
        }
    }
}

impl Auth {
    /// Its breaches.
    pub(super) fn check(&self, check: &mut Check) {
        check.duration("auth.access_token_lifetime", self.access_token_lifetime, "1m", "24h");
        check.duration("auth.refresh_token_lifetime", self.refresh_token_lifetime, "5m", "365d");
        check.that(
            self.access_token_lifetime < self.refresh_token_lifetime,
            "auth.refresh_token_lifetime",
            || {
                format!(
                    "{} is not longer than auth.access_token_lifetime = {}: nobody could refresh",
                    self.refresh_token_lifetime, self.access_token_lifetime
                )
            },
        );
        check.duration("auth.invitation_lifetime", self.invitation_lifetime, "1m", "90d");
        check.range("auth.attempts_per_email", self.attempts_per_email, 0, 100_000);
        check.range("auth.attempts_per_address", self.attempts_per_address, 0, 1_000_000);
        if let Some(name) = &self.address_header {
            let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
            check.that(plain, "auth.address_header", || {
                format!("`{name}` is not the name of a header: write it like X-Forwarded-For")
            });
        }
    }
}

/// `[oidc]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Oidc {
    /// What the provider calls itself, a URL; without it there is none.
    #[serde(deserialize_with = "filled")]
    pub issuer: Option<String>,
    /// What it calls Weir.
    #[serde(deserialize_with = "filled")]
    pub client_id: Option<String>,
    /// How it knows Weir.
    #[serde(with = "secret")]
    pub client_secret: Option<Secret>,
    /// Where it sends browsers back to.
    #[serde(deserialize_with = "filled")]
    pub redirect_url: Option<String>,
}

impl Oidc {
    /// Its breaches.
    pub(super) fn check(&self, check: &mut Check) {
        let web = |url: &str| url.starts_with("https://") || url.starts_with("http://");
        let urls = [("oidc.issuer", &self.issuer), ("oidc.redirect_url", &self.redirect_url)];
        for (setting, url) in urls {
            check.that(url.as_deref().is_none_or(web), setting, || {
                format!(
                    "`{}` is not the URL of a web page: begin it with https://",
                    url.as_deref().unwrap_or_default()
                )
            });
        }
        if self.issuer.is_none() {
            return;
        }
        for (setting, value) in
            [("oidc.client_id", &self.client_id), ("oidc.redirect_url", &self.redirect_url)]
        {
            check.that(value.is_some(), setting, || {
                "is not set, but oidc.issuer is: set it as the provider has it, or remove oidc.issuer".into()
            });
        }
    }
}
