use super::place::Place;
use super::{at, at_once, by, new_key, new_tenant, set_up};
use crate::audit::{Entry, Filter, Links, NewEntry, Verification};
use crate::{After, By, Store};
use serde_json::json;
use weir_core::{KeyId, RequestId, TenantId};

fn entry(target: &str) -> NewEntry {
    NewEntry { action: "test.act".into(), target: target.into(), details: json!({ "why": "\u{0} \"ü\"" }) }
}

async fn entries(store: &Store, tenant: Option<TenantId>) -> Vec<Entry> {
    store.audit.list(tenant, Filter::default(), After::first(1_000)).await.expect("lists").items
}

async fn verify(store: &Store, tenant: Option<TenantId>) -> Verification {
    store.audit.verify(tenant).await.expect("reads")
}

pub async fn changes_leave_entries_in_a_chain(place: &Place) {
    let store = place.open().await;
    assert!(matches!(verify(&store, None).await, Verification::Intact { entries: 0, .. }));
    let made = set_up(&store, "acme").await;
    let tenant = made.access.tenant.id;
    let request = RequestId::new();
    let who = By { request_id: Some(request.clone()), ..By::new("member:ada", at(3)) };
    store.keys.revoke(tenant, made.key.id, who).await.expect("revokes");
    store.audit.append(None, entry("installation"), by(4)).await.expect("appends");

    let chain = entries(&store, Some(tenant)).await;
    let actions: Vec<_> = chain.iter().map(|entry| entry.action.as_str()).collect();
    let expected = ["tenant.create", "project.create", "signing_key.create", "key.create", "key.revoke"];
    assert_eq!(actions, expected);
    assert_eq!(chain.iter().map(|entry| entry.sequence).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert_eq!(chain[0].previous_hash, [0; 32]);
    for pair in chain.windows(2) {
        assert_eq!(pair[1].previous_hash, pair[0].hash);
    }
    let last = &chain[4];
    assert_eq!((last.actor.as_str(), last.at, last.tenant_id), ("member:ada", at(3), Some(tenant)));
    assert_eq!(last.target, made.key.id.to_string());
    assert!(last.details.contains(&request.to_string()));
    assert_eq!(verify(&store, Some(tenant)).await, Verification::Intact { entries: 5, head: last.hash });
    let own = entries(&store, None).await;
    assert_eq!((own.len(), own[0].sequence, own[0].tenant_id), (1, 1, None));

    let after = After { after: Some(1), limit: 2 };
    let page = store.audit.list(Some(tenant), Filter::default(), after).await.expect("lists");
    assert_eq!((page.items, page.has_more), (chain[1..3].to_vec(), true));

    let mut chains = store.audit.chains().await.expect("lists");
    chains.sort();
    assert_eq!(chains, [None, Some(tenant)]);
    let text = |text: &str| Some(text.to_owned());
    for (filter, expected) in [
        (Filter { action: text("key.create"), ..Filter::default() }, &chain[3..4]),
        (Filter { actor: text("member:ada"), ..Filter::default() }, &chain[4..]),
        (Filter { target: text(&made.key.id.to_string()), ..Filter::default() }, &chain[3..]),
        (Filter { from: Some(at(1)), to: Some(at(4)), ..Filter::default() }, &chain[4..]),
        (Filter { to: Some(at(3)), ..Filter::default() }, &chain[..4]),
        (Filter { actor: text("member:ada"), action: text("key.create"), ..Filter::default() }, &[]),
    ] {
        let found = store.audit.list(Some(tenant), filter.clone(), After::first(10)).await.expect("lists");
        assert_eq!(found.items, expected, "{filter:?}");
    }
    // An export is lossless, and any change of it shows.
    let lines: Vec<_> = chain.iter().map(|entry| serde_json::to_string(entry).expect("JSON")).collect();
    let read = |line: &String| serde_json::from_str::<Entry>(line).expect("an entry");
    let mut links = Links::default();
    assert!(lines.iter().all(|line| links.add(&read(line)).is_ok()));
    assert_eq!((links.sequence, links.head), (5, last.hash));
    let forged = Entry { actor: "nobody".into(), ..read(&lines[0]) };
    assert_eq!(Links::default().add(&forged).expect_err("changed").sequence, 1);
}

pub async fn a_failed_change_leaves_nothing(place: &Place) {
    let store = place.open().await;
    let made = set_up(&store, "acme").await;
    let tenant = made.access.tenant.id;
    let before = entries(&store, Some(tenant)).await;
    store.keys.revoke(tenant, KeyId::new(), by(1)).await.expect_err("no such key");
    let twice = crate::NewKey { id: made.key.id, ..new_key() };
    let conflict = store.keys.create(tenant, made.access.project.id, twice, by(1)).await;
    assert!(matches!(conflict, Err(crate::StoreError::Conflict(_))), "{conflict:?}");
    store.tenants.create(new_tenant("acme"), by(1)).await.expect_err("taken");
    // A caller that goes away in the middle.
    for _ in 0..20 {
        let revoke = store.keys.revoke(tenant, KeyId::new(), by(1));
        let _ = tokio::time::timeout(std::time::Duration::from_micros(300), revoke).await;
    }
    assert_eq!(entries(&store, Some(tenant)).await, before);
    assert_eq!(store.directory.access_head().await.expect("reads"), 0);
}

pub async fn chains_hold_under_concurrency(place: &Place) {
    let nodes = [place.open().await, place.open().await];
    let tenant = Some(set_up(&nodes[0], "acme").await.access.tenant.id);
    at_once(8, |n| {
        let audit = nodes[n % 2].audit.clone();
        async move {
            for round in 0..10 {
                let chain = if round % 2 == 0 { tenant } else { None };
                audit.append(chain, entry(&format!("{n}/{round}")), by(1)).await.expect("appends");
            }
        }
    })
    .await;
    for (chain, length) in [(tenant, 44), (None, 40)] {
        let verified = verify(&nodes[1], chain).await;
        assert!(
            matches!(verified, Verification::Intact { entries, .. } if entries == length),
            "{verified:?}"
        );
        assert_eq!(entries(&nodes[0], chain).await.len() as i64, length);
    }
}

const LIFT_SQLITE: &str = "DROP TRIGGER audit_entries_are_not_changed; DROP TRIGGER audit_entries_are_kept;
    DROP TRIGGER audit_heads_are_kept";
const LIFT_POSTGRES: &str = "DROP TRIGGER audit_entries_are_kept ON audit_entries;
    DROP TRIGGER audit_heads_are_kept ON audit_heads";

pub async fn tampering_is_found(place: &Place) {
    let store = place.open().await;
    for n in 1..=6 {
        store.audit.append(None, entry(&n.to_string()), by(n)).await.expect("appends");
    }
    let intact = verify(&store, None).await;
    assert!(matches!(intact, Verification::Intact { entries: 6, .. }));
    for change in
        ["UPDATE audit_entries SET actor = 'nobody'", "DELETE FROM audit_entries", "DELETE FROM audit_heads"]
    {
        assert!(place.try_execute(change).await.expect_err("refused").contains("append-only"), "{change}");
    }
    // Whoever owns the database can take that away; then the hashes tell.
    place.execute(if place.is_sqlite() { LIFT_SQLITE } else { LIFT_POSTGRES }).await;
    place.execute("CREATE TABLE kept_entries AS SELECT * FROM audit_entries").await;
    place.execute("CREATE TABLE kept_heads AS SELECT * FROM audit_heads").await;

    let attempts = [
        ("UPDATE audit_entries SET actor = 'nobody' WHERE sequence = 3", 3),
        ("UPDATE audit_entries SET at = at + 1 WHERE sequence = 1", 1),
        ("UPDATE audit_entries SET details = '{}' WHERE sequence = 6", 6),
        ("UPDATE audit_entries SET previous_hash = hash WHERE sequence = 4", 4),
        ("UPDATE audit_entries SET hash = previous_hash WHERE sequence = 5", 5),
        ("DELETE FROM audit_entries WHERE sequence = 2", 2),
        ("DELETE FROM audit_entries WHERE sequence = 6", 6),
        ("DELETE FROM audit_entries", 1),
        ("DELETE FROM audit_heads", 1),
        ("UPDATE audit_heads SET sequence = 5", 5),
        ("UPDATE audit_heads SET hash = (SELECT hash FROM audit_entries WHERE sequence = 5)", 6),
        ("UPDATE audit_entries SET sequence = 9 WHERE sequence = 6", 6),
        (
            "INSERT INTO audit_entries SELECT tenant_id, 7, at, actor, action, target, details,
                previous_hash, hash FROM audit_entries WHERE sequence = 6",
            7,
        ),
    ];
    for (attempt, expected) in attempts {
        place.execute(attempt).await;
        let found = verify(&store, None).await;
        assert!(
            matches!(found, Verification::Broken(flaw) if flaw.sequence == expected),
            "{attempt}: {found:?}"
        );
        place.execute("DELETE FROM audit_entries").await;
        place.execute("DELETE FROM audit_heads").await;
        place.execute("INSERT INTO audit_entries SELECT * FROM kept_entries").await;
        place.execute("INSERT INTO audit_heads SELECT * FROM kept_heads").await;
        assert_eq!(verify(&store, None).await, intact, "{attempt}");
    }
}
