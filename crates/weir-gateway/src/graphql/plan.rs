//! An event stream that the executor has accepted: what the hub is to deliver, and how it looks.
//!
//! The executor parses, validates and coerces an `eventStream` like any operation; its resolver then notes the wish
//! and the compiled selection here, and the connection's transport hands both to the engine.

use super::shape::Compiled;
use async_graphql::Context;
use std::sync::{Arc, Mutex, PoisonError};
use weir_core::Pattern;
use weir_engine::Start;

/// What an event stream is to deliver.
pub(super) struct Plan {
    /// The name of the field in the answer: its alias, or `eventStream`.
    pub(super) name: String,
    pub(super) patterns: Vec<Pattern>,
    pub(super) start: Start,
    pub(super) compiled: Arc<Compiled>,
}

/// Where the resolver leaves the plan of its operation.
#[derive(Clone, Default)]
pub(super) struct Plans(Arc<Mutex<Option<Plan>>>);

impl Plans {
    pub(super) fn note(&self, ctx: &Context<'_>, patterns: Vec<Pattern>, after: Option<String>) {
        let plan = Plan {
            name: ctx.item.node.response_key().node.to_string(),
            patterns,
            start: after.map_or(Start::Live, Start::After),
            compiled: Arc::new(Compiled::of(ctx)),
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(plan);
    }

    pub(super) fn take(&self) -> Option<Plan> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
