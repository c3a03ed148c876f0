//! `/v1/billing/checkout`, `/portal` and `/stripe/webhook`.

use crate::error::{ErrorBody, Failure};
use crate::extract::{RawBody, request_id};
use crate::rest::admin::Admin;
use crate::state::Gateway;
use axum::Json;
use axum::extract::{FromRequest, Request, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;
use weir_core::TenantId;
use weir_engine::admin::permits::BillingWrite;
use weir_engine::billing::stripe::Received;

/// For which tenant.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ForTenant {
    /// The tenant; one's own when absent, needed by operators.
    #[schema(value_type = Option<String>)]
    tenant_id: Option<TenantId>,
}

/// A page of the payment provider.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Link {
    /// Where to send the person's browser. It works once and for a short time.
    url: String,
}

/// What was done with a webhook.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReceivedBody {
    /// True: it is kept.
    received: bool,
    /// Whether it had come before.
    duplicate: bool,
}

fn wish(admin: &Admin<BillingWrite>, body: &RawBody) -> Result<ForTenant, Failure> {
    if body.bytes.is_empty() { Ok(ForTenant::default()) } else { admin.read(body) }
}

/// Subscribe.
///
/// Makes a form of the payment provider in which the tenant subscribes to the paid plan. The plan changes when the
/// provider says that the form was completed.
#[utoipa::path(post, path = "/v1/billing/checkout", tag = "billing", extensions(("x-permission" = json!("billing:write"))),
    request_body = ForTenant,
    responses((status = 201, body = Link), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 402, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn checkout(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<BillingWrite>,
    body: RawBody,
) -> Result<(StatusCode, Json<Link>), Failure> {
    let wish = wish(&admin, &body)?;
    let url = gateway.engine.checkout(&admin.0, wish.tenant_id).await.map_err(|error| admin.fail(error))?;
    Ok((StatusCode::CREATED, Json(Link { url })))
}

/// Look after payments.
///
/// Makes a page of the payment provider with the tenant's payment methods, invoices and subscription.
#[utoipa::path(post, path = "/v1/billing/portal", tag = "billing", extensions(("x-permission" = json!("billing:write"))),
    request_body = ForTenant,
    responses((status = 201, body = Link), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 402, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn portal(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<BillingWrite>,
    body: RawBody,
) -> Result<(StatusCode, Json<Link>), Failure> {
    let wish = wish(&admin, &body)?;
    let url = gateway.engine.portal(&admin.0, wish.tenant_id).await.map_err(|error| admin.fail(error))?;
    Ok((StatusCode::CREATED, Json(Link { url })))
}

/// Take a webhook of the payment provider.
///
/// For Stripe alone: it is believed by its signature over the body as it came. What it tells is asked of Stripe again,
/// so order and repetition do not matter.
#[utoipa::path(post, path = "/v1/billing/stripe/webhook", tag = "billing", security(()),
    params(("Stripe-Signature" = String, Header, description = "`t=…,v1=…`")), request_body = String,
    responses((status = 200, body = ReceivedBody), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 413, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn webhook(
    State(gateway): State<Arc<Gateway>>,
    request: Request,
) -> Result<Json<ReceivedBody>, Failure> {
    let (parts, body) = request.into_parts();
    let id = request_id(&parts);
    let body = RawBody::from_request(Request::from_parts(parts, body), &gateway).await?;
    // Twice the header is as good as none: which one holds would be anybody's guess.
    let mut signatures = body.headers.get_all("stripe-signature").iter();
    let signature = signatures.next().filter(|_| signatures.next().is_none());
    let signature = signature.and_then(|value| value.to_str().ok());
    let received = gateway.engine.payment_webhook(signature, &body.bytes).await;
    let received = received.map_err(|error| Failure::new(error, id))?;
    Ok(Json(ReceivedBody { received: true, duplicate: received == Received::Known }))
}
