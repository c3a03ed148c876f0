//! Times from Prometheus' histograms: how long most took between two looks.

use std::collections::BTreeMap;

/// Counts by upper bound in microseconds; `u64::MAX` is no bound.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Buckets(BTreeMap<u64, u64>);

impl Buckets {
    /// Adds up the buckets of all series in `text` that `name` takes: name of the metric and labels in, yes or no out.
    pub fn read(text: &str, is_meant: impl Fn(&str, &str) -> bool) -> Self {
        let mut buckets = Self::default();
        for line in text.lines() {
            let Some((name, rest)) = line.split_once("_bucket{") else { continue };
            let Some((labels, value)) = rest.rsplit_once("} ") else { continue };
            let bound = labels.split(',').find_map(|label| label.strip_prefix("le=\"")?.strip_suffix('"'));
            let Some(bound) = bound.and_then(bound_of).filter(|_| is_meant(name, labels)) else { continue };
            // An exemplar may follow the value.
            let value = value.split(' ').next().and_then(|value| value.parse::<f64>().ok()).unwrap_or(0.0);
            *buckets.0.entry(bound).or_default() += whole(value);
        }
        buckets
    }

    /// Adds those of another node.
    pub fn add(&mut self, other: &Self) {
        for (bound, count) in &other.0 {
            *self.0.entry(*bound).or_default() += count;
        }
    }

    /// Within how many milliseconds `share` of what was added since `before` was done. `None` when nothing was.
    pub fn quantile_since(&self, before: &Self, share: f64) -> Option<f64> {
        let grown =
            |bound: &u64, count: &u64| count.saturating_sub(before.0.get(bound).copied().unwrap_or(0));
        let counts: Vec<(u64, u64)> =
            self.0.iter().map(|(bound, count)| (*bound, grown(bound, count))).collect();
        let all = counts.last().map(|(_, count)| *count).filter(|count| *count > 0)?;
        let wanted = float(all) * share;
        let (mut low, mut below) = (0, 0);
        for (bound, count) in counts {
            if float(count) >= wanted {
                if bound == u64::MAX {
                    return Some(float(low) / 1_000.0);
                }
                // Even between the bounds, as Prometheus does.
                let within = (wanted - float(below)) / float(count - below).max(1.0);
                return Some((float(low) + float(bound - low) * within) / 1_000.0);
            }
            (low, below) = (bound, count);
        }
        None
    }
}

fn bound_of(text: &str) -> Option<u64> {
    if text == "+Inf" {
        return Some(u64::MAX);
    }
    text.parse::<f64>().ok().filter(|seconds| *seconds >= 0.0).map(|seconds| whole(seconds * 1e6))
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts and bounds from 0 on")]
fn whole(value: f64) -> u64 {
    value.round() as u64
}

#[allow(clippy::cast_precision_loss, reason = "for people to read")]
fn float(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_how_long_most_took_since_the_look_before() {
        let text = |counts: [u64; 3]| {
            let [a, b, c] = counts;
            format!(
                "x_seconds_bucket{{le=\"0.001\",route=\"/a\"}} {a}\nx_seconds_bucket{{le=\"0.01\",route=\"/a\"}} {b}\n\
                 x_seconds_bucket{{le=\"+Inf\",route=\"/a\"}} {c}\nx_seconds_bucket{{le=\"+Inf\",route=\"/b\"}} 99\n"
            )
        };
        let read =
            |text: &str| Buckets::read(text, |name, labels| name == "x_seconds" && labels.contains("/a"));
        let (before, now) = (read(&text([5, 5, 5])), read(&text([105, 205, 205])));
        let quantile = |share| now.quantile_since(&before, share).expect("something was done");
        assert!((quantile(0.25) - 0.5).abs() < 1e-9, "{}", quantile(0.25));
        assert!((quantile(0.75) - 5.5).abs() < 1e-9, "{}", quantile(0.75));
        assert_eq!(now.quantile_since(&now, 0.5), None);
        // Beyond the last bound there is no telling.
        let slow = read(&text([5, 5, 9]));
        assert_eq!(slow.quantile_since(&before, 0.5), Some(10.0));
    }
}
