//! The calls, one for each thing that billing asks of Stripe.

use super::answers::{
    CheckoutSession, Customer, ErrorReport, Invoice, List, Meter, PortalSession, Price, Subscription, Summary,
};
use super::client::Stripe;
use super::error::Error;

/// Stripe's pages hold no more.
const PAGE: u32 = 100;

/// Usage to report.
#[derive(Clone, Debug)]
pub struct MeterEvent<'a> {
    /// The meter's name for it.
    pub event_name: &'a str,
    /// Unique for this usage: Stripe takes no second event of it for a day at least.
    pub identifier: &'a str,
    /// Who used it.
    pub customer: &'a str,
    /// How much; below zero takes back.
    pub value: i64,
    /// When, in seconds: at most 35 days ago and 5 minutes ahead.
    pub timestamp: i64,
}

/// A subscription to offer.
#[derive(Clone, Debug)]
pub struct Checkout<'a> {
    /// Who subscribes.
    pub customer: &'a str,
    /// Our own name for them.
    pub tenant: &'a str,
    /// At which metered price.
    pub price: &'a str,
    /// Where to go afterwards.
    pub success_url: &'a str,
    /// Where to go when they change their mind.
    pub cancel_url: &'a str,
}

/// Which invoices to list, newest first.
#[derive(Clone, Debug)]
pub struct InvoicesOf<'a> {
    /// Whose.
    pub customer: &'a str,
    /// Only in this status.
    pub status: Option<&'a str>,
    /// After this one.
    pub after: Option<&'a str>,
    /// 1 to 100.
    pub limit: u32,
}

impl Stripe {
    /// Makes a customer, once for each `once`.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub async fn create_customer(&self, name: &str, tenant: &str, once: &str) -> Result<Customer, Error> {
        let params = vec![("name", name.to_owned()), ("metadata[tenant_id]", tenant.to_owned())];
        self.post("/v1/customers", params, Some(once)).await
    }

    /// Makes a form in which a customer subscribes, once for each `once`.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub async fn create_checkout(&self, wish: &Checkout<'_>, once: &str) -> Result<CheckoutSession, Error> {
        let params = vec![
            ("mode", "subscription".to_owned()),
            ("customer", wish.customer.to_owned()),
            ("client_reference_id", wish.tenant.to_owned()),
            ("line_items[0][price]", wish.price.to_owned()),
            ("success_url", wish.success_url.to_owned()),
            ("cancel_url", wish.cancel_url.to_owned()),
            ("subscription_data[metadata][tenant_id]", wish.tenant.to_owned()),
        ];
        self.post("/v1/checkout/sessions", params, Some(once)).await
    }

    /// Makes a page on which a customer looks after its payments, once for each `once`.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub async fn create_portal(
        &self,
        customer: &str,
        return_url: &str,
        once: &str,
    ) -> Result<PortalSession, Error> {
        let params = vec![("customer", customer.to_owned()), ("return_url", return_url.to_owned())];
        self.post("/v1/billing_portal/sessions", params, Some(once)).await
    }

    /// Reads a price.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub async fn price(&self, id: &str) -> Result<Price, Error> {
        self.get(&format!("/v1/prices/{}", segment(id)), Vec::new()).await
    }

    /// Reads a meter.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub async fn meter(&self, id: &str) -> Result<Meter, Error> {
        self.get(&format!("/v1/billing/meters/{}", segment(id)), Vec::new()).await
    }

    /// The customer's subscriptions, also those that ended, newest first: at most 100.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub async fn subscriptions(&self, customer: &str) -> Result<Vec<Subscription>, Error> {
        let params = vec![
            ("customer", customer.to_owned()),
            ("status", "all".to_owned()),
            ("limit", PAGE.to_string()),
        ];
        let page: List<Subscription> = self.get("/v1/subscriptions", params).await?;
        Ok(page.data)
    }

    /// A page of a customer's invoices, newest first.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub async fn invoices(&self, of: &InvoicesOf<'_>) -> Result<List<Invoice>, Error> {
        let mut params = vec![("customer", of.customer.to_owned()), ("limit", of.limit.to_string())];
        params.extend(of.status.map(|status| ("status", status.to_owned())));
        params.extend(of.after.map(|after| ("starting_after", after.to_owned())));
        self.get("/v1/invoices", params).await
    }

    /// Reports usage. It needs no idempotency key: the identifier is one, and unlike a key it does not give a failure
    /// again that Stripe had at the first try.
    ///
    /// # Errors
    /// As [`Error`] says; [`Refusal::is_known_identifier`](super::Refusal::is_known_identifier) when Stripe has it.
    pub async fn create_meter_event(&self, event: &MeterEvent<'_>) -> Result<(), Error> {
        let params = vec![
            ("event_name", event.event_name.to_owned()),
            ("identifier", event.identifier.to_owned()),
            ("payload[stripe_customer_id]", event.customer.to_owned()),
            ("payload[value]", event.value.to_string()),
            ("timestamp", event.timestamp.to_string()),
        ];
        let _: serde::de::IgnoredAny = self.post("/v1/billing/meter_events", params, None).await?;
        Ok(())
    }

    /// What a meter has added up for a customer from `start` to before `end`, in seconds, both at full minutes. What was
    /// reported in the last minutes may be missing.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub async fn summary(&self, meter: &str, customer: &str, start: i64, end: i64) -> Result<f64, Error> {
        let params = vec![
            ("customer", customer.to_owned()),
            ("start_time", start.to_string()),
            ("end_time", end.to_string()),
            ("limit", PAGE.to_string()),
        ];
        let path = format!("/v1/billing/meters/{}/event_summaries", segment(meter));
        let page: List<Summary> = self.get(&path, params).await?;
        Ok(page.data.iter().map(|summary| summary.aggregated_value).sum())
    }

    /// Reads the report behind a `v1.billing.meter.error_report_triggered`.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub async fn error_report(&self, event: &str) -> Result<ErrorReport, Error> {
        self.get(&format!("/v2/core/events/{}", segment(event)), Vec::new()).await
    }
}

/// An id as a part of a path: those that come in webhooks are what somebody sent.
fn segment(id: &str) -> String {
    form_urlencoded::byte_serialize(id.as_bytes()).collect()
}
