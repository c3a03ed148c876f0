//! What client tokens of a project are signed with: secrets, public keys, and sets of public keys.

use serde::{Deserialize, Serialize};
use weir_core::{ProjectId, SigningKeyId, TenantId, Timestamp};

/// Signing keys of a project that are not revoked, at most.
pub const MAX_SIGNING_KEYS: u32 = 100;
/// Of these, sets of keys (JWKS), at most: each may have to be searched for a token's `kid`.
pub const MAX_KEY_SETS: u32 = 10;

macro_rules! algorithms {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal;)+) => {
        /// How a client token is signed, by the names of RFC 7518.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum SigningAlgorithm {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl SigningAlgorithm {
            /// Every algorithm.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name that JWT headers use.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

algorithms! {
    /// HMAC-SHA256 with a shared secret.
    Hs256 = "HS256";
    /// RSA PKCS#1 v1.5 with SHA-256.
    Rs256 = "RS256";
    /// RSA PKCS#1 v1.5 with SHA-384.
    Rs384 = "RS384";
    /// RSA PKCS#1 v1.5 with SHA-512.
    Rs512 = "RS512";
    /// RSA PSS with SHA-256.
    Ps256 = "PS256";
    /// RSA PSS with SHA-384.
    Ps384 = "PS384";
    /// RSA PSS with SHA-512.
    Ps512 = "PS512";
    /// ECDSA on P-256 with SHA-256.
    Es256 = "ES256";
    /// ECDSA on P-384 with SHA-384.
    Es384 = "ES384";
    /// Ed25519.
    EdDsa = "EdDSA";
}

impl SigningAlgorithm {
    /// The algorithm of this name, exactly as a JWT header writes it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|algorithm| algorithm.as_str() == text)
    }
}

/// What a token's signature is held against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SigningMaterial {
    /// HS256 with a shared secret, as [`crate::seal::Sealer`] wrote it.
    Secret(Vec<u8>),
    /// One public key.
    PublicKey {
        /// The one algorithm that it is used with.
        algorithm: SigningAlgorithm,
        /// The key as PEM or JWK.
        key: String,
    },
    /// A document with public keys (JWKS).
    KeySet(String),
    /// Where such a document is published.
    KeySetUrl(String),
}

impl SigningMaterial {
    /// The name of the kind.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Secret(_) => "secret",
            Self::PublicKey { .. } => "public_key",
            Self::KeySet(_) => "jwks",
            Self::KeySetUrl(_) => "jwks_url",
        }
    }

    /// The one algorithm; `None` for sets, whose keys name their own.
    #[must_use]
    pub const fn algorithm(&self) -> Option<SigningAlgorithm> {
        match self {
            Self::Secret(_) => Some(SigningAlgorithm::Hs256),
            Self::PublicKey { algorithm, .. } => Some(*algorithm),
            Self::KeySet(_) | Self::KeySetUrl(_) => None,
        }
    }

    /// What is no secret of it: a key, a document or a URL.
    #[must_use]
    pub fn public(&self) -> Option<&str> {
        match self {
            Self::Secret(_) => None,
            Self::PublicKey { key: text, .. } | Self::KeySet(text) | Self::KeySetUrl(text) => Some(text),
        }
    }
}

/// What tokens allow whose issuer cannot write our claims into them: patterns in which `{sub}` stands for the token's
/// subject. Where they are set, they replace the claims.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicTemplates {
    /// What may be subscribed to and replayed.
    #[serde(default)]
    pub subscribe: Vec<String>,
    /// What may be published to.
    #[serde(default)]
    pub publish: Vec<String>,
}

/// A key, or a set of keys, that signs client tokens of one project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningKey {
    /// Its id: the `kid` of its tokens, unless it is a set, whose keys have names of their own.
    pub id: SigningKeyId,
    /// Whose it is.
    pub tenant_id: TenantId,
    /// The project whose tokens it signs.
    pub project_id: ProjectId,
    /// What its owner calls it; may be empty.
    pub name: String,
    /// What signatures are held against.
    pub material: SigningMaterial,
    /// What its tokens allow, if they do not say so themselves.
    pub templates: Option<TopicTemplates>,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on its tokens are refused.
    pub revoked_at: Option<Timestamp>,
}

/// A signing key to make.
#[derive(Clone, Debug)]
pub struct NewSigningKey {
    /// Its id.
    pub id: SigningKeyId,
    /// What its owner calls it: up to 128 characters, none of them control characters.
    pub name: String,
    /// What signatures are held against; a secret is sealed for this id.
    pub material: SigningMaterial,
    /// What its tokens allow, if they do not say so themselves.
    pub templates: Option<TopicTemplates>,
}
