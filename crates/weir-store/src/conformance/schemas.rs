use super::place::Place;
use super::{at, at_once, by, set_up};
use crate::{AccessChangeKind, After, By, NewSchema, SchemaRoom, SchemaSet, Store, StoreError, TopicSchema};
use weir_core::{Pattern, ProjectId, TenantId};

const ROOM: SchemaRoom = SchemaRoom { schemas: 3, bytes: 100, old: 4 };

fn pattern(text: &str) -> Pattern {
    text.parse().expect("a pattern")
}

fn new(text: &str, document: &str, replaces: Option<u32>) -> NewSchema {
    NewSchema { pattern: pattern(text), document: document.into(), forced: replaces.is_some(), replaces }
}

async fn project(store: &Store, name: &str) -> (TenantId, ProjectId) {
    let made = set_up(store, name).await;
    (made.access.tenant.id, made.access.project.id)
}

async fn set(store: &Store, of: (TenantId, ProjectId), new: NewSchema) -> TopicSchema {
    match store.schemas.set(of.0, of.1, new, ROOM, by(1)).await.expect("sets") {
        SchemaSet::Done(changed) => changed.value,
        other => panic!("{other:?}"),
    }
}

pub async fn versions_are_counted_and_kept(place: &Place) {
    let store = place.open().await;
    let of = project(&store, "acme").await;
    let first = set(&store, of, new("a.*", "true", None)).await;
    assert_eq!((first.version, first.forced, first.created_at), (1, false, at(1)));
    assert_eq!(first.created_by, "test");
    let second = set(&store, of, new("a.*", "{}", Some(1))).await;
    assert_eq!((second.version, second.forced), (2, true));
    let schemas = &store.schemas;
    assert_eq!(schemas.get(of.0, of.1, pattern("a.*"), None).await.expect("reads"), second);
    assert_eq!(schemas.get(of.0, of.1, pattern("a.*"), Some(1)).await.expect("reads"), first);
    let none = schemas.get(of.0, of.1, pattern("a.*"), Some(3)).await.expect_err("no third");
    assert!(matches!(none, StoreError::NotFound("schema")));

    let removed = schemas.remove(of.0, of.1, pattern("a.*"), by(2)).await.expect("removes");
    assert_eq!(removed.value, second);
    assert_eq!(removed.change.kind, AccessChangeKind::SchemaRemoved);
    assert_eq!(removed.change.subject, of.1.to_string());
    let again = schemas.remove(of.0, of.1, pattern("a.*"), by(2)).await.expect_err("gone");
    assert!(matches!(again, StoreError::NotFound("schema")));
    assert!(schemas.in_force(of.0, of.1).await.expect("reads").is_empty());
    assert!(schemas.get(of.0, of.1, pattern("a.*"), None).await.is_err());
    let third = set(&store, of, new("a.*", "false", None)).await;
    assert_eq!(third.version, 3, "numbers go on");
    let page = schemas.versions(of.0, of.1, pattern("a.*"), After::first(2)).await.expect("lists");
    assert_eq!((page.items, page.has_more), (vec![first, second], true));
    let rest = After { after: Some(2), limit: 2 };
    let page = schemas.versions(of.0, of.1, pattern("a.*"), rest).await.expect("lists");
    assert_eq!((page.items, page.has_more), (vec![third], false));
}

pub async fn old_versions_are_forgotten_beyond_their_room(place: &Place) {
    let store = place.open().await;
    let (of, other) = (project(&store, "acme").await, project(&store, "other").await);
    set(&store, other, new("a", "true", None)).await;
    set(&store, other, new("a", "false", Some(1))).await;
    set(&store, of, new("kept", "true", None)).await;
    set(&store, of, new("gone", "true", None)).await;
    store.schemas.remove(of.0, of.1, pattern("gone"), by(1)).await.expect("removes");
    for version in 1..=6 {
        let schema = NewSchema { forced: true, ..new("a", "{}", (version > 1).then(|| version - 1)) };
        let at = By { at: at(i64::from(version) * 10), ..by(1) };
        let done = store.schemas.set(of.0, of.1, schema, ROOM, at).await.expect("sets");
        assert!(matches!(done, SchemaSet::Done(_)), "{done:?}");
    }
    let versions = async |of: (TenantId, ProjectId), name| {
        let page = store.schemas.versions(of.0, of.1, pattern(name), After::first(100)).await;
        page.expect("lists").items.iter().map(|one| one.version).collect::<Vec<_>>()
    };
    // Four old ones beside those in force; the removed pattern's was the oldest.
    assert_eq!(versions(of, "a").await, [2, 3, 4, 5, 6]);
    assert_eq!(versions(of, "gone").await, Vec::<u32>::new());
    assert_eq!((versions(of, "kept").await, versions(other, "a").await), (vec![1], vec![1, 2]));
    let again = set(&store, of, new("gone", "true", None)).await;
    assert_eq!(again.version, 2, "numbers go on");
}

pub async fn have_room_up_to_the_limit(place: &Place) {
    let store = place.open().await;
    let of = project(&store, "acme").await;
    for name in ["b.x", "B", "a.>"] {
        set(&store, of, new(name, "true", None)).await;
    }
    let fourth = store.schemas.set(of.0, of.1, new("d", "true", None), ROOM, by(1)).await.expect("answers");
    assert!(matches!(fourth, SchemaSet::TooMany), "{fourth:?}");
    let long = format!("{{\"title\":\"{}\"}}", "x".repeat(90));
    let large = store.schemas.set(of.0, of.1, new("B", &long, Some(1)), ROOM, by(1)).await.expect("answers");
    assert!(matches!(large, SchemaSet::TooLarge(110)), "{large:?}");
    set(&store, of, new("B", "false", Some(1))).await;

    let names = |schemas: &[TopicSchema]| -> Vec<String> {
        schemas.iter().map(|schema| schema.pattern.to_string()).collect()
    };
    // Byte order in both databases.
    assert_eq!(names(&store.schemas.in_force(of.0, of.1).await.expect("reads")), ["B", "a.>", "b.x"]);
    let page = store.schemas.list(of.0, of.1, After::first(2)).await.expect("lists");
    assert_eq!((names(&page.items), page.has_more), (vec!["B".into(), "a.>".into()], true));
    let rest = After { after: Some(pattern("a.>")), limit: 2 };
    let page = store.schemas.list(of.0, of.1, rest).await.expect("lists");
    assert_eq!((names(&page.items), page.has_more), (vec!["b.x".into()], false));
    store.schemas.remove(of.0, of.1, pattern("a.>"), by(2)).await.expect("removes");
    set(&store, of, new("d", "true", None)).await;
}

pub async fn of_others_are_out_of_reach(place: &Place) {
    let store = place.open().await;
    let (mine, theirs) = (project(&store, "mine").await, project(&store, "theirs").await);
    set(&store, theirs, new("a", "true", None)).await;
    let mixed = (mine.0, theirs.1);
    let schemas = &store.schemas;
    let made = schemas.set(mixed.0, mixed.1, new("a", "true", None), ROOM, by(1)).await;
    assert!(matches!(made.expect_err("made"), StoreError::NotFound("project")));
    let removed = schemas.remove(mixed.0, mixed.1, pattern("a"), by(1)).await;
    assert!(matches!(removed.expect_err("removed"), StoreError::NotFound(_)));
    assert!(schemas.get(mixed.0, mixed.1, pattern("a"), Some(1)).await.is_err());
    assert!(schemas.in_force(mixed.0, mixed.1).await.expect("reads").is_empty());
    assert!(schemas.list(mixed.0, mixed.1, After::first(9)).await.expect("reads").items.is_empty());
    let versions = schemas.versions(mixed.0, mixed.1, pattern("a"), After::first(9)).await.expect("reads");
    assert!(versions.items.is_empty());
    assert_eq!(schemas.in_force(theirs.0, theirs.1).await.expect("reads").len(), 1);
}

/// Of many that replace the same version one wins; tried again, all get in, each with its own number.
pub async fn races_lose_nothing(place: &Place) {
    let nodes = [place.open().await, place.open().await];
    let of = project(&nodes[0], "acme").await;
    // For every version: what is lost here is lost by a race.
    let room = SchemaRoom { old: 100, ..ROOM };
    let versions = at_once(8, |n| {
        let store = nodes[n % 2].clone();
        async move {
            loop {
                let current = store.schemas.get(of.0, of.1, pattern("a"), None).await;
                let replaces = current.ok().map(|schema| schema.version);
                let new = new("a", &format!("{{\"title\":\"{n}\"}}"), replaces);
                match store.schemas.set(of.0, of.1, new, room, by(1)).await.expect("answers") {
                    SchemaSet::Done(changed) => break changed.value.version,
                    SchemaSet::Superseded => {}
                    full => panic!("{full:?}"),
                }
            }
        }
    })
    .await;
    let mut versions = versions;
    versions.sort_unstable();
    assert_eq!(versions, [1, 2, 3, 4, 5, 6, 7, 8]);
    let kept = nodes[0].schemas.versions(of.0, of.1, pattern("a"), After::first(100)).await.expect("lists");
    let mut titles: Vec<_> = kept.items.iter().map(|schema| schema.document.clone()).collect();
    titles.sort_unstable();
    titles.dedup();
    assert_eq!(titles.len(), 8);
}
