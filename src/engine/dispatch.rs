//! Claims what is due and works on it, as many keys at once as helps.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::ledger::Lane;
use crate::meter;
use crate::model::fault::{Fault, FaultKind};
use crate::model::object::Timestamp;
use crate::plan::pace::{Pace, Window};
use crate::plan::parts::WORTH_COPYING;
use crate::ports::World;
use crate::watch::pulse::Progress;

use super::budget::{Concurrency, PIPE};
use super::replicate::{self, Onward};
use super::settle::Ended;
use super::spending::{self, Entry, Paid};
use super::{Phase, Shared};

/// Transfers at once to begin with, of which a store at hand is well used, and the most that are ever tried: beyond it a
/// t4g.nano's two cores are busy.
const START: usize = 32;
const MOST: usize = 128;
/// How long one look of the pace controller takes in.
const WINDOW: Duration = Duration::from_millis(500);
/// Lanes of large objects that are claimed and wait for others of their kind, so that small ones behind them are found.
const LARGE_AHEAD: usize = 256;
/// The longest sleep without a look at the ledger: deferred jobs and probes come due without a sound.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// How long what has ended waits for others on its way to the ledger, while there is other work under way: a trip for each
/// object would cost as much as a request for it. Within one lane nothing waits, as a key's next change builds on the one
/// before.
const COMPANY: Duration = Duration::from_millis(50);

/// What a lane leaves: its last job's end, where that is still to be settled.
type Left = Result<Option<Ended>, Fault>;

/// Runs lanes until the phase ends. Returns an error only when the ledger can no longer be trusted.
pub(super) async fn dispatch<W: World>(shared: Arc<Shared<W>>) -> Result<(), Fault> {
    let mut lanes: JoinSet<Left> = JoinSet::new();
    let mut pace = Measured::new(&shared);
    let mut phase = shared.phase.clone();
    let mut ready = Ready::default();
    let mut ended = Ends::default();
    // Whether a claim may bring something.
    let mut ask = true;
    loop {
        match shared.phase() {
            Phase::Run => {}
            Phase::Drain => break,
            Phase::Halt => return Ok(()),
        }
        while let Some(joined) = lanes.try_join_next() {
            ask |= ended.take_in(finished(joined)?);
        }
        let limit = pace.look(&shared, &ready, lanes.len());
        let free = limit.saturating_sub(lanes.len());
        let paused = shared.is_paused();
        if paused {
            ready.clear();
        }
        let (begins, has_room) = (ready.begins(limit, free), ready.large.len() < LARGE_AHEAD);
        if ask && !paused && has_room && free > begins {
            // As many again ahead: a claim is a trip to the ledger's thread, and one for each object would cost as much
            // as the object's own settlement.
            let most = free - begins + limit;
            // What ends gives its key back only now, and a claim may stop early: as long as there is any, ask on.
            let settled = !ended.list.is_empty();
            let (claimed, ()) = tokio::try_join!(claim(&shared, most), shared.settle(ended.take()))?;
            ask = settled || !claimed.is_empty();
            ready.extend(claimed);
        } else if lanes.is_empty() || ended.overdue() {
            ask |= !ended.list.is_empty();
            shared.settle(ended.take()).await?;
        }
        while lanes.len() < limit
            && let Some((lane, seat)) = ready.next(limit)
        {
            // Boxed, as the runtime moves a task about when it is made and when it ends: ten times 12 KB for each object.
            lanes.spawn(Box::pin(run_lane(Arc::clone(&shared), lane, seat)));
        }
        let full = lanes.len() >= limit || ready.large.len() >= LARGE_AHEAD;
        if full || paused || !ask {
            let wait = if full || paused { LONGEST_SLEEP } else { until_due(&shared)? };
            tokio::select! {
                joined = lanes.join_next(), if !lanes.is_empty() => if let Some(joined) = joined {
                    ask |= ended.take_in(finished(joined)?);
                },
                () = shared.work.notified() => ask = true,
                () = tokio::time::sleep(ended.patience(wait)) => ask |= ended.list.is_empty(),
                _ = phase.changed() => {}
            }
        }
    }
    // What was only claimed is given back.
    drop(ready);
    let mut halt = shared.phase.clone();
    tokio::select! {
        ended = finish(&shared, &mut lanes, ended) => ended,
        _ = halt.wait_for(|phase| *phase == Phase::Halt) => Ok(()),
    }
}

/// Lanes that are claimed and not begun. Large objects never take more than three quarters of the seats, as they never take
/// more of the memory: so small ones do not wait behind them, however many there are.
#[derive(Default)]
struct Ready {
    small: VecDeque<Lane>,
    large: VecDeque<Lane>,
    /// Held by everyone who works on a large object.
    seats: Arc<()>,
}

/// Held while a large object is worked on.
type Seat = Option<Arc<()>>;

impl Ready {
    fn extend(&mut self, lanes: Vec<Lane>) {
        for lane in lanes {
            let is_large = lane.waiting().any(|job| job.size.is_some_and(|size| size >= WORTH_COPYING));
            if is_large { self.large.push_back(lane) } else { self.small.push_back(lane) }
        }
    }

    fn clear(&mut self) {
        self.small.clear();
        self.large.clear();
    }

    /// Seats that are left for large objects.
    fn left_for_large(&self, limit: usize) -> usize {
        let most = (limit - limit / 4).max(1).min(limit.saturating_sub(1).max(1));
        most.saturating_sub(Arc::strong_count(&self.seats) - 1)
    }

    /// How many of them may begin where so many seats are free.
    fn begins(&self, limit: usize, free: usize) -> usize {
        (self.small.len() + self.large.len().min(self.left_for_large(limit))).min(free)
    }

    /// The next that may begin.
    fn next(&mut self, limit: usize) -> Option<(Lane, Seat)> {
        if self.left_for_large(limit) > 0
            && let Some(lane) = self.large.pop_front()
        {
            return Some((lane, Some(Arc::clone(&self.seats))));
        }
        Some((self.small.pop_front()?, None))
    }

    /// Whether more seats could have helped.
    fn is_short_of_seats(&self, limit: usize, busy: usize) -> bool {
        busy >= limit || (!self.large.is_empty() && self.left_for_large(limit) == 0)
    }
}

/// What has ended and waits for company.
#[derive(Default)]
struct Ends {
    list: Vec<Ended>,
    /// When the first of them has waited long enough.
    due: Option<Instant>,
}

impl Ends {
    /// Takes in what a lane has left; says whether its key is free already, so that more of it may be claimed.
    fn take_in(&mut self, left: Option<Ended>) -> bool {
        let Some(ended) = left else { return true };
        self.list.push(ended);
        self.due.get_or_insert_with(|| Instant::now() + COMPANY);
        false
    }

    fn take(&mut self) -> Vec<Ended> {
        self.due = None;
        std::mem::take(&mut self.list)
    }

    fn overdue(&self) -> bool {
        self.due.is_some_and(|due| due <= Instant::now())
    }

    /// How long may be waited: `wait`, or less where something is due before.
    fn patience(&self, wait: Duration) -> Duration {
        self.due.map_or(wait, |due| due.saturating_duration_since(Instant::now()).min(wait))
    }
}

/// Claims while no batch of messages is in hand: see `intake::Order`.
async fn claim<W: World>(shared: &Shared<W>, most: usize) -> Result<Vec<Lane>, Fault> {
    let _nothing_in_hand = shared.intake.in_hand.write().await;
    shared.ledger.claim(shared.now(), most).await
}

async fn finish<W: World>(shared: &Shared<W>, lanes: &mut JoinSet<Left>, mut ended: Ends) -> Result<(), Fault> {
    shared.settle(ended.take()).await?;
    while let Some(joined) = lanes.join_next().await {
        shared.settle(finished(joined)?.into_iter().collect()).await?;
    }
    Ok(())
}

/// A lane that panicked has dropped its claims: they are still to do. It is told and does not stop the others.
fn finished(joined: Result<Left, tokio::task::JoinError>) -> Left {
    joined.unwrap_or_else(|error| {
        tracing::error!(%error, "a job broke off; it stays to be done");
        Ok(None)
    })
}

async fn run_lane<W: World>(shared: Arc<Shared<W>>, mut lane: Lane, _seat: Seat) -> Left {
    let mut last = None;
    while shared.may_begin() {
        let Some(claim) = lane.next() else { break };
        // The next change of a key builds on what is remembered of the one before.
        shared.settle(last.take().into_iter().collect()).await?;
        let paid = match spending::enter(&shared, &claim) {
            Entry::Uncounted => None,
            Entry::Paid(paid) => Some(paid),
            Entry::Refused => {
                spending::put_off(&shared, claim).await?;
                shared.pulse.finished();
                continue;
            }
        };
        let meter = paid.as_ref().map(Paid::meter);
        let worked = meter::under(meter, replicate::work(&shared, &lane, claim)).await;
        if let Some(paid) = paid {
            paid.done();
        }
        match worked {
            Ok(onward) => {
                shared.pulse.finished();
                match onward {
                    Onward::Ended(ended) => last = Some(*ended),
                    Onward::Free => {}
                    Onward::HeldUp => break,
                }
            }
            Err(fault) if fault.kind == FaultKind::Ledger => return Err(fault),
            Err(fault) => tracing::error!(%fault, "a job could not be written down; it stays to be done"),
        }
    }
    Ok(last)
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
    since: Instant,
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
        let since = Instant::now();
        let Progress { finished, bytes, throttled } = shared.pulse.progress();
        Self { concurrency, pace, limit, since, finished, bytes, throttled, saturated: false }
    }

    fn look<W: World>(&mut self, shared: &Shared<W>, ready: &Ready, busy: usize) -> usize {
        if shared.governing.concurrency() != self.concurrency {
            *self = Self::new(shared);
        }
        self.saturated |= ready.is_short_of_seats(self.limit, busy);
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
        self.since = Instant::now();
        self.saturated = false;
        self.limit = pace.observe(window);
        self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tests::world::{Small, Store};
    use crate::engine::tests::{Bench, job, rule, soon, until};
    use crate::ledger::Admission;
    use crate::model::fault::Side;
    use crate::model::job::{Job, Origin};
    use std::num::NonZeroU32;

    /// Large objects that never end, more than there are seats, stand before small ones in the ledger: those get through.
    #[tokio::test]
    async fn small_objects_do_not_wait_behind_large_ones() {
        const LARGE: usize = MOST;
        for concurrency in [Concurrency::Auto, Concurrency::Fixed(NonZeroU32::new(2).unwrap())] {
            let mut bench = Bench::new(vec![rule("r", "t")]);
            bench.settings.limits.concurrency = concurrency;
            let small = (0..100).map(|number| job(&format!("small/{number}"), Origin::Event));
            let large = (0..LARGE)
                .map(|number| Job { size: Some(WORTH_COPYING), ..job(&format!("large/{number}"), Origin::Event) });
            let jobs = large.chain(small).collect();
            bench.ledger.admit(Admission { jobs, ..Admission::default() }).await.unwrap();
            let world = Small::new(Store::default());
            world.source.tell_no_heads();
            let pending = || bench.ledger.totals().pending.operations;
            let watching = async {
                until(|| pending() == LARGE as u64).await;
                let begun = world.source.looks();
                assert!((1..LARGE).contains(&begun), "{begun} of the large ones are under way");
                bench.phase.send_replace(Phase::Halt);
            };
            let engine = bench.engine(&world);
            let (ended, ()) = soon(async { tokio::join!(engine.run(), watching) }).await;
            assert_eq!((ended, pending()), (Ok(()), LARGE as u64));
        }
    }

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
        let grown = pace.look(&engine.shared, &Ready::default(), begun);
        assert!(grown > begun, "it grows");
        engine.shared.pulse.fault(&slow());
        tokio::time::advance(WINDOW).await;
        assert!(pace.look(&engine.shared, &Ready::default(), begun) < grown, "and hears of what comes");
    }
}
