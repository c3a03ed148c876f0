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
                let wish = wish.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
                failed(
                    Some(status),
                    format!("the endpoint answered {status}"),
                    wish.map(|w| w.min(MOST_PATIENCE)),
                )
            }
            Err(Error::Redirect(status)) => failed(Some(status), Error::Redirect(status).to_string(), None),
            Err(error) => failed(None, error.to_string(), None),
        }
    }
}
