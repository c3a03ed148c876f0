//! `/v1/admin/signing-keys`.

use super::list::{List, page};
use super::{Admin, Id};
use crate::error::{ErrorBody, Failure};
use crate::extract::RawBody;
use crate::query::Query;
use crate::rest::{Enforced, invalid};
use crate::state::Gateway;
use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;
use utoipa::ToSchema;
use weir_core::{ProjectId, Secret, SigningKeyId, Timestamp};
use weir_engine::access::SigningInput;
use weir_engine::admin::permits::{KeysRead, KeysWrite};
use weir_engine::admin::{May, SigningWish};
use weir_engine::{Error, SigningAlgorithm, SigningKey, SigningMaterial, TopicTemplates};

/// What client tokens of a project are signed with; a secret is not shown.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SigningKeyBody {
    /// Its id: the `kid` of its tokens, unless it is a key set, whose keys have names of their own.
    #[schema(value_type = String, example = "sig_0190f5d2a6b07c3e8f4b1d2c3a495867")]
    id: SigningKeyId,
    /// The project whose tokens it signs.
    #[schema(value_type = String)]
    project_id: ProjectId,
    /// What its owner calls it.
    name: String,
    /// `secret`, `public_key`, `jwks` or `jwks_url`.
    kind: &'static str,
    /// The one algorithm; absent for key sets, whose keys have their own.
    algorithm: Option<&'static str>,
    /// The key as it was given (PEM, or a JWK as text), for `public_key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    public_key: Option<String>,
    /// The document as text, for `jwks`.
    #[serde(skip_serializing_if = "Option::is_none")]
    jwks: Option<String>,
    /// Where it is fetched, for `jwks_url`.
    #[serde(skip_serializing_if = "Option::is_none")]
    jwks_url: Option<String>,
    /// What its tokens allow, if they do not say so themselves.
    topics: Option<TopicsBody>,
    /// False once it is revoked.
    is_active: bool,
    /// When it was revoked.
    #[schema(value_type = Option<String>, format = DateTime)]
    revoked_at: Option<Timestamp>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

/// Patterns in which `{sub}` stands for the token's subject. They take the place of the claims `subscribe` and
/// `publish`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TopicsBody {
    /// What may be subscribed to and replayed; at most 32.
    #[serde(default)]
    subscribe: Vec<String>,
    /// What may be published to; at most 32.
    #[serde(default)]
    publish: Vec<String>,
}

impl From<SigningKey> for SigningKeyBody {
    fn from(key: SigningKey) -> Self {
        let (kind, algorithm) = (key.material.kind(), key.material.algorithm());
        let (mut public_key, mut jwks, mut jwks_url) = (None, None, None);
        match key.material {
            SigningMaterial::Secret(_) => {}
            SigningMaterial::PublicKey { key, .. } => public_key = Some(key),
            SigningMaterial::KeySet(document) => jwks = Some(document),
            SigningMaterial::KeySetUrl(url) => jwks_url = Some(url),
        }
        Self {
            id: key.id,
            project_id: key.project_id,
            name: key.name,
            kind,
            algorithm: algorithm.map(SigningAlgorithm::as_str),
            public_key,
            jwks,
            jwks_url,
            topics: key
                .templates
                .map(|TopicTemplates { subscribe, publish }| TopicsBody { subscribe, publish }),
            is_active: key.revoked_at.is_none(),
            revoked_at: key.revoked_at,
            created_at: key.created_at,
        }
    }
}

/// A new signing key. A generated secret is in this answer and nowhere else.
#[derive(Serialize, ToSchema)]
pub(crate) struct NewSigningKeyBody {
    #[serde(flatten)]
    key: SigningKeyBody,
    /// The secret that was made: its text is the key of HS256.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

/// A revoked signing key, and where it is refused already.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RevokedSigningKeyBody {
    #[serde(flatten)]
    key: SigningKeyBody,
    /// Where it holds already.
    enforced: Enforced,
}

/// A signing key to make: one of `secret`, `public_key`, `jwks` and `jwks_url`, or none of them for a secret that is
/// made here.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateSigningKey {
    /// The project whose tokens it signs; an API key's own when absent.
    #[schema(value_type = Option<String>)]
    project_id: Option<ProjectId>,
    /// Up to 128 characters.
    #[serde(default)]
    name: String,
    /// A secret of yours for HS256: 32 to 512 bytes, used as they stand here.
    secret: Option<String>,
    /// A public key: PEM (`PUBLIC KEY`) as text, or a JWK as object or text.
    #[schema(value_type = Option<Object>)]
    public_key: Option<Value>,
    /// The algorithm of an RSA `public_key`: `RS256` (when absent and the JWK has no `alg`), `RS384`, `RS512`, `PS256`,
    /// `PS384` or `PS512`. P-256 keys are for `ES256`, P-384 for `ES384`, Ed25519 for `EdDSA`.
    algorithm: Option<String>,
    /// A JWKS document as object or text: at most 64 KiB and 100 keys. Its keys need a `kid`, and RSA keys an `alg`
    /// unless that is `RS256`.
    #[schema(value_type = Option<Object>)]
    jwks: Option<Value>,
    /// Where such a document is published: https.
    jwks_url: Option<String>,
    /// What its tokens allow, if they do not say so themselves.
    topics: Option<TopicsBody>,
}

impl CreateSigningKey {
    fn input(&mut self) -> Result<SigningInput, Error> {
        let given = (self.secret.take(), self.public_key.take(), self.jwks.take(), self.jwks_url.take());
        let algorithm = self.algorithm.take().map(|name| {
            SigningAlgorithm::parse(&name)
                .ok_or_else(|| invalid("algorithm", "is not the name of one, such as RS256"))
        });
        let algorithm = algorithm.transpose()?;
        if algorithm.is_some() && given.1.is_none() {
            return Err(invalid("algorithm", "goes with `public_key` only"));
        }
        match given {
            (None, None, None, None) => Ok(SigningInput::Generate),
            (Some(secret), None, None, None) => Ok(SigningInput::Secret(Secret::new(secret))),
            (None, Some(key), None, None) => {
                Ok(SigningInput::PublicKey { key: text("public_key", key)?, algorithm })
            }
            (None, None, Some(document), None) => Ok(SigningInput::KeySet(text("jwks", document)?)),
            (None, None, None, Some(url)) => Ok(SigningInput::KeySetUrl(url)),
            _ => Err(invalid(
                "secret",
                "stands beside another: give one of secret, public_key, jwks and jwks_url",
            )),
        }
    }
}

/// What is JSON itself may be given as it is, or as text.
fn text(field: &str, value: Value) -> Result<String, Error> {
    match value {
        Value::String(text) => Ok(text),
        Value::Object(_) => Ok(value.to_string()),
        _ => Err(invalid(field, "must be text or an object")),
    }
}

fn project<P: weir_engine::admin::Permit>(
    may: &May<P>,
    named: Option<ProjectId>,
) -> Result<ProjectId, Error> {
    let missing = || invalid("project_id", "is needed: the project whose tokens are signed");
    named.or(may.principal().project).ok_or_else(missing)
}

/// List signing keys.
///
/// Those of one project, revoked ones included.
#[utoipa::path(get, path = "/v1/admin/signing-keys", tag = "admin", extensions(("x-permission" = json!("keys:read"))),
    params(("project_id" = Option<String>, Query, description = "The project; an API key's own when absent"),
        ("limit" = Option<u32>, Query, description = "1 to 1000, 100 when absent", minimum = 1, maximum = 1000),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before")),
    responses((status = 200, body = List<SigningKeyBody>), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn list(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<KeysRead>,
    RawQuery(query): RawQuery,
) -> Result<Json<List<SigningKeyBody>>, Failure> {
    let query = Query::parse(query.as_deref());
    let keys = async {
        let project = project(&admin.0, query.parsed("project_id", "a project id (`prj_…`)")?)?;
        gateway.engine.signing_keys(&admin.0, project, page(&query)?).await
    };
    let keys = keys.await.map_err(|error| admin.fail(error))?;
    Ok(Json(List::of(keys, |key| key.id, SigningKeyBody::from)))
}

/// Create a signing key.
///
/// A secret, a public key, or a set of public keys that is given or fetched. A project has at most 100, 10 of them key
/// sets.
#[utoipa::path(post, path = "/v1/admin/signing-keys", tag = "admin", extensions(("x-permission" = json!("keys:write"))),
    request_body = CreateSigningKey,
    responses((status = 201, body = NewSigningKeyBody), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn create(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<KeysWrite>,
    body: RawBody,
) -> Result<(StatusCode, Json<NewSigningKeyBody>), Failure> {
    let mut wish: CreateSigningKey = admin.read(&body)?;
    let made = async {
        let topics = wish.topics.take();
        let wish = SigningWish {
            project: project(&admin.0, wish.project_id)?,
            input: wish.input()?,
            name: wish.name,
            templates: topics.map(|TopicsBody { subscribe, publish }| TopicTemplates { subscribe, publish }),
        };
        gateway.engine.create_signing_key(&admin.0, wish).await
    };
    let (made, secret) = made.await.map_err(|error| admin.fail(error))?;
    // So that a token which is signed with it next is taken, whichever node gets it.
    gateway.engine.enforced(&made.change).await;
    let secret = secret.map(|secret| secret.expose().to_owned());
    Ok((StatusCode::CREATED, Json(NewSigningKeyBody { key: made.value.into(), secret })))
}

/// Revoke a signing key.
///
/// Its tokens are refused and the connections that they opened end: the answer says how far that has come.
#[utoipa::path(delete, path = "/v1/admin/signing-keys/{id}", tag = "admin", extensions(("x-permission" = json!("keys:write"))),
    params(("id" = String, Path, description = "The signing key")),
    responses((status = 200, body = RevokedSigningKeyBody), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn revoke(
    State(gateway): State<Arc<Gateway>>,
    admin: Admin<KeysWrite>,
    Id(id): Id<SigningKeyId>,
) -> Result<Json<RevokedSigningKeyBody>, Failure> {
    let changed = gateway.engine.revoke_signing_key(&admin.0, id).await.map_err(|error| admin.fail(error))?;
    let enforced = gateway.engine.enforced(&changed.change).await.into();
    Ok(Json(RevokedSigningKeyBody { key: changed.value.into(), enforced }))
}
