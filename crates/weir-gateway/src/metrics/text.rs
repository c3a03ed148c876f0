//! The two text formats: OpenMetrics 1.0, and Prometheus' own 0.0.4, which every tool reads.

use super::page::{Page, Sample, Value};
use super::series::{Kind, Series};
use std::fmt::Write;

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    OpenMetrics,
    Prometheus,
}

/// Writes a page.
pub(crate) fn write(page: &Page, dialect: Dialect) -> String {
    let mut out = String::with_capacity(64 << 10);
    for (series, samples) in page.families() {
        // Writing into a String cannot fail.
        let _ = family(&mut out, dialect, series, samples);
    }
    if dialect == Dialect::OpenMetrics {
        out.push_str("# EOF\n");
    }
    out
}

fn family(
    out: &mut String,
    dialect: Dialect,
    series: &'static Series,
    samples: &[Sample],
) -> std::fmt::Result {
    let name = match dialect {
        Dialect::OpenMetrics => series.family(),
        Dialect::Prometheus => series.name,
    };
    let kind = match series.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    };
    writeln!(out, "# HELP {name} {}\n# TYPE {name} {kind}", series.help.replace('\\', "\\\\"))?;
    for sample in samples {
        match &sample.value {
            Value::Number(value) => {
                out.push_str(series.name);
                labels(out, series, sample, None);
                writeln!(out, " {}", number(*value))?;
            }
            Value::Distribution(spread) => {
                for (bound, below) in spread.buckets() {
                    bucket(out, series, sample, &bound_text(bound, dialect), below)?;
                }
                bucket(out, series, sample, "+Inf", spread.count())?;
                for (suffix, value) in [("_sum", number(spread.sum)), ("_count", spread.count().to_string())]
                {
                    let _ = write!(out, "{}{suffix}", series.name);
                    labels(out, series, sample, None);
                    writeln!(out, " {value}")?;
                }
            }
        }
    }
    Ok(())
}

fn bucket(out: &mut String, series: &Series, sample: &Sample, bound: &str, below: u64) -> std::fmt::Result {
    out.push_str(series.name);
    out.push_str("_bucket");
    labels(out, series, sample, Some(bound));
    writeln!(out, " {below}")
}

fn labels(out: &mut String, series: &Series, sample: &Sample, bound: Option<&str>) {
    let named = series.labels.iter().copied().zip(sample.labels.iter().map(String::as_str));
    let mut begin = '{';
    for (name, value) in named.chain(bound.map(|bound| ("le", bound))) {
        out.push(begin);
        begin = ',';
        let _ = write!(out, "{name}=\"");
        for c in value.chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                '"' => out.push_str("\\\""),
                '\n' => out.push_str("\\n"),
                c => out.push(c),
            }
        }
        out.push('"');
    }
    if begin == ',' {
        out.push('}');
    }
}

/// OpenMetrics wants to see that a bound is no whole number.
fn bound_text(bound: f64, dialect: Dialect) -> String {
    match dialect {
        Dialect::OpenMetrics => format!("{bound:?}"),
        Dialect::Prometheus => bound.to_string(),
    }
}

fn number(value: f64) -> String {
    match value {
        value if value.is_nan() => "NaN".to_owned(),
        value if value == f64::INFINITY => "+Inf".to_owned(),
        value if value == f64::NEG_INFINITY => "-Inf".to_owned(),
        value => value.to_string(),
    }
}
