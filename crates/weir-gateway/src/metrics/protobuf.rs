//! Prometheus' protobuf format (`io.prometheus.client.MetricFamily`, each behind its length): the only one that carries
//! native histograms. A Prometheus that wants them asks for it.
//!
//! A handful of fields of a fixed schema are written here by hand: a compiler for `.proto` files and the code that it
//! makes would be more to build and to read than this. The tests have a real Prometheus read it.

use super::page::{Page, Sample, Value};
use super::series::{Kind, Series};
use weir_core::Distribution;

/// The resolution of [`weir_core::Histogram`]'s cells.
const SCHEMA: i64 = 3;
/// Smaller values than this would count as zero: Prometheus' own choice, 2^-128.
const ZERO_THRESHOLD: f64 = 2.938_735_877_055_719e-39;

/// Writes a page.
pub(crate) fn write(page: &Page) -> Vec<u8> {
    let mut out = Vec::with_capacity(32 << 10);
    for (series, samples) in page.families() {
        let family = family(series, samples);
        varint(&mut out, family.0.len() as u64);
        out.extend_from_slice(&family.0);
    }
    out
}

fn family(series: &Series, samples: &[Sample]) -> Message {
    let mut family = Message::default();
    family.text(1, series.name);
    family.text(2, series.help);
    family.number(
        3,
        match series.kind {
            Kind::Counter => 0,
            Kind::Gauge => 1,
            Kind::Histogram => 4,
        },
    );
    for sample in samples {
        family.message(4, &metric(series, sample));
    }
    family
}

fn metric(series: &Series, sample: &Sample) -> Message {
    let mut metric = Message::default();
    for (name, value) in series.labels.iter().zip(&sample.labels) {
        let mut label = Message::default();
        label.text(1, name);
        label.text(2, value);
        metric.message(1, &label);
    }
    match &sample.value {
        Value::Number(value) => {
            let mut number = Message::default();
            number.double(1, *value);
            metric.message(if series.kind == Kind::Counter { 3 } else { 2 }, &number);
        }
        Value::Distribution(spread) => metric.message(7, &histogram(spread)),
    }
    metric
}

/// Both views of one distribution: the coarse buckets, and the cells as they are.
fn histogram(spread: &Distribution) -> Message {
    let mut histogram = Message::default();
    histogram.number(1, spread.count());
    histogram.double(2, spread.sum);
    for (bound, below) in spread.buckets().into_iter().chain([(f64::INFINITY, spread.count())]) {
        let mut bucket = Message::default();
        bucket.number(1, below);
        bucket.double(2, bound);
        histogram.message(3, &bucket);
    }
    histogram.signed(5, SCHEMA);
    histogram.double(6, ZERO_THRESHOLD);
    histogram.number(7, spread.zeros);
    let spans = spans(&spread.cells);
    for (offset, length) in &spans {
        let mut span = Message::default();
        span.signed(1, i64::from(*offset));
        span.number(2, u64::from(*length));
        histogram.message(12, &span);
    }
    let mut before = 0;
    for (_, count) in &spread.cells {
        let count = i64::try_from(*count).unwrap_or(i64::MAX);
        histogram.signed(13, count.wrapping_sub(before));
        before = count;
    }
    if spans.is_empty() {
        // What has counted nothing yet is told from a histogram of buckets only by an empty span.
        histogram.message(12, &Message::default());
    }
    histogram
}

/// Runs of cells without a hole: how far each begins after the end of the last, and how many it has.
fn spans(cells: &[(i32, u64)]) -> Vec<(i32, u32)> {
    let mut spans: Vec<(i32, u32)> = Vec::new();
    let mut next = 0;
    for (cell, _) in cells {
        match spans.last_mut() {
            Some((_, length)) if *cell == next => *length += 1,
            _ => spans.push((cell - next, 1)),
        }
        next = cell + 1;
    }
    spans
}

/// The fields of a message. A field that has its default value may be left out, and is.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn key(&mut self, field: u64, kind: u64) {
        varint(&mut self.0, field << 3 | kind);
    }

    fn number(&mut self, field: u64, value: u64) {
        if value != 0 {
            self.key(field, 0);
            varint(&mut self.0, value);
        }
    }

    /// Small numbers of either sign are short. Written even when it is 0: the ones here stand in lists.
    fn signed(&mut self, field: u64, value: i64) {
        self.key(field, 0);
        varint(&mut self.0, (value << 1 ^ value >> 63) as u64);
    }

    fn double(&mut self, field: u64, value: f64) {
        self.key(field, 1);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn bytes(&mut self, field: u64, value: &[u8]) {
        self.key(field, 2);
        varint(&mut self.0, value.len() as u64);
        self.0.extend_from_slice(value);
    }

    fn text(&mut self, field: u64, value: &str) {
        self.bytes(field, value.as_bytes());
    }

    fn message(&mut self, field: u64, value: &Self) {
        self.bytes(field, &value.0);
    }
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_name_runs_and_the_holes_between() {
        let cells = [(-3, 1), (-2, 5), (4, 2), (5, 2), (9, 1)];
        assert_eq!(spans(&cells), [(-3, 2), (5, 2), (3, 1)]);
        assert!(spans(&[]).is_empty());
    }

    #[test]
    fn numbers_are_written_as_protobuf_says() {
        let mut message = Message::default();
        message.number(1, 150);
        message.signed(2, -2);
        message.text(3, "ab");
        message.number(4, 0);
        assert_eq!(message.0, [0x08, 0x96, 0x01, 0x10, 0x03, 0x1a, 0x02, b'a', b'b']);
    }
}
