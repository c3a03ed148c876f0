//! Operations of one session over the real parts: history from the log, live from the hub, permissions.

#![allow(clippy::expect_used, clippy::panic)]

use bytes::Bytes;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::json;
use std::collections::HashMap;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use tokio::sync::Notify;
use weir_core::event::Headers;
use weir_core::key::{self, KeyHasher, PresentedKey};
use weir_core::{
    Clock, Code, ConnectionId, KeyId, NewEvent, Payload, PlanName, ProjectId, Scopes, SigningKeyId,
    SystemClock,
};
use weir_engine::{
    Caller, Credentials, Engine, Envelope, Error, Farewell, Fields, Gap, Operation, Parts, Session, Settings,
    Start, Subscribed, Voice,
};
use weir_hub::{Closed, Conn, Dialect, Hub, Listener, Message, NewConnection, Shape};
use weir_log::embedded::{self, Embedded};
use weir_outbound::{Outbound, Policy};
use weir_store::seal::Sealer;
use weir_store::{Bootstrap, By, NewKey, NewSigningKey, SigningMaterial};

const SECRET: &str = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFG";

struct World {
    engine: Arc<Engine>,
    project: ProjectId,
    signer: SigningKeyId,
    publisher: Arc<Caller>,
    _files: tempfile::TempDir,
}

impl World {
    async fn start() -> Self {
        let files = tempfile::tempdir().expect("a directory");
        let options = weir_store::Options {
            max_connections: 2,
            acquire_timeout: Duration::from_secs(20),
            call_timeout: Duration::from_secs(20),
            auto_migrate: true,
            migration_url: None,
        };
        let url = format!("sqlite://{}", files.path().join("weir.db").display());
        let store = weir_store::open(&url, options).await.expect("a store");
        let root = store.root_secret().await.expect("a root secret");
        let (id, signer) = (KeyId::new(), SigningKeyId::new());
        let text = key::generate(id);
        let presented = PresentedKey::parse(text.expose()).expect("a key");
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
                id: signer,
                name: "s".into(),
                material: SigningMaterial::Secret(
                    Sealer::new(&root).expect("a sealer").seal(signer, SECRET.as_bytes()).expect("sealed"),
                ),
                templates: None,
            },
        };
        let made = store.directory.bootstrap(wanted, By::new("test", SystemClock.now())).await.expect("made");
        let log = Embedded::open(&embedded::Options::new(files.path().join("log"))).expect("a log");
        let hub = Hub::start(weir_hub::Config { shards: 1, ..Default::default() }).expect("a hub");
        let parts = Parts {
            store,
            log,
            hub,
            clock: Arc::new(SystemClock),
            outbound: Outbound::new(Policy::Trusted).expect("a client"),
            stripe: None,
            root,
            settings: Settings::default(),
        };
        let engine = Engine::start(parts).await.expect("an engine");
        let publisher = engine.authenticate(Credentials::api_key(text.expose())).await.expect("a caller");
        let project = made.access.project.id;
        Self { engine, project, signer: made.signing_key.id, publisher, _files: files }
    }

    async fn caller(&self, subscribe: &[&str]) -> Arc<Caller> {
        let header = Header { kid: Some(self.signer.to_string()), ..Header::default() };
        let claims =
            json!({ "exp": 4_000_000_000_u64, "aud": self.project.to_string(), "subscribe": subscribe });
        let token = jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(SECRET.as_bytes()));
        self.engine.authenticate(Credentials::token(&token.expect("a token"))).await.expect("a caller")
    }

    /// Publishes on two topics in turn; returns the last event's cursor.
    async fn publish(&self, count: usize) -> String {
        let mut cursor = String::new();
        for n in 0..count {
            let event = NewEvent {
                id: None,
                topic: format!("t.{}", n % 2).parse().expect("a topic"),
                payload: Payload::parse(b"{}").expect("a payload"),
                kind: None,
                headers: Headers::default(),
            };
            cursor = self.engine.publish(&self.publisher, event).await.expect("published").cursor;
        }
        cursor
    }

    async fn connect(&self, subscribe: &[&str]) -> (Arc<Session>, Client) {
        let caller = self.caller(subscribe).await;
        let text = |error: &Error| Some(format!("end:{}\n\n", error.code.as_str()).into_bytes());
        let farewell = Farewell { protocol: "test", text, code: Code::close_code, reachable: |_| None };
        let slot = self.engine.reserve(&caller).await.expect("room for a connection");
        let session = self.engine.open_session(&caller, slot, ConnectionId::new(), farewell);
        let server = TcpListener::bind("127.0.0.1:0").expect("bind");
        let client = TcpStream::connect(server.local_addr().expect("address")).expect("connect");
        client.set_read_timeout(Some(Duration::from_secs(20))).expect("timeout");
        let opened = Arc::new(Notify::new());
        self.engine.hub().adopt(NewConnection {
            socket: weir_hub::ready(server.accept().expect("accept").0).expect("options"),
            dialect: Dialect::Sse,
            read_ahead: Bytes::new(),
            preamble: Bytes::new(),
            listener: Arc::new(Ear { session: Arc::clone(&session), opened: Arc::clone(&opened) }),
        });
        opened.notified().await;
        (session, Client { socket: client, buffer: Vec::new() })
    }
}

struct Ear {
    session: Arc<Session>,
    opened: Arc<Notify>,
}

impl Listener for Ear {
    fn opened(&self, conn: Conn) -> Option<Bytes> {
        self.session.opened(conn);
        self.opened.notify_one();
        None
    }

    fn text(self: Arc<Self>, _: Bytes) -> bool {
        true
    }

    fn drained(&self) {
        self.session.drained();
    }

    fn closed(&self, _: Closed) {
        self.session.closed();
    }
}

struct Client {
    socket: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    /// The next two words of the stream: `name:what`.
    fn read(&mut self) -> (String, String) {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|two| two == b"\n\n") {
                let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
                let text = String::from_utf8(block).expect("UTF-8");
                if let Some((name, what)) = text.trim().split_once(':').filter(|(name, _)| !name.is_empty()) {
                    return (name.to_owned(), what.to_owned());
                }
                continue;
            }
            let mut piece = [0; 4096];
            let count = self.socket.read(&mut piece).expect("something to read");
            assert!(count > 0, "the stream ended");
            self.buffer.extend_from_slice(&piece[..count]);
        }
    }

    /// Reads `count` events; the sequences of each operation.
    fn events(&mut self, count: usize) -> HashMap<String, Vec<u64>> {
        let mut heard: HashMap<String, Vec<u64>> = HashMap::new();
        for _ in 0..count {
            let (name, what) = self.read();
            heard.entry(name).or_default().push(what.parse().unwrap_or_else(|_| panic!("an event: {what}")));
        }
        heard
    }
}

struct Sequence;

impl Shape for Sequence {
    fn key(&self) -> &str {
        "sequence"
    }

    fn render(&self, message: &Message, out: &mut Vec<u8>) {
        out.extend_from_slice(Fields::of(message).sequence());
    }
}

#[derive(Default)]
struct Words {
    name: OnceLock<&'static str>,
    ended: Mutex<Vec<Code>>,
}

impl Voice for Words {
    fn subscribed(&self, _: &Subscribed) -> Option<Vec<u8>> {
        None
    }

    fn gap(&self, gap: &Gap) -> Vec<u8> {
        format!("gap:{}-{}\n\n", gap.from, gap.to).into_bytes()
    }

    fn ended(&self, error: &Error) -> Option<Vec<u8>> {
        self.ended.lock().expect("lock").push(error.code);
        Some(format!("{}:over\n\n", self.name.get().expect("a name")).into_bytes())
    }
}

fn begin(
    session: &Session,
    name: &'static str,
    topics: &[&str],
) -> (Arc<Words>, Result<Arc<Operation>, Error>) {
    let voice = Arc::new(Words::default());
    voice.name.set(name).expect("unnamed");
    let envelope = Envelope {
        prefix: format!("{name}:").into(),
        suffix: Bytes::from_static(b"\n\n"),
        shape: Arc::new(Sequence),
    };
    let patterns = topics.iter().map(|topic| topic.parse().expect("a pattern")).collect();
    let begun = session.begin_operation(patterns, envelope, Arc::clone(&voice) as Arc<dyn Voice>);
    (voice, begun)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operations_resume_end_and_lose_their_permission_one_by_one() {
    let world = World::start().await;
    let cursor = world.publish(10).await;
    world.publish(20).await;
    let (session, mut client) = world.connect(&["t.*"]).await;
    let (_, all) = begin(&session, "all", &["t.*"]);
    let (_, odd) = begin(&session, "odd", &["t.1", "t.2"]);
    let (_, live) = begin(&session, "live", &["t.0"]);
    let (all, odd, live) = (all.expect("begun"), odd.expect("begun"), live.expect("begun"));
    let (first, second, third) = tokio::join!(
        session.follow(&all, Start::After(cursor)),
        session.follow(&odd, Start::Earliest),
        session.follow(&live, Start::Live),
    );
    assert!(first.is_ok() && second.is_ok() && third.is_ok());
    world.publish(10).await;
    let heard = client.events(30 + 20 + 5);
    let is_odd = |n: &u64| n.is_multiple_of(2); // Sequences begin with 1, topics with `t.0`.
    assert_eq!(heard["all"], (11..=40).collect::<Vec<_>>());
    assert_eq!(heard["odd"], (1..=40).filter(is_odd).collect::<Vec<_>>());
    assert_eq!(heard["live"], (31..=40).filter(|n| !is_odd(n)).collect::<Vec<_>>());

    assert!(session.end_operation(&all).await && !session.end_operation(&all).await);
    world.publish(2).await;
    assert_eq!(client.events(2), HashMap::from([("live".into(), vec![41]), ("odd".into(), vec![42])]));

    // One that is ended before it follows never begins.
    let (_, late) = begin(&session, "late", &["t.*"]);
    let late = late.expect("begun");
    assert!(session.end_operation(&late).await);
    assert!(session.follow(&late, Start::Earliest).await.is_ok());

    let lost = session.refresh(world.caller(&["t.0", "u"]).await).await.expect("refreshed");
    assert_eq!(lost, 1);
    assert_eq!(client.read(), ("odd".into(), "over".into()));
    world.publish(2).await;
    assert_eq!(client.read(), ("live".into(), "43".into()));
    let (_, refused) = begin(&session, "no", &["t.1"]);
    assert_eq!(refused.err().map(|error| error.code), Some(Code::InsufficientScope));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_are_counted_over_all_operations_and_refusals_leave_nothing_behind() {
    let world = World::start().await;
    let (session, mut client) = world.connect(&[">"]).await;
    let limit = session.caller().limits.topics_per_connection as usize;
    let topics: Vec<String> = (0..limit).map(|n| format!("t.{n}")).collect();
    let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
    let (_, full) = begin(&session, "full", &topics);
    let full = full.expect("begun");
    let (_, more) = begin(&session, "more", &["u"]);
    assert_eq!(more.err().map(|error| error.code), Some(Code::ProjectLimitExceeded));
    // A start that cannot be is refused, and gives its topics back.
    assert!(session.follow(&full, Start::After("nonsense".into())).await.is_err());
    assert!(!session.end_operation(&full).await);
    let (voice, again) = begin(&session, "again", &topics);
    let again = again.expect("begun");
    session.follow(&again, Start::Live).await.expect("live");
    world.publish(1).await;
    assert_eq!(client.read(), ("again".into(), "1".into()));
    session.close(&Error::new(Code::InvalidApiKey, "revoked"));
    assert_eq!(client.read(), ("end".into(), "INVALID_API_KEY".into()));
    assert!(voice.ended.lock().expect("lock").is_empty(), "the session ended, not the operation");
}
