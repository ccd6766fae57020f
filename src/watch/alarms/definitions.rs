//! The alarms of DESIGN 5.2.

use std::time::Duration;

use super::{
    Alarm, AlarmId, Comparison, Composite, Definitions, MissingData, Place, Rule, Series, Settings, Signal, Statistic,
    Tier,
};
use crate::watch::catalogue::{Kind, Metric, MetricSide, dimension, of_side, of_source};

/// S3 reports its storage metrics once a day; a shorter period never has enough data (aws-semantics 8.3).
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The storage types whose bytes make the size of a bucket, as far as one alarm may name them: CloudWatch takes at most
/// ten series for an alarm. Bytes that a lifecycle rule moves from one of them to another are no growth.
const STORAGE_TYPES: [&str; 8] = [
    "StandardStorage",
    "StandardIAStorage",
    "OneZoneIAStorage",
    "GlacierStorage",
    "DeepArchiveStorage",
    "IntelligentTieringFAStorage",
    "IntelligentTieringIAStorage",
    "IntelligentTieringAAStorage",
];

/// All alarms, under the names, thresholds and periods that the settings give.
#[must_use]
pub fn definitions(settings: &Settings) -> Definitions {
    let mut alarms = replication(settings);
    alarms.extend(backlog(settings));
    alarms.extend(infrastructure(settings));
    alarms.extend(storage(settings));
    alarms.push(worker_silent(settings));
    alarms.extend(settings.canary.map(|every| canary_failed(settings, every)));
    Definitions { alarms, composites: composites(settings) }
}

/// An alarm on one of our own series over all rules or on one side, in as many periods as it looks at.
struct Own<'a> {
    settings: &'a Settings,
    id: AlarmId,
    metric: Metric,
    side: Option<MetricSide>,
    threshold: f64,
    periods: u32,
    missing: MissingData,
}

impl Own<'_> {
    fn says(self, description: impl Into<String>) -> Alarm {
        let bucket = &self.settings.source_bucket;
        let series = Series {
            namespace: self.settings.namespace.clone(),
            metric: self.metric.name(),
            dimensions: self.side.map_or_else(|| of_source(bucket), |side| of_side(bucket, side)),
            statistic: match self.metric.kind() {
                Kind::Counter => Statistic::Sum,
                Kind::Gauge | Kind::Distribution => Statistic::Maximum,
            },
        };
        Alarm {
            id: self.id,
            name: self.id.full_name(&self.settings.prefix),
            description: description.into(),
            tier: Tier::Standard,
            place: Place::MonitoringRegion,
            signal: Signal::Series(series),
            comparison: Comparison::GreaterThan,
            threshold: self.threshold,
            period: self.settings.period,
            evaluation_periods: self.periods,
            datapoints_to_alarm: self.periods,
            missing: self.missing,
        }
    }
}

fn replication(settings: &Settings) -> Vec<Alarm> {
    let at = &settings.thresholds;
    let bucket = &settings.source_bucket;
    let latency = |id, threshold: Duration| Own {
        settings,
        id,
        metric: Metric::ReplicationLatency,
        side: None,
        threshold: threshold.as_secs_f64(),
        periods: 1,
        missing: MissingData::NotBreaching,
    };
    let failure = Own {
        settings,
        id: AlarmId::ReplicationFailure,
        metric: Metric::OperationsFailedReplication,
        side: None,
        threshold: count(at.replication_failure),
        periods: 2,
        missing: MissingData::Ignore,
    };
    vec![
        failure.says(format!(
            "Changes of {bucket} failed and are parked: see why with `repl failures`, mend the cause, and they are \
             released by themselves or with `repl failures retry`."
        )),
        latency(AlarmId::ReplicationLatencyWarning, at.replication_latency_warning).says(format!(
            "Changes of {bucket} take long to reach the target: look at `repl status` for what waits and at the limits \
             in [transfer]."
        )),
        latency(AlarmId::ReplicationLatencyCritical, at.replication_latency_critical).says(format!(
            "Changes of {bucket} take very long to reach the target, or the queue has not been seen through as long: \
             see `repl status` for what waits and which fault the queue or the target shows, and mend that."
        )),
        latency(AlarmId::LatencyExceedsSla, at.latency_exceeds_sla).says(format!(
            "Changes of {bucket} reach the target later than was promised: tell those who rely on it, and look at \
             `repl status` for what waits."
        )),
    ]
}

fn backlog(settings: &Settings) -> Vec<Alarm> {
    let at = &settings.thresholds;
    let bucket = &settings.source_bucket;
    let waiting = |id, metric, threshold| Own {
        settings,
        id,
        metric,
        side: None,
        threshold,
        periods: 3,
        missing: MissingData::Ignore,
    };
    vec![
        waiting(AlarmId::PendingOperations, Metric::OperationsPendingReplication, count(at.pending_operations)).says(
            format!(
                "Many changes of {bucket} wait for the target: nothing to do if the number falls; else see `repl status` \
                 for faults, and raise the limits in [transfer] or the size of the machine."
            ),
        ),
        waiting(AlarmId::BytesPending, Metric::BytesPendingReplication, count(at.bytes_pending)).says(format!(
            "Many bytes of {bucket} wait for the target: nothing to do if they become fewer; else see `repl status` for \
             faults, and raise the limits in [transfer] or the size of the machine."
        )),
    ]
}

fn infrastructure(settings: &Settings) -> Vec<Alarm> {
    let at = &settings.thresholds;
    let bucket = &settings.source_bucket;
    let errors = |id, metric, side, threshold| Own {
        settings,
        id,
        metric,
        side: Some(side),
        threshold: count(threshold),
        periods: 1,
        missing: MissingData::NotBreaching,
    };
    let (source, target) = (MetricSide::Source, MetricSide::Target);
    vec![
        errors(AlarmId::TargetErrors4xx, Metric::S3Errors4xx, target, at.target_errors_4xx).says(format!(
            "The target of {bucket} refuses requests: run `repl check`, which names the missing permission or setting."
        )),
        errors(AlarmId::SourceErrors4xx, Metric::S3Errors4xx, source, at.source_errors_4xx).says(format!(
            "The source bucket {bucket} refuses requests: run `repl check`, which names the missing permission or setting."
        )),
        errors(AlarmId::SourceErrors5xx, Metric::S3Errors5xx, source, at.source_errors_5xx).says(format!(
            "S3 fails to answer for {bucket}: the worker tries again by itself; if it lasts, look at AWS's health \
             dashboard for the source's region."
        )),
        errors(AlarmId::KmsTargetFailures, Metric::KmsFailures, target, at.kms_target_failures).says(format!(
            "The KMS key of the target of {bucket} cannot be used: see that it is enabled and that its policy permits \
             the worker's role, then `repl check`."
        )),
        errors(AlarmId::KmsSourceThrottles, Metric::KmsThrottles, source, at.kms_source_throttles).says(format!(
            "KMS throttles reads of {bucket}: switch on S3 Bucket Keys there, or ask for a higher quota of KMS requests."
        )),
    ]
}

/// The two on S3's own metrics of the source bucket.
fn storage(settings: &Settings) -> Vec<Alarm> {
    let at = &settings.thresholds;
    let bucket = &settings.source_bucket;
    let series = |metric, storage_type| Series {
        namespace: "AWS/S3".to_owned(),
        metric,
        dimensions: vec![dimension("BucketName", bucket), dimension("StorageType", storage_type)],
        statistic: Statistic::Average,
    };
    let alarm = |id: AlarmId, description, signal| Alarm {
        id,
        name: id.full_name(&settings.prefix),
        description,
        tier: Tier::Standard,
        place: Place::SourceRegion,
        signal,
        comparison: Comparison::GreaterThan,
        threshold: count(at.source_size_growth),
        period: DAY,
        evaluation_periods: 1,
        datapoints_to_alarm: 1,
        missing: MissingData::Missing,
    };
    let ids = (1..).map(|nth: u32| format!("m{nth}"));
    let inputs: Vec<(String, Series)> =
        ids.zip(STORAGE_TYPES.map(|storage_type| series("BucketSizeBytes", storage_type))).collect();
    let named: Vec<&str> = inputs.iter().map(|(id, _)| id.as_str()).collect();
    let expression = format!("DIFF(SUM([{}]))", named.join(",")); // SUM takes what series there are at a time.
    let growth = Signal::Math { inputs, id: "growth", expression, label: "bytes more than the day before" };
    vec![
        Alarm {
            comparison: Comparison::LessThanOrEqual,
            threshold: count(at.source_object_count),
            ..alarm(
                AlarmId::SourceObjectCount,
                format!(
                    "The source bucket {bucket} holds no object any more: find out who emptied it before lifecycle rules \
                     empty the target too."
                ),
                Signal::Series(series("NumberOfObjects", "AllStorageTypes")),
            )
        },
        alarm(
            AlarmId::SourceSizeGrowth,
            format!(
                "The source bucket {bucket} grew fast in a day: see who writes there, and whether limits and costs of \
                 the replication still fit."
            ),
            growth,
        ),
    ]
}

fn worker_silent(settings: &Settings) -> Alarm {
    let silent = Own {
        settings,
        id: AlarmId::WorkerSilent,
        metric: Metric::Heartbeat,
        side: None,
        threshold: 1.0,
        periods: settings.thresholds.worker_silent.get(),
        missing: MissingData::Breaching,
    };
    let alarm = silent.says(format!(
        "The worker that replicates {} gives no sign of life: nothing is replicated; see whether its machine runs, then \
         its log (`journalctl -u repl`), and start it again: nothing is lost.",
        settings.source_bucket
    ));
    Alarm { comparison: Comparison::LessThan, ..alarm }
}

fn canary_failed(settings: &Settings, every: Duration) -> Alarm {
    let failed = Own {
        settings,
        id: AlarmId::CanaryFailed,
        metric: Metric::CanaryFailed,
        side: None,
        threshold: 0.0,
        periods: 2,
        missing: MissingData::Ignore,
    };
    failed.says(format!(
        "The canary that is written to {} every {} s did not arrive: see its fault in `repl status`, then `repl check`.",
        settings.source_bucket,
        every.as_secs()
    ))
}

fn composites(settings: &Settings) -> Vec<Composite> {
    let bucket = &settings.source_bucket;
    let named = |id: AlarmId| Rule::InAlarm(id, id.full_name(&settings.prefix));
    let composite = |id: AlarmId, tier, rule, description| Composite {
        id,
        name: id.full_name(&settings.prefix),
        description,
        tier,
        rule,
    };
    let danger = [AlarmId::ReplicationFailure, AlarmId::ReplicationLatencyCritical, AlarmId::WorkerSilent];
    let trouble = [
        AlarmId::TargetErrors4xx,
        AlarmId::SourceErrors4xx,
        AlarmId::SourceErrors5xx,
        AlarmId::KmsTargetFailures,
        AlarmId::KmsSourceThrottles,
    ];
    vec![
        composite(
            AlarmId::SystemHealth,
            Tier::Critical,
            Rule::Any(danger.map(named).to_vec()),
            format!(
                "The replication of {bucket} fails, stands still or is very late: the target falls behind until somebody \
                 mends it; begin with the alarm that is named in the reason, then `repl status`."
            ),
        ),
        composite(
            AlarmId::InfrastructureHealth,
            Tier::Standard,
            Rule::Any(trouble.map(named).to_vec()),
            format!("S3 or KMS refuse or fail what the replication of {bucket} asks of them: run `repl check`."),
        ),
        composite(
            AlarmId::Escalation,
            Tier::Management,
            Rule::All(vec![named(AlarmId::SystemHealth), named(AlarmId::InfrastructureHealth)]),
            format!(
                "The replication of {bucket} is broken and what it stands on is in trouble too: the second copy is not \
                 being kept; see to it that those on call have what they need, and decide whether users must be told."
            ),
        ),
    ]
}

#[allow(clippy::cast_precision_loss, reason = "thresholds beyond 2^53 are not told apart by CloudWatch either")]
fn count(threshold: u64) -> f64 {
    threshold as f64
}
