//! Latencies counted in buckets of growing width: bounded in memory whatever arrives.

use std::collections::BTreeMap;
use std::time::Duration;

/// Each bucket is a tenth of an octave wide, so a percentile is right within 7 %.
const STEPS_PER_OCTAVE: f64 = 10.0;
/// From 1 ms to 2^27 ms, about a day and a half; the last bucket takes everything above.
const BUCKETS: u16 = 272;

/// One bucket: how many, and their sum in seconds.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    count: u64,
    sum: f64,
}

/// Counts of latencies in buckets, with the mean of each bucket.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    buckets: BTreeMap<u16, Bucket>,
    total: u64,
    sum: f64,
    max: Duration,
}

impl Histogram {
    /// Takes one latency in.
    pub fn record(&mut self, latency: Duration) {
        let seconds = latency.as_secs_f64();
        let step = ((seconds * 1000.0).max(1.0).log2() * STEPS_PER_OCTAVE).floor();
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "never negative, cut to the buckets"
        )]
        let step = step.min(f64::from(BUCKETS - 1)) as u16;
        let bucket = self.buckets.entry(step).or_default();
        bucket.count += 1;
        bucket.sum += seconds;
        self.total += 1;
        self.sum += seconds;
        self.max = self.max.max(latency);
    }

    /// The latency that `share` (0 to 1) of all do not exceed; `None` when nothing was recorded.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        #[allow(clippy::cast_precision_loss, reason = "a rank, not a sum")]
        let rank = (self.total as f64 * share).ceil().max(1.0);
        let mut seen = 0_u64;
        for (step, bucket) in &self.buckets {
            seen += bucket.count;
            #[allow(clippy::cast_precision_loss, reason = "a rank, not a sum")]
            if seen as f64 >= rank {
                return Some(Duration::from_secs_f64(upper_bound(*step)).min(self.max));
            }
        }
        None
    }

    /// What came since an earlier reading of the same histogram: in each bucket the mean of the new ones, in seconds,
    /// with their number; ascending.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Vec<(f64, u64)> {
        let news = self.buckets.iter().filter_map(|(step, bucket)| {
            let before = earlier.buckets.get(step).copied().unwrap_or_default();
            let count = bucket.count.saturating_sub(before.count);
            #[allow(clippy::cast_precision_loss, reason = "a mean")]
            let mean = (bucket.sum - before.sum) / count as f64;
            (count > 0 && mean.is_finite()).then(|| (mean.max(0.0), count))
        });
        news.collect()
    }

    /// How many were below a power of two of milliseconds, `2^octave` ms: exact, as buckets end there.
    #[must_use]
    pub fn below(&self, octave: u16) -> u64 {
        let end = octave.saturating_mul(10);
        self.buckets.range(..end).map(|(_, bucket)| bucket.count).sum()
    }

    /// The longest latency; `None` when nothing was recorded.
    #[must_use]
    pub fn max(&self) -> Option<Duration> {
        (self.total > 0).then_some(self.max)
    }

    /// How many were recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.total
    }

    /// All together, in seconds.
    #[must_use]
    pub fn sum(&self) -> f64 {
        self.sum
    }
}

/// Where a bucket ends, in seconds.
fn upper_bound(step: u16) -> f64 {
    (f64::from(step + 1) / STEPS_PER_OCTAVE).exp2() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_within_a_bucket() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), None);
        for millis in 1..=1000 {
            histogram.record(Duration::from_millis(millis));
        }
        let median = histogram.quantile(0.5).unwrap().as_secs_f64();
        assert!((0.49..=0.54).contains(&median), "{median}");
        assert!(histogram.quantile(0.99).unwrap() >= Duration::from_millis(980));
        assert_eq!(histogram.quantile(1.0), Some(Duration::from_secs(1)));
        histogram.record(Duration::from_secs(10_000_000));
        assert_eq!(histogram.max(), Some(Duration::from_secs(10_000_000)));
        histogram.record(Duration::ZERO);
        assert_eq!(histogram.count(), 1002);
    }

    /// The values of an interval are the true means: one alone in its bucket is exact, however large.
    #[test]
    fn an_interval_has_only_what_is_new() {
        let mut histogram = Histogram::default();
        histogram.record(Duration::from_secs(5));
        let earlier = histogram.clone();
        assert_eq!(histogram.since(&earlier), []);
        for seconds in [5.1, 1800.25, 4_000_000.0] {
            histogram.record(Duration::from_secs_f64(seconds));
        }
        histogram.record(Duration::ZERO);
        let news = histogram.since(&earlier);
        let expected = [0.0, 5.1, 1800.25, 4_000_000.0];
        assert_eq!(news.len(), 4);
        for ((mean, count), wanted) in news.into_iter().zip(expected) {
            assert!((mean - wanted).abs() < 1e-6 && count == 1, "{mean} instead of {wanted}");
        }
    }

    #[test]
    fn octaves_are_counted_exactly() {
        let mut histogram = Histogram::default();
        for millis in [0, 1, 63, 64, 65, 127, 128, 1 << 30] {
            histogram.record(Duration::from_millis(millis));
        }
        assert_eq!([6, 7, 8, 27].map(|octave| histogram.below(octave)), [3, 6, 7, 7]);
    }
}
