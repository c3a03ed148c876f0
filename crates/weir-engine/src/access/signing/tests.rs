//! Keys of every kind against published examples and freshly made pairs; sets; and fetching them from a real server.

use super::key::Jwk;
use super::{KeySet, KeySetTimes, Remotes, VerifyingKey};
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{self, KeySize};
use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaEncoding};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use weir_core::{SigningKeyId, TenantId};
use weir_outbound::{Outbound, Policy};
use weir_store::SigningAlgorithm as Algorithm;

static RSA: LazyLock<rsa::KeyPair> =
    LazyLock::new(|| rsa::KeyPair::generate(KeySize::Rsa2048).expect("a key"));

fn base64(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn decode(text: &str) -> Vec<u8> {
    BASE64_URL_SAFE_NO_PAD.decode(text).expect("base64url")
}

fn pem(label: &str, der: &[u8]) -> String {
    let body: Vec<_> = BASE64_STANDARD.encode(der).into_bytes().chunks(64).map(<[u8]>::to_vec).collect();
    let body = String::from_utf8(body.join(&b'\n')).expect("ASCII");
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}

fn rsa_sign(encoding: &'static dyn RsaEncoding, message: &[u8]) -> Vec<u8> {
    let mut signature = vec![0; RSA.public_modulus_len()];
    RSA.sign(encoding, &SystemRandom::new(), message, &mut signature).expect("signs");
    signature
}

fn spki(key: &impl AsDer<PublicKeyX509Der<'static>>) -> Vec<u8> {
    key.as_der().expect("DER").as_ref().to_vec()
}

fn ec_jwk(crv: &str, public: &[u8]) -> Value {
    let (x, y) = public[1..].split_at(public.len() / 2);
    json!({ "kty": "EC", "crv": crv, "x": base64(x), "y": base64(y) })
}

fn ed_jwk(kid: &str, pair: &Ed25519KeyPair) -> Value {
    json!({ "kty": "OKP", "crv": "Ed25519", "kid": kid, "x": base64(pair.public_key().as_ref()) })
}

fn key(jwk: &Value) -> Result<VerifyingKey, String> {
    VerifyingKey::jwk(&serde_json::from_value::<Jwk>(jwk.clone()).expect("a JWK"), None)
}

/// Signatures of RFC 7515 (A.1 to A.3) and RFC 8037 (A.4): made by others, verified here.
#[test]
fn the_examples_of_the_standards_verify() {
    let claims =
        "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let secret =
        decode("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow");
    let rsa = json!({ "kty": "RSA", "e": "AQAB", "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ" });
    let p256 = json!({ "kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0" });
    let ed = json!({ "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" });
    let cases = [
        (
            VerifyingKey::secret(&secret),
            format!("eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{claims}"),
            "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
        ),
        (
            key(&rsa).expect("RSA"),
            format!("eyJhbGciOiJSUzI1NiJ9.{claims}"),
            "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
        ),
        (
            key(&p256).expect("P-256"),
            format!("eyJhbGciOiJFUzI1NiJ9.{claims}"),
            "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
        ),
        (
            key(&ed).expect("Ed25519"),
            "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc".to_owned(),
            "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
        ),
    ];
    for (key, message, signature) in cases {
        let signature = decode(signature);
        assert!(key.verify(message.as_bytes(), &signature), "{:?}", key.algorithm());
        assert!(!key.verify(format!("{message}x").as_bytes(), &signature));
        let mut changed = signature.clone();
        changed[7] ^= 1;
        assert!(!key.verify(message.as_bytes(), &changed) && !key.verify(message.as_bytes(), b""));
    }
}

#[test]
fn every_algorithm_verifies_its_own_signatures_and_no_other() {
    let pem = pem("PUBLIC KEY", &spki(RSA.public_key()));
    let encodings: [(Algorithm, &'static dyn RsaEncoding); 6] = [
        (Algorithm::Rs256, &signature::RSA_PKCS1_SHA256),
        (Algorithm::Rs384, &signature::RSA_PKCS1_SHA384),
        (Algorithm::Rs512, &signature::RSA_PKCS1_SHA512),
        (Algorithm::Ps256, &signature::RSA_PSS_SHA256),
        (Algorithm::Ps384, &signature::RSA_PSS_SHA384),
        (Algorithm::Ps512, &signature::RSA_PSS_SHA512),
    ];
    for (signed, encoding) in encodings {
        let signature = rsa_sign(encoding, b"message");
        for (algorithm, _) in encodings {
            let key = VerifyingKey::public(&pem, Some(algorithm)).expect("a key");
            assert_eq!(key.algorithm(), algorithm);
            assert_eq!(key.verify(b"message", &signature), signed == algorithm, "{signed:?} {algorithm:?}");
        }
    }
    let random = SystemRandom::new();
    for (crv, signing, algorithm) in [
        ("P-256", &signature::ECDSA_P256_SHA256_FIXED_SIGNING, Algorithm::Es256),
        ("P-384", &signature::ECDSA_P384_SHA384_FIXED_SIGNING, Algorithm::Es384),
    ] {
        let pair = EcdsaKeyPair::generate(signing).expect("a pair");
        let signed = pair.sign(&random, b"message").expect("signs");
        let jwk = ec_jwk(crv, pair.public_key().as_ref());
        for text in [self::pem("PUBLIC KEY", &spki(pair.public_key())), jwk.to_string()] {
            let key = VerifyingKey::public(&text, None).expect("a key");
            assert_eq!(key.algorithm(), algorithm);
            assert!(key.verify(b"message", signed.as_ref()) && !key.verify(b"other", signed.as_ref()));
        }
    }
    let pair = Ed25519KeyPair::generate().expect("a pair");
    for text in [self::pem("PUBLIC KEY", &spki(pair.public_key())), ed_jwk("a", &pair).to_string()] {
        let key = VerifyingKey::public(&text, None).expect("a key");
        assert_eq!(key.algorithm(), Algorithm::EdDsa);
        assert!(key.verify(b"message", pair.sign(b"message").as_ref()));
    }
}

#[test]
fn keys_that_cannot_be_used_are_refused_with_the_reason() {
    let rsa = pem("PUBLIC KEY", &spki(RSA.public_key()));
    let short = json!({ "kty": "RSA", "e": "AQAB", "n": base64(&[0xff; 255]) });
    let pair = Ed25519KeyPair::generate().expect("a pair");
    let with = |name: &str, value: Value| {
        let mut jwk = ed_jwk("a", &pair);
        jwk[name] = value;
        jwk.to_string()
    };
    let not_on_curve = json!({ "kty": "EC", "crv": "P-256", "x": base64(&[1; 32]), "y": base64(&[1; 32]) });
    for (text, wanted, reason) in [
        ("", None, "neither a JWK nor PEM"),
        ("-----BEGIN PUBLIC KEY-----\n!!\n-----END PUBLIC KEY-----", None, "neither a JWK nor PEM"),
        (&pem("PRIVATE KEY", b"x"), None, "private key"),
        (&pem("RSA PRIVATE KEY", b"x"), None, "private key"),
        (&pem("CERTIFICATE", b"x"), None, "certificate"),
        (&pem("PUBLIC KEY", b"x"), None, "none of RSA"),
        (&rsa, Some(Algorithm::Hs256), "not for HS256"),
        (&rsa, Some(Algorithm::Es256), "not for ES256"),
        (&short.to_string(), None, "2040 bits"),
        (&not_on_curve.to_string(), None, "not a key of the curve"),
        (&with("d", json!("AAAA")), None, "private key"),
        (&with("use", json!("enc")), None, "not for signatures"),
        (&with("key_ops", json!(["sign"])), None, "not for signatures"),
        (&with("alg", json!("none")), None, "`none`"),
        (&with("alg", json!("HS256")), None, "not for HS256"),
        (&with("alg", json!("EdDSA")), Some(Algorithm::Es256), "not ES256"),
        (&with("crv", json!("Ed448")), None, "not taken"),
        (&with("x", json!("AA==")), None, "base64url"),
        (&json!({ "kty": "oct", "k": "c2VjcmV0" }).to_string(), None, "secret"),
        ("{", None, "cannot be read"),
    ] {
        let error = VerifyingKey::public(text, wanted).err().unwrap_or_else(|| panic!("taken: {text}"));
        assert!(error.contains(reason), "{error} / {reason}");
    }
}

#[test]
fn a_set_keeps_what_can_be_used_and_is_bounded() {
    let (one, two) =
        (Ed25519KeyPair::generate().expect("a pair"), Ed25519KeyPair::generate().expect("a pair"));
    let document = json!({ "keys": [
        { "kty": "oct", "kid": "s", "k": "c2VjcmV0" }, { "kty": "RSA", "kid": "e", "use": "enc" }, { "no": "kty" },
        ed_jwk("one", &one), ed_jwk("two", &two),
        { "kty": "OKP", "crv": "Ed25519", "x": base64(one.public_key().as_ref()) },
    ]});
    let set = KeySet::parse(document.to_string().as_bytes()).expect("a set");
    assert_eq!((set.named("one").count(), set.named("two").count(), set.named("s").count()), (1, 1, 0));
    let smaller =
        KeySet::parse(json!({ "keys": [ed_jwk("renamed", &one)] }).to_string().as_bytes()).expect("a set");
    assert!(smaller.is_within(&set) && !set.is_within(&smaller));
    let many: Vec<_> = (0..101).map(|n| ed_jwk(&n.to_string(), &one)).collect();
    let long = format!(r#"{{"keys":[], "x":"{}"}}"#, "x".repeat(64 << 10));
    for (bad, reason) in [
        (json!({ "keys": [] }).to_string(), "empty"),
        (json!({ "keys": [{ "kty": "oct", "k": "c2VjcmV0" }] }).to_string(), "key 1: "),
        (json!({ "keys": many }).to_string(), "101 keys"),
        (long, "limit is 65536"),
        ("[]".into(), "not a JWKS"),
        ("<html>".into(), "not a JWKS"),
    ] {
        let error = KeySet::parse(bad.as_bytes()).err().expect("refused");
        assert!(error.contains(reason), "{error}");
    }
}

/// Where an identity provider would publish its keys.
struct Provider {
    url: String,
    fetches: Arc<AtomicUsize>,
    body: Arc<Mutex<Option<String>>>,
}

impl Provider {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let url = format!("http://{}/jwks.json", listener.local_addr().expect("an address"));
        let (fetches, body) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(None::<String>)));
        let (count, says) = (Arc::clone(&fetches), Arc::clone(&body));
        tokio::spawn(async move {
            loop {
                let (mut socket, _) = listener.accept().await.expect("accepts");
                count.fetch_add(1, Ordering::SeqCst);
                let _ = socket.read(&mut [0; 2048]).await;
                let says = says.lock().expect("lock").clone();
                let status = if says.is_some() { "200 OK" } else { "503 Away" };
                let body = says.unwrap_or_default();
                let head = format!(
                    "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                let _ = socket.write_all(format!("{head}{body}").as_bytes()).await;
            }
        });
        Self { url, fetches, body }
    }

    fn lists(&self, keys: &[Value]) {
        *self.body.lock().expect("lock") = Some(json!({ "keys": keys }).to_string());
    }

    fn is_away(&self) {
        *self.body.lock().expect("lock") = None;
    }

    fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }
}

fn remotes(interval: Duration, keep: Duration) -> Remotes {
    let policy = Policy::Public { allow: "127.0.0.0/8".parse().expect("a network") };
    let times = KeySetTimes { interval, refresh: Duration::ZERO, keep };
    Remotes::new(Outbound::new(policy).expect("a client"), times)
}

const LONG: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_set_is_fetched_once_for_all_who_wait_and_not_again_within_the_interval() {
    let (provider, pair) = (Provider::start().await, Ed25519KeyPair::generate().expect("a pair"));
    provider.lists(&[ed_jwk("one", &pair)]);
    let remotes = remotes(LONG, LONG);
    let remote = remotes.of(SigningKeyId::new(), TenantId::new(), &provider.url);
    assert!(remote.current().is_none());
    futures::future::join_all((0..50).map(|_| remote.look_again())).await;
    assert_eq!(remote.current().expect("fetched").named("one").count(), 1);
    for _ in 0..10 {
        remote.look_again().await;
        remotes.refresh();
    }
    assert_eq!(provider.fetches(), 1);
}

#[tokio::test]
async fn a_caller_that_hangs_up_does_not_end_the_fetch() {
    let (provider, pair) = (Provider::start().await, Ed25519KeyPair::generate().expect("a pair"));
    provider.lists(&[ed_jwk("one", &pair)]);
    let remotes = remotes(LONG, LONG);
    let remote = remotes.of(SigningKeyId::new(), TenantId::new(), &provider.url);
    // Polled once, which begins it, and dropped.
    let _ = futures::FutureExt::now_or_never(remote.look_again());
    remote.look_again().await;
    assert!(remote.current().is_some());
    assert_eq!(provider.fetches(), 1);
}

#[tokio::test]
async fn the_last_good_set_stays_for_a_bounded_time_and_a_lost_key_is_told() {
    let provider = Provider::start().await;
    let (one, two) =
        (Ed25519KeyPair::generate().expect("a pair"), Ed25519KeyPair::generate().expect("a pair"));
    let (remotes, tenant) = (remotes(Duration::ZERO, LONG), TenantId::new());
    let remote = remotes.of(SigningKeyId::new(), tenant, &provider.url);
    provider.lists(&[ed_jwk("one", &one)]);
    remote.look_again().await;
    provider.is_away();
    remote.look_again().await;
    assert!(remote.current().is_some(), "the provider is away, the keys are still good");
    provider.lists(&[ed_jwk("one", &one), ed_jwk("two", &two)]);
    remote.look_again().await;
    assert_eq!(remotes.take_changed(), [], "nothing was lost");
    provider.lists(&[ed_jwk("two", &two)]);
    remote.look_again().await;
    assert_eq!(remotes.take_changed(), [tenant]);
    assert_eq!(remotes.take_changed(), []);

    let brief = self::remotes(Duration::ZERO, Duration::ZERO);
    let remote = brief.of(SigningKeyId::new(), tenant, &provider.url);
    remote.look_again().await;
    provider.is_away();
    remote.look_again().await;
    assert!(remote.current().is_none(), "too old");
    assert_eq!(brief.take_changed(), [tenant], "its sessions are looked at");
}
