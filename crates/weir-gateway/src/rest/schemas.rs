//! `/v1/topics/{topic}/schema` and `/v1/schemas`: what payloads must look like.

use super::Enforced;
use super::admin::list::{List, page};
use super::admin::{Admin, Id};
use crate::error::{ErrorBody, Failure};
use crate::extract::{RawBody, request_id};
use crate::query::Query;
use crate::rest::invalid;
use crate::state::Gateway;
use axum::Json;
use axum::Router;
use axum::extract::{FromRequestParts, RawQuery, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::sync::Arc;
use utoipa::ToSchema;
use weir_core::{Pattern, ProjectId, Timestamp};
use weir_engine::admin::May;
use weir_engine::admin::permits::{SchemasRead, SchemasWrite};
use weir_engine::{Error, SchemaWish, TopicSchema};

/// The routes of topic schemas.
pub(crate) fn routes() -> Router<Arc<Gateway>> {
    Router::new()
        .route("/schemas", get(list))
        .route("/topics/{topic}/schema", get(read).put(set).delete(remove))
        .route("/topics/{topic}/schema/versions", get(versions))
}

/// One version of the schema of a topic or pattern.
#[derive(Serialize, ToSchema)]
pub(crate) struct SchemaBody {
    /// The topics that it holds for.
    #[schema(value_type = String, example = "orders.*")]
    pattern: Pattern,
    /// 1, 2, 3 …
    version: u32,
    /// The JSON Schema, as it was sent.
    #[schema(value_type = Value, example = json!({"type": "object", "required": ["total"]}))]
    schema: Box<RawValue>,
    /// Whether it was set although consumers of the version before may not understand what it accepts.
    forced: bool,
    /// When it was set.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// By whom, as in the audit trail.
    #[schema(example = "key:key_0190f5d2a6b07c3e8f4b1d2c3a495867")]
    created_by: String,
}

impl From<TopicSchema> for SchemaBody {
    fn from(schema: TopicSchema) -> Self {
        Self {
            pattern: schema.pattern,
            version: schema.version,
            // It was parsed before it was kept.
            schema: RawValue::from_string(schema.document).unwrap_or_else(|_| RawValue::NULL.to_owned()),
            forced: schema.forced,
            created_at: schema.created_at,
            created_by: schema.created_by,
        }
    }
}

/// A schema that was set or removed, and where that holds already.
#[derive(Serialize, ToSchema)]
pub(crate) struct ChangedSchema {
    #[serde(flatten)]
    schema: SchemaBody,
    /// Where it holds already; absent when what was sent is in force already.
    #[serde(skip_serializing_if = "Option::is_none")]
    enforced: Option<Enforced>,
}

/// A schema to set.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SetSchemaRequest {
    /// JSON Schema 2020-12, at most 64 KiB, references within it only.
    #[schema(value_type = Value, example = json!({"type": "object", "required": ["total"]}))]
    schema: Box<RawValue>,
    /// Set it even if it accepts what the version before did not.
    #[serde(default)]
    force: bool,
}

/// The project that is spoken of: the `X-Weir-Project` header's, else the API key's own.
fn project<P: weir_engine::admin::Permit>(may: &May<P>, headers: &HeaderMap) -> Result<ProjectId, Error> {
    let named = headers.get("x-weir-project").map(|value| value.to_str().unwrap_or("").parse());
    match named {
        Some(Ok(project)) => Ok(project),
        Some(Err(_)) => Err(invalid("X-Weir-Project", "must be a project id (`prj_…`)")),
        None => may.principal().project.ok_or_else(|| {
            invalid("X-Weir-Project", "is needed: the header names the project that you mean")
        }),
    }
}

/// The topic or pattern in the path.
pub(crate) struct InPath(Pattern);

impl FromRequestParts<Arc<Gateway>> for InPath {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, gateway: &Arc<Gateway>) -> Result<Self, Failure> {
        let Id(text) = Id::<String>::from_request_parts(parts, gateway).await?;
        text.parse().map(Self).map_err(|error| Failure::new(Error::from(error), request_id(parts)))
    }
}

/// The version that `If-Match` wants replaced; 0 for none, as `If-None-Match: *` says it.
fn replaces(headers: &HeaderMap) -> Result<Option<u32>, Error> {
    if headers.get(header::IF_NONE_MATCH).is_some_and(|value| value == "*") {
        return Ok(Some(0));
    }
    let Some(value) = headers.get(header::IF_MATCH).filter(|value| *value != "*") else { return Ok(None) };
    let version = value.to_str().ok().and_then(|tag| tag.trim_matches('"').parse().ok());
    version
        .map(Some)
        .ok_or_else(|| invalid("If-Match", "must be the `ETag` of the schema: its version in quotes"))
}

/// The answer with the version as its tag.
fn tagged(version: u32, body: impl Serialize) -> Response {
    let mut response = Json(body).into_response();
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{version}\"")) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// List topic schemas.
///
/// Those in force in the project, by pattern.
#[utoipa::path(get, path = "/v1/schemas", tag = "schemas", extensions(("x-permission" = json!("schemas:read"))),
    params(("X-Weir-Project" = Option<String>, Header, description = "The project; an API key's own when absent"),
        ("limit" = Option<u32>, Query, description = "1 to 1000, 100 when absent", minimum = 1, maximum = 1000),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before")),
    responses((status = 200, body = List<SchemaBody>), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn list(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<SchemasRead>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Json<List<SchemaBody>>, Failure> {
    let query = Query::parse(query.as_deref());
    let schemas =
        async { gateway.engine.schemas(&admin.0, project(&admin.0, &headers)?, page(&query)?).await };
    let schemas = schemas.await.map_err(|error| admin.fail(error))?;
    Ok(Json(List::of(schemas, |schema| schema.pattern.clone(), SchemaBody::from)))
}

/// Read the schema of a topic or pattern.
///
/// The one that was set for exactly this name. Which others hold for a topic too is told by their patterns.
#[utoipa::path(get, path = "/v1/topics/{topic}/schema", tag = "schemas", extensions(("x-permission" = json!("schemas:read"))),
    params(("topic" = String, Path, description = "A topic, or a pattern (`%3E` is `>`)"),
        ("X-Weir-Project" = Option<String>, Header, description = "The project; an API key's own when absent"),
        ("version" = Option<u32>, Query, description = "An older version, also of a schema that was removed")),
    responses((status = 200, body = SchemaBody), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn read(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<SchemasRead>,
    InPath(pattern): InPath,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let schema = async {
        let version = Query::parse(query.as_deref()).parsed("version", "a whole number")?;
        gateway.engine.schema(&admin.0, project(&admin.0, &headers)?, pattern, version).await
    };
    let schema = schema.await.map_err(|error| admin.fail(error))?;
    Ok(tagged(schema.version, SchemaBody::from(schema)))
}

/// List the versions of a schema.
///
/// Every one that the topic or pattern had, the oldest first; also after its removal.
#[utoipa::path(get, path = "/v1/topics/{topic}/schema/versions", tag = "schemas",
    extensions(("x-permission" = json!("schemas:read"))),
    params(("topic" = String, Path, description = "A topic, or a pattern (`%3E` is `>`)"),
        ("X-Weir-Project" = Option<String>, Header, description = "The project; an API key's own when absent"),
        ("limit" = Option<u32>, Query, description = "1 to 1000, 100 when absent", minimum = 1, maximum = 1000),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before")),
    responses((status = 200, body = List<SchemaBody>), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn versions(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<SchemasRead>,
    InPath(pattern): InPath,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Json<List<SchemaBody>>, Failure> {
    let query = Query::parse(query.as_deref());
    let versions = async {
        let project = project(&admin.0, &headers)?;
        gateway.engine.schema_versions(&admin.0, project, pattern, page(&query)?).await
    };
    let versions = versions.await.map_err(|error| admin.fail(error))?;
    Ok(Json(List::of(versions, |schema| schema.version, SchemaBody::from)))
}

/// Set the schema of a topic or pattern.
///
/// It becomes the next version, and holds for every event that is published after the answer on the nodes that it
/// counts. A version that accepts what the one before did not is refused, unless forced. What is in force already
/// makes no new version.
#[utoipa::path(put, path = "/v1/topics/{topic}/schema", tag = "schemas", extensions(("x-permission" = json!("schemas:write"))),
    params(("topic" = String, Path, description = "A topic, or a pattern (`%3E` is `>`)"),
        ("X-Weir-Project" = Option<String>, Header, description = "The project; an API key's own when absent"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` of the version to be replaced"),
        ("If-None-Match" = Option<String>, Header, description = "`*`: only if there is none")),
    request_body = SetSchemaRequest,
    responses((status = 200, body = ChangedSchema), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody),
        (status = 413, body = ErrorBody), (status = 415, body = ErrorBody), (status = 429, body = ErrorBody),
        (status = 503, body = ErrorBody)))]
pub(crate) async fn set(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<SchemasWrite>,
    InPath(pattern): InPath,
    body: RawBody,
) -> Result<Response, Failure> {
    let wish: SetSchemaRequest = admin.read(&body)?;
    let set = async {
        let wish = SchemaWish {
            pattern,
            document: wish.schema.get().to_owned(),
            force: wish.force,
            replaces: replaces(&body.headers)?,
        };
        gateway.engine.set_schema(&admin.0, project(&admin.0, &body.headers)?, wish).await
    };
    let set = set.await.map_err(|error| admin.fail(error))?;
    let enforced = match &set.change {
        Some(change) => Some(gateway.engine.enforced(change).await.into()),
        None => None,
    };
    Ok(tagged(set.schema.version, ChangedSchema { schema: set.schema.into(), enforced }))
}

/// Remove the schema of a topic or pattern.
///
/// Its versions stay readable, and their numbers go on when a schema is set again.
#[utoipa::path(delete, path = "/v1/topics/{topic}/schema", tag = "schemas", extensions(("x-permission" = json!("schemas:write"))),
    params(("topic" = String, Path, description = "A topic, or a pattern (`%3E` is `>`)"),
        ("X-Weir-Project" = Option<String>, Header, description = "The project; an API key's own when absent")),
    responses((status = 200, body = ChangedSchema), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn remove(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<SchemasWrite>,
    InPath(pattern): InPath,
    headers: HeaderMap,
) -> Result<Json<ChangedSchema>, Failure> {
    let removed =
        async { gateway.engine.remove_schema(&admin.0, project(&admin.0, &headers)?, pattern).await };
    let removed = removed.await.map_err(|error| admin.fail(error))?;
    let enforced = Some(gateway.engine.enforced(&removed.change).await.into());
    Ok(Json(ChangedSchema { schema: removed.value.into(), enforced }))
}
