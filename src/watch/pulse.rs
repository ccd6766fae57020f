//! The worker's pulse: latencies, faults, and how fresh our knowledge of the queue is.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use crate::model::fault::{Fault, FaultKind, Side};
use crate::model::object::Timestamp;
use crate::ports::QueueDepth;

/// Buckets of the latency histogram: each is a tenth of an octave wide, so a percentile is right within 7 %.
const STEPS_PER_OCTAVE: f64 = 10.0;
/// From 1 ms to 2^27 ms, about a day and a half.
const BUCKETS: usize = 272;

/// Counts of latencies in buckets of growing width: bounded in memory whatever arrives.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: Duration,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0, max: Duration::ZERO }
    }
}

impl Histogram {
    /// Takes one latency in.
    pub fn record(&mut self, latency: Duration) {
        let millis = latency.as_secs_f64() * 1000.0;
        let step = (millis.max(1.0).log2() * STEPS_PER_OCTAVE).floor();
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "never negative, cut to the buckets"
        )]
        let bucket = (step as usize).min(BUCKETS - 1);
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.total += 1;
        self.max = self.max.max(latency);
    }

    /// The latency that `share` (0 to 1) of all do not exceed; `None` when nothing was recorded.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        #[allow(clippy::cast_precision_loss, reason = "a rank, not a sum")]
        let rank = (self.total as f64 * share).ceil().max(1.0);
        let mut seen = 0_u64;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            #[allow(clippy::cast_precision_loss, reason = "a rank, not a sum")]
            if *count > 0 && seen as f64 >= rank {
                #[allow(clippy::cast_precision_loss, reason = "at most 272")]
                let upper = ((bucket + 1) as f64 / STEPS_PER_OCTAVE).exp2() / 1000.0;
                return Some(Duration::from_secs_f64(upper).min(self.max));
            }
        }
        None
    }

    /// The longest latency; `None` when nothing was recorded.
    #[must_use]
    pub fn max(&self) -> Option<Duration> {
        (self.total > 0).then_some(self.max)
    }

    /// How many were recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.total
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
    /// The last fault, if nothing has succeeded since.
    pub fault: Option<Fault>,
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
    /// Change at the source to visible at the target.
    pub latency: Histogram,
    /// Faults met since start, by kind and side.
    pub faults: BTreeMap<(FaultKind, Side), u64>,
    /// The queue.
    pub queue: QueueView,
    /// Bytes written to targets since start.
    pub bytes: u64,
    /// Jobs finished since start.
    pub finished: u64,
    /// The receipts; `None` where none are written.
    pub receipts: Option<ReceiptsView>,
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
    /// A change became visible at the target.
    pub fn replicated(&self, latency: Duration, bytes: u64) {
        self.with(|state| {
            state.latency.record(latency);
            state.bytes = state.bytes.saturating_add(bytes);
        });
    }

    /// A job ended, however.
    pub fn finished(&self) {
        self.with(|state| state.finished += 1);
    }

    /// Something went wrong.
    pub fn fault(&self, fault: &Fault) {
        self.with(|state| *state.faults.entry((fault.kind, fault.side)).or_default() += 1);
    }

    /// The queue answered a receive, with nothing or with something.
    pub fn queue_answered(&self, now: Timestamp, messages: usize) {
        self.with(|state| {
            state.queue.reached = Some(now);
            state.queue.fault = None;
            if messages == 0 {
                state.queue.seen_empty = Some(now);
            }
        });
    }

    /// The queue told its depth.
    pub fn queue_depth(&self, depth: QueueDepth) {
        self.with(|state| state.queue.depth = Some(depth));
    }

    /// The queue could not be read: what was known of its depth is not known any more.
    pub fn queue_failed(&self, fault: &Fault) {
        self.with(|state| {
            state.queue.depth = None;
            state.queue.fault = Some(fault.clone());
        });
        self.fault(fault);
    }

    /// Something happened to the receipts.
    pub fn receipts(&self, change: impl FnOnce(&mut ReceiptsView)) {
        self.with(|state| change(state.receipts.get_or_insert_default()));
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
            bytes: state.bytes,
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
    fn quantiles_are_right_within_a_bucket() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), None);
        for millis in 1..=1000 {
            histogram.record(Duration::from_millis(millis));
        }
        let median = histogram.quantile(0.5).unwrap().as_secs_f64();
        assert!((0.49..=0.54).contains(&median), "{median}");
        assert!(histogram.quantile(0.99).unwrap() >= Duration::from_millis(980));
        assert_eq!(histogram.quantile(1.0), Some(Duration::from_secs(1)));
        histogram.record(Duration::from_secs(10_000_000));
        assert_eq!(histogram.max(), Some(Duration::from_secs(10_000_000)));
        histogram.record(Duration::ZERO);
        assert_eq!(histogram.count(), 1002);
    }

    #[test]
    fn a_failed_queue_is_unknown_and_not_zero() {
        let pulse = Pulse::default();
        pulse.queue_depth(QueueDepth { visible: 3, in_flight: 0 });
        pulse.queue_answered(Timestamp(5), 0);
        pulse.queue_failed(&Fault::new(FaultKind::Denied, Side::Queue, "receive messages", "no"));
        let view = pulse.snapshot().queue;
        assert_eq!(view.depth, None);
        assert_eq!(view.seen_empty, Some(Timestamp(5)));
        assert!(view.fault.is_some());
    }
}
