//! How values are spread, counted without a lock: for whatever observes more often than somebody looks.
//!
//! The cells are those of Prometheus' native histograms (schema 3): the upper bound of cell `i` is 2^(i/8), so a
//! value is known to 9 %, and every power of two is a bound. Coarser buckets are sums of cells, exactly.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Cells between a power of two and the next: 2^3.
const PER_OCTAVE: i32 = 8;
/// The bounds of the cells between a half and one.
const BOUNDS: [f64; 8] = [
    0.5,
    0.545_253_866_332_628_8,
    0.594_603_557_501_360_5,
    0.648_419_777_325_504_8,
    std::f64::consts::FRAC_1_SQRT_2,
    0.771_105_412_703_970_4,
    0.840_896_415_253_714_5,
    0.917_004_043_204_671_2,
];

/// A distribution of times or of numbers. Values beyond its range count in the cell at that end.
#[derive(Debug)]
pub struct Histogram {
    /// The number of the first cell.
    first: i32,
    cells: Box<[AtomicU64]>,
    zeros: AtomicU64,
    /// In the unit of the observations.
    sum: AtomicU64,
    /// What one of that unit is in the unit that is shown.
    unit: f64,
    /// Powers of two at which the coarse buckets end.
    coarse: (i32, i32),
}

/// What a histogram has counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Distribution {
    /// The sum of all values: seconds, or just a number.
    pub sum: f64,
    /// How many were zero.
    pub zeros: u64,
    /// The cells that are not empty, in order: the number of each and how many it has.
    pub cells: Vec<(i32, u64)>,
    /// Powers of two at which the coarse buckets end, both included.
    pub coarse: (i32, i32),
}

impl Histogram {
    /// Of times, from a microsecond to four minutes; in the coarse view from 0.1 ms to half a minute.
    #[must_use]
    pub fn of_seconds() -> Self {
        Self::new((-20, 8), (-13, 5), 1e-9)
    }

    /// Of numbers, from one to some billions; in the coarse view to a million.
    #[must_use]
    pub fn of_numbers() -> Self {
        Self::new((0, 32), (0, 20), 1.0)
    }

    fn new((from, to): (i32, i32), coarse: (i32, i32), unit: f64) -> Self {
        let first = from * PER_OCTAVE;
        // One more, for what is beyond the last bound.
        let cells = (first..=to * PER_OCTAVE + 1).map(|_| AtomicU64::new(0)).collect();
        Self { first, cells, zeros: AtomicU64::new(0), sum: AtomicU64::new(0), unit, coarse }
    }

    /// Counts a time.
    pub fn observe(&self, took: Duration) {
        self.count(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), 1);
    }

    /// Counts the same time for several.
    pub fn observe_for(&self, took: Duration, times: u64) {
        self.count(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), times);
    }

    /// Counts a number.
    pub fn observe_number(&self, number: u64) {
        self.count(number, 1);
    }

    /// Counts for each of `among` its even part of `total`. The sum stays exact.
    pub fn observe_shares(&self, total: u64, among: u64) {
        let Some(share) = total.checked_div(among) else { return };
        self.count(share, among);
        self.sum.fetch_add(total % among, Relaxed);
    }

    fn count(&self, value: u64, times: u64) {
        self.sum.fetch_add(value.saturating_mul(times), Relaxed);
        if value == 0 {
            self.zeros.fetch_add(times, Relaxed);
            return;
        }
        let cell = cell(value as f64 * self.unit) - self.first;
        let cell = usize::try_from(cell).unwrap_or(0).min(self.cells.len() - 1);
        if let Some(cell) = self.cells.get(cell) {
            cell.fetch_add(times, Relaxed);
        }
    }

    /// What was counted so far.
    #[must_use]
    pub fn read(&self) -> Distribution {
        let cells = (self.first..).zip(self.cells.iter().map(|cell| cell.load(Relaxed)));
        Distribution {
            sum: self.sum.load(Relaxed) as f64 * self.unit,
            zeros: self.zeros.load(Relaxed),
            cells: cells.filter(|(_, count)| *count > 0).collect(),
            coarse: self.coarse,
        }
    }
}

impl Distribution {
    /// How many values.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.zeros + self.cells.iter().map(|(_, count)| count).sum::<u64>()
    }

    /// The coarse buckets: the upper bound of each, and how many are not above it. What is above the last is in none.
    #[must_use]
    pub fn buckets(&self) -> Vec<(f64, u64)> {
        let (mut below, mut cells) = (self.zeros, self.cells.iter().peekable());
        let upto = |power: i32| {
            while let Some((_, count)) = cells.next_if(|(cell, _)| *cell <= power * PER_OCTAVE) {
                below += count;
            }
            (f64::from(power).exp2(), below)
        };
        (self.coarse.0..=self.coarse.1).map(upto).collect()
    }

    /// Adds another of the same kind.
    pub fn add(&mut self, other: &Self) {
        self.sum += other.sum;
        self.zeros += other.zeros;
        self.coarse = other.coarse;
        for (cell, count) in &other.cells {
            match self.cells.binary_search_by_key(cell, |(cell, _)| *cell) {
                Ok(at) => self.cells[at].1 += count,
                Err(at) => self.cells.insert(at, (*cell, *count)),
            }
        }
    }
}

/// The cell of a positive value.
fn cell(value: f64) -> i32 {
    // The value is `fraction` times two to the `power`, with a fraction from a half to below one.
    let bits = value.to_bits();
    let power = i32::try_from(bits >> 52 & 0x7ff).unwrap_or(0) - 1022;
    let fraction = f64::from_bits(bits & !(0x7ff << 52) | 1022 << 52);
    let within = BOUNDS.partition_point(|bound| *bound < fraction);
    (power - 1) * PER_OCTAVE + i32::try_from(within).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn powers_of_two_are_bounds() {
        for power in -20..20 {
            let bound = f64::from(power).exp2();
            assert_eq!(cell(bound), power * PER_OCTAVE, "{bound}");
            assert_eq!(cell(bound * (1.0 + 1e-12)), power * PER_OCTAVE + 1, "just above {bound}");
        }
    }

    #[test]
    fn what_is_beyond_the_range_counts_at_its_end() {
        let times = Histogram::of_seconds();
        times.observe(Duration::ZERO);
        times.observe(Duration::from_nanos(1));
        times.observe_for(Duration::from_secs(100_000), 3);
        let read = times.read();
        assert_eq!((read.count(), read.zeros), (5, 1));
        assert_eq!(read.cells, [(-160, 1), (65, 3)]);
        let buckets = read.buckets();
        assert_eq!(buckets.first(), Some(&((-13_f64).exp2(), 2)));
        assert_eq!(buckets.last(), Some(&(32.0, 2)), "three are above the last bucket");
    }

    #[test]
    fn shares_add_up() {
        let numbers = Histogram::of_numbers();
        numbers.observe_shares(7, 3);
        numbers.observe_shares(7, 0);
        let read = numbers.read();
        assert_eq!((read.sum, read.count(), &*read.cells), (7.0, 3, &[(8, 3)][..]));
    }

    proptest! {
        /// Whatever is observed: every value is in the cell whose bounds enclose it, the coarse buckets count exactly what
        /// is not above them, and nothing is lost or counted twice.
        #[test]
        fn cells_and_buckets_count_what_was_observed(values in proptest::collection::vec(0..5_000_000_u64, 1..80)) {
            let histogram = Histogram::of_numbers();
            for value in &values {
                histogram.observe_number(*value);
                if *value > 0 {
                    let (cell, value) = (f64::from(cell(*value as f64)), *value as f64);
                    let eighth = f64::from(PER_OCTAVE);
                    prop_assert!(value <= (cell / eighth).exp2() * (1.0 + 1e-12));
                    prop_assert!(value > ((cell - 1.0) / eighth).exp2() * (1.0 - 1e-12));
                }
            }
            let mut read = histogram.read();
            prop_assert_eq!(read.count(), values.len() as u64);
            prop_assert_eq!(read.sum, values.iter().sum::<u64>() as f64);
            for (bound, below) in read.buckets() {
                let expected = values.iter().filter(|value| **value as f64 <= bound).count() as u64;
                prop_assert_eq!(below, expected, "up to {}", bound);
            }
            let once = read.clone();
            read.add(&once);
            prop_assert_eq!(read.count(), 2 * values.len() as u64);
            prop_assert_eq!(read.cells.len(), once.cells.len());
        }
    }
}
