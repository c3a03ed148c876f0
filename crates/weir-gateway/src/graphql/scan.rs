//! A look over the text of an operation before it is parsed: tokens and nesting, in one pass without recursion.

use super::limits::{Limits, exceeded};
use weir_engine::Error;

/// Brackets within brackets: above every depth that the other limits allow, below what a parser's stack minds.
const NESTING: usize = 32;

/// Refuses a text with more bytes, tokens or nesting than is worth parsing.
pub(super) fn check(text: &str, limits: &Limits) -> Result<(), Error> {
    if text.len() > limits.query_bytes {
        return Err(exceeded("query_bytes", text.len(), limits.query_bytes));
    }
    let mut rest = text.as_bytes();
    let (mut tokens, mut depth) = (0, 0_usize);
    while let Some(&first) = rest.first() {
        let length = match first {
            b' ' | b'\t' | b'\r' | b'\n' | b',' => {
                rest = &rest[1..];
                continue;
            }
            b'#' => {
                rest = after(rest, |byte| byte == b'\n' || byte == b'\r');
                continue;
            }
            b'"' => string(rest),
            b'A'..=b'Z' | b'a'..=b'z' | b'_' | b'0'..=b'9' | b'-' => word(rest),
            b'.' if rest.starts_with(b"...") => 3,
            b'{' | b'(' | b'[' => {
                depth += 1;
                1
            }
            b'}' | b')' | b']' => {
                depth = depth.saturating_sub(1);
                1
            }
            // What is no token of the language is the parser's to refuse.
            _ => 1,
        };
        tokens += 1;
        if tokens > limits.tokens {
            return Err(exceeded("tokens", tokens, limits.tokens));
        }
        if depth > NESTING {
            return Err(exceeded("nesting", depth, NESTING));
        }
        rest = &rest[length..];
    }
    Ok(())
}

fn after(text: &[u8], end: impl Fn(u8) -> bool) -> &[u8] {
    let length = text.iter().position(|byte| end(*byte)).unwrap_or(text.len());
    &text[length..]
}

/// A name or a number, and what sticks to it.
fn word(text: &[u8]) -> usize {
    let part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'+' | b'.');
    // `1...` is a number and a spread.
    let end = text.iter().position(|byte| !part(byte)).unwrap_or(text.len());
    let spread = text[..end].windows(3).position(|three| three == b"...");
    spread.filter(|at| *at > 0).unwrap_or(end)
}

/// The length of the string, plain or block, that begins here; all that is left when it does not end.
fn string(text: &[u8]) -> usize {
    let block = text.starts_with(b"\"\"\"");
    let (quote, mut at): (&[u8], usize) = if block { (b"\"\"\"", 3) } else { (b"\"", 1) };
    while at < text.len() {
        let here = &text[at..];
        if here.starts_with(quote) {
            return at + quote.len();
        }
        at += match here[0] {
            b'\\' if block && here[1..].starts_with(quote) => 4,
            b'\\' if !block => 2,
            b'\n' | b'\r' if !block => return at,
            _ => 1,
        };
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tokens(text: &str) -> usize {
        // The smallest limit that the text keeps to.
        (0..)
            .find(|tokens| check(text, &Limits { tokens: *tokens, ..Limits::default() }).is_ok())
            .expect("ends")
    }

    #[test]
    fn counts_as_the_language_does() {
        assert_eq!(tokens("{ a }"), 3);
        assert_eq!(tokens("query Q($a: [Int!]! = [1, 2.5e-3]) { f(x: $a, s: \"a b \\\" {\") ...F @d }"), 33);
        assert_eq!(tokens("# { { {\n{ a(b: \"\"\"x \" \\\"\"\" } y\"\"\") }"), 8);
        assert_eq!(tokens("{...A...B}"), 6);
        assert_eq!(tokens("\u{feff}{é}"), 7);
    }

    #[test]
    fn refuses_bombs() {
        let limits = Limits::default();
        for bomb in
            ["{a".repeat(40), "[".repeat(5_000), "(".repeat(33), "a ".repeat(3_000), "a".repeat(1 << 20)]
        {
            assert!(check(&bomb, &limits).is_err(), "{:.20}", bomb);
        }
        assert!(check(&" ".repeat(60_000), &limits).is_ok());
        assert!(check(&format!("{{ a(b: \"{}\") }}", "{".repeat(60_000)), &limits).is_ok());
    }

    proptest! {
        #[test]
        fn never_panics(text in "[{}()\\[\\]\"\\\\.#a1 \n\u{e9}$!-]{0,200}") {
            let _ = check(&text, &Limits::default());
        }
    }
}
