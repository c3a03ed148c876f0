//! `[billing]` and `[stripe]`: usage, and who is paid for it.

use super::validate::Check;
use super::{Duration, filled, list, secret};
use serde::{Deserialize, Serialize};
use weir_core::Secret;

/// `[billing]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Billing {
    /// How long the log ranges and batches behind a number of usage are kept.
    pub explain_for: Duration,
    /// Whether closed hours are counted again in the event log.
    pub recount: bool,
}

impl Default for Billing {
    fn default() -> Self {
        Self { explain_for: Duration::seconds(35 * 24 * 3600), recount: true }
    }
}

impl Billing {
    /// Its breaches.
    pub(super) fn check(&self, check: &mut Check) {
        check.duration("billing.explain_for", self.explain_for, "1d", "400d");
    }
}

/// `[stripe]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Stripe {
    /// The account's secret or restricted key; none is local invoices only.
    #[serde(with = "secret")]
    pub secret_key: Option<Secret>,
    /// The signing secrets of the webhook endpoint, with commas.
    #[serde(with = "secret")]
    pub webhook_secrets: Option<Secret>,
    /// The metered price that tenants subscribe at.
    #[serde(deserialize_with = "filled")]
    pub price: Option<String>,
    /// Where Stripe is.
    pub api_base: String,
    /// Meter events sent in a second.
    pub events_per_second: u32,
    /// Between the first failed payment and the suspension.
    pub grace: Duration,
    /// Suspensions for unpaid bills in ten minutes.
    pub suspension_brake: u32,
}

impl Default for Stripe {
    fn default() -> Self {
        Self {
            secret_key: None,
            webhook_secrets: None,
            price: None,
            api_base: weir_outbound::stripe::API_BASE.to_owned(),
            events_per_second: weir_engine::billing::stripe::DEFAULT_RATE,
            grace: Duration::seconds(7 * 24 * 3600),
            suspension_brake: 10,
        }
    }
}

impl Stripe {
    /// The webhook secrets one by one.
    #[must_use]
    pub fn secrets(&self) -> Vec<Secret> {
        let all = self.webhook_secrets.as_ref().map(Secret::expose).unwrap_or_default();
        list::entries(all).map(Secret::new).collect()
    }

    /// Its breaches.
    pub(super) fn check(&self, check: &mut Check) {
        let set = self.secret_key.is_some();
        let together =
            "belongs with stripe.secret_key: set secret_key, webhook_secrets and price, or none of them";
        check.that(set == self.price.is_some(), "stripe.price", || together.into());
        check.that(set != self.secrets().is_empty(), "stripe.webhook_secrets", || together.into());
        if let Some(key) = &self.secret_key {
            let known = ["sk_", "rk_"].iter().any(|prefix| key.expose().starts_with(prefix));
            check.that(known, "stripe.secret_key", || {
                "is not a secret or restricted key of Stripe: those begin with sk_ or rk_".into()
            });
        }
        if let Some(price) = &self.price {
            check.that(price.starts_with("price_"), "stripe.price", || {
                format!("`{price}` is not the id of a price: those begin with price_")
            });
        }
        let base = self.api_base.as_str();
        let secure = base.starts_with("https://")
            || ["http://127.0.0.1:", "http://localhost:", "http://[::1]:"]
                .iter()
                .any(|local| base.starts_with(local));
        check.that(secure, "stripe.api_base", || {
            format!("`{base}` would send the key in clear: use https, or http on this machine for tests")
        });
        check.range("stripe.events_per_second", self.events_per_second, 1, 10_000);
        check.duration("stripe.grace", self.grace, "0s", "90d");
        check.range("stripe.suspension_brake", self.suspension_brake, 0, 100_000);
    }
}
