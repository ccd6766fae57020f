//! What is alarming, as plain values: one set of definitions for CloudWatch, for templates and for the worker itself.
//!
//! *Secret kept:* the alarms of DESIGN 5.2, each with its condition, what it does without data, and who hears of it.
//! *May touch:* its arguments. *Must not know:* CloudWatch's calls, SNS, the clock.
//!
//! What happens without data, alarm by alarm:
//! - errors, throttles and latencies: not breaching. Nothing to count is good news from a worker that lives, and one
//!   that is dead is told by `WorkerSilent`. A change that is stuck keeps the latency going (see the catalogue).
//! - failed and pending work (gauges): ignore. A dead worker has not mended anything: what was alarming stays so.
//! - `WorkerSilent`: breaching. No heartbeat is what it looks for.
//! - the two on S3's own daily figures: missing. A day without a figure says nothing about the bucket.

mod definitions;
pub mod evaluate;
pub mod message;
pub mod record;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

pub use definitions::definitions;

pub use crate::ports::Tier;

use super::catalogue::Dimension;
use crate::model::object::Timestamp;

/// What the definitions depend on.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Begins every name.
    pub prefix: String,
    /// The namespace of our own metrics.
    pub namespace: String,
    /// The source bucket.
    pub source_bucket: String,
    /// One evaluation period of our own metrics: 10, 20 or 30 s, or whole minutes.
    pub period: Duration,
    /// When each alarm fires.
    pub thresholds: Thresholds,
    /// How often a canary is sent; `None` where none is, which then has no alarm.
    pub canary: Option<Duration>,
}

/// When each alarm fires (DESIGN 5.2). Counts and sizes are per evaluation period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Failed operations, more than.
    pub replication_failure: u64,
    /// Latency, longer than.
    pub replication_latency_warning: Duration,
    /// Latency, longer than.
    pub replication_latency_critical: Duration,
    /// Latency, longer than; by default the SLA's.
    pub latency_exceeds_sla: Duration,
    /// Pending operations, more than.
    pub pending_operations: u64,
    /// Pending bytes, more than.
    pub bytes_pending: u64,
    /// Errors, more than.
    pub target_errors_4xx: u64,
    /// Errors, more than.
    pub source_errors_4xx: u64,
    /// Errors, more than.
    pub source_errors_5xx: u64,
    /// Failed KMS calls for the target, more than.
    pub kms_target_failures: u64,
    /// Throttled KMS calls for the source, more than.
    pub kms_source_throttles: u64,
    /// Objects in the source, at most.
    pub source_object_count: u64,
    /// Bytes that the source grows in a day, more than.
    pub source_size_growth: u64,
    /// Evaluation periods without a heartbeat; at least one.
    pub worker_silent: NonZeroU32,
}

/// Which alarm, whatever its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AlarmId {
    /// Changes failed and are parked.
    ReplicationFailure,
    /// Replication is slow.
    ReplicationLatencyWarning,
    /// Replication is very slow.
    ReplicationLatencyCritical,
    /// What was promised is not kept.
    LatencyExceedsSla,
    /// Many changes wait.
    PendingOperations,
    /// Many bytes wait.
    BytesPending,
    /// The target refuses requests.
    TargetErrors4xx,
    /// The source refuses requests.
    SourceErrors4xx,
    /// The source fails.
    SourceErrors5xx,
    /// The target's key refuses.
    KmsTargetFailures,
    /// The source's key is throttled.
    KmsSourceThrottles,
    /// The source is empty.
    SourceObjectCount,
    /// The source grows fast.
    SourceSizeGrowth,
    /// The worker does not live.
    WorkerSilent,
    /// The canary does not arrive; only where one is sent.
    CanaryFailed,
    /// Composite: replication itself is in danger.
    SystemHealth,
    /// Composite: what replication stands on is in trouble.
    InfrastructureHealth,
    /// Composite: both.
    Escalation,
}

impl AlarmId {
    /// All, composites last.
    pub const ALL: [Self; 18] = [
        Self::ReplicationFailure,
        Self::ReplicationLatencyWarning,
        Self::ReplicationLatencyCritical,
        Self::LatencyExceedsSla,
        Self::PendingOperations,
        Self::BytesPending,
        Self::TargetErrors4xx,
        Self::SourceErrors4xx,
        Self::SourceErrors5xx,
        Self::KmsTargetFailures,
        Self::KmsSourceThrottles,
        Self::SourceObjectCount,
        Self::SourceSizeGrowth,
        Self::WorkerSilent,
        Self::CanaryFailed,
        Self::SystemHealth,
        Self::InfrastructureHealth,
        Self::Escalation,
    ];

    /// The name without prefix, as in the config.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ReplicationFailure => "ReplicationFailure",
            Self::ReplicationLatencyWarning => "ReplicationLatencyWarning",
            Self::ReplicationLatencyCritical => "ReplicationLatencyCritical",
            Self::LatencyExceedsSla => "LatencyExceedsSla",
            Self::PendingOperations => "PendingOperations",
            Self::BytesPending => "BytesPending",
            Self::TargetErrors4xx => "TargetErrors4xx",
            Self::SourceErrors4xx => "SourceErrors4xx",
            Self::SourceErrors5xx => "SourceErrors5xx",
            Self::KmsTargetFailures => "KmsTargetFailures",
            Self::KmsSourceThrottles => "KmsSourceThrottles",
            Self::SourceObjectCount => "SourceObjectCount",
            Self::SourceSizeGrowth => "SourceSizeGrowth",
            Self::WorkerSilent => "WorkerSilent",
            Self::CanaryFailed => "CanaryFailed",
            Self::SystemHealth => "SystemHealth",
            Self::InfrastructureHealth => "InfrastructureHealth",
            Self::Escalation => "Escalation",
        }
    }

    /// The alarm's name under a prefix: `repl-ReplicationFailure`.
    #[must_use]
    pub fn full_name(self, prefix: &str) -> String {
        format!("{prefix}-{}", self.name())
    }
}

/// Where an alarm stands: an alarm sees only metrics of its own region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Where our own metrics go.
    MonitoringRegion,
    /// Where the source bucket and its metrics are.
    SourceRegion,
}

/// How the values of one period make the datapoint that is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistic {
    /// The largest.
    Maximum,
    /// All together.
    Sum,
    /// The mean.
    Average,
}

impl Statistic {
    /// CloudWatch's word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Maximum => "Maximum",
            Self::Sum => "Sum",
            Self::Average => "Average",
        }
    }
}

/// How a datapoint breaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// Above the threshold.
    GreaterThan,
    /// Below it.
    LessThan,
    /// At it or below.
    LessThanOrEqual,
}

impl Comparison {
    /// CloudWatch's word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::GreaterThan => "GreaterThanThreshold",
            Self::LessThan => "LessThanThreshold",
            Self::LessThanOrEqual => "LessThanOrEqualToThreshold",
        }
    }

    /// Whether a datapoint breaches.
    #[must_use]
    pub fn breaches(self, value: f64, threshold: f64) -> bool {
        match self {
            Self::GreaterThan => value > threshold,
            Self::LessThan => value < threshold,
            Self::LessThanOrEqual => value <= threshold,
        }
    }
}

/// What a period without data means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissingData {
    /// Nothing: without any, the state is not known.
    Missing,
    /// The state stays as it is.
    Ignore,
    /// As bad as a breach.
    Breaching,
    /// As good as a value within the threshold.
    NotBreaching,
}

impl MissingData {
    /// CloudWatch's word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Ignore => "ignore",
            Self::Breaching => "breaching",
            Self::NotBreaching => "notBreaching",
        }
    }
}

/// One series of CloudWatch with its statistic. The unit is left out: CloudWatch then takes all (aws-semantics 7.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Series {
    /// `Repl`, or `AWS/S3`.
    pub namespace: String,
    /// The metric's name.
    pub metric: &'static str,
    /// What tells the series apart.
    pub dimensions: Vec<Dimension>,
    /// How a period becomes a datapoint.
    pub statistic: Statistic,
}

/// What an alarm looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
    /// One series.
    Series(Series),
    /// An expression over several: only its result is returned (`ReturnData`).
    Math {
        /// The series under their ids, at most ten (CloudWatch's limit for an alarm).
        inputs: Vec<(String, Series)>,
        /// The id of the expression.
        id: &'static str,
        /// The expression, in CloudWatch's metric math.
        expression: String,
        /// What its result is called.
        label: &'static str,
    },
}

/// One alarm on metrics.
#[derive(Clone, Debug, PartialEq)]
pub struct Alarm {
    /// Which.
    pub id: AlarmId,
    /// Its name, prefix included.
    pub name: String,
    /// For whoever is woken: what is the matter, and what to do.
    pub description: String,
    /// Who hears of it.
    pub tier: Tier,
    /// Where it stands.
    pub place: Place,
    /// What it looks at.
    pub signal: Signal,
    /// How a datapoint breaches.
    pub comparison: Comparison,
    /// What it is compared with: seconds, bytes or a count, as the metric.
    pub threshold: f64,
    /// The length of one period.
    pub period: Duration,
    /// How many periods are looked at (N).
    pub evaluation_periods: u32,
    /// How many of them must breach (M).
    pub datapoints_to_alarm: u32,
    /// What a period without data means (`TreatMissingData`).
    pub missing: MissingData,
}

/// One alarm on alarms; it stands where they do, in the monitoring region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Composite {
    /// Which.
    pub id: AlarmId,
    /// Its name, prefix included.
    pub name: String,
    /// For whoever is woken: what is the matter, and what to do.
    pub description: String,
    /// Who hears of it.
    pub tier: Tier,
    /// When it is in alarm.
    pub rule: Rule,
}

/// When a composite is in alarm. Displayed, it is CloudWatch's `AlarmRule`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// That alarm, by its full name, is in `ALARM`.
    InAlarm(AlarmId, String),
    /// Any of these.
    Any(Vec<Rule>),
    /// All of these.
    All(Vec<Rule>),
}

impl Rule {
    /// The alarms that it names, in order.
    #[must_use]
    pub fn children(&self) -> Vec<AlarmId> {
        match self {
            Self::InAlarm(id, _) => vec![*id],
            Self::Any(rules) | Self::All(rules) => rules.iter().flat_map(Self::children).collect(),
        }
    }

    /// Whether it holds, asking for the state of each alarm.
    #[must_use]
    pub fn holds(&self, in_alarm: &impl Fn(AlarmId) -> bool) -> bool {
        match self {
            Self::InAlarm(id, _) => in_alarm(*id),
            Self::Any(rules) => rules.iter().any(|rule| rule.holds(in_alarm)),
            Self::All(rules) => rules.iter().all(|rule| rule.holds(in_alarm)),
        }
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, inside: bool) -> fmt::Result {
        let (rules, word) = match self {
            Self::InAlarm(_, name) => return write!(f, "ALARM(\"{name}\")"),
            Self::Any(rules) => (rules, " OR "),
            Self::All(rules) => (rules, " AND "),
        };
        let several = inside && rules.len() > 1;
        f.write_str(if several { "(" } else { "" })?;
        for (place, rule) in rules.iter().enumerate() {
            f.write_str(if place > 0 { word } else { "" })?;
            rule.write(f, true)?;
        }
        f.write_str(if several { ")" } else { "" })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, false)
    }
}

/// All alarms.
#[derive(Clone, Debug, PartialEq)]
pub struct Definitions {
    /// On metrics.
    pub alarms: Vec<Alarm>,
    /// On alarms; each names only alarms that come before it.
    pub composites: Vec<Composite>,
}

/// What an alarm says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Within the threshold.
    Ok,
    /// Beyond it.
    Alarm,
    /// Not known.
    InsufficientData,
}

impl State {
    /// CloudWatch's word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Alarm => "ALARM",
            Self::InsufficientData => "INSUFFICIENT_DATA",
        }
    }

    /// Reads CloudWatch's word.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Ok, Self::Alarm, Self::InsufficientData].into_iter().find(|state| state.name() == name)
    }
}

/// Where one alarm is and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// What it says.
    pub state: State,
    /// Since when.
    pub since: Timestamp,
    /// Why: one sentence.
    pub reason: String,
}

/// The alarms that this worker evaluates, and what became of the messages about them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlarmsView {
    /// Each alarm, by its full name, in the order of the definitions.
    pub standings: Vec<(String, Standing)>,
    /// Messages delivered since start.
    pub delivered: u64,
    /// Messages that wait to be delivered.
    pub waiting: u64,
    /// Messages given up since start, because too many waited.
    pub lost: u64,
    /// The last failed delivery, if none has succeeded on that way since, by the way's name.
    pub faults: BTreeMap<&'static str, String>,
}
