use super::*;
use crate::ledger::{Admission, Outcome, Settlement};
use crate::model::fault::{FaultKind, Side};
use crate::model::job::{ChangeKind, Job, Origin};
use crate::model::object::{Key, TargetId, VersionId};
use crate::ports::QueueDepth;
use crate::watch::prometheus;
use crate::watch::pulse::Pulse;

const NOW: Timestamp = Timestamp(1_795_262_400_000);

fn ago(seconds: u64) -> Timestamp {
    Timestamp(NOW.0 - seconds * 1000)
}

fn settings(queue: Intake) -> Settings {
    let rules = vec![(RuleId::new("a"), "acme-dr".to_owned()), (RuleId::new("b 1"), "acme-dr2".to_owned())];
    Settings { source_bucket: "acme-primary".to_owned(), rules, queue, interval: Duration::from_secs(60) }
}

fn job(rule: &str, key: &str, seconds: u64, origin: Origin) -> Job {
    Job {
        target: TargetId::new("dr"),
        rule: RuleId::new(rule),
        key: Key::new(key),
        target_key: Key::new(key),
        kind: ChangeKind::Write,
        version: VersionId::new("v1"),
        sequencer: None,
        etag: None,
        size: Some(100),
        changed: ago(seconds),
        origin,
    }
}

/// A ledger in a directory that goes with it.
fn ledger() -> (tempfile::TempDir, Ledger) {
    let directory = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(directory.path()).unwrap();
    (directory, ledger)
}

async fn admit(ledger: &Ledger, jobs: Vec<Job>) {
    ledger.admit(Admission { jobs, now: NOW, ..Admission::default() }).await.unwrap();
}

fn take(ledger: &Ledger, pulse: &Pulse, settings: &Settings) -> Figures {
    Figures::take(ledger, &pulse.snapshot(), settings, NOW).unwrap()
}

/// The values of a series; `None` if it is not sent. `marks` are the values of the dimensions after the bucket.
fn values(data: &[Datum], metric: Metric, marks: &[&str]) -> Option<Vec<(f64, u64)>> {
    let found = data.iter().filter(|datum| {
        let rest: Vec<&str> = datum.dimensions.iter().skip(1).map(|one| one.value.as_str()).collect();
        datum.name == metric.name() && rest == marks
    });
    found.map(|datum| datum.values.clone()).reduce(|all, more| [all, more].concat())
}

/// Every metric of the catalogue is sent with its unit and its dimensions, zeros too; a latency only where there is one,
/// and the canary's only where one is sent.
#[tokio::test]
async fn an_idle_worker_says_zero() {
    let (_directory, ledger) = ledger();
    let (pulse, settings) = (Pulse::default(), settings(Intake::Scans));
    let before = take(&ledger, &pulse, &settings);
    pulse.heartbeat();
    let data = take(&ledger, &pulse, &settings).since(&before, &settings);
    for metric in Metric::ALL {
        let marks: &[&[&str]] = match metric.scope() {
            Scope::Rules => &[&[], &["acme-dr", "a"], &["acme-dr2", "b 1"]],
            Scope::Sides => &[&["source"], &["target"]],
            Scope::Whole => &[&[]],
        };
        for marks in marks {
            let expected = match metric {
                Metric::ReplicationLatency | Metric::CanaryLatency | Metric::CanaryFailed => None,
                Metric::Heartbeat => Some(vec![(1.0, 1)]),
                _ => Some(vec![(0.0, 1)]),
            };
            assert_eq!(values(&data, metric, marks), expected, "{metric:?} {marks:?}");
        }
    }
    assert!(
        data.iter()
            .all(|datum| Metric::ALL.iter().any(|one| (one.name(), one.unit().name()) == (datum.name, datum.unit)))
    );
    assert!(data.iter().all(|datum| datum.dimensions[0].name == "SourceBucket"));
}

#[tokio::test]
async fn work_is_told_by_rule_and_as_a_whole() {
    let (_directory, ledger) = ledger();
    let (pulse, settings) = (Pulse::default(), settings(Intake::Scans));
    let start = take(&ledger, &pulse, &settings);
    let jobs = vec![
        job("a", "one", 30, Origin::Event),
        job("b 1", "two", 20, Origin::Event),
        job("a", "three", 500_000, Origin::Scan),
        job("a", "bad", 40, Origin::Event),
    ];
    admit(&ledger, jobs.clone()).await;
    let lanes = ledger.claim(NOW, 10).await.unwrap();
    for lane in lanes {
        let mut lane = lane;
        let claim = lane.next().unwrap();
        let job = claim.job().clone();
        if job.key.as_str() == "bad" {
            let fault = Fault::new(FaultKind::Denied, Side::Target, "write object", "no");
            pulse.fault(&fault);
            ledger.park(claim, &fault, NOW).await.unwrap();
        } else if job.key.as_str() != "two" {
            let settlement = Settlement {
                outcome: Outcome::Replicated,
                applied: None,
                replicas: Vec::new(),
                bytes: 100,
                provable: true,
                now: NOW,
            };
            let settled = ledger.settle(vec![claim], settlement).await.unwrap();
            pulse.replicated(&job, settled.lag, 100);
        }
    }
    let figures = take(&ledger, &pulse, &settings);
    let data = figures.since(&start, &settings);
    let told = |metric, marks: &[&str]| values(&data, metric, marks).unwrap_or_default();
    assert_eq!(told(Metric::OperationsReplicated, &[]), [(2.0, 1)]);
    assert_eq!(told(Metric::BytesReplicated, &[]), [(200.0, 1)]);
    assert_eq!(told(Metric::OperationsFailedReplication, &[]), [(1.0, 1)]);
    assert_eq!(told(Metric::OperationsFailedReplication, &["acme-dr", "a"]), [(1.0, 1)]);
    assert_eq!(told(Metric::OperationsFailedReplication, &["acme-dr2", "b 1"]), [(0.0, 1)]);
    assert_eq!(told(Metric::OperationsPendingReplication, &["acme-dr2", "b 1"]), [(1.0, 1)]);
    assert_eq!(told(Metric::BytesPendingReplication, &[]), [(100.0, 1)]);
    assert_eq!(told(Metric::ReplicationLatency, &[]), [(30.0, 1)], "what a scan finds has no latency");
    assert_eq!(told(Metric::ReplicationLatency, &["acme-dr", "a"]), [(30.0, 1)]);
    assert_eq!(told(Metric::OldestPendingAge, &[]), [(40.0, 1)], "what is parked is not at its target");
    let next = take(&ledger, &pulse, &settings).since(&figures, &settings);
    assert_eq!(values(&next, Metric::OperationsReplicated, &[]), Some(vec![(0.0, 1)]));
    assert_eq!(values(&next, Metric::ReplicationLatency, &[]), None);
}

/// A change that is stuck is seen by what looks at latencies; one that a scan found is not.
#[tokio::test]
async fn what_is_stuck_counts_as_latency() {
    let (_directory, ledger) = ledger();
    let (pulse, settings) = (Pulse::default(), settings(Intake::Scans));
    admit(&ledger, vec![job("a", "old", 500_000, Origin::Scan), job("a", "fresh", 50, Origin::Event)]).await;
    let start = take(&ledger, &pulse, &settings);
    assert_eq!(values(&start.since(&start, &settings), Metric::ReplicationLatency, &[]), None);
    admit(&ledger, vec![job("a", "stuck", 4000, Origin::Event)]).await;
    for key in ["old", "fresh", "stuck"] {
        let lanes = ledger.claim(NOW, 10).await.unwrap();
        for mut lane in lanes {
            let claim = lane.next().unwrap();
            if claim.job().key.as_str() == key {
                let fault = Fault::new(FaultKind::Transient, Side::Target, "write object", "no");
                ledger.defer(claim, Timestamp(NOW.0 + 60_000), &fault, NOW).await.unwrap();
            }
        }
        let data = take(&ledger, &pulse, &settings).since(&start, &settings);
        let waits = values(&data, Metric::ReplicationLatency, &[]);
        assert_eq!(waits, Some(vec![(4000.0, 1)]), "also while {key} waits for another try");
        assert_eq!(values(&data, Metric::OldestPendingAge, &[]), Some(vec![(500_000.0, 1)]));
    }
}

/// P8: a queue that is not seen through makes the clock run on, and says why.
#[tokio::test]
async fn the_rpo_clock_knows_what_it_does_not_know() {
    let (_directory, ledger) = ledger();
    let (pulse, settings) = (Pulse::default(), settings(Intake::Queue));
    let oldest = || take(&ledger, &pulse, &settings).oldest;
    pulse.queue_watched_since(ago(5));
    let found = oldest();
    assert_eq!(found.age, Duration::from_secs(5));
    assert!(found.doubt.as_ref().is_some_and(|doubt| doubt.contains("not been seen through since")), "{found:?}");
    pulse.queue_was_clear(ago(7200));
    let found = oldest();
    assert_eq!(found.age, Duration::from_secs(7200));
    assert!(found.doubt.as_ref().is_some_and(|doubt| doubt.contains("last seen through at")), "{found:?}");
    pulse.queue_depth(ago(10), QueueDepth { visible: 0, in_flight: 0 });
    assert_eq!(oldest(), OldestPending { age: Duration::ZERO, doubt: None });
    pulse.queue_failed(&Fault::new(FaultKind::Denied, Side::Queue, "receive messages", "not permitted"));
    let found = oldest();
    assert_eq!(found.age, Duration::from_secs(10));
    assert!(found.doubt.unwrap().contains("not permitted"));
    admit(&ledger, vec![job("a", "k", 90, Origin::Event)]).await;
    assert_eq!(oldest().age, Duration::from_secs(90));
    pulse.queue_answered(NOW, 0);
    assert_eq!(oldest(), OldestPending { age: Duration::from_secs(90), doubt: None });
    pulse.queue_answered(Timestamp(NOW.0 + 5000), 0);
    assert!(oldest().doubt.is_some(), "a time in the future is no knowledge");
}

/// P8: what the queue gave up may be the only word of a change, however empty the queue is.
#[tokio::test]
async fn dead_letters_make_the_rpo_clock_run_until_somebody_has_seen_to_them() {
    let (_directory, ledger) = ledger();
    let (pulse, settings) = (Pulse::default(), settings(Intake::Queue));
    let figures = || take(&ledger, &pulse, &settings);
    pulse.queue_answered(ago(1), 0);
    pulse.queue_gave_up(ago(300), Some(0));
    assert_eq!(figures().oldest, OldestPending { age: Duration::ZERO, doubt: None });
    pulse.queue_gave_up(ago(200), Some(2));
    pulse.queue_gave_up(ago(100), Some(3));
    let found = figures();
    assert_eq!((found.oldest.age, found.waiting), (Duration::from_secs(200), Some(Duration::from_secs(200))));
    let doubt = found.oldest.doubt.unwrap();
    assert!(doubt.starts_with("the dead-letter queue holds 3 messages, known since "), "{doubt}");
    // A look that fails takes nothing back of what is known of the queue itself.
    pulse.queue_gave_up(ago(90), None);
    assert_eq!(figures().oldest, OldestPending { age: Duration::ZERO, doubt: None });
    pulse.queue_gave_up(ago(80), Some(1));
    pulse.queue_gave_up(ago(70), Some(0));
    assert_eq!(figures().oldest, OldestPending { age: Duration::ZERO, doubt: None });
}

/// More values than a datum may carry go out in several (aws-semantics 7.3).
#[tokio::test]
async fn many_values_are_split() {
    let (_directory, ledger) = ledger();
    let (pulse, settings) = (Pulse::default(), settings(Intake::Scans));
    let start = take(&ledger, &pulse, &settings);
    for step in 0..260_u32 {
        let millis = 2_f64.powf(f64::from(step) / 10.0 + 0.05);
        pulse.replicated(&job("a", "k", 1, Origin::Event), Duration::from_secs_f64(millis / 1000.0), 1);
    }
    let data = take(&ledger, &pulse, &settings).since(&start, &settings);
    let latencies: Vec<usize> = data
        .iter()
        .filter(|datum| datum.name == "ReplicationLatency" && datum.dimensions.len() == 1)
        .map(|datum| datum.values.len())
        .collect();
    assert_eq!(latencies, [150, 110]);
}

/// The page for Prometheus has every metric of the catalogue, with its help, and a histogram that adds up.
#[tokio::test]
async fn prometheus_reads_every_metric() {
    let (_directory, ledger) = ledger();
    let (pulse, settings) = (Pulse::default(), settings(Intake::Scans));
    for millis in [10, 70, 5000, 10_000_000_000] {
        pulse.replicated(&job("b 1", "k", 1, Origin::Event), Duration::from_millis(millis), 1);
    }
    (0..3).for_each(|_| pulse.heartbeat());
    let text = prometheus::text(&take(&ledger, &pulse, &settings), &settings);
    for metric in Metric::ALL {
        let name = metric.prometheus_name();
        let described = text.contains(&format!("# HELP {name} {}", metric.help()));
        let sent = !matches!(metric, Metric::CanaryLatency | Metric::CanaryFailed);
        assert_eq!(described, sent, "{name}:\n{text}");
    }
    let labels = r#"source_bucket="acme-primary",destination_bucket="acme-dr2",rule="b 1""#;
    for line in [
        format!(r#"repl_replication_latency_seconds_bucket{{le="0.064",{labels}}} 1"#),
        format!(r#"repl_replication_latency_seconds_bucket{{le="0.128",{labels}}} 2"#),
        format!(r#"repl_replication_latency_seconds_bucket{{le="+Inf",{labels}}} 4"#),
        format!("repl_replication_latency_seconds_count{{{labels}}} 4"),
        r#"repl_s3_errors_4xx_total{source_bucket="acme-primary",side="target"} 0"#.to_owned(),
        r#"repl_heartbeats_total{source_bucket="acme-primary"} 3"#.to_owned(),
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
    check_open_metrics(&text);
}

/// What a worker before this one brought, of which a kill may have lost the count, is not in a counter that never falls.
#[tokio::test]
async fn counters_count_since_the_start_of_the_worker() {
    let (_directory, ledger) = ledger();
    let settings = settings(Intake::Scans);
    let bring = async |key: &str, pulse: &Pulse| {
        admit(&ledger, vec![job("a", key, 30, Origin::Event)]).await;
        let mut lane = ledger.claim(NOW, 10).await.unwrap().remove(0);
        let claim = lane.next().unwrap();
        let job = claim.job().clone();
        let settlement = Settlement {
            outcome: Outcome::Replicated,
            applied: None,
            replicas: Vec::new(),
            bytes: 100,
            provable: true,
            now: NOW,
        };
        let settled = ledger.settle(vec![claim], settlement).await.unwrap();
        pulse.replicated(&job, settled.lag, 100);
    };
    let told = |pulse: &Pulse| {
        let text = prometheus::text(&take(&ledger, pulse, &settings), &settings);
        ["operations", "bytes"].map(|what| {
            let start = format!("repl_replicated_{what}_total{{source_bucket=\"acme-primary\"}} ");
            text.lines().find_map(|line| line.strip_prefix(&start)?.parse::<u64>().ok()).unwrap()
        })
    };
    let (killed, started) = (Pulse::default(), Pulse::default());
    bring("one", &killed).await;
    assert_eq!((told(&killed), told(&started)), ([1, 100], [0, 0]));
    bring("two", &started).await;
    assert_eq!(told(&started), [1, 100]);
    assert_eq!(ledger.totals().replicated.operations, 2);
}

/// A canary that arrives says how long it took and that nothing failed; one that does not says so, in both places.
#[tokio::test]
async fn a_canary_is_told_by_its_latency_and_its_failure() {
    let (_directory, ledger) = ledger();
    let (pulse, settings) = (Pulse::default(), settings(Intake::Scans));
    let before = take(&ledger, &pulse, &settings);
    let told = |latency: Option<f64>, failed: f64| {
        let figures = take(&ledger, &pulse, &settings);
        let (data, text) = (figures.since(&before, &settings), prometheus::text(&figures, &settings));
        assert_eq!(values(&data, Metric::CanaryLatency, &[]), latency.map(|latency| vec![(latency, 1)]));
        assert_eq!(values(&data, Metric::CanaryFailed, &[]), Some(vec![(failed, 1)]));
        let line = |name: &str| {
            let start = format!("{name}{{source_bucket=\"acme-primary\"}} ");
            text.lines().find_map(|line| line.strip_prefix(&start)?.parse::<f64>().ok())
        };
        assert_eq!(line("repl_canary_latency_seconds"), latency, "{text}");
        assert_eq!(line("repl_canary_failed"), Some(failed), "{text}");
    };
    pulse.canary(|view| view.fault = Some("it did not arrive".to_owned()));
    told(None, 1.0);
    pulse.canary(|view| (view.latency, view.fault) = (Some(Duration::from_secs(2)), None));
    told(Some(2.0), 0.0);
    pulse.canary(|view| view.fault = Some("it did not arrive".to_owned()));
    told(Some(2.0), 1.0);
}

/// What OpenMetrics 1.0 asks of a text: each family is described once and before its samples, each sample belongs to
/// one by a suffix that its type allows, labels are quoted, values are numbers, the buckets of a histogram only grow and
/// end with all of it.
fn check_open_metrics(text: &str) {
    let mut types = std::collections::BTreeMap::new();
    let mut buckets = std::collections::BTreeMap::<String, f64>::new();
    let mut counts = std::collections::BTreeMap::<String, f64>::new();
    for line in text.strip_suffix("# EOF\n").unwrap().lines() {
        if let Some(described) = line.strip_prefix("# TYPE ") {
            let (name, kind) = described.split_once(' ').unwrap();
            assert_eq!(types.insert(name.to_owned(), kind.to_owned()), None, "{name} is described twice");
            continue;
        }
        if line.starts_with("# HELP ") {
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let value: f64 = value.parse().unwrap();
        let (name, labels) = series.split_once('{').unwrap();
        let labels = labels.strip_suffix('}').unwrap();
        let pairs: Vec<(&str, &str)> = labels.split(',').map(|label| label.split_once('=').unwrap()).collect();
        assert!(pairs.iter().all(|(_, value)| value.len() > 2 && value.starts_with('"') && value.ends_with('"')));
        let allowed = |family: &str, kind: &str| match kind {
            "counter" => name == format!("{family}_total"),
            "gauge" => name == family,
            "histogram" => ["_bucket", "_sum", "_count"].iter().any(|end| name == format!("{family}{end}")),
            other => panic!("{other}"),
        };
        assert!(types.iter().any(|(family, kind)| allowed(family, kind)), "{line} belongs to no family");
        let rest: Vec<String> =
            pairs.iter().filter(|(label, _)| *label != "le").map(|(label, value)| format!("{label}={value}")).collect();
        let of = format!("{} {}", name.trim_end_matches("_bucket").trim_end_matches("_count"), rest.join(","));
        if name.ends_with("_bucket") {
            let before = buckets.insert(of, value).unwrap_or_default();
            assert!(value >= before, "{line} is less than the bucket before");
        } else if name.ends_with("_count") {
            counts.insert(of, value);
        }
    }
    assert!(!counts.is_empty());
    assert_eq!(buckets, counts, "the last bucket holds all");
}
