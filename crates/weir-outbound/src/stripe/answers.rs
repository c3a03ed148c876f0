//! What Stripe answers with: of each object the fields that billing reads.

use serde::Deserialize;

/// A page of a list.
#[derive(Clone, Debug, Deserialize)]
pub struct List<T> {
    /// What is on it.
    pub data: Vec<T>,
    /// Whether there is a page after it.
    #[serde(default)]
    pub has_more: bool,
}

/// A customer: a tenant, as Stripe knows it.
#[derive(Clone, Debug, Deserialize)]
pub struct Customer {
    /// `cus_…`
    pub id: String,
}

/// A form in which somebody subscribes.
#[derive(Clone, Debug, Deserialize)]
pub struct CheckoutSession {
    /// `cs_…`
    pub id: String,
    /// Where the form is.
    pub url: String,
}

/// A page on which a customer looks after its payment methods and invoices.
#[derive(Clone, Debug, Deserialize)]
pub struct PortalSession {
    /// Where it is.
    pub url: String,
}

/// What a unit costs, and by which meter it is counted.
#[derive(Clone, Debug, Deserialize)]
pub struct Price {
    /// `price_…`
    pub id: String,
    /// Its currency, lower case.
    pub currency: String,
    /// How it recurs; none for one payment.
    #[serde(default)]
    pub recurring: Option<Recurring>,
}

/// How a price recurs.
#[derive(Clone, Debug, Deserialize)]
pub struct Recurring {
    /// The meter that counts, for metered prices.
    #[serde(default)]
    pub meter: Option<String>,
}

/// What adds up usage.
#[derive(Clone, Debug, Deserialize)]
pub struct Meter {
    /// `mtr_…`
    pub id: String,
    /// The name under which usage is reported to it.
    pub event_name: String,
    /// `active` or `inactive`.
    pub status: String,
    /// How it adds up.
    pub default_aggregation: Aggregation,
}

/// How a meter adds up.
#[derive(Clone, Debug, Deserialize)]
pub struct Aggregation {
    /// `sum`, `count` or `last`.
    pub formula: String,
}

/// What a meter has added up for a customer in a time.
#[derive(Clone, Debug, Deserialize)]
pub struct Summary {
    /// The sum.
    pub aggregated_value: f64,
    /// From when, in seconds.
    pub start_time: i64,
    /// Until when.
    pub end_time: i64,
}

/// What a customer pays for.
#[derive(Clone, Debug, Deserialize)]
pub struct Subscription {
    /// `sub_…`
    pub id: String,
    /// `active`, `trialing`, `past_due`, `unpaid`, `canceled`, `incomplete`, `incomplete_expired` or `paused`.
    pub status: String,
    /// When it began, in seconds.
    pub start_date: i64,
    /// A moment at which one of its periods begins.
    pub billing_cycle_anchor: i64,
    /// When it ended, if it has.
    #[serde(default)]
    pub ended_at: Option<i64>,
    /// Its prices.
    pub items: List<Item>,
}

/// One price of a subscription, and its period.
#[derive(Clone, Debug, Deserialize)]
pub struct Item {
    /// The price.
    pub price: Price,
    /// When the current period began, in seconds.
    pub current_period_start: i64,
    /// When it ends.
    pub current_period_end: i64,
}

impl Subscription {
    /// Whether it has not ended, and was paid for at least once.
    #[must_use]
    pub fn runs(&self) -> bool {
        matches!(self.status.as_str(), "active" | "trialing" | "past_due" | "unpaid" | "paused")
    }

    /// The item with this price.
    #[must_use]
    pub fn item(&self, price: &str) -> Option<&Item> {
        self.items.data.iter().find(|item| item.price.id == price)
    }
}

/// A bill.
#[derive(Clone, Debug, Deserialize)]
pub struct Invoice {
    /// `in_…`
    pub id: String,
    /// The number that is printed on it; none while it is a draft.
    #[serde(default)]
    pub number: Option<String>,
    /// `draft`, `open`, `paid`, `uncollectible` or `void`.
    #[serde(default)]
    pub status: Option<String>,
    /// Its currency, lower case.
    pub currency: String,
    /// What it asks for, in the currency's smallest unit.
    pub amount_due: i64,
    /// What was paid.
    pub amount_paid: i64,
    /// How often payment was tried.
    #[serde(default)]
    pub attempt_count: u64,
    /// When it was made, in seconds.
    pub created: i64,
    /// The period that it is for.
    pub period_start: i64,
    /// Its end.
    pub period_end: i64,
    /// Where it can be read and paid.
    #[serde(default)]
    pub hosted_invoice_url: Option<String>,
    /// Where it can be downloaded.
    #[serde(default)]
    pub invoice_pdf: Option<String>,
}

impl Invoice {
    /// Whether its payment was tried and failed.
    #[must_use]
    pub fn is_overdue(&self) -> bool {
        match self.status.as_deref() {
            Some("open") => self.attempt_count > 0,
            Some("uncollectible") => true,
            _ => false,
        }
    }
}

/// A report about meter events that Stripe took and then found wrong: they are not billed.
#[derive(Clone, Debug, Deserialize)]
pub struct ErrorReport {
    /// What it found.
    pub data: ReportData,
}

/// What a report found.
#[derive(Clone, Debug, Deserialize)]
pub struct ReportData {
    /// The errors.
    pub reason: ReportReason,
}

/// The errors of a report.
#[derive(Clone, Debug, Deserialize)]
pub struct ReportReason {
    /// How many events are wrong; not all are among the samples.
    pub error_count: u64,
    /// By kind.
    #[serde(default)]
    pub error_types: Vec<ErrorType>,
}

/// Errors of one kind.
#[derive(Clone, Debug, Deserialize)]
pub struct ErrorType {
    /// Which kind, such as `meter_event_customer_not_found`.
    pub code: String,
    /// Some of them.
    #[serde(default)]
    pub sample_errors: Vec<SampleError>,
}

/// One wrong event.
#[derive(Clone, Debug, Deserialize)]
pub struct SampleError {
    /// For people.
    #[serde(default)]
    pub error_message: String,
    /// Which event.
    pub request: SampleRequest,
}

/// Which event was wrong.
#[derive(Clone, Debug, Deserialize)]
pub struct SampleRequest {
    /// Its identifier.
    pub identifier: String,
}
