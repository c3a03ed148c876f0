use super::place::Place;
use super::{at, at_once, by, new_key, set_up, wanted};
use crate::{AccessChangeKind, Overrides, TenantStatus};
use std::collections::HashSet;
use std::time::Duration;
use weir_core::{KeyId, PlanName, ProjectId};

pub async fn bootstrap_finds_what_it_made(place: &Place) {
    let store = place.open().await;
    let first = set_up(&store, "acme").await;
    assert_eq!(first.access.tenant.plan, PlanName::Enterprise);
    let second = store.directory.bootstrap(wanted("acme", "main"), by(1)).await.expect("bootstraps");
    assert_eq!(second.access, first.access);
    assert_eq!(second.signing_key, first.signing_key);
    assert_ne!(second.key.id, first.key.id, "a key's secret is shown once, so there is always a new one");
    let other = store.directory.bootstrap(wanted("acme", "side"), by(2)).await.expect("bootstraps");
    assert_eq!(other.access.tenant, first.access.tenant);
    assert_ne!(other.access.project.id, first.access.project.id);
    assert_ne!(other.signing_key.id, first.signing_key.id);

    let tenant = first.access.tenant.id;
    store.keys.revoke_signing_key(tenant, first.signing_key.id, by(3)).await.expect("revokes");
    let third = store.directory.bootstrap(wanted("acme", "main"), by(4)).await.expect("bootstraps");
    assert_ne!(third.signing_key.id, first.signing_key.id, "a revoked one does not count");
}

pub async fn concurrent_bootstraps_agree(place: &Place) {
    let nodes = [place.open().await, place.open().await];
    let made = at_once(12, |n| {
        let directory = nodes[n % 2].directory.clone();
        async move { directory.bootstrap(wanted("acme", "main"), by(1)).await.expect("bootstraps") }
    })
    .await;
    assert!(made.iter().all(|one| one.access == made[0].access));
    assert!(made.iter().all(|one| one.signing_key == made[0].signing_key));
    assert_eq!(made.iter().map(|one| one.key.id).collect::<HashSet<_>>().len(), 12);
}

pub async fn every_change_is_announced(place: &Place) {
    let store = place.open().await;
    assert_eq!(store.directory.access_head().await.expect("reads"), 0);
    let made = set_up(&store, "acme").await;
    let tenant = made.access.tenant.id;
    assert_eq!(
        store.directory.access_head().await.expect("reads"),
        0,
        "who has cached nothing needs no news"
    );

    let mut announced = Vec::new();
    let status = TenantStatus::PastDue;
    announced.push(store.tenants.set_status(tenant, status, None, by(1)).await.expect("changes").change);
    let none = Overrides::default();
    announced
        .push(store.tenants.set_plan(tenant, PlanName::Free, none, by(2)).await.expect("changes").change);
    announced.push(store.tenants.set_placement(tenant, "BIG".into(), by(3)).await.expect("changes").change);
    let new = (KeyId::new(), [0; 32]);
    let grace = Duration::ZERO;
    announced.push(store.keys.rotate(tenant, made.key.id, new, grace, by(4)).await.expect("changes").change);
    announced.push(store.keys.revoke(tenant, new.0, by(5)).await.expect("changes").change);
    let signing_key = made.signing_key.id;
    announced.push(store.keys.revoke_signing_key(tenant, signing_key, by(6)).await.expect("changes").change);

    let kinds: Vec<_> = announced.iter().map(|change| change.kind).collect();
    use AccessChangeKind as Kind;
    let expected = [Kind::TenantStatus, Kind::TenantPlan, Kind::TenantPlacement];
    assert_eq!(kinds[..3], expected);
    assert_eq!(kinds[3..], [Kind::KeyRotated, Kind::KeyRevoked, Kind::SigningKeyRevoked]);
    assert!(announced.iter().all(|change| change.tenant_id == tenant));
    assert_eq!((announced[0].subject.clone(), announced[0].at), (tenant.to_string(), at(1)));
    assert_eq!(announced[5].subject, signing_key.to_string());

    assert_eq!(store.directory.access_changes_after(0, 100).await.expect("reads"), announced);
    assert_eq!(store.directory.access_head().await.expect("reads"), announced[5].seq);
    let some = store.directory.access_changes_after(announced[1].seq, 2).await.expect("reads");
    assert_eq!(some, announced[2..4]);
    let after = store.tenants.get(tenant).await.expect("reads");
    assert_eq!((after.access_version, after.stream.as_str()), (made.access.tenant.access_version + 6, "BIG"));
}

/// Two nodes change what eight tenants may do while a third reads along from the last number it saw.
pub async fn a_reader_of_changes_misses_none(place: &Place) {
    const TENANTS: usize = 8;
    const CHANGES: usize = 12;
    let nodes = [place.open().await, place.open().await];
    let mut tenants = Vec::new();
    for n in 0..TENANTS {
        tenants.push(set_up(&nodes[0], &format!("tenant {n}")).await.access.tenant.id);
    }
    let reader = place.open().await;
    let reading = tokio::spawn(async move {
        let (mut seen, mut last) = (Vec::new(), 0);
        while seen.len() < TENANTS * CHANGES {
            let changes = reader.directory.access_changes_after(last, 5).await.expect("reads");
            for change in changes {
                assert!(change.seq > last);
                last = change.seq;
                seen.push(change.seq);
            }
        }
        seen
    });
    let mut made: Vec<i64> = at_once(TENANTS, |n| {
        let (store, tenant) = (nodes[n % 2].tenants.clone(), tenants[n]);
        async move {
            let mut made = Vec::new();
            for change in 0..CHANGES {
                let status = if change % 2 == 0 { TenantStatus::Suspended } else { TenantStatus::Active };
                made.push(store.set_status(tenant, status, None, by(1)).await.expect("changes").change.seq);
            }
            made
        }
    })
    .await
    .concat();
    made.sort_unstable();
    let seen = tokio::time::timeout(Duration::from_secs(60), reading);
    assert_eq!(seen.await.expect("the reader saw them all").expect("in order"), made);
}

/// Every kind of change to the same tenant at once: they queue, and none gives up.
/// While nodes are updated one by one, an older one reads what a newer one writes.
pub async fn what_only_a_newer_program_announces_is_passed_on(place: &Place) {
    let store = place.open().await;
    let made = set_up(&store, "acme").await;
    let tenant = made.access.tenant.id;
    store.tenants.set_status(tenant, TenantStatus::Active, None, by(1)).await.expect("changes");
    place.execute("UPDATE access_changes SET kind = 'tenant.teleport'").await;
    let changes = store.directory.access_changes_after(0, 9).await.expect("reads");
    let kinds: Vec<_> = changes.iter().map(|change| (change.tenant_id, change.kind)).collect();
    assert_eq!(kinds, [(tenant, AccessChangeKind::Unknown)]);
}

pub async fn mixed_changes_do_not_deadlock(place: &Place) {
    let nodes = [place.open().await, place.open().await];
    let made = set_up(&nodes[0], "acme").await;
    let (tenant, project, key) = (made.access.tenant.id, made.access.project.id, made.key.id);
    at_once(8, |n| {
        let store = nodes[n % 2].clone();
        async move {
            for round in 0..8 {
                let name = format!("project {round}");
                match (n + round) % 7 {
                    0 => drop(
                        store
                            .tenants
                            .set_status(tenant, TenantStatus::Active, None, by(1))
                            .await
                            .expect("status"),
                    ),
                    1 => drop(store.keys.revoke(tenant, key, by(1)).await.expect("revoke")),
                    2 => drop(store.keys.create(tenant, project, new_key(), by(1)).await.expect("create")),
                    3 => drop(
                        store.directory.bootstrap(wanted("acme", &name), by(1)).await.expect("bootstrap"),
                    ),
                    4 => {
                        let new = (KeyId::new(), [0; 32]);
                        let created = store.keys.create(tenant, project, new_key(), by(1)).await;
                        let old = created.expect("create").id;
                        let rotated = store.keys.rotate(tenant, old, new, Duration::ZERO, by(1)).await;
                        drop(rotated.expect("rotate"));
                    }
                    5 => {
                        let (id, name) = (ProjectId::new(), format!("short-lived {n} {round}"));
                        store.tenants.create_project(tenant, id, name, by(1)).await.expect("create_project");
                        store.keys.create(tenant, id, new_key(), by(1)).await.expect("create");
                        store.tenants.delete_project(tenant, id, by(1)).await.expect("delete_project");
                    }
                    _ => {
                        let id = ProjectId::new();
                        match store.tenants.create_project(tenant, id, name, by(1)).await {
                            Ok(_) | Err(crate::StoreError::Conflict(_)) => {}
                            Err(error) => panic!("create_project: {error}"),
                        }
                    }
                }
            }
        }
    })
    .await;
    let verified = nodes[0].audit.verify(Some(tenant)).await.expect("reads");
    assert!(matches!(verified, crate::audit::Verification::Intact { .. }), "{verified:?}");
}
