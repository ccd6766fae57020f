//! The catalogue as OpenMetrics text, which Prometheus reads.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::catalogue::{Kind, Metric, MetricSide, Scope};
use super::figures::{Figures, Settings};
use super::pulse::Histogram;

/// What a server says of [`text()`] in `Content-Type`.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Where the buckets of a histogram end, as powers of two of milliseconds: 64 ms to 37 h. Our own buckets end there too,
/// so the counts are exact.
const OCTAVES: std::ops::RangeInclusive<u16> = 6..=27;

/// All figures as text. Counters count since the worker's start; a change that is stuck is no latency here (a histogram
/// takes nothing back): `repl_oldest_pending_age_seconds` tells of it.
#[must_use]
pub fn text(figures: &Figures, settings: &Settings) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Page { figures: figures.clone(), settings: settings.clone() }));
    let mut out = String::new();
    match text::encode(&mut out, &registry) {
        Ok(()) => out,
        // Writing to a string cannot fail.
        Err(fmt::Error) => "# EOF\n".to_owned(),
    }
}

#[derive(Debug)]
struct Page {
    figures: Figures,
    settings: Settings,
}

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for metric in Metric::ALL {
            let kind = match metric.kind() {
                Kind::Distribution => MetricType::Histogram,
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
            };
            let canary = [
                (Metric::CanaryLatency, self.figures.canary_latency().is_none()),
                (Metric::CanaryFailed, self.figures.canary.is_none()),
            ];
            if canary.contains(&(metric, true)) {
                continue;
            }
            let mut family = encoder.encode_descriptor(metric.prometheus_name(), metric.help(), None, kind)?;
            match metric.scope() {
                Scope::Rules => self.rules(metric, &mut family)?,
                Scope::Sides => self.sides(metric, &mut family)?,
                Scope::Whole => self.whole(metric, &mut family)?,
            }
        }
        Ok(())
    }
}

impl Page {
    fn bucket(&self) -> (&'static str, String) {
        ("source_bucket", self.settings.source_bucket.clone())
    }

    fn rules(&self, metric: Metric, family: &mut MetricEncoder<'_>) -> fmt::Result {
        for (rule, destination) in &self.settings.rules {
            let Some(figures) = self.figures.rules.get(rule) else { continue };
            let labels =
                [self.bucket(), ("destination_bucket", destination.clone()), ("rule", rule.as_str().to_owned())];
            let mut series = family.encode_family(&labels)?;
            match (metric.kind(), figures.level(metric)) {
                (Kind::Distribution, _) => histogram(&figures.latency, &mut series)?,
                (Kind::Counter | Kind::Gauge, Some(level)) => gauge(level, series)?,
                (Kind::Counter | Kind::Gauge, None) => {}
            }
        }
        Ok(())
    }

    fn sides(&self, metric: Metric, family: &mut MetricEncoder<'_>) -> fmt::Result {
        for side in MetricSide::ALL {
            let labels = [self.bucket(), ("side", side.name().to_owned())];
            let errors = self.figures.errors_of(metric, side).unwrap_or_default();
            ConstCounter::new(errors).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn whole(&self, metric: Metric, family: &mut MetricEncoder<'_>) -> fmt::Result {
        let labels = [self.bucket()];
        let series = family.encode_family(&labels)?;
        let figures = &self.figures;
        match metric {
            Metric::OldestPendingAge => ConstGauge::new(figures.oldest.age.as_secs_f64()).encode(series),
            Metric::OperationsReplicated => ConstCounter::new(figures.replicated.operations).encode(series),
            Metric::BytesReplicated => ConstCounter::new(figures.replicated.bytes).encode(series),
            Metric::Heartbeat => ConstCounter::new(figures.heartbeats).encode(series),
            Metric::Quarantined => gauge(figures.quarantined, series),
            Metric::BrakeHeld => gauge(figures.brake_held, series),
            Metric::CanaryLatency => match figures.canary_latency() {
                Some(latency) => ConstGauge::new(latency).encode(series),
                None => Ok(()),
            },
            Metric::CanaryFailed => match figures.canary_failed() {
                Some(failed) => gauge(failed, series),
                None => Ok(()),
            },
            Metric::ReplicationLatency
            | Metric::BytesPendingReplication
            | Metric::OperationsPendingReplication
            | Metric::OperationsFailedReplication
            | Metric::S3Errors4xx
            | Metric::S3Errors5xx
            | Metric::SlowDowns
            | Metric::KmsFailures
            | Metric::KmsThrottles => Ok(()),
        }
    }
}

fn gauge(value: u64, series: MetricEncoder<'_>) -> fmt::Result {
    #[allow(clippy::cast_precision_loss, reason = "Prometheus has doubles")]
    ConstGauge::new(value as f64).encode(series)
}

fn histogram(latency: &Histogram, series: &mut MetricEncoder<'_>) -> fmt::Result {
    let mut buckets = Vec::new();
    let mut below = 0;
    for octave in OCTAVES {
        let reached = latency.below(octave);
        buckets.push((f64::from(octave).exp2() / 1000.0, reached - below));
        below = reached;
    }
    buckets.push((f64::MAX, latency.count() - below));
    series.encode_histogram::<NoLabelSet>(latency.sum(), latency.count(), &buckets, None)
}
