use super::place::Place;
use super::{at, at_once, set_up};
use crate::{Store, StoreError, Ticket};
use weir_core::ProjectId;

async fn ticket(store: &Store, tenant: &str, n: u8) -> Ticket {
    let access = set_up(store, tenant).await.access;
    Ticket {
        hash: [n; 32],
        tenant_id: access.tenant.id,
        project_id: access.project.id,
        caller: r#"{"sub":"ada"}"#.into(),
        expires_at: at(30),
    }
}

pub async fn are_redeemed_once(place: &Place) {
    let store = place.open().await;
    let one = ticket(&store, "acme", 1).await;
    store.tickets.issue(one.clone()).await.expect("issues");
    assert_eq!(store.tickets.redeem([9; 32], at(1)).await.expect("reads"), None);
    assert_eq!(store.tickets.redeem([1; 32], at(1)).await.expect("redeems"), Some(one.clone()));
    assert_eq!(store.tickets.redeem([1; 32], at(1)).await.expect("reads"), None);

    let homeless = Ticket { project_id: ProjectId::new(), ..one };
    assert!(matches!(store.tickets.issue(homeless).await, Err(StoreError::NotFound(_))));
}

pub async fn twenty_at_once_redeem_one(place: &Place) {
    let nodes = [place.open().await, place.open().await];
    let base = ticket(&nodes[0], "acme", 0).await;
    for n in 1..=5 {
        nodes[0].tickets.issue(Ticket { hash: [n; 32], ..base.clone() }).await.expect("issues");
        let redeemed = at_once(20, |task| {
            let tickets = nodes[task % 2].tickets.clone();
            async move { tickets.redeem([n; 32], at(1)).await.expect("answers") }
        })
        .await;
        assert_eq!(redeemed.iter().flatten().count(), 1);
    }
}

pub async fn expired_ones_are_refused_and_purged(place: &Place) {
    let store = place.open().await;
    let early = ticket(&store, "acme", 1).await;
    let late = Ticket { hash: [2; 32], expires_at: at(60), ..early.clone() };
    store.tickets.issue(early).await.expect("issues");
    store.tickets.issue(late.clone()).await.expect("issues");
    assert_eq!(store.tickets.redeem([1; 32], at(30)).await.expect("reads"), None, "at its end it is over");
    assert_eq!(store.tickets.purge(at(30)).await.expect("purges"), 1);
    assert_eq!(store.tickets.redeem([1; 32], at(29)).await.expect("reads"), None, "gone");
    assert_eq!(store.tickets.redeem([2; 32], at(59)).await.expect("redeems"), Some(late));
}
