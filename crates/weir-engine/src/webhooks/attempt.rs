//! One request to an endpoint.

use super::Webhooks;
use std::time::Duration;
use tokio::time::Instant;
use weir_core::{Clock, Secret, Timestamp};
use weir_outbound::{Error, Request, webhook};
use weir_store::webhooks::WebhookMessage;

/// A wish of the endpoint to wait is heard up to here.
const MOST_PATIENCE: Duration = Duration::from_secs(24 * 3600);
/// Characters of a failure that are kept.
const FAILURE: usize = 300;

/// How an attempt ended.
#[derive(Clone, Debug)]
pub(crate) struct Attempted {
    /// When it began.
    pub(crate) at: Timestamp,
    /// How long it took.
    pub(crate) took: Duration,
    /// What was answered.
    pub(crate) status: Option<u16>,
    /// Why it counts as failed.
    pub(crate) failure: Option<String>,
    /// When the endpoint wishes to be asked again.
    pub(crate) retry_after: Option<Duration>,
    unreadable: bool,
}

impl Attempted {
    /// The message is not JSON: there is nothing to send.
    pub(crate) fn unreadable(at: Timestamp) -> Self {
        let failure = Some("the event is not JSON".to_owned());
        Self { at, took: Duration::ZERO, status: None, failure, retry_after: None, unreadable: true }
    }

    /// No attempt can succeed.
    pub(crate) const fn is_unreadable(&self) -> bool {
        self.unreadable
    }

    /// It says that it is gone for good.
    pub(crate) fn is_gone(&self) -> bool {
        self.status == Some(410)
    }
}

impl Webhooks {
    /// Sends a message once.
    pub(crate) async fn attempt(
        &self,
        url: &str,
        message: &WebhookMessage,
        body: Vec<u8>,
        secrets: &[Secret],
        clock: &dyn Clock,
    ) -> Attempted {
        let (at, begun) = (clock.now(), Instant::now());
        let signature = webhook::signature(&message.id, at.seconds(), &body, secrets);
        let mut request = Request::post(url, body)
            .header("content-type", "application/json")
            .header("webhook-id", &message.id)
            .header("webhook-timestamp", at.seconds().to_string())
            .header("webhook-signature", signature)
            .timeout(self.settings.timeout)
            .ignore_body();
        if let Some(trace) = &message.traceparent {
            request = request.header("traceparent", trace);
        }
        let answer = self.outbound.send(request).await;
        let took = begun.elapsed();
        let failed = |status, failure: String, retry_after| Attempted {
            at,
            took,
            status,
            failure: Some(failure.chars().take(FAILURE).collect()),
            retry_after,
            unreadable: false,
        };
        match answer {
            Ok(answer) if answer.status.is_success() => {
                let status = Some(answer.status.as_u16());
                Attempted { at, took, status, failure: None, retry_after: None, unreadable: false }
            }
            Ok(answer) => {
                let status = answer.status.as_u16();
                let wish = answer.headers.get("retry-after").and_then(|value| value.to_str().ok());
                let wish = wish.and_then(|text| patience(text, clock.now()));
                failed(Some(status), format!("the endpoint answered {status}"), wish)
            }
            Err(Error::Redirect(status)) => failed(Some(status), Error::Redirect(status).to_string(), None),
            Err(error) => failed(None, error.to_string(), None),
        }
    }
}

/// How long `Retry-After` asks to wait: seconds, or until a date. One that is over asks for nothing.
fn patience(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    let seconds = text.parse().map(Duration::from_secs).ok();
    let wish = seconds.or_else(|| Timestamp::from_http_date(text).map(|date| date.since(now)))?;
    Some(wish.min(MOST_PATIENCE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_ask_for_patience_in_seconds_or_until_a_date() {
        let now: Timestamp = "2026-01-31T12:00:00Z".parse().expect("a time");
        let asks = |text| patience(text, now).map(|wish| wish.as_secs());
        assert_eq!(asks("120"), Some(120));
        assert_eq!(asks(" Sat, 31 Jan 2026 12:02:00 GMT "), Some(120));
        assert_eq!(asks("Sat, 31 Jan 2026 11:00:00 GMT"), Some(0), "over");
        for long in ["99999999", "18446744073709551615", "Mon, 31 Jan 2028 12:00:00 GMT"] {
            assert_eq!(asks(long), Some(MOST_PATIENCE.as_secs()), "{long}");
        }
        for bad in ["", "soon", "-1", "18446744073709551616", "Sat, 31 Jan 2026"] {
            assert_eq!(asks(bad), None, "{bad}");
        }
    }
}
