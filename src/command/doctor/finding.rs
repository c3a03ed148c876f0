//! What a check found, and how it is told.

use serde::Serialize;
use std::io::IsTerminal;

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, and something about it should be known.
    Warning,
    /// A node cannot work with it, or is not safe.
    Bad,
}

/// How one check went.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    check: &'static str,
    level: Level,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

impl Finding {
    pub fn good(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, level: Level::Ok, found: found.into(), advice: None }
    }

    pub fn warning(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, level: Level::Warning, found: found.into(), advice: Some(advice.into()) }
    }

    pub fn bad(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, level: Level::Bad, found: found.into(), advice: Some(advice.into()) }
    }
}

/// Whether nothing is bad.
pub fn is_well(findings: &[Finding]) -> bool {
    findings.iter().all(|finding| finding.level < Level::Bad)
}

/// As one JSON object.
pub fn json(findings: &[Finding]) -> String {
    let warnings = findings.iter().filter(|finding| finding.level == Level::Warning).count();
    serde_json::json!({ "ok": is_well(findings), "warnings": warnings, "findings": findings }).to_string()
}

/// For people: a line for each, what to do below it, in colours on a terminal.
pub fn text(findings: &[Finding]) -> String {
    let coloured = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let mut text = String::new();
    for finding in findings {
        let (mark, colour) = match finding.level {
            Level::Ok => ("ok  ", "\x1b[32m"),
            Level::Warning => ("warn", "\x1b[33m"),
            Level::Bad => ("BAD ", "\x1b[1;31m"),
        };
        let (colour, plain) = if coloured { (colour, "\x1b[0m") } else { ("", "") };
        text.push_str(&format!("{colour}{mark}{plain}  {:<14} {}\n", finding.check, finding.found));
        if let Some(advice) = &finding.advice {
            text.push_str(&format!("      {:<14} -> {advice}\n", ""));
        }
    }
    let of = |level| findings.iter().filter(|finding| finding.level == level).count();
    let (bad, warnings) = (of(Level::Bad), of(Level::Warning));
    text.push_str(&match (bad, warnings) {
        (0, 0) => "\nAll is well.\n".to_owned(),
        (0, _) => format!("\nA node can run; {warnings} thing(s) to know.\n"),
        _ => format!("\n{bad} thing(s) to mend, {warnings} to know.\n"),
    });
    text
}
