//! One key and the one algorithm that it is used with. A token's header may only repeat that algorithm: a key that
//! were used with what a token asks for could be an RSA key taken for an HMAC secret.

use aws_lc_rs::rsa::PublicEncryptingKey;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents,
    VerificationAlgorithm,
};
use aws_lc_rs::{digest, hmac};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use weir_store::SigningAlgorithm as Algorithm;

/// Bits of an RSA key at least; more than the greatest the library refuses.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// A public key by what it is, whatever it is called: SHA-256 of algorithm and key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thumbprint([u8; 32]);

/// A key, ready to verify with.
pub(crate) struct VerifyingKey {
    algorithm: Algorithm,
    kind: Kind,
}

enum Kind {
    Secret(Box<hmac::Key>),
    Public(ParsedPublicKey, Thumbprint),
}

/// A public key as RFC 7517 and 7518 write it, as far as it is read here.
#[derive(Deserialize)]
pub(crate) struct Jwk {
    kty: String,
    pub(super) kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    /// The private part of a key pair, or a secret: nobody should have sent it.
    d: Option<serde::de::IgnoredAny>,
    k: Option<serde::de::IgnoredAny>,
}

impl VerifyingKey {
    /// A shared secret, for HS256.
    pub(crate) fn secret(secret: &[u8]) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        Self { algorithm: Algorithm::Hs256, kind: Kind::Secret(Box::new(key)) }
    }

    /// A public key as PEM (`PUBLIC KEY` or `RSA PUBLIC KEY`) or as a JWK. RSA keys are for RS256 if neither `wanted`
    /// nor the key says otherwise; the other kinds have one algorithm each.
    pub(crate) fn public(text: &str, wanted: Option<Algorithm>) -> Result<Self, String> {
        if text.trim_start().starts_with('{') {
            let jwk: Jwk =
                serde_json::from_str(text).map_err(|error| format!("the JWK cannot be read: {error}"))?;
            return Self::jwk(&jwk, wanted);
        }
        Self::der(&pem(text)?, wanted)
    }

    fn der(der: &[u8], wanted: Option<Algorithm>) -> Result<Self, String> {
        for algorithm in [Algorithm::EdDsa, Algorithm::Es256, Algorithm::Es384] {
            if let Ok(key) = ParsedPublicKey::new(parameters(algorithm), der) {
                return Self::made(key, algorithm, wanted);
            }
        }
        let bits = PublicEncryptingKey::from_der(der)
            .map(|key| key.key_size_bits())
            .map_err(|_| "the key is none of RSA, P-256, P-384 and Ed25519".to_owned())?;
        let algorithm = rsa_algorithm(wanted, bits)?;
        let key = ParsedPublicKey::new(parameters(algorithm), der).map_err(|_| "the RSA key is not valid")?;
        Self::made(key, algorithm, wanted)
    }

    /// A key of a set, or alone.
    pub(crate) fn jwk(jwk: &Jwk, wanted: Option<Algorithm>) -> Result<Self, String> {
        if jwk.d.is_some() || jwk.k.is_some() {
            return Err(
                "it holds a private key or secret: send only the public part, and make a new key".into()
            );
        }
        if jwk.usage.as_deref().is_some_and(|usage| usage != "sig")
            || jwk.key_ops.as_ref().is_some_and(|ops| ops.iter().all(|op| op != "verify"))
        {
            return Err("its `use` or `key_ops` say that it is not for signatures".into());
        }
        let named = jwk.alg.as_deref().map(|name| Algorithm::parse(name).ok_or(name)).transpose();
        let named = named.map_err(|name| format!("its `alg` is `{name}`, which is not taken"))?;
        if let (Some(named), Some(wanted)) = (named, wanted)
            && named != wanted
        {
            return Err(format!("its `alg` is {}, not {}", named.as_str(), wanted.as_str()));
        }
        let wanted = named.or(wanted);
        let curve = jwk.crv.as_deref().unwrap_or_default();
        let (algorithm, size) = match (jwk.kty.as_str(), curve) {
            ("RSA", _) => return Self::rsa(jwk, wanted),
            ("EC", "P-256") => (Algorithm::Es256, 32),
            ("EC", "P-384") => (Algorithm::Es384, 48),
            ("OKP", "Ed25519") => (Algorithm::EdDsa, 32),
            (kty, _) => return Err(format!("its `kty` `{kty}` with `crv` `{curve}` is not taken")),
        };
        let mut point = number("x", jwk.x.as_deref())?;
        if algorithm != Algorithm::EdDsa {
            let y = number("y", jwk.y.as_deref())?;
            if point.len() != size || y.len() != size {
                return Err(format!("its coordinates must have {size} bytes each"));
            }
            point.insert(0, 4); // Uncompressed, as SEC 1 writes a point.
            point.extend(y);
        } else if point.len() != size {
            return Err(format!("its `x` must have {size} bytes"));
        }
        let key = ParsedPublicKey::new(parameters(algorithm), &point)
            .map_err(|_| format!("it is not a key of the curve {curve}"))?;
        Self::made(key, algorithm, wanted)
    }

    fn rsa(jwk: &Jwk, wanted: Option<Algorithm>) -> Result<Self, String> {
        let (n, e) = (number("n", jwk.n.as_deref())?, number("e", jwk.e.as_deref())?);
        let bits = n.len() * 8 - n.first().map_or(0, |first| first.leading_zeros() as usize);
        let algorithm = rsa_algorithm(wanted, bits)?;
        let key = RsaPublicKeyComponents { n: &n, e: &e }
            .to_parsed_public_key(rsa_parameters(algorithm))
            .map_err(|_| "it is not an RSA key (`n` and `e` have no leading zeros)".to_owned())?;
        Self::made(key, algorithm, wanted)
    }

    fn made(key: ParsedPublicKey, algorithm: Algorithm, wanted: Option<Algorithm>) -> Result<Self, String> {
        if let Some(wanted) = wanted.filter(|wanted| *wanted != algorithm) {
            return Err(format!("the key is for {}, not for {}", algorithm.as_str(), wanted.as_str()));
        }
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(algorithm.as_str().as_bytes());
        hash.update(key.as_ref());
        let mut thumbprint = [0; 32];
        thumbprint.copy_from_slice(hash.finish().as_ref());
        Ok(Self { algorithm, kind: Kind::Public(key, Thumbprint(thumbprint)) })
    }

    /// The one algorithm.
    pub(crate) const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// What a public key is; `None` for a secret.
    pub(crate) const fn thumbprint(&self) -> Option<Thumbprint> {
        match &self.kind {
            Kind::Secret(_) => None,
            Kind::Public(_, thumbprint) => Some(*thumbprint),
        }
    }

    /// Whether this key made the signature, by its own algorithm.
    pub(crate) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.kind {
            Kind::Secret(key) => hmac::verify(key, message, signature).is_ok(),
            Kind::Public(key, _) => key.verify_sig(message, signature).is_ok(),
        }
    }
}

fn rsa_algorithm(wanted: Option<Algorithm>, bits: usize) -> Result<Algorithm, String> {
    if !RSA_BITS.contains(&bits) {
        return Err(format!(
            "the RSA key has {bits} bits; {} to {} are taken",
            RSA_BITS.start(),
            RSA_BITS.end()
        ));
    }
    let wanted = wanted.unwrap_or(Algorithm::Rs256);
    match wanted.as_str().get(..2) {
        Some("RS" | "PS") => Ok(wanted),
        _ => Err(format!("the key is an RSA key, which is not for {}", wanted.as_str())),
    }
}

fn rsa_parameters(algorithm: Algorithm) -> &'static RsaParameters {
    match algorithm {
        Algorithm::Rs384 => &RSA_PKCS1_2048_8192_SHA384,
        Algorithm::Rs512 => &RSA_PKCS1_2048_8192_SHA512,
        Algorithm::Ps256 => &RSA_PSS_2048_8192_SHA256,
        Algorithm::Ps384 => &RSA_PSS_2048_8192_SHA384,
        Algorithm::Ps512 => &RSA_PSS_2048_8192_SHA512,
        _ => &RSA_PKCS1_2048_8192_SHA256,
    }
}

fn parameters(algorithm: Algorithm) -> &'static dyn VerificationAlgorithm {
    match algorithm {
        Algorithm::Es256 => &ECDSA_P256_SHA256_FIXED,
        Algorithm::Es384 => &ECDSA_P384_SHA384_FIXED,
        Algorithm::EdDsa => &ED25519,
        other => rsa_parameters(other),
    }
}

fn number(name: &str, text: Option<&str>) -> Result<Vec<u8>, String> {
    let text = text.ok_or_else(|| format!("its `{name}` is missing"))?;
    BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| format!("its `{name}` is not base64url without padding"))
}

/// What a PEM block holds, DER.
fn pem(text: &str) -> Result<Vec<u8>, String> {
    let wrong = || "the key is neither a JWK nor PEM with `-----BEGIN PUBLIC KEY-----`".to_owned();
    let block = text.trim().strip_prefix("-----BEGIN ").ok_or_else(wrong)?;
    let (label, rest) = block.split_once("-----").ok_or_else(wrong)?;
    if label.contains("PRIVATE") {
        return Err("this is a private key: send the public one, and make a new pair".into());
    }
    if label == "CERTIFICATE" {
        return Err("this is a certificate: send its key (`openssl x509 -pubkey -noout`)".into());
    }
    if !matches!(label, "PUBLIC KEY" | "RSA PUBLIC KEY") {
        return Err(format!("the PEM block is a `{label}`, not a `PUBLIC KEY`"));
    }
    let body = rest.strip_suffix(&format!("-----END {label}-----")).ok_or_else(wrong)?;
    let body: String = body.split_ascii_whitespace().collect();
    BASE64_STANDARD.decode(body).map_err(|_| wrong())
}
