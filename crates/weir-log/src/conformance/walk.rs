//! Walking over everything: each event once, whatever happens between two walks.

use super::{Backend, append, query, read_all, read_through, record, records};
use crate::{EventLog, Milestone, Place, Run, Walked};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use weir_core::{ProjectId, Timestamp};

/// A walk that goes on where it stood.
#[derive(Default)]
pub struct Walker {
    at: Option<Milestone>,
    /// What was met of each project.
    pub met: HashMap<ProjectId, Vec<Run>>,
    /// What the log said it had lost.
    pub lost: u64,
}

impl Walker {
    /// Walks to the head; what is met must follow on what was met before.
    pub async fn walk(&mut self, log: &dyn EventLog, stream: &Arc<str>) {
        while let Some(walked) = log.walk(stream, self.at).await.expect("walk") {
            let begun = self.at.replace(walked.through).is_none_or(|at| at.epoch != walked.through.epoch);
            if begun {
                assert_eq!((walked.runs.len(), walked.through.number), (0, 0), "a walk began in the middle");
                continue;
            }
            self.lost += walked.lost;
            for run in &walked.runs {
                let met = self.met.entry(run.project).or_default();
                let after = met.last().map_or(0, |run| run.last);
                assert!(run.first > after && run.first <= run.last, "{run:?} after {after}");
                assert!((1..=run.last - run.first + 1).contains(&run.events), "{run:?}");
                met.push(*run);
            }
            if walked.at_head() {
                return;
            }
        }
    }

    /// How many events of the project were met.
    pub fn count(&self, place: &Place) -> u64 {
        self.met.get(&place.project).map_or(0, |runs| runs.iter().map(|run| run.events).sum())
    }
}

/// Held against what readers see: the same events, each in one run.
async fn check(log: &dyn EventLog, place: &Place, walker: &Walker) {
    let events = read_all(log, place, 0).await;
    let runs = walker.met.get(&place.project).map_or(&[][..], Vec::as_slice);
    for run in runs {
        let within = events.iter().filter(|e| (run.first..=run.last).contains(&e.sequence));
        let bytes: u64 = within.clone().map(|event| event.stored_bytes()).sum();
        assert_eq!(run.bytes, bytes, "{run:?}");
        let hours: Vec<Timestamp> = within.map(|event| event.published_at.hour()).collect();
        assert_eq!(hours, vec![run.hour; run.events as usize], "{run:?}");
        assert_eq!(run.tenant, place.tenant);
    }
    assert_eq!(walker.count(place), events.len() as u64);
}

/// Several publishers on several projects, walks in between and a restart: each event is met once.
pub async fn walks_over_everything_once<B: Backend>() {
    let backend = B::open().await;
    let places: Vec<Place> = (0..4).map(|_| backend.place()).collect();
    let (log, now, stream) = (backend.log(), backend.now(), Arc::clone(&places[0].stream));
    // The first event makes the stream; until it has a leader nobody answers what it is.
    append(&*log, &places[0], records(1, now)).await;
    let mut walker = Walker::default();
    let publish = |place: Place| {
        let log = Arc::clone(&log);
        async move {
            for size in [1, 7, 1, 30, 2, 100, 1, 1] {
                append(&*log, &place, records(size, now)).await;
            }
        }
    };
    let publishing = futures::future::join_all(places.iter().cloned().map(publish));
    let walking = async {
        for _ in 0..20 {
            walker.walk(&*log, &stream).await;
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(publishing, walking);
    walker.walk(&*log, &stream).await;
    for place in &places {
        check(&*log, place, &walker).await;
    }
    drop(log);
    let backend = backend.reopen().await;
    let log = backend.log();
    walker.walk(&*log, &stream).await;
    append(&*log, &places[1], records(5, backend.now())).await;
    walker.walk(&*log, &stream).await;
    for place in &places {
        check(&*log, place, &walker).await;
    }
    assert_eq!((walker.lost, walker.count(&places[1])), (0, 148));
}

/// What the server itself publishes is nobody's usage, and nothing is lost for it. It is read like any other.
pub async fn walks_past_the_servers_own_events<B: Backend>() {
    let backend = B::open().await;
    let (log, place, now) = (backend.log(), backend.place(), backend.now());
    let own = || record("@weir.key.created", "{}", now);
    let batches =
        [vec![own()], records(3, now), vec![own(), record("t", "1", now), own()], vec![own(), own()]];
    let mut walker = Walker::default();
    for batch in batches {
        append(&*log, &place, batch).await;
        walker.walk(&*log, &place.stream).await;
    }
    append(&*log, &place, records(2, now)).await;
    walker.walk(&*log, &place.stream).await;
    check(&*log, &place, &walker).await;
    assert_eq!((walker.lost, walker.count(&place)), (0, 6));
    let page = read_through(&*log, &place, query(0, &["@weir.>"])).await.expect("read");
    assert_eq!(page.len(), 5);

    // The same from what a restart finds.
    drop(log);
    let backend = backend.reopen().await;
    let log = backend.log();
    append(&*log, &place, vec![own(), record("t", "1", now)]).await;
    walker.walk(&*log, &place.stream).await;
    assert_eq!((walker.lost, walker.count(&place)), (0, 7));
}

/// More than one walk answers at once, from the beginning and without one before.
pub async fn walks_in_pages<B: Backend>() {
    let backend = B::open().await;
    let (log, place, now) = (backend.log(), backend.place(), backend.now());
    // Hours that alternate make as many runs as there are events.
    let at = |i: u64| now.minus(Duration::from_secs(3600 * (i % 2)));
    for _ in 0..25 {
        let records = (0..200).map(|i| record("t", "1", at(i))).collect();
        append(&*log, &place, records).await;
    }
    let mut walker = Walker::default();
    walker.walk(&*log, &place.stream).await;
    check(&*log, &place, &walker).await;
    assert_eq!((walker.lost, walker.count(&place)), (0, 5000));
}

/// Events have the hour in which they were accepted, however the clocks went.
pub async fn walks_by_the_hour<B: Backend>() {
    let backend = B::open().await;
    let (log, place, now) = (backend.log(), backend.place(), backend.now());
    let hours: [i64; 7] = [0, 0, 1, 1, -2160, 1, 2];
    let at = |hour: i64| Timestamp::from_micros(now.micros() + hour * 3_600_000_000);
    let records = hours.map(|hour| record("t", "1", at(hour)));
    append(&*log, &place, records.to_vec()).await;
    let mut walker = Walker::default();
    walker.walk(&*log, &place.stream).await;
    let told: Vec<_> = walker.met[&place.project].iter().map(|run| (run.hour, run.events)).collect();
    let expected = [(0, 2), (1, 2), (-2160, 1), (1, 1), (2, 1)];
    assert_eq!(told, expected.map(|(hour, events)| (at(hour).hour(), events)));
}

/// What was trimmed before it was walked over is met all the same, or told as lost: never passed over in silence.
pub async fn walks_over_what_was_trimmed<B: Backend>() {
    let backend = B::open().await;
    let (log, place, other) = (backend.log(), backend.place(), backend.place());
    let mut walker = Walker::default();
    append(&*log, &place, records(20, backend.now())).await;
    append(&*log, &other, records(3, backend.now())).await;
    log.trim(&place, u64::MAX).await.expect("trim");
    walker.walk(&*log, &place.stream).await;
    assert_eq!((walker.count(&place), walker.count(&other), walker.lost), (20, 3, 0), "just trimmed");

    let mut late = Walker::default();
    backend.pass(backend.dedupe_window() + Duration::from_secs(1)).await;
    append(&*log, &other, records(3, backend.now())).await;
    late.walk(&*log, &place.stream).await;
    assert_eq!(late.count(&place) + late.count(&other) + late.lost, 26, "{} lost", late.lost);
    walker.walk(&*log, &place.stream).await;
    assert_eq!((walker.count(&place), walker.count(&other), walker.lost), (20, 6, 0));
}

/// A milestone of another incarnation is not followed: the answer says where this one begins.
pub async fn walks_begin_anew_in_another_epoch<B: Backend>() {
    let backend = B::open().await;
    let (log, place) = (backend.log(), backend.place());
    let nowhere: Arc<str> = format!("NEVER_{}", uuid::Uuid::new_v4().simple()).into();
    let missing = log.walk(&nowhere, None).await.expect("walk");
    assert_eq!(log.walk(&nowhere, None).await.expect("walk"), missing, "a walk makes nothing");
    append(&*log, &place, records(4, backend.now())).await;
    let begin = log.walk(&place.stream, None).await.expect("walk").expect("the stream is there");
    assert_eq!((begin.runs.len(), begin.through.number, begin.lost, begin.at_head()), (0, 0, 0, false));
    if let Some(missing) = missing {
        assert_eq!(missing.through.epoch, begin.through.epoch, "one order has one epoch");
    }
    let foreign = Milestone { epoch: begin.through.epoch ^ 1, number: 3 };
    assert_eq!(log.walk(&place.stream, Some(foreign)).await.expect("walk"), Some(begin.clone()));

    // Beyond the head (the log lost its end, or somebody brought back an old copy): nothing moves, and it shows.
    let ahead = Milestone { epoch: begin.through.epoch, number: begin.head + 10 };
    let answer = log.walk(&place.stream, Some(ahead)).await.expect("walk");
    assert_eq!(answer, Some(Walked { through: ahead, ..begin.clone() }));
}
