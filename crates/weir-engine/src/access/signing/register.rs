//! What a tenant registers its tokens' signatures with, checked while somebody is there to mend it.

use super::key_set::MAX_BYTES;
use super::{KeySet, Templates, VerifyingKey};
use crate::Error;
use crate::access::Access;
use rand::RngExt;
use serde_json::json;
use weir_core::{Code, Secret, SigningKeyId};
use weir_store::{NewSigningKey, SigningAlgorithm, SigningMaterial, TopicTemplates};

/// Bytes of a given secret: as many as the hash has at least (RFC 7518, 3.2).
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 32..=512;
/// Bytes of a JWKS URL at most.
const URL_BYTES: usize = 2048;

/// What signatures are to be held against.
#[derive(Debug)]
pub enum SigningInput {
    /// A secret that is made here and shown once.
    Generate,
    /// A secret of the tenant's.
    Secret(Secret),
    /// A public key as PEM or JWK.
    PublicKey {
        /// The key.
        key: String,
        /// The algorithm, where the kind of key has several.
        algorithm: Option<SigningAlgorithm>,
    },
    /// A JWKS document.
    KeySet(String),
    /// Where one is published.
    KeySetUrl(String),
}

impl Access {
    /// Checks what is to be registered and seals what is secret of it. Returns a generated secret beside, to be shown
    /// once.
    ///
    /// # Errors
    /// `INVALID_REQUEST`, saying what is wrong with it.
    pub(crate) fn new_signing_key(
        &self,
        name: String,
        input: SigningInput,
        templates: Option<TopicTemplates>,
    ) -> Result<(NewSigningKey, Option<Secret>), Error> {
        if let Some(templates) = &templates {
            Templates::check(templates).map_err(|why| invalid("templates", why))?;
        }
        let id = SigningKeyId::new();
        let (material, shown) = match input {
            SigningInput::Generate => {
                let secret = generate();
                (self.sealed(id, &secret)?, Some(secret))
            }
            SigningInput::Secret(secret) => {
                let bytes = secret.expose().len();
                if !SECRET_BYTES.contains(&bytes) {
                    let (least, most) = (SECRET_BYTES.start(), SECRET_BYTES.end());
                    return Err(invalid(
                        "secret",
                        format!("it has {bytes} bytes; {least} to {most} are taken"),
                    ));
                }
                (self.sealed(id, &secret)?, None)
            }
            SigningInput::PublicKey { key, algorithm } => {
                let checked = if key.len() <= MAX_BYTES {
                    VerifyingKey::public(&key, algorithm)
                } else {
                    Err(format!("it has {} bytes; the limit is {MAX_BYTES}", key.len()))
                };
                let algorithm = checked.map_err(|why| invalid("public_key", why))?.algorithm();
                (SigningMaterial::PublicKey { algorithm, key }, None)
            }
            SigningInput::KeySet(document) => {
                KeySet::parse(document.as_bytes()).map_err(|why| invalid("jwks", why))?;
                (SigningMaterial::KeySet(document), None)
            }
            SigningInput::KeySetUrl(url) => {
                if url.len() > URL_BYTES {
                    return Err(invalid(
                        "jwks_url",
                        format!("it has {} bytes; the limit is {URL_BYTES}", url.len()),
                    ));
                }
                self.remotes.check(&url).map_err(|error| invalid("jwks_url", error.to_string()))?;
                (SigningMaterial::KeySetUrl(url), None)
            }
        };
        Ok((NewSigningKey { id, name, material, templates }, shown))
    }

    fn sealed(&self, id: SigningKeyId, secret: &Secret) -> Result<SigningMaterial, Error> {
        Ok(SigningMaterial::Secret(self.sealer.seal(id, secret.expose().as_bytes())?))
    }
}

/// 43 random letters and digits: 256 bits, and usable as a JWT secret by every library as it is.
fn generate() -> Secret {
    let mut rng = rand::rng();
    Secret::new((0..43).map(|_| char::from(rng.sample(rand::distr::Alphanumeric))).collect::<String>())
}

fn invalid(field: &str, why: impl std::fmt::Display) -> Error {
    Error::new(Code::InvalidRequest, format!("`{field}` cannot be used: {why}."))
        .with(json!({ "field": field }))
}
