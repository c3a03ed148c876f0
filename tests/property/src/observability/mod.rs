//! Properties of monitoring and observability.

mod alerts;
mod metrics;
mod traces;
