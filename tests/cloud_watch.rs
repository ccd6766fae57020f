//! Metrics and alarms on a real server: what is sent is read back, and what the worker evaluates agrees with it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests panic")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_cloudwatch::types::{ComparisonOperator, Dimension, StandardUnit, Statistic};
use aws_smithy_types::DateTime;
use repl::aws::cloudwatch::{CloudWatch, Resolution};
use repl::aws::{Clients, Endpoint};
use repl::model::fault::Side;
use repl::model::object::Timestamp;
use repl::ports::{Datum, MetricSink};
use repl::watch::alarms::evaluate::Evaluator;
use repl::watch::alarms::{Alarm, AlarmId, Settings, Signal, Thresholds, definitions};
use repl::watch::catalogue::{Kind, Metric, of_source};
use serde_json::Value;
use support::pair::{Pair, SOURCE_REGION, Setup};
use support::proxy::{Act, Proxy, Rule};
use support::servers::Server;
use support::tiers::{TIERS, Tiers, topic};
use support::worker::{eventually, run_repl, spawn_repl};

const REGION: &str = "eu-west-2";

#[allow(clippy::disallowed_methods, reason = "the server evaluates by the real clock")]
fn now() -> Timestamp {
    Timestamp(u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap())
}

fn client() -> aws_sdk_cloudwatch::Client {
    Server::Ministack.access().cloudwatch(REGION)
}

async fn sink(namespace: &str) -> CloudWatch {
    let access = Server::Ministack.access();
    let endpoint =
        Endpoint { endpoint: Some(access.endpoint.clone()), ..Endpoint::in_region(REGION, Side::Monitoring) };
    let keys = Credentials::new(&access.access_key_id, &access.secret_access_key, None, None, "test");
    let config = Clients::new().sdk_config(&endpoint).await.unwrap().into_builder();
    let config = config.credentials_provider(SharedCredentialsProvider::new(keys)).build();
    CloudWatch::new(&config, &endpoint, namespace, Resolution::Standard)
}

/// All that one series came to within two hours of now: sum, maximum, count and unit.
async fn read(namespace: &str, metric: &str, dimensions: &[(&str, &str)]) -> Option<(f64, f64, f64, StandardUnit)> {
    let at = i64::try_from(now().0 / 1000).unwrap();
    let dimensions = dimensions.iter().map(|(name, value)| Dimension::builder().name(*name).value(*value).build());
    let read = client()
        .get_metric_statistics()
        .namespace(namespace)
        .metric_name(metric)
        .set_dimensions(Some(dimensions.collect()))
        .start_time(DateTime::from_secs(at - 3600))
        .end_time(DateTime::from_secs(at + 3600))
        .period(7200)
        .set_statistics(Some(vec![Statistic::Sum, Statistic::Maximum, Statistic::SampleCount]))
        .send()
        .await
        .unwrap();
    let points = read.datapoints();
    let unit = points.first()?.unit().cloned().unwrap();
    let sum = points.iter().filter_map(|point| point.sum()).sum();
    let count = points.iter().filter_map(|point| point.sample_count()).sum();
    Some((sum, points.iter().filter_map(|point| point.maximum()).fold(f64::MIN, f64::max), count, unit))
}

/// Values with counts give the right percentiles, however many; a call of more than a thousand data arrives whole.
#[tokio::test]
async fn values_with_counts_have_the_right_percentiles() {
    let namespace = "WatchPercentiles";
    let sink = sink(namespace).await;
    let values: Vec<(f64, u64)> = (1..=100).map(|value| (f64::from(value), 3)).collect();
    let latency = Datum { name: "ReplicationLatency", unit: "Seconds", dimensions: of_source("b"), values };
    let many = (0..1100).map(|nth| Datum {
        name: "Heartbeat",
        unit: "Count",
        dimensions: of_source(&format!("bucket-{nth}")),
        values: vec![(1.0, 1)],
    });
    let data: Vec<Datum> = many.chain([latency]).collect();
    sink.send(now(), &data).await.unwrap();
    let found = read(namespace, "ReplicationLatency", &[("SourceBucket", "b")]).await;
    assert_eq!(found, Some((15_150.0, 100.0, 300.0, StandardUnit::Seconds)));
    assert!(read(namespace, "Heartbeat", &[("SourceBucket", "bucket-1099")]).await.is_some());
    let at = i64::try_from(now().0 / 1000).unwrap();
    let percentiles = client()
        .get_metric_statistics()
        .namespace(namespace)
        .metric_name("ReplicationLatency")
        .dimensions(Dimension::builder().name("SourceBucket").value("b").build())
        .start_time(DateTime::from_secs(at - 3600))
        .end_time(DateTime::from_secs(at + 3600))
        .period(7200)
        .set_extended_statistics(Some(vec!["p50".to_owned(), "p99".to_owned()]))
        .send()
        .await
        .unwrap();
    let told = percentiles.datapoints()[0].extended_statistics().unwrap();
    assert!((49.0..=51.0).contains(&told["p50"]) && (98.0..=100.0).contains(&told["p99"]), "{told:?}");
}

fn monitored(pair: &Pair, endpoint: &str, more: &str) -> String {
    format!(
        "[monitoring]\nendpoint = \"{endpoint}\"\nregion = \"{REGION}\"\nnamespace = \"{}\"\n{more}",
        pair.source.name
    )
}

/// Rewrites the config with other tables at its end, once the pair's names are known.
fn reconfigure(pair: &mut Pair, more: impl FnOnce(&Pair) -> String) {
    pair.setup.more = more(pair);
    pair.write_config();
}

/// A run as a user makes it: every metric of the catalogue can be read back with its unit, and says what happened.
#[tokio::test]
async fn a_run_sends_every_metric() {
    let mut pair = Setup::on(Server::Ministack, Server::Ministack).build().await;
    reconfigure(&mut pair, |pair| monitored(pair, &Server::Ministack.access().endpoint, "interval = \"1s\"\n"));
    for number in 0..5 {
        pair.source.put(&format!("k{number}"), "twelve bytes").await;
    }
    let args = ["run", "--until-idle=3s", "--json"];
    let report = run_repl(&pair, &args, Duration::from_secs(120)).await.expect_code(0).json();
    assert!(report["metrics"]["last_sent"].is_string() && report["metrics"]["fault"].is_null(), "{report:#}");
    assert_eq!(report["rpo"]["doubt"], Value::Null, "{report:#}");
    let left = run_repl(&pair, &["status", "--json"], Duration::from_secs(120)).await.json();
    assert_eq!((&left["rpo"]["seconds"], &left["pid"], &left["alarms"]), (&Value::Null, &Value::Null, &Value::Null));
    assert!(left["rpo"]["doubt"].as_str().unwrap().contains("no worker runs"), "{left:#}");
    let (namespace, bucket) = (pair.source.name.clone(), pair.source.name.as_str());
    let whole = [("SourceBucket", bucket)];
    let rule = [("SourceBucket", bucket), ("DestinationBucket", pair.target.name.as_str()), ("RuleId", "all")];
    let side = [("SourceBucket", bucket), ("Side", "target")];
    let silent = [Metric::CanaryLatency, Metric::CanaryFailed];
    for metric in Metric::ALL.into_iter().filter(|metric| !silent.contains(metric)) {
        let sides = metric.scope() == repl::watch::catalogue::Scope::Sides;
        let found = read(&namespace, metric.name(), if sides { &side } else { &whole }).await;
        let (sum, max, count, unit) = found.unwrap_or_else(|| panic!("{metric:?} was not sent"));
        assert_eq!(unit.as_str(), metric.unit().name(), "{metric:?}");
        match metric {
            Metric::OperationsReplicated => assert_eq!(sum, 5.0),
            Metric::BytesReplicated => assert_eq!(sum, 60.0),
            Metric::ReplicationLatency => assert!(count == 5.0 && max < 3600.0, "{count} up to {max}"),
            Metric::Heartbeat => assert!(sum >= 2.0, "{sum}"),
            _ if metric.kind() == Kind::Counter => assert_eq!(sum, 0.0, "{metric:?}"),
            _ => {}
        }
    }
    for metric in ["ReplicationLatency", "BytesPendingReplication", "OperationsFailedReplication"] {
        assert!(read(&namespace, metric, &rule).await.is_some(), "{metric} of the rule");
    }
}

/// CloudWatch that does not answer, or refuses, slows nothing; the status says so.
#[tokio::test]
async fn replication_does_not_wait_for_cloudwatch() {
    let mut pair = Setup::on(Server::Ministack, Server::Ministack).build().await;
    let proxy = Proxy::before(&Server::Ministack.access().endpoint);
    proxy.add(Rule::when(|_| true, Act::Delay(Duration::from_secs(3600))).times(1));
    proxy.add(Rule::when(|_| true, Act::error(500, "InternalFailure")));
    reconfigure(&mut pair, |pair| monitored(pair, &proxy.endpoint(), "interval = \"1s\"\n"));
    pair.source.put("k", "v").await;
    let worker = run_repl(&pair, &["run", "--until-idle=2s", "--json"], Duration::from_secs(120)).await;
    let report = worker.expect_code(0).json();
    assert_eq!(report["replicated"]["operations"], 1, "{report:#}");
    assert!(report["metrics"]["last_sent"].is_null(), "{report:#}");
}

fn settings(namespace: &str) -> Settings {
    let long = Duration::from_secs(3600);
    Settings {
        prefix: namespace.to_owned(),
        namespace: namespace.to_owned(),
        source_bucket: "b".to_owned(),
        period: Duration::from_secs(60),
        thresholds: Thresholds {
            replication_failure: 0,
            replication_latency_warning: long / 2,
            replication_latency_critical: long,
            latency_exceeds_sla: long / 4,
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
        },
        canary: None,
    }
}

/// Makes one of our alarms on the server, as its definition says.
async fn define(alarm: &Alarm) -> bool {
    let Signal::Series(series) = &alarm.signal else { return false };
    let dimensions =
        series.dimensions.iter().map(|one| Dimension::builder().name(one.name).value(&one.value).build()).collect();
    client()
        .put_metric_alarm()
        .alarm_name(&alarm.name)
        .namespace(&series.namespace)
        .metric_name(series.metric)
        .set_dimensions(Some(dimensions))
        .statistic(Statistic::from(series.statistic.name()))
        .comparison_operator(ComparisonOperator::from(alarm.comparison.name()))
        .threshold(alarm.threshold)
        .period(i32::try_from(alarm.period.as_secs()).unwrap())
        .evaluation_periods(i32::try_from(alarm.evaluation_periods).unwrap())
        .datapoints_to_alarm(i32::try_from(alarm.datapoints_to_alarm).unwrap())
        .treat_missing_data(alarm.missing.name())
        .send()
        .await
        .unwrap();
    true
}

async fn states(prefix: &str) -> BTreeMap<String, String> {
    let described = client().describe_alarms().alarm_name_prefix(prefix).send().await.unwrap();
    let state = |alarm: &aws_sdk_cloudwatch::types::MetricAlarm| {
        (alarm.alarm_name().unwrap().to_owned(), alarm.state_value().unwrap().as_str().to_owned())
    };
    described.metric_alarms().iter().map(state).collect()
}

/// The worker's own evaluation and the server's agree where the server follows AWS: alarms of one period with data in
/// it, below, at and beyond the threshold.
#[tokio::test]
async fn own_evaluation_agrees_with_the_servers() {
    let mut compared = BTreeSet::new();
    for (nth, factor) in [0.0, 1.0, 1.5].into_iter().enumerate() {
        let settings = settings(&format!("WatchAgree{nth}"));
        let sink = sink(&settings.namespace).await;
        let mut own = Evaluator::new(&settings, None, BTreeMap::new(), now());
        let mut data: BTreeMap<(&str, String), Datum> = BTreeMap::new();
        for alarm in definitions(&settings).alarms {
            let Signal::Series(series) = &alarm.signal else { continue };
            // ministack does not look at dimensions: one series of each metric, and so one alarm of each.
            let fits = alarm.evaluation_periods == 1 && series.namespace == settings.namespace;
            if !fits || [AlarmId::SourceErrors4xx].contains(&alarm.id) || !define(&alarm).await {
                continue;
            }
            let value = (alarm.threshold.max(1.0) * factor, 1);
            let (unit, dimensions) = ("Count", series.dimensions.clone());
            let datum = Datum { name: series.metric, unit, dimensions, values: vec![value] };
            data.entry((series.metric, format!("{:?}", series.dimensions))).or_insert(datum);
            compared.insert(alarm.id);
        }
        let data: Vec<Datum> = data.into_values().collect();
        // The server evaluates at once what came within one period of now; we when that period has ended.
        let at = now();
        sink.send(at, &data).await.unwrap();
        own.take(at, &data);
        own.evaluate(Timestamp((at.0 / 60_000 + 1) * 60_000));
        let own: BTreeMap<String, String> =
            own.standings().into_iter().map(|(name, standing)| (name, standing.state.name().to_owned())).collect();
        let servers = states(&settings.prefix).await;
        assert!(servers.len() >= 5, "{servers:?}");
        for (name, state) in servers {
            assert_eq!(own.get(&name), Some(&state), "{name} at {factor} of its threshold");
        }
    }
    assert!(compared.len() >= 5, "{compared:?}");
}

/// The tables of the config that lead to the topics `PREFIX-TIER`.
fn topics(prefix: &str) -> String {
    TIERS.map(|tier| format!("{tier} = {{ topic_arn = \"{}\" }}\n", topic(REGION, prefix, tier))).concat()
}

/// P8: what waits in the queue at a first start may be of any age, and is not known while it is not read.
#[tokio::test]
async fn a_first_start_does_not_know_the_queue() {
    let pair = Setup::on(Server::Ministack, Server::Ministack).build().await;
    let patience = Duration::from_secs(60);
    pair.source.put("k", "v").await;
    eventually("the message waits", patience, async || pair.queue_depth().await > 0).await;
    run_repl(&pair, &["pause"], patience).await.expect_code(0);
    let mut worker = spawn_repl(&pair, &["run"]);
    let mut status = Value::Null;
    eventually("the worker answers", patience, async || {
        status = run_repl(&pair, &["status", "--json"], patience).await.json();
        status["pid"].is_number()
    })
    .await;
    let doubt = status["rpo"]["doubt"].as_str().unwrap_or_default();
    assert!(doubt.contains("has not been seen through since the start at 20"), "{status:#}");
    run_repl(&pair, &["resume"], patience).await.expect_code(0);
    eventually("the queue is seen through", patience, async || {
        status = run_repl(&pair, &["status", "--json"], patience).await.json();
        status["rpo"]["doubt"].is_null()
    })
    .await;
    worker.terminate(patience).await.expect_code(0);
}

/// Without CloudWatch, end to end: the target's key is disabled, changes are parked, and after two periods the critical
/// tier hears of it, management does not. The worker is stopped and started anew: nobody is told twice. When the key
/// works again, all hear that it is over.
#[tokio::test]
async fn without_cloudwatch_the_worker_tells_by_itself() {
    let proxy = Proxy::before(&Server::Ministack.access().endpoint);
    let mut pair = Setup { target_endpoint: Some(proxy.endpoint()), ..Setup::on(Server::Ministack, Server::Ministack) }
        .build()
        .await;
    let tiers = Tiers::make(REGION, &pair.source.name).await;
    let endpoint = Server::Ministack.access().endpoint.clone();
    reconfigure(&mut pair, |pair| {
        let monitoring = monitored(pair, &endpoint, "cloudwatch = false\ninterval = \"2s\"\n");
        format!("{monitoring}\n[escalation]\nperiod = \"10s\"\n{}", topics(&pair.source.name))
    });
    proxy.add(Rule::when(|seen| seen.method == "PUT", Act::error(400, "KMS.DisabledException")));
    pair.source.put("k", "v").await;
    let patience = Duration::from_secs(180);
    let mut worker = spawn_repl(&pair, &["run"]);
    let mut critical = Vec::new();
    eventually("the critical tier hears", patience, async || {
        critical.extend(tiers.heard("critical").await);
        !critical.is_empty()
    })
    .await;
    assert_eq!(critical, ["SystemHealth ALARM"]);
    assert_eq!(tiers.heard("standard").await, ["ReplicationFailure ALARM"]);
    let status = run_repl(&pair, &["status", "--json"], patience).await.json();
    let alarms = status["alarms"].as_array().unwrap();
    assert_eq!(alarms.len(), 17, "{status:#}");
    let state = |name: &str| alarms.iter().find(|alarm| alarm["name"] == name).unwrap()["state"].clone();
    assert_eq!(state("repl-SystemHealth"), "ALARM");
    assert_eq!(state("repl-Escalation"), "OK");
    // A moment too for what the last interval remembered to reach the disk.
    let shown = run_repl(&pair, &["status"], patience).await.stdout;
    for part in ["\nrpo           ", "\nalarm         repl-SystemHealth since 20", "2 ALARM, 2 INSUFFICIENT_DATA\n"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    worker.terminate(patience).await;
    let mut worker = spawn_repl(&pair, &["run"]);
    proxy.clear();
    pair.source.put("k2", "v").await;
    eventually("the key's group is probed and all is well", patience, async || {
        critical.extend(tiers.heard("critical").await);
        critical.len() >= 2
    })
    .await;
    assert_eq!(critical, ["SystemHealth ALARM", "SystemHealth OK"]);
    assert_eq!(tiers.heard("standard").await, ["ReplicationFailure OK"]);
    assert_eq!(tiers.heard("management").await, [""; 0]);
    worker.terminate(patience).await;
    assert_ne!(SOURCE_REGION, REGION);
}
