//! From a failure to the tier that must hear of it, all the way: `apply` makes topics, alarms and composites, a worker
//! replicates and sends its metrics, the cloud evaluates, and the messages are read from a queue behind each topic.
//!
//! The cloud that stands in here evaluates whenever metrics come, over all periods at once and without a look at
//! dimensions: its alarms come earlier than AWS's, from the first datapoint on, and it never misses data. So its
//! messages alone prove the way from metric to topic, and no more. What AWS would say is asked beside it: every series
//! is read back by its dimensions and judged period by period by the definitions themselves, and both must tell the
//! same to the same tiers in the same order. Each test monitors in a region of its own, as metrics of any worker make
//! that cloud evaluate all alarms of the region.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests panic, and live in real time"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_sdk_cloudwatch::types::{AlarmType, Dimension, StateValue, Statistic};
use aws_smithy_types::DateTime;
use repl::config::parse;
use repl::model::object::Timestamp;
use repl::ports::Datum;
use repl::watch::alarms::evaluate::Evaluator;
use repl::watch::alarms::{Definitions, Series, Settings, Signal, definitions};
use serde_json::Value;
use support::pair::{Pair, Setup};
use support::proxy::{Act, Proxy, Rule, Seen};
use support::servers::{Access, Server};
use support::tiers::{TIERS, Tiers};
use support::worker::{Worker, eventually, run_repl, spawn_repl};

/// More than any of these waits can need.
const PATIENCE: Duration = Duration::from_secs(180);
/// The shortest period that CloudWatch has; metrics go out every second.
const PERIOD: u64 = 10_000;

fn cloud() -> &'static Access {
    Server::Ministack.access()
}

fn now() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// What each tier was told: alarm and state.
type Heard = BTreeMap<&'static str, Vec<String>>;

fn told(standard: &[&str], critical: &[&str], management: &[&str]) -> Heard {
    let lists = [standard, critical, management].map(|list| list.iter().map(|one| (*one).to_owned()).collect());
    TIERS.into_iter().zip(lists).collect()
}

/// One test's set-up: a pair behind two proxies, all that `apply` makes, and a worker.
struct Stage {
    pair: Pair,
    source: Proxy,
    target: Proxy,
    region: &'static str,
    prefix: &'static str,
    /// When watching began: the start of a period.
    since: u64,
    heard: Heard,
    tiers: Tiers,
    worker: Worker,
}

impl Stage {
    /// Applies everything twice, starts a worker and waits until it has replicated and every alarm is calm.
    async fn set(prefix: &'static str, region: &'static str, thresholds: &str) -> Self {
        let (source, target) = (Proxy::before(&cloud().endpoint), Proxy::before(&cloud().endpoint));
        let setup = Setup {
            source_endpoint: Some(source.endpoint()),
            target_endpoint: Some(target.endpoint()),
            ..Setup::on(Server::Ministack, Server::Ministack)
        };
        let endpoint = &cloud().endpoint;
        let more = format!(
            "[monitoring]\nendpoint = \"{endpoint}\"\nregion = \"{region}\"\nnamespace = \"{prefix}\"\ninterval = \"1s\"\n\
             [escalation]\nprefix = \"{prefix}\"\nperiod = \"10s\"\nstandard = {{ emails = [\"ops@example.com\"] }}\n\
             critical = {{ emails = [\"oncall@example.com\"] }}\nmanagement = {{ emails = [\"boss@example.com\"] }}\n\
             [escalation.thresholds]\n{thresholds}\n"
        );
        let mut pair = setup.more(&more).build().await;
        // apply is to make the queue and lead the events there.
        pair.queue_url = format!("{endpoint}/000000000000/{prefix}-events");
        pair.write_config();
        pair.source
            .s3
            .put_bucket_notification_configuration()
            .bucket(&pair.source.name)
            .notification_configuration(aws_sdk_s3::types::NotificationConfiguration::builder().build())
            .send()
            .await
            .unwrap();
        apply_twice(&pair).await;

        let since = now() / PERIOD * PERIOD;
        let worker = spawn_repl(&pair, &["run"]);
        pair.source.put("calm", "content").await;
        let expected = alarms_of(&pair).alarms.len() - 2 + 3;
        eventually("every alarm but the two on S3's daily metrics is OK", PATIENCE, async || {
            let states = states(region, prefix).await;
            states.len() == expected && states.values().all(|state| *state == StateValue::Ok)
        })
        .await;
        // Only now: each alarm has said that it is OK, as CloudWatch's do when they leave INSUFFICIENT_DATA.
        let tiers = Tiers::listen(region, prefix).await;
        Self { pair, source, target, region, prefix, since, heard: told(&[], &[], &[]), tiers, worker }
    }

    /// Waits until the tiers have been told exactly this since the beginning, and AWS would have told them the same.
    async fn until_told(&mut self, expected: &Heard) {
        let (tiers, heard) = (&self.tiers, &mut self.heard);
        eventually(&format!("the tiers are told {expected:?}"), PATIENCE, async || {
            for tier in TIERS {
                heard.entry(tier).or_default().extend(tiers.heard(tier).await);
            }
            TIERS.iter().all(|tier| heard[tier].len() >= expected[tier].len())
        })
        .await;
        assert_eq!(self.heard, *expected);
        eventually(&format!("AWS's rules tell {expected:?}"), PATIENCE, async || {
            tokio::time::sleep(Duration::from_secs(1)).await;
            self.by_the_rules(now()).await == *expected
        })
        .await;
    }

    /// What AWS would have told each tier by `at`: the metrics as they were sent, judged by the definitions.
    async fn by_the_rules(&self, at: u64) -> Heard {
        let settings = settings_of(&self.pair);
        let definitions = definitions(&settings);
        let mut evaluator = Evaluator::new(&settings, None, BTreeMap::new(), Timestamp(self.since));
        let mut periods: BTreeMap<u64, Vec<Datum>> = BTreeMap::new();
        let own = definitions.alarms.iter().filter_map(|alarm| match &alarm.signal {
            Signal::Series(series) if series.namespace == self.prefix => Some(series),
            Signal::Series(_) | Signal::Math { .. } => None,
        });
        // Several alarms look at one series: taken twice, a sum would be twice as large.
        let distinct: BTreeMap<String, &Series> = own.map(|series| (format!("{series:?}"), series)).collect();
        for series in distinct.values() {
            for (start, datum) in self.read(series).await {
                periods.entry(start).or_default().push(datum);
            }
        }
        let mut heard = told(&[], &[], &[]);
        // The period before the last may still get what was measured in it.
        let last = (at / PERIOD).saturating_sub(1) * PERIOD;
        for start in (self.since..last).step_by(usize::try_from(PERIOD).unwrap()) {
            evaluator.take(Timestamp(start), periods.get(&start).map_or(&[], Vec::as_slice));
            for notice in evaluator.evaluate(Timestamp(start + PERIOD)) {
                let metric = definitions.alarms.iter().find(|alarm| alarm.id == notice.id).map(|alarm| alarm.tier);
                let composite = definitions.composites.iter().find(|one| one.id == notice.id).map(|one| one.tier);
                let tier = metric.or(composite).unwrap().name();
                let said = format!("{} {}", notice.id.name(), notice.standing.state.name());
                heard.entry(tier).or_default().push(said);
            }
        }
        heard
    }

    /// The datapoints of one series since the beginning, each with the start of its period.
    async fn read(&self, series: &Series) -> Vec<(u64, Datum)> {
        let dimension = |one: &repl::ports::Dimension| Dimension::builder().name(one.name).value(&one.value).build();
        let read = cloud()
            .cloudwatch(self.region)
            .get_metric_statistics()
            .namespace(&series.namespace)
            .metric_name(series.metric)
            .set_dimensions(Some(series.dimensions.iter().map(dimension).collect()))
            .start_time(DateTime::from_millis(i64::try_from(self.since).unwrap()))
            .end_time(DateTime::from_millis(i64::try_from(now() + PERIOD).unwrap()))
            .period(i32::try_from(PERIOD / 1000).unwrap())
            .statistics(Statistic::from(series.statistic.name()))
            .send()
            .await
            .unwrap();
        let point = |point: &aws_sdk_cloudwatch::types::Datapoint| {
            let start = u64::try_from(point.timestamp().unwrap().secs()).unwrap() * 1000;
            let value = point.sum().or(point.maximum()).unwrap();
            let dimensions = series.dimensions.clone();
            (start, Datum { name: series.metric, unit: "Count", dimensions, values: vec![(value, 1)] })
        };
        read.datapoints().iter().map(point).collect()
    }

    async fn state(&self, alarm: &str) -> StateValue {
        states(self.region, self.prefix).await[&format!("{}-{alarm}", self.prefix)].clone()
    }
}

/// `apply all` makes everything once; the second time there is nothing to do.
async fn apply_twice(pair: &Pair) {
    let apply = ["apply", "all", "--json"];
    let first = run_repl(pair, &apply, PATIENCE).await.expect_code(0).json();
    let created: BTreeSet<&str> = first["changes"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|change| change["action"] == "create" && change["outcome"] == "applied")
        .map(|change| change["kind"].as_str().unwrap())
        .collect();
    let all = ["alarm", "composite-alarm", "dashboard", "event-rule", "notification", "queue", "role", "topic"];
    assert!(all.iter().all(|kind| created.contains(kind)), "{created:?}");
    let topics = first["changes"].as_array().unwrap().iter().filter(|change| change["kind"] == "topic");
    let emails: String = topics.map(|topic| topic["after"].to_string()).collect();
    for email in ["ops@example.com", "oncall@example.com", "boss@example.com"] {
        assert!(emails.contains(email), "{email} in {emails}");
    }
    let second = run_repl(pair, &apply, PATIENCE).await.expect_code(0).json();
    let changes = second["changes"].as_array().unwrap();
    assert!(changes.len() >= created.len() && changes.iter().all(|change| change["action"] == "none"), "{second:#}");
    assert_eq!((&second["applied"], &second["failed"]), (&Value::from(0), &Value::from(0)), "{second:#}");
}

/// What the alarms depend on, as the pair's config says.
fn settings_of(pair: &Pair) -> Settings {
    let config = parse(&pair.config_text(), "repl.toml").unwrap_or_else(|errors| panic!("{errors}"));
    Settings {
        prefix: config.escalation.prefix.clone(),
        namespace: config.monitoring.namespace.clone(),
        source_bucket: config.source.bucket.clone(),
        period: config.escalation.period,
        thresholds: config.escalation.thresholds,
        canary: None,
    }
}

fn alarms_of(pair: &Pair) -> Definitions {
    definitions(&settings_of(pair))
}

/// The state of every alarm and composite of a prefix, by its name.
async fn states(region: &str, prefix: &str) -> BTreeMap<String, StateValue> {
    let described = cloud()
        .cloudwatch(region)
        .describe_alarms()
        .alarm_name_prefix(format!("{prefix}-"))
        .alarm_types(AlarmType::MetricAlarm)
        .alarm_types(AlarmType::CompositeAlarm)
        .send()
        .await
        .unwrap();
    let metric = described.metric_alarms().iter().map(|alarm| (alarm.alarm_name(), alarm.state_value()));
    let composite = described.composite_alarms().iter().map(|alarm| (alarm.alarm_name(), alarm.state_value()));
    metric.chain(composite).map(|(name, state)| (name.unwrap().to_owned(), state.unwrap().clone())).collect()
}

/// Writes of objects under a prefix.
fn writes(prefix: &'static str) -> impl Fn(&Seen) -> bool + Send + Sync + 'static {
    move |seen| seen.method == "PUT" && seen.plain_path().contains(&format!("/{prefix}/"))
}

fn reads(prefix: &'static str) -> impl Fn(&Seen) -> bool + Send + Sync + 'static {
    move |seen| seen.method == "GET" && seen.plain_path().contains(&format!("/{prefix}/"))
}

/// A key that is disabled wakes whoever is on call, and no manager; with S3 failing besides, management hears of it.
/// When S3 is well again, management is told, and when the key is, everybody else is.
#[tokio::test(flavor = "multi_thread")]
async fn failures_reach_those_on_call_and_failures_of_everything_reach_management() {
    let mut stage = Stage::set("failing", "eu-west-2", "").await;

    // One change that S3 refuses, as for a disabled key: too few refusals for any alarm on errors, but it is parked.
    stage.target.add(Rule::when(writes("sealed"), Act::error(400, "KMS.DisabledException")));
    stage.pair.source.put("sealed/a", "content").await;
    stage.until_told(&told(&["ReplicationFailure ALARM"], &["SystemHealth ALARM"], &[])).await;
    let failures = run_repl(&stage.pair, &["failures", "--json"], PATIENCE).await.json();
    assert_eq!(failures["groups"][0]["count"], 1, "{failures:#}");
    assert!(failures["groups"][0]["cause"].to_string().contains("KMS.DisabledException"), "{failures:#}");
    assert_eq!(stage.state("InfrastructureHealth").await, StateValue::Ok);

    // Besides, the source fails for others. Only an alarm on 5xx of the source exists, so that the cloud's blindness for
    // dimensions makes no other fire.
    stage.source.add(Rule::when(reads("failing"), Act::error(500, "InternalError")));
    for number in 0..20 {
        stage.pair.source.put(&format!("failing/{number}"), "content").await;
    }
    let standard = ["ReplicationFailure ALARM", "SourceErrors5xx ALARM", "InfrastructureHealth ALARM"];
    let heard = &mut stage.heard;
    eventually("management hears", PATIENCE, async || {
        heard.entry("management").or_default().extend(stage.tiers.heard("management").await);
        !heard["management"].is_empty()
    })
    .await;
    stage.source.clear();
    assert_eq!(stage.heard["management"], ["Escalation ALARM"]);
    let over = ["SourceErrors5xx OK", "InfrastructureHealth OK"];
    let standard = [&standard[..], &over].concat();
    stage.until_told(&told(&standard, &["SystemHealth ALARM"], &["Escalation ALARM", "Escalation OK"])).await;

    // The key is enabled again.
    stage.target.clear();
    run_repl(&stage.pair, &["failures", "retry", "--all"], PATIENCE).await.expect_code(0);
    let standard = [&standard[..], &["ReplicationFailure OK"]].concat();
    let critical = ["SystemHealth ALARM", "SystemHealth OK"];
    stage.until_told(&told(&standard, &critical, &["Escalation ALARM", "Escalation OK"])).await;
    stage.worker.terminate(PATIENCE).await.expect_code(0);
}

/// A change that is a little late is told to those who look after it by day, and to nobody else.
#[tokio::test(flavor = "multi_thread")]
async fn a_small_delay_reaches_the_standard_tier_only() {
    let mut stage = Stage::set("late", "eu-west-1", "ReplicationLatencyWarning = \"15s\"").await;
    stage.target.add(Rule::when(writes("late"), Act::Delay(Duration::from_secs(17))));
    stage.pair.source.put("late/a", "content").await;
    // Without data its alarms stay where they are, while AWS's end a period later: asked only until it has been told.
    let heard = &mut stage.heard;
    eventually("the standard tier hears", PATIENCE, async || {
        for tier in TIERS {
            heard.entry(tier).or_default().extend(stage.tiers.heard(tier).await);
        }
        !heard["standard"].is_empty()
    })
    .await;
    assert_eq!(stage.heard, told(&["ReplicationLatencyWarning ALARM"], &[], &[]));
    stage.target.clear();
    let late = told(&["ReplicationLatencyWarning ALARM", "ReplicationLatencyWarning OK"], &[], &[]);
    eventually("AWS's rules tell the same, and that it is over", PATIENCE, async || {
        tokio::time::sleep(Duration::from_secs(1)).await;
        stage.by_the_rules(now()).await == late
    })
    .await;
    for calm in ["SystemHealth", "InfrastructureHealth", "Escalation", "LatencyExceedsSla"] {
        assert_eq!(stage.state(calm).await, StateValue::Ok, "{calm}");
    }
    stage.worker.terminate(PATIENCE).await.expect_code(0);
    for tier in ["critical", "management"] {
        assert_eq!(stage.tiers.heard(tier).await, [""; 0], "{tier}");
    }
}

/// A worker that is killed pages whoever is on call, and one that lives again ends that.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_pages_those_on_call() {
    let mut stage = Stage::set("silent", "eu-central-1", "").await;
    stage.worker.kill().await;
    // This cloud never misses data. What AWS does after some periods without a heartbeat is asked of the definitions,
    // over the heartbeats that did arrive and the silence after them, which is certain: nobody sends any more.
    let expected = told(&["WorkerSilent ALARM"], &["SystemHealth ALARM"], &[]);
    assert_eq!(stage.by_the_rules(now()).await, told(&[], &[], &[]), "it lived until now");
    assert_eq!(stage.by_the_rules(now() + 8 * PERIOD).await, expected);

    // The cloud is told that this alarm fires; the way from there on is its own.
    cloud()
        .cloudwatch(stage.region)
        .set_alarm_state()
        .alarm_name(format!("{}-WorkerSilent", stage.prefix))
        .state_value(StateValue::Alarm)
        .state_reason("no heartbeat, as the test says")
        .send()
        .await
        .unwrap();
    let mut heard = Heard::new();
    for tier in TIERS {
        let messages = stage.tiers.messages(tier).await;
        for told in &messages {
            let description = told.message["AlarmDescription"].as_str().unwrap();
            assert!(description.contains("`"), "{tier} is not told what to do: {description}");
        }
        heard.insert(tier, messages.into_iter().map(|told| told.what).collect());
    }
    assert_eq!(heard, expected);
    assert_eq!(stage.state("Escalation").await, StateValue::Ok);

    let mut worker = spawn_repl(&stage.pair, &["run"]);
    let mut critical = Vec::new();
    eventually("those on call hear that it is over", PATIENCE, async || {
        critical.extend(stage.tiers.heard("critical").await);
        !critical.is_empty()
    })
    .await;
    assert_eq!(critical, ["SystemHealth OK"]);
    assert_eq!(stage.tiers.heard("standard").await, ["WorkerSilent OK"]);
    assert_eq!(stage.tiers.heard("management").await, [""; 0]);
    worker.terminate(PATIENCE).await.expect_code(0);
}
