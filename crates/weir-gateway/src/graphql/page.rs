//! The explorer that a browser gets at `GET /graphql`.

use axum::response::Response;

/// The page.
pub(super) fn explorer() -> Response {
    crate::pages::file("graphql.html")
}
