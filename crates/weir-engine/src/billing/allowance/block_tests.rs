use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use weir_core::Code;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn period() -> Period {
    let anchor = Timestamp::from_seconds(1_767_225_600);
    Period::monthly(anchor, anchor)
}

fn grant(granted: u64) -> Lease {
    Lease {
        period: period(),
        remaining: DAY,
        limit: Some(1_000),
        granted,
        used: 0,
        others_unused: 0,
        in_doubt: false,
        reached: Vec::new(),
    }
}

fn learn(of: &Allowance, lease: &Lease) {
    assert!(of.learn(&of.need(), Instant::now(), lease));
}

fn granted(events: u64) -> Arc<Allowance> {
    let of = Arc::new(Allowance::new(TenantId::new()));
    learn(&of, &grant(events));
    of
}

fn held(of: &Allowance) -> Held {
    of.need().held.expect("a lease")
}

fn take(of: &Arc<Allowance>, wanted: usize) -> Option<Units> {
    match of.take(wanted).0 {
        Take::Now(Admitted::Counted(units, None)) => Some(units),
        Take::Later => None,
        _ => panic!("neither units nor a wait"),
    }
}

fn exhausted() -> Arc<Error> {
    Arc::new(Error::new(Code::ProjectLimitExceeded, "Enough."))
}

#[test]
fn units_are_used_given_back_or_in_doubt() {
    let of = granted(100);
    let (stored, mixed, lost) = (take(&of, 10), take(&of, 10), take(&of, 10));
    assert_eq!(held(&of), Held { period_start: period().start, granted: 100, flying: 30, ..Held::default() });
    stored.expect("units").used(10);
    mixed.expect("units").used(4);
    drop(lost);
    let after = held(&of);
    assert_eq!((after.granted, after.used, after.flying, after.doubtful), (90, 14, 0, 10));
    // The database takes the doubtful ones out; those that come into doubt meanwhile it does not know yet.
    let need = of.need();
    drop(take(&of, 5));
    assert!(of.learn(&need, Instant::now(), &grant(120)));
    let after = held(&of);
    assert_eq!((after.granted, after.doubtful), (115, 15));
}

#[test]
fn unlimited_costs_nothing_and_lasts_until_it_changes() {
    let of = Arc::new(Allowance::new(TenantId::new()));
    assert!(matches!(of.take(1), (Take::Later, false)));
    learn(&of, &Lease { limit: None, ..grant(0) });
    for _ in 0..3 {
        assert!(matches!(of.take(1_000_000), (Take::Now(Admitted::Uncounted), false)));
    }
    assert!(!of.change());
    assert!(matches!(of.take(1).0, Take::Later));
}

#[test]
fn an_answer_from_before_a_change_is_not_believed() {
    let of = Arc::new(Allowance::new(TenantId::new()));
    let need = of.need();
    of.change();
    assert!(!of.learn(&need, Instant::now(), &Lease { limit: None, ..grant(0) }));
    assert!(matches!(of.take(1).0, Take::Later));

    learn(&of, &grant(50));
    let (flying, need) = (take(&of, 5), of.need());
    assert!(of.change(), "45 are given back");
    assert!(!of.learn(&need, Instant::now(), &grant(80)));
    assert_eq!(held(&of).granted, 5, "what is on its way stays");
    assert!(take(&of, 1).is_none());
    flying.expect("units").used(5);
    assert_eq!((held(&of).granted, held(&of).used), (5, 5));
}

#[test]
fn who_waits_is_served_in_order_and_overtaken_by_nobody() {
    let of = granted(5);
    let order = Arc::new(Mutex::new(Vec::new()));
    let wait = |name: &'static str, wanted: usize| {
        let order = Arc::clone(&order);
        of.wait(wanted, move |admitted| {
            let got = match admitted {
                Admitted::Counted(units, refusal) => (units.count(), refusal.is_some()),
                _ => (0, true),
            };
            order.lock().expect("a list").push((name, got.0, got.1));
        })
    };
    assert!(wait("large", 8), "the first asks");
    assert!(!wait("small", 1));
    assert!(take(&of, 1).is_none(), "there would be units, but others were first");
    assert_eq!((of.need().waiting, held(&of).flying), (4, 0));
    assert!(!of.serve(None));
    assert!(order.lock().expect("a list").is_empty(), "the small one does not overtake either");
    learn(&of, &grant(10));
    assert!(of.serve(None));
    assert_eq!(*order.lock().expect("a list"), [("large", 8, false), ("small", 1, false)]);
    assert!(!of.refilled(None));

    order.lock().expect("a list").clear();
    // Those units were dropped with their answers: nothing came of them. One is left.
    for (name, wanted) in [("two", 2), ("three", 3)] {
        wait(name, wanted);
    }
    assert!(of.serve(Some(&exhausted())));
    assert_eq!(*order.lock().expect("a list"), [("two", 1, true), ("three", 0, true)], "the first events go");
}

/// Who comes while the database is asked is not refused by its answer: it was not asked for them.
#[test]
fn an_answer_speaks_for_those_whom_it_was_asked_for() {
    let of = granted(3);
    let early = of.need();
    of.wait(8, |_| ());
    let need = of.need();
    assert_eq!((early.waiting, need.waiting), (0, 5));
    assert!(!early.is_unmet_by(&grant(3)), "nobody waited");
    assert!(!need.is_unmet_by(&grant(8)));
    assert!(need.is_unmet_by(&grant(7)));
    let next = Period { start: period().end, end: period().end.plus(DAY) };
    assert!(!need.is_unmet_by(&Lease { period: next, ..grant(5) }), "what was held is of another period");
    assert!(need.is_unmet_by(&Lease { period: next, ..grant(4) }));
}

#[test]
fn a_publish_from_within_a_wait_keeps_its_place() {
    let of = granted(1);
    let overtaken = Arc::new(AtomicUsize::new(0));
    let (again, count) = (Arc::clone(&of), Arc::clone(&overtaken));
    of.wait(1, move |_| {
        // The next one of the same thread, while this one is being put in line.
        if matches!(again.take(0).0, Take::Now(_)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    assert!(of.serve(None));
    assert_eq!(overtaken.load(Ordering::Relaxed), 0);
    assert!(matches!(of.take(0).0, Take::Now(_)), "afterwards it may");
}

#[test]
fn exhausted_it_refuses_from_memory_for_a_moment() {
    let of = granted(3);
    let units = take(&of, 3).expect("units");
    of.wait(2, |_| ());
    of.serve(Some(&exhausted()));
    assert!(!of.refilled(Some(exhausted())));
    let refused = |wanted| match of.take(wanted).0 {
        Take::Now(Admitted::Counted(units, refusal)) => (units.count(), refusal.is_some()),
        _ => panic!("not decided in memory"),
    };
    assert_eq!(refused(1), (0, true));
    units.used(1);
    assert_eq!(refused(5), (2, true), "two came back: the first two events go");
    of.returned();
    assert!(take(&of, 5).is_none(), "now it is worth asking");
    of.refilled(Some(exhausted()));
    let next = Period { start: period().end, end: period().end.plus(DAY) };
    learn(&of, &Lease { period: next, ..grant(1) });
    assert!(take(&of, 1).is_some());
    assert!(take(&of, 1).is_none(), "that was another period's");
}

#[test]
fn blocks_grow_when_they_do_not_last() {
    let of = granted(1_000);
    let first = of.need().more;
    for _ in 0..5 {
        learn(&of, &grant(1_000));
    }
    assert_eq!(of.need().more, first << 5);
    let (units, ask) = of.take(600);
    assert!(ask, "it asks before it is used up");
    assert!(matches!(of.take(1), (Take::Now(_), false)), "once");
    drop(units);
}

#[test]
fn what_is_not_needed_goes_back_and_an_idle_one_is_put_away() {
    let of = granted(100);
    take(&of, 10).expect("units").used(10);
    assert_eq!(of.look(), Look::Report);
    assert_eq!(held(&of).granted, 100, "it was used just now");
    assert_eq!(of.look(), Look::Report);
    assert_eq!(held(&of).granted, 10);
    learn(&of, &grant(10));
    assert_eq!(of.look(), Look::Fine);
    while of.look() == Look::Fine {}
    assert_eq!(of.look(), Look::PutAway);
    assert_eq!(of.close().map(|held| held.used), Some(10));
    assert!(matches!(of.take(1).0, Take::Gone));
}

#[test]
fn a_new_lease_knows_nothing_of_the_units_of_the_old() {
    let of = granted(10);
    let old = take(&of, 4).expect("units");
    of.lose();
    assert!(take(&of, 1).is_none());
    learn(&of, &grant(6));
    let new = take(&of, 6).expect("units");
    old.used(4);
    assert_eq!((held(&of).used, held(&of).flying), (0, 6));
    new.used(6);
    assert_eq!((held(&of).used, held(&of).flying), (6, 0));
    // The next period, too.
    let next = Period { start: period().end, end: period().end.plus(DAY) };
    learn(&of, &Lease { period: next, ..grant(2) });
    assert_eq!(held(&of), Held { period_start: next.start, granted: 2, ..Held::default() });
    let units = take(&of, 1).expect("units");
    assert_eq!(
        units.time(Timestamp::default()),
        next.start,
        "events count in the period that they are charged to"
    );
    assert_eq!(units.time(next.end.plus(DAY)), next.end.minus(Duration::from_micros(1)));
}

#[test]
fn at_the_end_of_the_period_it_asks() {
    let of = granted(10);
    assert!(of.learn(&of.need(), Instant::now(), &Lease { remaining: Duration::ZERO, ..grant(10) }));
    assert!(take(&of, 1).is_none());
}
