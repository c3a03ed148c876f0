//! A table for a person, or one JSON object for a script.

use super::machine;
use super::requests::Outcome;
use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

pub(super) struct Report {
    bench: &'static str,
    rows: Vec<Row>,
    good: bool,
}

struct Row {
    key: String,
    value: Value,
    unit: &'static str,
}

impl Report {
    pub(super) const fn new(bench: &'static str) -> Self {
        Self { bench, rows: Vec::new(), good: true }
    }

    pub(super) fn add(&mut self, key: impl Into<String>, value: impl Into<Value>, unit: &'static str) {
        self.rows.push(Row { key: key.into(), value: value.into(), unit });
    }

    /// A figure that may be unknown: then it is left out.
    pub(super) fn add_some(&mut self, key: &str, value: Option<impl Into<Value>>, unit: &'static str) {
        if let Some(value) = value {
            self.add(key, value, unit);
        }
    }

    /// The percentiles of a histogram of nanoseconds, as milliseconds.
    pub(super) fn latency(&mut self, what: &str, histogram: &Histogram<u64>) {
        for (name, quantile) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999), ("max", 1.0)] {
            if !histogram.is_empty() {
                let nanos = histogram.value_at_quantile(quantile);
                self.add(format!("{what}_{name}"), round(nanos as f64 / 1e6), "ms");
            }
        }
    }

    /// Requests that were not answered with success.
    pub(super) fn failures(&mut self, outcome: &Outcome) {
        self.add("failed_requests", outcome.failures(), "");
        if let Some(example) = &outcome.example {
            self.add("example_of_a_failure", example.as_str(), "");
        }
        if outcome.ok == 0 {
            self.fail();
        }
    }

    /// Something did not come out as it must: the exit code says so.
    pub(super) const fn fail(&mut self) {
        self.good = false;
    }

    pub(super) const fn is_good(&self) -> bool {
        self.good
    }

    pub(super) fn print(&self, as_json: bool) {
        let machine = machine::facts();
        if as_json {
            let results: Map<_, _> =
                self.rows.iter().map(|row| (row.key.clone(), row.value.clone())).collect();
            println!(
                "{}",
                json!({ "bench": self.bench, "machine": machine, "results": results, "good": self.good })
            );
            return;
        }
        println!("weir bench {}", self.bench);
        let width = self.rows.iter().map(|row| row.key.len()).max().unwrap_or(0);
        for row in &self.rows {
            println!("  {:width$}  {:>14} {}", row.key.replace('_', " "), shown(&row.value), row.unit);
        }
        let fact = |name: &str| shown(&machine[name]);
        let (cpu, cores, kernel, nofile) =
            (fact("cpu"), fact("cores_online"), fact("kernel"), fact("nofile"));
        println!("  on {cpu}, {cores} cores, Linux {kernel}, nofile {nofile}");
    }
}

/// Three decimals below ten, one below a thousand, none above: more digits would be noise.
pub(super) fn round(value: f64) -> f64 {
    let scale = if value.abs() < 10.0 {
        1000.0
    } else if value.abs() < 1000.0 {
        10.0
    } else {
        1.0
    };
    (value * scale).round() / scale
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => grouped(&number.to_string()),
        other => other.to_string(),
    }
}

/// `1234567` as `1,234,567`.
fn grouped(number: &str) -> String {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let mut text = String::new();
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) && !text.ends_with('-') {
            text.push(',');
        }
        text.push(digit);
    }
    if fraction.is_empty() || fraction == "0" { text } else { format!("{text}.{fraction}") }
}

/// A histogram of nanoseconds up to a minute, to three digits.
pub(super) fn histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 60_000_000_000, 3)?)
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_read_well() {
        assert_eq!(super::grouped("1234567"), "1,234,567");
        assert_eq!(super::grouped("123.0"), "123");
        assert_eq!(super::grouped("-1234.5"), "-1,234.5");
        assert_eq!(super::round(2.34567), 2.346);
    }
}
