//! Batches of spans on the wire: posted by the client of all other requests to servers outside, so that `weir doctor --reach`
//! meets what the exporter meets. The exporter hands on neither why nobody answered nor which spans a collector refused of a
//! batch that it took, so both are noted here, for whoever counts.

use super::queue::Spans;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use std::fmt;
use std::future::ready;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use weir_outbound::{self as outbound, Outbound, Policy};

/// The exporter's client.
pub struct Post {
    outbound: Outbound,
    /// Of its own: the exporter's thread is no runtime's, and outlives the node's.
    runtime: Runtime,
    timeout: Duration,
    spans: Arc<Spans>,
}

impl Post {
    /// A client that gives up after `timeout`.
    pub fn new(timeout: Duration, spans: Arc<Spans>) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("weir-traces")
            .enable_all()
            .build()?;
        Ok(Self { outbound: Outbound::new(Policy::Trusted)?, runtime, timeout, spans })
    }

    fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (parts, body) = request.into_parts();
        let mut request = outbound::Request::post(parts.uri.to_string(), body).timeout(self.timeout);
        for (name, value) in &parts.headers {
            request = request.header(name.as_str(), value.to_str()?);
        }
        let answer = self.runtime.block_on(self.outbound.send(request)).inspect_err(|error| {
            self.spans.note_failure(error.to_string());
        })?;
        if answer.status.is_success() {
            self.note_refused(&answer.body);
        }
        let mut response = Response::new(answer.body);
        *response.status_mut() = answer.status;
        *response.headers_mut() = answer.headers;
        Ok(response)
    }

    /// A collector that takes a batch may say that it refused some of its spans.
    fn note_refused(&self, body: &Bytes) {
        let Ok(answer) = ExportTraceServiceResponse::decode(body.clone()) else { return };
        let Some(partial) = answer.partial_success else { return };
        if let Ok(refused @ 1..) = usize::try_from(partial.rejected_spans) {
            self.spans.note_refused(refused, partial.error_message);
        }
    }
}

impl fmt::Debug for Post {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Post").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl HttpClient for Post {
    fn send_bytes<'client, 'sending>(
        &'client self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'sending>>
    where
        'client: 'sending,
        Self: 'sending,
    {
        // The exporter's thread has nothing else to do.
        Box::pin(ready(self.send(request)))
    }
}
