//! Boots the servers of one property once, and runs its cases against them.

use proptest::prelude::*;
use proptest::test_runner::{TestCaseResult, TestRunner};
use reqwest::Method;
use serde_json::{Value, json};
use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;
use weir_core::Role;
use weir_testkit::{Answer, CONNECTIONS, Replicas, Tenant, TestApp, until};

/// Cases per property and backend.
const CASES: u32 = 100;

/// Tenants that a property has at hand.
const TENANTS: usize = 3;

/// Fewer tenants are measured by name than there are. Webhooks reach this machine, and give up soon. Retention looks often,
/// so that a case need not wait for it.
const SETTINGS: [(&str, &str); 4] = [
    ("WEIR_METRICS_TENANTS", "2"),
    ("WEIR_OUTBOUND_ALLOW_NETWORKS", "127.0.0.0/8"),
    ("WEIR_WEBHOOKS_RETRIES", "20ms, 20ms"),
    ("WEIR_RETENTION_INTERVAL", "100ms"),
];

/// What a property runs against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// One server, SQLite and the embedded log.
    Embedded,
    /// Two servers on PostgreSQL and NATS JetStream.
    Cluster,
}

/// The servers, and names that keep cases apart.
pub struct World {
    pub app: TestApp,
    pub backend: Backend,
    pub tenants: Vec<Tenant>,
    cases: AtomicU64,
    staff: OnceCell<Staff>,
}

/// People of the first tenant, signed in, and one of the installation's own.
pub struct Staff {
    /// Access token of an owner.
    pub owner: String,
    /// The id of a member whose role the cases change.
    pub member: String,
    /// The access token of that member.
    pub token: String,
    /// Access token of an operator.
    pub operator: String,
}

impl World {
    async fn boot(backend: Backend, settings: &[(&str, &str)]) -> Self {
        let settings = [&SETTINGS[..], settings].concat();
        let app = match backend {
            Backend::Embedded => TestApp::start_with(&settings).await,
            Backend::Cluster => TestApp::cluster_with(2, Replicas::One, &settings).await,
        };
        let mut tenants = Vec::new();
        for _ in 0..TENANTS {
            tenants.push(app.tenant().await);
        }
        Self { app, backend, tenants, cases: AtomicU64::new(0), staff: OnceCell::new() }
    }

    /// The people, who sign in when the first case needs them.
    pub async fn staff(&self) -> &Staff {
        let of = |role| ["--tenant", &self.tenants[0].tenant_id, "--role", role];
        let all = async || {
            let member = self.person("member@acme.test", &of("viewer")).await;
            let token =
                async |email, arguments: &[&str]| text(&self.person(email, arguments).await["access_token"]);
            Staff {
                owner: token("owner@acme.test", &of("owner")).await,
                member: text(&member["user"]["id"]),
                token: text(&member["access_token"]),
                operator: token("ops@weir.test", &["--operator"]).await,
            }
        };
        self.staff.get_or_init(all).await
    }

    async fn person(&self, email: &str, arguments: &[&str]) -> Value {
        let made = self.app.run(&[&["users", "create", "--email", email], arguments].concat()).await;
        assert!(made.status.success(), "{made:?}");
        let invitation = String::from_utf8(made.stdout).expect("text");
        let accept = json!({"invitation": invitation.trim(), "password": "correct horse battery"});
        self.app.api("").post("/v1/auth/accept", &accept).await.expect(200)
    }

    /// Gives the member another role, asked of a node; the answer.
    pub async fn set_role(&self, node: usize, role: Role) -> Value {
        let staff = self.staff().await;
        let path = format!("/v1/admin/tenants/{}/members/{}", self.tenants[0].tenant_id, staff.member);
        let wish = json!({"role": role});
        let request = self.app.api_at(node, &staff.owner).request(Method::PATCH, &path).json(&wish);
        Answer::of(request).await.expect(200)
    }

    /// Waits until no node has a connection any more: what one case leaves would count in the next.
    pub async fn nothing_open(&self) {
        for node in &self.app.nodes {
            until("every connection to be counted out", async || {
                (node.metrics().await.sum(CONNECTIONS, &[])? == 0.0).then_some(())
            })
            .await;
        }
    }

    /// The first tenant, and a first topic token that no other case uses.
    pub fn fresh(&self) -> (&Tenant, String) {
        (&self.tenants[0], format!("case{}", self.cases.fetch_add(1, Ordering::Relaxed)))
    }
}

/// Text in an answer.
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not text: {value}")).to_owned()
}

/// Holds `property` for [`CASES`] inputs of `strategy`; afterwards nothing may be left over. The servers have
/// these settings besides the common ones.
pub fn hold_with<S, F>(
    backend: Backend,
    source: &'static str,
    settings: &[(&str, &str)],
    strategy: &S,
    property: F,
) where
    S: Strategy<Value: Debug>,
    F: AsyncFn(&mut World, S::Value) -> TestCaseResult,
{
    let runtime = Runtime::new().expect("a runtime");
    let world = std::cell::RefCell::new(runtime.block_on(World::boot(backend, settings)));
    let config = ProptestConfig {
        cases: CASES,
        // Every step of shrinking talks to real servers.
        max_shrink_iters: 40,
        ..ProptestConfig::with_source_file(source)
    };
    let outcome = TestRunner::new(config)
        .run(strategy, |input| runtime.block_on(property(&mut world.borrow_mut(), input)));
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
    runtime.block_on(world.into_inner().app.finish());
}

/// One property of the document: its tag, its name, its inputs, and what must hold for each of them.
macro_rules! property {
    ($(#[$tag:meta])* $name:ident, $strategy:expr, $property:path) => {
        $crate::world::property!($(#[$tag])* $name, $strategy, $property, &[]);
    };
    // Of servers with more settings.
    ($(#[$tag:meta])* $name:ident, $strategy:expr, $property:path, $settings:expr) => {
        $(#[$tag])*
        mod $name {
            use super::*;
            use $crate::world::{Backend, hold_with};

            #[test]
            fn embedded() {
                hold_with(Backend::Embedded, file!(), $settings, &$strategy, $property);
            }

            #[test]
            fn cluster() {
                hold_with(Backend::Cluster, file!(), $settings, &$strategy, $property);
            }
        }
    };
}
pub(crate) use property;
