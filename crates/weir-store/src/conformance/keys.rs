use super::place::Place;
use super::{at, at_once, by, hash_for, new_key, new_signing_key, set_up};
use crate::{
    After, MAX_KEY_SETS, NewKey, NewSigningKey, SigningAlgorithm, SigningMaterial, StoreError, TenantStatus,
    TopicTemplates,
};
use std::time::Duration;
use weir_core::{KeyId, ProjectId, Scope, SigningKeyId};

const HOUR: Duration = Duration::from_secs(3600);

pub async fn authenticating_reads_everything_at_once(place: &Place) {
    let store = place.open().await;
    let made = set_up(&store, "acme").await;
    let (tenant, project) = (made.access.tenant.id, made.access.project.id);
    let scopes = [Scope::EventsPublish, Scope::BillingRead].into_iter().collect();
    let new = NewKey { scopes, expires_at: Some(at(99)), ..new_key() };
    let key = store.keys.create(tenant, project, new.clone(), by(9)).await.expect("creates");
    assert_eq!((key.id, key.key_hash, key.scopes), (new.id, new.key_hash, new.scopes));
    assert_eq!((key.rate_limit_per_sec, key.expires_at, key.created_at), (7, Some(at(99)), at(9)));

    let suspended = store
        .tenants
        .set_status(tenant, TenantStatus::Suspended, Some("unpaid".into()), by(10))
        .await
        .expect("suspends");
    let found = store.directory.key(key.id).await.expect("reads").expect("is there");
    assert_eq!((found.key, &found.access.tenant), (key, &suspended.value));
    assert_eq!(found.access.project, made.access.project);
    assert_eq!(store.directory.key(KeyId::new()).await.expect("reads"), None);
    let access = store.directory.access(tenant, project).await.expect("reads");
    assert_eq!(access, Some(found.access));
}

pub async fn are_invisible_to_other_tenants(place: &Place) {
    let store = place.open().await;
    let (mine, theirs) = (set_up(&store, "mine").await, set_up(&store, "theirs").await);
    let (me, their) = (mine.access.tenant.id, &theirs.access);
    let not_found = |error: StoreError| assert!(matches!(error, StoreError::NotFound(_)), "{error}");

    not_found(store.keys.get(me, theirs.key.id).await.expect_err("read"));
    not_found(store.keys.revoke(me, theirs.key.id, by(1)).await.expect_err("revoked"));
    let new = (KeyId::new(), [0; 32]);
    not_found(store.keys.rotate(me, theirs.key.id, new, HOUR, by(1)).await.expect_err("rotated"));
    not_found(store.keys.revoke_signing_key(me, theirs.signing_key.id, by(1)).await.expect_err("revoked"));
    not_found(store.keys.create(me, their.project.id, new_key(), by(1)).await.expect_err("made"));
    let made = store.keys.create_signing_key(me, their.project.id, new_signing_key(), by(1)).await;
    not_found(made.expect_err("made"));
    let page = store.keys.list(me, Some(their.project.id), After::first(10)).await.expect("lists");
    assert!(page.items.is_empty());
    assert_eq!(store.directory.access(me, their.project.id).await.expect("reads"), None);
    assert_eq!(store.keys.get(their.tenant.id, theirs.key.id).await.expect("untouched"), theirs.key);
}

pub async fn rotation_gives_the_old_key_an_end(place: &Place) {
    let store = place.open().await;
    let made = set_up(&store, "acme").await;
    let tenant = made.access.tenant.id;
    let new = KeyId::new();
    let rotated =
        store.keys.rotate(tenant, made.key.id, (new, hash_for(new)), HOUR, by(10)).await.expect("rotates");
    assert_eq!((rotated.value.id, rotated.value.key_hash), (new, hash_for(new)));
    assert_eq!((rotated.value.name, rotated.value.scopes), (made.key.name, made.key.scopes));
    assert_eq!((rotated.value.rate_limit_per_sec, rotated.value.expires_at), (7, None));
    assert_eq!(rotated.change.subject, made.key.id.to_string(), "nodes must look at the old key again");
    let old = store.keys.get(tenant, made.key.id).await.expect("reads");
    assert_eq!((old.expires_at, old.replaced_by, old.revoked_at), (Some(at(10).plus(HOUR)), Some(new), None));

    let again = store.keys.rotate(tenant, made.key.id, (KeyId::new(), [0; 32]), HOUR, by(11)).await;
    assert!(matches!(again, Err(StoreError::Conflict(_))), "rotated already");
    store.keys.revoke(tenant, new, by(12)).await.expect("revokes");
    let revoked = store.keys.rotate(tenant, new, (KeyId::new(), [0; 32]), HOUR, by(13)).await;
    assert!(matches!(revoked, Err(StoreError::Conflict(_))), "revoked");

    let short = NewKey { expires_at: Some(at(20)), ..new_key() };
    let project = made.access.project.id;
    let short = store.keys.create(tenant, project, short, by(14)).await.expect("creates");
    store.keys.rotate(tenant, short.id, (KeyId::new(), [0; 32]), HOUR, by(15)).await.expect("rotates");
    let old = store.keys.get(tenant, short.id).await.expect("reads");
    assert_eq!(old.expires_at, Some(at(20)), "grace does not lengthen a life");
}

pub async fn one_of_two_rotations_wins(place: &Place) {
    let store = place.open().await;
    let made = set_up(&store, "acme").await;
    let (tenant, key) = (made.access.tenant.id, made.key.id);
    let results = at_once(6, |_| {
        let keys = store.keys.clone();
        async move { keys.rotate(tenant, key, (KeyId::new(), [1; 32]), HOUR, by(1)).await }
    })
    .await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    assert!(
        results.iter().flat_map(|result| result.as_ref().err()).all(|e| matches!(e, StoreError::Conflict(_)))
    );
    let keys = store.keys.list(tenant, Some(made.access.project.id), After::first(10)).await.expect("lists");
    assert_eq!(keys.items.len(), 2);
}

pub async fn revoking_keeps_the_first_time(place: &Place) {
    let store = place.open().await;
    let made = set_up(&store, "acme").await;
    let tenant = made.access.tenant.id;
    let first = store.keys.revoke(tenant, made.key.id, by(1)).await.expect("revokes");
    let second = store.keys.revoke(tenant, made.key.id, by(2)).await.expect("revokes");
    assert_eq!(first.value.revoked_at, Some(at(1)));
    assert_eq!(second.value, first.value);
    assert!(second.change.seq > first.change.seq, "a second try is announced too");
    let found = store.directory.key(made.key.id).await.expect("reads").expect("is there");
    assert_eq!(found.key.revoked_at, Some(at(1)), "the caller can tell revoked from unknown");
}

pub async fn signing_keys_are_kept_sealed_and_revoked(place: &Place) {
    let store = place.open().await;
    let made = set_up(&store, "acme").await;
    let (tenant, project) = (made.access.tenant.id, made.access.project.id);
    let new = new_signing_key();
    let made_key = store.keys.create_signing_key(tenant, project, new.clone(), by(1)).await.expect("creates");
    let key = made_key.value;
    assert_eq!((key.id, &key.material, key.revoked_at), (new.id, &new.material, None));
    let found = store.directory.signing_key(key.id).await.expect("reads").expect("is there");
    let mut access = made.access.clone();
    access.tenant.access_version += 1; // Making one is announced.
    assert_eq!((&found.key, &found.access), (&key, &access));
    let listed = store.keys.signing_keys(tenant, project, After::first(10)).await.expect("lists");
    assert_eq!(listed.items, vec![made.signing_key, key.clone()]);

    let revoked = store.keys.revoke_signing_key(tenant, key.id, by(2)).await.expect("revokes");
    assert_eq!(revoked.value.revoked_at, Some(at(2)));
    let found = store.directory.signing_key(key.id).await.expect("reads").expect("is there");
    assert_eq!((found.key.revoked_at, found.access.tenant.access_version), (Some(at(2)), 3));
    assert_eq!(store.directory.signing_key(SigningKeyId::new()).await.expect("reads"), None);
}

pub async fn signing_keys_of_every_kind_come_back_as_they_were(place: &Place) {
    let store = place.open().await;
    let (made, other) = (set_up(&store, "acme").await, set_up(&store, "other").await);
    let (tenant, project) = (made.access.tenant.id, made.access.project.id);
    let (url, document) = ("https://id.example.com/keys".to_owned(), r#"{"keys":[]}"#.to_owned());
    let mut all = vec![made.signing_key];
    for material in [
        SigningMaterial::PublicKey { algorithm: SigningAlgorithm::Ps384, key: "PEM".into() },
        SigningMaterial::KeySet(document),
        SigningMaterial::KeySetUrl(url.clone()),
    ] {
        let templates = TopicTemplates { subscribe: vec!["user.{sub}.>".into()], publish: Vec::new() };
        let new = NewSigningKey {
            name: "identity provider".into(),
            material: material.clone(),
            templates: Some(templates.clone()),
            ..new_signing_key()
        };
        let made = store.keys.create_signing_key(tenant, project, new, by(1)).await.expect("creates");
        assert_eq!((&made.value.material, made.value.templates.as_ref()), (&material, Some(&templates)));
        assert_eq!(
            made.change.subject,
            made.value.id.to_string(),
            "nodes must look at the project's sets again"
        );
        all.push(made.value);
    }
    let listed = store.keys.signing_keys(tenant, project, After::first(10)).await.expect("lists");
    assert_eq!(listed.items, all);
    let sets = |project| {
        let directory = store.directory.clone();
        async move {
            let found = directory.key_sets(project).await.expect("reads");
            found.into_iter().map(|set| (set.key.id, set.access.tenant.id)).collect::<Vec<_>>()
        }
    };
    assert_eq!(sets(project).await, [(all[2].id, tenant), (all[3].id, tenant)]);
    assert_eq!(sets(other.access.project.id).await, []);
    assert_eq!(sets(ProjectId::new()).await, []);
    store.keys.revoke_signing_key(tenant, all[2].id, by(2)).await.expect("revokes");
    assert_eq!(sets(project).await, [(all[3].id, tenant)]);
    // A newcomer is shown a secret, never a set in its place.
    let again = set_up(&store, "acme").await;
    assert_eq!(again.signing_key, all[0]);
}

pub async fn a_project_has_a_bounded_number_of_signing_keys(place: &Place) {
    let store = place.open().await;
    let made = set_up(&store, "acme").await;
    let (tenant, project) = (made.access.tenant.id, made.access.project.id);
    let set = || NewSigningKey {
        material: SigningMaterial::KeySetUrl("https://id.example.com/keys".into()),
        ..new_signing_key()
    };
    let results = at_once(MAX_KEY_SETS as usize + 3, |_| {
        let (keys, new) = (store.keys.clone(), set());
        async move { keys.create_signing_key(tenant, project, new, by(1)).await }
    })
    .await;
    let refused: Vec<_> = results.iter().flat_map(|result| result.as_ref().err()).collect();
    assert_eq!(refused.len(), 3);
    assert!(refused.iter().all(|error| matches!(error, StoreError::Conflict(_))), "{refused:?}");
    // A revoked one makes room again.
    let sets = store.directory.key_sets(project).await.expect("reads");
    assert_eq!(sets.len(), MAX_KEY_SETS as usize);
    store.keys.revoke_signing_key(tenant, sets[0].key.id, by(2)).await.expect("revokes");
    store.keys.create_signing_key(tenant, project, set(), by(3)).await.expect("creates");
}

pub async fn lists_come_in_pages(place: &Place) {
    let store = place.open().await;
    let made = set_up(&store, "acme").await;
    let (tenant, project) = (made.access.tenant.id, made.access.project.id);
    let mut all = vec![made.key];
    for n in 1..=6 {
        all.push(store.keys.create(tenant, project, new_key(), by(n)).await.expect("creates"));
    }
    let (mut seen, mut page) = (Vec::new(), After::first(3));
    loop {
        let answer = store.keys.list(tenant, Some(project), page).await.expect("lists");
        assert!(answer.items.len() <= 3);
        page.after = answer.items.last().map(|key| key.id);
        seen.extend(answer.items);
        if !answer.has_more {
            break;
        }
    }
    assert_eq!(seen, all);
    let smallest = store.keys.list(tenant, Some(project), After::first(0)).await.expect("lists");
    assert_eq!((smallest.items.len(), smallest.has_more), (1, true), "a limit of 0 becomes 1");
}
