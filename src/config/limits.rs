//! `[limits]` and `[graphql]`: what one request or connection may ask of this node.

use super::mirror::mirror;
use super::validate::Check;
use super::{Bytes, Duration};
use serde::{Deserialize, Serialize};

/// `[limits]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// An HTTP request's body.
    pub body_bytes: Bytes,
    /// All headers of a request.
    pub header_bytes: Bytes,
    /// Number of headers of a request.
    pub headers: usize,
    /// Events of one batch.
    pub batch_events: usize,
    /// Time for a WebSocket to authenticate.
    pub auth_timeout: Duration,
    /// Time for a request's head to arrive.
    pub header_timeout: Duration,
    /// Time for a request's body to arrive.
    pub body_timeout: Duration,
    /// New live connections per second; 0 is unlimited.
    pub new_connections_per_second: u32,
    /// Events of one replay page.
    pub replay_page_events: usize,
    /// Bytes of one replay page.
    pub replay_page_bytes: Bytes,
    /// Replays that read the log at once, all tenants together.
    pub concurrent_replays: usize,
    /// Memory for compiled topic schemas.
    pub schema_cache_bytes: Bytes,
    /// Length of a client token.
    pub jwt_bytes: usize,
    /// Difference of clocks that is forgiven in a client token's times.
    pub jwt_leeway: Duration,
    /// How long a ticket can be used.
    pub ticket_lifetime: Duration,
    /// How long a node delivers without confirming who may still receive.
    pub access_window: Duration,
    /// How long the answer to a change of access waits for the nodes.
    pub enforce_wait: Duration,
    /// How long a stopping node waits for its connections.
    pub drain: Duration,
    /// Over how much of that it spreads the closing.
    pub drain_spread: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: Bytes::mib(1),
            header_bytes: Bytes::kib(16),
            headers: 64,
            batch_events: 100,
            auth_timeout: Duration::seconds(5),
            header_timeout: Duration::seconds(10),
            body_timeout: Duration::seconds(30),
            new_connections_per_second: 500,
            replay_page_events: 1000,
            replay_page_bytes: Bytes::mib(4),
            concurrent_replays: 64,
            schema_cache_bytes: Bytes::mib(128),
            jwt_bytes: 4096,
            jwt_leeway: Duration::seconds(30),
            ticket_lifetime: Duration::seconds(30),
            access_window: Duration::seconds(5),
            enforce_wait: Duration::seconds(2),
            drain: Duration::seconds(30),
            drain_spread: Duration::seconds(20),
        }
    }
}

impl Limits {
    /// Its breaches.
    pub(super) fn check(&self, check: &mut Check) {
        check.range("limits.body_bytes", self.body_bytes, Bytes::kib(1), Bytes::mib(64));
        check.range("limits.header_bytes", self.header_bytes, Bytes::kib(8), Bytes::mib(1));
        check.range("limits.headers", self.headers, 16, 1024);
        check.range("limits.batch_events", self.batch_events, 1, 1000);
        check.duration("limits.auth_timeout", self.auth_timeout, "100ms", "1m");
        check.duration("limits.header_timeout", self.header_timeout, "100ms", "1m");
        check.duration("limits.body_timeout", self.body_timeout, "100ms", "10m");
        check.range("limits.new_connections_per_second", self.new_connections_per_second, 0, 1_000_000);
        check.range("limits.replay_page_events", self.replay_page_events, 1, 1000);
        check.range("limits.replay_page_bytes", self.replay_page_bytes, Bytes::kib(256), Bytes::mib(64));
        check.range("limits.concurrent_replays", self.concurrent_replays, 1, 4096);
        check.range("limits.schema_cache_bytes", self.schema_cache_bytes, Bytes::mib(1), Bytes::mib(1 << 20));
        check.range("limits.jwt_bytes", self.jwt_bytes, 256, self.header_bytes.size());
        check.duration("limits.jwt_leeway", self.jwt_leeway, "0s", "5m");
        check.duration("limits.ticket_lifetime", self.ticket_lifetime, "1s", "10m");
        check.duration("limits.access_window", self.access_window, "1s", "1m");
        check.duration("limits.enforce_wait", self.enforce_wait, "0s", "1m");
        check.duration("limits.drain", self.drain, "0s", "1h");
        check.that(self.drain_spread <= self.drain, "limits.drain_spread", || {
            format!(
                "{} is longer than limits.drain = {}: lower it, or wait longer for connections",
                self.drain_spread, self.drain
            )
        });
    }
}

mirror! {
    /// `[graphql]`, field by field [`weir_gateway::graphql::Limits`], whose defaults hold.
    pub struct Graphql of weir_gateway::graphql::Limits {
        query_bytes: Bytes,
        tokens: usize,
        depth: usize,
        cost: usize,
        aliases: usize,
        directives: usize,
        subscriptions: usize,
        introspection: bool,
        explorer: bool,
    }
}

impl Graphql {
    /// Its breaches.
    pub(super) fn check(&self, check: &mut Check) {
        check.range("graphql.query_bytes", self.query_bytes, Bytes::kib(1), Bytes::mib(1));
        check.range("graphql.tokens", self.tokens, 100, 20_000);
        check.range("graphql.depth", self.depth, 3, 20);
        check.range("graphql.cost", self.cost, 10, 10_000);
        check.range("graphql.aliases", self.aliases, 0, 1_000);
        check.range("graphql.directives", self.directives, 0, 1_000);
        check.range("graphql.subscriptions", self.subscriptions, 1, 1_000);
    }
}
