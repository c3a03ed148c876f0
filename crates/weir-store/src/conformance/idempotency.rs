use super::place::Place;
use super::{at, at_once, by, new_key, set_up};
use crate::idempotency::{Answer, CLAIM_TIME, Claim, Claimed, IDEMPOTENCY_WINDOW, KeyedRequest};
use crate::{After, Bootstrapped, By, Store, StoreError};
use weir_core::{Permissions, Role, TenantId, Timestamp};

fn request(tenant: Option<TenantId>, body: u8) -> KeyedRequest {
    let (actor, key) = ("key:key_1".into(), "order 7".into());
    KeyedRequest { tenant, actor, key, request: [body; 32], held: held() }
}

fn held() -> Permissions {
    Permissions::of_role(Role::Owner)
}

fn answer() -> Answer {
    Answer { status: 201, sealed: vec![0, 1, 2, 255] }
}

async fn claim(store: &Store, request: KeyedRequest, now: Timestamp) -> Claimed {
    store.idempotency.claim(request, now).await.expect("answers")
}

async fn win(store: &Store, request: KeyedRequest, now: Timestamp) -> Claim {
    match claim(store, request, now).await {
        Claimed::Yours(claim) => claim,
        other => panic!("{other:?}"),
    }
}

fn under(claim: Claim) -> By {
    By { claim: Some(claim), ..by(5) }
}

async fn make_key(store: &Store, made: &Bootstrapped, by: By) -> Result<(), StoreError> {
    let access = &made.access;
    store.keys.create(access.tenant.id, access.project.id, new_key(), by).await.map(drop)
}

/// How many keys there are beside the one of the bootstrap.
async fn keys(store: &Store, made: &Bootstrapped) -> usize {
    let access = &made.access;
    let page =
        store.keys.list(access.tenant.id, Some(access.project.id), After::first(100)).await.expect("lists");
    page.items.len() - 1
}

pub async fn copies_get_the_first_answer(place: &Place) {
    let nodes = [place.open().await, place.open().await];
    let acme = Some(set_up(&nodes[0], "acme").await.access.tenant.id);
    for tenant in [acme, None] {
        let held = win(&nodes[0], request(tenant, 1), at(0)).await;
        assert_eq!(claim(&nodes[1], request(tenant, 1), at(1)).await, Claimed::InProgress);
        nodes[0].idempotency.settle(tenant, held, answer()).await.expect("settles");
        for node in &nodes {
            let again = claim(node, request(tenant, 1), at(2)).await;
            assert_eq!(again, Claimed::Answered(held, answer(), self::held()));
        }
    }
}

pub async fn one_of_twenty_copies_is_carried_out(place: &Place) {
    let nodes = [place.open().await, place.open().await];
    let made = set_up(&nodes[0], "acme").await;
    let tenant = Some(made.access.tenant.id);
    let outcomes = at_once(20, |n| {
        let (node, made) = (nodes[n % 2].clone(), made.clone());
        async move {
            let Claimed::Yours(held) = claim(&node, request(tenant, 1), at(0)).await else { return false };
            make_key(&node, &made, under(held)).await.expect("makes the key");
            node.idempotency.settle(tenant, held, answer()).await.expect("settles");
            true
        }
    })
    .await;
    assert_eq!(outcomes.into_iter().filter(|carried_out| *carried_out).count(), 1);
    assert_eq!(keys(&nodes[1], &made).await, 1);
    assert!(
        matches!(claim(&nodes[1], request(tenant, 1), at(1)).await, Claimed::Answered(_, kept, _) if kept == answer())
    );
}

pub async fn a_key_stands_for_one_request_of_one_actor(place: &Place) {
    let store = place.open().await;
    let acme = Some(set_up(&store, "acme").await.access.tenant.id);
    let globex = Some(set_up(&store, "globex").await.access.tenant.id);
    let held = win(&store, request(acme, 1), at(0)).await;
    assert_eq!(claim(&store, request(acme, 2), at(1)).await, Claimed::OtherRequest);
    store.idempotency.settle(acme, held, answer()).await.expect("settles");
    assert_eq!(claim(&store, request(acme, 2), at(2)).await, Claimed::OtherRequest);
    // The same key of others is another key.
    win(&store, request(globex, 1), at(3)).await;
    win(&store, request(None, 1), at(3)).await;
    win(&store, KeyedRequest { actor: "key:key_2".into(), ..request(acme, 1) }, at(3)).await;
    win(&store, KeyedRequest { key: "order 8".into(), ..request(acme, 1) }, at(3)).await;
}

pub async fn a_claim_that_changed_nothing_can_be_given_back_or_run_out(place: &Place) {
    let store = place.open().await;
    let made = set_up(&store, "acme").await;
    let tenant = Some(made.access.tenant.id);
    let first = win(&store, request(tenant, 1), at(0)).await;
    store.idempotency.release(tenant, first).await.expect("gives back");
    let second = win(&store, request(tenant, 1), at(1)).await;
    assert_ne!(first, second);

    // The second one's node stalls. A copy of the request goes ahead; another request does not.
    let later = at(1).plus(CLAIM_TIME);
    assert_eq!(claim(&store, request(tenant, 2), later).await, Claimed::OtherRequest);
    let third = win(&store, request(tenant, 1), later).await;
    for stale in [first, second] {
        let refused = make_key(&store, &made, under(stale)).await.expect_err("the claim is gone");
        assert!(matches!(refused, StoreError::Conflict(_)), "{refused}");
        store.idempotency.settle(tenant, stale, answer()).await.expect("does nothing");
        store.idempotency.release(tenant, stale).await.expect("does nothing");
    }
    assert_eq!(keys(&store, &made).await, 0);
    assert_eq!(claim(&store, request(tenant, 1), later).await, Claimed::InProgress);
    make_key(&store, &made, under(third)).await.expect("makes the key");
}

pub async fn a_change_is_made_once_whoever_dies(place: &Place) {
    let store = place.open().await;
    let made = set_up(&store, "acme").await;
    let tenant = Some(made.access.tenant.id);
    let held = win(&store, request(tenant, 1), at(0)).await;
    // Refused changes leave the claim as it was.
    let missing = store.keys.revoke(made.access.tenant.id, weir_core::KeyId::new(), under(held)).await;
    missing.expect_err("no such key");
    make_key(&store, &made, under(held)).await.expect("makes the key");
    // A request may change several things.
    store.keys.revoke(made.access.tenant.id, made.key.id, under(held)).await.expect("revokes");

    // Now its node dies.
    assert_eq!(claim(&store, request(tenant, 1), at(1)).await, Claimed::InProgress);
    let later = at(0).plus(CLAIM_TIME * 2);
    assert_eq!(claim(&store, request(tenant, 1), later).await, Claimed::AnswerLost);
    assert_eq!(claim(&store, request(tenant, 2), later).await, Claimed::OtherRequest);
    // Or it lives and had no answer to give.
    store.idempotency.release(tenant, held).await.expect("gives back");
    assert_eq!(claim(&store, request(tenant, 1), at(1)).await, Claimed::AnswerLost);
    assert_eq!(keys(&store, &made).await, 1);
}

pub async fn keys_are_forgotten_after_a_day(place: &Place) {
    let store = place.open().await;
    let tenant = Some(set_up(&store, "acme").await.access.tenant.id);
    let held = win(&store, request(tenant, 1), at(0)).await;
    store.idempotency.settle(tenant, held, answer()).await.expect("settles");
    win(&store, KeyedRequest { key: "younger".into(), ..request(tenant, 1) }, at(1)).await;

    let end = at(0).plus(IDEMPOTENCY_WINDOW);
    assert_eq!(
        store.idempotency.purge(end.minus(std::time::Duration::from_micros(1))).await.expect("purges"),
        0
    );
    // Forgotten at the end of the window, whether or not it has been purged.
    win(&store, request(tenant, 2), end).await;
    assert_eq!(store.idempotency.purge(end.plus(CLAIM_TIME)).await.expect("purges"), 1);
    assert_eq!(claim(&store, request(tenant, 2), end).await, Claimed::InProgress);
}
