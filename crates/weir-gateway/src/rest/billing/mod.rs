//! `/v1/billing/…`: what was used and what it costs.

pub(crate) mod invoices;
pub(crate) mod payments;
pub(crate) mod plan;
pub(crate) mod usage;

use crate::rest::storage;
use crate::state::Gateway;
use axum::Router;
use axum::routing::{get, post, put};
use std::sync::Arc;

/// The routes below `/billing`.
pub(crate) fn routes() -> Router<Arc<Gateway>> {
    Router::new()
        .route("/usage", get(usage::report))
        .route("/usage/explain", get(usage::explain))
        .route("/storage", get(storage::of_billed))
        .route("/plan", get(plan::read))
        .route("/spend-cap", put(plan::set_spend_cap))
        .route("/plans", get(plan::list).post(plan::add))
        .route("/invoices", get(invoices::list))
        .route("/checkout", post(payments::checkout))
        .route("/portal", post(payments::portal))
}
