//! Who asks: what every resolver finds in its context.

use crate::credentials;
use crate::extract::{self, charge, request_id};
use crate::middleware::RateHeaders;
use crate::rest::invalid;
use crate::scene;
use crate::state::Gateway;
use async_graphql::Context;
use axum::http::request::Parts;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::OnceCell;
use weir_core::{RequestId, TenantId};
use weir_engine::admin::{May, Permit};
use weir_engine::{Caller, Credentials, Error, Principal, Reach, Session};

/// The caller of one operation.
pub(super) struct Viewer {
    pub(super) gateway: Arc<Gateway>,
    pub(super) request: RequestId,
    credentials: Credentials,
    /// Who publishes and reads, or why these credentials cannot.
    caller: Result<Arc<Caller>, Error>,
    /// Who administers; asked for when something is administered.
    principal: OnceCell<Arc<Principal>>,
    /// The connection that the operation came over, where there is one.
    session: Option<Arc<Session>>,
    rate: Option<RateHeaders>,
    /// The operation itself counted as one unit of the caller's rate, and pays for its first publish.
    paid: AtomicBool,
}

impl Viewer {
    /// Of an HTTP request; takes a unit of the caller's rate.
    pub(super) async fn of_request(gateway: &Arc<Gateway>, parts: &Parts) -> Result<Self, Error> {
        let given = credentials::from_headers(&parts.headers)?.ok_or_else(credentials::missing)?;
        let caller = gateway.engine.authenticate(given.clone()).await;
        let rate = parts.extensions.get::<RateHeaders>().cloned();
        let viewer = Self {
            gateway: Arc::clone(gateway),
            request: request_id(parts),
            credentials: given,
            caller,
            principal: OnceCell::new(),
            session: None,
            rate,
            paid: AtomicBool::new(true),
        };
        match &viewer.caller {
            Ok(caller) => {
                extract::take(caller, 1, viewer.rate.as_ref())?;
                gateway.engine.count_request(caller.place.tenant, Some(caller.place.project));
                scene::identify(caller);
            }
            // People have no project of their own, and may look while their tenant is suspended.
            Err(error) => {
                let principal = viewer.principal().await.map_err(|_| error.clone())?;
                charge(principal.take(1), 1, viewer.rate.as_ref())?;
                if let Reach::Tenant(tenant) = principal.reach {
                    gateway.engine.count_request(tenant, principal.project);
                    scene::identify_tenant(tenant, principal.project);
                }
            }
        }
        Ok(viewer)
    }

    /// Of an operation on a live connection; takes a unit of the caller's rate.
    pub(super) fn over_connection(
        gateway: &Arc<Gateway>,
        request: RequestId,
        credentials: Credentials,
        session: Arc<Session>,
    ) -> Result<Self, Error> {
        let caller = session.caller();
        extract::take(&caller, 1, None)?;
        Ok(Self {
            gateway: Arc::clone(gateway),
            request,
            credentials,
            caller: Ok(caller),
            principal: OnceCell::new(),
            session: Some(session),
            rate: None,
            paid: AtomicBool::new(true),
        })
    }

    /// The one of the operation that is executed. Every operation is given one.
    pub(super) fn of<'a>(ctx: &Context<'a>) -> &'a Arc<Self> {
        ctx.data_unchecked::<Arc<Self>>()
    }

    /// Who publishes and reads, as of now: a connection's credentials can be narrowed while it lives.
    pub(super) fn caller(&self) -> Result<Arc<Caller>, Error> {
        self.session.as_ref().map_or_else(|| self.caller.clone(), |session| Ok(session.caller()))
    }

    /// Takes what one publish costs: of the credential's rate, and on a connection of that one's.
    pub(super) fn take_publish(&self) -> Result<(), Error> {
        if let Some(session) = &self.session {
            session.take_publish()?;
        }
        if self.paid.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        extract::take(&*self.caller()?, 1, self.rate.as_ref())
    }

    async fn principal(&self) -> Result<&Arc<Principal>, Error> {
        let ask = || self.gateway.engine.principal(self.credentials.clone());
        self.principal.get_or_try_init(ask).await
    }

    /// Proof of a permission.
    ///
    /// # Errors
    /// `INSUFFICIENT_SCOPE`, naming what is missing.
    pub(super) async fn may<P: Permit>(&self) -> Result<May<P>, Error> {
        May::check(Arc::clone(self.principal().await?), self.request.clone())
    }

    /// The same for what goes on for long: credentials are looked at again.
    pub(super) async fn still_may<P: Permit>(&self) -> Result<May<P>, Error> {
        May::check(self.gateway.engine.principal(self.credentials.clone()).await?, self.request.clone())
    }
}

/// Reads an id.
pub(super) fn id<T: FromStr>(field: &str, text: &str) -> Result<T, Error> {
    let why = || format!("is not an id of that kind: `{}`", crate::query::cut(text));
    text.parse().map_err(|_| invalid(field, &why()))
}

/// The tenant that is named, or the caller's own.
pub(super) fn tenant_or_own<P: Permit>(may: &May<P>, named: Option<&str>) -> Result<TenantId, Error> {
    match (named, may.principal().reach) {
        (Some(named), _) => id("tenant_id", named),
        (None, Reach::Tenant(own)) => Ok(own),
        (None, Reach::Installation) => Err(invalid("tenant_id", "is needed: you reach every tenant")),
    }
}
