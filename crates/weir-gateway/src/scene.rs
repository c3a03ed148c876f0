//! What a request is part of and whom it turns out to be of: its trace, and the fields of the line that is logged if it
//! fails. Known to everything that runs for the request, without being handed on.

use crate::state::Gateway;
use axum::http::{HeaderMap, Method, Version};
use std::sync::{Arc, OnceLock};
use tracing::{Instrument, field, info_span};
use weir_core::trace::{ROOT, TRACEPARENT, TRACESTATE, number};
use weir_core::{ConnectionId, ProjectId, RequestId, TenantId, TraceContext};
use weir_engine::{Caller, Origin, Session};

tokio::task_local! {
    static SCENE: Arc<Scene>;
}

/// The longest path that a span shows.
const PATH_BYTES: usize = 256;

/// Where something happens.
#[derive(Default)]
pub(crate) struct Scene {
    origin: Origin,
    who: OnceLock<(TenantId, Option<ProjectId>)>,
    connection: Option<ConnectionId>,
}

/// What an HTTP request looks like before anything of it is understood.
pub(crate) struct Head<'a> {
    pub(crate) method: &'a Method,
    /// The router's pattern; `None` where there is none.
    pub(crate) route: Option<&'a str>,
    pub(crate) path: &'a str,
    pub(crate) version: Version,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) request: &'a RequestId,
}

impl Scene {
    /// Of an HTTP request.
    pub(crate) fn of_request(gateway: &Gateway, head: &Head<'_>) -> Arc<Self> {
        let origin = gateway.engine.traces().begin(context(head.headers), || {
            let method = match head.method.as_str() {
                known @ ("GET" | "POST" | "PUT" | "DELETE" | "PATCH" | "HEAD" | "OPTIONS") => known,
                _ => "_OTHER",
            };
            // What leads nowhere may hold anything. The query is never shown: credentials stand there.
            let path = head.route.and_then(|_| head.path.get(..head.path.len().min(PATH_BYTES)));
            info_span!(
                target: ROOT, parent: None, "request",
                otel.name = head.route.map_or_else(|| method.to_owned(), |route| format!("{method} {route}")),
                otel.kind = "server",
                otel.status_code = field::Empty,
                error.type = field::Empty,
                http.request.method = method,
                http.route = head.route,
                http.response.status_code = field::Empty,
                url.scheme = "http",
                url.path = path,
                network.protocol.version = version(head.version),
                weir.request_id = head.request.as_str(),
                weir.tenant = field::Empty,
                weir.project = field::Empty,
            )
        });
        Arc::new(Self { origin, ..Self::default() })
    }

    /// Of one message on a live connection; `what` is one of a few names.
    pub(crate) fn of_message(
        gateway: &Gateway,
        what: &'static str,
        (connection, session): (ConnectionId, Option<&Session>),
        context: Option<TraceContext>,
    ) -> Arc<Self> {
        let origin = gateway.engine.traces().begin(context, || {
            info_span!(
                target: ROOT, parent: None, "message",
                otel.name = what,
                otel.kind = "server",
                otel.status_code = field::Empty,
                error.type = field::Empty,
                network.protocol.name = "websocket",
                weir.connection = %connection,
                weir.tenant = field::Empty,
                weir.project = field::Empty,
            )
        });
        let scene = Self { origin, who: OnceLock::new(), connection: Some(connection) };
        if let Some(session) = session {
            scene.identify(&session.caller());
        }
        Arc::new(scene)
    }

    /// Of a live connection, for what is logged of it.
    pub(crate) fn of_connection(connection: ConnectionId, session: Option<&Session>) -> Self {
        let scene = Self { connection: Some(connection), ..Self::default() };
        if let Some(session) = session {
            scene.identify(&session.caller());
        }
        scene
    }

    fn identify(&self, caller: &Caller) {
        let _ = self.who.set((caller.place.tenant, Some(caller.place.project)));
        self.origin.identify(caller);
    }

    /// Where in a trace this is.
    pub(crate) const fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Whose it is.
    pub(crate) fn tenant(&self) -> Option<TenantId> {
        self.who.get().map(|(tenant, _)| *tenant)
    }

    /// In which of its projects.
    pub(crate) fn project(&self) -> Option<ProjectId> {
        self.who.get().and_then(|(_, project)| *project)
    }

    /// Which live connection it came on.
    pub(crate) const fn connection(&self) -> Option<ConnectionId> {
        self.connection
    }

    /// Runs work here. No `async fn`: its future would have room for the work three times over.
    pub(crate) fn run<F: Future>(self: &Arc<Self>, work: F) -> impl Future<Output = F::Output> + use<F> {
        SCENE.scope(Arc::clone(self), work.instrument(self.origin.span().clone()))
    }

    /// Notes how an HTTP request was answered.
    pub(crate) fn answered(&self, status: u16) {
        let span = self.origin.span();
        if span.is_none() {
            return;
        }
        span.record("http.response.status_code", number(status));
        if status >= 400 {
            span.record("error.type", field::display(status));
        }
        // By the conventions a server's span is no failure when the client is at fault.
        if status >= 500 {
            span.record("otel.status_code", "ERROR");
        }
    }

    /// Notes why a message failed.
    pub(crate) fn failed(&self, code: weir_core::Code) {
        let span = self.origin.span();
        if !span.is_none() {
            span.record("error.type", code.as_str());
            span.record("otel.status_code", "ERROR");
        }
    }
}

/// Notes whose request this is.
pub(crate) fn identify(caller: &Caller) {
    let _ = SCENE.try_with(|scene| scene.identify(caller));
}

/// Notes whose request this is, of what belongs to no project.
pub(crate) fn identify_tenant(tenant: TenantId, project: Option<ProjectId>) {
    let _ = SCENE.try_with(|scene| {
        let _ = scene.who.set((tenant, project));
        scene.origin.span().record("weir.tenant", field::display(tenant));
    });
}

/// Notes why what runs here failed.
pub(crate) fn failed(code: weir_core::Code) {
    let _ = SCENE.try_with(|scene| scene.failed(code));
}

/// Where in a trace this request is.
pub(crate) fn origin() -> Origin {
    SCENE.try_with(|scene| scene.origin.clone()).unwrap_or_default()
}

/// What is running for, if it is known.
pub(crate) fn current() -> Option<Arc<Scene>> {
    SCENE.try_with(Arc::clone).ok()
}

/// The trace context in a request's headers.
pub(crate) fn context(headers: &HeaderMap) -> Option<TraceContext> {
    let mut given = headers.get_all(TRACEPARENT).iter();
    // Two of them contradict each other: the specification wants both passed over.
    let parent = given.next().filter(|_| given.next().is_none())?.to_str().ok()?;
    let states = headers.get_all(TRACESTATE).iter().map(|value| value.to_str());
    let state = states.collect::<Result<Vec<_>, _>>().map(|states| states.join(",")).ok();
    TraceContext::read(Some(parent), state.as_deref())
}

const fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "2",
        Version::HTTP_10 => "1.0",
        _ => "1.1",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().expect("a value"));
        }
        headers
    }

    #[test]
    fn a_context_is_one_traceparent_and_any_number_of_tracestates() {
        let found =
            context(&headers(&[("traceparent", PARENT), ("tracestate", "a=1"), ("tracestate", "b=2")]));
        assert_eq!(found.expect("a context").tracestate(), Some("a=1,b=2"));
        assert!(context(&headers(&[("traceparent", PARENT), ("traceparent", PARENT)])).is_none());
        assert!(context(&headers(&[("tracestate", "a=1")])).is_none());
    }
}
