//! `/v1/billing/invoices`.

use crate::error::{ErrorBody, Failure};
use crate::query::Query;
use crate::rest::admin::Admin;
use crate::rest::invalid;
use crate::state::Gateway;
use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::fmt::Write;
use std::sync::Arc;
use utoipa::ToSchema;
use weir_core::{Currency, Timestamp};
use weir_engine::admin::permits::BillingRead;
use weir_engine::billing::stripe::Hosted;
use weir_engine::billing::{Invoices, LocalInvoice};

/// What a period cost, computed here.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct InvoiceBody {
    /// The period's start.
    #[schema(value_type = String, format = DateTime)]
    period_start: Timestamp,
    /// Its end.
    #[schema(value_type = String, format = DateTime)]
    period_end: Timestamp,
    /// `open` while the period goes on, then `closed`.
    status: &'static str,
    /// The plan at the end of the period, or now while it goes on; its terms hold for the whole period.
    plan: &'static str,
    /// The version of its terms.
    plan_version: u32,
    /// Since when the tenant has had these terms.
    #[schema(value_type = String, format = DateTime)]
    plan_since: Timestamp,
    /// The currency.
    #[schema(value_type = String, example = "USD")]
    currency: Currency,
    /// What was used.
    lines: [LineBody; 1],
    /// The sum of the lines, rounded once to hundredths of the currency's unit, half of one upwards; in millionths of it.
    total_micros: u64,
}

/// One line of an invoice.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LineBody {
    /// `events_published`
    metric: &'static str,
    /// How many, in the whole hours of the period.
    quantity: u64,
    /// How many of them the plan includes; absent when it includes any number.
    #[serde(skip_serializing_if = "Option::is_none")]
    included: Option<u64>,
    /// How many cost something.
    billable: u64,
    /// The price of one, in millionths of the currency's unit.
    unit_price_micros: u64,
    /// The price of all, exactly.
    amount_micros: u64,
    /// What the quantity consists of: the path of its explanation.
    #[schema(
        example = "/v1/billing/usage/explain?metric=events_published&from=2026-01-01T00:00:00Z&to=2026-02-01T00:00:00Z"
    )]
    explained_at: String,
}

impl From<&LocalInvoice> for InvoiceBody {
    fn from(invoice: &LocalInvoice) -> Self {
        let plan = &invoice.plan;
        let line = LineBody {
            metric: "events_published",
            quantity: invoice.quantity,
            included: plan.monthly_events,
            billable: invoice.billable,
            unit_price_micros: plan.price_per_event_micros,
            amount_micros: invoice.amount_micros,
            explained_at: format!(
                "/v1/billing/usage/explain?metric=events_published&from={}&to={}",
                invoice.period.start, invoice.period.end
            ),
        };
        Self {
            period_start: invoice.period.start,
            period_end: invoice.period.end,
            status: if invoice.open { "open" } else { "closed" },
            plan: plan.name.as_str(),
            plan_version: plan.version,
            plan_since: invoice.plan_since,
            currency: plan.currency,
            lines: [line],
            total_micros: invoice.total_micros,
        }
    }
}

/// Usage that was not reported to the payment provider: for people to settle.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AdjustmentBody {
    /// The start of the hour.
    #[schema(value_type = String, format = DateTime)]
    window_start: Timestamp,
    /// Of what.
    metric: &'static str,
    /// How much was not billed; below zero: too much was.
    quantity: i64,
    /// `adjustment`, or `rejected` when the provider took it and then found it wrong.
    state: &'static str,
    /// Why.
    note: Option<String>,
}

/// An invoice of the payment provider.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HostedBody {
    /// Its id there.
    id: String,
    /// The number printed on it.
    number: Option<String>,
    /// `draft`, `open`, `paid`, `uncollectible` or `void`.
    status: Option<String>,
    /// The currency, in lower case as the provider writes it.
    currency: String,
    /// What it asks for, in the currency's smallest unit.
    amount_due: i64,
    /// What was paid.
    amount_paid: i64,
    /// The period's start.
    #[schema(value_type = String, format = DateTime)]
    period_start: Timestamp,
    /// Its end.
    #[schema(value_type = String, format = DateTime)]
    period_end: Timestamp,
    /// Where it can be read and paid.
    url: Option<String>,
    /// Where it can be downloaded.
    pdf: Option<String>,
}

impl From<Hosted> for HostedBody {
    fn from(invoice: Hosted) -> Self {
        Self {
            id: invoice.id,
            number: invoice.number,
            status: invoice.status,
            currency: invoice.currency,
            amount_due: invoice.amount_due,
            amount_paid: invoice.amount_paid,
            period_start: Timestamp::from_seconds(invoice.period_start),
            period_end: Timestamp::from_seconds(invoice.period_end),
            url: invoice.hosted_invoice_url,
            pdf: invoice.invoice_pdf,
        }
    }
}

/// A page of invoices.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct InvoicesBody {
    /// Computed here, newest first.
    data: Vec<InvoiceBody>,
    /// Ask on with `cursor` set to this.
    #[schema(value_type = Option<String>)]
    next_cursor: Option<Timestamp>,
    /// Whether there are older ones.
    has_more: bool,
    /// Usage of these periods that is for people to settle.
    adjustments: Vec<AdjustmentBody>,
    /// The newest invoices of the payment provider, on the first page.
    hosted: Vec<HostedBody>,
}

impl From<Invoices> for InvoicesBody {
    fn from(invoices: Invoices) -> Self {
        let data: Vec<InvoiceBody> = invoices.local.iter().map(InvoiceBody::from).collect();
        let adjustments = invoices.adjustments.into_iter().map(|report| AdjustmentBody {
            window_start: report.key.window_start,
            metric: report.key.metric.as_str(),
            quantity: report.quantity,
            state: report.state.as_str(),
            note: report.note,
        });
        Self {
            next_cursor: data.last().map(|last| last.period_start).filter(|_| invoices.has_more),
            has_more: invoices.has_more,
            adjustments: adjustments.collect(),
            hosted: invoices.hosted.into_iter().map(HostedBody::from).collect(),
            data,
        }
    }
}

/// The columns of the CSV. Those of adjustments are their own, so that a sum over a column counts nothing twice.
const COLUMNS: &str = "period_start,period_end,status,plan,plan_version,currency,metric,quantity,included,billable,\
     unit_price_micros,amount_micros,total_micros,plan_since,adjustment_hour,adjustment_state,adjustment_quantity,\
     adjustment_note\r\n";

/// One line for each line of an invoice, and below an invoice's lines one for each adjustment of its period.
fn csv(invoices: &InvoicesBody) -> String {
    let mut out = String::from(COLUMNS);
    for invoice in &invoices.data {
        for line in &invoice.lines {
            row(&mut out, invoice, line.metric, &numbers(invoice, line), ",,,");
        }
        let period = invoice.period_start..invoice.period_end;
        for one in invoices.adjustments.iter().filter(|one| period.contains(&one.window_start)) {
            row(&mut out, invoice, one.metric, ",,,,,", &adjusted(one));
        }
    }
    out
}

/// One row. What it has no numbers or no adjustment for stays empty.
fn row(out: &mut String, invoice: &InvoiceBody, metric: &str, numbers: &str, adjustment: &str) {
    let InvoiceBody { period_start, period_end, status, plan, plan_version, currency, plan_since, .. } =
        invoice;
    // Writing into a String cannot fail.
    let _ = write!(
        out,
        "{period_start},{period_end},{status},{plan},{plan_version},{currency},{metric},{numbers},{plan_since},\
         {adjustment}\r\n"
    );
}

fn numbers(invoice: &InvoiceBody, line: &LineBody) -> String {
    let included = line.included.map(|number| number.to_string()).unwrap_or_default();
    let LineBody { quantity, billable, unit_price_micros, amount_micros, .. } = line;
    let total = invoice.total_micros;
    format!("{quantity},{included},{billable},{unit_price_micros},{amount_micros},{total}")
}

fn adjusted(one: &AdjustmentBody) -> String {
    let note = quoted(one.note.as_deref().unwrap_or_default());
    format!("{},{},{},{note}", one.window_start, one.state, one.quantity)
}

/// A text as a field (RFC 4180): the only one whose words come from elsewhere, so always in quotes.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

/// List invoices.
///
/// Computed here from whole hours of usage and the plan's terms, in integers, also where no payment provider is set up;
/// with one its own invoices too. As CSV with `format=csv` or `Accept: text/csv`: a line for each line of an invoice, and below them
/// one for each adjustment of the period, in columns of its own.
#[utoipa::path(get, path = "/v1/billing/invoices", tag = "billing", extensions(("x-permission" = json!("billing:read"))),
    params(("tenant_id" = Option<String>, Query, description = "The tenant; needed by operators"),
        ("format" = Option<String>, Query, description = "`json` (when absent) or `csv`"),
        ("limit" = Option<u32>, Query, description = "1 to 100 periods, 12 when absent", minimum = 1, maximum = 100),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before")),
    responses((status = 200, body = InvoicesBody), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 402, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn list(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<BillingRead>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let query = Query::parse(query.as_deref());
    let found = async {
        let tenant = query.parsed("tenant_id", "the id of a tenant")?;
        let cursor = query.parsed("cursor", "the `next_cursor` of the page before")?;
        let limit = match query.parsed("limit", "a whole number from 1 to 100")?.unwrap_or(12) {
            limit @ 1..=100 => limit,
            other => return Err(invalid("limit", &format!("must be from 1 to 100; got {other}"))),
        };
        let accepts = |kind: &str| headers.get(header::ACCEPT).is_some_and(|accept| accept == kind);
        let as_csv = match query.first("format") {
            Some("csv") => true,
            None => accepts("text/csv"),
            Some("json") => false,
            Some(_) => return Err(invalid("format", "must be json or csv")),
        };
        let invoices = gateway.engine.invoices(&admin.0, tenant, cursor, limit).await?;
        Ok((InvoicesBody::from(invoices), as_csv))
    };
    let (invoices, as_csv) = found.await.map_err(|error| admin.fail(error))?;
    Ok(match as_csv {
        false => Json(invoices).into_response(),
        true => ([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], csv(&invoices)).into_response(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_core::{Period, Plan, PlanName};

    fn time(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn invoice(start: &str, end: &str) -> InvoiceBody {
        InvoiceBody::from(&LocalInvoice {
            period: Period { start: time(start), end: time(end) },
            open: false,
            plan: Plan::of(PlanName::Pro),
            plan_since: time("2026-01-01T00:00:00Z"),
            quantity: 5_000_010,
            billable: 10,
            amount_micros: 30,
            total_micros: 0,
        })
    }

    fn adjustment(hour: &str, quantity: i64, note: Option<&str>) -> AdjustmentBody {
        AdjustmentBody {
            window_start: time(hour),
            metric: "events_published",
            quantity,
            state: "adjustment",
            note: note.map(str::to_owned),
        }
    }

    #[test]
    fn adjustments_stand_below_the_invoice_of_their_hour() {
        let invoices = InvoicesBody {
            data: vec![
                invoice("2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"),
                invoice("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"),
            ],
            next_cursor: None,
            has_more: false,
            adjustments: vec![
                adjustment("2026-01-31T23:00:00Z", 6, Some("said \"no\",\r\nand no more")),
                adjustment("2026-02-01T00:00:00Z", -5, None),
            ],
            hosted: Vec::new(),
        };
        let text = csv(&invoices);
        let rows: Vec<&str> = text.split_terminator("\r\n").collect();
        let of = |period: &str| format!("{period},closed,pro,1,USD,events_published");
        let february = of("2026-02-01T00:00:00.000000Z,2026-03-01T00:00:00.000000Z");
        let january = of("2026-01-01T00:00:00.000000Z,2026-02-01T00:00:00.000000Z");
        let (since, numbers) = ("2026-01-01T00:00:00.000000Z", "5000010,5000000,10,3,30,0");
        assert_eq!(
            rows,
            [
                COLUMNS.trim_end(),
                &format!("{february},{numbers},{since},,,,"),
                &format!("{february},,,,,,,{since},2026-02-01T00:00:00.000000Z,adjustment,-5,\"\""),
                &format!("{january},{numbers},{since},,,,"),
                // A line break within quotes is part of the field.
                &format!(
                    "{january},,,,,,,{since},2026-01-31T23:00:00.000000Z,adjustment,6,\"said \"\"no\"\","
                ),
                "and no more\"",
            ]
        );
        let fields = |row: &str| row.split(',').count();
        assert!(rows[..4].iter().all(|row| fields(row) == fields(COLUMNS)), "{rows:?}");
    }
}
