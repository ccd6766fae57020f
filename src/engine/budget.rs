//! Bounds: memory in flight, bytes per second, requests per second. A permit is taken before the GET and travels with
//! the bytes until their PUT is answered; order is always memory first, then requests, then bandwidth.

use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;
use std::time::Duration;

use governor::clock::Clock as RateClock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit, watch};
use tokio::time::Instant;

pub use crate::model::limits::Concurrency;

/// The bounds, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of objects in memory at once.
    pub memory: u64,
    /// Transfers at once.
    pub concurrency: Concurrency,
    /// Bytes per second read from the source; `None` for no limit.
    pub bandwidth: Option<u64>,
    /// Requests per second to S3; `None` for no limit.
    pub requests_per_second: Option<u32>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory: 48 << 20, concurrency: Concurrency::Auto, bandwidth: None, requests_per_second: None }
    }
}

/// What one piped stream holds at most: hyper's read buffer (about 400 KiB) and the pieces between the two sockets.
pub const PIPE: u64 = 512 << 10;

const KIB: u64 = 1 << 10;
/// Parts that move through this machine at once, beyond one of each object: over a way of 80 ms each begins slowly, so one
/// object alone needs many; shared by several, they keep within 40 MiB of resident memory.
const STREAMED: usize = 10;
/// The same of parts that the store copies: they cost a connection that is silent, and no memory.
const COPIED: usize = 48;

/// Who moves the bytes of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mover {
    /// The worker: GET, then `UploadPart`.
    Worker,
    /// The store: `UploadPartCopy`.
    Store,
}

/// Bytes of memory that are spoken for. Dropping it gives them back.
#[derive(Debug)]
pub struct Memory {
    _permit: OwnedSemaphorePermit,
}

/// governor's clock over tokio's time: its own waits with a timer that ignores paused time, so we only ask it
/// (`check_n`) and wait ourselves.
#[derive(Clone, Copy, Debug)]
struct TokioClock {
    start: Instant,
}

impl RateClock for TokioClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.start.elapsed()
    }
}

#[derive(Debug)]
struct Rate {
    limiter: RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Duration>>,
    burst: u32,
    clock: TokioClock,
}

impl Rate {
    fn per_second(cells: u32) -> Self {
        let cells = NonZeroU32::new(cells).unwrap_or(NonZeroU32::MIN);
        let clock = TokioClock { start: Instant::now() };
        Self { limiter: RateLimiter::direct_with_clock(Quota::per_second(cells), clock), burst: cells.get(), clock }
    }

    /// Takes what is left to be taken; dropped, it has taken some of it.
    async fn take(&self, left: &mut u32) {
        while *left > 0 {
            let Some(now) = NonZeroU32::new((*left).min(self.burst)) else { return };
            match self.limiter.check_n(now) {
                Ok(Ok(())) => *left -= now.get(),
                Ok(Err(not_yet)) => tokio::time::sleep(not_yet.wait_time_from(self.clock.now())).await,
                // More than the burst in one request: cannot be, as `now` is cut to it.
                Err(_) => return,
            }
        }
    }
}

/// A rate of so many cells; the old one where it is the same, with what was spent of it.
fn follow(old: Option<Arc<Rate>>, cells: Option<u32>) -> Option<Arc<Rate>> {
    let cells = cells?.max(1);
    Some(old.filter(|rate| rate.burst == cells).unwrap_or_else(|| Arc::new(Rate::per_second(cells))))
}

/// The budget that all transfers share.
#[derive(Debug)]
pub struct Budget {
    memory: Arc<Semaphore>,
    memory_kib: u32,
    heavy: Arc<Semaphore>,
    streamed: Semaphore,
    copied: Semaphore,
    rates: watch::Sender<Rates>,
}

/// The rates in force; replaced when limits change.
#[derive(Clone, Debug, Default)]
struct Rates {
    bandwidth: Option<Arc<Rate>>,
    requests: Option<Arc<Rate>>,
}

impl Budget {
    /// Sets the bounds up.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        let memory_kib = kib(limits.memory).max(1);
        Self {
            memory: Arc::new(Semaphore::new(memory_kib as usize)),
            memory_kib,
            heavy: Arc::new(Semaphore::new(memory_kib as usize * 3 / 4)),
            streamed: Semaphore::new(STREAMED),
            copied: Semaphore::new(COPIED),
            rates: watch::channel(Rates {
                bandwidth: follow(None, limits.bandwidth.map(kib)),
                requests: follow(None, limits.requests_per_second),
            })
            .0,
        }
    }

    /// Puts other rates in force, for those who wait already too.
    pub(super) fn set(&self, bandwidth: Option<NonZeroU64>, requests: Option<NonZeroU32>) {
        self.rates.send_modify(|rates| {
            rates.bandwidth = follow(rates.bandwidth.take(), bandwidth.map(|bytes| kib(bytes.get())));
            rates.requests = follow(rates.requests.take(), requests.map(NonZeroU32::get));
        });
    }

    /// Spends cells of one rate, waiting as long as it takes, or until there is no such rate any more.
    async fn spend(&self, mut cells: u32, pick: fn(&Rates) -> Option<&Arc<Rate>>) {
        if pick(&self.rates.borrow()).is_none() {
            return;
        }
        let mut rates = self.rates.subscribe();
        while cells > 0 {
            let Some(rate) = pick(&rates.borrow_and_update()).cloned() else { return };
            tokio::select! {
                () = rate.take(&mut cells) => return,
                _ = rates.changed() => {}
            }
        }
    }

    /// Waits for memory for `bytes` of a small object; more than all there is counts as all there is.
    pub async fn memory(&self, bytes: u64) -> Option<Memory> {
        take(&self.memory, kib(bytes).min(self.memory_kib)).await
    }

    /// Waits for memory for a piece of a large object: large ones together never take more than three quarters, so
    /// that small ones always get through.
    pub async fn memory_for_large(&self, bytes: u64) -> Option<(Memory, Memory)> {
        let cells = kib(bytes).min(self.memory_kib * 3 / 4);
        let heavy = take(&self.heavy, cells).await?;
        Some((heavy, take(&self.memory, cells).await?))
    }

    /// Waits for the turn of a part: the one that its object has for itself, or one that all objects share. So one object
    /// alone goes wide, and none waits for another.
    pub(super) async fn turn<'s>(&'s self, mover: Mover, own: &'s Semaphore) -> Option<SemaphorePermit<'s>> {
        let shared = match mover {
            Mover::Worker => &self.streamed,
            Mover::Store => &self.copied,
        };
        tokio::select! {
            biased;
            turn = own.acquire() => turn.ok(),
            turn = shared.acquire() => turn.ok(),
        }
    }

    /// Bytes of memory that may ever be taken by one large piece.
    #[must_use]
    pub fn largest_piece(&self) -> u64 {
        u64::from(self.memory_kib) * KIB * 3 / 8
    }

    /// Bytes spoken for now: zero at rest.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        (u64::from(self.memory_kib)).saturating_sub(self.memory.available_permits() as u64) * KIB
    }

    /// Waits until one more request may be sent.
    pub async fn request(&self) {
        self.spend(1, |rates| rates.requests.as_ref()).await;
    }

    /// Waits until `bytes` more may be read.
    pub async fn bandwidth(&self, bytes: usize) {
        self.spend(kib(bytes as u64), |rates| rates.bandwidth.as_ref()).await;
    }
}

/// A closed semaphore would mean a stopped engine; nobody closes these.
async fn take(semaphore: &Arc<Semaphore>, cells: u32) -> Option<Memory> {
    let permit = Arc::clone(semaphore).acquire_many_owned(cells.max(1)).await.ok()?;
    Some(Memory { _permit: permit })
}

fn kib(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(KIB)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bandwidth_holds_over_paused_time() {
        let budget = Budget::new(&Limits { bandwidth: Some(1 << 20), ..Limits::default() });
        let start = Instant::now();
        for _ in 0..50 {
            budget.bandwidth(100 << 10).await;
        }
        let seconds = start.elapsed().as_secs_f64();
        assert!((3.8..=5.0).contains(&seconds), "5,000 KiB at 1,024 KiB/s with one second's burst took {seconds} s");
    }

    #[tokio::test(start_paused = true)]
    async fn a_piece_larger_than_a_second_of_bandwidth_gets_through() {
        let budget = Budget::new(&Limits { bandwidth: Some(10 << 10), ..Limits::default() });
        let start = Instant::now();
        budget.bandwidth(100 << 10).await;
        assert!(start.elapsed() >= Duration::from_secs(8));
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_that_is_lifted_frees_those_who_wait() {
        let budget = Budget::new(&Limits { bandwidth: Some(1 << 10), ..Limits::default() });
        let start = Instant::now();
        let lifted = async {
            tokio::time::sleep(Duration::from_secs(10)).await;
            budget.set(None, None);
        };
        tokio::join!(budget.bandwidth(1 << 20), lifted);
        assert_eq!(start.elapsed().as_secs(), 10, "1 MiB at 1 KiB/s would take 1,023 s");
        budget.set(NonZeroU64::new(1 << 20), NonZeroU32::new(1));
        budget.bandwidth(3 << 20).await;
        assert!((11..=13).contains(&start.elapsed().as_secs()), "a new limit holds: {:?}", start.elapsed());
        let same = start.elapsed();
        for _ in 0..5 {
            budget.request().await;
            budget.set(NonZeroU64::new(1 << 20), NonZeroU32::new(1));
        }
        assert!(start.elapsed() - same >= Duration::from_millis(3900), "told again, a limit is not begun anew");
    }

    /// One object alone has all turns, many share them, and each has one that no other can take.
    #[tokio::test(start_paused = true)]
    async fn parts_of_one_object_go_wide_and_of_many_share() {
        let budget = Budget::new(&Limits::default());
        let (first, second) = (Semaphore::new(1), Semaphore::new(1));
        for (mover, shared) in [(Mover::Worker, STREAMED), (Mover::Store, COPIED)] {
            let take = |own| tokio::time::timeout(Duration::from_secs(1), budget.turn(mover, own));
            let mut held = Vec::new();
            for _ in 0..=shared {
                held.push(take(&first).await.expect("a turn"));
            }
            assert!(take(&first).await.is_err(), "no more than these");
            let own = take(&second).await.expect("its own");
            assert!(take(&second).await.is_err(), "the others are taken");
            drop(held.pop());
            assert!(take(&second).await.is_ok(), "what is given back is anybody's");
            drop(own);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn large_pieces_leave_room_for_small_objects() {
        let budget = Budget::new(&Limits { memory: 16 << 20, ..Limits::default() });
        let held = budget.memory_for_large(u64::MAX).await;
        let second = tokio::time::timeout(Duration::from_secs(1), budget.memory_for_large(PIPE)).await;
        assert!(second.is_err(), "a second large piece waits");
        let small = tokio::time::timeout(Duration::from_secs(1), budget.memory(4 << 10)).await;
        assert!(small.is_ok(), "a small object does not");
        drop((held, small));
        assert_eq!(budget.in_flight(), 0);
    }
}
