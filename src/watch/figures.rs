//! All figures of the catalogue at one moment, and what a sink is sent of them.
//!
//! Counters are kept as totals; an interval is the difference of two moments. So an interval that could not be sent
//! costs no memory: what it counted is in the next difference (P10).

use std::collections::BTreeMap;
use std::time::Duration;

use super::catalogue::{Kind, Metric, MetricSide, Scope, of_rule, of_side, of_source};
use super::pulse::{CanaryView, Histogram, QueueView, SideErrors, Snapshot};
use crate::ledger::{Count, Ledger};
use crate::model::fault::Fault;
use crate::model::object::{RuleId, Timestamp};
use crate::ports::{Datum, Dimension};

/// How old the last clear look at the queue may be to count as now: three long polls (aws-semantics 7.2). What has waited
/// no longer is not late yet.
pub const FRESH: Duration = Duration::from_secs(60);
/// Values in one datum at most (aws-semantics 7.3).
const VALUES: usize = 150;

/// What the series are about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The source bucket.
    pub source_bucket: String,
    /// The enabled rules with the bucket of each one's target.
    pub rules: Vec<(RuleId, String)>,
    /// Whether changes come through a queue.
    pub queue: Intake,
    /// How often metrics are taken.
    pub interval: Duration,
}

/// Where changes come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intake {
    /// A queue, which may hold what is not known here.
    Queue,
    /// Scans alone.
    Scans,
}

/// The figures of one rule.
#[derive(Clone, Debug, Default)]
pub struct RuleFigures {
    /// Latencies since start.
    pub latency: Histogram,
    /// What waits.
    pub pending: Count,
    /// What is parked.
    pub failed: u64,
}

impl RuleFigures {
    /// What a gauge of the rules shows; `None` for any other metric.
    #[must_use]
    pub fn level(&self, metric: Metric) -> Option<u64> {
        match metric {
            Metric::BytesPendingReplication => Some(self.pending.bytes),
            Metric::OperationsPendingReplication => Some(self.pending.operations),
            Metric::OperationsFailedReplication => Some(self.failed),
            Metric::ReplicationLatency
            | Metric::OldestPendingAge
            | Metric::OperationsReplicated
            | Metric::BytesReplicated
            | Metric::S3Errors4xx
            | Metric::S3Errors5xx
            | Metric::SlowDowns
            | Metric::KmsFailures
            | Metric::KmsThrottles
            | Metric::Quarantined
            | Metric::BrakeHeld
            | Metric::CanaryLatency
            | Metric::CanaryFailed
            | Metric::Heartbeat => None,
        }
    }
}

/// The age of the oldest change that is not at its target yet, and how sure that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OldestPending {
    /// The age; zero where nothing is missing.
    pub age: Duration,
    /// Why it may be less, or be about changes that nobody has seen; `None` where it is known exactly.
    pub doubt: Option<String>,
}

/// All figures at one moment.
#[derive(Clone, Debug)]
pub struct Figures {
    /// Latencies over all rules since start.
    pub latency: Histogram,
    /// How long the oldest live change has waited so far; `None` where none waits.
    pub waiting: Option<Duration>,
    /// What waits, over all rules.
    pub pending: Count,
    /// What is parked, over all rules.
    pub failed: u64,
    /// What was brought over since start. Not the ledger's total, which falls when a kill loses the last counts of it.
    pub replicated: Count,
    /// Rule by rule.
    pub rules: BTreeMap<RuleId, RuleFigures>,
    /// Errors by side since start.
    pub errors: BTreeMap<MetricSide, SideErrors>,
    /// The RPO clock.
    pub oldest: OldestPending,
    /// Messages in the quarantine.
    pub quarantined: u64,
    /// Deletes that the brake holds.
    pub brake_held: u64,
    /// The last canary; `None` where none is sent.
    pub canary: Option<CanaryView>,
    /// Intervals lived through since start.
    pub heartbeats: u64,
}

impl Figures {
    /// Takes all figures. Reads the ledger's disk.
    ///
    /// # Errors
    /// `Ledger` when the ledger cannot be read.
    pub fn take(ledger: &Ledger, snapshot: &Snapshot, settings: &Settings, now: Timestamp) -> Result<Self, Fault> {
        let totals = ledger.totals();
        let parked = ledger.groups()?.iter().map(|group| group.oldest).min();
        let missing = ledger.oldest_pending()?.into_iter().chain(parked).min();
        let unseen = unseen(&snapshot.queue, settings.queue, now);
        let live = ledger.oldest_live()?.map(|oldest| now.since(oldest));
        let of_rule = |rule: &RuleId| {
            let counts = totals.by_rule.get(rule).copied().unwrap_or_default();
            let latency = snapshot.latency_by_rule.get(rule).cloned().unwrap_or_default();
            RuleFigures { latency, pending: counts.pending, failed: counts.parked.operations }
        };
        Ok(Self {
            latency: snapshot.latency.clone(),
            waiting: live.max(unseen.as_ref().map(|(unseen, _)| *unseen)),
            pending: totals.pending,
            failed: totals.parked.operations,
            replicated: snapshot.replicated,
            rules: settings.rules.iter().map(|(rule, _)| (rule.clone(), of_rule(rule))).collect(),
            errors: snapshot.errors.clone(),
            oldest: oldest(missing.map(|missing| now.since(missing)), unseen),
            quarantined: totals.quarantined,
            brake_held: totals.held.operations,
            canary: snapshot.canary.clone(),
            heartbeats: snapshot.heartbeats,
        })
    }

    /// Seconds that the last canary took; `None` where none arrived yet.
    #[must_use]
    pub fn canary_latency(&self) -> Option<f64> {
        Some(self.canary.as_ref()?.latency?.as_secs_f64())
    }

    /// 1 while the last canary did not arrive; `None` where none is sent.
    #[must_use]
    pub fn canary_failed(&self) -> Option<u64> {
        self.canary.as_ref().map(|canary| u64::from(canary.fault.is_some()))
    }

    /// What one interval came to, this moment being its end and `before` its start: zeros are said, what is not known
    /// is left out, and every value is finite.
    #[must_use]
    pub fn since(&self, before: &Self, settings: &Settings) -> Vec<Datum> {
        let mut data = Vec::new();
        for metric in Metric::ALL {
            self.whole(metric, before, settings, &mut data);
            self.by_rule(metric, before, settings, &mut data);
            self.by_side(metric, before, settings, &mut data);
        }
        data
    }

    /// The series with the source bucket alone.
    fn whole(&self, metric: Metric, before: &Self, settings: &Settings, data: &mut Vec<Datum>) {
        let more = |now: u64, earlier: u64| Some(vec![(count(now.saturating_sub(earlier)), 1)]);
        let level = |now: u64| Some(vec![(count(now), 1)]);
        let values = match metric {
            Metric::ReplicationLatency => {
                let mut values = self.latency.since(&before.latency);
                // What is stuck has no latency yet: without this an alarm would see nothing of it until it is over.
                values.extend(self.waiting.filter(|wait| *wait > FRESH).map(|wait| (wait.as_secs_f64(), 1)));
                Some(values)
            }
            Metric::BytesPendingReplication => level(self.pending.bytes),
            Metric::OperationsPendingReplication => level(self.pending.operations),
            Metric::OperationsFailedReplication => level(self.failed),
            Metric::OldestPendingAge => Some(vec![(self.oldest.age.as_secs_f64(), 1)]),
            Metric::OperationsReplicated => more(self.replicated.operations, before.replicated.operations),
            Metric::BytesReplicated => more(self.replicated.bytes, before.replicated.bytes),
            Metric::Quarantined => level(self.quarantined),
            Metric::BrakeHeld => level(self.brake_held),
            Metric::CanaryLatency => self.canary_latency().map(|latency| vec![(latency, 1)]),
            Metric::CanaryFailed => self.canary_failed().and_then(level),
            Metric::Heartbeat => more(self.heartbeats, before.heartbeats),
            Metric::S3Errors4xx
            | Metric::S3Errors5xx
            | Metric::SlowDowns
            | Metric::KmsFailures
            | Metric::KmsThrottles => None,
        };
        push(data, metric, of_source(&settings.source_bucket), values.unwrap_or_default());
    }

    fn by_rule(&self, metric: Metric, before: &Self, settings: &Settings, data: &mut Vec<Datum>) {
        if metric.scope() != Scope::Rules {
            return;
        }
        for (rule, destination) in &settings.rules {
            let Some(now) = self.rules.get(rule) else { continue };
            let values = match metric.kind() {
                Kind::Distribution => match before.rules.get(rule) {
                    Some(before) => now.latency.since(&before.latency),
                    None => now.latency.since(&Histogram::default()),
                },
                Kind::Counter | Kind::Gauge => now.level(metric).map(|level| (count(level), 1)).into_iter().collect(),
            };
            push(data, metric, of_rule(&settings.source_bucket, destination, rule), values);
        }
    }

    fn by_side(&self, metric: Metric, before: &Self, settings: &Settings, data: &mut Vec<Datum>) {
        for side in MetricSide::ALL {
            let (Some(now), Some(earlier)) = (self.errors_of(metric, side), before.errors_of(metric, side)) else {
                return;
            };
            let values = vec![(count(now.saturating_sub(earlier)), 1)];
            push(data, metric, of_side(&settings.source_bucket, side), values);
        }
    }

    /// Errors of one kind on one side since start; `None` for what is not told by side.
    #[must_use]
    pub fn errors_of(&self, metric: Metric, side: MetricSide) -> Option<u64> {
        let errors = self.errors.get(&side).copied().unwrap_or_default();
        match metric {
            Metric::S3Errors4xx => Some(errors.refused),
            Metric::S3Errors5xx => Some(errors.failed),
            Metric::SlowDowns => Some(errors.slow_downs),
            Metric::KmsFailures => Some(errors.kms_failures),
            Metric::KmsThrottles => Some(errors.kms_throttles),
            Metric::ReplicationLatency
            | Metric::BytesPendingReplication
            | Metric::OperationsPendingReplication
            | Metric::OperationsFailedReplication
            | Metric::OldestPendingAge
            | Metric::OperationsReplicated
            | Metric::BytesReplicated
            | Metric::Quarantined
            | Metric::BrakeHeld
            | Metric::CanaryLatency
            | Metric::CanaryFailed
            | Metric::Heartbeat => None,
        }
    }
}

/// For how long, as far as is known, there may be a change that nobody has seen, and why; `None` where the queue was seen
/// through just now and has given nothing up.
fn unseen(queue: &QueueView, intake: Intake, now: Timestamp) -> Option<(Duration, String)> {
    if intake == Intake::Scans {
        return None;
    }
    let given_up = queue.gave_up.map(|since| {
        let count = queue.dead_letters.unwrap_or_default();
        let doubt = format!(
            "the dead-letter queue holds {count} messages, known since {}: changes in them, which may be older, may be \
             missing",
            since.rfc3339()
        );
        (now.since(since), doubt)
    });
    // The longer wait counts, and of equal ones what an operator has to see to.
    let unread = unread(queue, now);
    given_up.into_iter().chain(unread).reduce(|first, second| if second.0 > first.0 { second } else { first })
}

/// For how long, as far as is known, a change may wait in the queue itself.
fn unread(queue: &QueueView, now: Timestamp) -> Option<(Duration, String)> {
    let Some(clear) = queue.clear else {
        let begun = queue.begun.unwrap_or(now);
        let since = format!("seen through since the start at {}: what waits in it may be older", begun.rfc3339());
        let doubt = match &queue.fault {
            Some(fault) => format!("the queue cannot be read ({fault}); it has not been {since}"),
            None => format!("the queue has not been {since}"),
        };
        return Some((now.since(begun), doubt));
    };
    let age = now.since(clear);
    let since = clear.rfc3339();
    match &queue.fault {
        Some(fault) => Some((age, format!("the queue cannot be read ({fault}); it was last seen through at {since}"))),
        // A time in the future means that the clock was set back: then nothing is known to be fresh.
        None if clear > now => Some((age, "the clock was set back".to_owned())),
        None if age > FRESH => Some((age, format!("the queue was last seen through at {since}"))),
        None => None,
    }
}

fn oldest(missing: Option<Duration>, unseen: Option<(Duration, String)>) -> OldestPending {
    let age = missing.unwrap_or_default();
    match unseen {
        Some((unseen, doubt)) => OldestPending { age: age.max(unseen), doubt: Some(doubt) },
        None => OldestPending { age, doubt: None },
    }
}

/// Adds a series, in as many data as its values need; nothing where there are none.
fn push(data: &mut Vec<Datum>, metric: Metric, dimensions: Vec<Dimension>, values: Vec<(f64, u64)>) {
    // One value that is no number would have CloudWatch refuse the whole call (aws-semantics 7.3).
    let sound: Vec<(f64, u64)> = values.into_iter().filter(|(value, count)| value.is_finite() && *count > 0).collect();
    data.extend(sound.chunks(VALUES).map(|values| Datum {
        name: metric.name(),
        unit: metric.unit().name(),
        dimensions: dimensions.clone(),
        values: values.to_vec(),
    }));
    debug_assert!(metric.kind() == Kind::Distribution || sound.len() <= 1, "a counter and a gauge have one value");
}

#[allow(clippy::cast_precision_loss, reason = "beyond 2^53 CloudWatch tells no two values apart either")]
fn count(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests;
