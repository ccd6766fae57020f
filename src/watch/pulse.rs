//! The worker's pulse: latencies, faults, and how fresh our knowledge of the queue is.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use super::alarms::AlarmsView;
use super::catalogue::MetricSide;
use crate::ledger::Count;
use crate::model::fault::{Fault, FaultKind, Side};
use crate::model::job::{Job, Origin};
use crate::model::object::{RuleId, Timestamp};
use crate::ports::QueueDepth;

mod histogram;

pub use histogram::Histogram;

/// What S3 and KMS answered on one side that nobody wanted, since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SideErrors {
    /// Answers 4xx of S3, without those by which the worker looks around (404, 412).
    pub refused: u64,
    /// Answers 5xx of S3.
    pub failed: u64,
    /// Answers of S3 that asked for fewer requests.
    pub slow_downs: u64,
    /// Uses of a key that were refused.
    pub kms_failures: u64,
    /// Uses of a key that were throttled.
    pub kms_throttles: u64,
}

impl SideErrors {
    fn count(&mut self, fault: &Fault) {
        let by_kms = fault.side == Side::Keys
            || fault.code.as_ref().is_some_and(|code| code.starts_with("KMS.") || code.starts_with("Kms"));
        match fault.kind {
            FaultKind::KeyUnusable => self.kms_failures += 1,
            FaultKind::Throttled if by_kms => self.kms_throttles += 1,
            FaultKind::Throttled => self.slow_downs += 1,
            // A condition that did not hold, and a key that is not there, are what the worker asks about.
            FaultKind::Raced | FaultKind::Gone => return,
            FaultKind::Transient
            | FaultKind::Denied
            | FaultKind::Archived
            | FaultKind::Ineligible
            | FaultKind::Foreign
            | FaultKind::Corrupt
            | FaultKind::Refused
            | FaultKind::Ledger => {}
        }
        match fault.status {
            Some(400..=499) if fault.side != Side::Keys => self.refused += 1,
            Some(500..=599) if fault.side != Side::Keys => self.failed += 1,
            Some(_) | None => {}
        }
    }
}

/// The side on which a fault counts; `None` for those that are none of S3's or KMS's.
fn side_of(fault: &Fault) -> Option<MetricSide> {
    match fault.side {
        Side::Source => Some(MetricSide::Source),
        Side::Target | Side::Keys => Some(MetricSide::Target),
        Side::Queue | Side::Monitoring | Side::Local => None,
    }
}

/// What is known of the queue, and since when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueView {
    /// Its depth as last told.
    pub depth: Option<QueueDepth>,
    /// When a receive last came back empty after a full wait.
    pub seen_empty: Option<Timestamp>,
    /// When a receive last succeeded at all.
    pub reached: Option<Timestamp>,
    /// When everything that had arrived by then had been received: the queue was empty, told that nothing was visible,
    /// or has handed out since as many messages as were visible then. An estimate, as SQS's figures are.
    pub clear: Option<Timestamp>,
    /// While that has never been: since when there is a watch over the queue. What came before may wait in it still.
    pub begun: Option<Timestamp>,
    /// Messages that it has given up, as last told. `None` where it gives none up, or that may not be read.
    pub dead_letters: Option<u64>,
    /// Since when that is known to be more than none.
    pub gave_up: Option<Timestamp>,
    /// The last fault, if nothing has succeeded since.
    pub fault: Option<Fault>,
    /// Messages received since start.
    received: u64,
    /// A look at the depth that found messages, and how many must have been received until those have been.
    waited_for: Option<(Timestamp, u64)>,
}

impl QueueView {
    fn answered(&mut self, now: Timestamp, messages: usize) {
        self.reached = Some(now);
        self.fault = None;
        self.received = self.received.saturating_add(messages as u64);
        if messages == 0 {
            self.seen_empty = Some(now);
            self.cleared(now);
        } else if let Some((looked, _)) = self.waited_for.filter(|(_, goal)| self.received >= *goal) {
            self.cleared(looked);
        }
    }

    fn told(&mut self, now: Timestamp, depth: QueueDepth) {
        self.depth = Some(depth);
        if depth.visible == 0 {
            self.cleared(now);
        } else if self.waited_for.is_none() {
            self.waited_for = Some((now, self.received.saturating_add(depth.visible)));
        }
    }

    fn cleared(&mut self, at: Timestamp) {
        self.clear = self.clear.max(Some(at));
        (self.begun, self.waited_for) = (None, None);
    }
}

/// What has become of the metrics that are sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetricsView {
    /// When an interval was last taken.
    pub last_sent: Option<Timestamp>,
    /// Intervals since start that were not taken when they were due: their counts went with a later one, their gauges
    /// are lost.
    pub missed: u64,
    /// Why, if nothing was taken since.
    pub fault: Option<String>,
}

/// What is known of the receipts that this worker writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReceiptsView {
    /// Receipts on disk since start.
    pub written: u64,
    /// Receipts since start that could not be written in time: their jobs are settled without.
    pub lost: u64,
    /// Files uploaded since start.
    pub uploaded: u64,
    /// Closed files on disk that wait for their upload.
    pub waiting: u64,
    /// The number and the SHA-256 of the chain's last line; `None` until the spool was opened.
    pub head: Option<(u64, String)>,
    /// Why the spool cannot be written, if nothing was written since.
    pub spool_fault: Option<String>,
    /// Why files cannot be uploaded, if nothing was uploaded since.
    pub upload_fault: Option<String>,
}

/// What is known of the canary that this worker sends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CanaryView {
    /// When one was last seen at all targets.
    pub last_seen: Option<Timestamp>,
    /// How long that one took.
    pub latency: Option<Duration>,
    /// Why the last one did not arrive, if it did not.
    pub fault: Option<String>,
    /// Canaries since start that did not arrive.
    pub failed: u64,
}

/// All figures at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Change at the source to visible at the target, of changes that an event told.
    pub latency: Histogram,
    /// The same by rule.
    pub latency_by_rule: BTreeMap<RuleId, Histogram>,
    /// Errors of S3 and KMS by side.
    pub errors: BTreeMap<MetricSide, SideErrors>,
    /// Faults met since start, by kind and side.
    pub faults: BTreeMap<(FaultKind, Side), u64>,
    /// The queue.
    pub queue: QueueView,
    /// What was brought to targets since start.
    pub replicated: Count,
    /// Jobs finished since start.
    pub finished: u64,
    /// Intervals of the metrics that were lived through since start.
    pub heartbeats: u64,
    /// The receipts; `None` where none are written.
    pub receipts: Option<ReceiptsView>,
    /// The metrics; `None` where none are sent.
    pub metrics: Option<MetricsView>,
    /// The alarms; `None` where somebody else evaluates them.
    pub alarms: Option<AlarmsView>,
    /// The canary; `None` where none is sent.
    pub canary: Option<CanaryView>,
}

/// What the pace controller looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Jobs finished since start.
    pub finished: u64,
    /// Bytes written to targets since start.
    pub bytes: u64,
    /// Answers since start that asked for fewer requests.
    pub throttled: u64,
}

/// The collector. Cheap to feed from many tasks; nothing waits while the lock is held.
#[derive(Debug, Default)]
pub struct Pulse {
    state: Mutex<Snapshot>,
}

impl Pulse {
    /// A change became visible at the target. What a scan found counts as bytes but not as latency: its age tells when
    /// the object was written, not how long it took to bring.
    pub fn replicated(&self, job: &Job, latency: Duration, bytes: u64) {
        self.with(|state| {
            state.replicated.operations = state.replicated.operations.saturating_add(1);
            state.replicated.bytes = state.replicated.bytes.saturating_add(bytes);
            if job.origin == Origin::Event {
                state.latency.record(latency);
                state.latency_by_rule.entry(job.rule.clone()).or_default().record(latency);
            }
        });
    }

    /// A job ended, however.
    pub fn finished(&self) {
        self.with(|state| state.finished += 1);
    }

    /// Something went wrong.
    pub fn fault(&self, fault: &Fault) {
        self.with(|state| {
            *state.faults.entry((fault.kind, fault.side)).or_default() += 1;
            if let Some(side) = side_of(fault) {
                state.errors.entry(side).or_default().count(fault);
            }
        });
    }

    /// The queue answered a receive, with nothing or with something.
    pub fn queue_answered(&self, now: Timestamp, messages: usize) {
        self.with(|state| state.queue.answered(now, messages));
    }

    /// The queue told its depth.
    pub fn queue_depth(&self, now: Timestamp, depth: QueueDepth) {
        self.with(|state| state.queue.told(now, depth));
    }

    /// What the queue told of the messages that it has given up.
    pub fn queue_gave_up(&self, now: Timestamp, dead_letters: Option<u64>) {
        self.with(|state| {
            state.queue.dead_letters = dead_letters;
            let since = state.queue.gave_up.unwrap_or(now);
            state.queue.gave_up = dead_letters.filter(|count| *count > 0).map(|_| since);
        });
    }

    /// The queue could not be read: what was known of its depth is not known any more.
    pub fn queue_failed(&self, fault: &Fault) {
        self.with(|state| {
            state.queue.depth = None;
            state.queue.waited_for = None;
            state.queue.fault = Some(fault.clone());
        });
        self.fault(fault);
    }

    /// Something happened to the receipts.
    pub fn receipts(&self, change: impl FnOnce(&mut ReceiptsView)) {
        self.with(|state| change(state.receipts.get_or_insert_default()));
    }

    /// Remembers from before a restart when the queue was last clear.
    pub fn queue_was_clear(&self, at: Timestamp) {
        self.with(|state| state.queue.clear = state.queue.clear.max(Some(at)));
    }

    /// The watch over a queue that was never seen through began then: now, or before a restart.
    pub fn queue_watched_since(&self, begun: Timestamp) {
        self.with(|state| state.queue.begun = Some(begun).filter(|_| state.queue.clear.is_none()));
    }

    /// An interval of the metrics was lived through.
    pub fn heartbeat(&self) {
        self.with(|state| state.heartbeats += 1);
    }

    /// Something happened to the metrics.
    pub fn metrics(&self, change: impl FnOnce(&mut MetricsView)) {
        self.with(|state| change(state.metrics.get_or_insert_default()));
    }

    /// Something happened to the alarms.
    pub fn alarms(&self, change: impl FnOnce(&mut AlarmsView)) {
        self.with(|state| change(state.alarms.get_or_insert_default()));
    }

    /// Something became of a canary.
    pub fn canary(&self, change: impl FnOnce(&mut CanaryView)) {
        self.with(|state| change(state.canary.get_or_insert_default()));
    }

    /// The few figures that the pace controller needs.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.with(|state| Progress {
            finished: state.finished,
            bytes: state.replicated.bytes,
            throttled: state.faults.iter().filter(|((kind, _), _)| *kind == FaultKind::Throttled).map(|(_, n)| n).sum(),
        })
    }

    /// All figures now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.with(|state| state.clone())
    }

    fn with<T>(&self, look: impl FnOnce(&mut Snapshot) -> T) -> T {
        // A panic while counting leaves at worst one count short; the figures stay usable.
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        look(&mut state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_queue_is_unknown_and_not_zero() {
        let pulse = Pulse::default();
        pulse.queue_depth(Timestamp(4), QueueDepth { visible: 3, in_flight: 0 });
        pulse.queue_answered(Timestamp(5), 0);
        pulse.queue_failed(&Fault::new(FaultKind::Denied, Side::Queue, "receive messages", "no"));
        let view = pulse.snapshot().queue;
        assert_eq!(view.depth, None);
        assert_eq!(view.seen_empty, Some(Timestamp(5)));
        assert!(view.fault.is_some());
    }

    fn depth(visible: u64) -> QueueDepth {
        QueueDepth { visible, in_flight: 0 }
    }

    /// P8: a queue that is never empty, because messages keep coming, is seen through all the same; one of which less is
    /// received than waits is not.
    #[test]
    fn a_busy_queue_is_seen_through() {
        let pulse = Pulse::default();
        let clear = || pulse.snapshot().queue.clear;
        pulse.queue_depth(Timestamp(10), depth(25));
        pulse.queue_answered(Timestamp(11), 10);
        pulse.queue_depth(Timestamp(12), depth(30));
        pulse.queue_answered(Timestamp(13), 10);
        assert_eq!(clear(), None);
        pulse.queue_answered(Timestamp(14), 10);
        assert_eq!(clear(), Some(Timestamp(10)));
        pulse.queue_depth(Timestamp(20), depth(0));
        assert_eq!(clear(), Some(Timestamp(20)));
        pulse.queue_depth(Timestamp(30), depth(5));
        pulse.queue_failed(&Fault::new(FaultKind::Transient, Side::Queue, "receive messages", "no"));
        pulse.queue_answered(Timestamp(40), 5);
        assert_eq!(clear(), Some(Timestamp(20)), "what was counted before a fault proves nothing");
        pulse.queue_was_clear(Timestamp(3));
        assert_eq!(clear(), Some(Timestamp(20)));
    }

    /// Trap 4 of aws-semantics 8.3: looking around is no error.
    #[test]
    fn errors_are_told_by_status_side_and_cause() {
        let pulse = Pulse::default();
        let fault = |kind, side, code: Option<&'static str>, status| Fault {
            code: code.map(Into::into),
            status: Some(status),
            ..Fault::new(kind, side, "write object", "no")
        };
        for fault in [
            fault(FaultKind::Gone, Side::Target, None, 404),
            fault(FaultKind::Raced, Side::Target, Some("PreconditionFailed"), 412),
            fault(FaultKind::Denied, Side::Target, Some("AccessDenied"), 403),
            fault(FaultKind::Throttled, Side::Target, Some("SlowDown"), 503),
            fault(FaultKind::KeyUnusable, Side::Target, Some("KMS.DisabledException"), 400),
            fault(FaultKind::KeyUnusable, Side::Keys, Some("DisabledException"), 400),
            fault(FaultKind::Throttled, Side::Source, Some("KMS.ThrottlingException"), 400),
            fault(FaultKind::Transient, Side::Source, Some("InternalError"), 500),
            fault(FaultKind::Denied, Side::Queue, Some("AccessDenied"), 403),
        ] {
            pulse.fault(&fault);
        }
        let errors = pulse.snapshot().errors;
        let target = SideErrors { refused: 2, failed: 1, slow_downs: 1, kms_failures: 2, kms_throttles: 0 };
        let source = SideErrors { refused: 1, failed: 1, slow_downs: 0, kms_failures: 0, kms_throttles: 1 };
        assert_eq!(errors, [(MetricSide::Source, source), (MetricSide::Target, target)].into());
    }
}
