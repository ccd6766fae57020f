//! The engine on a small world.

pub(in crate::engine) mod world;

use super::*;
use crate::ledger::{Admission, Outcome, PartSizes, Settlement, Upload};
use crate::model::job::{Change, ChangeKind, Job, Origin};
use crate::model::object::{ETag, Timestamp, VersionId};
use crate::plan::route::History;
use crate::ports::{Content, Delivery};
use world::{Small, Store};

pub(in crate::engine) fn rule(id: &str, target: &str) -> Rule {
    Rule {
        id: id.into(),
        target: target.into(),
        priority: 0,
        prefix: String::new(),
        tags: BTreeMap::new(),
        delete_markers: true,
        enabled: true,
        history: History::Latest,
        storage_class: None,
        kms_key: None,
        kms_map: BTreeMap::new(),
        owner_full_control: false,
        acl: false,
        target_prefix: String::new(),
        stamp: true,
    }
}

pub(in crate::engine) fn job(key: &str, origin: Origin) -> Job {
    Job {
        target: "t".into(),
        rule: "r".into(),
        key: key.into(),
        target_key: key.into(),
        kind: ChangeKind::Write,
        version: "v".into(),
        sequencer: None,
        etag: None,
        size: Some(1),
        changed: Timestamp(0),
        origin,
    }
}

/// A ledger of its own, and engines on it, one after another.
pub(in crate::engine) struct Bench {
    _directory: tempfile::TempDir,
    pub(in crate::engine) ledger: Ledger,
    pub(in crate::engine) phase: watch::Sender<Phase>,
    pub(in crate::engine) settings: Settings,
}

impl Bench {
    pub(in crate::engine) fn new(rules: Vec<Rule>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let target = |rule: &Rule| {
            let (server_side, conditions) = (ServerSide::Impossible, Conditions::Held);
            let bucket = format!("bucket-{}", rule.target);
            (rule.target.clone(), TargetSettings { bucket, server_side, conditions, checksums: Checksums::Held })
        };
        let settings = Settings {
            source_bucket: "b".to_owned(),
            source_owner: None,
            targets: rules.iter().map(target).collect(),
            rules,
            mode: Mode::Stream,
            limits: Limits::default(),
            windows: Vec::new(),
            retry: retry::Policy::default(),
            chance: || 0.5,
            brake: Bounds { per_hour: 1000, share: 1_000_000 },
            ack: Ack::Settled,
            receivers: 1,
            long_poll: Duration::from_secs(1),
            gauge_every: Duration::from_secs(60),
            receipts: None,
        };
        let ledger = Ledger::open(directory.path()).unwrap();
        Self { ledger, phase: watch::channel(Phase::Run).0, settings, _directory: directory }
    }

    pub(in crate::engine) fn engine(&self, world: &Small) -> Engine<Small> {
        let (world, pulse) = (Arc::new(world.clone()), Arc::default());
        Engine::new(world, self.ledger.clone(), self.settings.clone(), pulse, self.phase.subscribe())
    }
}

/// Bounded: what is to end must not hang the tests where it does not.
pub(in crate::engine) async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), work).await.expect("it waits for ever")
}

/// Returns once it holds.
pub(in crate::engine) async fn until(holds: impl Fn() -> bool) {
    soon(async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// An upload that no job needs any more.
async fn leave_an_upload(bench: &Bench) {
    let admission = Admission { jobs: vec![job("k", Origin::Event)], ..Admission::default() };
    bench.ledger.admit(admission).await.unwrap();
    let claim = bench.ledger.claim(Timestamp(1), 1).await.unwrap()[0].next().unwrap();
    let upload = Upload {
        id: "u".to_owned(),
        source_version: VersionId::new("v"),
        source_etag: ETag::new("aa"),
        part_sizes: PartSizes::of(&[5, 5]),
        checksum: None,
        opened: Timestamp(1),
        over: None,
    };
    bench.ledger.note_upload(&claim, &upload).await.unwrap();
    let settlement = Settlement {
        outcome: Outcome::Superseded,
        applied: None,
        replicas: Vec::new(),
        bytes: 0,
        provable: true,
        now: Timestamp(1),
    };
    bench.ledger.settle(vec![claim], settlement).await.unwrap();
    assert_eq!(bench.ledger.orphans().unwrap().len(), 1);
}

/// What is looked after at the start, against a target and a key service that do not answer, holds up no drain.
#[tokio::test]
async fn a_drain_waits_for_nothing_that_is_only_looked_after() {
    let keyed = Rule { kms_key: Some("arn:aws:kms:eu-west-2:1:key/k".to_owned()), ..rule("r", "t") };
    let bench = Bench::new(vec![keyed]);
    leave_an_upload(&bench).await;
    let keys = Store::default();
    let world = Small { keys: Some(keys.clone()), ..Small::new(Store::default()) };
    keys.answer(0);
    world.target.answer(0);
    let engine = bench.engine(&world);
    let draining = async {
        until(|| world.target.calls() > 0 && keys.calls() > 0).await;
        bench.phase.send_replace(Phase::Drain);
    };
    let (ended, ()) = soon(async { tokio::join!(engine.run(), draining) }).await;
    assert_eq!(ended, Ok(()));
    assert_eq!(bench.ledger.orphans().unwrap().len(), 1, "it stays noted");
}

/// The reason is told, not that the others were ended for it.
#[tokio::test]
async fn the_first_fault_is_the_one_that_is_told() {
    let full = || Fault::new(FaultKind::Ledger, Side::Local, "write the ledger", "the disk is full");
    let mut tasks = JoinSet::new();
    for _ in 0..3 {
        tasks.spawn(std::future::pending());
    }
    tasks.spawn(async move { Err(full()) });
    assert_eq!(soon(join_all(tasks)).await, Err(full()));
    let mut tasks: JoinSet<Result<(), Fault>> = JoinSet::new();
    tasks.spawn(async { panic!("of a defect") });
    tasks.spawn(std::future::pending());
    let told = soon(join_all(tasks)).await.unwrap_err();
    assert!(told.detail.contains("panicked"), "{told}");
}

/// P1, P2: with `ack = "settled"` a message whose work ends during the drain leaves the queue, or another worker would do
/// it again.
#[tokio::test]
async fn what_ends_during_a_drain_is_acknowledged() {
    let tagged = Rule { tags: BTreeMap::from([("class".to_owned(), "gold".to_owned())]), ..rule("r", "t") };
    let bench = Bench::new(vec![tagged]);
    let queue = Store::default();
    let world = Small { queue: Some(queue.clone()), ..Small::new(Store::default()) };
    world.source.answer(0);
    let change = Change {
        bucket: "b".to_owned(),
        key: "k".into(),
        kind: ChangeKind::Write,
        version: VersionId::null(),
        sequencer: None,
        etag: None,
        size: Some(1),
        changed: Timestamp(0),
        origin: Origin::Event,
    };
    let content = Content::Changes { changes: vec![change], ignored: Vec::new(), unreadable: Vec::new() };
    queue.deliver(Delivery { receipt: 7, id: "m".to_owned(), body: String::new(), content });
    let engine = bench.engine(&world);
    let draining = async {
        until(|| world.source.calls() > 0).await;
        bench.phase.send_replace(Phase::Drain);
        // The messages' own loop has seen it by then.
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(queue.acknowledged(), [0; 0], "its work is not done");
        world.source.answer(usize::MAX);
    };
    let (ended, ()) = soon(async { tokio::join!(engine.run(), draining) }).await;
    assert_eq!(ended, Ok(()));
    let totals = bench.ledger.totals();
    assert_eq!((totals.not_replicated, totals.pending.operations), (1, 0), "it has no such tags");
    assert_eq!(queue.acknowledged(), [7]);
}

/// Lanes begin many at once, and each needs to know: a request for each of them would cost more than their objects.
#[tokio::test]
async fn those_who_ask_at_once_are_told_by_one_request() {
    let bench = Bench::new(vec![rule("r", "t")]);
    let world = Small::new(Store::default());
    let engine = bench.engine(&world);
    let told = futures_util::future::join_all((0..32).map(|_| engine.shared.source_versioning())).await;
    assert!(told.iter().all(|told| *told == Ok(Versioning::Off)), "{told:?}");
    assert_eq!(world.source.asked(), 1);
}
