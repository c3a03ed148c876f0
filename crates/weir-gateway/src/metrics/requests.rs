//! Requests and frames as they are answered: how many, how they ended, how long they took.

use axum::http::Method;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};
use weir_core::{Code, Distribution, Histogram};

/// The methods that are told apart.
const METHODS: [&str; 8] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "other"];

/// What clients say on a WebSocket.
pub(super) const FRAMES: [&str; 7] =
    ["connect", "subscribe", "unsubscribe", "publish", "refresh", "ping", "other"];

/// Operations of GraphQL.
pub(super) const OPERATIONS: [&str; 3] = ["query", "mutation", SUBSCRIPTION];
pub(crate) const SUBSCRIPTION: &str = "subscription";

/// The requests of one route.
pub(super) struct Route {
    pub(super) transport: &'static str,
    took: Histogram,
    /// By the place of the method, and the status.
    answers: RwLock<HashMap<(usize, u16), AtomicU64>>,
}

impl Route {
    fn new(route: &str) -> Self {
        Self { transport: transport(route), took: Histogram::of_seconds(), answers: RwLock::default() }
    }

    fn count(&self, method: usize, status: u16) {
        let known = self.answers.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(counter) = known.get(&(method, status)) {
            counter.fetch_add(1, Relaxed);
            return;
        }
        drop(known);
        let mut known = self.answers.write().unwrap_or_else(PoisonError::into_inner);
        known.entry((method, status)).or_default().fetch_add(1, Relaxed);
    }

    pub(super) fn took(&self) -> Distribution {
        self.took.read()
    }

    /// Method, status, and how often.
    pub(super) fn answers(&self) -> Vec<(&'static str, u16, u64)> {
        let known = self.answers.read().unwrap_or_else(PoisonError::into_inner);
        let answer = |((method, status), counter): (&(usize, u16), &AtomicU64)| {
            (METHODS[*method], *status, counter.load(Relaxed))
        };
        let mut answers: Vec<_> = known.iter().map(answer).collect();
        answers.sort_unstable();
        answers
    }
}

/// By which protocol a route is.
fn transport(route: &str) -> &'static str {
    match route.rsplit('/').next() {
        Some("ws") => "ws",
        Some("sse") => "sse",
        Some("graphql") => "graphql",
        Some("" | "docs" | "openapi.json") => "page",
        _ if route.starts_with("/v1/") || !route.contains('.') => "rest",
        _ => "page",
    }
}

/// The requests of all routes. Routes are the router's patterns, so their number is bounded.
#[derive(Default)]
pub(super) struct Requests(RwLock<HashMap<Box<str>, Arc<Route>>>);

impl Requests {
    fn route(&self, route: &str) -> Arc<Route> {
        if let Some(known) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(route) {
            return Arc::clone(known);
        }
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(route.into()).or_insert_with(|| Arc::new(Route::new(route))))
    }

    /// Counts one answered request.
    pub(super) fn count(&self, route: &str, method: &Method, status: u16, took: Duration) {
        let route = self.route(route);
        let method = METHODS.iter().position(|known| *known == method.as_str()).unwrap_or(METHODS.len() - 1);
        route.count(method, status);
        route.took.observe(took);
    }

    /// All routes that were asked, in the order of their names.
    pub(super) fn all(&self) -> Vec<(Box<str>, Arc<Route>)> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = all.iter().map(|(name, route)| (name.clone(), Arc::clone(route))).collect();
        all.sort_by(|(one, _), (other, _)| one.cmp(other));
        all
    }
}

/// What is asked within one request or connection, of one kind.
struct Kind {
    name: &'static str,
    took: Histogram,
    done: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
}

/// The same of all kinds. What is of none of them counts for the last.
pub(crate) struct Kinds(Vec<Kind>);

impl Kinds {
    pub(super) fn new(names: &[&'static str]) -> Self {
        let zero = AtomicU64::default;
        let kind = |name: &&'static str| Kind {
            name,
            took: Histogram::of_seconds(),
            done: zero(),
            refused: zero(),
            failed: zero(),
        };
        Self(names.iter().map(kind).collect())
    }

    /// Counts one. `error` is the error that it got.
    pub(crate) fn count(&self, name: &str, begun: Instant, error: Option<Code>) {
        let Some(kind) = self.0.iter().find(|kind| kind.name == name).or(self.0.last()) else { return };
        kind.took.observe(begun.elapsed());
        let counter = match error.map(Code::http_status) {
            None => &kind.done,
            Some(500..) => &kind.failed,
            Some(_) => &kind.refused,
        };
        counter.fetch_add(1, Relaxed);
    }

    /// Each kind, its times, and how often it ended how.
    pub(super) fn all(&self) -> impl Iterator<Item = (&'static str, Distribution, [(&'static str, u64); 3])> {
        self.0.iter().map(|kind| {
            let read = |counter: &AtomicU64| counter.load(Relaxed);
            let ends =
                [("ok", read(&kind.done)), ("refused", read(&kind.refused)), ("failed", read(&kind.failed))];
            (kind.name, kind.took.read(), ends)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_belong_to_transports() {
        let routes = [
            "/v1/events",
            "/events",
            "/v1/ws",
            "/sse",
            "/v1/graphql",
            "/",
            "/docs",
            "/console.js",
            "unmatched",
        ];
        let found: Vec<_> = routes.into_iter().map(transport).collect();
        assert_eq!(found, ["rest", "rest", "ws", "sse", "graphql", "page", "page", "page", "rest"]);
    }

    #[test]
    fn an_unknown_method_or_frame_makes_no_new_series() {
        let (requests, frames) = (Requests::default(), Kinds::new(&FRAMES));
        for method in ["BREW", "WHEN", "GET"] {
            let method = Method::from_bytes(method.as_bytes()).expect("a method");
            requests.count("/v1/events", &method, 405, Duration::from_millis(1));
        }
        assert_eq!(requests.all()[0].1.answers(), [("GET", 405, 1), ("other", 405, 2)]);
        frames.count("brew", Instant::now(), Some(Code::InvalidFrame));
        let other = frames.all().last().expect("a kind");
        assert_eq!((other.0, other.2[1]), ("other", ("refused", 1)));
    }
}
