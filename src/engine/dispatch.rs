//! Claims what is due and works on it, as many keys at once as helps.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::ledger::Lane;
use crate::meter;
use crate::model::fault::{Fault, FaultKind};
use crate::model::object::Timestamp;
use crate::plan::pace::{Pace, Window};
use crate::ports::World;
use crate::watch::pulse::Progress;

use super::budget::{Concurrency, PIPE};
use super::replicate::{self, Onward};
use super::spending::{self, Entry};
use super::{Phase, Shared};

/// Transfers at once to begin with, and the most that are ever tried: beyond it a t4g.nano's two cores are busy.
const START: usize = 16;
const MOST: usize = 128;
/// How long one look of the pace controller takes in.
const WINDOW: Duration = Duration::from_millis(500);
/// One lane is claimed ahead for so many at work: a claim is a trip to the ledger's thread, and one for each object would
/// cost as much as the object's own settlement.
const AHEAD: usize = 2;
/// The longest sleep without a look at the ledger: deferred jobs and probes come due without a sound.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// Runs lanes until the phase ends. Returns an error only when the ledger can no longer be trusted.
pub(super) async fn dispatch<W: World>(shared: Arc<Shared<W>>) -> Result<(), Fault> {
    let mut lanes: JoinSet<Result<(), Fault>> = JoinSet::new();
    let mut pace = Measured::new(&shared);
    let mut phase = shared.phase.clone();
    // Claimed, but not begun.
    let mut ready = VecDeque::new();
    let mut more = false;
    loop {
        match shared.phase() {
            Phase::Run => {}
            Phase::Drain => break,
            Phase::Halt => return Ok(()),
        }
        while let Some(joined) = lanes.try_join_next() {
            finished(joined)?;
        }
        let limit = pace.look(&shared, lanes.len());
        let free = limit.saturating_sub(lanes.len());
        let paused = shared.is_paused();
        if paused {
            ready.clear();
        } else if free > ready.len() {
            let claimed = claim(&shared, free - ready.len() + limit / AHEAD).await?;
            // A lane that ends may make another one ready, and a claim may stop early: as long as it brings any, ask on.
            more = !claimed.is_empty();
            ready.extend(claimed);
        }
        for lane in ready.drain(..free.min(ready.len())) {
            lanes.spawn(run_lane(Arc::clone(&shared), lane));
        }
        let full = lanes.len() >= limit;
        if full || !std::mem::take(&mut more) {
            let wait = if full || paused { LONGEST_SLEEP } else { until_due(&shared)? };
            tokio::select! {
                joined = lanes.join_next(), if !lanes.is_empty() => if let Some(joined) = joined { finished(joined)? },
                () = shared.work.notified() => {}
                () = tokio::time::sleep(wait) => {}
                _ = phase.changed() => {}
            }
        }
    }
    // What was only claimed is given back.
    drop(ready);
    let mut halt = shared.phase.clone();
    tokio::select! {
        ended = finish(&mut lanes) => ended,
        _ = halt.wait_for(|phase| *phase == Phase::Halt) => Ok(()),
    }
}

/// Claims while no batch of messages is in hand: see `intake::Order`.
async fn claim<W: World>(shared: &Shared<W>, most: usize) -> Result<Vec<Lane>, Fault> {
    let _nothing_in_hand = shared.intake.in_hand.write().await;
    shared.ledger.claim(shared.now(), most).await
}

async fn finish(lanes: &mut JoinSet<Result<(), Fault>>) -> Result<(), Fault> {
    while let Some(joined) = lanes.join_next().await {
        finished(joined)?;
    }
    Ok(())
}

/// A lane that panicked has dropped its claims: they are still to do. It is told and does not stop the others.
fn finished(joined: Result<Result<(), Fault>, tokio::task::JoinError>) -> Result<(), Fault> {
    match joined {
        Ok(result) => result,
        Err(error) => {
            tracing::error!(%error, "a job broke off; it stays to be done");
            Ok(())
        }
    }
}

async fn run_lane<W: World>(shared: Arc<Shared<W>>, mut lane: Lane) -> Result<(), Fault> {
    while shared.may_begin() {
        let Some(claim) = lane.next() else { break };
        let worked = match spending::enter(&shared, &claim) {
            Entry::Uncounted => replicate::work(&shared, &lane, claim).await,
            Entry::Refused => spending::put_off(&shared, claim).await.map(|()| Onward::Free),
            Entry::Paid(purse) => {
                let job = claim.job().clone();
                let worked = meter::under(purse.meter(), replicate::work(&shared, &lane, claim)).await;
                purse.done(&job);
                worked
            }
        };
        match worked {
            Ok(onward) => {
                shared.pulse.finished();
                if onward == Onward::HeldUp {
                    break;
                }
            }
            Err(fault) if fault.kind == FaultKind::Ledger => return Err(fault),
            Err(fault) => tracing::error!(%fault, "a job could not be written down; it stays to be done"),
        }
    }
    Ok(())
}

fn until_due<W: World>(shared: &Shared<W>) -> Result<Duration, Fault> {
    let due = shared.ledger.next_due()?;
    let wait = due.map_or(LONGEST_SLEEP, |due: Timestamp| due.since(shared.now()));
    Ok(wait.clamp(Duration::from_millis(5), LONGEST_SLEEP))
}

/// The pace controller with its measurements.
struct Measured {
    concurrency: Concurrency,
    pace: Option<Pace>,
    limit: usize,
    since: tokio::time::Instant,
    finished: u64,
    bytes: u64,
    throttled: u64,
    saturated: bool,
}

impl Measured {
    fn new<W: World>(shared: &Shared<W>) -> Self {
        let fits = usize::try_from(shared.settings.limits.memory / PIPE).unwrap_or(MOST);
        let concurrency = shared.governing.concurrency();
        let (pace, limit) = match concurrency {
            Concurrency::Fixed(limit) => (None, usize::try_from(limit.get()).unwrap_or(MOST)),
            Concurrency::Auto => {
                let pace = Pace::new(START.min(fits), MOST.min(fits.saturating_mul(2)));
                let limit = pace.limit();
                (Some(pace), limit)
            }
        };
        let since = tokio::time::Instant::now();
        let Progress { finished, bytes, throttled } = shared.pulse.progress();
        Self { concurrency, pace, limit, since, finished, bytes, throttled, saturated: false }
    }

    fn look<W: World>(&mut self, shared: &Shared<W>, busy: usize) -> usize {
        if shared.governing.concurrency() != self.concurrency {
            *self = Self::new(shared);
        }
        self.saturated |= busy >= self.limit;
        let Some(pace) = &mut self.pace else { return self.limit };
        if self.since.elapsed() < WINDOW {
            return self.limit;
        }
        let counts = shared.pulse.progress();
        let window = Window {
            finished: counts.finished.saturating_sub(self.finished),
            bytes: counts.bytes.saturating_sub(self.bytes),
            throttled: counts.throttled.saturating_sub(self.throttled),
            saturated: self.saturated,
        };
        (self.finished, self.bytes, self.throttled) = (counts.finished, counts.bytes, counts.throttled);
        self.since = tokio::time::Instant::now();
        self.saturated = false;
        self.limit = pace.observe(window);
        self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tests::Bench;
    use crate::engine::tests::world::{Small, Store};
    use crate::model::fault::Side;

    /// As after `repl limit --reset`: what happened since the start was not in the first window.
    #[tokio::test(start_paused = true)]
    async fn a_pace_that_begins_late_knows_nothing_of_before() {
        let bench = Bench::new(Vec::new());
        let engine = bench.engine(&Small::new(Store::default()));
        let slow = || Fault::new(FaultKind::Throttled, Side::Target, "put object", "slow down");
        engine.shared.pulse.fault(&slow());
        let mut pace = Measured::new(&engine.shared);
        let begun = pace.limit;
        tokio::time::advance(WINDOW).await;
        assert!(pace.look(&engine.shared, begun) > begun, "it grows");
        engine.shared.pulse.fault(&slow());
        tokio::time::advance(WINDOW).await;
        assert!(pace.look(&engine.shared, begun) < begun, "and hears of what comes");
    }
}
