//! The course of the figures for the charts: taken once a minute, told as JSON.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::{Site, Worker};
use crate::ledger::{LatencySample, MINUTE, Sample};
use crate::model::fault::Fault;
use crate::model::object::Timestamp;
use crate::ports::Clock;
use crate::watch::catalogue::{Metric, MetricSide};
use crate::watch::figures::Figures;

/// Keeps a sample at the end of each minute until `stop` comes, and then the last one, of the minute begun.
///
/// # Errors
/// `Ledger` when the ledger cannot be read or written.
pub async fn keep<W: Worker, C: Clock>(site: Arc<Site<W, C>>, mut stop: oneshot::Receiver<()>) -> Result<(), Fault> {
    let mut before = site.figures()?;
    loop {
        let now = site.clock.now();
        let end = Timestamp((now.0 / MINUTE).saturating_add(1).saturating_mul(MINUTE));
        let ended = tokio::select! {
            () = tokio::time::sleep(end.since(now)) => false,
            // Also where whoever would stop us is gone.
            _ = &mut stop => true,
        };
        let figures = site.figures()?;
        let at = if ended { site.clock.now() } else { Timestamp(end.0.saturating_sub(1)) };
        site.ledger.keep_sample(at, sample(&figures, &before)).await?;
        if ended {
            return Ok(());
        }
        before = figures;
    }
}

impl<W: Worker, C: Clock> Site<W, C> {
    /// All figures now.
    pub(super) fn figures(&self) -> Result<Figures, Fault> {
        Figures::take(&self.ledger, &self.pulse.snapshot(), &self.settings.figures, self.clock.now())
    }

    /// The samples of the last day.
    pub(super) fn history(&self) -> Result<Value, Fault> {
        let samples: Vec<Value> = self.ledger.history()?.into_iter().map(told).collect();
        Ok(json!({"interval_seconds": MINUTE / 1000, "as_of": self.clock.now().rfc3339(), "samples": samples}))
    }
}

/// What the time between two moments came to.
fn sample(now: &Figures, before: &Figures) -> Sample {
    let more = |now: u64, earlier: u64| now.saturating_sub(earlier);
    let grown = |metrics: &[Metric]| {
        let pairs = metrics.iter().flat_map(|metric| MetricSide::ALL.map(|side| (*metric, side)));
        pairs.map(|(metric, side)| more(of(now, metric, side), of(before, metric, side))).sum()
    };
    Sample {
        latency: latency(&now.latency.since(&before.latency)),
        pending: now.pending.operations,
        pending_bytes: now.pending.bytes,
        failed: now.failed,
        oldest: millis(now.oldest.age),
        replicated: more(now.replicated.operations, before.replicated.operations),
        replicated_bytes: more(now.replicated.bytes, before.replicated.bytes),
        errors: grown(&[Metric::S3Errors4xx, Metric::S3Errors5xx, Metric::KmsFailures]),
        throttles: grown(&[Metric::SlowDowns, Metric::KmsThrottles]),
    }
}

fn of(figures: &Figures, metric: Metric, side: MetricSide) -> u64 {
    figures.errors_of(metric, side).unwrap_or_default()
}

/// Percentiles of values with counts, ascending, in seconds.
fn latency(values: &[(f64, u64)]) -> LatencySample {
    let count: u64 = values.iter().map(|(_, count)| count).sum();
    let at = |percent: u64| {
        let mut rank = (count * percent).div_ceil(100).max(1);
        let reaches = |(_, count): &&(f64, u64)| {
            let reached = rank <= *count;
            rank = rank.saturating_sub(*count);
            reached
        };
        values.iter().find(reaches).map_or(0, |(seconds, _)| millis(Duration::from_secs_f64(seconds.max(0.0))))
    };
    LatencySample { count, p50: at(50), p99: at(99), max: at(100) }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Where nothing arrived there is no latency: `null`, not zero.
fn told((minute, sample): (Timestamp, Sample)) -> Value {
    #[allow(clippy::cast_precision_loss, reason = "seconds of a chart")]
    let seconds = |millis: u64| millis as f64 / 1000.0;
    let latency = sample.latency;
    let arrived = |millis: u64| (latency.count > 0).then(|| seconds(millis));
    json!({
        "at": minute.rfc3339(),
        "latency_seconds": {"count": latency.count, "p50": arrived(latency.p50), "p99": arrived(latency.p99),
            "max": arrived(latency.max)},
        "pending": {"operations": sample.pending, "bytes": sample.pending_bytes},
        "failed": sample.failed,
        "oldest_age_seconds": seconds(sample.oldest),
        "replicated": {"operations": sample.replicated, "bytes": sample.replicated_bytes},
        "errors": sample.errors,
        "throttles": sample.throttles,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_values_with_counts() {
        assert_eq!(latency(&[]), LatencySample::default());
        assert_eq!(latency(&[(0.5, 1)]), LatencySample { count: 1, p50: 500, p99: 500, max: 500 });
        let values = [(0.1, 50), (1.0, 49), (60.0, 1)];
        assert_eq!(latency(&values), LatencySample { count: 100, p50: 100, p99: 1000, max: 60_000 });
    }

    #[test]
    fn a_minute_without_arrivals_has_no_latency() {
        let told = told((Timestamp(MINUTE), Sample { oldest: 1500, ..Sample::default() }));
        assert_eq!(told.pointer("/latency_seconds/p50"), Some(&Value::Null));
        assert_eq!(told.pointer("/oldest_age_seconds"), Some(&json!(1.5)));
        assert_eq!(told.pointer("/at"), Some(&json!("1970-01-01T00:01:00Z")));
    }
}
