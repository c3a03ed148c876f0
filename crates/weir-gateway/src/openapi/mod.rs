//! The OpenAPI document, generated from the handlers.

mod common;

use crate::rest::admin::{
    alerts, audit, connections, dead_letters, keys, members, projects, signing_keys, tenants, webhooks,
};
use crate::rest::billing::{invoices, payments, plan, usage};
use crate::rest::{auth, events, oidc, replay, schemas, storage, tickets, topics};
use common::Common;
use serde_json::json;
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};
use weir_core::Code;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Weir",
        description = "Publish, keep, deliver and resume events. WebSocket (`/ws`) and SSE (`/sse`) are described in docs/protocol.md.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    paths(events::publish, events::publish_batch, replay::replay, topics::list, tickets::create,
        tenants::list, tenants::create, tenants::read, tenants::change, tenants::remove, tenants::suspend, tenants::resume,
        projects::list, projects::create, projects::read, projects::change, projects::remove,
        members::list, members::invite, members::change, members::remove, members::invitations, members::withdraw,
        auth::sign_in, auth::refresh, auth::sign_out, auth::me, auth::password, auth::accept, oidc::start, oidc::callback,
        audit::list, audit::verify, audit::export, alerts::list, alerts::acknowledge,
        usage::report, usage::explain, storage::of_tenant, storage::of_billed,
        keys::list, keys::create, keys::read, keys::rotate, keys::revoke, connections::list, connections::end,
        signing_keys::list, signing_keys::create, signing_keys::revoke,
        webhooks::list, webhooks::create, webhooks::read, webhooks::change, webhooks::remove, webhooks::rotate, webhooks::test,
        webhooks::enable, webhooks::disable, webhooks::replay, webhooks::attempts,
        dead_letters::list, dead_letters::read, dead_letters::redrive, dead_letters::redrive_all, dead_letters::remove,
        plan::read, plan::set_spend_cap, plan::list, plan::add,
        invoices::list, payments::checkout, payments::portal, payments::webhook,
        schemas::list, schemas::read, schemas::versions, schemas::set, schemas::remove),
    tags((name = "events", description = "Publish, replay, look around"), (name = "connections", description = "Live connections"),
        (name = "auth", description = "People sign in"),
        (name = "billing", description = "What was used, what it costs, and who pays"),
        (name = "schemas", description = "What payloads must look like"),
        (name = "webhooks", description = "Events sent to endpoints, and what could not be"),
        (name = "admin", description = "Tenants, members, projects, keys")),
    security(("bearer" = []), ("api_key" = [])),
    modifiers(&Schemes, &Common)
)]
struct Document;

struct Schemes;

impl Modify for Schemes {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_with(Default::default);
        let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        components.add_security_scheme("bearer", bearer);
        let header = SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("X-API-Key")));
        components.add_security_scheme("api_key", header);
        // For the page at /docs: the closed list of error codes.
        let codes = Code::ALL.iter().map(|code| {
            json!({
                "code": code,
                "http_status": code.http_status(),
                "close_code": code.close_code(),
                "retryable": code.retryable(),
                "meaning": code.meaning().trim(),
            })
        });
        let codes = Extensions::builder().add("x-error-codes", codes.collect::<Vec<_>>()).build();
        document.extensions.get_or_insert_default().merge(codes);
    }
}

/// The document as indented JSON with a final line break.
#[must_use]
pub fn json() -> String {
    let mut text = Document::openapi().to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}
