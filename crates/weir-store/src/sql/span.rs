//! Statements as spans, within whatever is traced (OpenTelemetry's conventions for databases). A statement's text is a
//! constant of this program; its values, which are not, are in no span.

use crate::StoreError;
use tracing::{Instrument, Span, field, info_span};
use weir_core::trace::PART;

pub const SQLITE: &str = "sqlite";
pub const POSTGRES: &str = "postgresql";

/// The span of a statement.
pub fn statement(system: &'static str, sql: &'static str) -> Span {
    call(system, sql.split_ascii_whitespace().next().unwrap_or("SQL"), Some(sql))
}

/// The span of something that is asked of the database.
pub fn call(system: &'static str, operation: &'static str, text: Option<&'static str>) -> Span {
    info_span!(
        target: PART, "database",
        otel.name = operation,
        otel.kind = "client",
        otel.status_code = field::Empty,
        error.type = field::Empty,
        db.system.name = system,
        db.operation.name = operation,
        db.query.text = text,
    )
}

/// Runs it in its span.
pub async fn within<T>(
    span: Span,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    if span.is_disabled() {
        return work.await;
    }
    let outcome = work.instrument(span.clone()).await;
    if outcome.is_err() {
        span.record("otel.status_code", "ERROR");
        span.record("error.type", "database");
    }
    outcome
}
