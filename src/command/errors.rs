//! `weir errors`: the closed list of public error codes, as `docs/errors.md` shows it.

use std::fmt::Write;
use weir_core::Code;

/// The list as Markdown.
#[must_use]
pub fn markdown() -> String {
    let mut out = String::from(
        "# Error codes\n\n\
         Every error has the shape `{\"error\": {\"code\", \"message\", \"details\", \"request_id\"}}`, over REST and in the\n\
         `error` frame of a WebSocket. `code` is one of this list; new ones may be added, none changes its meaning.\n\
         Where an error ends a WebSocket, the close code is the one below: 4400 to 4499 mean that connecting again\n\
         with the same credentials is pointless, 4500 to 4599 that it is right, after a moment and with the last\n\
         cursor. An answer to a request that can be tried again carries `Retry-After`.\n\n\
         | code | HTTP | close | try again | meaning |\n|---|---|---|---|---|\n",
    );
    for code in Code::ALL {
        let again = if code.retryable() { "yes" } else { "no" };
        // Writing into a String cannot fail.
        let _ = writeln!(
            out,
            "| `{code}` | {} | {} | {again} | {} |",
            code.http_status(),
            code.close_code(),
            code.meaning().trim()
        );
    }
    out.push_str("\n<!-- Made by `weir errors`; `make generate` writes it. -->\n");
    out
}
