use super::place::Place;
use super::{by, set_up};
use crate::{AccessChangeKind, Notice};
use std::time::Duration;
use weir_core::{ConnectionId, NodeId};

pub async fn every_node_hears_a_question_and_the_asker_the_answers(place: &Place) {
    let (asker, other) = (place.open().await, place.open().await);
    let [mine, theirs] =
        [set_up(&asker, "acme").await, set_up(&asker, "rival").await].map(|made| made.access.tenant.id);
    let mut heard = asker.notices();
    if !place.is_sqlite() {
        // Listening begins with this one: anything may have been missed before.
        while heard.next().await != Notice::Missed {}
    }
    let id = asker.inquiries.ask(mine, "how many?".into()).await.expect("asks");
    while heard.next().await != Notice::Asked(id) {}
    let inquiry = other.inquiries.inquiry(id).await.expect("reads").expect("is there");
    assert_eq!((inquiry.tenant_id, inquiry.question.as_str()), (mine, "how many?"));

    let nodes = [NodeId::new(), NodeId::new()];
    other.inquiries.answer(id, mine, nodes[0], "two".into()).await.expect("answers");
    if !place.is_sqlite() {
        // Processes that share a file do not hear each other.
        while heard.next().await != Notice::Answered(id) {}
    }
    other.inquiries.answer(id, mine, nodes[0], "changed my mind".into()).await.expect("is dropped");
    asker.inquiries.answer(id, mine, nodes[1], "none".into()).await.expect("answers");
    asker.inquiries.answer(id, theirs, NodeId::new(), "poison".into()).await.expect("is dropped");
    let answers = asker.inquiries.answers(id, mine).await.expect("reads");
    assert_eq!(answers, [(nodes[0], "two".to_owned()), (nodes[1], "none".to_owned())]);
    assert_eq!(asker.inquiries.answers(id, theirs).await.expect("reads"), []);

    asker.inquiries.forget_inquiries(Duration::from_secs(60)).await.expect("forgets");
    assert!(asker.inquiries.inquiry(id).await.expect("reads").is_some());
    asker.inquiries.forget_inquiries(Duration::ZERO).await.expect("forgets");
    assert!(asker.inquiries.inquiry(id).await.expect("reads").is_none());
    asker.inquiries.answer(id, mine, NodeId::new(), "too late".into()).await.expect("is dropped");
    assert_eq!(asker.inquiries.answers(id, mine).await.expect("reads"), []);
}

pub async fn ending_a_connection_is_announced(place: &Place) {
    let store = place.open().await;
    let tenant = set_up(&store, "acme").await.access.tenant.id;
    let connection = ConnectionId::new();
    let changed = store.inquiries.end_connection(tenant, connection, by(1)).await.expect("ends");
    assert_eq!(changed.change.kind, AccessChangeKind::ConnectionEnded);
    assert_eq!(changed.change.subject, connection.to_string());
    let listed = store.directory.access_changes_after(changed.change.seq - 1, 10).await.expect("reads");
    assert_eq!(listed, [changed.change]);
}
