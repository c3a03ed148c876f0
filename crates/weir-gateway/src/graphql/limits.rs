//! What a GraphQL operation may cost, and the check of it before anything is executed.
//!
//! The order matters, because the parser and the validator are recursive and expand fragments wherever they are
//! spread: first the text is looked over byte by byte (`scan.rs`), then it is parsed, then the document is
//! measured with every fragment visited once (`document.rs`). What passes is small however it is written.

use serde_json::json;
use weir_core::Code;
use weir_engine::Error;

/// Limits of GraphQL, of this node.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of an operation's text; variables are not part of it.
    pub query_bytes: usize,
    /// Tokens of an operation's text.
    pub tokens: usize,
    /// Fields within fields; introspection is allowed to go deeper.
    pub depth: usize,
    /// A field costs 1; a list costs what it selects for every ten entries that are asked for.
    pub cost: usize,
    /// Aliases.
    pub aliases: usize,
    /// Directives.
    pub directives: usize,
    /// Operations that run at once on one WebSocket.
    pub subscriptions: usize,
    /// Whether the schema can be asked for.
    pub introspection: bool,
    /// Whether `GET /graphql` shows a page to a browser.
    pub explorer: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            query_bytes: 64 << 10,
            tokens: 2_000,
            depth: 8,
            cost: 500,
            aliases: 20,
            directives: 20,
            subscriptions: 20,
            introspection: true,
            explorer: true,
        }
    }
}

/// An operation is over a limit.
pub(super) fn exceeded(what: &'static str, found: usize, limit: usize) -> Error {
    let sentence = match what {
        "query_bytes" => format!(
            "The operation's text has {found} bytes; the limit is {limit}. Put values into variables."
        ),
        "tokens" => format!("The operation's text has more than {limit} tokens. Ask for less at once."),
        "nesting" => format!("The operation's text is nested more than {limit} brackets deep."),
        "depth" => format!("The operation selects fields {found} levels deep; the limit is {limit}."),
        "cost" => format!(
            "The operation costs {found}; the limit is {limit}. Select fewer fields or ask for shorter lists."
        ),
        _ => format!("The operation has {found} {what}; the limit is {limit}."),
    };
    Error::new(Code::QueryTooComplex, sentence).with(json!({ "what": what, "found": found, "limit": limit }))
}
