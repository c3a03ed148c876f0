use super::place::Place;
use super::{at, by, set_up};
use crate::dead_letters::{DeadLetterFilter, MAX_BYTES, PoisonEvent};
use crate::webhooks::{
    AttemptOutcome, DeathReason, DisabledFor, KEPT_ATTEMPTS, MAX_WEBHOOKS, NewWebhook, Progress, Webhook,
    WebhookAttempt, WebhookMessage, WebhookTerms,
};
use crate::{After, Bootstrapped, Heartbeat, Store, StoreError};
use std::time::Duration;
use weir_core::{NodeId, Position, ProjectId, SystemTopic, TenantId, WebhookId};

const LEASE: Duration = Duration::from_secs(600);

async fn node(store: &Store) -> NodeId {
    let node = NodeId::new();
    let beat = Heartbeat { node, started_at: at(0), confirmed: 0, lease: LEASE };
    store.nodes.beat(beat).await.expect("beats");
    node
}

fn position(sequence: u64) -> Position {
    Position { epoch: u64::MAX - 3, sequence, check: u32::MAX }
}

async fn make(store: &Store, of: &Bootstrapped) -> Webhook {
    let terms = WebhookTerms {
        name: String::new(),
        url: "https://example.com/".into(),
        topics: vec!["a.>".parse().expect("a pattern")],
        ordered: true,
        in_flight: 8,
    };
    let new = NewWebhook { id: WebhookId::new(), terms, secret: vec![1, 2], cursor: position(7) };
    let (tenant, project) = (of.access.tenant.id, of.access.project.id);
    store.webhooks.create(tenant, project, new, by(1)).await.expect("makes")
}

fn message(sequence: u64, bytes: usize) -> WebhookMessage {
    WebhookMessage {
        id: format!("msg_{sequence}"),
        epoch: position(0).epoch,
        sequence,
        event_id: "e".into(),
        topic: "a.b".into(),
        cursor: "c".into(),
        traceparent: None,
        body: vec![b'x'; bytes],
        bytes: bytes as u64,
        attempts: 1,
        due_at: at(5),
        first_failed_at: Some(at(2)),
        last_failed_at: Some(at(3)),
        failure: Some("no".into()),
        dead_letter: None,
    }
}

fn attempt(n: u32) -> WebhookAttempt {
    WebhookAttempt {
        id: uuid::Uuid::now_v7(),
        at: at(4),
        message_id: "m".into(),
        event_id: "e".into(),
        topic: "a.b".into(),
        sequence: 9,
        number: n,
        outcome: AttemptOutcome::Retry,
        status: Some(500),
        failure: Some("no".into()),
        millis: 3,
    }
}

async fn progress(store: &Store, node: NodeId, of: &Webhook, progress: Progress) -> bool {
    store.deliveries.progress(node, of, progress, at(9)).await.expect("the database answers")
}

async fn letters(store: &Store, tenant: TenantId) -> Vec<crate::dead_letters::DeadLetter> {
    let page = store.dead_letters.list(tenant, DeadLetterFilter::default(), After::first(1000)).await;
    page.expect("reads").items
}

pub async fn webhooks_belong_to_a_tenant_and_are_bounded(place: &Place) {
    let store = place.open().await;
    let (one, other) = (set_up(&store, "acme").await, set_up(&store, "rival").await);
    let made = make(&store, &one).await;
    let (tenant, foreign) = (one.access.tenant.id, other.access.tenant.id);
    assert_eq!(store.webhooks.get(tenant, made.id).await.expect("reads"), made);
    assert_eq!((made.cursor, made.enabled), (position(7), true));
    assert_eq!(store.webhooks.tenant_of(made.id).await.expect("reads"), Some(tenant));
    let missing = |result: Result<Webhook, StoreError>| {
        assert!(matches!(result, Err(StoreError::NotFound(_))), "{result:?}");
    };
    missing(store.webhooks.get(foreign, made.id).await);
    missing(store.webhooks.change(foreign, made.id, made.terms.clone(), by(2)).await);
    missing(store.webhooks.rotate(foreign, made.id, vec![3], at(9), by(2)).await);
    missing(store.webhooks.set_enabled(foreign, made.id, false, by(2)).await);
    missing(store.webhooks.rewind(foreign, made.id, position(1), by(2)).await);
    missing(store.webhooks.delete(foreign, made.id, by(2)).await);
    for _ in 1..MAX_WEBHOOKS {
        make(&store, &one).await;
    }
    let new =
        NewWebhook { id: WebhookId::new(), terms: made.terms.clone(), secret: vec![], cursor: position(0) };
    let full = store.webhooks.create(tenant, one.access.project.id, new, by(3)).await;
    assert!(matches!(full, Err(StoreError::Conflict(_))), "{full:?}");
    let rotated = store.webhooks.rotate(tenant, made.id, vec![9], at(50), by(4)).await.expect("rotates");
    assert_eq!((rotated.secret, rotated.old_secret), (vec![9], Some((vec![1, 2], at(50)))));
    store.tenants.delete(tenant, by(5)).await.expect("deletes");
    missing(store.webhooks.get(tenant, made.id).await);
}

pub async fn one_node_at_a_time_moves_a_cursor(place: &Place) {
    let store = place.open().await;
    let of = set_up(&store, "acme").await;
    let [first, second] = [node(&store).await, node(&store).await];
    let lease = async |node| store.deliveries.lease(node, LEASE).await.expect("leases");
    assert_eq!(lease(first).await, []);
    let hooks = [make(&store, &of).await, make(&store, &of).await, make(&store, &of).await];
    // Two nodes, three webhooks: two at most each.
    assert_eq!(lease(first).await.len(), 2);
    assert_eq!(lease(second).await.len(), 1);
    let mine = lease(first).await.remove(0).webhook;
    let moved = |sequence| Progress { cursor: Some(position(sequence)), ..Progress::default() };
    assert!(progress(&store, first, &mine, moved(9)).await);
    assert!(!progress(&store, second, &mine, moved(11)).await, "another node's");
    let rewound = store.webhooks.rewind(mine.tenant_id, mine.id, position(3), by(6)).await.expect("moves");
    assert!(!progress(&store, first, &mine, moved(12)).await, "it was moved meanwhile");
    assert!(rewound.version > mine.version && rewound.cursor == position(3));
    store.nodes.leave(first).await.expect("leaves");
    assert_eq!(lease(second).await.len(), hooks.len(), "the dead node's are free at once");
    let third = node(&store).await;
    assert_eq!(lease(third).await.len(), 0);
    let surplus: Vec<WebhookId> =
        lease(second).await.iter().filter(|one| one.surplus).map(|one| one.webhook.id).collect();
    assert_eq!(surplus.len(), 1);
    store.deliveries.release(second, surplus).await.expect("gives up");
    assert_eq!(lease(third).await.len(), 1);
    let reason = Some("unpaid".to_owned());
    let (tenant, suspended) = (of.access.tenant.id, crate::TenantStatus::Suspended);
    store.tenants.set_status(tenant, suspended, reason, by(7)).await.expect("suspends");
    assert_eq!(lease(second).await, [], "who is not served is not sent anything");
}

pub async fn progress_is_written_whole(place: &Place) {
    let store = place.open().await;
    let of = set_up(&store, "acme").await;
    let (node, hook) = (node(&store).await, make(&store, &of).await);
    store.deliveries.lease(node, LEASE).await.expect("leases");
    let (tenant, id) = (hook.tenant_id, hook.id);
    let waiting = Progress {
        cursor: Some(position(9)),
        waiting: vec![message(8, 10), message(9, 20)],
        attempts: vec![attempt(1)],
        failing_since: Some(Some(at(2))),
        ..Progress::default()
    };
    assert!(progress(&store, node, &hook, waiting).await);
    let read = store.deliveries.messages(tenant, id).await.expect("reads");
    assert_eq!(read.iter().map(|one| (one.sequence, one.bytes)).collect::<Vec<_>>(), [(8, 10), (9, 20)]);
    let body = store.deliveries.body(tenant, id, "msg_9".into()).await.expect("reads");
    assert_eq!(body, Some(vec![b'x'; 20]));
    let now = store.webhooks.get(tenant, id).await.expect("reads");
    assert_eq!((now.cursor, now.failing_since), (position(9), Some(at(2))));

    // Later again, without the body; the other is taken, and the first is given up.
    let later = WebhookMessage { body: Vec::new(), attempts: 2, due_at: at(50), ..message(8, 0) };
    let retried = Progress { waiting: vec![later], taken: vec![message(9, 0)], ..Progress::default() };
    assert!(progress(&store, node, &hook, retried).await);
    let read = store.deliveries.messages(tenant, id).await.expect("reads");
    assert_eq!(
        read.iter().map(|one| (one.attempts, one.due_at, one.bytes)).collect::<Vec<_>>(),
        [(2, at(50), 10)]
    );
    let dead = WebhookMessage { body: Vec::new(), attempts: 3, ..message(8, 0) };
    let given_up = Progress {
        dead: vec![(dead, DeathReason::Exhausted)],
        attempts: (0..KEPT_ATTEMPTS + 20).map(attempt).collect(),
        ..Progress::default()
    };
    assert!(progress(&store, node, &hook, given_up).await);
    assert_eq!(store.deliveries.messages(tenant, id).await.expect("reads"), []);
    let letter = letters(&store, tenant).await.remove(0);
    assert_eq!((letter.attempts, letter.bytes, letter.first_failed_at), (3, 10, at(2)));
    assert_eq!(store.dead_letters.get(tenant, letter.id).await.expect("reads").body, vec![b'x'; 10]);
    let attempts = store.webhooks.attempts(tenant, id, After::first(1000)).await.expect("reads").items;
    assert_eq!(attempts.len(), KEPT_ATTEMPTS as usize);
    assert!(attempts[0].id > attempts[1].id, "the newest first");

    // Redriven by many at once: one effect; drops on the way leave the message.
    let at_once = super::at_once(6, |n| {
        let (store, letter) = (store.clone(), letter.id);
        async move { store.dead_letters.redrive(tenant, letter, by(20 + n as i64)).await.expect("redrives") }
    });
    assert!(at_once.await.iter().all(|one| one.redriven));
    let read = store.deliveries.messages(tenant, id).await.expect("reads");
    assert_eq!((read.len(), read[0].attempts, read[0].dead_letter), (1, 0, Some(letter.id)));
    assert!(progress(&store, node, &hook, Progress { taken: read, ..Progress::default() }).await);
    assert_eq!(letters(&store, tenant).await, []);
    let totals = store.dead_letters.totals(tenant).await.expect("reads");
    assert_eq!((totals.letters, totals.bytes, totals.dropped), (0, 0, 0));

    let off = Progress { disable: Some(DisabledFor::Gone), ..Progress::default() };
    assert!(progress(&store, node, &hook, off).await);
    assert!(!progress(&store, node, &hook, Progress::default()).await, "nothing is sent any more");
    let told: Vec<SystemTopic> =
        store.system_events.waiting(10, 10).await.expect("reads").iter().map(|event| event.topic).collect();
    assert_eq!(told, [SystemTopic::DeadLettersGrowing, SystemTopic::WebhookDisabled]);
}

pub async fn endpoints_that_take_nothing_are_found(place: &Place) {
    let store = place.open().await;
    let of = set_up(&store, "acme").await;
    let node = node(&store).await;
    let [failing, gone, asked, well] =
        [make(&store, &of).await, make(&store, &of).await, make(&store, &of).await, make(&store, &of).await];
    store.deliveries.lease(node, LEASE).await.expect("leases");
    let found = async |after, patience| {
        let found = store.alerts.failing_webhooks(after, patience, 10).await.expect("reads");
        found.into_iter().map(|one| (one.webhook, one.tenant, one.disabled)).collect::<Vec<_>>()
    };
    assert_eq!(found(None, Duration::ZERO).await, []);
    let since = Progress { failing_since: Some(Some(at(2))), ..Progress::default() };
    assert!(progress(&store, node, &failing, since).await);
    let off = Progress { disable: Some(DisabledFor::Gone), ..Progress::default() };
    assert!(progress(&store, node, &gone, off).await);
    store.webhooks.set_enabled(asked.tenant_id, asked.id, false, by(3)).await.expect("disables");
    let expected = [(failing.id, failing.tenant_id, false), (gone.id, gone.tenant_id, true)];
    assert_eq!(found(None, Duration::from_secs(60)).await, expected);
    assert_eq!(found(Some(failing.id), Duration::from_secs(60)).await, expected[1..]);
    // It has not failed for a thousand years, and what is disabled is found whatever the patience.
    assert_eq!(found(None, Duration::from_secs(1_000 * 365 * 24 * 3600)).await, expected[1..]);
    let again = Progress { failing_since: Some(None), ..Progress::default() };
    assert!(progress(&store, node, &failing, again).await);
    store.webhooks.set_enabled(gone.tenant_id, gone.id, true, by(4)).await.expect("enables");
    assert_eq!(found(None, Duration::ZERO).await, []);
    assert!(well.enabled);
}

pub async fn dead_letters_are_bounded_and_the_dropped_are_counted(place: &Place) {
    let store = place.open().await;
    let (of, other) = (set_up(&store, "acme").await, set_up(&store, "rival").await);
    let tenant = of.access.tenant.id;
    let poison = |tenant: TenantId, project: ProjectId, sequence: u64| PoisonEvent {
        tenant,
        project,
        topic: "t".into(),
        stream: "EVENTS".into(),
        epoch: 5,
        sequence,
        failure: "no event".into(),
        body: vec![0; usize::try_from(MAX_BYTES / 4).expect("a size")],
    };
    let bury = async |of: &Bootstrapped, sequence| {
        let one = poison(of.access.tenant.id, of.access.project.id, sequence);
        store.dead_letters.bury(vec![one], at(1)).await.expect("keeps");
    };
    bury(&other, 1).await;
    for sequence in [1, 2, 2, 3, 4, 5, 6] {
        bury(&of, sequence).await;
    }
    let kept = letters(&store, tenant).await;
    assert_eq!(kept.iter().map(|one| one.sequence).collect::<Vec<_>>(), [3, 4, 5, 6], "the oldest went");
    let totals = store.dead_letters.totals(tenant).await.expect("reads");
    assert_eq!((totals.letters, totals.bytes, totals.dropped), (4, MAX_BYTES, 2));
    assert_eq!(store.dead_letters.all_totals(10).await.expect("reads").len(), 2);
    let refused = store.dead_letters.redrive(tenant, kept[0].id, by(2)).await;
    assert!(matches!(refused, Err(StoreError::Conflict(_))), "{refused:?}");
    let foreign = store.dead_letters.get(other.access.tenant.id, kept[0].id).await;
    assert!(matches!(foreign, Err(StoreError::NotFound(_))), "{foreign:?}");
    store.dead_letters.drop_letter(tenant, kept[0].id, by(3)).await.expect("drops");
    assert_eq!(store.dead_letters.totals(tenant).await.expect("reads").letters, 3);
    store.tenants.delete_project(tenant, of.access.project.id, by(4)).await.expect("deletes");
    let totals = store.dead_letters.totals(tenant).await.expect("reads");
    assert_eq!((letters(&store, tenant).await.len(), totals.letters, totals.bytes), (0, 0, 0));
    assert_eq!(letters(&store, other.access.tenant.id).await.len(), 1, "others keep theirs");
}
