//! Usage out: what the log took is billed once, whatever is lost or dies on the way.

use std::sync::Arc;
use std::time::Duration;
use weir_core::Clock;
use weir_engine::billing::stripe::StripeBilling;
use weir_store::ReportState;
use weir_testkit::stripe::Moment;
use weir_testkit::{Billed, Subscriber};

use super::METER_EVENTS;
const HOUR: Duration = Duration::from_secs(3600);

/// One of a thing on each database.
async fn both() -> [Billed; 2] {
    [Billed::sqlite().await, Billed::postgres().await]
}

/// A node, a tenant that subscribed, and `events` of its in an hour that is closed.
async fn closed(billed: &Billed, events: u64) -> (Arc<StripeBilling>, Subscriber) {
    let node = billed.node();
    let subscriber = billed.subscriber(&node).await;
    billed.publish(&subscriber, 0, events).await;
    billed.clock.advance(HOUR);
    billed.close_hours().await;
    (node, subscriber)
}

/// Billed − logged = 0, and nothing is left for people.
async fn exact(billed: &Billed, of: &Subscriber) {
    billed.report_all().await;
    assert_eq!(billed.fake.metered(&of.customer), billed.logged(of).await);
    assert_eq!(billed.adjustments(of).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_hours_are_reported_once() {
    for billed in both().await {
        let (node, subscriber) = closed(&billed, 41).await;
        billed.publish(&subscriber, 0, 100).await;
        assert_eq!(node.report_usage().await.expect("reports"), 1);
        assert_eq!(billed.fake.metered(&subscriber.customer), 41, "the hour that is open is not reported");
        assert_eq!(node.report_usage().await.expect("reports"), 0);
        assert_eq!(billed.node().report_usage().await.expect("reports"), 0);
        let event = billed.fake.meter_events().remove(0);
        let hour = billed.clock.now().hour().seconds();
        assert_eq!((event.timestamp, event.value), (hour - 1, 41), "{event:?}");
        assert!(event.identifier.starts_with(&subscriber.tenant.to_string()), "{event:?}");

        // What comes late is the difference, under a revision of its own.
        billed.publish(&subscriber, 1, 9).await;
        billed.clock.advance(HOUR);
        billed.close_hours().await;
        exact(&billed, &subscriber).await;
        let values: Vec<_> = billed.fake.meter_events().iter().map(|event| event.value).collect();
        assert_eq!(values, [41, 9, 100]);
    }
}

/// The worker dies with its exchange stopped right before and right after it took effect; another one goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_while_it_sends_loses_and_doubles_nothing() {
    for billed in both().await {
        for moment in [Moment::Before, Moment::After] {
            for later in [Duration::ZERO, HOUR * 5, HOUR * 30, HOUR * 24 * 10] {
                let (node, subscriber) = closed(&billed, 7).await;
                let mut hold = billed.fake.hold(METER_EVENTS, moment);
                let work = tokio::spawn(async move { node.report_usage().await });
                hold.reached().await;
                work.abort();
                assert!(work.await.is_err_and(|error| error.is_cancelled()));
                hold.release();
                billed.clock.advance(later);
                exact(&billed, &subscriber).await;
            }
        }
    }
}

/// It dies at any moment of writing, marking, sending and settling.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_anywhere_loses_and_doubles_nothing() {
    for billed in both().await {
        let node = billed.node();
        let mut subscribers = Vec::new();
        for _ in 0..5 {
            subscribers.push(billed.subscriber(&node).await);
        }
        for round in 0..40_u32 {
            for (subscriber, events) in subscribers.iter().zip(1..) {
                billed.publish(subscriber, 0, events * 10 + u64::from(round)).await;
            }
            billed.clock.advance(HOUR);
            billed.close_hours().await;
            billed.fake.set_latency(Duration::from_millis(u64::from(round % 4)));
            let worker = billed.node();
            let patience = Duration::from_micros(u64::from(round) * 700);
            let _ = tokio::time::timeout(patience, worker.report_usage()).await;
        }
        billed.fake.set_latency(Duration::ZERO);
        for subscriber in &subscribers {
            exact(&billed, subscriber).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_answers_are_not_billed_twice_even_when_stripe_has_forgotten() {
    for billed in both().await {
        // The effect came or did not, the answer never; and Stripe is away for so long that it forgets the identifier.
        for (moment, away) in
            [(Moment::Before, 1), (Moment::After, 1), (Moment::Before, 30), (Moment::After, 30)]
        {
            let (node, subscriber) = closed(&billed, 13).await;
            billed.fake.cut(METER_EVENTS, moment, 1);
            node.report_usage().await.expect("goes on");
            billed.clock.advance(HOUR * away);
            exact(&billed, &subscriber).await;
        }
        // Stripe knows the identifier no more, and its summaries lag.
        let (node, subscriber) = closed(&billed, 13).await;
        billed.fake.set_summary_lag(Duration::from_secs(1800));
        billed.fake.cut(METER_EVENTS, Moment::After, 1);
        node.report_usage().await.expect("goes on");
        billed.clock.advance(HOUR * 48);
        exact(&billed, &subscriber).await;
        let times =
            billed.fake.meter_events().iter().filter(|event| event.customer == subscriber.customer).count();
        assert_eq!(times, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_stripe_is_sat_out() {
    for billed in both().await {
        let (node, subscriber) = closed(&billed, 5).await;
        billed.fake.fail(METER_EVENTS, 500, Moment::Before, 3);
        billed.fake.fail(METER_EVENTS, 500, Moment::After, 1);
        billed.fake.fail(METER_EVENTS, 429, Moment::Before, 2);
        billed.fake.cut(METER_EVENTS, Moment::Before, 2);
        node.report_usage().await.expect("goes on");
        assert_eq!(billed.fake.metered(&subscriber.customer), 0);
        exact(&billed, &subscriber).await;
        // The key was replaced in Stripe and not here: nothing is lost meanwhile.
        let wrong =
            weir_outbound::stripe::Stripe::new(billed.fake.url(), weir_core::Secret::new("sk_test_old"));
        let settings =
            weir_engine::billing::stripe::Settings { client: wrong.expect("a client"), ..billed.settings() };
        let locked = StripeBilling::new(billed.store.clone(), weir_core::NodeId::new(), settings);
        billed.publish(&subscriber, 0, 3).await;
        billed.clock.advance(HOUR);
        billed.close_hours().await;
        assert_eq!(locked.report_usage().await.expect("goes on"), 0);
        exact(&billed, &subscriber).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_that_stripe_no_longer_takes_is_left_for_people() {
    for billed in both().await {
        let (_, subscriber) = closed(&billed, 6).await;
        billed.clock.advance(HOUR * 24 * 36);
        billed.close_hours().await;
        billed.report_all().await;
        assert_eq!(billed.fake.metered(&subscriber.customer), 0);
        let left = billed.adjustments(&subscriber).await;
        assert_eq!((left[0].quantity, left[0].state), (6, ReportState::Adjustment));
        assert!(left[0].note.as_deref().is_some_and(|note| note.contains("35 calendar days")), "{left:?}");
        // It arrived after all, before the wait began: that is found, not reported.
        let (node, other) = closed(&billed, 8).await;
        billed.fake.cut(METER_EVENTS, Moment::After, 1);
        node.report_usage().await.expect("goes on");
        billed.clock.advance(HOUR * 24 * 36);
        exact(&billed, &other).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stripe_finds_wrong_afterwards_is_told_and_left_for_people() {
    let billed = Billed::sqlite().await;
    let (node, subscriber) = closed(&billed, 6).await;
    node.report_usage().await.expect("reports");
    billed.fake.disown_meter_events(&subscriber.customer);
    let thin = billed.fake.report_meter_errors(&billed.plan.meter).expect("a report");
    billed.deliver(&node, &billed.fake.delivery(&thin)).await;
    let left = billed.adjustments(&subscriber).await;
    assert_eq!((left[0].quantity, left[0].state), (6, ReportState::Rejected));
    assert!(
        left[0].note.as_deref().is_some_and(|note| note.contains("meter_event_customer_not_found")),
        "{left:?}"
    );
    billed.report_all().await;
    assert_eq!(billed.fake.metered(&subscriber.customer), 0, "it is not sent again by itself");
}

/// The database was restored from a copy that did not know what was reported: nothing is billed again.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_lost_copy_of_the_database_reported_is_found() {
    let billed = Billed::sqlite().await;
    let (node, subscriber) = closed(&billed, 6).await;
    node.report_usage().await.expect("reports");
    billed.forget_reports().await;
    for wait in [HOUR, HOUR * 40] {
        billed.clock.advance(wait);
        exact(&billed, &subscriber).await;
        billed.forget_reports().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_that_jump_bill_nothing_twice() {
    let day = HOUR * 24;
    for billed in both().await {
        for (ahead, back) in [
            (HOUR, Duration::ZERO),
            (Duration::ZERO, HOUR),
            (Duration::ZERO, day * 90),
            (day * 90, Duration::ZERO),
        ] {
            let (node, subscriber) = closed(&billed, 11).await;
            billed.fake.cut(METER_EVENTS, Moment::After, 1);
            node.report_usage().await.expect("goes on");
            let then = billed.clock.now();
            // Our clock jumps; Stripe's does not.
            billed.jump(ahead, back);
            for _ in 0..3 {
                billed.node().report_usage().await.expect("goes on");
            }
            billed.mend_clocks(then.plus(HOUR * 2));
            exact(&billed, &subscriber).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn absurd_quantities_are_left_for_people() {
    let billed = Billed::sqlite().await;
    let (node, subscriber) = closed(&billed, 1 << 52).await;
    node.report_usage().await.expect("goes on");
    assert_eq!(billed.fake.metered(&subscriber.customer), 0);
    assert_eq!(billed.adjustments(&subscriber).await[0].state, ReportState::Adjustment);
}

/// A correction downwards is an event of its own below zero, and lost answers do not take it back twice.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_counted_too_high_is_taken_back_once() {
    let billed = Billed::sqlite().await;
    let (node, subscriber) = closed(&billed, 40).await;
    node.report_usage().await.expect("reports");
    for (moment, away) in [(Moment::Before, 1), (Moment::After, 1), (Moment::After, 30)] {
        billed.counted_too_high(5).await;
        // A new hour, so that there is something to look at the old ones for.
        billed.publish(&subscriber, 0, 10).await;
        billed.clock.advance(HOUR);
        billed.close_hours().await;
        billed.fake.cut(METER_EVENTS, moment, 1);
        node.report_usage().await.expect("goes on");
        billed.clock.advance(HOUR * away);
        exact(&billed, &subscriber).await;
    }
    let back = billed.fake.meter_events().iter().filter(|event| event.value < 0).count();
    assert!(back >= 3, "{:?}", billed.fake.meter_events());
}

#[tokio::test(flavor = "multi_thread")]
async fn several_nodes_report_each_hour_once() {
    for billed in both().await {
        let node = billed.node();
        let mut subscribers = Vec::new();
        for _ in 0..20 {
            let subscriber = billed.subscriber(&node).await;
            billed.publish(&subscriber, 0, 5).await;
            subscribers.push(subscriber);
        }
        billed.clock.advance(HOUR);
        billed.close_hours().await;
        billed.fake.set_latency(Duration::from_millis(5));
        // None of them has a lease, so each takes the turn from the others: the worst that can be.
        let nodes: Vec<_> = (0..4).map(|_| billed.node()).collect();
        futures::future::join_all(nodes.iter().map(|node| node.report_usage())).await;
        billed.fake.set_latency(Duration::ZERO);
        for subscriber in &subscribers {
            exact(&billed, subscriber).await;
        }
    }
}
