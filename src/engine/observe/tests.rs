use std::num::NonZeroU32;

use super::*;
use crate::ledger::{Admission, Outcome, Settlement};
use crate::model::job::{ChangeKind, Job, Origin};
use crate::model::object::{Key, RuleId, TargetId, VersionId};
use crate::ports::Tier;
use crate::sim::world::sinks::{Answer, FakeMetrics, FakePost};
use crate::watch::alarms::State;

/// Starts at a fixed time and goes with tokio's.
#[derive(Clone, Debug)]
struct FakeClock(tokio::time::Instant);

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        Timestamp(1_795_262_400_000).plus(self.0.elapsed())
    }
}

fn post(failing: u32) -> FakePost {
    FakePost::failing("post", failing)
}

fn heard(post: &FakePost) -> Vec<String> {
    post.heard().iter().map(|alert| format!("{} {}", alert.tier.name(), alert.subject)).collect()
}

type Watch = Observer<FakeClock, FakeMetrics, FakePost>;

struct World {
    directory: tempfile::TempDir,
    ledger: Ledger,
    pulse: Arc<Pulse>,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(directory.path()).unwrap();
        Self { ledger, pulse: Arc::default(), directory }
    }

    fn watch(&self) -> Watch {
        self.watch_with(Intake::Scans)
    }

    fn watch_with(&self, queue: Intake) -> Watch {
        let settings = Settings {
            source_bucket: "acme-primary".to_owned(),
            rules: vec![(RuleId::new("a"), "acme-dr".to_owned())],
            queue,
            interval: Duration::from_secs(60),
        };
        let clock = FakeClock(tokio::time::Instant::now());
        Observer::new(self.ledger.clone(), Arc::clone(&self.pulse), clock, settings)
    }

    /// The same ledger under a worker that knows nothing else.
    fn restarted(&self) -> Self {
        Self { pulse: Arc::default(), ledger: self.ledger.clone(), directory: tempfile::tempdir().unwrap() }
    }

    fn job() -> Job {
        Job {
            target: TargetId::new("dr"),
            rule: RuleId::new("a"),
            key: Key::new("k"),
            target_key: Key::new("k"),
            kind: ChangeKind::Write,
            version: VersionId::new("v"),
            sequencer: None,
            etag: None,
            size: None,
            changed: Timestamp(0),
            origin: Origin::Event,
        }
    }

    fn replicate(&self, count: u64) {
        let job = Self::job();
        for _ in 0..count {
            self.pulse.replicated(&job, Duration::from_secs(2), 1);
        }
    }
}

fn alarms() -> Alarms {
    let long = Duration::from_secs(3600);
    Alarms {
        settings: alarms::Settings {
            prefix: "repl".to_owned(),
            namespace: "Repl".to_owned(),
            source_bucket: "acme-primary".to_owned(),
            period: Duration::from_secs(60),
            thresholds: alarms::Thresholds {
                replication_failure: 0,
                replication_latency_warning: long,
                replication_latency_critical: Duration::from_secs(1),
                latency_exceeds_sla: long,
                pending_operations: 100,
                bytes_pending: 100,
                target_errors_4xx: 10,
                source_errors_4xx: 10,
                source_errors_5xx: 5,
                kms_target_failures: 5,
                kms_source_throttles: 0,
                source_object_count: 0,
                source_size_growth: 1,
                // Paused time runs ahead while the ledger's thread works: minutes are left out, and that is no silence here.
                worker_silent: NonZeroU32::new(1000).unwrap(),
            },
            canary: None,
        },
        reminder: None,
        region: "eu-west-2".to_owned(),
    }
}

/// Runs a watch until the condition holds, then stops it.
async fn until(watch: &Watch, mut holds: impl FnMut() -> bool) {
    let (stop, stopping) = oneshot::channel();
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        stop.send(()).unwrap();
    };
    let (ended, ()) = tokio::join!(watch.run(stopping), waiting);
    ended.unwrap();
}

fn latencies(sink: &FakeMetrics) -> u64 {
    let taken = sink.taken();
    let whole = |datum: &&Datum| datum.name == "ReplicationLatency" && datum.dimensions.len() == 1;
    let data = taken.iter().flat_map(|(_, data)| data).filter(whole);
    data.flat_map(|datum| &datum.values).map(|(_, count)| count).sum()
}

/// CloudWatch down for a while: every count arrives, once; the status says how many intervals were missed and why.
#[tokio::test(start_paused = true)]
async fn what_was_not_taken_goes_with_the_next_interval() {
    let (world, sink) = (World::new(), FakeMetrics::answering([Answer::Refuse; 3]));
    let watch = world.watch().sending(sink.clone());
    let missed = || world.pulse.snapshot().metrics.map_or(0, |view| view.missed);
    let mut told = String::new();
    until(&watch, || {
        let view = world.pulse.snapshot().metrics.unwrap_or_default();
        if missed() > 0 && view.last_sent.is_none() {
            told = view.fault.unwrap_or_default();
        }
        if missed() > 0 && latencies(&sink) == 0 && sink.taken().is_empty() {
            world.replicate(1);
        }
        !sink.taken().is_empty()
    })
    .await;
    let replicated = world.pulse.snapshot().latency.count();
    assert!(replicated > 1, "nothing was replicated meanwhile");
    assert_eq!(latencies(&sink), replicated);
    assert_eq!(missed(), 3);
    assert!(told.contains("down"), "{told}");
    assert_eq!(world.pulse.snapshot().metrics.unwrap().fault, None);
}

/// What an idle worker settled is not done again, however it ends: it is on disk within an interval.
#[tokio::test(start_paused = true)]
async fn what_was_settled_is_flushed_with_the_interval() {
    let (world, sink) = (World::new(), FakeMetrics::default());
    let admission = Admission { jobs: vec![World::job()], now: Timestamp(1), ..Admission::default() };
    world.ledger.admit(admission).await.unwrap();
    let pending_on_disk = || {
        let copy = tempfile::tempdir().unwrap();
        for file in std::fs::read_dir(world.directory.path()).unwrap().map(Result::unwrap) {
            if file.file_type().unwrap().is_file() {
                std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
            }
        }
        Ledger::open(copy.path()).unwrap().totals().pending.operations
    };
    let interval = async |count: usize| {
        while sink.taken().len() < count {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let watch = world.watch().sending(sink.clone());
    let (stop, stopping) = oneshot::channel();
    let working = async {
        // The first one writes what the worker remembers, and that alone may take the settle along.
        interval(1).await;
        let mut lane = world.ledger.claim(Timestamp(2), 1).await.unwrap().remove(0);
        let settlement = Settlement {
            outcome: Outcome::Gone,
            applied: None,
            bytes: 0,
            replicas: Vec::new(),
            provable: true,
            now: Timestamp(3),
        };
        world.ledger.settle(vec![lane.next().unwrap()], settlement).await.unwrap();
        drop(lane);
        // Paused time may run on while the ledger works: the next interval may have flushed before.
        let seen = sink.taken().len();
        interval(seen + 2).await;
        assert_eq!(pending_on_disk(), 0);
        stop.send(()).unwrap();
    };
    let (ended, ()) = tokio::join!(watch.run(stopping), working);
    ended.unwrap();
}

/// Each interval's data lie in it, however late the timer was; the last one is sent when the worker stops.
#[tokio::test(start_paused = true)]
async fn intervals_end_with_the_clocks_and_the_last_is_sent() {
    let (world, sink) = (World::new(), FakeMetrics::default());
    let watch = world.watch().sending(sink.clone());
    let intervals = || sink.taken().len();
    until(&watch, || {
        if intervals() == 3 {
            world.replicate(7);
        }
        intervals() == 3
    })
    .await;
    let taken = sink.taken();
    assert_eq!(taken.len(), 4, "three intervals and the last");
    let minutes: Vec<u64> = taken.iter().map(|(at, _)| at.0 / 60_000).collect();
    assert!(minutes.windows(2).all(|pair| pair[0] < pair[1]), "{minutes:?}");
    assert!(taken.iter().take(3).all(|(at, _)| at.0 % 60_000 == 59_999));
    assert_eq!(latencies(&sink), 7);
}

/// CloudWatch that never answers neither holds up the end nor grows.
#[tokio::test(start_paused = true)]
async fn a_sink_that_hangs_is_left_behind() {
    let (world, sink) = (World::new(), FakeMetrics::answering([Answer::Hang; 2]));
    let watch = world.watch().sending(sink.clone());
    until(&watch, || sink.answers_left() < 2).await;
    assert!(sink.taken().is_empty());
}

/// From figures to people: in alarm and over again, each tier once, although the way fails at first; nobody hears of a
/// tier to which no way leads.
#[tokio::test(start_paused = true)]
async fn alarms_are_delivered_though_the_way_fails_at_first() {
    let (world, post) = (World::new(), post(2));
    let watch = world.watch().evaluating(alarms(), vec![post.clone()]);
    let state = || {
        let standings = world.pulse.snapshot().alarms.unwrap_or_default().standings;
        standings.into_iter().find(|(name, _)| name == "repl-SystemHealth").map(|(_, standing)| standing.state)
    };
    let mut raised = false;
    until(&watch, || {
        if state() == Some(State::Ok) && !raised {
            world.replicate(1);
        }
        raised |= state() == Some(State::Alarm);
        heard(&post).len() >= 4
    })
    .await;
    assert_eq!(
        heard(&post),
        [
            "standard ALARM: repl-ReplicationLatencyCritical (acme-primary)",
            "critical ALARM: repl-SystemHealth (acme-primary)",
            "standard OK: repl-ReplicationLatencyCritical (acme-primary)",
            "critical OK: repl-SystemHealth (acme-primary)",
        ]
    );
    let view = world.pulse.snapshot().alarms.unwrap();
    assert_eq!((view.delivered, view.waiting, view.lost), (4, 0, 0));
    assert!(view.faults.is_empty());
}

/// A way that has failed for long keeps nobody from hearing of the next alarm on the others.
#[tokio::test(start_paused = true)]
async fn a_way_that_fails_holds_up_no_other() {
    let (world, post) = (World::new(), post(0));
    let gone = FakePost::failing("gone", u32::MAX);
    let watch = world.watch().evaluating(alarms(), vec![gone.clone(), post.clone()]);
    let alert = |subject: &str| Alert {
        tier: Tier::Standard,
        subject: subject.to_owned(),
        text: String::new(),
        json: String::new(),
    };
    let posting = async {
        watch.post(alert("first"));
        tokio::time::sleep(2 * LONGEST_RETRY).await;
        watch.post(alert("second"));
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    tokio::select! {
        never = watch.deliver() => match never {},
        () = posting => {}
    }
    assert_eq!(heard(&post), ["standard first", "standard second"]);
    let tries = gone.tries();
    assert!((5..20).contains(&tries), "it is not asked without a pause either: {tries} times");
}

/// What could not be delivered is told in the status, and delivered after a restart; the alarm itself is not told again.
#[tokio::test(start_paused = true)]
async fn letters_and_states_outlive_a_restart() {
    let (world, lost) = (World::new(), post(u32::MAX));
    let watch = world.watch().evaluating(alarms(), vec![lost.clone()]);
    world.replicate(1);
    until(&watch, || {
        world.replicate(1);
        world.pulse.snapshot().alarms.is_some_and(|view| view.waiting >= 2 && !view.faults.is_empty())
    })
    .await;
    assert_eq!(heard(&lost), [""; 0]);
    let post = post(0);
    let later = world.restarted();
    let watch = later.watch().evaluating(alarms(), vec![post.clone()]);
    until(&watch, || {
        later.replicate(1);
        heard(&post).len() >= 2 && later.pulse.snapshot().alarms.is_some_and(|view| view.waiting == 0)
    })
    .await;
    let heard = heard(&post);
    assert!(heard[0].starts_with("standard ALARM: repl-ReplicationLatencyCritical"), "{heard:?}");
    assert!(heard[1].starts_with("critical ALARM: repl-SystemHealth"), "{heard:?}");
    assert_eq!(heard.len(), 2, "{heard:?}");
}

/// P8: a queue that was never seen through is not known, however short ago the worker started, and a restart hides
/// neither that nor since when; once it was, that is what a restart knows.
#[tokio::test(start_paused = true)]
async fn a_first_start_knows_nothing_of_the_queue() {
    let first = World::new();
    let clock = FakeClock(tokio::time::Instant::now());
    let oldest = async |world: &World| {
        let mut watch = world.watch_with(Intake::Queue);
        watch.clock = clock.clone();
        let mut course = watch.begin().unwrap();
        let oldest = watch.figures(clock.now()).unwrap().oldest;
        watch.remember(&mut course).await.unwrap();
        (oldest.age.as_secs(), oldest.doubt)
    };
    let start = format!("not been seen through since the start at {}", clock.now().rfc3339());
    for seconds in [0, 30, 90] {
        tokio::time::advance(Duration::from_secs(seconds).saturating_sub(clock.0.elapsed())).await;
        let (age, doubt) = oldest(&first.restarted()).await;
        assert_eq!(age, seconds);
        assert!(doubt.as_ref().is_some_and(|doubt| doubt.contains(&start)), "after {seconds} s: {doubt:?}");
    }
    let seen = first.restarted();
    seen.pulse.queue_answered(clock.now(), 0);
    assert_eq!(oldest(&seen).await, (0, None));
    assert_eq!(oldest(&first.restarted()).await, (0, None));
}

/// A record of a version that is not known is refused before anything runs.
#[tokio::test]
async fn an_unknown_record_is_refused() {
    let world = World::new();
    assert_eq!(world.watch().check(), Ok(()));
    world.ledger.set_cursor(RECORD, Some(b"{\"version\":9}".to_vec())).await.unwrap();
    let refused = world.watch().check().unwrap_err();
    assert!(refused.kind == FaultKind::Ledger && refused.detail.contains("version 9"), "{refused}");
}
