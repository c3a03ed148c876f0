//! Properties of API keys.

use crate::world::{Backend, World, property};
use proptest::prelude::*;
use proptest::sample::{Index, subsequence};
use proptest::test_runner::TestCaseResult;
use serde_json::json;
use weir_core::Scope;
use weir_core::key::PresentedKey;
use weir_testkit::Answer;

fn scopes() -> impl Strategy<Value = Vec<Scope>> {
    subsequence(Scope::ALL.to_vec(), 1..=5)
}

property!(
    /// Feature: realtime-saas-platform, Property 15: For any API key creation request, the system should
    /// generate cryptographically secure keys with configurable scopes
    api_key_generation,
    (scopes(), scopes()),
    generates
);

async fn generates(world: &mut World, (one, two): (Vec<Scope>, Vec<Scope>)) -> TestCaseResult {
    let (tenant, _) = world.fresh();
    let mut secrets = Vec::new();
    for wanted in [one, two] {
        let key = world.app.key(tenant, &wanted).await;
        let names: Vec<&str> = wanted.iter().map(|scope| scope.as_str()).collect();
        prop_assert_eq!(&key.scopes, &names);
        // Well formed, with a right checksum, under the id that was told.
        let presented = PresentedKey::parse(&key.api_key);
        prop_assert_eq!(presented.map(|key| key.id.to_string()), Some(key.key_id));
        // 32 characters out of 62 are 190 bits; the checksum adds none.
        let (_, tail) = key.api_key.rsplit_once('_').unwrap_or_default();
        prop_assert_eq!(tail.len(), 38);
        prop_assert!(tail.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        secrets.push(tail[..32].to_owned());
    }
    // Independent draws agree in about one place out of 62.
    let same = secrets[0].bytes().zip(secrets[1].bytes()).filter(|(a, b)| a == b).count();
    prop_assert!(same <= 10, "two secrets share {} of 32 characters in place", same);
    // Neither the servers' logs nor, where it can be looked at, the database holds a secret.
    for node in &world.app.nodes {
        prop_assert!(secrets.iter().all(|secret| !node.log().contains(secret.as_str())));
    }
    if world.backend == Backend::Embedded {
        let files = world.app.data_files();
        prop_assert!(!files.is_empty());
        for (name, bytes) in files {
            for secret in &secrets {
                let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
                prop_assert!(!found, "{} holds a key's secret", name);
            }
        }
    }
    Ok(())
}

#[derive(Clone, Debug)]
struct Usage {
    scopes: Vec<Scope>,
    node: usize,
    at: Index,
    put: char,
}

fn usage() -> impl Strategy<Value = Usage> {
    let put = prop::char::ranges(vec!['0'..='9', 'A'..='Z', 'a'..='z'].into());
    (scopes(), 0..2_usize, any::<Index>(), put).prop_map(|(scopes, node, at, put)| Usage {
        scopes,
        node,
        at,
        put,
    })
}

property!(
    /// Feature: realtime-saas-platform, Property 16: For any API key usage, the system should validate the
    /// key hash and enforce scope-based permissions correctly
    api_key_validation,
    usage(),
    validates
);

async fn validates(world: &mut World, usage: Usage) -> TestCaseResult {
    let (tenant, case) = world.fresh();
    let key = world.app.key(tenant, &usage.scopes).await.api_key;
    let api = world.app.api_at(usage.node, &key);
    let may = |scope| usage.scopes.contains(&scope);
    let judge = |answer: Answer, allowed: bool, good: u16| match allowed {
        true => drop(answer.expect(good)),
        false => answer.refused(403, "INSUFFICIENT_SCOPE"),
    };
    let event = json!({"topic": format!("{case}.x"), "payload": null});
    judge(api.post("/v1/events", &event).await, may(Scope::EventsPublish), 201);
    judge(api.get("/v1/events", &[("topics", ">"), ("limit", "1")]).await, may(Scope::EventsSubscribe), 200);
    judge(api.get("/v1/topics", &[("limit", "1")]).await, may(Scope::EventsSubscribe), 200);

    // One changed character, anywhere, is another key: even with the checksum mended it does not verify.
    let mut edited: Vec<char> = key.chars().collect();
    let at = usage.at.index(edited.len());
    if edited[at] != usage.put && edited[at] != '_' {
        edited[at] = usage.put;
        let edited: String = edited.into_iter().collect();
        let checksum = at >= edited.len() - 6;
        for text in [Some(edited.clone()), (!checksum).then(|| mended(&edited))].into_iter().flatten() {
            let refused = world.app.api_at(usage.node, &text).post("/v1/events", &event).await;
            prop_assert_eq!(refused.status, 401);
            let code = refused.body["error"]["code"].as_str().unwrap_or_default().to_owned();
            prop_assert!(matches!(code.as_str(), "INVALID_API_KEY" | "INVALID_TOKEN"), "{}", refused.body);
        }
    }
    Ok(())
}

/// The same key with its checksum computed anew, as a forger would.
fn mended(key: &str) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let body = &key[..key.len() - 6];
    let mut rest = crc32(body.as_bytes());
    let mut check = [0; 6];
    for digit in check.iter_mut().rev() {
        *digit = DIGITS[(rest % 62) as usize];
        rest /= 62;
    }
    format!("{body}{}", String::from_utf8_lossy(&check))
}

/// CRC-32 as zip files have it, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 & 0_u32.wrapping_sub(crc & 1)))
    })
}
