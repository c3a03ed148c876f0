//! Properties of monitoring and observability.

mod metrics;
mod traces;
