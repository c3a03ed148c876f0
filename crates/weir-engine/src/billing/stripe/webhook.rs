//! Payments in: webhooks are believed by their signature, kept once, and taken as a hint to look.

use super::report::Trouble;
use super::{StripeBilling, step};
use crate::Error;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;
use weir_core::{Code, Timestamp};
use weir_outbound::stripe::verify;
use weir_store::{Handled, PaymentEvent};

/// How long the answer to a webhook waits for the look at Stripe; the worker finishes what takes longer.
const PATIENCE: Duration = Duration::from_secs(8);
/// What is told about meter events that Stripe took and found wrong.
const ERROR_REPORT: &str = "v1.billing.meter.error_report_triggered";
/// After so many attempts a webhook is left: the tenant is looked at anyway.
const MOST_ATTEMPTS: u32 = 30;

/// What was done with a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// It is new.
    New,
    /// It had come before.
    Known,
}

/// A webhook, in the old form and in the thin one.
#[derive(Deserialize)]
struct Webhook {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    data: Data,
}

#[derive(Default, Deserialize)]
struct Data {
    #[serde(default)]
    object: Value,
}

impl Webhook {
    /// Whom it is about.
    fn customer(&self) -> Option<String> {
        let object = &self.data.object;
        let whom = if object["object"] == "customer" { &object["id"] } else { &object["customer"] };
        whom.as_str().filter(|id| id.len() <= 255).map(str::to_owned)
    }
}

impl StripeBilling {
    /// Takes a webhook. What it says of the world is asked of Stripe again, so an old or repeated one does no harm.
    ///
    /// # Errors
    /// `INVALID_REQUEST` for one that Stripe did not sign, or not lately; `DATABASE_UNAVAILABLE` when it cannot be kept,
    /// so that Stripe sends it again.
    pub async fn receive(
        &self,
        signature: Option<&str>,
        body: &[u8],
        now: Timestamp,
    ) -> Result<Received, Error> {
        let refuse = |why: &dyn std::fmt::Display| {
            Error::new(Code::InvalidRequest, format!("The webhook is not believed: {why}."))
                .with(json!({ "header": "Stripe-Signature" }))
        };
        let signature = signature.ok_or_else(|| refuse(&"it has no `Stripe-Signature`"))?;
        verify(signature, body, &self.settings.webhook_secrets, now.seconds()).map_err(|error| {
            self.counts.add(|counts| &counts.forged, 1);
            tracing::warn!(%error, "a webhook was refused: {error}");
            refuse(&error)
        })?;
        let webhook: Webhook = serde_json::from_slice(body).map_err(|error| refuse(&error))?;
        if webhook.id.is_empty() || webhook.id.len() > 255 || webhook.kind.len() > 255 {
            return Err(refuse(&"its `id` or `type` is too long"));
        }
        self.counts.add(|counts| &counts.webhooks, 1);
        let event =
            PaymentEvent { customer_id: webhook.customer(), id: webhook.id, kind: webhook.kind, attempts: 0 };
        let (id, kind, customer) = (event.id.clone(), event.kind.clone(), event.customer_id.clone());
        if !self.store.payment_events.take_event(id, kind, customer).await? {
            return Ok(Received::Known);
        }
        if tokio::time::timeout(PATIENCE, self.handle(event)).await.is_err() {
            self.wake.notify_one();
        }
        Ok(Received::New)
    }

    /// Looks after a webhook that was kept, and notes what came of it.
    pub(super) async fn handle(&self, event: PaymentEvent) {
        let handled = match self.pursue(&event).await {
            Ok(outcome) => Handled::Done(outcome),
            Err(trouble) if event.attempts >= MOST_ATTEMPTS => {
                tracing::error!(event = event.id, %trouble, "a webhook is given up: {trouble}");
                Handled::Done(format!("given up: {trouble}"))
            }
            Err(trouble) => {
                tracing::warn!(event = event.id, %trouble, "a webhook is tried again later: {trouble}");
                let now = self.store.payments.time().await.unwrap_or_default();
                Handled::Again(now.plus(step::backoff(event.attempts)))
            }
        };
        if let Err(error) = self.store.payment_events.settle_event(event.id, handled).await {
            tracing::warn!(%error, "what came of a webhook cannot be noted: {error}");
        }
    }

    async fn pursue(&self, event: &PaymentEvent) -> Result<String, Trouble> {
        if event.kind == ERROR_REPORT {
            let ours = self.take_error_report(&event.id).await?;
            return Ok(format!("{ours} reports are not billed"));
        }
        let about_payment = ["invoice.", "customer.subscription.", "checkout.session."];
        if !about_payment.iter().any(|kind| event.kind.starts_with(kind)) {
            return Ok("nothing to do".to_owned());
        }
        let Some(customer) = event.customer_id.clone() else { return Ok("names no customer".to_owned()) };
        match self.store.payments.tenant_of_customer(customer).await? {
            Some(tenant) => self.look(tenant).await,
            // Of another product on the same account, or of another installation.
            None => Ok("the customer is not known here".to_owned()),
        }
    }
}
