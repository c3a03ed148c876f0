//! Whoever takes the traces: a collector that speaks OTLP over HTTP.

use super::finding::Finding;
use crate::config::Config;
use crate::telemetry::{Target, target};
use weir_outbound::{Error, Outbound, Policy, Request, Response};

const CHECK: &str = "traces";
/// What OTLP is encoded in.
const PROTOBUF: &str = "application/x-protobuf";
/// An `ExportTraceServiceRequest` in it, with one resource and nothing of that.
const NO_SPANS: &[u8] = &[0x0a, 0x00];
/// For whatever else answers there.
const ADVICE_PLACE: &str = "name the collector's port for OTLP over HTTP (most often 4318; 4317 is for gRPC) in telemetry.otlp_endpoint, to which /v1/traces is added";

/// For whoever answers with something that is no HTTP/1.1.
const ADVICE_SPEECH: &str = "it is not plain HTTP: name the port for OTLP over HTTP (most often 4318; 4317 is for gRPC) in telemetry.otlp_endpoint, and begin that with https:// where it speaks TLS";

pub async fn check(config: &Config, reach: bool) -> Finding {
    let Some(target) = target(&config.telemetry) else {
        return Finding::good(CHECK, "not recorded");
    };
    let place = shown(&target.url);
    if !reach {
        return Finding::good(CHECK, format!("sent to {place}; --reach asks whether they are taken"));
    }
    match send_none(&target).await {
        Ok(answer) => judge(&place, &target, &answer),
        Err(error) => unreached(&place, &error),
    }
}

/// The URL without what may be a secret in it.
fn shown(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://***@{rest}"),
        _ => url.to_owned(),
    }
}

/// Sends a batch without spans, as the exporter would one with.
async fn send_none(target: &Target) -> Result<Response, Error> {
    let request = Request::post(&target.url, NO_SPANS).header("content-type", PROTOBUF);
    let request = target.headers.iter().fold(request, |request, (name, value)| request.header(name, value));
    Outbound::new(Policy::Trusted)?.send(request).await
}

fn judge(place: &str, target: &Target, answer: &Response) -> Finding {
    let status = answer.status.as_u16();
    let kind = answer.headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or("none");
    match status {
        401 | 403 => {
            let mut names: Vec<&str> = target.headers.keys().map(String::as_str).collect();
            names.sort_unstable();
            let sent = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            Finding::bad(
                CHECK,
                format!("{place} refuses our credentials with status {status}; headers sent: {sent}"),
                "set telemetry.otlp_headers to what the collector asks for, values percent-encoded",
            )
        }
        429 => Finding::warning(
            CHECK,
            format!("{place} takes no more for now (status {status}): spans are lost"),
            "lower telemetry.sampling, or let the collector take more",
        ),
        500.. => Finding::warning(
            CHECK,
            format!("{place} answers with status {status}: spans are lost while it does"),
            "look at the collector's own log",
        ),
        300.. => Finding::bad(
            CHECK,
            format!("{place} takes no OTLP: it answers with status {status}"),
            ADVICE_PLACE,
        ),
        _ if kind.starts_with(PROTOBUF) || kind.starts_with("application/json") => {
            Finding::good(CHECK, format!("{place} takes them"))
        }
        _ => Finding::bad(
            CHECK,
            format!("{place} answers, but not as a collector does (content type {kind})"),
            ADVICE_PLACE,
        ),
    }
}

fn unreached(place: &str, error: &Error) -> Finding {
    let found = format!("{place}: {error}");
    let words = found.to_ascii_lowercase();
    let about = |signs: &[&str]| signs.iter().any(|sign| words.contains(sign));
    let advice = if about(&["certificate"]) {
        "give the collector a certificate for this name from an authority that this machine trusts, or reach it by http:// within a network that you trust"
    } else if about(&["invalidcontenttype", "tls", "handshake"]) {
        "it speaks no TLS there: begin telemetry.otlp_endpoint with http://, or name its port for https"
    } else if about(&["sendrequest"]) {
        // It is there, and what it says is no HTTP/1.1.
        ADVICE_SPEECH
    } else {
        "see that the collector runs and this machine reaches it; until then spans are lost and nothing else"
    };
    Finding::bad(CHECK, found, advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_a_secret_in_a_url_is_not_shown() {
        for (url, expected) in [
            ("http://one:4318/v1/traces", "http://one:4318/v1/traces"),
            ("https://weir:p@ss@one/v1/traces?key=secret", "https://***@one/v1/traces"),
        ] {
            assert_eq!(shown(url), expected);
        }
    }
}
