use super::place::{Place, patient};
use super::{at_once, set_up};
use crate::{Options, StoreError, latest_schema_version, open};

pub async fn many_nodes_start_at_once(place: &Place) {
    let url = place.url.clone();
    let stores = at_once(6, |_| {
        let url = url.clone();
        async move { open(&url, patient()).await }
    })
    .await;
    for store in stores {
        let store = store.expect("opens");
        store.ping().await.expect("answers");
        assert_eq!(store.schema_version().await.expect("reads"), latest_schema_version());
    }
    set_up(&place.open().await, "acme").await;
}

pub async fn all_nodes_share_one_root_secret(place: &Place) {
    place.open().await;
    let url = place.url.clone();
    let secrets = at_once(8, |_| {
        let url = url.clone();
        async move {
            let store = open(&url, patient()).await.expect("opens");
            store.root_secret().await.expect("a secret").to_hex()
        }
    })
    .await;
    assert!(secrets.iter().all(|secret| secret == &secrets[0]));
    let again = place.open().await.root_secret().await.expect("a secret").to_hex();
    assert_eq!(again, secrets[0]);

    place.execute("UPDATE installation SET value = 'short'").await;
    let error = place.open().await.root_secret().await.expect_err("damaged");
    assert!(matches!(error, StoreError::Corrupt(_)) && !error.to_string().contains("short"), "{error}");
}

pub async fn says_which_tables_are_there(place: &Place) {
    let store = open(&place.url, Options { auto_migrate: false, ..patient() }).await.expect("opens");
    assert_eq!(store.schema_version().await.expect("reads"), 0);
    let error = store.directory.access_head().await.expect_err("there are no tables");
    assert!(matches!(error, StoreError::Schema(_)) && error.to_string().contains("weir migrate"), "{error}");
    store.migrate().await.expect("migrates");
    store.migrate().await.expect("migrates again");
    assert_eq!(store.schema_version().await.expect("reads"), latest_schema_version());
    store.directory.access_head().await.expect("there are tables");
    store.close().await;
    assert!(store.ping().await.expect_err("closed").is_transient());
}

pub async fn damage_and_missing_tables_are_told_apart(place: &Place) {
    let store = place.open().await;
    let made = set_up(&store, "acme").await;
    place.execute("UPDATE tenants SET plan = 'gold'").await;
    let error = store.tenants.get(made.access.tenant.id).await.expect_err("no such plan");
    assert!(matches!(error, StoreError::Corrupt(_)), "{error}");
    let error = store.directory.key(made.key.id).await.expect_err("no such plan");
    assert!(matches!(error, StoreError::Corrupt(_)), "{error}");
    place.execute("DROP TABLE tickets").await;
    let error = store.tickets.purge(super::at(0)).await.expect_err("no such table");
    assert!(matches!(error, StoreError::Schema(_)), "{error}");
}
