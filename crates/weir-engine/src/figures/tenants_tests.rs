use super::*;
use proptest::prelude::*;

/// A world of tenants with one project each.
#[derive(Default)]
struct World {
    activities: Vec<Activity>,
}

impl World {
    fn of(tenants: usize) -> Self {
        let one = |_| Activity {
            tenant: TenantId::new(),
            project: ProjectId::new(),
            counts: Counts::default(),
            connections: 0,
        };
        Self { activities: (0..tenants).map(one).collect() }
    }

    fn does(&mut self, tenant: usize, events: u64) {
        self.activities[tenant].counts.published += events;
    }

    fn id(&self, tenant: usize) -> TenantId {
        self.activities[tenant].tenant
    }
}

fn of(lines: &[TenantLine], tenant: Option<TenantId>) -> Option<u64> {
    lines.iter().find(|line| line.tenant == tenant).map(|line| line.counts.published)
}

#[test]
fn with_room_for_all_each_is_exact() {
    let (mut world, tenants, now) = (World::of(3), Tenants::new(5), Instant::now());
    for round in 1..4 {
        (0..3).for_each(|tenant| world.does(tenant, tenant as u64));
        let lines = tenants.look_at(world.activities.clone(), now);
        assert_eq!(of(&lines, Some(world.id(1))), Some(round));
        assert_eq!(of(&lines, Some(world.id(2))), Some(2 * round));
        assert_eq!(of(&lines, Some(world.id(0))), None, "nothing was done");
        assert_eq!(of(&lines, None), Some(0));
    }
}

#[test]
fn the_busiest_are_shown_and_do_not_take_turns() {
    let (mut world, tenants, begun) = (World::of(3), Tenants::new(1), Instant::now());
    let look = |world: &World, after: u64| {
        tenants.look_at(world.activities.clone(), begun + Duration::from_secs(after))
    };
    world.does(0, 10);
    world.does(1, 5);
    let lines = look(&world, 0);
    assert_eq!((of(&lines, Some(world.id(0))), of(&lines, None)), (Some(10), Some(5)));
    // A little busier is not enough, and a choice is not made at every look.
    world.does(1, 5);
    assert_eq!(of(&look(&world, 40), None), Some(10));
    world.does(2, 1000);
    assert_eq!(of(&look(&world, 45), Some(world.id(2))), None);
    world.does(2, 1000);
    let lines = look(&world, 80);
    assert_eq!(of(&lines, Some(world.id(2))), Some(1000), "from the moment that it is shown");
    assert_eq!((of(&lines, Some(world.id(0))), of(&lines, None)), (None, Some(1010)));
}

#[test]
fn who_is_gone_is_shown_no_more() {
    let (mut world, tenants, begun) = (World::of(2), Tenants::new(5), Instant::now());
    world.does(0, 3);
    world.does(1, 3);
    world.activities[1].connections = 1;
    assert_eq!(tenants.look_at(world.activities.clone(), begun).len(), 3);
    tenants.forget(world.id(0));
    let lines = tenants.look_at(world.activities.clone(), begun);
    assert_eq!((lines.len(), of(&lines, Some(world.id(0)))), (2, None));
    // With a connection it is there; without one and idle for long it is not.
    let lines = tenants.look_at(world.activities.clone(), begun + IDLE);
    assert_eq!(lines.iter().map(|line| line.connections).sum::<u64>(), 1);
    world.activities[1].connections = 0;
    assert_eq!(tenants.look_at(world.activities.clone(), begun + IDLE * 2).len(), 1);
}

#[test]
fn a_meter_that_begins_anew_takes_nothing_back() {
    let (mut world, tenants, now) = (World::of(1), Tenants::new(5), Instant::now());
    world.does(0, 9);
    tenants.look_at(world.activities.clone(), now);
    world.activities[0].counts.published = 2;
    let lines = tenants.look_at(world.activities.clone(), now);
    assert_eq!(of(&lines, Some(world.id(0))), Some(11));
}

proptest! {
    /// Whoever does what, and whenever somebody looks: never more names than allowed, no counter falls while its series
    /// is there, and nothing that is done is left out or counted twice.
    #[test]
    fn every_event_is_counted_in_one_series(
        most in 0..4_usize,
        steps in proptest::collection::vec((0..8_usize, 0..200_u64, 0..90_u64, any::<bool>()), 1..60),
    ) {
        let (mut world, tenants, mut now) = (World::of(8), Tenants::new(most), Instant::now());
        let mut before: HashMap<Option<TenantId>, u64> = HashMap::new();
        let (mut unseen, mut risen) = (0, 0);
        for (tenant, events, seconds, look) in steps {
            world.does(tenant, events);
            unseen += events;
            now += Duration::from_secs(seconds);
            if !look {
                continue;
            }
            let lines = tenants.look_at(world.activities.clone(), now);
            prop_assert!(lines.len() <= most + 1);
            let mut after = HashMap::new();
            for line in &lines {
                let last = before.get(&line.tenant).copied().unwrap_or_default();
                prop_assert!(line.counts.published >= last, "a counter fell");
                risen += line.counts.published - last;
                after.insert(line.tenant, line.counts.published);
            }
            before = after;
            prop_assert_eq!(risen, unseen);
        }
    }
}
