use std::num::NonZeroU32;

use super::*;
use crate::watch::catalogue::Metric;

/// The thresholds of DESIGN 5.2.
pub(super) fn thresholds() -> Thresholds {
    let minutes = |count: u64| Duration::from_secs(count * 60);
    Thresholds {
        replication_failure: 0,
        replication_latency_warning: minutes(30),
        replication_latency_critical: minutes(60),
        latency_exceeds_sla: minutes(15),
        pending_operations: 100,
        bytes_pending: 1 << 30,
        target_errors_4xx: 10,
        source_errors_4xx: 10,
        source_errors_5xx: 5,
        kms_target_failures: 5,
        kms_source_throttles: 0,
        source_object_count: 0,
        source_size_growth: 1 << 40,
        worker_silent: NonZeroU32::new(3).unwrap(),
    }
}

pub(super) fn settings() -> Settings {
    Settings {
        prefix: "repl".to_owned(),
        namespace: "Repl".to_owned(),
        source_bucket: "acme-primary".to_owned(),
        period: Duration::from_secs(60),
        thresholds: thresholds(),
        canary: Some(Duration::from_secs(60)),
    }
}

/// The table of DESIGN 5.2, one line an alarm: name, metric, dimensions after the bucket, statistic, comparison,
/// threshold, M of N, missing data.
const TABLE: [&str; 15] = [
    "ReplicationFailure OperationsFailedReplication - Maximum > 0 2/2 ignore",
    "ReplicationLatencyWarning ReplicationLatency - Maximum > 1800 1/1 notBreaching",
    "ReplicationLatencyCritical ReplicationLatency - Maximum > 3600 1/1 notBreaching",
    "LatencyExceedsSla ReplicationLatency - Maximum > 900 1/1 notBreaching",
    "PendingOperations OperationsPendingReplication - Maximum > 100 3/3 ignore",
    "BytesPending BytesPendingReplication - Maximum > 1073741824 3/3 ignore",
    "TargetErrors4xx S3Errors4xx Side=target Sum > 10 1/1 notBreaching",
    "SourceErrors4xx S3Errors4xx Side=source Sum > 10 1/1 notBreaching",
    "SourceErrors5xx S3Errors5xx Side=source Sum > 5 1/1 notBreaching",
    "KmsTargetFailures KmsFailures Side=target Sum > 5 1/1 notBreaching",
    "KmsSourceThrottles KmsThrottles Side=source Sum > 0 1/1 notBreaching",
    "SourceObjectCount NumberOfObjects StorageType=AllStorageTypes Average <= 0 1/1 missing",
    "SourceSizeGrowth DIFF(SUM([m1,m2,m3,m4,m5,m6,m7,m8])) - - > 1099511627776 1/1 missing",
    "WorkerSilent Heartbeat - Sum < 1 3/3 breaching",
    "CanaryFailed CanaryFailed - Maximum > 0 2/2 ignore",
];

fn line(alarm: &Alarm) -> String {
    let (metric, dimensions, statistic) = match &alarm.signal {
        Signal::Series(series) => {
            let rest: Vec<String> =
                series.dimensions.iter().skip(1).map(|one| format!("{}={}", one.name, one.value)).collect();
            (series.metric.to_owned(), rest.join(","), series.statistic.name())
        }
        Signal::Math { expression, .. } => (expression.clone(), String::new(), "-"),
    };
    let dimensions = if dimensions.is_empty() { "-" } else { &dimensions };
    let sign = match alarm.comparison {
        Comparison::GreaterThan => ">",
        Comparison::LessThan => "<",
        Comparison::LessThanOrEqual => "<=",
    };
    format!(
        "{} {metric} {dimensions} {statistic} {sign} {} {}/{} {}",
        alarm.id.name(),
        alarm.threshold,
        alarm.datapoints_to_alarm,
        alarm.evaluation_periods,
        alarm.missing.name()
    )
}

#[test]
fn the_alarms_are_those_of_the_design() {
    let lines: Vec<String> = definitions(&settings()).alarms.iter().map(line).collect();
    assert_eq!(lines, TABLE);
}

#[test]
fn the_composites_read_as_cloudwatch_wants_them() {
    let composites = definitions(&settings()).composites;
    let rules: Vec<(String, Tier, String)> = composites
        .iter()
        .map(|composite| (composite.name.clone(), composite.tier, composite.rule.to_string()))
        .collect();
    let expected = [
        (
            "repl-SystemHealth",
            Tier::Critical,
            r#"ALARM("repl-ReplicationFailure") OR ALARM("repl-ReplicationLatencyCritical") OR ALARM("repl-WorkerSilent")"#,
        ),
        (
            "repl-InfrastructureHealth",
            Tier::Standard,
            r#"ALARM("repl-TargetErrors4xx") OR ALARM("repl-SourceErrors4xx") OR ALARM("repl-SourceErrors5xx") OR ALARM("repl-KmsTargetFailures") OR ALARM("repl-KmsSourceThrottles")"#,
        ),
        ("repl-Escalation", Tier::Management, r#"ALARM("repl-SystemHealth") AND ALARM("repl-InfrastructureHealth")"#),
    ];
    let expected = expected.map(|(name, tier, rule)| (name.to_owned(), tier, rule.to_owned()));
    assert_eq!(rules, expected);
    let nested = Rule::All(vec![composites[0].rule.clone(), Rule::InAlarm(AlarmId::BytesPending, "b".to_owned())]);
    assert!(
        nested.to_string().starts_with("(ALARM(") && nested.to_string().ends_with(") AND ALARM(\"b\")"),
        "{nested}"
    );
}

/// Single alarms tell the standard tier only; a composite's children stand in one region and come before it.
#[test]
fn tiers_and_places_fit_together() {
    let all = definitions(&settings());
    assert!(all.alarms.iter().all(|alarm| alarm.tier == Tier::Standard));
    let away: Vec<AlarmId> =
        all.alarms.iter().filter(|alarm| alarm.place == Place::SourceRegion).map(|alarm| alarm.id).collect();
    assert_eq!(away, [AlarmId::SourceObjectCount, AlarmId::SourceSizeGrowth]);
    let mut known: Vec<AlarmId> = all.alarms.iter().map(|alarm| alarm.id).collect();
    for composite in &all.composites {
        assert!(composite.rule.children().iter().all(|child| known.contains(child) && !away.contains(child)));
        known.push(composite.id);
    }
    assert_eq!(known, AlarmId::ALL);
}

/// Without a canary there is no alarm on it.
#[test]
fn the_canary_has_an_alarm_only_where_one_is_sent() {
    let named = |canary| definitions(&Settings { canary, ..settings() }).alarms.into_iter().map(|alarm| alarm.id);
    assert!(named(Some(Duration::from_secs(60))).any(|id| id == AlarmId::CanaryFailed));
    assert!(!named(None).any(|id| id == AlarmId::CanaryFailed));
}

/// Every series an alarm looks at is one that the catalogue sends with just these dimensions.
#[test]
fn own_series_are_in_the_catalogue() {
    let mut seen = 0;
    for alarm in definitions(&settings()).alarms {
        assert!(alarm.name.starts_with("repl-") && alarm.description.len() > 60, "{alarm:?}");
        let Signal::Series(series) = &alarm.signal else { continue };
        if series.namespace == "Repl" {
            assert!(Metric::ALL.iter().any(|metric| metric.name() == series.metric), "{series:?}");
            assert_eq!(series.dimensions[0].name, "SourceBucket");
            assert_eq!(alarm.period, Duration::from_secs(60));
            seen += 1;
        } else {
            assert_eq!(alarm.period, Duration::from_secs(86_400));
        }
    }
    assert_eq!(seen, 13);
}

/// CloudWatch's limits (aws-semantics 7.3).
#[test]
fn definitions_keep_to_cloudwatchs_limits() {
    let all = definitions(&Settings { prefix: "p".repeat(64), ..settings() });
    let names = all.alarms.iter().map(|alarm| (&alarm.name, &alarm.description));
    for (name, description) in names.chain(all.composites.iter().map(|one| (&one.name, &one.description))) {
        assert!(name.len() <= 255 && description.len() <= 1024 && name.is_ascii(), "{name}: {description}");
    }
    assert!(all.composites.iter().all(|composite| composite.rule.to_string().len() <= 10_240));
    assert!(all.alarms.iter().all(|alarm| match &alarm.signal {
        Signal::Series(_) => true,
        Signal::Math { inputs, .. } => inputs.len() <= 10,
    }));
}
