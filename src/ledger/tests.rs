//! The ledger on a store in memory, and the scaffolding that its tests share.

mod bench;
mod braking;
mod course;
mod crash;
mod disk;
mod flow;
mod mortal;
mod operating;
mod parking;
mod power;
mod records;

use std::sync::Arc;
use std::time::Duration;

use super::book::Limits;
use super::kv::Shape;
use super::kv::memory::MemoryKv;
use super::*;
use crate::model::fault::{FaultKind, Side};
use crate::model::job::{ChangeKind, Job, Origin};
use crate::model::object::{ETag, RuleId, Sequencer, VersionId};

/// A ledger on a store of its own, or on one that a crash left.
pub(super) fn on(kv: &MemoryKv) -> Ledger {
    Ledger::on(Arc::new(kv.clone()), Limits::default()).unwrap()
}

pub(super) fn at(seconds: u64) -> Timestamp {
    Timestamp(1_700_000_000_000 + seconds * 1000)
}

/// A write of `key` as version `version`, changed at second `changed`.
pub(super) fn job(key: &str, version: &str, changed: u64) -> Job {
    Job {
        target: TargetId::new("dr"),
        rule: RuleId::new("all"),
        key: Key::new(key),
        target_key: Key::new(key),
        kind: ChangeKind::Write,
        version: VersionId::new(version),
        sequencer: None,
        etag: Some(ETag::new("d41d8cd98f00b204e9800998ecf8427e")),
        size: Some(10),
        changed: at(changed),
        origin: Origin::Event,
    }
}

pub(super) fn sequenced(key: &str, version: &str, changed: u64, sequencer: &str) -> Job {
    Job { sequencer: Some(Sequencer::new(sequencer)), ..job(key, version, changed) }
}

pub(super) fn scanned(key: &str, version: &str, changed: u64) -> Job {
    Job { origin: Origin::Scan, ..job(key, version, changed) }
}

pub(super) fn work(jobs: Vec<Job>) -> Admission {
    Admission { jobs, now: at(0), ..Admission::default() }
}

pub(super) fn done(now: Timestamp) -> Settlement {
    Settlement { outcome: Outcome::Replicated, applied: None, replicas: Vec::new(), bytes: 10, provable: true, now }
}

pub(super) fn ended(outcome: Outcome, now: Timestamp) -> Settlement {
    Settlement { outcome, bytes: 0, ..done(now) }
}

pub(super) fn fault(kind: FaultKind) -> Fault {
    Fault { code: Some("AccessDenied".into()), ..Fault::new(kind, Side::Target, "write object", "no") }
}

/// Claims everything that can be claimed and gives all lanes.
pub(super) async fn all(ledger: &Ledger, now: Timestamp) -> Vec<Lane> {
    ledger.claim(now, 10_000).await.unwrap()
}

/// The keys of lanes, in the order they came.
pub(super) fn keys(lanes: &[Lane]) -> Vec<String> {
    lanes.iter().map(|lane| lane.target_key().to_string()).collect()
}

pub(super) fn versions(lane: &Lane) -> Vec<String> {
    lane.waiting().map(|job| job.version.to_string()).collect()
}

/// I11, and that the parts of the totals agree with the rules' and with what is there.
pub(super) fn balanced(totals: &Totals) {
    let sum = totals.pending.operations
        + totals.parked.operations
        + totals.held.operations
        + totals.replicated.operations
        + totals.already_equal
        + totals.superseded
        + totals.not_replicated
        + totals.gone
        + totals.dropped;
    assert_eq!(totals.admitted, sum, "{totals:?}");
    let rules = |part: fn(&RuleTotals) -> Count| totals.by_rule.values().map(part).map(|c| c.operations).sum::<u64>();
    assert_eq!(totals.pending.operations, rules(|rule| rule.pending), "{totals:?}");
    assert_eq!(totals.parked.operations, rules(|rule| rule.parked), "{totals:?}");
    assert_eq!(totals.held.operations, rules(|rule| rule.held), "{totals:?}");
    assert_eq!(totals.replicated.operations, rules(|rule| rule.replicated), "{totals:?}");
}

/// Waits until parked jobs on their way back have arrived.
pub(super) async fn arrived(ledger: &Ledger) {
    for _ in 0..1_000 {
        ledger.flush().await.unwrap();
        if ledger.next_due().unwrap() != Some(Timestamp(0)) {
            // The group ends with a batch of its own.
            return ledger.flush().await.unwrap();
        }
    }
    panic!("parked jobs stay on their way: {:?}", ledger.groups());
}
