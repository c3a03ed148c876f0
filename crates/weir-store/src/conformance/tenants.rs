use super::place::Place;
use super::{at, by, new_key, new_tenant, set_up};
use crate::{AccessChangeKind, After, DEFAULT_STREAM, Overrides, StoreError, TenantStatus};
use serde_json::json;
use weir_core::{Limits, PlanName, ProjectId, ProjectLimits, TenantId};

pub async fn are_made_found_and_listed(place: &Place) {
    let store = place.open().await;
    let new = new_tenant("Acme & Söhne");
    let made = store.tenants.create(new.clone(), by(5)).await.expect("creates");
    assert_eq!((made.id, made.name.as_str(), made.plan), (new.id, "Acme & Söhne", PlanName::Pro));
    assert_eq!((made.status, made.status_reason.clone()), (TenantStatus::Trial, None));
    assert_eq!((made.stream.as_str(), made.created_at, made.access_version), (DEFAULT_STREAM, at(5), 1));
    assert_eq!(store.tenants.get(new.id).await.expect("reads"), made);
    let found = store.directory.tenant_by_name("Acme & Söhne".into()).await.expect("reads");
    assert_eq!(found, Some(made.clone()));
    assert_eq!(store.directory.tenant_by_name("acme".into()).await.expect("reads"), None);
    let missing = store.tenants.get(TenantId::new()).await.expect_err("missing");
    assert!(matches!(missing, StoreError::NotFound("tenant")));

    let second = store.tenants.create(new_tenant("Bolt"), by(6)).await.expect("creates");
    let first_page = store.directory.tenants(After::first(1)).await.expect("lists");
    assert_eq!((first_page.items, first_page.has_more), (vec![made.clone()], true));
    let rest = After { after: Some(made.id), limit: 10 };
    let last_page = store.directory.tenants(rest).await.expect("lists");
    assert_eq!((last_page.items, last_page.has_more), (vec![second], false));
}

pub async fn names_are_checked_and_unique(place: &Place) {
    let store = place.open().await;
    store.tenants.create(new_tenant("Acme"), by(0)).await.expect("creates");
    let taken = store.tenants.create(new_tenant("Acme"), by(1)).await.expect_err("taken");
    assert!(matches!(&taken, StoreError::Conflict(text) if text.contains("Acme")), "{taken}");
    for name in ["", " ", "a\nb", "a\0b", " padded", &"x".repeat(129)] {
        let error = store.tenants.create(new_tenant(name), by(2)).await.expect_err(name);
        assert!(matches!(error, StoreError::Invalid(_)), "{error}");
    }
    store.tenants.create(new_tenant(&"ü".repeat(128)), by(3)).await.expect("128 characters, not bytes");
}

pub async fn limits_are_the_plans_with_overrides_on_top(place: &Place) {
    let store = place.open().await;
    let made = store.tenants.create(new_tenant("Acme"), by(0)).await.expect("creates");
    assert_eq!(made.limits, Limits::of(PlanName::Pro));

    let fields = json!({ "connections": 12 }).as_object().expect("an object").clone();
    let overrides = Overrides::new(fields).expect("valid");
    let changed =
        store.tenants.set_plan(made.id, PlanName::Free, overrides.clone(), by(1)).await.expect("sets");
    assert_eq!(changed.value.limits, Limits { connections: 12, ..Limits::of(PlanName::Free) });
    assert_eq!(changed.value.overrides, overrides);
    assert_eq!(store.tenants.get(made.id).await.expect("reads"), changed.value);

    for wrong in [json!({ "conections": 1 }), json!({ "connections": -1 }), json!({ "connections": "many" })]
    {
        let error = Overrides::new(wrong.as_object().expect("an object").clone()).expect_err("wrong");
        assert!(matches!(error, StoreError::Invalid(_)), "{error}");
    }
    let missing = store.tenants.set_plan(TenantId::new(), PlanName::Free, Overrides::default(), by(2)).await;
    assert!(matches!(missing, Err(StoreError::NotFound("tenant"))));
}

pub async fn a_deleted_project_is_found_by_nobody(place: &Place) {
    let store = place.open().await;
    let made = set_up(&store, "acme").await;
    let (tenant, project, key) = (made.access.tenant.id, made.access.project.id, made.key.id);
    let deleted = store.tenants.delete_project(tenant, project, by(5)).await.expect("deletes");
    assert_eq!((deleted.value.name.as_str(), deleted.value.id), (made.access.project.name.as_str(), project));
    assert_eq!(
        (deleted.change.kind, &deleted.change.subject),
        (AccessChangeKind::ProjectDeleted, &project.to_string())
    );
    let gone = |error: StoreError| assert!(matches!(error, StoreError::NotFound("project")), "{error:?}");
    gone(store.tenants.project(tenant, project).await.expect_err("read"));
    gone(store.tenants.delete_project(tenant, project, by(6)).await.expect_err("deleted"));
    gone(store.tenants.rename_project(tenant, project, "x".into(), by(6)).await.expect_err("renamed"));
    let limits = ProjectLimits::default();
    gone(store.tenants.set_project_limits(tenant, project, limits, by(6)).await.expect_err("limited"));
    gone(store.keys.create(tenant, project, new_key(), by(6)).await.expect_err("given a key"));
    assert!(store.directory.key(key).await.expect("reads").is_none());
    assert!(store.directory.signing_key(made.signing_key.id).await.expect("reads").is_none());
    assert!(store.directory.access(tenant, project).await.expect("reads").is_none());
    assert!(store.directory.project(project).await.expect("reads").is_none());
    assert!(store.tenants.projects(tenant, After::first(9)).await.expect("lists").items.is_empty());
    let revoked = store.keys.get(tenant, key).await.expect("its tenant may still look").revoked_at;
    assert_eq!(revoked, Some(by(5).at));

    // Its name is free, and what is made under it is another project.
    let name = made.access.project.name;
    let again = store.tenants.create_project(tenant, ProjectId::new(), name, by(7)).await.expect("creates");
    store.keys.create(tenant, again.id, new_key(), by(8)).await.expect("creates");
    let taken = store.tenants.create_project(tenant, ProjectId::new(), "side".into(), by(9)).await;
    let renamed = store.tenants.rename_project(tenant, taken.expect("creates").id, again.name, by(9)).await;
    assert!(matches!(renamed, Err(StoreError::Conflict(_))), "{renamed:?}");
}

pub async fn a_deleted_tenant_is_found_by_nobody(place: &Place) {
    let store = place.open().await;
    let (made, other) = (set_up(&store, "acme").await, set_up(&store, "bolt").await);
    let (tenant, project) = (made.access.tenant.id, made.access.project.id);
    let deleted = store.tenants.delete(tenant, by(5)).await.expect("deletes");
    assert_eq!((deleted.value.name.as_str(), deleted.change.kind), ("acme", AccessChangeKind::TenantDeleted));
    let gone = |error: StoreError| assert!(matches!(error, StoreError::NotFound(_)), "{error:?}");
    gone(store.tenants.get(tenant).await.expect_err("read"));
    gone(store.tenants.delete(tenant, by(6)).await.expect_err("deleted"));
    gone(store.tenants.rename(tenant, "x".into(), by(6)).await.expect_err("renamed"));
    let resumed = store.tenants.set_status(tenant, TenantStatus::Active, None, by(6)).await;
    gone(resumed.expect_err("resumed"));
    let new = store.tenants.create_project(tenant, ProjectId::new(), "x".into(), by(6)).await;
    gone(new.expect_err("given a project"));
    gone(store.keys.create(tenant, project, new_key(), by(6)).await.expect_err("given a key"));
    assert!(store.directory.key(made.key.id).await.expect("reads").is_none());
    assert!(store.directory.access(tenant, project).await.expect("reads").is_none());
    assert!(store.directory.tenant_by_name("acme".into()).await.expect("reads").is_none());
    let left = store.directory.tenants(After::first(9)).await.expect("lists");
    assert_eq!(left.items.iter().map(|tenant| tenant.id).collect::<Vec<_>>(), [other.access.tenant.id]);
    let verified = store.audit.verify(Some(tenant)).await.expect("its trail stays");
    assert!(matches!(verified, crate::audit::Verification::Intact { .. }), "{verified:?}");
    // Nothing of the other one's is touched, and the name is free.
    assert!(store.directory.key(other.key.id).await.expect("reads").is_some());
    assert_ne!(set_up(&store, "acme").await.access.tenant.id, tenant);
}

pub async fn projects_belong_to_one_tenant(place: &Place) {
    let store = place.open().await;
    let (one, two) = (set_up(&store, "one").await.access, set_up(&store, "two").await.access);
    assert_eq!(one.project.name, two.project.name, "the same name in two tenants is fine");
    let read = store.tenants.project(one.tenant.id, one.project.id).await.expect("reads");
    assert_eq!(read, one.project);
    let foreign = store.tenants.project(one.tenant.id, two.project.id).await;
    assert!(matches!(foreign, Err(StoreError::NotFound("project"))));

    let id = ProjectId::new();
    let second =
        store.tenants.create_project(one.tenant.id, id, "side".into(), by(1)).await.expect("creates");
    let taken = store.tenants.create_project(one.tenant.id, ProjectId::new(), "side".into(), by(2)).await;
    assert!(matches!(taken, Err(StoreError::Conflict(_))));
    let nowhere = store.tenants.create_project(TenantId::new(), ProjectId::new(), "x".into(), by(2)).await;
    assert!(matches!(nowhere, Err(StoreError::NotFound(_))), "{nowhere:?}");
    let page = store.tenants.projects(one.tenant.id, After::first(10)).await.expect("lists");
    assert_eq!((page.items, page.has_more), (vec![one.project.clone(), second.clone()], false));

    // Of several tenants at once, so many of each.
    let mut ids = [one.tenant.id, two.tenant.id];
    ids.sort_unstable();
    let of_both = |each| store.directory.first_projects(ids[0], ids[1], each);
    let of = |projects: Vec<crate::Project>, tenant| {
        projects.into_iter().filter(|project| project.tenant_id == tenant).collect::<Vec<_>>()
    };
    let (all, firsts) = (of_both(5).await.expect("reads"), of_both(1).await.expect("reads"));
    assert_eq!((all.len(), of(all, one.tenant.id)), (3, vec![one.project.clone(), second]));
    assert_eq!((firsts.len(), of(firsts, one.tenant.id)), (2, vec![one.project]));
    let alone = store.directory.first_projects(two.tenant.id, two.tenant.id, 5).await.expect("reads");
    assert_eq!(alone, [two.project]);
}
