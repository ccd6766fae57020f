//! Every metric, once: name, unit, what it tells, by what it is told apart, and how readings of it add up.
//!
//! CloudWatch, Prometheus, the status, the alarms and the table in README read this one catalogue (DESIGN 5.1). Names
//! and units are those of native replication where native has the metric.

use crate::model::object::RuleId;
pub use crate::ports::Dimension;

/// One metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Metric {
    /// Time from the change at the source to its being visible at the target.
    ReplicationLatency,
    /// Bytes that wait.
    BytesPendingReplication,
    /// Operations that wait.
    OperationsPendingReplication,
    /// Operations that failed and are parked.
    OperationsFailedReplication,
    /// The RPO clock.
    OldestPendingAge,
    /// Operations brought over.
    OperationsReplicated,
    /// Bytes brought over.
    BytesReplicated,
    /// Refused by the client's fault.
    S3Errors4xx,
    /// Failed by the service's fault.
    S3Errors5xx,
    /// Answers that asked for fewer requests.
    SlowDowns,
    /// Keys that could not be used.
    KmsFailures,
    /// Throttled uses of keys.
    KmsThrottles,
    /// Messages that cannot be understood.
    Quarantined,
    /// Deletes that the brake holds.
    BrakeHeld,
    /// How long the last canary took.
    CanaryLatency,
    /// Whether the last canary did not arrive.
    CanaryFailed,
    /// The worker lives.
    Heartbeat,
}

/// What a value counts, as CloudWatch names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// Things.
    Count,
}

impl Unit {
    /// CloudWatch's word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Seconds => "Seconds",
            Self::Bytes => "Bytes",
            Self::Count => "Count",
        }
    }
}

/// How readings over time make one figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Each event has a value: percentiles, maximum.
    Distribution,
    /// How much came since the last reading: sums.
    Counter,
    /// How much there is now: the largest of a period counts.
    Gauge,
}

impl Kind {
    /// The word in the README.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Distribution => "values with counts",
            Self::Counter => "sum of the interval",
            Self::Gauge => "value at its end",
        }
    }
}

/// By what the readings of a metric are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// For each rule, as native does; and once over all rules, which is what alarms look at.
    Rules,
    /// For the source and for the targets.
    Sides,
    /// Once for the worker.
    Whole,
}

/// One side of the replication, as a dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MetricSide {
    /// The source bucket.
    Source,
    /// The target buckets, with their keys.
    Target,
}

impl MetricSide {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Source, Self::Target];

    /// The value of the dimension.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Target => "target",
        }
    }
}

impl Metric {
    /// All, in the order of the README.
    pub const ALL: [Self; 17] = [
        Self::ReplicationLatency,
        Self::BytesPendingReplication,
        Self::OperationsPendingReplication,
        Self::OperationsFailedReplication,
        Self::OldestPendingAge,
        Self::OperationsReplicated,
        Self::BytesReplicated,
        Self::S3Errors4xx,
        Self::S3Errors5xx,
        Self::SlowDowns,
        Self::KmsFailures,
        Self::KmsThrottles,
        Self::Quarantined,
        Self::BrakeHeld,
        Self::CanaryLatency,
        Self::CanaryFailed,
        Self::Heartbeat,
    ];

    /// The name in CloudWatch.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ReplicationLatency => "ReplicationLatency",
            Self::BytesPendingReplication => "BytesPendingReplication",
            Self::OperationsPendingReplication => "OperationsPendingReplication",
            Self::OperationsFailedReplication => "OperationsFailedReplication",
            Self::OldestPendingAge => "OldestPendingAge",
            Self::OperationsReplicated => "OperationsReplicated",
            Self::BytesReplicated => "BytesReplicated",
            Self::S3Errors4xx => "S3Errors4xx",
            Self::S3Errors5xx => "S3Errors5xx",
            Self::SlowDowns => "SlowDowns",
            Self::KmsFailures => "KmsFailures",
            Self::KmsThrottles => "KmsThrottles",
            Self::Quarantined => "Quarantined",
            Self::BrakeHeld => "BrakeHeld",
            Self::CanaryLatency => "CanaryLatency",
            Self::CanaryFailed => "CanaryFailed",
            Self::Heartbeat => "Heartbeat",
        }
    }

    /// The name in Prometheus, without `_total`, which counters get on top.
    #[must_use]
    pub fn prometheus_name(self) -> &'static str {
        match self {
            Self::ReplicationLatency => "repl_replication_latency_seconds",
            Self::BytesPendingReplication => "repl_pending_bytes",
            Self::OperationsPendingReplication => "repl_pending_operations",
            Self::OperationsFailedReplication => "repl_failed_operations",
            Self::OldestPendingAge => "repl_oldest_pending_age_seconds",
            Self::OperationsReplicated => "repl_replicated_operations",
            Self::BytesReplicated => "repl_replicated_bytes",
            Self::S3Errors4xx => "repl_s3_errors_4xx",
            Self::S3Errors5xx => "repl_s3_errors_5xx",
            Self::SlowDowns => "repl_slow_downs",
            Self::KmsFailures => "repl_kms_failures",
            Self::KmsThrottles => "repl_kms_throttles",
            Self::Quarantined => "repl_quarantined_messages",
            Self::BrakeHeld => "repl_brake_held_deletes",
            Self::CanaryLatency => "repl_canary_latency_seconds",
            Self::CanaryFailed => "repl_canary_failed",
            Self::Heartbeat => "repl_heartbeats",
        }
    }

    /// What its values count.
    #[must_use]
    pub fn unit(self) -> Unit {
        match self {
            Self::ReplicationLatency | Self::OldestPendingAge | Self::CanaryLatency => Unit::Seconds,
            Self::BytesPendingReplication | Self::BytesReplicated => Unit::Bytes,
            Self::OperationsPendingReplication
            | Self::OperationsFailedReplication
            | Self::OperationsReplicated
            | Self::S3Errors4xx
            | Self::S3Errors5xx
            | Self::SlowDowns
            | Self::KmsFailures
            | Self::KmsThrottles
            | Self::Quarantined
            | Self::BrakeHeld
            | Self::CanaryFailed
            | Self::Heartbeat => Unit::Count,
        }
    }

    /// How its readings add up.
    #[must_use]
    pub fn kind(self) -> Kind {
        match self {
            Self::ReplicationLatency => Kind::Distribution,
            Self::OperationsReplicated
            | Self::BytesReplicated
            | Self::S3Errors4xx
            | Self::S3Errors5xx
            | Self::SlowDowns
            | Self::KmsFailures
            | Self::KmsThrottles
            | Self::Heartbeat => Kind::Counter,
            Self::BytesPendingReplication
            | Self::OperationsPendingReplication
            | Self::OperationsFailedReplication
            | Self::OldestPendingAge
            | Self::Quarantined
            | Self::BrakeHeld
            | Self::CanaryLatency
            | Self::CanaryFailed => Kind::Gauge,
        }
    }

    /// By what its readings are told apart.
    #[must_use]
    pub fn scope(self) -> Scope {
        match self {
            Self::ReplicationLatency
            | Self::BytesPendingReplication
            | Self::OperationsPendingReplication
            | Self::OperationsFailedReplication => Scope::Rules,
            Self::S3Errors4xx | Self::S3Errors5xx | Self::SlowDowns | Self::KmsFailures | Self::KmsThrottles => {
                Scope::Sides
            }
            Self::OldestPendingAge
            | Self::OperationsReplicated
            | Self::BytesReplicated
            | Self::Quarantined
            | Self::BrakeHeld
            | Self::CanaryLatency
            | Self::CanaryFailed
            | Self::Heartbeat => Scope::Whole,
        }
    }

    /// What it tells, for the README, Prometheus and the page: no dot at the end.
    #[must_use]
    pub fn help(self) -> &'static str {
        match self {
            Self::ReplicationLatency => {
                "From the change at the source to its being visible at the target; over all rules, a change that has \
                 waited for more than a minute counts with its age so far"
            }
            Self::BytesPendingReplication => "Bytes of changes that wait for the target",
            Self::OperationsPendingReplication => "Changes that wait for the target",
            Self::OperationsFailedReplication => "Changes that failed and are parked until their cause is mended",
            Self::OldestPendingAge => {
                "The RPO clock: age of the oldest change not yet at its target, parked ones too; while the queue cannot \
                 be seen through, at least the time since it last was"
            }
            Self::OperationsReplicated => "Changes brought to the target",
            Self::BytesReplicated => "Bytes brought to the target",
            Self::S3Errors4xx => {
                "Answers 4xx of S3 that nobody expected: 404 and 412, by which the worker looks around, are none"
            }
            Self::S3Errors5xx => "Answers 5xx of S3, SlowDown among them",
            Self::SlowDowns => "Answers of S3 that asked for fewer requests",
            Self::KmsFailures => "Uses of a KMS key that were refused: disabled, missing, not permitted",
            Self::KmsThrottles => "Uses of a KMS key that were throttled",
            Self::Quarantined => "Messages that could not be understood and are kept",
            Self::BrakeHeld => "Deletes that the brake holds until an operator releases them",
            Self::CanaryLatency => "How long the last canary took from its writing to its being seen at all targets",
            Self::CanaryFailed => "1 while the last canary did not arrive, else 0; only where canaries are sent",
            Self::Heartbeat => "One for each interval in which the worker lives",
        }
    }
}

/// A dimension whose value is made ASCII: bytes that are not printable ASCII become `%XX`, and a blank value `-`.
#[must_use]
pub fn dimension(name: &'static str, value: &str) -> Dimension {
    if value.trim().is_empty() {
        return Dimension { name, value: "-".to_owned() };
    }
    let escape = |byte: u8| match byte {
        b' '..=b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    Dimension { name, value: value.bytes().map(escape).collect() }
}

/// The dimension that every metric has: the source bucket.
#[must_use]
pub fn of_source(source_bucket: &str) -> Vec<Dimension> {
    vec![dimension("SourceBucket", source_bucket)]
}

/// The dimensions of one rule's series, as native has them.
#[must_use]
pub fn of_rule(source_bucket: &str, destination_bucket: &str, rule: &RuleId) -> Vec<Dimension> {
    let mut dimensions = of_source(source_bucket);
    dimensions.push(dimension("DestinationBucket", destination_bucket));
    dimensions.push(dimension("RuleId", rule.as_str()));
    dimensions
}

/// The dimensions of one side's series.
#[must_use]
pub fn of_side(source_bucket: &str, side: MetricSide) -> Vec<Dimension> {
    let mut dimensions = of_source(source_bucket);
    dimensions.push(dimension("Side", side.name()));
    dimensions
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The README has the catalogue's table, line for line.
    #[test]
    fn the_readme_has_every_metric() {
        let readme = include_str!("../../README.md");
        let line = |metric: Metric| {
            let dimensions = match metric.scope() {
                Scope::Rules => "bucket; and bucket, destination, rule",
                Scope::Sides => "bucket, side",
                Scope::Whole => "bucket",
            };
            let total = if metric.kind() == Kind::Counter { "_total" } else { "" };
            let (unit, kind) = (metric.unit().name(), metric.kind().name());
            let prometheus = format!("{}{total}", metric.prometheus_name());
            format!("| `{}` | {unit} | {dimensions} | {kind} | `{prometheus}` | {} |", metric.name(), metric.help())
        };
        let table = readme.lines().skip_while(|line| !line.starts_with("| metric | unit ")).skip(2);
        let found: Vec<&str> = table.take_while(|line| line.starts_with('|')).collect();
        assert_eq!(found, Metric::ALL.map(line));
    }

    /// CloudWatch refuses the whole call for one blank value or one that is not ASCII (aws-semantics 7.3).
    #[test]
    fn dimensions_are_ascii_and_never_blank() {
        for (value, expected) in [("a b", "a b"), ("", "-"), ("  ", "-"), ("gökü\n", "g%C3%B6k%C3%BC%0A")] {
            assert_eq!(dimension("RuleId", value).value, expected);
        }
    }
}
