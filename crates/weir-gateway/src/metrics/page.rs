//! What one scrape answers, before it is written in one of the formats.

use super::series::{Kind, SERIES, Series};
use weir_core::Distribution;

/// A value of a series.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Number(f64),
    Distribution(Distribution),
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Number(value)
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Number(value as f64)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Number(f64::from(u8::from(value)))
    }
}

impl From<Distribution> for Value {
    fn from(value: Distribution) -> Self {
        Self::Distribution(value)
    }
}

/// One time series at this moment.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// The values of the labels, in the catalogue's order.
    pub(crate) labels: Vec<String>,
    pub(crate) value: Value,
}

/// The samples of a scrape, in the order of the catalogue.
pub(crate) struct Page(Vec<(&'static Series, Vec<Sample>)>);

impl Page {
    pub(crate) fn new() -> Self {
        Self(SERIES.iter().map(|series| (*series, Vec::new())).collect())
    }

    /// Adds one time series. The labels are in the catalogue's order.
    pub(crate) fn add(&mut self, series: &'static Series, labels: &[&str], value: impl Into<Value>) {
        debug_assert_eq!(labels.len(), series.labels.len(), "{}", series.name);
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        if let Some((_, samples)) = self.0.iter_mut().find(|(known, _)| known.name == series.name) {
            samples.push(Sample { labels, value: value.into() });
        }
    }

    /// What has samples, each with its own.
    pub(crate) fn families(&self) -> impl Iterator<Item = (&'static Series, &[Sample])> {
        self.0
            .iter()
            .filter(|(_, samples)| !samples.is_empty())
            .map(|(series, samples)| (*series, &samples[..]))
    }
}

impl Series {
    /// The name without what OpenMetrics takes for the suffix of a sample.
    pub(crate) fn family(&self) -> &'static str {
        match self.kind {
            Kind::Counter => self.name.strip_suffix("_total").unwrap_or(self.name),
            Kind::Gauge | Kind::Histogram => self.name,
        }
    }
}
