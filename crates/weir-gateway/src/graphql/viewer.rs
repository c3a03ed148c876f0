//! Who asks: what every resolver finds in its context.

use crate::extract;
use crate::middleware::RateHeaders;
use crate::state::Gateway;
use async_graphql::Context;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use weir_core::RequestId;
use weir_engine::{Caller, Error, Session};

/// The caller of one operation.
pub(super) struct Viewer {
    pub(super) gateway: Arc<Gateway>,
    pub(super) request: RequestId,
    who: Arc<Caller>,
    /// The connection that the operation came over, where there is one.
    session: Option<Arc<Session>>,
    rate: Option<RateHeaders>,
    /// The operation itself counted as one unit of the caller's rate, and pays for its first publish.
    paid: AtomicBool,
}

impl Viewer {
    /// Takes a unit of the caller's rate for the operation.
    pub(super) fn admit(
        gateway: &Arc<Gateway>,
        request: RequestId,
        who: Arc<Caller>,
        session: Option<Arc<Session>>,
        rate: Option<RateHeaders>,
    ) -> Result<Self, Error> {
        extract::take(&who, 1, rate.as_ref())?;
        Ok(Self { gateway: Arc::clone(gateway), request, who, session, rate, paid: AtomicBool::new(true) })
    }

    /// The one of the operation that is executed. Every operation is given one.
    pub(super) fn of<'a>(ctx: &Context<'a>) -> &'a Self {
        ctx.data_unchecked::<Self>()
    }

    /// Who asks, as of now: a connection's credentials can be narrowed while it lives.
    pub(super) fn caller(&self) -> Result<Arc<Caller>, Error> {
        Ok(self.session.as_ref().map_or_else(|| Arc::clone(&self.who), |session| session.caller()))
    }

    /// Takes what one publish costs: of the credential's rate, and on a WebSocket of the connection's.
    pub(super) fn take_publish(&self) -> Result<(), Error> {
        if let Some(session) = &self.session {
            session.take_publish()?;
        }
        if self.paid.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        extract::take(&self.who, 1, self.rate.as_ref())
    }
}
