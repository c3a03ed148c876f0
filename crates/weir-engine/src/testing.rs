//! A whole engine in a folder, for the tests of crates that know no store and no log.
#![allow(clippy::expect_used, missing_docs, reason = "tests want to know where it broke")]

use crate::{Engine, Parts, Settings};
use std::path::Path;
use std::sync::Arc;
use weir_core::key::{self, KeyHasher, PresentedKey};
use weir_core::{Clock, KeyId, PlanName, Scopes, Secret, SigningKeyId, SystemClock, TenantId};
use weir_hub::Hub;
use weir_log::embedded::{self, Embedded};
use weir_outbound::{Outbound, Policy};
use weir_store::{Bootstrap, By, NewKey, NewSigningKey, SigningMaterial};

/// An engine with one tenant.
pub struct Small {
    pub engine: Arc<Engine>,
    pub tenant: TenantId,
    /// An API key that may do everything.
    pub key: Secret,
}

impl Small {
    /// Starts it with its database and log in the folder.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start(folder: &Path, settings: Settings) -> Self {
        let url = format!("sqlite://{}", folder.join("weir.db").display());
        let store = weir_store::open(&url, weir_store::Options::default()).await.expect("a database");
        let root = store.root_secret().await.expect("a root secret");
        let id = KeyId::new();
        let key = key::generate(id);
        let presented = PresentedKey::parse(key.expose()).expect("a key");
        let wanted = Bootstrap {
            tenant_name: "t".into(),
            project_name: "p".into(),
            plan: PlanName::Enterprise,
            key: NewKey {
                id,
                name: "k".into(),
                key_hash: KeyHasher::new(&root).hash(&presented),
                scopes: Scopes::all(),
                rate_limit_per_sec: 0,
                expires_at: None,
            },
            signing_key: NewSigningKey {
                id: SigningKeyId::new(),
                name: "s".into(),
                material: SigningMaterial::Secret(b"sealed".to_vec()),
                templates: None,
            },
        };
        let made = store.directory.bootstrap(wanted, By::new("test", SystemClock.now())).await.expect("made");
        let parts = Parts {
            store,
            log: Embedded::open(&embedded::Options::new(folder.join("log"))).expect("a log"),
            hub: Hub::start(weir_hub::Config { shards: 1, ..Default::default() }).expect("a hub"),
            clock: Arc::new(SystemClock),
            outbound: Outbound::new(Policy::Trusted).expect("a client"),
            stripe: None,
            root,
            settings,
        };
        let engine = Engine::start(parts).await.expect("an engine");
        Self { engine, tenant: made.access.tenant.id, key }
    }
}
