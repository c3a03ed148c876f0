//! Bills through Stripe: usage out, payments in.
//!
//! **Out** (`report.rs`): closed hours become rows of the outbox in one statement; each row is marked before it is
//! sent, sent with an identifier that is the same at every attempt, and settled. `step.rs` decides what is sent again
//! and what is compared first. **In** (`webhook.rs`): a webhook is only a hint that something changed; what is true is
//! asked for (`standing.rs`), so neither order nor repetition nor loss of webhooks matters. Any node may do any of it.

mod identifier;
mod links;
mod pace;
mod report;
mod standing;
mod step;
mod webhook;
mod worker;

pub use links::Hosted;
pub use webhook::Received;

use crate::Error;
use pace::Pace;
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex, Notify, OnceCell};
use tokio::time::Instant;
use weir_core::{Code, NodeId, Secret, TenantId};
use weir_outbound::stripe::{self, Meter, Stripe};
use weir_store::{Brake, Metric, Store};

/// Meter events a second: well below the 1,000 that Stripe takes, and enough for 10,000 tenants in half a minute.
pub const DEFAULT_RATE: u32 = 400;
/// Reports that are marked, sent and settled together.
const ROUND: u32 = 500;
/// What is billed.
const BILLED: Metric = Metric::EventsPublished;

/// How billing through Stripe is set up.
#[derive(Clone)]
pub struct Settings {
    /// Makes the calls.
    pub client: Stripe,
    /// The metered price that tenants subscribe at.
    pub price: String,
    /// With which webhooks are signed; several while one is replaced.
    pub webhook_secrets: Vec<Secret>,
    /// Between the first failed payment and the suspension.
    pub grace: Duration,
    /// How many suspensions are too many.
    pub brake: Brake,
    /// Meter events a second at most.
    pub rate: u32,
    /// Where tenants come back to from Stripe's pages.
    pub public_url: Option<String>,
}

/// What happened since the start, for metrics and alerts.
#[derive(Debug, Default)]
pub struct Counts {
    /// Reports that arrived.
    pub sent: AtomicU64,
    /// Answers that left it open whether a report arrived.
    pub ambiguous: AtomicU64,
    /// Reports that Stripe refused.
    pub refused: AtomicU64,
    /// Reports that are for people to settle.
    pub adjustments: AtomicU64,
    /// Webhooks that were taken.
    pub webhooks: AtomicU64,
    /// Webhooks whose signature was wrong.
    pub forged: AtomicU64,
    /// Tenants whose payment failed, and who have time of grace.
    pub past_due: AtomicU64,
    /// Tenants that were suspended for their payments.
    pub suspended: AtomicU64,
    /// Suspensions that the brake stopped.
    pub braked: AtomicU64,
    /// Reports that wait, as last counted by the node whose turn it is.
    pub waiting: AtomicU64,
    /// Seconds since the hour of the oldest of them ended.
    pub oldest_age: AtomicU64,
    /// Whether Stripe does not work, so that it is called only now and then.
    pub breaker_open: AtomicBool,
}

impl Counts {
    fn add(&self, counter: impl Fn(&Self) -> &AtomicU64, more: u64) {
        counter(self).fetch_add(more, Ordering::Relaxed);
    }
}

/// Billing through Stripe.
pub struct StripeBilling {
    store: Store,
    node: NodeId,
    settings: Settings,
    meter: OnceCell<Meter>,
    pace: Mutex<Pace>,
    written: Mutex<report::Written>,
    /// At whom the worker looked lately: as many as are past their time of grace at most.
    looked: std::sync::Mutex<HashMap<TenantId, Instant>>,
    /// Wakes the worker before its time.
    wake: Notify,
    /// What happened so far.
    pub counts: Counts,
}

impl StripeBilling {
    /// Billing of this installation. [`run`](Self::run) does its background work.
    #[must_use]
    pub fn new(store: Store, node: NodeId, settings: Settings) -> Arc<Self> {
        let pace = Mutex::new(Pace::new(settings.rate));
        Arc::new(Self {
            store,
            node,
            settings,
            meter: OnceCell::new(),
            pace,
            written: Mutex::default(),
            looked: std::sync::Mutex::default(),
            wake: Notify::new(),
            counts: Counts::default(),
        })
    }

    /// How many suspensions are too many.
    pub(crate) const fn brake(&self) -> Brake {
        self.settings.brake
    }

    /// The meter behind the price.
    ///
    /// # Errors
    /// Stripe's, and `Refused` when the price is not one that can be billed by.
    async fn meter(&self) -> Result<&Meter, stripe::Error> {
        self.meter
            .get_or_try_init(|| async {
                let price = self.settings.client.price(&self.settings.price).await?;
                let wrong = |what: &str| {
                    let message = format!("stripe.price = {}: {what}", self.settings.price);
                    stripe::Error::Refused(stripe::Refusal { message, ..stripe::Refusal::default() })
                };
                let meter = price.recurring.and_then(|recurring| recurring.meter);
                let meter =
                    meter.ok_or_else(|| wrong("the price is not metered: make one with a billing meter"))?;
                let meter = self.settings.client.meter(&meter).await?;
                if meter.default_aggregation.formula != "sum" {
                    return Err(wrong("its meter does not sum: make one with the aggregation `sum`"));
                }
                Ok(meter)
            })
            .await
    }
}

/// What a caller is told when Stripe did not do what was asked.
fn unavailable(error: &stripe::Error) -> Error {
    let mut told = match error {
        stripe::Error::Refused(refusal) => Error::new(
            Code::BillingError,
            "The payment provider refused this; the operator's log has its reason.",
        )
        .with(json!({ "provider_code": refusal.code, "provider_request_id": refusal.request_id })),
        _ => Error::new(
            Code::PaymentProviderUnavailable,
            "The payment provider cannot be reached or does not answer. Try again shortly.",
        )
        .after(Duration::from_secs(5)),
    };
    told.internal = Some(error.to_string());
    told
}
