//! What operations have in common and no handler says of itself: a name that no other has, the answers of the layers around the handlers, and
//! words for each answer.

use axum::http::StatusCode;
use utoipa::Modify;
use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, RefOr, Required, Response, ResponseBuilder};

/// Whoever shows credentials can be refused for them, or for asking too often; and anybody when something is away.
const CREDENTIALS: [u16; 4] = [401, 403, 429, 503];
/// A body can come too slowly, be too large, or be of another kind.
const BODY: [u16; 4] = [400, 408, 413, 415];
/// A write is a copy of one that is being carried out, or another one under the same key.
const KEYED: [u16; 3] = [400, 408, 409];

pub(super) struct Common;

impl Modify for Common {
    fn modify(&self, document: &mut OpenApi) {
        for (path, item) in &mut document.paths.paths {
            for (writes, operation) in operations(item) {
                operation.operation_id = operation.operation_id.take().map(|name| unique(path, &name));
                add_answers(path, writes, operation);
                operation.responses.responses.iter_mut().for_each(describe);
            }
        }
    }
}

/// Those that are there, each with whether it writes.
fn operations(item: &mut PathItem) -> impl Iterator<Item = (bool, &mut Operation)> {
    let reads = item.get.iter_mut().map(|operation| (false, operation));
    let writes = [&mut item.post, &mut item.put, &mut item.patch, &mut item.delete];
    reads.chain(writes.into_iter().flatten().map(|operation| (true, operation)))
}

/// `keys_rotate` for the handler `rotate` at `/v1/admin/keys/{id}/rotate`. What a handler is called is only unique in its module.
fn unique(path: &str, handler: &str) -> String {
    let fixed = path.split('/').filter(|part| !part.is_empty() && !part.starts_with('{'));
    let mut words: Vec<String> = fixed
        .filter(|part| !matches!(*part, "v1" | "admin" | "billing"))
        .map(|part| part.replace('-', "_"))
        .collect();
    if words.last().is_some_and(|last| handler.contains(last.as_str())) {
        words.pop();
    }
    words.push(handler.to_owned());
    words.join("_")
}

fn add_answers(path: &str, writes: bool, operation: &mut Operation) {
    let anybody = operation.security.as_ref().is_some_and(|needs| needs.contains(&Default::default()));
    if !anybody {
        add(operation, &CREDENTIALS);
    }
    // Stripe says itself what it sends.
    if operation.request_body.is_some() && !path.ends_with("/stripe/webhook") {
        add(operation, &BODY);
    }
    let administers =
        ["/v1/admin/", "/v1/billing/", "/v1/topics/"].iter().any(|begin| path.starts_with(begin));
    if writes && administers && !anybody {
        add(operation, &KEYED);
        take_key(operation);
    }
}

fn add(operation: &mut Operation, statuses: &[u16]) {
    for status in statuses {
        operation.responses.responses.entry(status.to_string()).or_insert_with(|| RefOr::T(refusal()));
    }
}

fn refusal() -> Response {
    let body = ContentBuilder::new().schema(Some(Ref::from_schema_name("ErrorBody"))).build();
    ResponseBuilder::new().content("application/json", body).build()
}

fn take_key(operation: &mut Operation) {
    const NAME: &str = "Idempotency-Key";
    let parameters = operation.parameters.get_or_insert_default();
    if parameters.iter().any(|one| matches!(one, RefOr::T(one) if one.name == NAME)) {
        return;
    }
    let text = ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(128));
    let key = ParameterBuilder::new()
        .name(NAME)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some("Copies of the request with the same key change nothing more"))
        .schema(Some(text))
        .build();
    parameters.push(RefOr::T(key));
}

/// OpenAPI wants words for each answer: those of HTTP.
fn describe((status, answer): (&String, &mut RefOr<Response>)) {
    let RefOr::T(answer) = answer else { return };
    if answer.description.is_empty() {
        let status = status.parse().ok().and_then(|status| StatusCode::from_u16(status).ok());
        answer.description =
            status.and_then(|status| status.canonical_reason()).unwrap_or("Answer").to_owned();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_made_of_the_path_and_the_handler() {
        for (path, handler, name) in [
            ("/v1/admin/keys", "list", "keys_list"),
            ("/v1/admin/keys/{id}/rotate", "rotate", "keys_rotate"),
            ("/v1/admin/tenants/{id}/projects", "list", "tenants_projects_list"),
            ("/v1/admin/dead-letters/redrive", "redrive_all", "dead_letters_redrive_all"),
            ("/v1/events", "publish", "events_publish"),
        ] {
            assert_eq!(unique(path, handler), name);
        }
    }

    #[test]
    fn every_operation_has_a_name_of_its_own_and_says_what_each_answer_is() {
        let document: serde_json::Value = serde_json::from_str(&super::super::json()).expect("JSON");
        let mut names = BTreeSet::new();
        for (path, item) in document["paths"].as_object().expect("paths") {
            for (method, operation) in item.as_object().expect("operations") {
                let name = operation["operationId"].as_str().expect("a name");
                assert!(names.insert(name.to_owned()), "{method} {path} is called {name}, as another is");
                for (status, answer) in operation["responses"].as_object().expect("answers") {
                    let words = answer["description"].as_str().unwrap_or_default();
                    assert!(!words.is_empty(), "{method} {path}: no word about {status}");
                }
            }
        }
        assert!(names.len() > 70, "{}", names.len());
    }
}
