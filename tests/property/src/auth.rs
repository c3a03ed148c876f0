//! Properties of API keys.

use crate::world::{Backend, World, property};
use proptest::prelude::*;
use proptest::sample::{Index, subsequence};
use proptest::test_runner::TestCaseResult;
use reqwest::Method;
use serde_json::json;
use std::time::{Duration, Instant};
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

/// How long the old key works on: not at all, for a second that passes, or for longer than the test.
fn grace() -> impl Strategy<Value = u64> {
    prop_oneof![4 => Just(0_u64), 1 => Just(1_u64), 5 => 60..=604_800_u64]
}

property!(
    /// Feature: realtime-saas-platform, Property 17: For any API key rotation, the system should provide a
    /// grace period before invalidating the old key
    api_key_rotation,
    (grace(), scopes(), 0..2_usize, 0..2_usize),
    rotates
);

async fn rotates(
    world: &mut World,
    (grace, mut scopes, at, other): (u64, Vec<Scope>, usize, usize),
) -> TestCaseResult {
    let (tenant, case) = world.fresh();
    if !scopes.contains(&Scope::EventsPublish) {
        scopes.push(Scope::EventsPublish);
    }
    let old = world.app.key(tenant, &scopes).await;
    let path = format!("/v1/admin/keys/{}/rotate", old.key_id);
    let begun = Instant::now();
    let rotation = json!({ "grace_seconds": grace });
    let rotated = world.app.api_at(at, &tenant.api_key).post(&path, &rotation).await.expect(201);
    let new = rotated["api_key"].as_str().unwrap_or_default().to_owned();
    prop_assert_eq!(&rotated["enforced"]["nodes"], &json!(world.app.nodes.len()));
    let named: Vec<Scope> = serde_json::from_value(rotated["scopes"].clone()).expect("scopes");
    prop_assert!(named.len() == scopes.len() && scopes.iter().all(|scope| named.contains(scope)));

    let event = json!({"topic": format!("{case}.x"), "payload": grace});
    // The new key works everywhere at once.
    for node in [at, other] {
        world.app.api_at(node, &new).post("/v1/events", &event).await.expect(201);
    }
    if grace == 1 {
        tokio::time::sleep(Duration::from_millis(1_010).saturating_sub(begun.elapsed())).await;
    }
    for node in [at, other] {
        let answer = world.app.api_at(node, &old.api_key).post("/v1/events", &event).await;
        match grace {
            0 | 1 => answer.refused(401, "EXPIRED_API_KEY"),
            _ => drop(answer.expect(201)),
        }
    }
    // One successor only.
    world.app.api_at(other, &tenant.api_key).post(&path, &rotation).await.refused(409, "CONFLICT");
    Ok(())
}

/// Connections that use the key when it is revoked: at which node, and whether WebSocket or SSE.
fn connections() -> impl Strategy<Value = Vec<(usize, bool)>> {
    proptest::collection::vec((0..2_usize, any::<bool>()), 0..5)
}

property!(
    /// Feature: realtime-saas-platform, Property 18: For any API key revocation, all access using that key
    /// should be immediately invalidated
    api_key_revocation,
    (connections(), 0..2_usize),
    revokes
);

async fn revokes(world: &mut World, (open, at): (Vec<(usize, bool)>, usize)) -> TestCaseResult {
    let (tenant, case) = world.fresh();
    let topic = format!("{case}.x");
    let doomed = world.app.key(tenant, &[Scope::EventsPublish, Scope::EventsSubscribe]).await;
    let (mut sockets, mut streams) = (Vec::new(), Vec::new());
    for (node, socket) in &open {
        if *socket {
            let mut ws = world.app.ws_at(*node, &doomed.api_key).await;
            ws.subscribe(&[&topic], None).await;
            sockets.push(ws);
        } else {
            // The head of an event stream comes when its subscription stands.
            streams.push(world.app.sse_at(*node, &doomed.api_key, &topic, None).await);
        }
    }
    let path = format!("/v1/admin/keys/{}", doomed.key_id);
    let revoke = world.app.api_at(at, &tenant.api_key).request(Method::DELETE, &path);
    let revoked = Answer::of(revoke).await.expect(200);
    let nodes = world.app.nodes.len();
    prop_assert_eq!(
        &revoked["enforced"],
        &json!({"nodes": nodes, "of": nodes, "connections_closed": open.len()})
    );
    // From the answer on nothing gets in or out with it, anywhere.
    let api = world.app.api_at(at, &tenant.api_key);
    api.publish(&topic, &json!("secret")).await;
    for node in 0..nodes {
        let old = world.app.api_at(node, &doomed.api_key);
        let event = json!({"topic": topic, "payload": 1});
        old.post("/v1/events", &event).await.refused(401, "INVALID_API_KEY");
        old.get("/v1/events", &[("topics", topic.as_str())]).await.refused(401, "INVALID_API_KEY");
        old.post("/v1/tickets", &json!({})).await.refused(401, "INVALID_API_KEY");
    }
    for mut ws in sockets {
        let (frames, ended) = ws.end().await;
        prop_assert_eq!(ended.code, Some(4401));
        prop_assert!(frames.iter().all(|frame| frame["type"] != "event"), "{:?}", frames);
    }
    for mut sse in streams {
        while let Some(block) = sse.next().await {
            prop_assert!(!block.is_message(), "{:?}", block);
        }
    }
    Ok(())
}
